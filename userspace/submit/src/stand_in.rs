//! What stands in for device and driver in this crate's tests: it executes descriptors on this process' memory at once, and is short of the
//! pages that this process' page table does not have.
//!
//! Owns: partial completions page by page, completion records that cannot be written, batches. Its operations are the reference's. Refuses:
//! everything that the tests do not ask for.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use dsascope_common::hw::completion::{DsaCompletion, status};
use dsascope_common::hw::descriptor::{BYTES, Descriptor, flags, opcode};
use zerocopy::{FromBytes, IntoBytes};

use crate::{Access, PAGE, operands, reference};

#[derive(Debug, Default)]
pub(crate) struct StandIn {
    /// Descriptors of each opcode that were executed, in order.
    pub(crate) executed: Mutex<Vec<u8>>,
    pub(crate) faults: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// It refuses everything, as a full shared WQ does.
    pub(crate) full: AtomicBool,
    /// It takes descriptors and does nothing.
    pub(crate) dead: AtomicBool,
    /// It writes a wrong byte.
    pub(crate) errs: AtomicBool,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Present,
    Absent,
    /// Not to be written by anybody.
    Closed,
}

impl StandIn {
    pub(crate) fn take(&self, d: &Descriptor) -> bool {
        if self.full.load(Ordering::Relaxed) {
            return false;
        }
        if !self.dead.load(Ordering::Relaxed) {
            self.executed.lock().unwrap().push(d.opcode());
            let (record, logged, failed) =
                if d.opcode() == opcode::BATCH { self.batch(d) } else { (self.one(d), false, false) };
            self.complete(d, record, logged, failed);
        }
        true
    }

    /// The batch's record, whether the driver is asked to write it, and whether a copy failed.
    fn batch(&self, d: &Descriptor) -> (DsaCompletion, bool, bool) {
        let (mut good, mut logged, mut noted) = (true, false, false);
        let ends = |status, completed, fault_addr| DsaCompletion {
            status,
            result: u8::from(status == status::BATCH_FAIL),
            bytes_completed: completed,
            fault_addr,
            ..DsaCompletion::default()
        };
        for index in 0..d.transfer_size {
            let at = d.source + u64::from(index) * BYTES as u64;
            if place(at) != Place::Present {
                return (ends(status::BATCH_PAGE_FAULT, index, at), logged, noted);
            }
            let element = Descriptor::read_from_bytes(&read(at, BYTES)).unwrap();
            if element.flags() & flags::FENCE != 0 && (!good || logged) {
                return (ends(status::BATCH_FAIL, index, 0), logged, noted);
            }
            let record = self.one(&element);
            good &= record.status == status::SUCCESS;
            let (was_logged, failed) = self.complete(&element, record, false, false);
            logged |= was_logged;
            noted |= failed;
        }
        let code = if good && !noted { status::SUCCESS } else { status::BATCH_FAIL };
        (ends(code, d.transfer_size, 0), logged, noted)
    }

    /// The record goes where the descriptor says; whether it took the driver, and whether that failed.
    fn complete(&self, d: &Descriptor, record: DsaCompletion, logged: bool, noted: bool) -> (bool, bool) {
        let at = d.completion_addr;
        let place = place(at);
        let logged = logged || place != Place::Present;
        let asked = d.flags() & flags::RCR != 0 || record.status != status::SUCCESS || noted;
        if !asked {
            self.faults.fetch_add(u64::from(logged), Ordering::Relaxed);
            return (logged, false);
        }
        self.faults.fetch_add(u64::from(logged), Ordering::Relaxed);
        if place == Place::Closed {
            self.failures.fetch_add(1, Ordering::Relaxed);
            return (true, true);
        }
        let bytes = record.as_bytes();
        write(at + 1, &bytes[1..]);
        write(at, &bytes[..1]);
        (logged, false)
    }

    /// As far as its pages are there.
    fn one(&self, d: &Descriptor) -> DsaCompletion {
        let all = operands(d).unwrap();
        let mut fault: Option<(u64, u64, Access)> = None;
        for operand in &all {
            let pages =
                operand.address / PAGE as u64..(operand.address + operand.bytes).div_ceil(PAGE as u64);
            let missing = pages.map(|page| page * PAGE as u64).find(|page| place(*page) != Place::Present);
            let Some(page) = missing else { continue };
            let done = page.saturating_sub(operand.address);
            if fault.is_none_or(|(before, ..)| done < before) {
                fault = Some((done, page.max(operand.address), operand.access));
            }
        }
        if let Some((done, fault_addr, access)) = fault {
            let so_far = match done {
                0 => [0; 2],
                _ => self.execute(&Descriptor { transfer_size: done as u32, ..*d }).operation_specific,
            };
            let write = if access == Access::Write { 0x80 } else { 0 };
            let status = status::PAGE_FAULT_NOBOF | write;
            return DsaCompletion {
                status,
                bytes_completed: done as u32,
                fault_addr,
                operation_specific: so_far,
                ..DsaCompletion::default()
            };
        }
        self.execute(d)
    }

    fn execute(&self, d: &Descriptor) -> DsaCompletion {
        let all = operands(d).unwrap();
        let from = all.iter().map(|o| o.address).min().unwrap_or(0);
        let to = all.iter().map(|o| o.address + o.bytes).max().unwrap_or(0);
        // Nothing but operands is touched, as that would bring pages.
        let mut memory = vec![0; (to - from) as usize];
        for operand in &all {
            let at = (operand.address - from) as usize;
            memory[at..at + operand.bytes as usize]
                .copy_from_slice(&read(operand.address, operand.bytes as usize));
        }
        let end = reference::execute(&mut memory, from, d);
        for operand in all.iter().filter(|operand| operand.access == Access::Write) {
            let at = (operand.address - from) as usize;
            let bytes = &mut memory[at..at + operand.bytes as usize];
            bytes[0] ^= u8::from(self.errs.load(Ordering::Relaxed));
            write(operand.address, bytes);
        }
        DsaCompletion {
            status: end.status,
            result: end.result,
            bytes_completed: end.completed,
            operation_specific: end.words,
            ..DsaCompletion::default()
        }
    }
}

/// By this process' page table, and by what is mapped.
fn place(address: u64) -> Place {
    let mut entry = [0; 8];
    let pagemap = File::open("/proc/self/pagemap").unwrap();
    pagemap.read_exact_at(&mut entry, 8 * (address / PAGE as u64)).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let writable = maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        (number(from)..number(to)).contains(&address) && rest.starts_with("rw")
    });
    match (writable, u64::from_le_bytes(entry) >> 63) {
        (false, _) => Place::Closed,
        (true, 1) => Place::Present,
        (true, _) => Place::Absent,
    }
}

fn read(address: u64, bytes: usize) -> Vec<u8> {
    // SAFETY: descriptors of the queue name its own memory alone, and what is not mapped was found out before.
    (0..bytes as u64).map(|at| unsafe { ((address + at) as *const u8).read_volatile() }).collect()
}

fn write(address: u64, bytes: &[u8]) {
    for (at, byte) in (address..).zip(bytes) {
        // SAFETY: as above.
        unsafe { (at as *mut u8).write_volatile(*byte) };
    }
}

//! The operations themselves, against memory: checks of a descriptor, then noop, memmove, memory fill, compare.
//!
//! Owns: what status, result, bytes completed and fault address an operation ends with (idxd-facts sections 1.10 and 6.2).
//! Not modelled: destination readback, cache control, steering tags and traffic classes are accepted without effect; page
//! requests (a block-on-fault descriptor ends with a partial completion like any other).

use dsascope_common::hw::completion::{STATUS_WRITE_FAULT, status};
use dsascope_common::hw::descriptor::{Descriptor, flags, opcode};
use dsascope_common::hw::regs::wqcfg;

use super::host::{Dma, DmaFault};
use super::model::{Kind, VECTORS};
use super::state::WQCFG_DWORDS;

const PAGE: u64 = 4096;

/// How an operation ended; the fields of a completion record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) status: u8,
    pub(super) result: u8,
    /// Bytes, or a batch's descriptors.
    pub(super) completed: u32,
    pub(super) fault_addr: u64,
    /// With status 0x11.
    pub(super) invalid_flags: u32,
}

impl Outcome {
    pub(super) const fn new(status: u8) -> Self {
        Self { status, result: 0, completed: 0, fault_addr: 0, invalid_flags: 0 }
    }

    pub(super) fn good(&self) -> bool {
        matches!(self.status, status::SUCCESS | status::SUCCESS_PRED)
    }

    fn faulted(fault: DmaFault, write: bool, completed: u64) -> Self {
        let write = if write { STATUS_WRITE_FAULT } else { 0 };
        Self {
            completed: completed as u32,
            fault_addr: fault.address,
            ..Self::new(status::PAGE_FAULT_NOBOF | write)
        }
    }

    /// A completion record, `kind.cr_bytes()` long.
    pub(super) fn record(&self, kind: Kind) -> Vec<u8> {
        let mut bytes = vec![self.status, self.result, 0, 0];
        bytes.extend_from_slice(&self.completed.to_le_bytes());
        bytes.extend_from_slice(&self.fault_addr.to_le_bytes());
        bytes.extend_from_slice(&self.invalid_flags.to_le_bytes());
        bytes.resize(kind.cr_bytes(), 0);
        bytes
    }
}

/// Who executes: a device of `kind` for `pasid` on a WQ configured so.
pub(super) struct Context<'a> {
    pub(super) kind: Kind,
    pub(super) dma: &'a dyn Dma,
    pub(super) pasid: Option<u32>,
    pub(super) config: &'a [u32; WQCFG_DWORDS],
    /// The descriptor is an element of a batch.
    pub(super) in_batch: bool,
}

impl Context<'_> {
    /// What refuses the descriptor before anything is done.
    pub(super) fn check(&self, d: &Descriptor) -> Result<(), Outcome> {
        let op = d.opcode();
        let masked = self.config[8 + usize::from(op >> 5)] >> (op & 31) & 1 == 0;
        if !self.kind.operations().contains(&op) || masked || self.in_batch && op == opcode::BATCH {
            return Err(Outcome::new(status::BAD_OPCODE));
        }
        let mut invalid = d.flags() & !allowed_flags(op);
        if d.flags() & flags::CRAV == 0 {
            invalid |= d.flags() & flags::RCR;
        }
        if self.config[wqcfg::MODE] & wqcfg::MODE_BLOCK_ON_FAULT == 0 {
            invalid |= d.flags() & flags::BLOCK_ON_FAULT;
        }
        if invalid != 0 {
            return Err(Outcome { invalid_flags: invalid, ..Outcome::new(status::INVALID_FLAGS) });
        }
        if d.flags() & flags::CRAV != 0 && !d.completion_addr.is_multiple_of(self.kind.cr_bytes() as u64) {
            return Err(Outcome::new(status::CRA_ALIGN));
        }
        if d.flags() & flags::RCI != 0 && d.interrupt_handle >= VECTORS {
            return Err(Outcome::new(status::INT_HANDLE_INVAL));
        }
        let limits = self.config[wqcfg::LIMITS];
        match op {
            opcode::NOOP | opcode::DRAIN => {}
            opcode::BATCH => {
                let most = 1u64 << (limits >> wqcfg::LIMITS_BATCH_SHIFT & 0xf);
                if !(2..=most).contains(&u64::from(d.transfer_size)) {
                    return Err(Outcome::new(status::DESC_CNT_ERANGE));
                }
                if !d.source.is_multiple_of(64) {
                    return Err(Outcome::new(status::DESCLIST_ALIGN));
                }
            }
            _ => {
                let most = 1u64 << (limits & 0x1f);
                if !(1..=most).contains(&u64::from(d.transfer_size)) {
                    return Err(Outcome::new(status::XFER_ERANGE));
                }
            }
        }
        Ok(())
    }

    /// Execute anything but a batch; the descriptor has passed [`Context::check`].
    pub(super) fn run(&self, d: &Descriptor) -> Outcome {
        match d.opcode() {
            opcode::NOOP => Outcome::new(status::SUCCESS),
            opcode::MEMMOVE => self.memmove(d),
            opcode::MEMFILL => self.memfill(d),
            opcode::COMPARE => self.compare(d),
            _ => Outcome::new(status::BAD_OPCODE),
        }
    }

    /// Copies from the end when the destination begins inside the source: result 1 says so in a partial completion.
    fn memmove(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let backward = d.destination.wrapping_sub(d.source) < size && d.destination != d.source;
        let mut buffer = [0; PAGE as usize];
        let mut done = 0;
        while done < size {
            let left = size - done;
            let (from, to, n);
            if backward {
                let (from_end, to_end) = (d.source.wrapping_add(left), d.destination.wrapping_add(left));
                n = left.min(before(from_end)).min(before(to_end));
                (from, to) = (from_end.wrapping_sub(n), to_end.wrapping_sub(n));
            } else {
                (from, to) = (d.source.wrapping_add(done), d.destination.wrapping_add(done));
                n = left.min(after(from)).min(after(to));
            }
            let chunk = &mut buffer[..n as usize];
            let fault = match self.dma.read(self.pasid, from, chunk) {
                Err(fault) => Some((fault, false)),
                Ok(()) => self.dma.write(self.pasid, to, chunk).err().map(|fault| (fault, true)),
            };
            if let Some((fault, write)) = fault {
                return Outcome { result: u8::from(backward), ..Outcome::faulted(fault, write, done) };
            }
            done += n;
        }
        Outcome { completed: d.transfer_size, ..Outcome::new(status::SUCCESS) }
    }

    fn memfill(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        // Room for a whole page from any phase of the eight-byte pattern.
        let pattern: Vec<u8> = d.source.to_le_bytes().into_iter().cycle().take(PAGE as usize + 8).collect();
        let mut done = 0;
        while done < size {
            let to = d.destination.wrapping_add(done);
            let n = (size - done).min(after(to));
            let phase = (done % 8) as usize;
            if let Err(fault) = self.dma.write(self.pasid, to, &pattern[phase..phase + n as usize]) {
                return Outcome::faulted(fault, true, done);
            }
            done += n;
        }
        Outcome { completed: d.transfer_size, ..Outcome::new(status::SUCCESS) }
    }

    /// Result 1 and the offset of the first difference, or result 0.
    fn compare(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let (mut one, mut two) = ([0; PAGE as usize], [0; PAGE as usize]);
        let (mut done, mut differs) = (0, false);
        while done < size && !differs {
            let (a, b) = (d.source.wrapping_add(done), d.destination.wrapping_add(done));
            let n = (size - done).min(after(a)).min(after(b)) as usize;
            let read = self.dma.read(self.pasid, a, &mut one[..n]);
            if let Err(fault) = read.and_then(|()| self.dma.read(self.pasid, b, &mut two[..n])) {
                return Outcome::faulted(fault, false, done);
            }
            let same = one[..n].iter().zip(&two[..n]).take_while(|(a, b)| a == b).count();
            differs = same < n;
            done += same as u64;
        }
        let result = u8::from(differs);
        let expected = d.operation_specific[0] as u8;
        let checked = d.flags() & flags::CHECK_RESULT != 0;
        let status = if checked && result != expected { status::SUCCESS_PRED } else { status::SUCCESS };
        Outcome { result, completed: done as u32, ..Outcome::new(status) }
    }
}

/// Bytes from `address` to the end of its page.
fn after(address: u64) -> u64 {
    PAGE - address % PAGE
}

/// Bytes of the page that ends at or holds the byte before `address`.
fn before(address: u64) -> u64 {
    address.wrapping_sub(1) % PAGE + 1
}

fn allowed_flags(op: u8) -> u32 {
    use flags::{
        ADDR1_TC, ADDR2_TC, BLOCK_ON_FAULT, CACHE_CONTROL, CHECK_RESULT, CR_TC, CRAV, CRSTS,
        DESTINATION_READBACK, DESTINATION_STEERING, FENCE, RCI, RCR, STRICT_ORDER,
    };
    const ALL: u32 = FENCE | BLOCK_ON_FAULT | CRAV | RCR | RCI | CRSTS | CR_TC;
    const DESTINATION: u32 = CACHE_CONTROL | STRICT_ORDER | DESTINATION_READBACK | DESTINATION_STEERING;
    match op {
        opcode::MEMMOVE | opcode::MEMFILL => ALL | ADDR1_TC | ADDR2_TC | DESTINATION,
        opcode::COMPARE => ALL | ADDR1_TC | ADDR2_TC | CHECK_RESULT,
        opcode::BATCH => ALL & !FENCE | ADDR1_TC,
        _ => ALL,
    }
}

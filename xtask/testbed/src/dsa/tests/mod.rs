//! A device on a bench: memory with a tiny page table, interrupts that are counted, truth kept in memory. Engines run only when
//! a test steps them.
//!
//! | behaviour | tests |
//! |---|---|
//! | engines and groups, priorities | `execution::priorities_share_an_engine`, `event_log::engines_of_a_started_device_serve_all_wqs` |
//! | an engine that waits is occupied | `paging::an_engine_that_waits_is_occupied` |
//! | block on fault, page requests | `paging`, `crate::vtd::tests::page_requests` |
//! | batch | `batch` |
//! | drain | `drain`, `commands::drain_is_active_until_earlier_descriptors_are_done` |
//! | event log | `event_log` |
//! | SWERROR | `execution::errors_go_to_swerror_when_the_log_is_off`, `batch::without_an_event_log_swerror_tells_and_the_record_is_written` |
//! | halt and reset, disabling under load, faults on demand | `halt` |
//! | submission | `execution::full_disabled_and_torn_submissions_are_dropped`, `submission` |
//! | devices of both kinds | `mixed` |
//! | whatever a guest does | `fuzz`, `stress` |

mod batch;
mod commands;
mod drain;
mod event_log;
mod execution;
mod fuzz;
mod halt;
mod mixed;
mod paging;
mod resume;
mod stress;
mod submission;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use dsascope_common::hw::descriptor::{Descriptor, flags};
use dsascope_common::hw::regs::{self, command, gencfg, genctrl, grpcfg, portal, wqcfg};
use zerocopy::IntoBytes;

use super::host::{Dma, DmaFault, Host, Interrupts, PageRequests};
use super::regs::{GRPCFG, WQCFG};
use super::*;
use crate::truth::{Line, Truth};
use crate::vtd::{PageRequest, Posted, ResponseCode, WalkError, WalkFault};

pub(super) const PAGE: u64 = 4096;
pub(super) const CR: u32 = flags::CRAV | flags::RCR;
/// Event log of tests, untagged.
pub(super) const LOG: u64 = 0x100_0000;
pub(super) const PASID: u32 = 5;

/// Bytes, and whether the device may write them.
type Page = (Vec<u8>, bool);

/// Pages by PASID and page number.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pages: Mutex<BTreeMap<(Option<u32>, u64), Page>>,
}

impl Memory {
    pub(super) fn map(&self, pasid: Option<u32>, address: u64, writable: bool) {
        let mut pages = self.pages.lock().unwrap();
        pages.entry((pasid, address / PAGE)).or_insert_with(|| (vec![0; PAGE as usize], true)).1 = writable;
    }

    pub(super) fn unmap(&self, pasid: Option<u32>, address: u64) {
        self.pages.lock().unwrap().remove(&(pasid, address / PAGE));
    }

    /// As software: permissions do not matter, pages appear.
    pub(super) fn poke(&self, pasid: Option<u32>, address: u64, bytes: &[u8]) {
        for (at, byte) in (address..).zip(bytes) {
            let mut pages = self.pages.lock().unwrap();
            let page = pages.entry((pasid, at / PAGE)).or_insert_with(|| (vec![0; PAGE as usize], true));
            page.0[(at % PAGE) as usize] = *byte;
        }
    }

    pub(super) fn peek(&self, pasid: Option<u32>, address: u64, bytes: usize) -> Vec<u8> {
        let pages = self.pages.lock().unwrap();
        let byte = |at: u64| pages.get(&(pasid, at / PAGE)).map_or(0, |p| p.0[(at % PAGE) as usize]);
        (address..).take(bytes).map(byte).collect()
    }

    fn access(
        &self,
        pasid: Option<u32>,
        address: u64,
        bytes: usize,
        write: bool,
        then: impl FnOnce(&mut [u8]),
    ) -> Result<(), DmaFault> {
        let at = (address % PAGE) as usize;
        assert!(at + bytes <= PAGE as usize, "an access of the device crosses a page");
        let fault = |fault| DmaFault { address, reason: WalkError::Fault { address, fault } };
        let mut pages = self.pages.lock().unwrap();
        let page = pages.get_mut(&(pasid, address / PAGE)).ok_or(fault(WalkFault::NotPresent(1)))?;
        if write && !page.1 {
            return Err(fault(WalkFault::NotWritable(1)));
        }
        then(&mut page.0[at..at + bytes]);
        Ok(())
    }
}

impl Dma for Memory {
    fn read(&self, pasid: Option<u32>, address: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.access(pasid, address, into.len(), false, |page| into.copy_from_slice(page))
    }
    fn write(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.access(pasid, address, from.len(), true, |page| page.copy_from_slice(from))
    }
    fn write_record(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.write(pasid, address, from)
    }
}

#[derive(Debug, Default)]
pub(super) struct Vectors(Mutex<Vec<u16>>);

impl Interrupts for Vectors {
    fn raise(&self, vector: u16) -> bool {
        self.0.lock().unwrap().push(vector);
        true
    }
}

/// How page requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The page appears, writable.
    Serve,
    Reply(ResponseCode),
    /// Later, by the test.
    Hold,
    Refuse,
}

/// The guest's page request handler: answers as told, and serves when told nothing.
#[derive(Debug, Default)]
pub(super) struct Pager {
    pub(super) answers: Mutex<VecDeque<Answer>>,
    pub(super) seen: Mutex<Vec<PageRequest>>,
    /// Hold what no answer was told for, instead of serving it.
    pub(super) hold: AtomicBool,
    memory: Arc<Memory>,
    device: Mutex<Weak<DsaDevice>>,
}

impl PageRequests for Pager {
    fn request(&self, request: PageRequest) -> Posted {
        self.seen.lock().unwrap().push(request);
        let answer = self.answers.lock().unwrap().pop_front();
        let hold = self.hold.load(Ordering::Relaxed);
        let answer = answer.unwrap_or(if hold { Answer::Hold } else { Answer::Serve });
        let code = match answer {
            Answer::Serve => {
                self.memory.map(Some(request.pasid), request.address, true);
                ResponseCode::Success
            }
            Answer::Reply(code) => code,
            Answer::Hold => return Posted::Queued,
            Answer::Refuse => return Posted::Refused,
        };
        let device = self.device.lock().unwrap().upgrade().unwrap();
        device.page_response(Some(request.pasid), request.group, code);
        Posted::Queued
    }
}

pub(super) struct Bench {
    pub device: Arc<DsaDevice>,
    pub memory: Arc<Memory>,
    pub pager: Arc<Pager>,
    vectors: Arc<Vectors>,
    pub truth_log: Arc<Truth>,
}

impl Bench {
    /// After power-on, with bus mastering, PASIDs and page requests on.
    pub(super) fn new(kind: Kind) -> Self {
        Self::with(DeviceConfig { kind, ..DeviceConfig::default() })
    }

    pub(super) fn with(config: DeviceConfig) -> Self {
        Self::on("dsa0", config, Arc::default(), Arc::new(Truth::in_memory()))
    }

    /// A device in a machine that may have others.
    pub(super) fn on(name: &str, config: DeviceConfig, memory: Arc<Memory>, truth: Arc<Truth>) -> Self {
        let vectors = Arc::<Vectors>::default();
        let pager = Arc::new(Pager { memory: Arc::clone(&memory), ..Pager::default() });
        let host = Host {
            dma: Arc::<Memory>::clone(&memory),
            pages: Arc::<Pager>::clone(&pager),
            interrupts: Arc::<Vectors>::clone(&vectors),
            truth: Arc::clone(&truth),
        };
        let device = Arc::new(DsaDevice::new(name, config, host));
        device.write_config(4, &6u16.to_le_bytes());
        device.write_config(0x116, &[1, 0]);
        device.write_config(0x124, &[1, 0]);
        *pager.device.lock().unwrap() = Arc::downgrade(&device);
        Self { device, memory, pager, vectors, truth_log: truth }
    }

    /// Group 0 with WQ 0 (dedicated, 16 entries, [`PASID`]), WQ 1 (no entries) and all engines, log of `size` entries, device and WQ enabled.
    pub(super) fn running(kind: Kind, size: u64) -> Self {
        let bench = Self::new(kind);
        bench.start(size);
        bench
    }

    /// What [`Bench::running`] does after power-on.
    pub(super) fn start(&self, size: u64) {
        self.event_log(size);
        self.group(0, 3, 0xf);
        self.wq(0, 16, dedicated());
        assert_eq!(self.command(command::ENABLE_DEVICE, 0), 0);
        assert_eq!(self.command(command::ENABLE_WQ, 0), 0);
    }

    pub(super) fn event_log(&self, size: u64) {
        for page in 0..=size * 128 / PAGE {
            self.memory.map(None, LOG + page * PAGE, true);
        }
        self.write64(regs::EVLCFG, LOG);
        self.write64(regs::EVLCFG_SIZE, size);
        self.write32(
            regs::GENCTRL,
            genctrl::EVENT_LOG_INTERRUPT | genctrl::SOFTWARE_ERROR_INTERRUPT | genctrl::HALT_INTERRUPT,
        );
        self.write32(regs::GENCFG, gencfg::EVENT_LOG_ENABLE);
    }

    pub(super) fn group(&self, group: u64, wqs: u64, engines: u64) {
        let base = GRPCFG + group * grpcfg::BYTES;
        self.write64(base + grpcfg::WQS, wqs);
        self.write64(base + grpcfg::ENGINES, engines);
    }

    /// Limits: 64 KiB and 32 descriptors; all operations.
    pub(super) fn wq(&self, wq: u64, size: u32, mode: u32) {
        self.wq_dword(wq, wqcfg::SIZE, size);
        self.wq_dword(wq, wqcfg::THRESHOLD, size / 2);
        self.wq_dword(wq, wqcfg::MODE, mode);
        self.wq_dword(wq, wqcfg::LIMITS, 16 | 5 << wqcfg::LIMITS_BATCH_SHIFT);
        (8..16).for_each(|dword| self.wq_dword(wq, dword, u32::MAX));
    }

    pub(super) fn wq_dword(&self, wq: u64, dword: usize, value: u32) {
        self.write32(WQCFG + wq * 64 + dword as u64 * 4, value);
    }

    pub(super) fn wq_state(&self, wq: u64) -> u32 {
        self.read32(WQCFG + wq * 64 + 24) >> wqcfg::STATE_SHIFT
    }

    pub(super) fn occupancy(&self, wq: u64) -> u32 {
        self.read32(WQCFG + wq * 64 + 24) & 0xffff
    }

    pub(super) fn command(&self, code: u32, operand: u32) -> u32 {
        self.write32(regs::CMD, code << command::CODE_SHIFT | operand);
        self.read32(regs::CMDSTATUS)
    }

    pub(super) fn submit(&self, wq: u64, descriptor: Descriptor) {
        let at = wq * portal::WQ_SPAN + portal::LIMITED_MSIX;
        for (i, word) in descriptor.as_bytes().chunks(8).enumerate() {
            self.device.write_portal(at + i as u64 * 8, word);
        }
    }

    /// Engine 0 does all there is.
    pub(super) fn run(&self) {
        while self.device.step(0) {}
    }

    /// Execute one descriptor on WQ 0.
    pub(super) fn execute(&self, descriptor: Descriptor) {
        self.submit(0, descriptor);
        self.run();
    }

    pub(super) fn read32(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.device.read_register(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(super) fn read64(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.device.read_register(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    pub(super) fn write32(&self, at: u64, value: u32) {
        self.device.write_register(at, &value.to_le_bytes());
    }

    pub(super) fn write64(&self, at: u64, value: u64) {
        self.device.write_register(at, &value.to_le_bytes());
    }

    pub(super) fn head_tail(&self) -> (u64, u64) {
        let status = self.read64(regs::EVLSTATUS);
        (status & 0xffff, status >> 32 & 0xffff)
    }

    /// Vectors raised since the last call.
    pub(super) fn interrupts(&self) -> Vec<u16> {
        std::mem::take(&mut self.vectors.0.lock().unwrap())
    }

    pub(super) fn truth(&self) -> Vec<Line> {
        self.truth_log.lines()
    }

    pub(super) fn counters(&self) -> crate::truth::Counters {
        self.truth_log.counters()
    }
}

pub(super) fn dedicated() -> u32 {
    wqcfg::MODE_DEDICATED
        | wqcfg::MODE_PRS_DISABLE
        | 10 << wqcfg::MODE_PRIORITY_SHIFT
        | PASID << wqcfg::MODE_PASID_SHIFT
        | wqcfg::MODE_PASID_ENABLE
}

pub(super) fn shared() -> u32 {
    dedicated() & !wqcfg::MODE_DEDICATED
}

/// A descriptor that wants a completion record at `cr`.
pub(super) fn descriptor(op: u8, cr: u64) -> Descriptor {
    Descriptor { completion_addr: cr, ..Descriptor::default() }.with(op, CR)
}

#[test]
fn registers_read_as_announced() {
    let bench = Bench::new(Kind::Dsa);
    assert_eq!(bench.read32(regs::VERSION), 0x200);
    assert_eq!(bench.read64(regs::GENCAP) >> 13 & 3, 1);
    assert_eq!(Bench::new(Kind::Iax).read64(regs::GENCAP) >> 13 & 3, 2);
    assert_eq!(bench.read64(regs::WQCAP) & 0xff_ffff, 8 << 16 | 128);
    assert_eq!((bench.read64(regs::GRPCAP) & 0xff, bench.read64(regs::ENGCAP) & 0xff), (4, 4));
    assert_eq!(bench.read64(regs::OPCAP), 0x1_00bf_07ff);
    assert_eq!(Bench::new(Kind::Iax).read64(regs::OPCAP + 8), 0b1_1100);
    assert_eq!(bench.read64(regs::TABLE_OFFSETS), 4 | 6 << 16 | 5 << 32);
    // an unaligned read across two registers
    let mut bytes = [0; 12];
    bench.device.read_register(regs::CMDCAP + 1, &mut bytes);
    assert_eq!(bytes[0], 0x1f);
}

#[test]
fn configuration_is_fixed_while_enabled() {
    let bench = Bench::running(Kind::Dsa, 64);
    bench.write64(regs::EVLCFG_SIZE, 128);
    bench.group(0, 0xff, 1);
    bench.write32(regs::GENCFG, 0);
    bench.wq_dword(0, wqcfg::SIZE, 99);
    assert_eq!(bench.read64(regs::EVLCFG_SIZE), 64);
    assert_eq!(bench.read64(GRPCFG), 3);
    assert_eq!(bench.read32(regs::GENCFG), gencfg::EVENT_LOG_ENABLE);
    assert_eq!(bench.read32(WQCFG), 16);
    bench.wq_dword(1, wqcfg::SIZE, 8);
    assert_eq!(bench.read32(WQCFG + 64), 8, "a disabled WQ");
    bench.device.write_register(regs::GENCTRL + 1, &[0; 4]);
    bench.device.write_register(regs::GENCTRL, &[0; 2]);
    assert_ne!(bench.read32(regs::GENCTRL), 0, "only whole dwords count");
}

#[test]
fn configuration_space_has_what_the_driver_needs() {
    let bench = Bench::new(Kind::Dsa);
    bench.device.write_config(0x124, &[0, 0]);
    let read = |at, n| {
        let mut bytes = vec![0; n];
        bench.device.read_config(at, &mut bytes);
        bytes
    };
    assert_eq!(read(0, 4), [0x86, 0x80, 0x25, 0x0b]);
    assert_eq!(read(0x64, 4), [0, 0, 0x60, 0], "DEVCAP2: End-End TLP prefixes");
    assert_eq!((read(0x100, 1)[0], read(0x110, 1)[0], read(0x120, 1)[0]), (0x0f, 0x1b, 0x13));
    assert_eq!(read(0x126, 2), [0, 0x81], "PRI is stopped");
    bench.device.write_config(0x124, &[1, 0]);
    assert_eq!(read(0x126, 2), [0, 0x80]);
    bench.device.write_config(0x48, &[0, 0x80]);
    assert_eq!(read(0x124, 2), [0, 0], "a function-level reset");
    assert_eq!(read(0x48, 2), [0, 0], "whose bit reads as zero");
}

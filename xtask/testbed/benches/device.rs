//! How fast the model is: descriptors and event-log entries a second, truth log included.
//!
//! The memory is an array, so that what is measured is the device and not page-table walks. Run with
//! `cargo bench -p dsascope-testbed`.

#![expect(clippy::unwrap_used, reason = "a bench that fails is of no use")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use divan::Bencher;
use divan::counter::ItemsCount;
use dsascope_common::hw::descriptor::{Descriptor, flags, opcode};
use dsascope_common::hw::regs::{self, command, gencfg, genctrl, grpcfg, portal, wqcfg};
use dsascope_testbed::DeviceConfig;
use dsascope_testbed::dsa::{Dma, DmaFault, DsaDevice, Host, Interrupts, PageRequests};
use dsascope_testbed::truth::Truth;
use dsascope_testbed::vtd::{PageRequest, Posted, WalkError, WalkFault};
use zerocopy::IntoBytes;

const BYTES: usize = 1 << 20;
const RECORD: u64 = 0x1000;
const LIST: u64 = 0x2000;
const LOG: u64 = 0x1_0000;
const LOG_ENTRIES: u64 = 8192;
/// Past the end of memory.
const ABSENT: u64 = 1 << 40;
/// Descriptors, or elements, an iteration.
const BURST: u64 = 64;

struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn access(&self, address: u64, bytes: usize, then: impl FnOnce(&mut [u8])) -> Result<(), DmaFault> {
        let fault = WalkFault::NotPresent(1);
        let absent = DmaFault { address, reason: WalkError::Fault { address, fault } };
        let at = usize::try_from(address).map_err(|_| absent)?;
        let mut memory = self.0.lock().unwrap();
        then(memory.get_mut(at..at.saturating_add(bytes)).ok_or(absent)?);
        Ok(())
    }
}

impl Dma for Memory {
    fn read(&self, _: Option<u32>, address: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.access(address, into.len(), |bytes| into.copy_from_slice(bytes))
    }
    fn write(&self, _: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.access(address, from.len(), |bytes| bytes.copy_from_slice(from))
    }
    fn write_record(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.write(pasid, address, from)
    }
}

struct Nowhere;

impl Interrupts for Nowhere {
    fn raise(&self, _: u16) -> bool {
        true
    }
}

impl PageRequests for Nowhere {
    fn request(&self, _: PageRequest) -> Posted {
        Posted::Refused
    }
}

/// A running device with one WQ, its truth log written and thrown away by the kernel.
fn device() -> (DsaDevice, Arc<Memory>) {
    let memory = Arc::new(Memory(Mutex::new(vec![0; BYTES])));
    let host = Host {
        dma: Arc::<Memory>::clone(&memory),
        pages: Arc::new(Nowhere),
        interrupts: Arc::new(Nowhere),
        truth: Arc::new(Truth::create(Path::new("/dev/null")).unwrap()),
    };
    let device = DsaDevice::new("dsa0", DeviceConfig::default(), host);
    device.write_config(4, &6u16.to_le_bytes());
    device.write_config(0x116, &[1, 0]);
    let write = |at: u64, value: u64| device.write_register(at, &value.to_le_bytes());
    let write32 = |at: u64, value: u32| device.write_register(at, &value.to_le_bytes());
    write(regs::EVLCFG, LOG);
    write(regs::EVLCFG_SIZE, LOG_ENTRIES);
    write32(regs::GENCTRL, genctrl::EVENT_LOG_INTERRUPT);
    write32(regs::GENCFG, gencfg::EVENT_LOG_ENABLE);
    let mut tables = [0; 8];
    device.read_register(regs::TABLE_OFFSETS, &mut tables);
    let table = |i: usize| u64::from(u16::from_le_bytes([tables[2 * i], tables[2 * i + 1]])) << 8;
    write(table(0) + grpcfg::WQS, 1);
    write(table(0) + grpcfg::ENGINES, 0xf);
    let wq = |dword: usize, value: u32| write32(table(1) + dword as u64 * 4, value);
    wq(wqcfg::SIZE, 128);
    let mode = wqcfg::MODE_DEDICATED | wqcfg::MODE_PRS_DISABLE | wqcfg::MODE_PASID_ENABLE;
    wq(wqcfg::MODE, mode | 10 << wqcfg::MODE_PRIORITY_SHIFT | 5 << wqcfg::MODE_PASID_SHIFT);
    wq(wqcfg::LIMITS, 16 | 10 << wqcfg::LIMITS_BATCH_SHIFT);
    (8..16).for_each(|dword| wq(dword, u32::MAX));
    for code in [command::ENABLE_DEVICE, command::ENABLE_WQ] {
        write32(regs::CMD, code << command::CODE_SHIFT);
        let mut status = [0; 4];
        device.read_register(regs::CMDSTATUS, &mut status);
        assert_eq!(status, [0; 4]);
    }
    (device, memory)
}

fn descriptor(op: u8, record: u64) -> Descriptor {
    Descriptor { completion_addr: record, ..Descriptor::default() }.with(op, flags::CRAV | flags::RCR)
}

fn submit(device: &DsaDevice, descriptor: &Descriptor) {
    device.write_portal(portal::LIMITED_MSIX, descriptor.as_bytes());
}

/// Take the log as a driver would: acknowledge, read, move the head.
fn read_log(device: &DsaDevice) {
    device.write_register(regs::EVLSTATUS + 4, &(1u32 << 30).to_le_bytes());
    let mut status = [0; 8];
    device.read_register(regs::EVLSTATUS, &mut status);
    let tail = u32::from(u16::from_le_bytes([status[4], status[5]]));
    device.write_register(regs::EVLSTATUS, &tail.to_le_bytes());
}

/// Submit and execute on one engine.
#[divan::bench]
fn noops(bencher: Bencher<'_, '_>) {
    let (device, _memory) = device();
    let noop = descriptor(opcode::NOOP, RECORD);
    bencher.counter(ItemsCount::new(BURST)).bench_local(|| {
        (0..BURST).for_each(|_| submit(&device, &noop));
        while device.step(0) {}
    });
}

/// Noops whose records fault.
#[divan::bench]
fn event_log_entries(bencher: Bencher<'_, '_>) {
    let (device, _memory) = device();
    let noop = descriptor(opcode::NOOP, ABSENT);
    bencher.counter(ItemsCount::new(BURST)).bench_local(|| {
        (0..BURST).for_each(|_| submit(&device, &noop));
        while device.step(0) {}
        read_log(&device);
    });
}

/// Elements of a batch.
#[divan::bench]
fn batch_elements(bencher: Bencher<'_, '_>) {
    let (device, memory) = device();
    let noop = descriptor(opcode::NOOP, RECORD);
    (0..BURST).for_each(|i| memory.write(None, LIST + i * 64, noop.as_bytes()).unwrap());
    let batch = descriptor(opcode::BATCH, RECORD + 64);
    let batch = Descriptor { source: LIST, transfer_size: BURST as u32, ..batch };
    bencher.counter(ItemsCount::new(BURST)).bench_local(|| {
        submit(&device, &batch);
        while device.step(0) {}
    });
}

fn main() {
    divan::main();
}

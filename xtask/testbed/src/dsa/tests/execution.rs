//! What descriptors do to memory and how they end.

use dsascope_common::hw::completion::{DsaCompletion, status};
use dsascope_common::hw::descriptor::{flags, opcode};
use dsascope_common::hw::event_log::EntryHeader;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::truth::{DropReason, Event};

const P: Option<u32> = Some(PASID);
/// A page that is there, for completion records.
const RECORDS: u64 = 0x8000;
/// An operation that no device has.
const UNKNOWN: u8 = 0x3f;

fn bench() -> Bench {
    let bench = Bench::running(Kind::Dsa, 64);
    bench.memory.map(P, RECORDS, true);
    bench
}

fn record(bench: &Bench, at: u64) -> DsaCompletion {
    DsaCompletion::read_from_bytes(&bench.memory.peek(P, at, 32)).unwrap()
}

/// Execute with a record at [`RECORDS`], which is returned.
fn completed(bench: &Bench, mut d: Descriptor) -> DsaCompletion {
    d.completion_addr = RECORDS;
    bench.memory.poke(P, RECORDS, &[0; 32]);
    bench.execute(d);
    record(bench, RECORDS)
}

fn entry(bench: &Bench, index: u64) -> (EntryHeader, DsaCompletion) {
    let bytes = bench.memory.peek(None, LOG + index * 64, 64);
    (
        EntryHeader::read_from_bytes(&bytes[..32]).unwrap(),
        DsaCompletion::read_from_bytes(&bytes[32..]).unwrap(),
    )
}

fn operation(op: u8, source: u64, destination: u64, transfer_size: u32) -> Descriptor {
    Descriptor { source, destination, transfer_size, ..descriptor(op, RECORDS) }
}

#[test]
fn noop_writes_a_record_when_asked() {
    let bench = bench();
    assert_eq!(completed(&bench, descriptor(opcode::NOOP, 0)).status, status::SUCCESS);
    let silent = descriptor(opcode::NOOP, 0).with(opcode::NOOP, flags::CRAV);
    assert_eq!(completed(&bench, silent).status, status::NONE);
    assert_eq!((bench.counters().descriptors, bench.counters().completion_records), (2, 1));
    let handle = Descriptor { interrupt_handle: 3, ..descriptor(opcode::NOOP, 0) };
    completed(&bench, handle.with(opcode::NOOP, CR | flags::RCI));
    assert_eq!(bench.interrupts(), [3]);
}

#[test]
fn a_record_that_cannot_be_written_goes_to_the_log() {
    let bench = bench();
    for (index, cr) in [(0, 0x40_0040), (1, RECORDS + 32)] {
        bench.memory.map(P, RECORDS, false);
        bench.execute(descriptor(opcode::NOOP, cr));
        let (header, image) = entry(&bench, index);
        assert_eq!(header.error(), status::CRA_XLAT);
        assert_eq!((header.fault_addr(), header.pasid(), header.wq_idx()), (cr, PASID, 0));
        assert!(header.rcr() && header.fault_rw() && header.desc_valid() && !header.rci() && !header.batch());
        assert_eq!(image.status, status::SUCCESS);
    }
    assert_eq!(bench.head_tail(), (0, 2));
    assert_eq!(bench.memory.peek(P, RECORDS + 32, 32), [0; 32]);
    let lines = bench.truth();
    let raw = lines.iter().find_map(|l| match &l.event {
        Event::EventLogEntry { raw, index: 1, .. } => crate::truth::unhex(raw),
        _ => None,
    });
    assert_eq!(raw.unwrap(), bench.memory.peek(None, LOG + 64, 64));
}

#[test]
fn iaa_entries_have_128_bytes() {
    let bench = Bench::running(Kind::Iax, 64);
    bench.execute(descriptor(opcode::NOOP, 0x40_0040));
    bench.execute(descriptor(opcode::NOOP, 0x40_0080));
    let second = bench.memory.peek(None, LOG + 128, 128);
    let header = EntryHeader::read_from_bytes(&second[..32]).unwrap();
    assert_eq!((header.fault_addr(), second[64]), (0x40_0080, status::SUCCESS));
    bench.execute(descriptor(opcode::NOOP, 0x40_00a0));
    assert_eq!(bench.memory.peek(None, LOG + 256, 2)[1], status::CRA_ALIGN, "records are 64 bytes");
}

#[test]
fn refusals_have_their_status() {
    let bench = bench();
    bench.memory.map(P, 0x1_0000, true);
    let memmove = || operation(opcode::MEMMOVE, 0x1_0000, 0x1_0800, 64);
    let status_of = |d: Descriptor| completed(&bench, d).status;
    assert_eq!(status_of(descriptor(UNKNOWN, 0)), status::BAD_OPCODE);
    let flagged = completed(&bench, memmove().with(opcode::MEMMOVE, CR | flags::CHECK_RESULT | 1 << 6));
    assert_eq!(flagged.status, status::INVALID_FLAGS);
    assert_eq!(flagged.operation_specific[0], u64::from(flags::CHECK_RESULT | 1 << 6));
    let blocking = memmove().with(opcode::MEMMOVE, CR | flags::BLOCK_ON_FAULT);
    assert_eq!(status_of(blocking), status::INVALID_FLAGS, "the WQ does not allow it");
    assert_eq!(status_of(Descriptor { transfer_size: 0, ..memmove() }), status::XFER_ERANGE);
    assert_eq!(status_of(Descriptor { transfer_size: 65537, ..memmove() }), status::XFER_ERANGE);
    let batch = |list, count| operation(opcode::BATCH, list, 0, count);
    assert_eq!(status_of(batch(0x1_0000, 1)), status::DESC_CNT_ERANGE);
    assert_eq!(status_of(batch(0x1_0000, 33)), status::DESC_CNT_ERANGE);
    assert_eq!(status_of(batch(0x1_0020, 2)), status::DESCLIST_ALIGN);
    let handle = Descriptor { interrupt_handle: 9, ..descriptor(opcode::NOOP, 0) };
    assert_eq!(status_of(handle.with(opcode::NOOP, CR | flags::RCI)), status::INT_HANDLE_INVAL);
    assert_eq!(bench.head_tail(), (0, 0), "all of that was told by completion records");
    bench.execute(descriptor(opcode::NOOP, RECORDS + 8));
    assert_eq!(entry(&bench, 0).0.error(), status::CRA_ALIGN);
    bench.execute(descriptor(UNKNOWN, 0).with(UNKNOWN, 0));
    assert_eq!(entry(&bench, 1).0.error(), status::BAD_OPCODE);
    bench.execute(descriptor(opcode::NOOP, 0).with(opcode::NOOP, flags::RCR));
    let (header, _) = entry(&bench, 2);
    assert_eq!((header.error(), header.invalid_flags()), (status::INVALID_FLAGS, flags::RCR));
}

#[test]
fn operations_can_be_masked_by_the_wq() {
    let bench = Bench::new(Kind::Dsa);
    bench.memory.map(P, RECORDS, true);
    bench.group(0, 1, 1);
    bench.wq(0, 16, dedicated());
    bench.wq_dword(0, 8, !(1 << opcode::NOOP));
    bench.command(command::ENABLE_DEVICE, 0);
    bench.command(command::ENABLE_WQ, 0);
    assert_eq!(completed(&bench, descriptor(opcode::NOOP, 0)).status, status::BAD_OPCODE);
}

#[test]
fn partial_completions_tell_where() {
    let bench = bench();
    for page in [0x1_0000, 0x1_1000, 0x2_0000] {
        bench.memory.map(P, page, true);
    }
    let read = completed(&bench, operation(opcode::MEMMOVE, 0x1_1800, 0x2_0000, 0x1000));
    assert_eq!((read.status, read.bytes_completed, read.fault_addr), (3, 0x800, 0x1_2000));
    let write = completed(&bench, operation(opcode::MEMMOVE, 0x1_0000, 0x2_0800, 0x1000));
    assert_eq!((write.status, write.bytes_completed, write.fault_addr), (0x83, 0x800, 0x2_1000));
    let fill = completed(&bench, operation(opcode::MEMFILL, 0x55, 0x2_0f00, 0x200));
    assert_eq!((fill.status, fill.bytes_completed, fill.fault_addr), (0x83, 0x100, 0x2_1000));
    let compare = completed(&bench, operation(opcode::COMPARE, 0x1_0000, 0x1_1800, 0x1000));
    assert_eq!((compare.status, compare.bytes_completed, compare.fault_addr), (3, 0x800, 0x1_2000));
    // the destination begins inside the source: from the end, which is absent
    let backward = completed(&bench, operation(opcode::MEMMOVE, 0x1_0800, 0x1_1000, 0x2000));
    assert_eq!((backward.status & 0x7f, backward.result, backward.bytes_completed), (3, 1, 0));
    let silent = operation(opcode::MEMFILL, 0, 0x9_0000, 8).with(opcode::MEMFILL, 0);
    bench.execute(silent);
    let (header, _) = entry(&bench, 0);
    assert_eq!((header.error(), header.fault_addr(), header.fault_rw()), (0x83, 0x9_0000, true));
}

#[test]
fn compare_and_fill() {
    let bench = bench();
    bench.memory.map(P, 0x1_0000, true);
    let fill = operation(opcode::MEMFILL, 0x0807_0605_0403_0201, 0x1_0003, 11);
    assert_eq!(completed(&bench, fill).bytes_completed, 11);
    assert_eq!(bench.memory.peek(P, 0x1_0002, 13), [0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 0]);
    bench.memory.poke(P, 0x1_0100, &[1, 2, 3, 9]);
    let compare = operation(opcode::COMPARE, 0x1_0003, 0x1_0100, 4);
    let differs = completed(&bench, compare);
    assert_eq!((differs.status, differs.result, differs.bytes_completed), (1, 1, 3));
    let same = completed(&bench, Descriptor { transfer_size: 3, ..compare });
    assert_eq!((same.status, same.result), (1, 0));
    let checked = compare.with(opcode::COMPARE, CR | flags::CHECK_RESULT);
    assert_eq!(completed(&bench, checked).status, status::SUCCESS_PRED, "0 was expected");
    let expected = Descriptor { operation_specific: [1, 0, 0], ..checked };
    assert_eq!(completed(&bench, expected).status, status::SUCCESS);
}

#[test]
fn batches_execute_each_element() {
    let bench = bench();
    let list = 0x1_0fc0;
    bench.memory.map(P, 0x1_0000, true);
    bench.memory.map(P, 0x1_1000, true);
    let elements = [
        operation(opcode::MEMFILL, 0x77, 0x1_0100, 8),
        descriptor(opcode::NOOP, RECORDS + 160),
        descriptor(opcode::NOOP, RECORDS + 64),
        descriptor(opcode::BATCH, RECORDS + 96),
    ];
    for (i, element) in elements.iter().enumerate() {
        bench.memory.poke(P, list + i as u64 * 64, element.as_bytes());
    }
    bench.memory.poke(P, list, Descriptor { completion_addr: RECORDS + 32, ..elements[0] }.as_bytes());
    let good = completed(&bench, operation(opcode::BATCH, list, 0, 3));
    assert_eq!((good.status, good.result, good.bytes_completed), (1, 0, 3));
    assert_eq!(bench.memory.peek(P, 0x1_0100, 1), [0x77]);
    assert_eq!((record(&bench, RECORDS + 32).status, record(&bench, RECORDS + 64).status), (1, 1));
    let bad = completed(&bench, operation(opcode::BATCH, list, 0, 4));
    assert_eq!((bad.status, bad.result), (status::BATCH_FAIL, 1), "no batch in a batch");
    assert_eq!(record(&bench, RECORDS + 96).status, status::BAD_OPCODE);
    let cut = completed(&bench, operation(opcode::BATCH, 0x1_1fc0, 0, 2));
    assert_eq!((cut.status, cut.bytes_completed, cut.fault_addr), (status::BATCH_PAGE_FAULT, 1, 0x1_2000));
}

#[test]
fn full_disabled_and_torn_submissions_are_dropped() {
    let bench = bench();
    for _ in 0..17 {
        bench.submit(0, descriptor(opcode::NOOP, RECORDS));
    }
    assert_eq!(bench.occupancy(0), 16);
    bench.submit(1, descriptor(opcode::NOOP, RECORDS));
    bench.device.write_portal(0x1000, &[0; 8]);
    bench.device.write_portal(0x1000, &[0; 8]);
    let lines = bench.truth();
    let reasons = lines.iter().filter_map(|l| match l.event {
        Event::Dropped { reason, .. } => Some(reason),
        _ => None,
    });
    let reasons: Vec<_> = reasons.collect();
    assert_eq!(reasons, [DropReason::WqFull, DropReason::WqDisabled, DropReason::Torn]);
}

#[test]
fn errors_go_to_swerror_when_the_log_is_off() {
    let bench = Bench::new(Kind::Dsa);
    bench.write32(regs::GENCTRL, genctrl::SOFTWARE_ERROR_INTERRUPT);
    bench.group(0, 1, 1);
    bench.wq(0, 16, dedicated());
    bench.command(command::ENABLE_DEVICE, 0);
    bench.command(command::ENABLE_WQ, 0);
    bench.execute(descriptor(opcode::NOOP, 0x40_0040));
    let first = bench.read64(regs::SWERROR);
    assert_eq!((first & 3, first >> 8 & 0xff, first >> 40 & 0xf_ffff), (1, 0x1a, u64::from(PASID)));
    assert_eq!(bench.read64(regs::SWERROR + 16), 0x40_0040);
    bench.execute(descriptor(opcode::NOOP, 0x40_0080));
    assert_eq!((bench.read64(regs::SWERROR) & 3, bench.read64(regs::SWERROR + 16)), (3, 0x40_0040));
    assert_eq!(bench.interrupts(), [0, 0]);
    bench.write32(regs::SWERROR, 3);
    assert_eq!(bench.read64(regs::SWERROR) & 3, 0);
    bench.execute(descriptor(opcode::NOOP, 0x40_0080));
    assert_eq!(bench.read64(regs::SWERROR + 16), 0x40_0080);
    let counters = bench.counters();
    assert_eq!((counters.event_log_entries, counters.software_errors), (0, 3));
    assert_eq!(counters.software_errors_dropped, 1);
}

#[test]
fn priorities_share_an_engine() {
    let bench = Bench::new(Kind::Dsa);
    bench.group(0, 3, 1);
    bench.wq(0, 32, dedicated() & !0xf0 | 10 << 4);
    bench.wq(1, 32, dedicated() & !0xf0 | 5 << 4);
    bench.command(command::ENABLE_DEVICE, 0);
    bench.command(command::ENABLE_WQ, 0);
    bench.command(command::ENABLE_WQ, 1);
    for _ in 0..30 {
        bench.submit(0, descriptor(opcode::NOOP, RECORDS));
        bench.submit(1, descriptor(opcode::NOOP, RECORDS));
    }
    for _ in 0..30 {
        assert!(bench.device.step(0));
    }
    assert_eq!((bench.occupancy(0), bench.occupancy(1)), (10, 20));
    assert!(!bench.device.step(1), "engine 1 is in no group");
}

proptest! {
    #[test]
    fn memmove_is_a_memmove(from in 0u64..0x2000, to in 0u64..0x2000, size in 1u32..0x2000, seed in any::<u8>()) {
        let bench = bench();
        let base = 0x10_0000;
        let mut expected: Vec<u8> = (0..0x4000u32).map(|i| (i.wrapping_mul(31) >> 3) as u8 ^ seed).collect();
        bench.memory.poke(P, base, &expected);
        let done = completed(&bench, operation(opcode::MEMMOVE, base + from, base + to, size));
        prop_assert_eq!((done.status, done.bytes_completed), (1, size));
        let from = from as usize;
        expected.copy_within(from..from + size as usize, to as usize);
        prop_assert_eq!(bench.memory.peek(P, base, 0x4000), expected);
    }
}

#[test]
fn a_misaligned_record_is_never_written() {
    let bench = bench();
    bench.memory.map(P, RECORDS + PAGE, true);
    bench.execute(descriptor(UNKNOWN, RECORDS + PAGE - 8));
    assert_eq!(entry(&bench, 0).0.error(), status::BAD_OPCODE, "the first thing that is wrong");
    assert_eq!(bench.memory.peek(P, RECORDS + PAGE - 8, 32), [0; 32]);
}

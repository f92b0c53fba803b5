//! How descriptors reach a WQ: what ENQCMD answers, and whose memory a shared WQ works in.

use dsascope_common::hw::completion::{DsaCompletion, status};
use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::event_log::EntryHeader;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::truth::Event;

const RECORD: u64 = 0x8000;
const OTHER: u32 = PASID + 1;
/// Beside the PASID in a descriptor.
const PRIVILEGED: u32 = 1 << 31;

/// WQ 0 is shared, with 4 entries and a threshold of 2; both processes have a page for records.
fn bench_with(mode: u32) -> Bench {
    let bench = Bench::new(Kind::Dsa);
    bench.event_log(64);
    bench.group(0, 1, 1);
    bench.wq(0, 4, mode);
    for pasid in [PASID, OTHER] {
        bench.memory.map(Some(pasid), RECORD, true);
    }
    assert_eq!(bench.command(command::ENABLE_DEVICE, 0), 0);
    assert_eq!(bench.command(command::ENABLE_WQ, 0), 0);
    bench
}

/// As ENQCMD does: 64 bytes to one slot of a portal page, then the answer of that slot.
fn enqueue(bench: &Bench, page: u64, slot: u64, descriptor: Descriptor) -> u8 {
    bench.device.write_portal(page + slot * portal::SLOT, descriptor.as_bytes());
    answer(bench, page, slot)
}

fn answer(bench: &Bench, page: u64, slot: u64) -> u8 {
    let mut answer = [9; 8];
    bench.device.read_portal(page + slot * portal::SLOT, &mut answer);
    answer[0]
}

fn noop(pasid: u32) -> Descriptor {
    Descriptor { pasid, ..descriptor(opcode::NOOP, RECORD) }
}

fn record(bench: &Bench, pasid: u32) -> u8 {
    DsaCompletion::read_from_bytes(&bench.memory.peek(Some(pasid), RECORD, 32)).unwrap().status
}

#[test]
fn shared_wqs_answer_retry_at_their_threshold() {
    let bench = bench_with(shared());
    let limited = |slot| enqueue(&bench, portal::LIMITED_MSIX, slot, noop(PASID));
    assert_eq!([limited(0), limited(0), limited(0)], [0, 0, 1]);
    let unlimited = |slot| enqueue(&bench, portal::UNLIMITED_MSIX, slot, noop(PASID));
    assert_eq!([unlimited(0), unlimited(0), unlimited(0)], [0, 0, 1], "unlimited page: the WQ's size");
    bench.run();
    assert_eq!(limited(0), 0, "there is room again");
    let counters = bench.counters();
    assert_eq!((counters.descriptors, counters.retries, counters.dropped), (5, 2, 0));
    let lines = bench.truth();
    let occupied = lines.iter().filter_map(|line| match line.event {
        Event::Retry { wq: 0, pasid: Some(PASID), occupied, .. } => Some(occupied),
        _ => None,
    });
    assert_eq!(occupied.collect::<Vec<_>>(), [2, 4]);
}

#[test]
fn each_slot_answers_for_its_own_descriptor() {
    let bench = bench_with(shared());
    let slots: Vec<u8> =
        (0..4).map(|slot| enqueue(&bench, portal::LIMITED_MSIX, slot, noop(PASID))).collect();
    assert_eq!(slots, [0, 0, 1, 1]);
    let again: Vec<u8> = (0..4).map(|slot| answer(&bench, portal::LIMITED_MSIX, slot)).collect();
    assert_eq!(again, slots, "whatever came to other slots meanwhile");
    assert_eq!(answer(&bench, portal::LIMITED_MSIX, 5), 0, "an unused slot");
    bench.run();
    assert_eq!(enqueue(&bench, portal::LIMITED_MSIX, 2, noop(PASID)), 0);
    assert_eq!(answer(&bench, portal::LIMITED_MSIX, 3), 1, "its descriptor is still not accepted");
}

#[test]
fn a_shared_wq_works_in_the_memory_of_the_descriptors_pasid() {
    let bench = bench_with(shared());
    assert_eq!(enqueue(&bench, portal::LIMITED_MSIX, 0, noop(OTHER)), 0);
    bench.run();
    assert_eq!((record(&bench, PASID), record(&bench, OTHER)), (0, status::SUCCESS));
    bench.memory.unmap(Some(OTHER), RECORD);
    for pasid in [OTHER, PASID] {
        assert_eq!(enqueue(&bench, portal::LIMITED_MSIX, 0, noop(pasid)), 0);
    }
    bench.run();
    assert_eq!(record(&bench, PASID), status::SUCCESS);
    let entry = EntryHeader::read_from_bytes(&bench.memory.peek(None, LOG, 32)).unwrap();
    assert_eq!((entry.error() & 0x7f, entry.pasid(), entry.wq_idx()), (status::CRA_XLAT, OTHER, 0));
    assert_eq!(bench.head_tail(), (0, 1));
}

#[test]
fn a_dedicated_wq_takes_pasid_and_privilege_from_its_own_configuration() {
    let bench = bench_with(dedicated());
    bench.submit(0, noop(OTHER | PRIVILEGED));
    bench.run();
    assert_eq!((record(&bench, PASID), record(&bench, OTHER)), (status::SUCCESS, 0));
}

#[test]
fn a_shared_wq_without_privileged_mode_refuses_privileged_descriptors() {
    let bench = bench_with(shared());
    assert_eq!(
        enqueue(&bench, portal::LIMITED_MSIX, 0, noop(OTHER | PRIVILEGED)),
        0,
        "accepted, then refused"
    );
    bench.run();
    assert_eq!(record(&bench, OTHER), status::PRIV_BAD);
    let bench = bench_with(shared() | wqcfg::MODE_PRIV);
    enqueue(&bench, portal::LIMITED_MSIX, 0, noop(OTHER | PRIVILEGED));
    bench.run();
    assert_eq!(record(&bench, OTHER), status::SUCCESS);
}

#[test]
fn draining_a_pasid_waits_for_that_process_alone() {
    let bench = bench_with(shared());
    enqueue(&bench, portal::LIMITED_MSIX, 0, noop(PASID));
    let drain = |pasid| bench.command(command::DRAIN_PASID, pasid);
    assert_eq!(drain(OTHER), 0, "nothing of it is outstanding");
    assert_ne!(drain(PASID), 0, "active");
    bench.run();
    assert_eq!(bench.read32(regs::CMDSTATUS), 0);
}

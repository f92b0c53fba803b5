//! The drain descriptor, alone and behind others.

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::{flags, opcode};
use dsascope_common::hw::event_log::EntryHeader;
use dsascope_common::hw::regs::command as c;
use zerocopy::FromBytes;

use super::*;

const P: Option<u32> = Some(PASID);
const RECORDS: u64 = 0x8000;
const ABSENT: u64 = 0x40_0000;

fn bench() -> Bench {
    let bench = Bench::running(Kind::Dsa, 64);
    bench.memory.map(P, RECORDS, true);
    bench
}

fn drained(bench: &Bench) -> bool {
    bench.memory.poke(P, RECORDS, &[0]);
    bench.execute(descriptor(opcode::DRAIN, RECORDS));
    bench.memory.peek(P, RECORDS, 1) == [status::SUCCESS]
}

fn entry(bench: &Bench, index: u64) -> EntryHeader {
    EntryHeader::read_from_bytes(&bench.memory.peek(None, LOG + index * 64, 32)).unwrap()
}

#[test]
fn entries_that_the_driver_has_not_read_make_it_deliver_the_drain_too() {
    let bench = bench();
    assert!(drained(&bench));
    bench.execute(descriptor(opcode::NOOP, ABSENT));
    assert!(!drained(&bench), "the driver writes the record");
    let header = entry(&bench, 1);
    assert_eq!((header.error(), header.fault_addr()), (status::DRAIN_EVL, RECORDS));
    assert_eq!((header.operation(), header.pasid(), header.rcr()), (opcode::DRAIN, PASID, true));
    assert_eq!(bench.memory.peek(None, LOG + 64 + 32, 1), [status::SUCCESS], "this one");
    bench.write32(regs::EVLSTATUS, 1);
    assert!(!drained(&bench), "behind the first drain");
    bench.write32(regs::EVLSTATUS, 3);
    assert!(drained(&bench));
    bench.execute(descriptor(opcode::NOOP, ABSENT));
    bench.execute(descriptor(opcode::DRAIN, RECORDS).with(opcode::DRAIN, flags::CRAV));
    assert_eq!((entry(&bench, 4).error(), entry(&bench, 4).rcr()), (status::DRAIN_EVL, false));
}

#[test]
fn only_its_own_wq_and_pasid_matter() {
    let bench = bench();
    bench.wq(1, 16, shared());
    assert_eq!(bench.command(c::ENABLE_WQ, 1), 0);
    let on_other = |op, cr, pasid| {
        bench.submit(1, Descriptor { pasid, ..descriptor(op, cr) });
        bench.run();
    };
    on_other(opcode::NOOP, ABSENT, PASID);
    assert!(drained(&bench), "an entry of another WQ");
    on_other(opcode::DRAIN, RECORDS, 9);
    assert_eq!(entry(&bench, 1).error(), status::CRA_XLAT, "an entry of another PASID");
    on_other(opcode::DRAIN, RECORDS, PASID);
    assert_eq!(entry(&bench, 2).error(), status::DRAIN_EVL);
}

#[test]
fn it_waits_for_a_descriptor_on_another_engine() {
    let bench = bench();
    for i in 0..63 {
        bench.execute(descriptor(opcode::NOOP, ABSENT + i * 32));
    }
    let step = |engine: usize| {
        let device = Arc::clone(&bench.device);
        let thread = std::thread::spawn(move || device.step(engine));
        while bench.device.state().engines[engine].current.is_none() {
            std::thread::yield_now();
        }
        thread
    };
    bench.submit(0, descriptor(opcode::NOOP, ABSENT));
    let blocked = step(0);
    bench.submit(0, descriptor(opcode::DRAIN, RECORDS));
    let draining = step(1);
    bench.write32(regs::CMD, c::DRAIN_PASID << c::CODE_SHIFT | PASID);
    assert_eq!(bench.read32(regs::CMDSTATUS), regs::cmdstatus::ACTIVE);
    assert!(!blocked.is_finished() && !draining.is_finished());
    bench.write32(regs::EVLSTATUS, 10);
    assert!(blocked.join().unwrap() && draining.join().unwrap());
    assert_eq!(bench.read32(regs::CMDSTATUS), 0);
    assert_eq!((entry(&bench, 63).error(), entry(&bench, 0).error()), (status::CRA_XLAT, status::DRAIN_EVL));
}

#[test]
fn an_iaa_drains_too() {
    let bench = Bench::running(Kind::Iax, 64);
    bench.execute(descriptor(opcode::NOOP, ABSENT));
    bench.execute(descriptor(opcode::DRAIN, RECORDS));
    let bytes = bench.memory.peek(None, LOG + 128, 128);
    assert_eq!((bytes[1], bytes[64]), (status::DRAIN_EVL, status::SUCCESS));
}

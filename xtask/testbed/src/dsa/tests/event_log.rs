//! The ring against a driver that follows the protocol of idxd-facts section 1.8.

use std::time::Duration;

use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::event_log::EntryHeader;
use dsascope_common::hw::regs::command as c;
use proptest::prelude::*;
use zerocopy::FromBytes;

use super::*;
use crate::truth::Event;

/// What the driver's interrupt thread does; the addresses of the entries it found.
fn drain_as_driver(bench: &Bench, size: u64) -> Vec<u64> {
    let cause = bench.read32(regs::INTCAUSE);
    bench.write32(regs::INTCAUSE, cause);
    bench.write32(regs::EVLSTATUS + 4, 1 << 30);
    let (mut head, tail) = bench.head_tail();
    let mut found = Vec::new();
    while head != tail {
        let bytes = bench.memory.peek(None, LOG + head * 64, 32);
        found.push(EntryHeader::read_from_bytes(&bytes).unwrap().fault_addr());
        head = (head + 1) % size;
    }
    bench.write32(regs::EVLSTATUS, head as u32);
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn entries_arrive_once_and_in_order_with_one_interrupt_a_burst(
        size in prop_oneof![Just(64u64), Just(65), 64u64..300],
        bursts in proptest::collection::vec(0u64..40, 1..30)) {
        let bench = Bench::running(Kind::Dsa, size);
        let (mut next, mut expected) = (0, Vec::new());
        let mut seen = Vec::new();
        for burst in bursts {
            let burst = burst.min(size - 1);
            for _ in 0..burst {
                let cr = 0x40_0000 + next * 32;
                next += 1;
                expected.push(cr);
                bench.execute(descriptor(opcode::NOOP, cr));
            }
            prop_assert_eq!(bench.interrupts().len() as u64, burst.min(1));
            let found = drain_as_driver(&bench, size);
            prop_assert_eq!(found.len() as u64, burst);
            seen.extend(found);
        }
        prop_assert_eq!(bench.head_tail().0, next % size);
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn an_entry_after_the_acknowledgement_raises_again() {
    let bench = Bench::running(Kind::Dsa, 64);
    bench.execute(descriptor(opcode::NOOP, 0x40_0000));
    assert_eq!(bench.interrupts(), [0]);
    bench.write32(regs::INTCAUSE, 0x20);
    bench.execute(descriptor(opcode::NOOP, 0x40_0020));
    assert!(bench.interrupts().is_empty(), "the pending bit is still set");
    bench.write32(regs::EVLSTATUS + 4, 1 << 30);
    bench.execute(descriptor(opcode::NOOP, 0x40_0040));
    assert_eq!(bench.interrupts(), [0]);
    assert_eq!(bench.read32(regs::INTCAUSE), 0x20);
}

#[test]
fn the_largest_log_wraps_at_its_size() {
    const SIZE: u64 = 65535;
    let bench = Bench::running(Kind::Dsa, SIZE);
    for i in 0..SIZE - 1 {
        bench.execute(descriptor(opcode::NOOP, 0x40_0000 + i * 32));
    }
    assert_eq!(bench.head_tail(), (0, SIZE - 1));
    assert!(bench.device.state().registers.log_full());
    assert_eq!(drain_as_driver(&bench, SIZE).len() as u64, SIZE - 1);
    for i in 0..3 {
        bench.execute(descriptor(opcode::NOOP, i * 32));
    }
    assert_eq!(bench.head_tail(), (SIZE - 1, 2));
    assert_eq!(drain_as_driver(&bench, SIZE), [0, 32, 64]);
    let past = bench.memory.peek(None, LOG + SIZE * 64, 64);
    assert_eq!(past, [0; 64], "nothing behind the last slot");
}

/// A running log of 64 that holds 63 entries, and an engine that waits with the next.
fn full() -> (Bench, JoinHandle<bool>) {
    let bench = Bench::running(Kind::Dsa, 64);
    for i in 0..63 {
        bench.execute(descriptor(opcode::NOOP, 0x40_0000 + i * 32));
    }
    assert_eq!(bench.head_tail(), (0, 63));
    bench.submit(0, descriptor(opcode::NOOP, 0x41_0000));
    let device = Arc::clone(&bench.device);
    let engine = std::thread::spawn(move || device.step(0));
    std::thread::sleep(Duration::from_millis(30));
    assert!(!engine.is_finished(), "one slot stays empty");
    assert_eq!(bench.head_tail(), (0, 63));
    (bench, engine)
}

#[test]
fn a_full_log_blocks_the_engine_until_the_head_moves() {
    let (bench, engine) = full();
    bench.write32(regs::CMD, c::DRAIN_PASID << c::CODE_SHIFT | PASID);
    assert_eq!(bench.read32(regs::CMDSTATUS), regs::cmdstatus::ACTIVE);
    bench.write32(regs::EVLSTATUS, 1);
    assert!(engine.join().unwrap());
    assert_eq!(bench.head_tail(), (1, 0));
    assert_eq!(bench.read32(regs::CMDSTATUS), 0);
    assert_eq!(bench.counters().event_log_entries, 64);
    let waited =
        |l: &Line| matches!(l.event, Event::EngineBlocked { blocked_ns, .. } if blocked_ns > 10_000_000);
    assert!(bench.truth().iter().any(waited));
}

#[test]
fn an_abort_ends_the_wait_of_its_wq_only() {
    let (bench, engine) = full();
    bench.wq(1, 16, dedicated());
    assert_eq!(bench.command(c::ENABLE_WQ, 1), 0);
    bench.submit(1, descriptor(opcode::NOOP, 0x42_0000));
    let device = Arc::clone(&bench.device);
    let other = std::thread::spawn(move || device.step(1));
    while bench.occupancy(1) != 0 {
        std::thread::yield_now();
    }
    bench.command(c::ABORT_WQ, 2);
    assert!(other.join().unwrap());
    assert_eq!(bench.read32(regs::CMDSTATUS), 0);
    assert!(!engine.is_finished());
    bench.write32(regs::EVLSTATUS, 1);
    assert!(engine.join().unwrap());
    assert_eq!((bench.counters().entries_abandoned, bench.counters().event_log_entries), (1, 64));
}

#[test]
fn reset_disable_and_stop_end_the_wait() {
    for end in [
        &(|b: &Bench| assert_eq!(b.command(c::RESET_DEVICE, 0) & 0xff, 0)) as &dyn Fn(&Bench),
        &|b| assert_eq!(b.command(c::DISABLE_DEVICE, 0) & 0xff, 0),
        &|b| assert_eq!(b.command(c::ABORT_WQ, 1) & 0xff, 0),
        &|b| b.device.reset(),
        &|b| b.device.stop(),
    ] {
        let (bench, engine) = full();
        end(&bench);
        assert!(engine.join().unwrap());
        assert_eq!(bench.counters().entries_abandoned, 1);
        assert_eq!(bench.counters().event_log_entries, 63);
        assert_eq!(bench.read32(regs::CMDSTATUS), 0);
    }
}

#[test]
fn engines_of_a_started_device_serve_all_wqs() {
    let bench = Bench::new(Kind::Dsa);
    bench.event_log(1000);
    for wq in 0..4 {
        bench.group(wq, 1 << wq, 1 << wq);
        bench.wq(wq, 32, dedicated());
    }
    assert_eq!(bench.command(c::ENABLE_DEVICE, 0), 0);
    let threads = bench.device.start().unwrap();
    for wq in 0..4 {
        assert_eq!(bench.command(c::ENABLE_WQ, wq), 0);
    }
    for i in 0..200 {
        let wq = i % 4;
        while bench.occupancy(wq) == 32 {
            std::thread::yield_now();
        }
        bench.submit(wq, descriptor(opcode::NOOP, 0x40_0000 + i * 32));
    }
    while bench.command(c::DRAIN_ALL, 0) != 0 {
        std::thread::yield_now();
    }
    assert_eq!(bench.head_tail(), (0, 200));
    let mut found = drain_as_driver(&bench, 1000);
    found.sort_unstable();
    assert!(found.into_iter().eq((0..200).map(|i| 0x40_0000 + i * 32)));
    bench.device.stop();
    threads.into_iter().for_each(|t| t.join().unwrap());
}

//! Halts with each reset type, faults on demand, and disabling under load.

use std::sync::atomic::{AtomicBool, Ordering};

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::regs::{cmdstatus as cs, command as c, genstats, intcause};
use zerocopy::IntoBytes;

use super::*;
use crate::truth::{DropReason, Event};

const P: Option<u32> = Some(PASID);
const RECORDS: u64 = 0x8000;

fn state(bench: &Bench) -> (u32, u32) {
    let genstats = bench.read32(regs::GENSTATS);
    (genstats & 3, genstats >> 2 & 3)
}

fn flr(bench: &Bench) {
    bench.device.write_config(0x48, &[0, 0x80]);
}

#[test]
fn a_halt_is_told_and_lasts_until_its_reset() {
    use ResetType::{Cold, Flr, Software, Warm};
    for (index, needed) in [Software, Flr, Warm, Cold].into_iter().enumerate() {
        let bench = Bench::running(Kind::Dsa, 64);
        bench.memory.map(P, RECORDS, true);
        bench.submit(0, descriptor(opcode::NOOP, RECORDS));
        bench.device.inject(Injection::Halt { reset: needed });
        assert_eq!(state(&bench), (genstats::HALT, index as u32));
        assert_eq!((bench.read32(regs::INTCAUSE), bench.interrupts()), (intcause::HALT, vec![0]));
        assert!(!bench.device.step(0), "what was queued is gone");
        bench.submit(0, descriptor(opcode::NOOP, RECORDS));
        let reasons: Vec<_> = bench
            .truth()
            .into_iter()
            .filter_map(|l| match l.event {
                Event::Dropped { reason, .. } => Some(reason),
                _ => None,
            })
            .collect();
        assert_eq!(reasons, [DropReason::Halted, DropReason::WqDisabled]);
        for code in [c::ENABLE_DEVICE, c::DISABLE_DEVICE, c::DRAIN_ALL, c::ENABLE_WQ] {
            assert_eq!(bench.command(code, 0), cs::HARDWARE);
        }
        bench.write64(regs::EVLCFG_SIZE, 128);
        assert_eq!(bench.read64(regs::EVLCFG_SIZE), 64, "configuration is fixed");
        let reset = bench.command(c::RESET_DEVICE, 0);
        assert_eq!(reset, if needed == Software { cs::OK } else { cs::HARDWARE });
        assert_eq!(state(&bench).0 == genstats::DISABLED, needed == Software);
        flr(&bench);
        assert_eq!(state(&bench).0 == genstats::DISABLED, needed <= Flr);
        bench.device.reset();
        assert_eq!(state(&bench), (genstats::DISABLED, 0));
        assert_eq!(bench.counters().halts, 1);
    }
}

#[test]
fn after_a_function_level_reset_the_device_serves_again() {
    let bench = Bench::running(Kind::Dsa, 64);
    bench.device.inject(Injection::Halt { reset: ResetType::Flr });
    bench.device.inject(Injection::Halt { reset: ResetType::Cold });
    flr(&bench);
    bench.device.write_config(4, &6u16.to_le_bytes());
    bench.device.write_config(0x116, &[1, 0]);
    bench.start(64);
    bench.memory.map(P, RECORDS, true);
    bench.execute(descriptor(opcode::NOOP, RECORDS));
    assert_eq!(bench.memory.peek(P, RECORDS, 1), [status::SUCCESS]);
}

#[test]
fn a_halt_ends_waits_and_commands_and_writes_nothing() {
    let bench = Bench::running(Kind::Dsa, 64);
    for i in 0..63 {
        bench.execute(descriptor(opcode::NOOP, 0x40_0000 + i * 32));
    }
    bench.submit(0, descriptor(opcode::NOOP, 0x41_0000));
    let device = Arc::clone(&bench.device);
    let engine = std::thread::spawn(move || device.step(0));
    while bench.device.state().engines[0].current.is_none() {
        std::thread::yield_now();
    }
    bench.write32(regs::CMD, c::DRAIN_ALL << c::CODE_SHIFT);
    assert_eq!(bench.read32(regs::CMDSTATUS), cs::ACTIVE);
    bench.device.inject(Injection::Halt { reset: ResetType::Software });
    assert!(engine.join().unwrap());
    assert_eq!((bench.read32(regs::CMDSTATUS), bench.head_tail()), (cs::HARDWARE, (0, 63)));
    assert_eq!(bench.counters().event_log_entries, 63);
}

#[test]
fn injected_hardware_errors_are_counted_down() {
    let bench = Bench::running(Kind::Dsa, 64);
    bench.memory.map(P, RECORDS, true);
    bench.device.inject(Injection::HardwareErrors { descriptors: 2 });
    let statuses: Vec<_> = (0..3)
        .map(|_| {
            bench.execute(descriptor(opcode::NOOP, RECORDS));
            bench.memory.peek(P, RECORDS, 1)[0]
        })
        .collect();
    assert_eq!(statuses, [status::HW_ERR1, status::HW_ERR1, status::SUCCESS]);
    // an element of a batch counts, the batch does not
    bench.device.inject(Injection::HardwareErrors { descriptors: 1 });
    for i in 0..2u64 {
        let element = descriptor(opcode::NOOP, RECORDS + 64 + i * 32);
        bench.memory.poke(P, 0x9000 + i * 64, element.as_bytes());
    }
    bench.execute(Descriptor { source: 0x9000, transfer_size: 2, ..descriptor(opcode::BATCH, RECORDS) });
    assert_eq!(bench.memory.peek(P, RECORDS, 1), [status::BATCH_FAIL]);
    assert_eq!(bench.memory.peek(P, RECORDS + 64, 1), [status::HW_ERR1]);
    assert_eq!(bench.memory.peek(P, RECORDS + 96, 1), [status::SUCCESS]);
}

#[test]
fn a_delay_takes_its_time_and_ends_with_a_reset() {
    let bench = Bench::running(Kind::Dsa, 64);
    bench.memory.map(P, RECORDS, true);
    bench.device.inject(Injection::Delay { delay_us: 20_000 });
    let started = Instant::now();
    bench.execute(descriptor(opcode::NOOP, RECORDS));
    assert!(started.elapsed() >= Duration::from_millis(20));
    bench.device.inject(Injection::Delay { delay_us: u64::MAX });
    bench.submit(0, descriptor(opcode::NOOP, RECORDS));
    let device = Arc::clone(&bench.device);
    let engine = std::thread::spawn(move || device.step(0));
    while bench.device.state().engines[0].current.is_none() {
        std::thread::yield_now();
    }
    bench.device.reset();
    assert!(engine.join().unwrap());
}

#[test]
fn disable_and_enable_under_load_lose_nothing_silently() {
    let bench = Bench::running(Kind::Dsa, 4096);
    let threads = bench.device.start().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..3000 {
                bench.submit(0, descriptor(opcode::NOOP, 0x40_0000 + i * 32));
            }
            done.store(true, Ordering::SeqCst);
        });
        let wait = |code, operand| {
            let mut status = bench.command(code, operand);
            while status & cs::ACTIVE != 0 {
                std::thread::yield_now();
                status = bench.read32(regs::CMDSTATUS);
            }
            assert_eq!(status, cs::OK);
        };
        while !done.load(Ordering::SeqCst) {
            wait(c::DISABLE_WQ, 1);
            wait(c::ENABLE_WQ, 0);
            wait(c::DISABLE_DEVICE, 0);
            wait(c::ENABLE_DEVICE, 0);
            wait(c::ENABLE_WQ, 0);
        }
        wait(c::DRAIN_ALL, 0);
    });
    bench.device.stop();
    threads.into_iter().for_each(|t| t.join().unwrap());
    let counters = bench.counters();
    assert_eq!(counters.event_log_entries + counters.entries_abandoned, counters.descriptors);
    assert_eq!(counters.descriptors + counters.dropped, 3000);
}

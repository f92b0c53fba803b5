//! All engines at once with everything that makes them wait: a small log, few batch identifiers, held page requests, drains; and
//! commands, halts and resets in between. Nobody may be left waiting.

use std::sync::mpsc;

use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::regs::{cmdstatus, command as c};
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::truth::Event;

const P: Option<u32> = Some(PASID);
const RECORDS: u64 = 0x8000;
const LISTS: u64 = 0x1_0000;
const PATIENCE: Duration = Duration::from_secs(30);

/// Half of the records fault; on WQ 1 they are asked for.
fn record(number: u64) -> u64 {
    if number.is_multiple_of(2) { RECORDS + number % 64 * 32 } else { 0x40_0000 + number * 32 }
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Submit { wq: u64, op: u8, elements: u32 },
    Command { code: u32, operand: u32 },
    Halt,
    FunctionReset,
}

fn action() -> impl Strategy<Value = Action> {
    let op = prop_oneof![Just(opcode::NOOP), Just(opcode::BATCH), Just(opcode::DRAIN)];
    let code = prop_oneof![
        Just(c::DRAIN_ALL),
        Just(c::DRAIN_PASID),
        Just(c::ABORT_ALL),
        Just(c::ABORT_WQ),
        Just(c::DRAIN_WQ)
    ];
    prop_oneof![
        60 => (0u64..2, op, 2u32..9).prop_map(|(wq, op, elements)| Action::Submit { wq, op, elements }),
        4 => (code, 1u32..4).prop_map(|(code, operand)| Action::Command { code, operand }),
        1 => Just(Action::Halt),
        1 => Just(Action::FunctionReset),
    ]
}

fn start(bench: &Bench) {
    bench.device.write_config(4, &6u16.to_le_bytes());
    bench.device.write_config(0x116, &[1, 0]);
    bench.device.write_config(0x124, &[1, 0]);
    bench.event_log(64);
    bench.group(0, 3, 0xf);
    bench.wq(0, 16, dedicated());
    bench.wq(1, 16, dedicated() & !wqcfg::MODE_PRS_DISABLE | wqcfg::MODE_BLOCK_ON_FAULT);
    bench.command(c::ENABLE_DEVICE, 0);
    (0..2).for_each(|wq| _ = bench.command(c::ENABLE_WQ, wq));
}

/// Until the command is done; what was refused is done too.
fn settled(bench: &Bench) {
    let until = Instant::now() + PATIENCE;
    while bench.read32(regs::CMDSTATUS) & cmdstatus::ACTIVE != 0 {
        assert!(Instant::now() < until, "a command never ends: {:#?}", bench.device.state().engines);
        std::thread::yield_now();
    }
}

fn act(bench: &Bench, number: u64, action: Action) {
    match action {
        Action::Submit { wq, op, elements } => {
            let list = LISTS + number % 16 * 0x400;
            for i in 0..u64::from(elements) {
                let element = descriptor(opcode::NOOP, record(number + i));
                bench.memory.poke(P, list + i * 64, element.as_bytes());
            }
            let transfer_size = elements;
            let d = Descriptor { source: list, transfer_size, ..descriptor(op, record(number)) };
            bench.submit(wq, d);
        }
        Action::Command { code, operand } => {
            bench.command(code, if code == c::DRAIN_PASID { PASID } else { operand });
            settled(bench);
        }
        Action::Halt => {
            bench.device.inject(Injection::Halt { reset: ResetType::Software });
            bench.command(c::RESET_DEVICE, 0);
            settled(bench);
            start(bench);
        }
        Action::FunctionReset => {
            bench.device.write_config(0x48, &[0, 0x80]);
            start(bench);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn nobody_is_left_waiting(actions in proptest::collection::vec(action(), 100..400)) {
        let bench = Bench::with(DeviceConfig { batch_identifiers: 2, ..DeviceConfig::default() });
        bench.memory.map(P, RECORDS, true);
        bench.pager.hold.store(true, Ordering::Relaxed);
        start(&bench);
        let threads = bench.device.start().unwrap();
        let (stop, stopped) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            // The guest: reads the log, answers page requests, some of them with no.
            let guest_bench = &bench;
            let guest = scope.spawn(move || {
                let bench = guest_bench;
                let mut answered = 0;
                while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    let (_, tail) = bench.head_tail();
                    bench.write32(regs::EVLSTATUS + 4, 1 << 30);
                    bench.write32(regs::EVLSTATUS, tail as u32);
                    let next = bench.pager.seen.lock().unwrap().get(answered).copied();
                    if let Some(PageRequest { pasid, address, group, .. }) = next {
                        answered += 1;
                        let no = answered % 3 == 0;
                        if !no {
                            bench.memory.map(Some(pasid), address, true);
                        }
                        let code = if no { ResponseCode::Invalid } else { ResponseCode::Success };
                        bench.device.page_response(Some(pasid), group, code);
                        if answered % 5 == 0 {
                            bench.memory.unmap(Some(pasid), address);
                        }
                    }
                    std::thread::yield_now();
                }
            });
            for (number, action) in actions.iter().enumerate() {
                act(&bench, number as u64, *action);
            }
            bench.command(c::DRAIN_ALL, 0);
            settled(&bench);
            drop(stop);
            guest.join().unwrap();
        });
        bench.device.stop();
        threads.into_iter().for_each(|t| t.join().unwrap());
        let lines = bench.truth();
        let count = |kind: fn(&Event) -> bool| lines.iter().filter(|l| kind(&l.event)).count();
        let begun = count(|e| matches!(e, Event::BatchBegin { .. }));
        prop_assert_eq!(count(|e| matches!(e, Event::BatchEnd { .. })), begun);
        // Two uses of one identifier never overlap.
        let mut busy = [None; 2];
        for line in &lines {
            match line.event {
                Event::BatchBegin { batch_id, generation, .. } => {
                    prop_assert_eq!(busy[usize::from(batch_id)].replace(generation), None);
                }
                Event::BatchEnd { batch_id, generation, .. } => {
                    prop_assert_eq!(busy[usize::from(batch_id)].take(), Some(generation));
                }
                _ => {}
            }
        }
        let state = bench.device.state();
        prop_assert!(state.outstanding().next().is_none());
    }
}

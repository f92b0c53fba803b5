//! A guest that does anything: no panic, and what was accepted is accounted for.

use dsascope_common::hw::descriptor::{flags, opcode};
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::truth::Event;

/// Where batches have their descriptors.
const LIST: u64 = 0x7000;
const LOG_SIZE: u64 = 0x2000;

#[derive(Clone, Debug)]
enum Action {
    Read {
        at: u64,
        bytes: usize,
    },
    Write {
        at: u64,
        data: Vec<u8>,
    },
    Config {
        at: u64,
        data: Vec<u8>,
    },
    Portal {
        at: u64,
        data: Vec<u8>,
    },
    Submit {
        wq: u64,
        words: [u64; 8],
    },
    Likely {
        wq: u64,
        op: u8,
        flags: u32,
        source: u64,
        destination: u64,
        size: u32,
        cr: u64,
    },
    Poke {
        at: u64,
        word: u64,
    },
    Map {
        page: u64,
        writable: bool,
    },
    Command {
        code: u32,
        operand: u32,
    },
    Head {
        head: u32,
    },
    Step {
        engine: usize,
    },
    Reset,
    FunctionReset,
    /// What a driver does to get a device going again.
    Start,
    /// A list of (operation, flags, record) for a batch, and the batch.
    Batch {
        wq: u64,
        flags: u32,
        cr: u64,
        elements: Vec<(u8, u32, u64)>,
    },
    Inject(Injection),
    /// How the next page request is answered.
    Prepare(Answer),
    /// An answer that nobody asked for, or not now.
    Answer {
        group: u16,
        code: ResponseCode,
    },
    Unmap {
        page: u64,
    },
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 4),
        proptest::collection::vec(any::<u8>(), 8),
        proptest::collection::vec(any::<u8>(), 0..80)
    ]
}

fn address() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..0x8000, 0u64..0x8000, any::<u64>(), Just(LOG)]
}

fn action() -> impl Strategy<Value = Action> {
    let register =
        prop_oneof![0u64..0x100, (0u64..0x200).prop_map(|r| r * 4), 0x400u64..0x820, 0u64..0x1_0000];
    prop_oneof![
        1 => (register.clone(), 0usize..20).prop_map(|(at, bytes)| Action::Read { at, bytes }),
        3 => (register, bytes()).prop_map(|(at, data)| Action::Write { at, data }),
        1 => (0u64..0x1000, bytes()).prop_map(|(at, data)| Action::Config { at, data }),
        1 => (0u64..0x2_0100, bytes()).prop_map(|(at, data)| Action::Portal { at, data }),
        1 => (0u64..8, any::<[u64; 8]>()).prop_map(|(wq, words)| Action::Submit { wq, words }),
        6 => (0u64..2, 0u8..0x21, 0u32..0x20, address(), address(), 0u32..0x2_0000, address()).prop_map(
            |(wq, op, flags, source, destination, size, cr)| Action::Likely {
                wq, op, flags, source, destination, size, cr: cr & !31 }),
        1 => (address(), any::<u64>()).prop_map(|(at, word)| Action::Poke { at, word }),
        1 => (0u64..8, any::<bool>()).prop_map(|(page, writable)| Action::Map { page, writable }),
        2 => (0u32..16, prop_oneof![0u32..4, any::<u32>()]).prop_map(|(code, operand)| Action::Command {
            code, operand: operand & 0xf_ffff }),
        2 => (0u32..70).prop_map(|head| Action::Head { head }),
        6 => (0usize..ENGINES).prop_map(|engine| Action::Step { engine }),
        1 => Just(Action::Reset),
        1 => Just(Action::FunctionReset),
        3 => Just(Action::Start),
        4 => (0u64..2, 0u32..0x20, address(),
              proptest::collection::vec((0u8..6, prop_oneof![Just(CR), 0u32..0x20], address()), 2..12)).prop_map(
            |(wq, flags, cr, elements)| Action::Batch { wq, flags, cr: cr & !31, elements }),
        1 => injection().prop_map(Action::Inject),
        2 => prop_oneof![Just(Answer::Serve), code().prop_map(Answer::Reply), Just(Answer::Refuse)]
            .prop_map(Action::Prepare),
        1 => (0u16..0x200, code()).prop_map(|(group, code)| Action::Answer { group, code }),
        1 => (0u64..8).prop_map(|page| Action::Unmap { page }),
    ]
}

fn code() -> impl Strategy<Value = ResponseCode> {
    prop_oneof![Just(ResponseCode::Success), Just(ResponseCode::Invalid), Just(ResponseCode::Failure)]
}

fn injection() -> impl Strategy<Value = Injection> {
    let reset = prop_oneof![
        Just(ResetType::Software),
        Just(ResetType::Flr),
        Just(ResetType::Warm),
        Just(ResetType::Cold)
    ];
    prop_oneof![
        reset.prop_map(|reset| Injection::Halt { reset }),
        (0u32..4).prop_map(|descriptors| Injection::HardwareErrors { descriptors }),
        (0u64..3).prop_map(|delay_us| Injection::Delay { delay_us }),
    ]
}

/// WQ 0 without page requests, WQ 1 with; nothing is asserted, because the device may refuse.
fn start(bench: &Bench) {
    bench.device.write_config(4, &6u16.to_le_bytes());
    bench.device.write_config(0x116, &[1, 0]);
    bench.device.write_config(0x124, &[2, 0]);
    bench.device.write_config(0x124, &[1, 0]);
    bench.event_log(LOG_SIZE);
    bench.group(0, 3, 0xf);
    bench.wq(0, 16, dedicated());
    bench.wq(1, 16, dedicated() & !wqcfg::MODE_PRS_DISABLE | wqcfg::MODE_BLOCK_ON_FAULT);
    bench.command(command::ENABLE_DEVICE, 0);
    bench.command(command::ENABLE_WQ, 0);
    bench.command(command::ENABLE_WQ, 1);
}

/// An engine that met a full log would wait for this thread: there must be room for all that a descriptor can report.
fn may_step(bench: &Bench) -> bool {
    let state = bench.device.state();
    let r = &state.registers;
    let size = r.log_size().max(1);
    let used = (r.tail + size - r.head % size) % size;
    !r.log_enabled() || size.saturating_sub(used) > 1100
}

fn act(bench: &Bench, action: Action) {
    let device = &bench.device;
    match action {
        Action::Read { at, bytes } => device.read_register(at, &mut vec![0; bytes]),
        Action::Write { at, data } => device.write_register(at, &data),
        Action::Config { at, data } => device.write_config(at, &data),
        Action::Portal { at, data } => device.write_portal(at, &data),
        Action::Submit { wq, words } => device.write_portal(wq * 0x4000, words.as_bytes()),
        Action::Likely { wq, op, flags, source, destination, size, cr } => {
            let d = Descriptor { source, destination, transfer_size: size, ..descriptor(op, cr) };
            bench.submit(wq, d.with(op, flags));
        }
        Action::Poke { at, word } => bench.memory.poke(Some(PASID), at & !7, &word.to_le_bytes()),
        Action::Map { page, writable } => bench.memory.map(Some(PASID), page * PAGE, writable),
        Action::Command { code, operand } => {
            bench.command(code, operand);
        }
        Action::Head { head } => bench.write32(regs::EVLSTATUS, head),
        Action::Step { engine } if may_step(bench) => {
            device.step(engine);
        }
        Action::Step { .. } => {}
        Action::Reset => device.reset(),
        Action::FunctionReset => device.write_config(0x48, &[0, 0x80]),
        Action::Start => start(bench),
        Action::Batch { wq, flags, cr, elements } => {
            for (i, (op, flags, cr)) in elements.iter().enumerate() {
                let element = descriptor(*op, *cr & !31).with(*op, *flags);
                bench.memory.poke(Some(PASID), LIST + i as u64 * 64, element.as_bytes());
            }
            let transfer_size = elements.len() as u32;
            let batch = Descriptor { source: LIST, transfer_size, ..descriptor(opcode::BATCH, cr) };
            bench.submit(wq, batch.with(opcode::BATCH, flags | flags::CRAV));
        }
        Action::Inject(injection) => device.inject(injection),
        Action::Prepare(answer) => bench.pager.answers.lock().unwrap().push_back(answer),
        Action::Answer { group, code } => device.page_response(None, group, code),
        Action::Unmap { page } => bench.memory.unmap(Some(PASID), page * PAGE),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_guest_breaks_the_device(actions in proptest::collection::vec(action(), 1..120)) {
        let config = DeviceConfig { batch_identifiers: 2, ..DeviceConfig::default() };
        let bench = Bench::with(config);
        start(&bench);
        for action in actions {
            act(&bench, action);
        }
        bench.device.stop();
        while (0..ENGINES).any(|engine| bench.device.step(engine)) {}
        let whole = |l: &&Line| matches!(l.event, Event::Descriptor { batch_index: None, .. });
        let accepted = bench.truth().iter().filter(whole).count() as u64;
        prop_assert_eq!(bench.device.state().next_sequence, accepted);
        let count = |kind: fn(&Event) -> bool| bench.truth().iter().filter(|l| kind(&l.event)).count();
        let begun = count(|e| matches!(e, Event::BatchBegin { .. }));
        prop_assert_eq!(count(|e| matches!(e, Event::BatchEnd { .. })), begun);
        let asked = count(|e| matches!(e, Event::PageRequest { .. }));
        prop_assert_eq!(bench.counters().page_requests as usize, asked);
        // Whatever is left in a queue belongs to a WQ that no engine serves any more.
        let state = bench.device.state();
        prop_assert!(state.engines.iter().all(|e| e.asked.is_none()));
        prop_assert!((0..WQS).all(|wq| state.wqs[wq].queue.is_empty() || state.engines_of(wq) == 0));
    }
}

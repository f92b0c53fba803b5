//! A guest that does anything: no panic, and what was accepted is accounted for.

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::truth::Event;

#[derive(Clone, Debug)]
enum Action {
    Read { at: u64, bytes: usize },
    Write { at: u64, data: Vec<u8> },
    Config { at: u64, data: Vec<u8> },
    Portal { at: u64, data: Vec<u8> },
    Submit { wq: u64, words: [u64; 8] },
    Likely { wq: u64, op: u8, flags: u32, source: u64, destination: u64, size: u32, cr: u64 },
    Poke { at: u64, word: u64 },
    Map { page: u64, writable: bool },
    Command { code: u32, operand: u32 },
    Head { head: u32 },
    Step { engine: usize },
    Reset,
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
    ]
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
        // An engine that met a full log would wait for this thread.
        Action::Step { engine } if !device.state().registers.log_full() => {
            device.step(engine);
        }
        Action::Step { .. } => {}
        Action::Reset => device.reset(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_guest_breaks_the_device(actions in proptest::collection::vec(action(), 1..120)) {
        let bench = Bench::running(Kind::Dsa, 0x8000);
        for action in actions {
            act(&bench, action);
        }
        bench.device.stop();
        while (0..ENGINES).any(|engine| bench.device.step(engine)) {}
        let whole = |l: &&Line| matches!(l.event, Event::Descriptor { batch_index: None, .. });
        let accepted = bench.truth().iter().filter(whole).count() as u64;
        prop_assert_eq!(bench.device.state().next_sequence, accepted);
        // Whatever is left in a queue belongs to a WQ that no engine serves any more.
        let state = bench.device.state();
        prop_assert!((0..WQS).all(|wq| state.wqs[wq].queue.is_empty() || state.engines_of(wq) == 0));
    }
}

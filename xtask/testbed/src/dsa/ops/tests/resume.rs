//! Every operation against its reference, and with holes in memory against itself: the submitter's arithmetic resumes what the device
//! left, and the end is that of a run without holes.

use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::operation::{CreateDelta, Dif, Tags, crc, fill};
use dsascope_submit::reference::{self, Expected};
use dsascope_submit::{DeltaPart, Progress, Step, rebase_delta};
use proptest::prelude::*;

use super::*;

/// Memory in four parts: source, second source or record, destination, second destination.
const PART: u64 = 16 * PAGE;
const ONE: u64 = 0;
const TWO: u64 = PART;
const THREE: u64 = 2 * PART;
const FOUR: u64 = 3 * PART;

/// A descriptor and the memory it finds.
#[derive(Clone, Debug)]
struct Case {
    memory: Vec<u8>,
    descriptor: Descriptor,
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![0..PAGE, Just(0), Just(PAGE - 1), PAGE - 16..PAGE]
}

fn size() -> impl Strategy<Value = u32> {
    prop_oneof![1..64u32, 1..0x9000u32, Just(0x1000), Just(0x2000)]
}

fn copies() -> impl Strategy<Value = Case> {
    let op = prop_oneof![Just(opcode::MEMMOVE), Just(opcode::COPY_CRC)];
    (op, offset(), offset(), size(), any::<u64>(), any::<u32>(), 0..8u32).prop_map(
        |(op, from, to, size, seed, crc_seed, crc_flags)| {
            let memory = noise(seed);
            let mut d = operation(op, ONE + from, THREE + to, size);
            if op == opcode::COPY_CRC {
                d = d.with(op, CR | crc_flags << 16);
                d.operation_specific = [u64::from(crc_seed), 0, 0];
                if d.flags() & crc::FLAG_READ_SEED != 0 {
                    d.operation_specific[1] = BASE + TWO + from;
                }
            }
            Case { memory, descriptor: d }
        },
    )
}

/// Source and destination overlap.
fn overlapping() -> impl Strategy<Value = Case> {
    (offset(), 0..0x9000u64, size(), any::<u64>()).prop_map(|(from, distance, size, seed)| {
        let (a, b) = (ONE + from, ONE + from + distance);
        let (source, destination) = if seed & 2 == 0 { (a, b) } else { (b, a) };
        Case { memory: noise(seed), descriptor: operation(opcode::MEMMOVE, source, destination, size) }
    })
}

fn fills() -> impl Strategy<Value = Case> {
    (offset(), size(), any::<[u64; 2]>(), any::<bool>()).prop_map(|(to, size, pattern, long)| {
        let mut d = operation(opcode::MEMFILL, 0, THREE + to, size);
        d.source = pattern[0];
        if long {
            d = d.with(opcode::MEMFILL, CR | fill::FLAG_PATTERN_16);
            d.operation_specific[0] = pattern[1];
        }
        Case { memory: noise(1), descriptor: d }
    })
}

fn dualcasts() -> impl Strategy<Value = Case> {
    (offset(), offset(), size(), any::<u64>()).prop_map(|(from, to, size, seed)| {
        let mut d = operation(opcode::DUALCAST, ONE + from, THREE + to, size);
        d.operation_specific[0] = BASE + FOUR + to;
        Case { memory: noise(seed), descriptor: d }
    })
}

/// Equal but for one place, if that lies inside.
fn comparisons() -> impl Strategy<Value = Case> {
    let values = (offset(), offset(), size(), 0..0x9000usize, any::<(u64, bool, bool)>(), 0..2u64);
    values.prop_map(|(from, to, size, place, (pattern, checked, with_pattern), expected)| {
        let mut memory = noise(pattern);
        let op = if with_pattern { opcode::COMPVAL } else { opcode::COMPARE };
        let mut d = operation(op, ONE + from, TWO + to, size);
        for i in 0..size as usize {
            let byte =
                if with_pattern { pattern.to_le_bytes()[i % 8] } else { memory[(TWO + to) as usize + i] };
            memory[from as usize + i] = byte;
        }
        memory[from as usize + place] ^= 0x40;
        if with_pattern {
            d.destination = pattern;
        }
        if checked {
            d = d.with(op, CR | flags::CHECK_RESULT);
            d.operation_specific[0] = expected;
        }
        Case { memory, descriptor: d }
    })
}

fn delta_creations() -> impl Strategy<Value = Case> {
    let places = proptest::collection::vec(0..0x9000usize, 0..200);
    let room = prop_oneof![Just(4000u32), 80..400u32];
    (0..512u64, 0..512u64, 0..512u64, 1..0x1200u32, places, room, 0..16u8).prop_map(
        |(from, two, record, eights, places, max_record_bytes, expected)| {
            let mut memory = noise(3);
            let (from, two) = (ONE + from * 8, TWO + two * 8);
            memory.copy_within(from as usize..(from + PART / 2 + PAGE) as usize, two as usize);
            places.into_iter().for_each(|place| memory[two as usize + place] ^= 1);
            let mut d = operation(opcode::CR_DELTA, from, two, eights * 8);
            let record_addr = BASE + THREE + record * 8;
            d.operation_specific =
                CreateDelta { record_addr, max_record_bytes, expected_results: expected & 7 }.words();
            if expected & 8 != 0 {
                d = d.with(opcode::CR_DELTA, CR | flags::CHECK_RESULT);
            }
            Case { memory, descriptor: d }
        },
    )
}

fn delta_applications() -> impl Strategy<Value = Case> {
    let steps = proptest::collection::vec(prop_oneof![40 => 1..30u16, 1 => 0..1u16], 1..300);
    (0..512u64, 0..512u64, 1..0x1200u32, steps).prop_map(|(record, to, eights, steps)| {
        let mut memory = noise(5);
        let (record, to) = (ONE + record * 8, THREE + to * 8);
        let mut offset = 0u16;
        for (i, step) in steps.iter().enumerate() {
            memory[record as usize + i * 10..][..2].copy_from_slice(&offset.to_le_bytes());
            offset += step;
        }
        let mut d = operation(opcode::AP_DELTA, record, to, eights * 8);
        d.operation_specific[0] = steps.len() as u64 * 10;
        Case { memory, descriptor: d }
    })
}

fn reads() -> impl Strategy<Value = Case> {
    let op = prop_oneof![Just(opcode::CRCGEN), Just(opcode::CFLUSH), Just(opcode::TRANSL_FETCH)];
    (op, offset(), size(), any::<(u64, u32)>(), 0..8u32).prop_map(
        |(op, at, size, (seed, word), crc_flags)| {
            let mut d = operation(op, ONE + at, ONE + at, size);
            match op {
                opcode::CFLUSH => d.source = 0,
                opcode::CRCGEN => {
                    d = d.with(op, CR | crc_flags << 16);
                    d.operation_specific[0] = u64::from(word);
                    if d.flags() & crc::FLAG_READ_SEED != 0 {
                        d.operation_specific[1] = BASE + TWO + at;
                    }
                    d.destination = 0;
                }
                _ => {
                    d.operation_specific[1] = u64::from(word & 0x3000);
                    d.destination = 0;
                }
            }
            Case { memory: noise(seed), descriptor: d }
        },
    )
}

fn tags() -> impl Strategy<Value = Tags> {
    let reference = prop_oneof![any::<u32>(), Just(u32::MAX)];
    (reference, prop_oneof![Just(0), any::<u16>()], any::<u16>()).prop_map(
        |(reference, application_mask, application)| Tags { reference, application_mask, application },
    )
}

/// Blocks with good fields, but perhaps for one.
fn integrity() -> impl Strategy<Value = Case> {
    let op = proptest::sample::select(vec![
        opcode::DIF_CHECK,
        opcode::DIF_INS,
        opcode::DIF_STRP,
        opcode::DIF_UPDT,
        opcode::DIX_GEN,
    ]);
    let spoiled = proptest::option::weighted(0.3, (0..8usize, 0..8usize, any::<bool>()));
    let values = (op, offset(), offset(), 1..9u32, any::<(u8, u8, u8)>(), tags(), tags(), spoiled);
    values.prop_map(|(op, from, to, blocks, (source_flags, destination_flags, dif_flags), a, b, spoiled)| {
        let mut own =
            Dif { source_flags, destination_flags, flags: dif_flags & 0xf, source: a, destination: b };
        let reads = !matches!(op, opcode::DIF_INS | opcode::DIX_GEN);
        let writes = !matches!(op, opcode::DIF_CHECK | opcode::DIF_STRP);
        let block = own.block_bytes() as usize;
        let step = if reads { block + 8 } else { block };
        let mut memory = noise(7);
        let mut source = a;
        for i in (0..blocks as usize).filter(|_| reads) {
            let at = from as usize + i * step;
            let field = reference::field(&own, &memory[at..at + block], source.application, source.reference);
            memory[at + block..at + step].copy_from_slice(&field);
            source.reference = source.reference.wrapping_add(u32::from(source_flags >> 7 == 0));
            source.application = source.application.wrapping_add(u16::from(source_flags >> 4 & 1));
        }
        if let Some((i, byte, all)) = spoiled {
            let at = from as usize + i % blocks as usize * step + block;
            if all { memory[at..at + 8].fill(0xff) } else { memory[at + byte] ^= 0x10 }
        }
        if !reads {
            (own.source_flags, own.source) = (0, Tags::default());
        }
        if !writes {
            (own.destination_flags, own.destination) = (0, Tags::default());
        }
        own.destination_flags &= if op == opcode::DIF_UPDT { 0xf8 } else { 0x90 };
        let mut d = operation(op, ONE + from, THREE + to, blocks * step as u32);
        d.operation_specific = own.words();
        if op == opcode::DIF_CHECK {
            d.destination = 0;
        }
        Case { memory, descriptor: d }
    })
}

fn cases() -> impl Strategy<Value = Case> {
    prop_oneof![
        copies(),
        overlapping(),
        fills(),
        dualcasts(),
        comparisons(),
        delta_creations(),
        delta_applications(),
        reads(),
        integrity()
    ]
}

/// A page, and whether it is absent or only read-only.
fn holes() -> impl Strategy<Value = Vec<(usize, bool)>> {
    // The first pages of each part, where most operands lie.
    let page = (0..4usize, 0..12usize).prop_map(|(part, page)| part * 16 + page);
    proptest::collection::vec((page, proptest::bool::weighted(0.7)), 0..24)
}

/// Run, mend, resume until the end: how all of it ended, or none if the rest does not fit a descriptor.
fn run_through_holes(arena: &Arena, first: &Descriptor) -> Option<Expected> {
    let mut progress = Progress::new(*first);
    for _ in 0..=2 * PAGES {
        let c = dsa(arena, progress.descriptor());
        if let Some(DeltaPart { address, bytes, compared }) = progress.delta_part(&c) {
            arena.change(address, |memory| assert!(rebase_delta(&mut memory[..bytes as usize], compared)));
        }
        let room = CreateDelta::from_words(&progress.descriptor().operation_specific).max_record_bytes;
        match progress.take(&c) {
            Step::Done(all) => return Some(all),
            Step::Resume { fault_addr, write } => arena.mend(fault_addr, write),
            Step::Stuck => {
                assert!(first.opcode() == opcode::CR_DELTA && room - c.delta_record_bytes() < 80);
                return None;
            }
        }
    }
    panic!("no end: {progress:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn operations_do_what_the_reference_does(case in cases()) {
        let Case { mut memory, descriptor } = case;
        let arena = Arena::new(&memory);
        let device = Expected::from(&dsa(&arena, &descriptor));
        let expected = reference::execute(&mut memory, BASE, &descriptor);
        prop_assert_eq!(device, expected);
        prop_assert!(arena.bytes() == memory, "memory differs");
    }

    #[test]
    fn resuming_ends_as_if_there_were_no_holes(case in cases(), holes in holes()) {
        let Case { memory, descriptor } = case;
        let whole = Arena::new(&memory);
        let without = Expected::from(&dsa(&whole, &descriptor));
        let arena = Arena::with_holes(&memory, &holes);
        if let Some(all) = run_through_holes(&arena, &descriptor) {
            prop_assert_eq!(all, without);
            prop_assert!(arena.bytes() == whole.bytes(), "memory differs");
        }
    }
}

#[test]
fn a_hole_in_each_operand_is_a_partial_completion() {
    let mut memory = noise(11);
    // A record of eight entries, and good fields for one block of 512 bytes.
    for i in 0..8u16 {
        memory[TWO as usize + usize::from(i) * 10..][..2].copy_from_slice(&i.to_le_bytes());
    }
    let own = Dif::default();
    let field = reference::field(&own, &memory[..512], 0, 0);
    memory[512..520].copy_from_slice(&field);
    let [one, two, three, four] = [ONE, TWO, THREE, FOUR];
    let with = |d: Descriptor, words| Descriptor { operation_specific: words, ..d };
    let delta = CreateDelta { record_addr: BASE + four, max_record_bytes: 4000, expected_results: 0 }.words();
    let seeded = operation(opcode::CRCGEN, one, 0, 64).with(opcode::CRCGEN, CR | crc::FLAG_READ_SEED);
    let seeded = Descriptor { destination: 0, ..with(seeded, [0, BASE + two, 0]) };
    let check = Descriptor { destination: 0, ..operation(opcode::DIF_CHECK, one, 0, 520) };
    let flush = Descriptor { source: 0, ..operation(opcode::CFLUSH, 0, three, 64) };
    let fetch = Descriptor { destination: 0, ..operation(opcode::TRANSL_FETCH, one, 0, 64) };
    // Each with what it reads and what it writes.
    let table: [(Descriptor, &[u64], &[u64]); 15] = [
        (operation(opcode::MEMMOVE, one, three, 64), &[one], &[three]),
        (operation(opcode::MEMFILL, one, three, 64), &[], &[three]),
        (operation(opcode::COMPARE, one, two, 64), &[one, two], &[]),
        (operation(opcode::COMPVAL, one, two, 64), &[one], &[]),
        (with(operation(opcode::CR_DELTA, one, two, 64), delta), &[one, two], &[four]),
        (with(operation(opcode::AP_DELTA, two, three, 64), [80, 0, 0]), &[two], &[three]),
        (with(operation(opcode::DUALCAST, one, three, 64), [BASE + four, 0, 0]), &[one], &[three, four]),
        (seeded, &[one, two], &[]),
        (operation(opcode::COPY_CRC, one, three, 64), &[one], &[three]),
        (check, &[one], &[]),
        (operation(opcode::DIF_INS, one, three, 512), &[one], &[three]),
        (operation(opcode::DIF_STRP, one, three, 520), &[one], &[three]),
        (operation(opcode::DIF_UPDT, one, three, 520), &[one], &[three]),
        (operation(opcode::DIX_GEN, one, three, 512), &[one], &[three]),
        (flush, &[three], &[]),
    ];
    let fetch: [(Descriptor, &[u64], &[u64]); 1] = [(fetch, &[one], &[])];
    for (d, reads, writes) in table.iter().chain(&fetch) {
        let status_with = |hole: u64, absent: bool| {
            let c = dsa(&Arena::with_holes(&memory, &[((hole / PAGE) as usize, absent)]), d);
            if is_partial(c.status) {
                assert_eq!((c.fault_addr, c.bytes_completed), (BASE + hole, 0), "{:#x}", d.opcode());
            }
            c.status
        };
        for operand in [one, two, three, four] {
            let is_read = reads.contains(&operand);
            let is_written = writes.contains(&operand);
            let absent = if is_read {
                0x03
            } else if is_written {
                0x83
            } else {
                0x01
            };
            let read_only = if is_written { 0x83 } else { 0x01 };
            assert_eq!(status_with(operand, true), absent, "{:#x} {operand:#x}", d.opcode());
            assert_eq!(status_with(operand, false), read_only, "{:#x} {operand:#x}", d.opcode());
        }
    }
}

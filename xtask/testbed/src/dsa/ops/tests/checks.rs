//! Bad fields and their statuses; descriptors of any kind.

use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::operation::{CreateDelta, Dif, Iax, Tags, crc, dif, fill, iax as formats};
use proptest::prelude::*;

use dsascope_submit::reference;

use super::*;

const SIZE: u32 = 512;

/// A descriptor of each operation that passes all checks.
fn good(op: u8) -> Descriptor {
    let d = operation(op, 0, 0x8000, SIZE);
    let words = match op {
        opcode::CR_DELTA => {
            CreateDelta { record_addr: BASE + 0x1_0000, max_record_bytes: 80, expected_results: 0 }.words()
        }
        opcode::AP_DELTA => [10, 0, 0],
        opcode::DUALCAST => [BASE + 0x1_0000, 0, 0],
        opcode::IAX_COMPRESS => Iax {
            source2: BASE + 0x1_0000,
            source2_bytes: 1568,
            max_destination_bytes: 4096,
            ..Iax::default()
        }
        .words(),
        opcode::IAX_DECOMPRESS => Iax { max_destination_bytes: 4096, ..Iax::default() }.words(),
        _ => [0; 3],
    };
    let d = Descriptor { operation_specific: words, ..d };
    let with_field = |d: Descriptor| Descriptor { transfer_size: SIZE + 8, ..d };
    match op {
        opcode::NOOP => Descriptor { source: 0, destination: 0, transfer_size: 0, ..d },
        opcode::BATCH => Descriptor { destination: 0, transfer_size: 2, ..d },
        opcode::CFLUSH => Descriptor { source: 0, ..d },
        opcode::TRANSL_FETCH | opcode::CRCGEN | opcode::IAX_CRC64 => Descriptor { destination: 0, ..d },
        opcode::DIF_CHECK => Descriptor { destination: 0, ..with_field(d) },
        opcode::DIF_STRP | opcode::DIF_UPDT => with_field(d),
        opcode::IAX_COMPRESS => Descriptor { reserved: formats::COMPRESS_FLUSH_OUTPUT, ..d }
            .with(op, CR | formats::FLAG_READ_AECS),
        opcode::IAX_DECOMPRESS => {
            Descriptor { reserved: formats::DECOMPRESS_ENABLE | formats::DECOMPRESS_FLUSH_OUTPUT, ..d }
        }
        _ => d,
    }
}

fn check(kind: Kind, d: &Descriptor) -> u8 {
    let config = config();
    let arena = Arena::new(&vec![0; PAGES * PAGE as usize]);
    let context = Context { kind, dma: &arena, pasid: None, config: &config, in_batch: false };
    context.check(d).err().map_or(status::SUCCESS, |refused| refused.status)
}

fn dsa_status(change: impl FnOnce(Descriptor) -> Descriptor, op: u8) -> u8 {
    check(Kind::Dsa, &change(good(op)))
}

#[test]
fn good_descriptors_pass_and_other_kinds_opcodes_do_not() {
    for kind in [Kind::Dsa, Kind::Iax] {
        for op in 0..=u8::MAX {
            let expected = if kind.operations().contains(&op) { status::SUCCESS } else { status::BAD_OPCODE };
            // Its check belongs with its execution, in the engine.
            if op != opcode::DRAIN {
                assert_eq!(check(kind, &good(op)), expected, "{kind:?} {op:#x}");
            }
        }
    }
}

#[test]
fn every_operation_has_reserved_fields() {
    for kind in [Kind::Dsa, Kind::Iax] {
        for op in kind.operations().iter().copied().filter(|op| *op != opcode::DRAIN) {
            let d = good(op);
            let pasid = Descriptor { pasid: 1 << 20, ..d };
            assert_eq!(check(kind, &pasid), status::NOZERO_RESERVE, "{op:#x}");
            let own = !matches!(op, opcode::IAX_COMPRESS | opcode::IAX_DECOMPRESS);
            let last = Descriptor { operation_specific: [0, 0, 0], ..d };
            let last = match op {
                // Their last word is tags or a polynomial.
                opcode::DIF_INS | opcode::DIX_GEN => Descriptor { operation_specific: [0, 1, 0], ..last },
                opcode::DIF_UPDT => Descriptor { operation_specific: [1 << 24, 0, 0], ..last },
                opcode::IAX_CRC64 => Descriptor { operation_specific: [1, 0, 0], ..last },
                opcode::IAX_COMPRESS | opcode::IAX_DECOMPRESS => {
                    let mut words = d.operation_specific;
                    words[2] = 1 << 32;
                    Descriptor { operation_specific: words, ..d }
                }
                _ => Descriptor { operation_specific: [0, 0, 1 << 63], ..last },
            };
            assert_eq!(check(kind, &last), status::NOZERO_RESERVE, "{op:#x}");
            if own && op != opcode::IAX_CRC64 {
                let reserved = Descriptor { reserved: 1, ..d };
                assert_eq!(check(kind, &reserved), status::NOZERO_RESERVE, "{op:#x}");
            }
        }
    }
    let source = |d| Descriptor { source: 1, ..d };
    let destination = |d| Descriptor { destination: 1, ..d };
    for op in [opcode::NOOP, opcode::CFLUSH] {
        assert_eq!(dsa_status(source, op), status::NOZERO_RESERVE);
    }
    for op in [opcode::NOOP, opcode::BATCH, opcode::TRANSL_FETCH, opcode::CRCGEN, opcode::DIF_CHECK] {
        assert_eq!(dsa_status(destination, op), status::NOZERO_RESERVE);
    }
    let seed_addr = |d| Descriptor { operation_specific: [0, BASE, 0], ..d };
    assert_eq!(dsa_status(seed_addr, opcode::CRCGEN), status::NOZERO_RESERVE);
    let seeded = |d| seed_addr(d).with(opcode::CRCGEN, CR | crc::FLAG_READ_SEED);
    assert_eq!(dsa_status(seeded, opcode::CRCGEN), status::SUCCESS);
    let upper = |d| Descriptor { operation_specific: [1, 0, 0], ..d };
    assert_eq!(dsa_status(upper, opcode::MEMFILL), status::NOZERO_RESERVE);
    let long = |d| upper(d).with(opcode::MEMFILL, CR | fill::FLAG_PATTERN_16);
    assert_eq!(dsa_status(long, opcode::MEMFILL), status::SUCCESS);
}

#[test]
fn flags_that_an_operation_does_not_know_are_named() {
    let arena = Arena::new(&vec![0; PAGES * PAGE as usize]);
    for (op, flag) in [
        (opcode::NOOP, flags::CACHE_CONTROL),
        (opcode::MEMMOVE, flags::CHECK_RESULT),
        (opcode::MEMMOVE, flags::ADDR3_TC),
        (opcode::COMPARE, flags::CACHE_CONTROL),
        (opcode::COMPVAL, flags::ADDR2_TC),
        (opcode::CRCGEN, flags::DESTINATION_READBACK),
        (opcode::CR_DELTA, crc::FLAG_READ_SEED),
        (opcode::DIF_CHECK, flags::STRICT_ORDER),
        (opcode::BATCH, flags::FENCE),
        (opcode::CFLUSH, 1 << 6),
        (opcode::DUALCAST, 1 << 23),
    ] {
        let d = good(op);
        let c = dsa(&arena, &d.with(op, d.flags() | flag));
        assert_eq!((c.status, c.invalid_flags()), (status::INVALID_FLAGS, flag), "{op:#x}");
    }
    let without_aecs = good(opcode::IAX_COMPRESS).with(opcode::IAX_COMPRESS, CR);
    let c = iax(&arena, &without_aecs);
    assert_eq!((c.status, c.invalid_flags), (status::INVALID_FLAGS, formats::FLAG_READ_AECS));
    let fenced = good(opcode::MEMMOVE).with(opcode::MEMMOVE, CR | flags::FENCE);
    assert_eq!(iax(&arena, &fenced).invalid_flags, flags::FENCE, "IAA has no batches");
}

#[test]
fn sizes_are_held_against_the_wq_and_the_operation() {
    let sized = |size| move |d| Descriptor { transfer_size: size, ..d };
    for op in Kind::Dsa.operations().iter().copied() {
        let error = match op {
            opcode::NOOP | opcode::DRAIN => continue,
            opcode::BATCH => status::DESC_CNT_ERANGE,
            _ => status::XFER_ERANGE,
        };
        assert_eq!(dsa_status(sized(0), op), error, "{op:#x}");
        assert_eq!(dsa_status(sized(0x8000_0001), op), error, "{op:#x}");
    }
    for op in [opcode::CR_DELTA, opcode::AP_DELTA] {
        assert_eq!(dsa_status(sized(12), op), status::XFER_ERANGE);
        assert_eq!(dsa_status(sized(0x8_0008), op), status::XFER_ERANGE);
    }
    for op in [opcode::DIF_CHECK, opcode::DIF_STRP, opcode::DIF_UPDT] {
        assert_eq!(dsa_status(sized(512), op), status::XFER_ERANGE);
        assert_eq!(dsa_status(sized(1040), op), status::SUCCESS);
    }
    for op in [opcode::DIF_INS, opcode::DIX_GEN] {
        assert_eq!(dsa_status(sized(520), op), status::XFER_ERANGE);
        let wide = Dif { flags: 1, ..Dif::default() }.words();
        let wide = |d| Descriptor { operation_specific: wide, transfer_size: 520, ..d };
        assert_eq!(dsa_status(wide, op), status::SUCCESS);
    }
}

#[test]
fn delta_records_have_room_and_whole_entries() {
    let with = |max_record_bytes| {
        let words =
            CreateDelta { record_addr: BASE + 0x1_0000, max_record_bytes, expected_results: 0 }.words();
        dsa_status(|d| Descriptor { operation_specific: words, ..d }, opcode::CR_DELTA)
    };
    assert_eq!([with(80), with(8192), with(79), with(0)], [1, 1, 0x15, 0x15]);
    let applied =
        |bytes| dsa_status(|d| Descriptor { operation_specific: [bytes, 0, 0], ..d }, opcode::AP_DELTA);
    assert_eq!([applied(10), applied(0), applied(15)], [1, 0x15, 0x15]);
}

#[test]
fn addresses_are_aligned() {
    let source = |d: Descriptor| Descriptor { source: d.source + 4, ..d };
    let destination = |d: Descriptor| Descriptor { destination: d.destination + 4, ..d };
    for op in [opcode::CR_DELTA, opcode::AP_DELTA] {
        assert_eq!(dsa_status(source, op), status::ADDR_ALIGN);
        assert_eq!(dsa_status(destination, op), status::ADDR_ALIGN);
    }
    assert_eq!(dsa_status(destination, opcode::DUALCAST), status::DCAST_ERR);
    assert_eq!(dsa_status(source, opcode::BATCH), status::DESCLIST_ALIGN);
}

#[test]
fn buffers_do_not_overlap() {
    let inside = |d: Descriptor| Descriptor { destination: d.source + u64::from(d.transfer_size) - 8, ..d };
    let before = |d: Descriptor| Descriptor { destination: d.source - 8, ..d };
    let behind = |d: Descriptor| Descriptor { destination: d.source + u64::from(d.transfer_size), ..d };
    for op in [opcode::COPY_CRC, opcode::DIF_INS, opcode::DIF_STRP, opcode::DIF_UPDT] {
        assert_eq!(dsa_status(inside, op), status::OVERLAP_BUFFERS, "{op:#x}");
        assert_eq!(dsa_status(before, op), status::OVERLAP_BUFFERS, "{op:#x}");
        assert_eq!(dsa_status(behind, op), status::SUCCESS, "{op:#x}");
    }
    let aliased = |d: Descriptor| Descriptor { operation_specific: [d.destination, 0, 0], ..d };
    assert_eq!(dsa_status(aliased, opcode::DUALCAST), status::OVERLAP_BUFFERS);
    let sources = |d: Descriptor| Descriptor { destination: d.source, ..d };
    assert_eq!(dsa_status(sources, opcode::CR_DELTA), status::SUCCESS, "what is only read may overlap");
    let into_source = |d: Descriptor| {
        let words =
            CreateDelta { record_addr: d.source + 8, max_record_bytes: 80, expected_results: 0 }.words();
        Descriptor { operation_specific: words, ..d }
    };
    assert_eq!(dsa_status(into_source, opcode::CR_DELTA), status::OVERLAP_BUFFERS);
    assert_eq!(dsa_status(sources, opcode::AP_DELTA), status::OVERLAP_BUFFERS);
    let end = Descriptor { source: u64::MAX - 8, destination: 0, ..good(opcode::COPY_CRC) };
    assert_eq!(check(Kind::Dsa, &end), status::OVERLAP_BUFFERS, "the source wraps into it");
}

#[test]
fn iaa_jobs_ask_only_for_what_is_modelled() {
    let status_of = |op, change: &dyn Fn(&mut Descriptor, &mut Iax)| {
        let mut d = good(op);
        let mut own = Iax::from_words(&d.operation_specific);
        change(&mut d, &mut own);
        d.operation_specific = own.words();
        check(Kind::Iax, &d)
    };
    for op in [opcode::IAX_COMPRESS, opcode::IAX_DECOMPRESS] {
        let comp = status::IAX_INVALID_COMP_FLAG;
        assert_eq!(status_of(op, &|d, _| d.reserved |= 1 << 12), comp);
        assert_eq!(status_of(op, &|d, _| d.reserved = 0), comp);
        assert_eq!(status_of(op, &|_, own| own.filter_flags = 1), status::IAX_INVALID_FILTER_FLAG);
        assert_eq!(status_of(op, &|_, own| own.max_destination_bytes = 0), status::XFER_ERANGE);
        assert_eq!(status_of(op, &|_, own| own.source2 |= 8), status::ADDR_ALIGN);
        assert_eq!(status_of(op, &|d, _| d.destination = d.source), status::OVERLAP_BUFFERS);
        let write_aecs = |d: &mut Descriptor, _: &mut Iax| *d = d.with(op, d.flags() | 1 << 18);
        assert_eq!(status_of(op, &write_aecs), status::INVALID_FLAGS);
    }
    assert_eq!(status_of(opcode::IAX_COMPRESS, &|_, own| own.source2_bytes = 1536), status::XFER_ERANGE);
    let aecs = |bytes| {
        let read = move |d: &mut Descriptor, own: &mut Iax| {
            *d = d.with(opcode::IAX_DECOMPRESS, CR | formats::FLAG_READ_AECS);
            (own.source2, own.source2_bytes) = (BASE + 0x1_0000, bytes);
        };
        status_of(opcode::IAX_DECOMPRESS, &read)
    };
    assert_eq!([aecs(0x1500), aecs(32), aecs(0), aecs(33), aecs(0x1520)], [1, 1, 0x13, 0x13, 0x13]);
}

#[test]
fn delta_entries_are_checked_when_applied() {
    let entry = |offset: u16| [&offset.to_le_bytes()[..], &[7; 8]].concat();
    let applied = |offsets: [u16; 3]| {
        let arena = Arena::new(&vec![0; PAGES * PAGE as usize]);
        arena.change(BASE, |memory| memory[..30].copy_from_slice(&offsets.map(entry).concat()));
        let d = Descriptor { operation_specific: [30, 0, 0], ..good(opcode::AP_DELTA) };
        let c = dsa(&arena, &d);
        (c.status, c.bytes_completed, arena.bytes()[0x8000])
    };
    assert_eq!(applied([0, 5, 63]), (status::SUCCESS, 30, 7));
    assert_eq!(applied([0, 5, 5]), (status::DR_OFFSET_NOINC, 20, 7));
    assert_eq!(applied([0, 5, 4]), (status::DR_OFFSET_NOINC, 20, 7));
    assert_eq!(applied([1, 64, 65]), (status::DR_OFFSET_ERANGE, 10, 0));
}

#[test]
fn integrity_errors_say_what_and_where() {
    let tags = Tags { reference: 9, application: 3, application_mask: 0 };
    let own = Dif { source: tags, ..Dif::default() };
    let two = |second: Vec<u8>, own: Dif| {
        let arena = Arena::new(&vec![0; PAGES * PAGE as usize]);
        let first = reference::field(&own, &[0; 512], 3, 9);
        arena.change(BASE + 512, |memory| memory[..8].copy_from_slice(&first));
        arena.change(BASE + 1032, |memory| memory[..8].copy_from_slice(&second));
        let d =
            Descriptor { transfer_size: 1040, operation_specific: own.words(), ..good(opcode::DIF_CHECK) };
        let c = dsa(&arena, &d);
        (c.status, c.result, c.bytes_completed, c.source_tags().reference)
    };
    let field = |application, reference| reference::field(&own, &[0; 512], application, reference);
    assert_eq!(two(field(3, 10), own), (status::SUCCESS, 0, 1040, 11));
    assert_eq!(two(field(3, 9), own), (status::DIF_ERR, dif::MISMATCH_REFERENCE, 520, 10));
    assert_eq!(two(field(4, 10), own), (status::DIF_ERR, dif::MISMATCH_APPLICATION, 520, 10));
    let all = dif::MISMATCH_GUARD | dif::MISMATCH_APPLICATION | dif::MISMATCH_REFERENCE;
    assert_eq!(two(vec![0xff; 8], own), (status::DIF_ERR, all, 520, 10));
    let skipping = Dif { source_flags: dif::SOURCE_ALL_F, ..own };
    assert_eq!(two(vec![0xff; 8], skipping).0, status::SUCCESS);
    let refusing = Dif { source_flags: dif::SOURCE_ALL_F | dif::SOURCE_ALL_F_ERROR, ..own };
    assert_eq!(two(vec![0xff; 8], refusing), (status::DIF_ERR, dif::ALL_F_DETECTED, 520, 10));
}

/// Any descriptor; most with a known operation, plausible flags and operands in memory.
fn any_descriptor() -> impl Strategy<Value = (Kind, Descriptor)> {
    let kind = prop_oneof![Just(Kind::Dsa), Just(Kind::Iax)];
    let address = || prop_oneof![3 => BASE..BASE + PAGES as u64 * PAGE, 1 => any::<u64>()];
    let word = || prop_oneof![2 => Just(0u64), 2 => 0..0x2_0000u64, 2 => address(), 1 => any::<u64>()];
    let values = (any::<prop::sample::Index>(), any::<u32>(), address(), address(), any::<u16>());
    (kind, values, [word(), word(), word()], 0..0x2_0000u32, any::<[bool; 4]>()).prop_map(
        |(kind, (op, flag, source, destination, reserved), words, size, [a, b, c, e])| {
            let d = good(*op.get(kind.operations()));
            let d = Descriptor {
                source: if a { source & !7 } else { d.source },
                destination: if b { destination & !7 } else { d.destination },
                transfer_size: if c { size } else { size & !7 },
                reserved: if e { reserved } else { d.reserved },
                operation_specific: if a && b { words } else { d.operation_specific },
                ..d
            };
            let flags = if e && c { flag } else { d.flags() };
            (kind, d.with(d.opcode(), flags))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn no_descriptor_panics((kind, d) in any_descriptor(), seed in any::<u64>(), hole in 0..PAGES) {
        let arena = Arena::with_holes(&noise(seed), &[(hole, true)]);
        let record = outcome(kind, &arena, &d).record(kind);
        prop_assert_eq!(record.len(), kind.cr_bytes());
        prop_assert_ne!(record[0], status::NONE);
    }

    #[test]
    fn no_sixty_four_bytes_panic(words in any::<[u64; 8]>()) {
        let d: Descriptor = zerocopy::transmute!(words);
        let arena = Arena::new(&noise(words[0]));
        for kind in [Kind::Dsa, Kind::Iax] {
            prop_assert_ne!(outcome(kind, &arena, &d).status, status::NONE);
        }
    }
}

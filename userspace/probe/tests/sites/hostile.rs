//! Files that lie: an error or fewer sites, never a panic, and never much time or memory.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use dsascope_probe::sites::{ScanErrorKind, scan};
use proptest::prelude::*;

use crate::sample::{OFFSET, Sample};

const MOVDIR64B: &[u8] = &[0x66, 0x0f, 0x38, 0xf8, 0x02];

/// Both functions submit; a note of dsascope's provider.
fn whole(bitness: u32) -> Vec<u8> {
    let code = [&[0xf2, 0x0f, 0x38, 0xf8, 0x02][..], &[0x74, 0xf9], MOVDIR64B, &[0xc3]].concat();
    let mut description = vec![0; if bitness == 64 { 24 } else { 12 }];
    description.extend(b"dsascope\0seen\08@%rdi 8@%rsi\0\0\0");
    let mut notes = [8, description.len() as u32, 3].map(u32::to_le_bytes).concat();
    notes.extend(b"stapsdt\0");
    notes.extend(description);
    Sample {
        notes,
        stapsdt_base: Some(0x1000),
        ..Sample::new(bitness).function("one", &code).function("two", &code)
    }
    .build()
}

fn sites(file: &[u8]) -> Option<usize> {
    scan("hostile", file).ok().map(|s| s.sites.len())
}

#[test]
fn a_file_cut_at_any_byte_has_no_more_than_the_whole() {
    for bitness in [64, 32] {
        let file = whole(bitness);
        assert_eq!(sites(&file), Some(4));
        // Zeros between the headers and the text differ in nothing.
        let padding = 0x100..OFFSET as usize;
        for length in (0..file.len()).filter(|length| !padding.contains(length)) {
            let error = scan("cut", &file[..length]).expect_err("the section table is the file's end");
            assert!(error.to_string().starts_with("cannot search cut for submissions: "), "{error}");
        }
    }
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    let kind = |file: &[u8]| scan("other", file).unwrap_err().kind;
    assert_eq!(kind(b""), ScanErrorKind::NotElf);
    assert_eq!(kind(b"#!/bin/sh\nexec true # and some more, as a file has\n"), ScanErrorKind::NotElf);
    let with = |at: usize, value: u8| {
        let mut file = whole(64);
        file[at] = value;
        file
    };
    assert_eq!(kind(&with(0x12, 183)), ScanErrorKind::Machine(183), "aarch64");
    assert_eq!(kind(&with(0x10, 1)), ScanErrorKind::NotAProgram, "an object file");
    // The segment's size in the file.
    assert!(matches!(kind(&with(0x40 + 0x20 + 7, 0x7f)), ScanErrorKind::Range { .. }));
}

#[test]
fn segments_that_share_bytes_are_refused() {
    let mut file = whole(64);
    // Two program headers: the same segment twice, the second 16 MiB further.
    file[0x38] = 2;
    let header: Vec<u8> = file[0x40..0x78].to_vec();
    file[0x78..0xb0].copy_from_slice(&header);
    file[0x78 + 0x13] = 1;
    assert_eq!(scan("twice", &file).unwrap_err().kind, ScanErrorKind::Overlap);
}

#[test]
fn a_file_full_of_submissions_is_refused() {
    let sample = Sample::new(64).function("one", &MOVDIR64B.repeat(1 << 15));
    assert_eq!(scan("full", &sample.build()).unwrap_err().kind, ScanErrorKind::TooMany);
}

#[test]
fn functions_upon_functions_cost_little() {
    // Each site has its own function, which reaches to the end of a text that is long and all ENQCMD or jumps.
    let unit: Vec<u8> = [&[0xf2, 0x0f, 0x38, 0xf8, 0x02][..], &[0xe9, 0, 0, 0, 0].repeat(20)].concat();
    let text = unit.repeat(9000);
    let count = text.len() / unit.len();
    let mut sample = Sample::new(64);
    sample.text = text;
    let end = sample.text.len();
    sample.functions =
        (0..count).map(|i| ("f", (i * unit.len()) as u64, (end - i * unit.len()) as u64)).collect();
    let file = sample.build();
    let start = Instant::now();
    let scan = scan("deep", &file).unwrap();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(scan.sites.len() + scan.unprobeable.len() + scan.dismissed, count);
}

#[test]
fn names_that_never_end_cost_little() {
    // All symbols have one name of 16 MiB.
    let name: &str = Box::leak("n".repeat(16 << 20).into_boxed_str());
    let mut sample = Sample::new(64).function(name, &[MOVDIR64B, &[0xc3]].concat());
    sample.functions.extend((0..100_000).map(|at| ("", 0x10_0000 + at, 1)));
    let mut file = sample.build();
    let entries = (OFFSET as usize + sample.text.len()).next_multiple_of(8);
    for symbol in 1..=sample.functions.len() {
        file[entries + symbol * 24] = 1;
    }
    let start = Instant::now();
    let scan = scan("names", &file).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(scan.sites[0].symbol.as_ref().unwrap().name.len(), 1024);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        wide in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0xff), Just(0)]), 1..12),
    ) {
        let mut file = whole(if wide { 64 } else { 32 });
        // Not in the padding, which nothing reads.
        let places: Vec<usize> = (0..0x100).chain(OFFSET as usize..file.len()).collect();
        for (place, value) in changes {
            file[*place.get(&places)] = value;
        }
        if let Ok(scan) = scan("changed", &file) {
            for site in scan.sites.iter().chain(&scan.covered) {
                // What is probed is a submission or a nop, whatever the headers say.
                let at = usize::try_from(site.file_offset).unwrap();
                let bytes = &file[at..];
                let opcode = bytes.iter().take(15).collect::<Vec<_>>().windows(3).any(|w| w == [&0x0f, &0x38, &0xf8]);
                prop_assert!(opcode || bytes.starts_with(&[0x90]) || bytes.starts_with(&[0x0f, 0x1f]));
            }
        }
    }

    #[test]
    fn changed_call_frame_information_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        sections in any::<bool>(),
    ) {
        /// And the places that are not among the zeros between its parts.
        static FILE: LazyLock<(Vec<u8>, Vec<usize>)> = LazyLock::new(|| {
            let file = crate::linked::stripped();
            let padding = |at: &usize| file[at.saturating_sub(8)..].iter().take(16).all(|b| *b == 0);
            let places = (0..file.len()).filter(|at| !padding(at)).collect();
            (file, places)
        });
        let (file, places) = &*FILE;
        let mut file = file.clone();
        if !sections {
            file[0x28..0x30].fill(0);
            file[0x3c..0x40].fill(0);
        }
        for (place, value) in changes {
            file[*place.get(places)] = value;
        }
        let _ = sites(&file);
    }

    #[test]
    fn whole_fields_of_any_value_never_panic(
        wide in any::<bool>(),
        field in any::<prop::sample::Index>(),
        value in prop_oneof![any::<u64>(), Just(u64::MAX), Just(1 << 63), Just(u64::MAX - OFFSET), 0_u64..0x3000],
    ) {
        let mut file = whole(if wide { 64 } else { 32 });
        let fields: Vec<usize> = (0..0x100).chain(OFFSET as usize..file.len() - 8).step_by(4).collect();
        let at = *field.get(&fields);
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let _ = sites(&file);
    }
}

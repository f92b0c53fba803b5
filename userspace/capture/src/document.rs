//! docs/capture.md says what the code does: its tables are held against the structures and lists here.

use std::mem::offset_of;

use crate::codec::{code, names, shape_bits};
use crate::layout::{BlockHeader, DICTIONARY, IndexEntry, MOST_RAW_BYTES, Preamble, Trailer, VERSION, kind};
use crate::reader::DamageKind;

const DOCUMENT: &str = include_str!("../../../docs/capture.md");

/// Rows of the tables below a heading, up to the next; cells without backticks.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let mut lines = DOCUMENT.lines().skip_while(|line| *line != format!("## {heading}"));
    assert!(lines.next().is_some(), "there is a part {heading}");
    let part = lines.take_while(|line| !line.starts_with("## "));
    let tables = part.filter(|line| line.starts_with('|') && !line.starts_with("|--"));
    tables
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect())
        .collect()
}

/// Rows below the header that begins with `first`, up to the next table.
fn table(heading: &str, first: &str, columns: usize) -> Vec<Vec<String>> {
    let mut rows = rows(heading).into_iter().skip_while(|row| row[0] != first || row.len() != columns);
    assert!(rows.next().is_some(), "there is a table of {first} in {heading}");
    rows.take_while(|row| row.len() == columns && row[0].starts_with(|c: char| c.is_ascii_digit())).collect()
}

/// Offset, size and name of each field; that none is left out is the pattern's to check.
macro_rules! fields {
    ($of:ident: $($field:ident),*) => {{
        let _ = |whole: $of| { let $of { $($field: _),* } = whole; };
        let offsets = [$(offset_of!($of, $field)),*, size_of::<$of>()];
        let names = [$(stringify!($field)),*];
        let row = |(ends, name): (&[usize], &&str)| vec![ends[0].to_string(), (ends[1] - ends[0]).to_string(), name.to_string()];
        offsets.windows(2).zip(&names).map(row).collect::<Vec<_>>()
    }};
}

fn layout(heading: &str) -> Vec<Vec<String>> {
    let mut rows = table(heading, "offset", 4);
    rows.iter_mut().for_each(|row| row.truncate(3));
    rows
}

#[test]
fn offsets() {
    assert_eq!(layout("Preamble"), fields!(Preamble: magic, version, reserved, crc));
    let header = fields!(BlockHeader: magic, version, kind, reserved, sequence, stored_bytes, raw_bytes, first_ns,
        last_ns, events, faults, events_before, faults_before, lost, holes, worst_ns, worst_event, carried,
        payload_crc, header_crc);
    assert_eq!(layout("Block"), header);
    assert_eq!(layout("Index"), fields!(IndexEntry: offset, header));
    assert_eq!(layout("Trailer"), fields!(Trailer: index, magic));
}

#[test]
fn columns() {
    let named: Vec<_> =
        table("Events", "no.", 4).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let have: Vec<_> =
        names().iter().enumerate().map(|(number, name)| (number.to_string(), (*name).to_owned())).collect();
    assert_eq!(named, have);
}

#[test]
fn codes() {
    let kinds: Vec<_> =
        table("Events", "Kind", 3).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect();
    let have = [
        (code::FAULT, "fault"),
        (code::INTERRUPT, "interrupt"),
        (code::PAGE_REQUEST, "page request"),
        (code::TICK, "tick"),
        (code::JSON, "any other, as its line of [json.md](json.md)'s event stream"),
        (code::SEEN, "seen"),
    ];
    assert_eq!(kinds, have.map(|(code, name)| (code.to_string(), name.to_owned())));
    let words = format!("{} header, {} events, {} index", kind::HEADER, kind::EVENTS, kind::INDEX);
    assert!(DOCUMENT.contains(&words), "{words}");
}

#[test]
fn bits_of_a_shape() {
    let told: Vec<_> = table("Events", "bits", 3)
        .into_iter()
        .map(|row| {
            let first = row[0].split('–').next().and_then(|number| number.parse().ok());
            (first.expect("a number"), row[1].clone())
        })
        .collect();
    assert_eq!(told, shape_bits().map(|(name, bit): (&str, u32)| (bit, name.to_owned())));
}

#[test]
fn limits_and_words() {
    let limits = [
        format!("describes version {VERSION},"),
        format!("version of the format: {VERSION}"),
        format!(
            "refuses more than {}, a writer makes at most {}",
            crate::codec::MOST_EVENTS,
            crate::block::MOST_EVENTS
        ),
        format!(
            "ends after {} events, {} MiB of text",
            crate::block::MOST_EVENTS,
            crate::block::MOST_TEXT_BYTES >> 20
        ),
        format!("after decompression; at most {} MiB", MOST_RAW_BYTES >> 20),
        format!("JSON (at most {} MiB)", crate::reader::MOST_META_BYTES >> 20),
        format!("After {} a table takes no more", crate::codec::TABLE),
        format!("how many new ones back, up to {}", crate::codec::STARTS),
        format!("{} bytes of CRC32C {:#x}", DICTIONARY.len(), crc32c::crc32c(DICTIONARY)),
    ];
    for words in limits {
        assert!(DOCUMENT.contains(&words), "{words}");
    }
    let damage: Vec<String> = rows("What cannot be read").into_iter().map(|row| row[0].clone()).collect();
    let kinds = [
        DamageKind::Preamble,
        DamageKind::Checksum,
        DamageKind::NoBlock,
        DamageKind::Malformed,
        DamageKind::Unwritten,
        DamageKind::Cut,
    ];
    assert_eq!(damage[1..], kinds.map(|kind| kind.name().to_owned()));
}

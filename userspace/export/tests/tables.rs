//! CSV, JSON and Parquet hold the same rows, whatever the events, and the books at their end.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use dsascope_common::hw::event_log::EntryHeader;
use dsascope_core::event::{Comm, Event, Fault, Hole, HoleKind, Open};
use dsascope_export::parquet::GROUP_ROWS;
use dsascope_export::row::{Date, Kind, Row, Time};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use proptest::prelude::*;
use serde_json::Value;
use support::faults::fault;
use support::script;

type Rows = Vec<Vec<Option<String>>>;

/// Cells as text, as CSV has them.
fn from_csv(bytes: &[u8]) -> Rows {
    let mut reader = csv::Reader::from_reader(bytes);
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    assert_eq!(header, Row::COLUMNS.iter().map(|column| column.name).collect::<Vec<_>>());
    let text = |text: &str| (!text.is_empty()).then(|| text.strip_prefix('\'').unwrap_or(text).to_owned());
    reader.records().map(|record| record.unwrap().iter().map(text).collect()).collect()
}

fn from_json(bytes: &[u8]) -> Rows {
    let text = str::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| {
            let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            assert_eq!(object.len(), Row::COLUMNS.len(), "{line}");
            Row::COLUMNS
                .iter()
                .map(|column| match &object[column.name] {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    other => Some(other.to_string()),
                })
                .collect()
        })
        .collect()
}

fn from_parquet(bytes: Vec<u8>) -> Rows {
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| {
        let row = row.unwrap();
        let cells = row.get_column_iter().zip(Row::COLUMNS).map(|((name, field), column)| {
            assert_eq!(name, column.name);
            Some(match (field, column.kind) {
                (Field::Null, _) => return None,
                (Field::Str(text), _) => text.clone(),
                (Field::Bool(value), _) => value.to_string(),
                (Field::UByte(value), Kind::U8) => value.to_string(),
                (Field::UShort(value), Kind::U16) => value.to_string(),
                (Field::UInt(value), Kind::U32) => value.to_string(),
                (Field::ULong(value), Kind::Word) => value.to_string(),
                (Field::Date(days), Kind::Date) => Date(*days).text().as_str().to_owned(),
                (Field::Long(ns), Kind::Time) => Time(*ns).text().as_str().to_owned(),
                (Field::Long(value), Kind::Integer) => value.to_string(),
                (other, kind) => panic!("{name} is {other:?}, not {kind:?}"),
            })
        });
        cells.collect()
    })
    .collect()
}

fn all(events: &[Event]) -> Rows {
    let rows = from_json(&support::json(events));
    assert_eq!(from_csv(&support::csv(events)), rows);
    assert_eq!(from_parquet(support::parquet(events)), rows);
    rows
}

fn cell<'a>(row: &'a [Option<String>], name: &str) -> Option<&'a str> {
    let place = Row::COLUMNS.iter().position(|column| column.name == name).unwrap();
    row[place].as_deref()
}

fn number(row: &[Option<String>], name: &str) -> u64 {
    cell(row, name).unwrap().parse().unwrap()
}

#[test]
fn every_fault_has_its_row_and_the_books_end_the_table() {
    let events = script::lossy(2, 17);
    let rows = all(&events);
    let of = |kind: &'static str| rows.iter().filter(move |row| cell(row, "kind") == Some(kind));
    let faults: Vec<&Fault> = events
        .iter()
        .filter_map(|event| match event {
            Event::Fault(fault) => Some(fault),
            _ => None,
        })
        .collect();
    assert_eq!(of("fault").count(), faults.len());
    for (row, fault) in of("fault").zip(&faults) {
        assert_eq!(number(row, "at_ns"), fault.at_ns);
        assert_eq!(number(row, "service_ns"), fault.durations().service.unwrap());
        assert!(cell(row, "comm").is_some() && cell(row, "cgroup_path").is_some());
    }
    let failed = faults.iter().filter(|fault| fault.copy.has_failed()).count();
    assert!(failed > 0);
    assert_eq!(of("fault").filter(|row| cell(row, "outcome") == Some("failed")).count(), failed);

    let hole: Vec<_> = of("hole").collect();
    assert_eq!(hole.len(), 1);
    assert_eq!(
        (cell(hole[0], "name"), number(hole[0], "count"), number(hole[0], "cpu")),
        (Some("ring_lost"), 17, 2)
    );
    let lost: Vec<_> = of("lost").collect();
    assert_eq!(lost.len(), 1);
    assert_eq!((cell(lost[0], "comm"), number(lost[0], "count")), (Some("redis-server"), 17));
    let kind = of("ledger").find(|row| cell(row, "name") == Some("fault")).unwrap();
    assert_eq!(number(kind, "seen"), number(kind, "sent") + number(kind, "lost"));
    assert_eq!(number(kind, "received"), faults.len() as u64);
    let last = rows.last().unwrap();
    assert_eq!((cell(last, "kind"), number(last, "count")), (Some("end"), 17));
}

#[test]
fn rows_do_not_depend_on_how_they_are_batched() {
    let rows = all(&script::lossy(20, 3));
    assert!(rows.len() > 3000);
    let faults = 2 * GROUP_ROWS as u64 + 100;
    let bytes = support::parquet(&script::busy(faults.div_ceil(180)));
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(RowGroupMetaData::num_rows).collect();
    assert_eq!(groups[..2], [GROUP_ROWS as i64; 2]);
    assert!(groups.len() == 3 && groups.iter().sum::<i64>() as u64 >= faults, "{groups:?}");
}

#[test]
fn nothing_at_all_still_has_its_books() {
    let rows = all(&script::empty());
    assert_eq!(cell(&rows[0], "kind"), Some("ledger"));
    assert_eq!(cell(rows.last().unwrap(), "name"), Some("unknown"));
}

#[test]
fn a_command_is_no_formula() {
    let mut events = script::busy(1);
    for event in &mut events {
        if let Event::Open(open) = event {
            open.comm = Comm::new("=1+1,\"x\"");
        }
    }
    let text = String::from_utf8(support::csv(&events)).unwrap();
    assert!(text.contains(",\"'=1+1,\"\"x\"\"\","), "{text}");
}

#[test]
fn memory_that_could_not_be_read_is_null() {
    let mut events = script::busy(1);
    for event in &mut events {
        if let Event::Fault(fault) = event {
            fault.entry = EntryHeader::default();
            fault.logged = [0; 64];
            fault.marks.read_failed = true;
        }
    }
    let rows = all(&events);
    for name in ["operation_code", "error_code", "record_address", "page_address", "status_code", "batch_id"]
    {
        assert_eq!(cell(&rows[0], name), None, "{name}");
    }
    assert_eq!(cell(&rows[0], "marks"), Some("read_failed"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn all_formats_hold_the_same_rows(
        faults in prop::collection::vec(fault(), 1..40),
        comm in "[a-z ,\"\n;=-]{0,15}",
        path in prop::option::of("\\PC{1,20}"),
    ) {
        let mut session = script::session();
        session.wall_at_zero_ns = 1_800_000_000_000_000_000;
        let mut events = vec![Event::Session(Box::new(session))];
        for (number, fault) in (0..).zip(faults) {
            if number % 3 == 0 {
                events.push(Event::Open(Open {
                    at_ns: fault.at_ns,
                    context: fault.context,
                    tgid: 5,
                    tid: 6,
                    cgroup: Some(u64::MAX - number),
                    cgroup_path: path.clone().map(|path| format!("/{path}")),
                    comm: Comm::new(&comm),
                    file: 0,
                    files: 1,
                    existing: false,
                }));
            }
            let what = if number % 2 == 0 { HoleKind::Evicted } else { HoleKind::RingLost { cpu: 3 } };
            events.push(Event::Hole(Hole { at_ns: fault.at_ns, what, count: number }));
            events.push(Event::Fault(fault));
        }
        let rows = all(&events);
        prop_assert!(rows.len() > events.len() / 3);
    }
}

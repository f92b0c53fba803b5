//! The filter language and the exports' table are of the same fields: what a row says of a fault, a filter finds in it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use dsascope_common::hw::event_log::EntryHeader;
use dsascope_core::event::{Event, Marks};
use dsascope_core::filter::{Field, Filter, Kind};
use dsascope_core::model::Model;
use dsascope_export::row::{Cell, Row, Rows};
use support::script;

/// Columns that are not about a fault, or another form of one that is.
const OTHERS: [&str; 10] =
    ["kind", "time", "date", "marks", "name", "count", "seen", "sent", "lost", "received"];

#[test]
fn every_column_of_a_fault_is_a_field() {
    for column in Row::COLUMNS {
        let is_field = Field::ALL.iter().any(|field| field.entry().column == column.name);
        assert_eq!(is_field, column.name == "marks" || !OTHERS.contains(&column.name), "{}", column.name);
    }
    for field in Field::ALL {
        let column = field.entry().column;
        let doc = Row::COLUMNS.iter().find(|other| other.name == column);
        assert!(doc.is_some(), "{column}");
    }
}

fn of_cell(field: Field, cell: Cell<'_>) -> String {
    let name = field.name();
    let unit = if matches!(field.kind(), Kind::Duration | Kind::Time) { "ns" } else { "" };
    match (field.kind(), cell) {
        (Kind::Bool, Cell::Text(marks)) => format!("{name} == {}", marks.split(' ').any(|mark| mark == name)),
        (Kind::Bool, Cell::Null) if field.entry().column == "marks" => format!("not {name}"),
        // A code without a name is known.
        (Kind::Constant(_), Cell::Null) => {
            format!("({name} is unknown or {name} !~ \"*\" or not {name} ~ \"*\")")
        }
        (_, Cell::Null) => format!("{name} is unknown"),
        (Kind::Constant(_), Cell::Text(text)) => format!("{name} == {text}"),
        (_, Cell::Text(text)) => format!("{name} == {text:?}"),
        (_, Cell::Bool(value)) => format!("{name} == {value}"),
        (_, Cell::Small(number)) => format!("{name} == {number}"),
        (_, Cell::Integer(number) | Cell::Word(number)) => format!("{name} == {number}{unit}"),
        (_, Cell::Time(_) | Cell::Date(_)) => panic!("{name} is a date"),
    }
}

#[test]
fn a_filter_finds_in_a_fault_what_its_row_says() {
    let mut faults = 0;
    for mut events in script::all() {
        // Faults of which little was observed.
        for (number, event) in events.iter_mut().enumerate() {
            if let (Event::Fault(fault), true) = (event, number % 7 == 0) {
                fault.entry = EntryHeader::default();
                fault.logged = [0; 64];
                fault.queue_cpu = None;
                fault.times.copy_end_ns = None;
                fault.marks = Marks { read_failed: true, queue_missing: true, ..Marks::default() };
            }
        }
        let (mut model, mut rows) = (Model::default(), Rows::default());
        for event in &events {
            model.update(event);
            let Some(row) = rows.of(&model, event) else { continue };
            let Event::Fault(fault) = event else { continue };
            faults += 1;
            let mut columns = Row::COLUMNS.iter();
            let mut texts = Vec::new();
            row.cells::<()>(|cell| {
                let column = columns.next().unwrap().name;
                let fields = Field::ALL.iter().filter(|field| field.entry().column == column);
                texts.extend(fields.map(|&field| of_cell(field, cell)));
                Ok(())
            })
            .unwrap();
            assert_eq!(texts.len(), Field::ALL.len());
            for text in texts {
                let filter: Filter = text.parse().unwrap_or_else(|error| panic!("{error}"));
                assert!(filter.matches(fault, &model), "{text}: {fault:?}");
            }
        }
    }
    assert!(faults > 500, "{faults}");
}

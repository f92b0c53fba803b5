//! Rows a second of each export, on one core and into nothing: `cargo bench -p dsascope-export`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use dsascope_core::event::Event;
use dsascope_core::model::{Limits, Model};
use dsascope_export::csv::Csv;
use dsascope_export::hlog::{Hlog, INTERVAL_NS};
use dsascope_export::json::Json;
use dsascope_export::parquet::Parquet;
use dsascope_export::table::Table;
use dsascope_export::{ExportError, Exporter, Output};

fn main() {
    divan::main();
}

/// A model that knows the processes, so that only the export is measured, and the events to export.
fn input() -> (Model, Vec<Event>) {
    let events = support::script::busy(600);
    let mut model = Model::new(Limits::default());
    events.iter().for_each(|event| model.update(event));
    (model, events)
}

fn run<E: Exporter>(bencher: Bencher, make: impl Fn(Output) -> Result<E, ExportError> + Sync) {
    let (model, events) = input();
    let faults = events.iter().filter(|event| matches!(event, Event::Fault(_))).count();
    bencher.counter(ItemsCount::new(faults)).with_inputs(|| model.clone()).bench_values(|mut model| {
        let mut exporter = make(Box::new(io::sink())).expect("nothing fails to be written");
        for event in black_box(&events) {
            exporter.event(&model, event).expect("nothing fails to be written");
        }
        exporter.finish(&mut model).expect("nothing fails to be written");
    });
}

#[divan::bench]
fn hlog(bencher: Bencher) {
    run(bencher, |out| Ok(Hlog::new(out, INTERVAL_NS)));
}

#[divan::bench]
fn csv(bencher: Bencher) {
    run(bencher, |out| Csv::new(out).map(Table::from));
}

#[divan::bench]
fn json(bencher: Bencher) {
    run(bencher, |out| Ok(Table::from(Json::new(out))));
}

#[divan::bench]
fn parquet(bencher: Bencher) {
    run(bencher, |out| Parquet::new(out).map(Table::from));
}

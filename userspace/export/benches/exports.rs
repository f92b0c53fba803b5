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
use dsascope_export::prometheus::{Encoding, Gatherer, Own};
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

/// A large host: eight devices, a process on each of eight work queues of each.
fn large() -> Model {
    let mut model = Model::new(Limits::default());
    let events = support::script::busy(60);
    for device in 0..8 {
        for wq in 0..8 {
            for event in &events {
                let mut event = event.clone();
                let context = match &mut event {
                    Event::Fault(fault) => &mut fault.context,
                    Event::Open(open) => &mut open.context,
                    _ => continue,
                };
                (context.device.id, context.wq) = (device, wq);
                context.pasid += u32::from(device * 8 + wq) * 10;
                model.update(&event);
            }
        }
    }
    model
}

const OWN: Own<'_> = Own { version: "0", cpu_seconds: Some(1.0), memory_bytes: Some(1 << 24) };

/// What a page takes: once a second, whoever asks.
#[divan::bench]
fn prometheus_gather(bencher: Bencher) {
    let model = large();
    let mut gatherer = Gatherer::new(20);
    bencher.bench_local(|| gatherer.gather(black_box(&model), &OWN));
}

/// What the first to ask for an encoding waits for; the counter is of its bytes.
#[divan::bench(args = ["text", "openmetrics", "protobuf"])]
fn prometheus_encode(bencher: Bencher, encoding: &str) {
    let encoding = match encoding {
        "text" => Encoding::Text,
        "openmetrics" => Encoding::OpenMetrics,
        _ => Encoding::Protobuf,
    };
    let scrape = Gatherer::new(20).gather(&large(), &OWN);
    eprintln!("{encoding:?}: {} series, {} bytes", scrape.series(), scrape.encode(encoding).len());
    bencher.bench(|| black_box(&scrape).encode(encoding));
}

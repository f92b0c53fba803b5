//! Exports of scripted events, kept in memory.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

pub(crate) mod faults;
#[path = "../../../tui/tests/support/script.rs"]
pub(crate) mod script;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use dsascope_core::event::Event;
use dsascope_core::model::{Limits, Model};
use dsascope_export::csv::Csv;
use dsascope_export::json::Json;
use dsascope_export::parquet::Parquet;
use dsascope_export::table::Table;
use dsascope_export::{ExportError, Exporter, Output};

/// An output whose bytes can be read afterwards.
#[derive(Clone, Default)]
pub(crate) struct Memory(Arc<Mutex<Vec<u8>>>);

impl Memory {
    pub(crate) fn output(&self) -> Output {
        Box::new(self.clone())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Folds events into a model and tells the exporter each, as the command does.
pub(crate) fn feed(exporter: &mut dyn Exporter, events: &[Event]) -> Result<Model, ExportError> {
    let mut model = Model::new(Limits::default());
    for event in events {
        model.update(event);
        exporter.event(&model, event)?;
    }
    exporter.finish(&mut model)?;
    Ok(model)
}

pub(crate) fn csv(events: &[Event]) -> Vec<u8> {
    let memory = Memory::default();
    feed(&mut Table::from(Csv::new(memory.output()).unwrap()), events).unwrap();
    memory.bytes()
}

pub(crate) fn json(events: &[Event]) -> Vec<u8> {
    let memory = Memory::default();
    feed(&mut Table::from(Json::new(memory.output())), events).unwrap();
    memory.bytes()
}

pub(crate) fn parquet(events: &[Event]) -> Vec<u8> {
    let memory = Memory::default();
    feed(&mut Table::from(Parquet::new(memory.output()).unwrap()), events).unwrap();
    memory.bytes()
}

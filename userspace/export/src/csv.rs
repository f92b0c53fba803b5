//! CSV of the table of [`crate::row`]: a header, then one record a row, as RFC 4180 says but with plain line feeds.
//!
//! An empty field is null. Text that a spreadsheet would take for a formula gets an apostrophe in front: a command's name is chosen by
//! its process, and opening a file must not run it.

use std::fmt;
use std::io;

use dsascope_core::model::Model;

use crate::row::{Cell, Row};
use crate::table::Sink;
use crate::{ExportError, Output};

const FORMAT: &str = "CSV";

/// See the module.
pub struct Csv {
    out: csv::Writer<Output>,
    number: itoa::Buffer,
    guarded: String,
}

impl Csv {
    /// Writes the header.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn new(out: Output) -> Result<Self, ExportError> {
        let mut out = csv::WriterBuilder::new().buffer_capacity(1 << 16).from_writer(out);
        out.write_record(Row::COLUMNS.iter().map(|column| column.name)).map_err(failed)?;
        Ok(Self { out, number: itoa::Buffer::new(), guarded: String::new() })
    }
}

fn failed(error: csv::Error) -> ExportError {
    ExportError::write(FORMAT, io::Error::from(error))
}

impl Sink for Csv {
    fn row(&mut self, row: &Row<'_>) -> Result<(), ExportError> {
        let Self { out, number, guarded } = self;
        row.cells(|cell| match cell {
            Cell::Null => out.write_field(""),
            Cell::Text(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
                guarded.clear();
                guarded.push('\'');
                guarded.push_str(text);
                out.write_field(&*guarded)
            }
            Cell::Text(text) => out.write_field(text),
            Cell::Bool(value) => out.write_field(if value { "true" } else { "false" }),
            Cell::Small(value) => out.write_field(number.format(value)),
            Cell::Integer(value) | Cell::Word(value) => out.write_field(number.format(value)),
            Cell::Time(time) => out.write_field(time.text().as_str()),
            Cell::Date(date) => out.write_field(date.text().as_str()),
        })
        .and_then(|()| out.write_record(None::<&[u8]>))
        .map_err(failed)
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        self.out.flush().map_err(|error| ExportError::write(FORMAT, error))
    }

    fn finish(&mut self, _: &Model) -> Result<(), ExportError> {
        self.flush()
    }
}

impl fmt::Debug for Csv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Csv").finish_non_exhaustive()
    }
}

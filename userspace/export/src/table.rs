//! What the formats of one row a fault have in common: an exporter that makes the rows and hands them to the format.

use dsascope_core::event::Event;
use dsascope_core::model::Model;

use crate::row::{Row, Rows};
use crate::{ExportError, Exporter};

/// A format that takes rows.
pub trait Sink {
    /// # Errors
    /// The output cannot be written.
    fn row(&mut self, row: &Row<'_>) -> Result<(), ExportError>;

    /// See [`Exporter::flush`].
    ///
    /// # Errors
    /// The output cannot be written.
    fn flush(&mut self) -> Result<(), ExportError> {
        Ok(())
    }

    /// Ends the file; the rows of the ledger have been taken.
    ///
    /// # Errors
    /// The output cannot be written.
    fn finish(&mut self, model: &Model) -> Result<(), ExportError>;
}

/// Exports rows to a format.
#[derive(Debug)]
pub struct Table<S> {
    rows: Rows,
    sink: S,
}

impl<S> From<S> for Table<S> {
    fn from(sink: S) -> Self {
        Self { rows: Rows::default(), sink }
    }
}

impl<S: Sink> Exporter for Table<S> {
    fn event(&mut self, model: &Model, event: &Event) -> Result<(), ExportError> {
        match self.rows.of(model, event) {
            Some(row) => self.sink.row(&row),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        self.sink.flush()
    }

    fn finish(&mut self, model: &mut Model) -> Result<(), ExportError> {
        self.rows.end(model, |row| self.sink.row(row))?;
        self.sink.finish(model)
    }
}

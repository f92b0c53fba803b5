//! Exports: the one ordered event stream in, one format of the world's tools out.
//!
//! Each format is an [`Exporter`] in a file of its own. Every one carries the loss ledger and the error of its buckets, and gives
//! whole distributions. Refuses: reading captures, attaching, choosing files, progress bars: it gets events and something to write to.

mod comparison;
pub mod csv;
mod format;
pub mod hlog;
pub mod html;
pub mod json;
mod page;
pub mod parquet;
pub mod perfetto;
pub mod prometheus;
pub mod row;
pub mod table;

pub use comparison::page as comparison_page;
pub use format::{Format, Options};

use dsascope_core::event::Event;
use dsascope_core::model::Model;

/// What an export writes to. Formats with an index at the end count bytes themselves; nobody seeks.
pub type Output = Box<dyn std::io::Write + Send>;

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("write {format}: {source}")]
    Write { format: &'static str, source: std::io::Error },
    #[error("encode {format}: {what}")]
    Encode { format: &'static str, what: String },
}

impl ExportError {
    pub(crate) fn write(format: &'static str, source: std::io::Error) -> Self {
        Self::Write { format, source }
    }
}

/// Turns the event stream into one format.
///
/// The caller folds each event into its model first and then tells the exporter, in order: [`Event::Session`] first; ticks and
/// snapshots on the way; at the end what was still on its way and a snapshot that is quiesced. Memory is bounded, or its growth is
/// stated where the exporter is documented.
pub trait Exporter {
    /// # Errors
    /// The output cannot be written, or the format cannot hold the event.
    fn event(&mut self, model: &Model, event: &Event) -> Result<(), ExportError>;

    /// Gives what was written so far to whoever reads along; a format that nobody can read along keeps it.
    ///
    /// # Errors
    /// The output cannot be written.
    fn flush(&mut self) -> Result<(), ExportError> {
        Ok(())
    }

    /// After the last event: writes what is still held, and ends the file. Called once.
    ///
    /// # Errors
    /// As [`Self::event`].
    fn finish(&mut self, model: &mut Model) -> Result<(), ExportError>;
}

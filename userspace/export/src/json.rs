//! JSON Lines of the table of [`crate::row`]: one object a row, every column in each. docs/schema/dsascope-export-v1.schema.json is the
//! schema of a line.

use std::fmt;
use std::io::{BufWriter, Write};

use dsascope_core::model::Model;

use crate::row::Row;
use crate::table::Sink;
use crate::{ExportError, Output};

const FORMAT: &str = "JSON";

/// See the module.
pub struct Json {
    out: BufWriter<Output>,
}

impl Json {
    #[must_use]
    pub fn new(out: Output) -> Self {
        Self { out: BufWriter::with_capacity(1 << 16, out) }
    }
}

impl Sink for Json {
    fn row(&mut self, row: &Row<'_>) -> Result<(), ExportError> {
        serde_json::to_writer(&mut self.out, row)
            .map_err(|error| ExportError::write(FORMAT, error.into()))?;
        self.out.write_all(b"\n").map_err(|error| ExportError::write(FORMAT, error))
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        self.out.flush().map_err(|error| ExportError::write(FORMAT, error))
    }

    fn finish(&mut self, _: &Model) -> Result<(), ExportError> {
        self.flush()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Json").finish_non_exhaustive()
    }
}

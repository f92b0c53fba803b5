//! The formats there are, by name.

use crate::csv::Csv;
use crate::hlog::Hlog;
use crate::html::Html;
use crate::json::Json;
use crate::parquet::Parquet;
use crate::perfetto::Perfetto;
use crate::table::Table;
use crate::{ExportError, Exporter, Output};

/// A format of the world's tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Hlog,
    Csv,
    Json,
    Parquet,
    Perfetto,
    Html,
}

/// What some formats have to be told.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of the intervals of [`Format::Hlog`].
    pub interval_ns: u64,
}

impl Format {
    pub const ALL: [Self; 6] = [Self::Hlog, Self::Csv, Self::Json, Self::Parquet, Self::Perfetto, Self::Html];

    /// What files of it are called.
    #[must_use]
    pub const fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Hlog => &["hlog"],
            Self::Csv => &["csv"],
            Self::Json => &["jsonl", "json"],
            Self::Parquet => &["parquet"],
            Self::Perfetto => &["pftrace", "perfetto-trace"],
            Self::Html => &["html"],
        }
    }

    /// It can be read on a terminal.
    #[must_use]
    pub const fn is_text(self) -> bool {
        !matches!(self, Self::Parquet | Self::Perfetto)
    }

    /// # Errors
    /// The beginning cannot be written.
    pub fn exporter(self, out: Output, options: Options) -> Result<Box<dyn Exporter>, ExportError> {
        Ok(match self {
            Self::Hlog => Box::new(Hlog::new(out, options.interval_ns)),
            Self::Csv => Box::new(Table::from(Csv::new(out)?)),
            Self::Json => Box::new(Table::from(Json::new(out))),
            Self::Parquet => Box::new(Table::from(Parquet::new(out)?)),
            Self::Perfetto => Box::new(Perfetto::new(out)),
            Self::Html => Box::new(Html::new(out)),
        })
    }
}

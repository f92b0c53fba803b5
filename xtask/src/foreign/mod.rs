//! Exports read back by programs that are not ours: what an export is worth is what they make of it.
//!
//! Owns: the table of checks, which `cargo xtask test` runs on the host, each under its name. A check whose reader cannot be had fails.
//! Refuses: guests; what it reads is exported from the captures of samples/.

mod chromium;
mod exports;
mod prometheus;
pub mod python;

use anyhow::Result;

use crate::cache::Cache;

/// One foreign reader held against one of our outputs.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    pub name: &'static str,
    pub run: fn(&Cache) -> Result<()>,
}

/// All of them. One line each, so that branches merge.
pub const CHECKS: &[Check] = &[
    Check { name: "hlog by hdrhistogram", run: exports::hlog },
    Check { name: "json and csv by jsonschema", run: exports::rows },
    Check { name: "parquet by DuckDB", run: exports::parquet },
    Check { name: "parquet of many hosts by DuckDB", run: exports::lake },
    Check { name: "perfetto by Perfetto's classes", run: exports::perfetto },
    Check { name: "metrics, dashboards and rules by Prometheus", run: prometheus::check },
    Check { name: "report by Chromium", run: chromium::report },
];

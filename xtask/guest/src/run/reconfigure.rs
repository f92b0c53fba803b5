//! Devices that are configured anew while the tracer watches.
//!
//! Owns: the order. Refuses: judging what the tracer says; it is printed for the host.

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;

use anyhow::Context;
use dsascope_guest::{report::TRACER_STDOUT, scenario::Scenario};

use super::{configure, tracer::Tracer};

const OUT: &str = "/tmp";

/// Configures as `first` says, attaches, configures as `second` says, and prints what the tracer wrote.
pub(crate) fn run(first: &Scenario, second: &Scenario, argv: &[String]) -> anyhow::Result<i32> {
    configure::configure(first)?;
    let tracer = Tracer::start(argv, &first.tracer, Path::new(OUT))?;
    configure::configure(second)?;
    let report = tracer.stop()?;
    let said = fs::read(Path::new(OUT).join(TRACER_STDOUT)).context("reading what the tracer wrote")?;
    stdout().write_all(&said).context("printing what the tracer wrote")?;
    Ok(report.code)
}

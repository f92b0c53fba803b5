//! The row formats and the interval log, exported from each capture of samples/ and read by Python's libraries and DuckDB.
//!
//! What each reader must find is in its script in `xtask/foreign/`. The rows of JSON are what the others are held against: they are
//! themselves held against the schema, and against the ledger at their end.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::python::Python;
use crate::binaries::workspace;
use crate::cache::Cache;
use crate::captures::tracer;
use crate::files;

/// PyPI's hdrhistogram finds in the interval log what rows and summary say, tag by tag.
pub(super) fn hlog(cache: &Cache) -> Result<()> {
    let python = Python::provide(cache)?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    for (name, capture) in samples()? {
        let [log, rows] = export(&capture, directory.path(), &name, ["hlog", "json"])?;
        let summary = directory.path().join(format!("{name}.summary"));
        let said = dsascope(["stat".into(), "--json".into(), "--from".into(), capture.into()])?;
        let last = said.lines().last().with_context(|| format!("stat says nothing of {name}"))?;
        fs::write(&summary, last).with_context(|| format!("cannot write {}", summary.display()))?;
        python.run("hlog.py", [log, rows, summary]).context(name)?;
    }
    Ok(())
}

/// JSON rows keep to the schema, and CSV has the same ones.
pub(super) fn rows(cache: &Cache) -> Result<()> {
    let python = Python::provide(cache)?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let schema = workspace().join("docs/schema/dsascope-export-v1.schema.json");
    for (name, capture) in samples()? {
        let [json, csv] = export(&capture, directory.path(), &name, ["json", "csv"])?;
        python.run("rows.py", [&schema, &json, &csv]).context(name)?;
    }
    Ok(())
}

/// DuckDB reads the Parquet files of a folder as one table, cell by cell what JSON has, and answers the queries of the README.
pub(super) fn parquet(cache: &Cache) -> Result<()> {
    let python = Python::provide(cache)?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let folder = directory.path().join("faults");
    fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut arguments = vec![workspace().join("README.md"), directory.path().to_owned()];
    for (name, capture) in samples()? {
        let [_, json] = export(&capture, &folder, &name, ["parquet", "json"])?;
        arguments.push(json);
    }
    python.run("parquet.py", arguments)?;
    Ok(())
}

/// A folder of many hosts' files, made of the exports: DuckDB answers the queries of README and docs/fleet.md with their counts.
pub(super) fn lake(cache: &Cache) -> Result<()> {
    let python = Python::provide(cache)?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    for (name, capture) in samples()? {
        let [_] = export(&capture, directory.path(), &name, ["parquet"])?;
    }
    let folder = directory.path().join("lake");
    let [exports, folder] = [directory.path(), &folder].map(|path| path.as_os_str().to_owned());
    let size = ["--check", "--faults", "200000", "--hosts", "12", "--days", "2"].map(OsString::from);
    python
        .run("lake.py", ["--exports".into(), exports, "--folder".into(), folder].into_iter().chain(size))?;
    Ok(())
}

/// Perfetto's own message classes decode the trace: every stage of every fault in its place, nested slices, whole flows, right counters.
pub(super) fn perfetto(cache: &Cache) -> Result<()> {
    let python = Python::provide(cache)?;
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    for (name, capture) in samples()? {
        let [trace, json] = export(&capture, directory.path(), &name, ["perfetto", "json"])?;
        python.run("trace.py", [trace, json]).context(name)?;
    }
    Ok(())
}

/// The captures of samples/, by name.
pub(super) fn samples() -> Result<Vec<(String, PathBuf)>> {
    let paths = files::all("samples", "dsc")?;
    Ok(paths.into_iter().map(|path| (files::stem(&path), path)).collect())
}

/// Exports a capture to files of that name.
fn export<const N: usize>(
    capture: &Path,
    into: &Path,
    name: &str,
    formats: [&str; N],
) -> Result<[PathBuf; N]> {
    let paths = formats.map(|format| into.join(format!("{name}.{format}")));
    for (format, path) in formats.into_iter().zip(&paths) {
        let words: [OsString; 6] =
            ["export".into(), "--format".into(), format.into(), capture.into(), "-o".into(), path.into()];
        dsascope(words)?;
    }
    Ok(paths)
}

/// Runs dsascope on this host and gives what it said.
pub(super) fn dsascope<const N: usize>(words: [OsString; N]) -> Result<String> {
    let mut command = Command::new(tracer()?);
    let output = command.args(&words).stdin(Stdio::null()).output().context("cannot run dsascope")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("dsascope {}: {}: {}", words.join(" ".as_ref()).display(), output.status, said.trim());
    }
    String::from_utf8(output.stdout).context("dsascope wrote what is not UTF-8")
}

//! `cargo xtask fuzz`: the reader of captures on bytes that nobody wrote.
//!
//! Owns: bringing cargo-fuzz, the seeds, the limits of a run. The target itself is in userspace/capture/fuzz, a workspace of its own: it is
//! built with stable Rust, but needs a C++ compiler for libFuzzer. Without sanitizer, because the reader has no unsafe code.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::binaries::workspace;
use crate::cache::Cache;
use crate::progress::{say, step};

const VERSION: &str = "0.13.1";
const TARGET: &str = "reader";
/// Memory that reading may take, whatever the bytes are: the columns of a block with as many values as there may be (113 MB) in each
/// of two readers, their payloads, and libFuzzer's own.
const MOST_MIB: u32 = 1024;
/// Bytes of an input: many blocks, and still thousands of runs a second.
const MOST_BYTES: u32 = 1 << 17;

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// How long to look, after the build: 30s, 10m
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = time)]
    pub time: Duration,
}

/// Builds the target and runs it. What it finds stays in userspace/capture/fuzz/artifacts.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let cache = Cache::open()?;
    let entry = format!("cargo-fuzz-{VERSION}");
    let tool = cache.provide(&entry, |into| step("building cargo-fuzz", || install(into)))?;
    let directory = workspace().join("userspace/capture/fuzz");
    let corpus = directory.join("corpus").join(TARGET);
    seed(&corpus)?;
    // cargo-fuzz would update a lock file that lags behind, without a word.
    let locked = ["metadata", "--locked", "--format-version", "1", "--manifest-path"];
    let output = Command::new("cargo").args(locked).arg(directory.join("Cargo.toml")).output();
    let output = output.context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "userspace/capture/fuzz/Cargo.lock is not up to date: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let status = Command::new(tool.join("bin/cargo-fuzz"))
        .args(["run", "--sanitizer", "none", "--fuzz-dir"])
        .arg(&directory)
        .arg(TARGET)
        .arg(&corpus)
        .arg("--")
        .arg(format!("-max_total_time={}", arguments.time.as_secs()))
        .arg(format!("-rss_limit_mb={MOST_MIB}"))
        .arg(format!("-max_len={MOST_BYTES}"))
        .args(["-timeout=20", "-print_final_stats=1"])
        .current_dir(workspace())
        .status()
        .context("cannot run cargo-fuzz")?;
    if !status.success() {
        bail!(
            "fuzzing failed ({status}): what was found is in userspace/capture/fuzz/artifacts; to build, libFuzzer \
             needs a C++ compiler (Debian: apt install g++)"
        );
    }
    say(format!("fuzz: {TARGET} found nothing in {} s", arguments.time.as_secs()));
    Ok(0)
}

fn install(into: &Path) -> Result<()> {
    let status = Command::new("cargo")
        .args(["install", "--quiet", "--locked", "cargo-fuzz", "--version", VERSION, "--root"])
        .arg(into)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cannot install cargo-fuzz {VERSION} ({status})");
    Ok(())
}

/// Puts real captures among what earlier runs have found.
fn seed(corpus: &Path) -> Result<()> {
    fs::create_dir_all(corpus).with_context(|| format!("cannot make {}", corpus.display()))?;
    for from in ["samples", "userspace/capture/tests/golden"] {
        let from = workspace().join(from);
        for file in fs::read_dir(&from).with_context(|| format!("cannot list {}", from.display()))? {
            let path = file.with_context(|| format!("cannot list {}", from.display()))?.path();
            if let (true, Some(name)) = (path.extension().is_some_and(|end| end == "dsc"), path.file_name()) {
                fs::copy(&path, corpus.join(name))
                    .with_context(|| format!("cannot copy {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// `30s` or `10m`.
fn time(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match (text.strip_suffix('s'), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 60),
        _ => return Err("a number with s or m, such as 30s".into()),
    };
    let number: u32 = number.parse().map_err(|error| format!("{number:?}: {error}"))?;
    // libFuzzer takes 0 for "without end".
    if number == 0 { Err("at least 1s".into()) } else { Ok(Duration::from_secs(u64::from(number) * seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["", "30", "s", "-1s", "0m", "1h"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }
}

//! The tests that need no guest: cargo's own, and exports read by programs that are not ours.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use super::Tally;
use crate::binaries::workspace;
use crate::cache::Cache;
use crate::foreign;

/// Unit, property and snapshot tests of the workspace.
pub(super) fn workspace_tests(only: Option<&str>) -> Tally {
    const NAME: &str = "cargo test --workspace";
    let mut tally = Tally::default();
    if only.is_some_and(|only| !NAME.contains(only)) {
        tally.skipped += 1;
        return tally;
    }
    match cargo_test() {
        Ok((counted, true)) => tally.add(counted),
        // Tests that fail are counted; when none did, the build failed.
        Ok((counted, false)) => {
            tally.add(counted);
            if tally.failed == 0 {
                tally.fail(NAME, &anyhow!("it did not build, or a test program died"));
            }
        }
        Err(error) => tally.fail(NAME, &error),
    }
    tally
}

/// Exports read by programs that are not ours.
pub(super) fn foreign_readers(only: Option<&str>, tally: &mut Tally) {
    for check in foreign::CHECKS {
        let name = format!("foreign readers: {}", check.name);
        if only.is_some_and(|only| !name.contains(only)) {
            tally.skipped += 1;
            continue;
        }
        let started = Instant::now();
        match Cache::open().and_then(|cache| (check.run)(&cache)) {
            Ok(()) => tally.pass(&name, started.elapsed()),
            Err(error) => tally.fail(&name, &error),
        }
    }
}

/// Runs cargo's tests, showing what they say, and counts them.
fn cargo_test() -> Result<(Tally, bool)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let Some(stdout) = child.stdout.take() else { bail!("cargo has no output") };
    let mut tally = Tally::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read cargo's output")?;
        if let Some(counted) = parse_result(&line) {
            tally.add(counted);
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED")) {
            tally.failures.push(format!("- {name}"));
        }
        // The counts of single programs are summed up in our last line.
        if line.starts_with("test ") && !line.ends_with("... ok")
            || line.starts_with("---- ")
            || line.contains("panicked at")
        {
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    println!("cargo test --workspace: {}", tally.line());
    Ok((tally, status.success()))
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; ...`: an ignored test is one that could not run.
fn parse_result(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse::<usize>().ok())
    };
    let failed = count("failed")? + count("ignored")?;
    Some(Tally { passed: count("passed")?, failed, ..Tally::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_and_ignored_tests_fail() {
        let line =
            "test result: ok. 45 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.06s";
        assert_eq!(parse_result(line), Some(Tally { passed: 45, failed: 2, ..Tally::default() }));
        let line = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.06s";
        assert_eq!(parse_result(line), Some(Tally { passed: 3, failed: 1, ..Tally::default() }));
        assert_eq!(parse_result("test a ... ok"), None);
    }
}

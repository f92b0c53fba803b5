//! Workloads in the background of a command on the terminal: for people who want to look.
//!
//! Owns: that the workloads end with the command. Refuses: books.

use std::{os::unix::process::ExitStatusExt, path::Path, process::Command, time::Duration};

use anyhow::Context;

use super::{children::Children, configure, load};

/// For what is outstanding when the command has ended.
const PATIENCE: Duration = Duration::from_secs(3);

/// The command's exit code.
pub(crate) fn run(file: &Path, command: &[String]) -> anyhow::Result<i32> {
    let scenario = load(file)?;
    configure::configure(&scenario)?;
    let mut children = Children::start(&scenario, true)?;
    children.go()?;
    let (program, arguments) = command.split_first().context("the command is empty")?;
    let status = Command::new(program).args(arguments).status().with_context(|| format!("running {program}"));
    children.stop(PATIENCE);
    let status = status?;
    Ok(status.code().unwrap_or(128 + status.signal().unwrap_or_default()))
}

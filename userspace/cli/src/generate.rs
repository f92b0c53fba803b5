//! What is made from the command line's own definition: shell completions and manual pages.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use crate::flags::Cli;

pub(crate) fn completions(shell: Shell, out: &mut impl Write) {
    clap_complete::generate(shell, &mut Cli::command(), "dsascope", out);
}

/// The main page to `out`, or all pages to `dir`.
pub(crate) fn man(dir: Option<&Path>, out: &mut impl Write) -> Result<()> {
    let command = Cli::command();
    let Some(dir) = dir else {
        return clap_mangen::Man::new(command).render(out).context("write the manual page");
    };
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    clap_mangen::generate_to(command, dir).with_context(|| format!("write manual pages to {}", dir.display()))
}

/// Writes to stdout what `make` produces; a reader that went away is no error.
pub(crate) fn to_stdout(make: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<()> {
    let mut text = Vec::new();
    make(&mut text)?;
    match io::stdout().write_all(&text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        _ => Ok(()),
    }
}

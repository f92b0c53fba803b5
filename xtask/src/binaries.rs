//! The programs that go into the guest, built static: it has no libraries.
//!
//! Owns: the one cargo call and the check of what it made. Refuses: copying anything anywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use object::read::elf::{ElfFile64, ProgramHeader};
use object::{Endianness, elf};

use crate::progress::say;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Packages whose binary of the same name the guest needs.
const PACKAGES: [&str; 2] = [TRACER, AGENT];
/// The tracer.
pub const TRACER: &str = "dsascope";
/// init and agent.
pub const AGENT: &str = "dsascope-guest";

/// Static binaries by name.
pub type Binaries = BTreeMap<String, PathBuf>;

/// Builds the guest's programs; cargo does nothing when they are up to date.
pub fn build() -> Result<Binaries> {
    let started = Instant::now();
    // The variable is set by the cargo that runs us.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "build",
            "--quiet",
            "--profile",
            "guest",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        .args(PACKAGES.iter().flat_map(|package| ["--package", package, "--bin", package]))
        .current_dir(workspace())
        // Static glibc. A flag for the target only: build scripts and macros stay dynamic.
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo could not build the guest's programs ({})", PACKAGES.join(", "));
    }
    if started.elapsed().as_secs() >= 1 {
        say(format!("built the guest's programs in {:.1} s", started.elapsed().as_secs_f64()));
    }
    let binaries = executables(&String::from_utf8_lossy(&output.stdout));
    for name in PACKAGES {
        let path = binaries.get(name).with_context(|| format!("cargo built no binary {name}"))?;
        check_static(path)?;
    }
    Ok(binaries)
}

/// The workspace that `cargo xtask` was called in; a copied target directory still names the one this was built from.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Executables named in cargo's JSON messages.
fn executables(messages: &str) -> Binaries {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| {
            let path = PathBuf::from(message.get("executable")?.as_str()?);
            Some((message.get("target")?.get("name")?.as_str()?.to_owned(), path))
        })
        .collect()
}

/// A program that asks for an interpreter cannot start in the guest.
fn check_static(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = ElfFile64::<Endianness>::parse(bytes.as_slice())
        .with_context(|| format!("{} is not a 64-bit ELF file", path.display()))?;
    let dynamic =
        file.elf_program_headers().iter().any(|header| header.p_type(file.endian()) == elf::PT_INTERP);
    if dynamic {
        bail!("{} is not static: is glibc's static library (libc6-dev) installed?", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_among_the_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"dep"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"dsascope"},"executable":"/t/dsascope"}
{"reason":"build-finished","success":true}"#;
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found["dsascope"], PathBuf::from("/t/dsascope"));
    }

    #[test]
    fn a_dynamic_program_is_refused() {
        let own = std::env::current_exe().unwrap();
        assert!(check_static(&own).unwrap_err().to_string().contains("not static"));
        assert!(check_static(Path::new(file!())).is_err());
    }
}

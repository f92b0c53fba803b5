//! `cargo xtask ebpf`: the eBPF object, from source or held against its source.
//!
//! Owns: building `ebpf/dsascope.bpf.o`, the record of what built it, and the check that the committed object is what the sources
//! say. Refuses: changing the checkout in a check.

mod compiler;
mod elf;

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::progress::{say, step};
use compiler::Compiler;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Build, and compare with the committed object instead of replacing it
    #[arg(long)]
    check: bool,
}

/// What built the committed object; lies beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// `rustc -V`, and the LLVM it was built with.
    pub rustc: String,
    pub llvm: String,
    /// Name, version and the feature that picks its LLVM.
    pub linker: String,
}

const OBJECT: &str = "ebpf/dsascope.bpf.o";
const RECORD: &str = "ebpf/dsascope.bpf.toml";

/// Runs the command in the checkout that holds this source.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let root = &crate::binaries::workspace();
    let record = read_record(&root.join(RECORD))?;
    let compiler = Compiler::find(record.as_ref())?;
    let fresh = build(root, &compiler)?;
    if arguments.check {
        let record = record.with_context(|| format!("{RECORD} is missing: run `cargo xtask ebpf`"))?;
        check(root, &fresh, &compiler, &record)?;
    } else {
        fs::write(root.join(OBJECT), &fresh).with_context(|| format!("write {OBJECT}"))?;
        let text = toml::to_string(&compiler.record).context("write the record")?;
        let head = "# What built dsascope.bpf.o; written by `cargo xtask ebpf`, read by `cargo xtask ebpf --check`.\n";
        fs::write(root.join(RECORD), format!("{head}{text}")).with_context(|| format!("write {RECORD}"))?;
        say(format!("{OBJECT}: {} bytes, {}", fresh.len(), compiler.record.rustc));
    }
    Ok(0)
}

fn read_record(path: &Path) -> Result<Option<Record>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            Ok(Some(toml::from_str(&text).with_context(|| format!("{} is malformed", path.display()))?))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}

/// Compiles and links; the result has no debug sections but BTF.
fn build(root: &Path, compiler: &Compiler) -> Result<Vec<u8>> {
    step("building the eBPF object", || {
        let target = root.join("target/bpf");
        let mut cargo = compiler.cargo(root)?;
        cargo
            .current_dir(root.join("ebpf"))
            .args(["build", "--quiet", "--locked", "--profile", "bpf", "--package", "dsascope-ebpf"])
            .arg("--target-dir")
            .arg(&target);
        let status = cargo.status().context("run cargo")?;
        ensure!(status.success(), "the eBPF programs do not build with {}", compiler.record.rustc);
        let path = target.join("bpfel-unknown-none/bpf/dsascope-ebpf");
        let linked = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        elf::without_debug(&linked)
    })
}

fn check(root: &Path, fresh: &[u8], compiler: &Compiler, record: &Record) -> Result<()> {
    let committed = fs::read(root.join(OBJECT)).with_context(|| format!("read {OBJECT}"))?;
    if compiler.record == *record {
        ensure!(
            committed == fresh,
            "{OBJECT} is not what its sources give ({} bytes committed, {} built, first difference at {}): run `cargo xtask ebpf` and commit",
            committed.len(),
            fresh.len(),
            committed.iter().zip(fresh).position(|(a, b)| a != b).unwrap_or(committed.len().min(fresh.len())),
        );
        say(format!("{OBJECT}: byte for byte what {} builds", record.rustc));
        return Ok(());
    }
    say(format!(
        "another compiler here ({}, {}; the object was built by {}, {}): comparing programs, maps and globals",
        compiler.record.rustc, compiler.record.linker, record.rustc, record.linker
    ));
    let (ours, theirs) = (elf::interface(&committed)?, elf::interface(fresh)?);
    let differences = ours.differences(&theirs);
    if !differences.is_empty() {
        bail!("{OBJECT} and a fresh build differ:\n  {}", differences.join("\n  "));
    }
    let path = root.join("target/bpf/fresh.bpf.o");
    fs::write(&path, fresh).with_context(|| format!("write {}", path.display()))?;
    step("tests with the fresh object", || {
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(root)
            .env("DSASCOPE_BPF_OBJECT", &path)
            .args(["test", "--quiet", "--package", "dsascope-probe"])
            .status()
            .context("run cargo test")?;
        ensure!(status.success(), "the probe crate's tests fail with the fresh object");
        Ok(())
    })?;
    say(format!("{OBJECT}: the same programs, maps and globals; the tests pass with the fresh object"));
    Ok(())
}

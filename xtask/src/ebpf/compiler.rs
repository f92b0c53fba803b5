//! The compiler for eBPF: it must come with the source of its own `core`, and bpf-linker must link to its LLVM.
//!
//! Owns: finding one, or installing Debian's (rustc-web, cargo-web, rust-web-src: one source package, so they always match), and
//! building bpf-linker for it in the cache. Refuses: downloading a toolchain any other way.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::Record;
use crate::{
    cache::Cache,
    progress::{say, step},
};

/// Pinned: another linker gives another object.
const LINKER_VERSION: &str = "0.13.0";

/// A compiler that is ready to build for BPF.
#[derive(Debug)]
pub(super) struct Compiler {
    kind: Kind,
    /// `rustc --print sysroot`'s library source, remapped out of the object.
    source: PathBuf,
    linker: PathBuf,
    pub(super) record: Record,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Debian's rustc-web in /usr; `RUSTC_BOOTSTRAP` stands for nightly.
    Debian,
    /// rustup's nightly with rust-src.
    Nightly,
}

const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// What a compiler says of itself.
struct Found {
    kind: Kind,
    rustc: String,
    llvm: String,
    source: PathBuf,
}

impl Compiler {
    /// The compiler of `record` when it is here, else any; as root on Debian, else one is installed.
    pub(super) fn find(record: Option<&Record>) -> Result<Self> {
        let mut found: Vec<Found> = [Kind::Debian, Kind::Nightly].into_iter().filter_map(probe).collect();
        if found.is_empty() {
            install_debian()?;
            found.extend(probe(Kind::Debian));
        }
        found.sort_by_key(|f| record.is_none_or(|r| r.rustc != f.rustc || r.llvm != f.llvm));
        let Some(chosen) = found.into_iter().next() else {
            bail!("no compiler for eBPF even after installing {}", DEBIAN_PACKAGES.join(" "));
        };
        let (linker, linker_record) = linker(&chosen)?;
        Ok(Self {
            kind: chosen.kind,
            source: chosen.source,
            linker,
            record: Record { rustc: chosen.rustc, llvm: chosen.llvm, linker: linker_record },
        })
    }

    /// cargo with everything set but its arguments. Paths of this machine do not reach the object.
    pub(super) fn cargo(&self, root: &Path) -> Result<Command> {
        let cargo_home = cargo_home()?;
        let remap = [(root, "/src"), (cargo_home.as_path(), "/cargo"), (self.source.as_path(), "/rust")]
            .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
            .join(" ");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(self.linker.clone()).chain(std::env::split_paths(&path));
        let mut cargo = cargo_of(self.kind);
        cargo
            .env("PATH", std::env::join_paths(paths).context("join PATH")?)
            // Adds to what ebpf/.cargo/config.toml says.
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", remap);
        Ok(cargo)
    }
}

/// cargo of that toolchain, free of what the cargo that runs us has set.
fn cargo_of(kind: Kind) -> Command {
    let mut command = match kind {
        Kind::Debian => {
            let mut command = Command::new("/usr/bin/cargo");
            command.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1");
            command
        }
        Kind::Nightly => {
            let mut command = Command::new("cargo");
            command.arg("+nightly");
            command
        }
    };
    for name in [
        "CARGO",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CARGO_BUILD_TARGET",
        "RUSTC_WRAPPER",
    ] {
        command.env_remove(name);
    }
    command
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return Ok(home.into());
    }
    let home = std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|o| o.status.success())?;
    String::from_utf8(output.stdout).ok()
}

fn probe(kind: Kind) -> Option<Found> {
    let mut rustc = match kind {
        Kind::Debian => Command::new("/usr/bin/rustc"),
        Kind::Nightly => {
            let mut command = Command::new("rustc");
            command.arg("+nightly");
            command
        }
    };
    rustc.env_remove("RUSTUP_TOOLCHAIN");
    let about = output(rustc.arg("-vV"))?;
    let line = |prefix: &str| about.lines().find_map(|l| l.strip_prefix(prefix)).map(str::to_owned);
    let source = match kind {
        Kind::Debian if Path::new("/usr/bin/cargo").exists() => fs::canonicalize(DEBIAN_SOURCE).ok()?,
        Kind::Debian => return None,
        Kind::Nightly => {
            let sysroot = output(Command::new("rustc").args(["+nightly", "--print", "sysroot"]))?;
            fs::canonicalize(Path::new(sysroot.trim()).join("lib/rustlib/src/rust")).ok()?
        }
    };
    if !source.join("library").is_dir() {
        return None;
    }
    Some(Found { kind, rustc: about.lines().next()?.to_owned(), llvm: line("LLVM version: ")?, source })
}

fn install_debian() -> Result<()> {
    let wanted = DEBIAN_PACKAGES.join(" ");
    let next =
        format!("install {wanted} (Debian), or `rustup toolchain install nightly --component rust-src`");
    ensure!(nix::unistd::geteuid().is_root(), "no compiler for eBPF here: {next}");
    ensure!(Path::new("/usr/bin/apt-get").exists(), "no compiler for eBPF and no apt-get here: {next}");
    say(format!("no compiler for eBPF here: installing Debian's packages {wanted} with apt-get"));
    step("apt-get", || {
        for arguments in [
            vec!["update", "-qq"],
            [&["install", "-qq", "-y", "--no-install-recommends"], &DEBIAN_PACKAGES[..]].concat(),
        ] {
            let status = Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(&arguments)
                .stdout(std::io::stderr())
                .status()
                .context("run apt-get")?;
            ensure!(status.success(), "`apt-get {}` failed: {next}", arguments.join(" "));
        }
        Ok(())
    })
}

/// bpf-linker in the cache: (directory of the binary, how it is recorded).
fn linker(compiler: &Found) -> Result<(PathBuf, String)> {
    let major = compiler.llvm.split('.').next().unwrap_or_default().to_owned();
    let feature = format!("llvm-{major}");
    let cache = Cache::open()?;
    // Debian's is linked to the compiler's own libLLVM; rustup's brings its own.
    let entry = match compiler.kind {
        Kind::Debian => format!("bpf-linker-{LINKER_VERSION}-{feature}"),
        Kind::Nightly => format!("bpf-linker-{LINKER_VERSION}-rustup"),
    };
    let directory = cache.provide(&entry, |partial| {
        step(&format!("building bpf-linker {LINKER_VERSION} (once)"), || {
            let mut cargo = cargo_of(compiler.kind);
            cargo
                .env_remove("RUSTC_BOOTSTRAP")
                // cargo's own configuration of this checkout must not reach the linker's build.
                .current_dir(partial)
                .args(["install", "--quiet", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--root"])
                .arg(partial);
            if compiler.kind == Kind::Debian {
                cargo
                    .args(["--no-default-features", "--features", &feature])
                    .env("LLVM_PREFIX", llvm_prefix(partial, &major)?);
            }
            let status = cargo.status().context("run cargo install bpf-linker")?;
            ensure!(status.success(), "bpf-linker {LINKER_VERSION} does not build with LLVM {major}");
            Ok(())
        })
    })?;
    Ok((directory.join("bin"), format!("bpf-linker {LINKER_VERSION} ({feature})")))
}

/// A directory that looks like an LLVM installation: links to the one shared library.
fn llvm_prefix(at: &Path, major: &str) -> Result<PathBuf> {
    let prefix = at.join("llvm");
    let lib = prefix.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("make {}", lib.display()))?;
    let system = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let wanted = format!("libLLVM.so.{major}.");
    let library = fs::read_dir(&system)
        .with_context(|| format!("read {system}"))?
        .filter_map(|e| Some(e.ok()?.path()))
        .find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&wanted)))
        .with_context(|| format!("no {wanted}* in {system}: install libllvm{major}"))?;
    let name = library.file_name().unwrap_or_default();
    for link in [lib.join("libLLVM.so"), lib.join(name)] {
        std::os::unix::fs::symlink(&library, &link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(prefix)
}

//! Python with pinned packages from PyPI, in an environment of its own in the cache.
//!
//! Owns: making the environment with the system's `python3 -m venv`, and running a script of `xtask/foreign/` in it. Packages come as
//! wheels, so no compiler is needed. Refuses: what the scripts check.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::binaries::workspace;
use crate::cache::Cache;
use crate::progress::step;

const REQUIREMENTS: &str = include_str!("../../foreign/requirements.txt");
const MISSING: &str = "Python 3.10 or newer with venv is needed (Debian: apt install python3-venv)";

/// An environment that can run scripts.
#[derive(Clone, Debug)]
pub struct Python {
    program: PathBuf,
}

impl Python {
    /// The environment with these packages for the system's Python, made when it is not in the cache.
    pub fn provide(cache: &Cache) -> Result<Self> {
        let version = system_version()?;
        let entry = format!("python-{version}-{:016x}", fingerprint(REQUIREMENTS));
        let root = cache.provide(&entry, |into| step("fetching Python packages", || make(into)))?;
        Ok(Self { program: root.join("bin/python") })
    }

    /// Runs `xtask/foreign/<script>` and gives what it wrote to stdout. A check that fails says why on stderr; that is the error.
    pub fn run<S: AsRef<OsStr>>(
        &self,
        script: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String> {
        let path = workspace().join("xtask/foreign").join(script);
        // -I: neither the caller's variables nor its user packages; -B: no files beside the script.
        run(Command::new(&self.program).args(["-I", "-B"]).arg(path).args(arguments))
            .with_context(|| script.to_owned())
    }
}

/// `3.11`: an environment serves the Python that made it alone.
fn system_version() -> Result<String> {
    let code = "import sys; print('%d.%d' % sys.version_info[:2])";
    Ok(run(Command::new("python3").args(["-I", "-c", code])).context(MISSING)?.trim().to_owned())
}

/// Fills `into` with an environment. It stays of use when the directory is renamed: its interpreter finds it by its own place.
fn make(into: &Path) -> Result<()> {
    run(Command::new("python3").args(["-I", "-m", "venv"]).arg(into)).context(MISSING)?;
    let requirements = into.join("requirements.txt");
    std::fs::write(&requirements, REQUIREMENTS)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"];
    run(Command::new(into.join("bin/python"))
        .args(pip)
        .args(["--only-binary", ":all:", "--requirement"])
        .arg(requirements))
    .context("cannot install the packages of xtask/foreign/requirements.txt from PyPI")?;
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} failed ({}): {}", output.status, said.trim());
    }
    let text = String::from_utf8(output.stdout);
    ensure!(text.is_ok(), "{program} wrote what is not UTF-8");
    Ok(text?)
}

/// FNV-1a: names an environment after what is in it.
fn fingerprint(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_packages_make_another_environment() {
        assert_eq!(fingerprint(""), 0xcbf2_9ce4_8422_2325);
        assert_ne!(fingerprint("a==1\n"), fingerprint("a==2\n"));
    }

    #[test]
    fn every_package_is_pinned() {
        let packages = REQUIREMENTS.lines().filter(|line| !line.starts_with('#'));
        assert!(packages.clone().count() > 4);
        for line in packages {
            assert!(
                line.split_once("==").is_some_and(|(name, version)| !name.is_empty() && !version.is_empty()),
                "{line}"
            );
        }
    }

    #[test]
    fn a_script_that_fails_says_why() {
        let error = run(Command::new("sh").args(["-c", "echo counts differ >&2; exit 1"])).unwrap_err();
        assert!(error.to_string().ends_with("counts differ"), "{error}");
    }
}

//! QEMU 10.1 or newer, which has the vfio-user client: from the command line, PATH, the cache or a mirror.
//!
//! Debian's packages are unpacked beside the libc they were built for and run through its loader, so they run on older systems.
//! Refuses: knowing what machine it is to be; that is `machine`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt::{Apt, FRESH};
use crate::cache::Cache;
use crate::progress::step;

const PROGRAM: &str = "qemu-system-x86_64";
/// The first with `vfio-user-pci`.
const OLDEST: (u32, u32) = (10, 1);
const ENTRY: &str = "qemu";

/// A QEMU that can be run.
#[derive(Clone, Debug)]
pub struct Qemu {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// As QEMU says it; a key for what was learned of its firmware.
    pub version: String,
}

impl Qemu {
    /// The QEMU at `given`, else one of PATH that is new enough, else Debian's.
    pub fn provide(cache: &Cache, given: Option<&Path>) -> Result<Self> {
        if let Some(path) = given {
            let version =
                version_of(path, &[]).with_context(|| format!("--qemu {} does not run", path.display()))?;
            if !new_enough(&version) {
                bail!(
                    "--qemu {} is version {version}; the testbed needs QEMU >= {}.{}",
                    path.display(),
                    OLDEST.0,
                    OLDEST.1
                );
            }
            return Ok(Self { program: path.to_owned(), arguments: Vec::new(), version });
        }
        match version_of(Path::new(PROGRAM), &[]) {
            Ok(version) if new_enough(&version) => {
                return Ok(Self { program: PROGRAM.into(), arguments: Vec::new(), version });
            }
            _ => {}
        }
        Self::from_packages(cache).with_context(|| {
            format!(
                "QEMU >= {}.{} is missing: put one into PATH or give it with --qemu PATH",
                OLDEST.0, OLDEST.1
            )
        })
    }

    fn from_packages(cache: &Cache) -> Result<Self> {
        let root = cache.provide(ENTRY, |into| {
            let apt = Apt::open(cache)?;
            apt.update(FRESH)?;
            step("fetching QEMU", || apt.unpack_qemu(into))
        })?;
        let libraries =
            ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|path| root.join(path).into_os_string());
        let mut arguments: Vec<OsString> = vec![
            "--library-path".into(),
            libraries.join(&OsString::from(":")),
            root.join("usr/bin").join(PROGRAM).into(),
        ];
        for data in ["usr/share/seabios", "usr/share/qemu"] {
            arguments.extend(["-L".into(), root.join(data).into_os_string()]);
        }
        let program = root.join("usr/lib64/ld-linux-x86-64.so.2");
        let version = version_of(&program, &arguments).with_context(|| {
            format!("the QEMU in {} does not run: remove that directory to fetch it again", root.display())
        })?;
        if !new_enough(&version) {
            bail!("Debian's QEMU is version {version}");
        }
        Ok(Self { program, arguments, version })
    }

    /// A command that runs it; the caller adds the machine.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        command
    }
}

fn version_of(program: &Path, arguments: &[OsString]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!(
            "{} --version failed: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("it said nothing")
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    match parse_version(&text) {
        Some(version) => Ok(version.to_owned()),
        None => bail!("{} --version says no version of QEMU", program.display()),
    }
}

/// `11.1.3` of `QEMU emulator version 11.1.3 (Debian ...)`.
fn parse_version(text: &str) -> Option<&str> {
    text.lines().next()?.split_once("version ")?.1.split_whitespace().next()
}

fn new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_as_numbers() {
        let banner = "QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)\nCopyright (c) 2003-2026\n";
        assert_eq!(parse_version(banner), Some("11.1.3"));
        assert_eq!(parse_version("usage: qemu"), None);
        assert!(new_enough("11.1.3") && new_enough("10.1.0") && new_enough("10.10"));
        assert!(!new_enough("7.2.17") && !new_enough("10.0.2") && !new_enough("x"));
    }
}

//! What is in the guest's file system: agent, tracer, modules, and files the user adds.
//!
//! Owns: the layout that the agent relies on (see `dsascope_guest::protocol`). Refuses: the archive's format.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dsascope_guest::protocol::{MODULE_ORDER, PROGRAMS};

use crate::binaries::{AGENT, Binaries, TRACER};
use crate::emulation;
use crate::initramfs::Initramfs;
use crate::modules::{self, REQUIRED, WANTED};

/// Mount points and places to write to.
const DIRECTORIES: [&str; 7] = ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/etc"];

/// Where the modules are; init finds them through the list.
const MODULES: &str = "/modules";

/// A file of the host's that goes into the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    pub host: PathBuf,
    /// Absolute path.
    pub guest: String,
}

impl Extra {
    /// Parses `HOST=GUEST`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.rsplit_once('=') {
            Some((host, guest)) if !host.is_empty() && guest.starts_with('/') && !guest.ends_with('/') => {
                Ok(Self { host: host.into(), guest: guest.to_owned() })
            }
            _ => Err("expected HOST=GUEST with an absolute path in the guest, like tool=/bin/tool".into()),
        }
    }
}

/// Builds the archive. With `emulation`, the module that emulates MOVDIR64B and ENQCMD is loaded too.
pub fn build(
    binaries: &Binaries,
    module_directory: &Path,
    emulation: bool,
    extras: &[Extra],
) -> Result<Vec<u8>> {
    let mut archive = Initramfs::new(&DIRECTORIES);
    archive.console();
    for name in [AGENT, TRACER] {
        let Some(path) = binaries.get(name) else { bail!("the guest's program {name} was not built") };
        archive.program(&format!("{PROGRAMS}/{name}"), &read(path)?);
    }
    // A link, so that the agent is there once.
    archive.link("/init", &format!("{PROGRAMS}/{AGENT}"));
    let mut order = String::new();
    let mut modules = modules::collect(module_directory, &WANTED)?;
    if emulation {
        let idxd = modules.iter().find(|module| module.name == REQUIRED);
        let directory = tempfile::tempdir().context("cannot make a directory for the guest's module")?;
        let module = emulation::build(idxd.context("there is no idxd")?, directory.path())?;
        // idxd asks at its start what the CPU can do.
        modules.insert(0, module);
    }
    for module in modules {
        let path = format!("{MODULES}/{}.ko", module.name);
        archive.data(&path, &module.image);
        order += &format!("{path}\n");
    }
    archive.data(MODULE_ORDER, order.as_bytes());
    for extra in extras {
        archive.program(&extra.guest, &read(&extra.host)?);
    }
    Ok(archive.finish())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_files_are_named_by_both_paths() {
        let extra = Extra::parse("a=b/tool=/bin/tool").unwrap();
        assert_eq!((extra.host, extra.guest), (PathBuf::from("a=b/tool"), "/bin/tool".into()));
        for wrong in ["tool", "tool=bin/tool", "=/bin/tool", "tool=/bin/"] {
            assert!(Extra::parse(wrong).is_err(), "{wrong}");
        }
    }
}

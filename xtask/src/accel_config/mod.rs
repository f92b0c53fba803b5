//! Debian's accel-config for the guest: the tool with which administrators configure these devices.
//!
//! Owns: which of the package's files and libraries it needs to run, and the guest tests that hold what it says against `dsascope doctor`.
//! Refuses: configuring anything itself.

pub mod agree;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use object::read::elf::{Dyn, ElfFile64, FileHeader};
use object::{Endianness, elf};

use crate::apt::{Apt, FRESH};
use crate::binaries::{TRACER, workspace};
use crate::cache::Cache;
use crate::progress::step;
use crate::rootfs::Extra;
use crate::session::{Guest, Output};

const ENTRY: &str = "accel-config";
/// In the package and in the guest.
pub const PROGRAM: &str = "/usr/bin/accel-config";
const TEST_ENTRY: &str = "accel-config-test";
/// The project's own test of DSA, which submits by MOVDIR64B and ENQCMD; in the package and in the guest.
pub const DSA_TEST: &str = "/usr/libexec/accel-config/test/dsa_test";
/// A configuration for `load-config`, in this repository and in the guest.
const CONFIGURATION: (&str, &str) = ("xtask/accel-config/dedicated.conf", "/etc/accel-config/dedicated.conf");
const LIMIT: Duration = Duration::from_secs(60);
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
/// The interpreter that programs of this architecture name, and where the package of libc has it.
const LOADER: (&str, &str) = ("/lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2");

/// The tool's files for the guest, fetched when the cache lacks them.
pub fn files(cache: &Cache) -> Result<Vec<Extra>> {
    let root = cache
        .provide(ENTRY, |into| {
            let apt = Apt::open(cache)?;
            apt.update(FRESH)?;
            step("fetching accel-config", || apt.unpack_accel_config(into))
        })
        .context("Debian's accel-config is missing")?;
    let tests = cache
        .provide(TEST_ENTRY, |into| {
            let apt = Apt::open(cache)?;
            apt.update(FRESH)?;
            step("fetching accel-config's tests", || apt.unpack_accel_config_test(into))
        })
        .context("Debian's accel-config-test is missing")?;
    // It needs no other libraries than the tool.
    let dsa_test = Extra { host: tests.join(DSA_TEST.trim_start_matches('/')), guest: DSA_TEST.to_owned() };
    let program = Extra { host: root.join(PROGRAM.trim_start_matches('/')), guest: PROGRAM.to_owned() };
    let loader = Extra { host: root.join(LOADER.1), guest: LOADER.0.to_owned() };
    let libraries = needed(&program.host, &root.join(LIBRARIES))?
        .into_iter()
        .map(|name| Extra { host: root.join(LIBRARIES).join(&name), guest: format!("/{LIBRARIES}/{name}") });
    let configuration = Extra { host: workspace().join(CONFIGURATION.0), guest: CONFIGURATION.1.to_owned() };
    Ok([program, dsa_test, loader, configuration].into_iter().chain(libraries).collect())
}

/// `load-config` of a file with dedicated WQs: a guest test.
pub fn load_config(guest: &mut Guest) -> Result<()> {
    configures(guest, &["load-config", "-c", CONFIGURATION.1, "-e"], 3)
}

/// `config-user-default`, which makes every WQ shared: a guest test, where ENQCMD is emulated.
pub fn config_user_default(guest: &mut Guest) -> Result<()> {
    configures(guest, &["config-user-default"], 8)
}

/// accel-config configures the devices, and then it and the doctor say the same of them: so many WQs a device.
fn configures(guest: &mut Guest, arguments: &[&str], work_queues: usize) -> Result<()> {
    // It configures disabled devices only, and calls it an error to disable one that is.
    for device in agree::enabled_devices(&doctor(guest)?)? {
        let disabled = guest.run(&[PROGRAM, "disable-device", &device], LIMIT)?;
        ensure!(disabled.code == 0, "accel-config disable-device {device}: {}", said(&disabled));
    }
    let command: Vec<&str> = [PROGRAM].into_iter().chain(arguments.iter().copied()).collect();
    let configured = guest.run(&command, LIMIT)?;
    ensure!(configured.code == 0, "{}: {}", command.join(" "), said(&configured));
    let list = guest.run(&[PROGRAM, "list"], LIMIT)?;
    ensure!(list.code == 0, "accel-config list: {}", said(&list));
    let agreement = agree::compare(&String::from_utf8_lossy(&list.stdout), &doctor(guest)?)?;
    ensure!(agreement.differences.is_empty(), "{}", agreement.differences.join("; "));
    ensure!(
        agreement.devices > 0 && agreement.work_queues == work_queues * agreement.devices,
        "{} WQs on {} devices, expected {work_queues} on each",
        agreement.work_queues,
        agreement.devices
    );
    Ok(())
}

fn doctor(guest: &mut Guest) -> Result<String> {
    let output = guest.run(&[TRACER, "doctor", "--json"], LIMIT)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    format!("exit code {}: {}", output.code, String::from_utf8_lossy(&text).trim())
}

/// The libraries of `directory` that a program needs, and those that they need.
fn needed(program: &Path, directory: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut open = vec![program.to_owned()];
    while let Some(path) = open.pop() {
        for name in named_by(&path)? {
            let library = directory.join(&name);
            // The loader names itself too.
            if LOADER.0.ends_with(&name) || found.contains(&name) {
                continue;
            }
            if !library.is_file() {
                bail!("{} needs {name}, which is not in {}", path.display(), directory.display());
            }
            found.insert(name);
            open.push(library);
        }
    }
    Ok(found)
}

/// The libraries that an ELF file names.
fn named_by(path: &Path) -> Result<Vec<String>> {
    let what = || format!("cannot read {}", path.display());
    let bytes = fs::read(path).with_context(what)?;
    let file = ElfFile64::<Endianness>::parse(bytes.as_slice()).with_context(what)?;
    let endian = file.endian();
    let sections = file.elf_header().sections(endian, bytes.as_slice()).with_context(what)?;
    let Some((entries, link)) = sections.dynamic(endian, bytes.as_slice()).with_context(what)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, bytes.as_slice(), link).with_context(what)?;
    entries
        .iter()
        .filter(|entry| entry.d_tag(endian) == elf::DT_NEEDED)
        .map(|entry| {
            let name = entry.string(endian, strings).with_context(what)?;
            Ok(String::from_utf8_lossy(name).into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_libraries_are_found() {
        // This test's own program, which is linked to the C library.
        let program = std::env::current_exe().unwrap();
        let named = named_by(&program).unwrap();
        assert!(named.iter().any(|name| name == "libc.so.6"), "{named:?}");
        let empty = tempfile::tempdir().unwrap();
        assert!(needed(&program, empty.path()).unwrap_err().to_string().contains("needs lib"));
    }
}

//! Attributes of sysfs and proc: one value a file, errors that name it.
//!
//! Owns: the paths of idxd's devices (idxd-facts section 5). Refuses: knowing what a value means.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, anyhow};
use dsascope_guest::scenario::DeviceKind;

pub(crate) const DEVICES: &str = "/sys/bus/dsa/devices";
pub(crate) const DRIVERS: &str = "/sys/bus/dsa/drivers";

pub(crate) fn write(path: &Path, value: &str) -> anyhow::Result<()> {
    fs::write(path, value).with_context(|| format!("writing {value:?} to {}", path.display()))
}

pub(crate) fn read(path: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

pub(crate) fn number<T: FromStr>(path: &Path) -> anyhow::Result<T> {
    let text = read(path)?;
    text.parse().map_err(|_| anyhow!("{} holds {text:?}, not a number", path.display()))
}

/// Entries of a directory whose name starts so, sorted; none when there is no such directory.
pub(crate) fn entries(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(all) = fs::read_dir(directory) else { return Vec::new() };
    let named = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    let mut found: Vec<_> = all.flatten().map(|entry| entry.path()).filter(named).collect();
    found.sort();
    found
}

/// `wqN.M`.
pub(crate) fn wq_name(device: u16, wq: u8) -> String {
    format!("wq{device}.{wq}")
}

/// The open files of a WQ: `.../wqN.M/dsa!wqN.M/fileK`, or `iax!`.
pub(crate) fn open_files(kind: DeviceKind, wq: &str) -> Vec<PathBuf> {
    entries(&Path::new(DEVICES).join(wq).join(format!("{}!{wq}", kind.prefix())), "file")
}

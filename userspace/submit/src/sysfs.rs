//! The driver's view of work queues and of the files that processes have open on them.
//!
//! Owns: which WQs there are and how they are configured, and the counters of one open file. Reads alone. Refuses: configuration.

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{DeviceKind, Error, Paging};

/// Where the driver shows its devices.
pub const DEVICES: &str = "/sys/bus/dsa/devices";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Dedicated,
    Shared,
}

/// An enabled WQ for user space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInfo {
    /// wqN.M
    pub name: String,
    pub kind: DeviceKind,
    pub mode: Mode,
    /// Entries; of a shared WQ those that processes can fill.
    pub size: u32,
    pub paging: Paging,
    pub max_transfer_bytes: u64,
    pub max_batch: u32,
}

impl QueueInfo {
    /// Its device file.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        let directory = match self.kind {
            DeviceKind::Dsa => "/dev/dsa",
            DeviceKind::Iaa => "/dev/iax",
        };
        Path::new(directory).join(&self.name)
    }
}

/// All that a process can open, by name.
pub fn queues(devices: &Path) -> Result<Vec<QueueInfo>, Error> {
    let all = fs::read_dir(devices).map_err(|source| Error::Sysfs { path: devices.into(), source })?;
    let mut found = Vec::new();
    for entry in all.flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with("wq")
            && let Some(info) = queue(&path)?
        {
            found.push(info);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// `None`: it is not enabled, or not for user space.
fn queue(path: &Path) -> Result<Option<QueueInfo>, Error> {
    if text(path, "state")? != "enabled" || text(path, "type")? != "user" {
        return Ok(None);
    }
    let real = fs::canonicalize(path).map_err(|source| Error::Sysfs { path: path.into(), source })?;
    let device = real.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let Some(kind) = DeviceKind::ALL.into_iter().find(|kind| device.starts_with(kind.prefix())) else {
        return Ok(None);
    };
    let mode = if text(path, "mode")? == "shared" { Mode::Shared } else { Mode::Dedicated };
    let size: u32 = number(path, "size")?;
    // 0 is not configured; older drivers have no such file for dedicated WQs.
    let threshold = number(path, "threshold").unwrap_or(0);
    let flag = |name: &str| number(path, name).is_ok_and(|value: u32| value != 0);
    Ok(Some(QueueInfo {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        kind,
        mode,
        size: if mode == Mode::Shared && threshold > 0 { threshold } else { size },
        paging: Paging { page_requests: !flag("prs_disable"), block_on_fault: flag("block_on_fault") },
        max_transfer_bytes: number(path, "max_transfer_size")?,
        // IAA has no batches and no such file.
        max_batch: number(path, "max_batch_size").unwrap_or(0),
    }))
}

/// A file that this process has open on a WQ, with the driver's counters of it.
#[derive(Clone, Debug)]
pub struct OpenFile {
    path: PathBuf,
    /// Thread id of the opener, as the driver has it.
    pub opener: u32,
}

impl OpenFile {
    /// The file that this thread has just opened on `wq`.
    pub fn of_this_thread(devices: &Path, kind: DeviceKind, wq: &str) -> Result<Self, Error> {
        Self::find(devices, kind, wq, |_| true)
    }

    /// The other one, where this thread has opened `wq` twice.
    pub fn of_this_thread_but(
        devices: &Path,
        kind: DeviceKind,
        wq: &str,
        known: &Self,
    ) -> Result<Self, Error> {
        Self::find(devices, kind, wq, |path| path != known.path)
    }

    fn find(devices: &Path, kind: DeviceKind, wq: &str, fits: impl Fn(&Path) -> bool) -> Result<Self, Error> {
        // SAFETY: no arguments, no effects.
        let opener = unsafe { libc::gettid() }.cast_unsigned();
        let directory = devices.join(wq).join(format!("{}!{wq}", kind.prefix()));
        let all =
            fs::read_dir(&directory).map_err(|source| Error::Sysfs { path: directory.clone(), source })?;
        let mut files: Vec<PathBuf> = all.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("file")));
        files.retain(|path| fits(path));
        files.sort();
        let path = files.into_iter().find(|path| number::<u32>(path, "pid").is_ok_and(|pid| pid == opener));
        let path =
            path.ok_or_else(|| Error::Sysfs { path: directory, source: io::ErrorKind::NotFound.into() })?;
        Ok(Self { path, opener })
    }

    /// fileK.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub fn faults(&self) -> Result<u64, Error> {
        number(&self.path, "cr_faults")
    }

    pub fn failures(&self) -> Result<u64, Error> {
        number(&self.path, "cr_fault_failures")
    }
}

fn text(directory: &Path, name: &str) -> Result<String, Error> {
    let path = directory.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(Error::Sysfs { path, source }),
    }
}

fn number<T: FromStr>(directory: &Path, name: &str) -> Result<T, Error> {
    let text = text(directory, name)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is no number"));
    text.parse().map_err(|_| Error::Sysfs { path: directory.join(name), source: invalid() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), format!("{text}\n")).unwrap();
        }
    }

    const SHARED: [(&str, &str); 9] = [
        ("state", "enabled"),
        ("type", "user"),
        ("mode", "shared"),
        ("size", "16"),
        ("threshold", "12"),
        ("block_on_fault", "0"),
        ("prs_disable", "1"),
        ("max_transfer_size", "2097152"),
        ("max_batch_size", "32"),
    ];

    #[test]
    fn enabled_queues_of_user_space_are_found_with_their_settings() {
        let root = tempfile::tempdir().unwrap();
        let (real, bus) = (root.path().join("pci"), root.path().join("bus"));
        write(&real.join("dsa0/wq0.1"), &SHARED);
        write(&real.join("dsa0/wq0.2"), &[("state", "disabled"), ("type", "user")]);
        let mut iax: Vec<_> =
            SHARED.into_iter().filter(|(name, _)| !["threshold", "max_batch_size"].contains(name)).collect();
        iax[2] = ("mode", "dedicated");
        write(&real.join("iax1/wq1.0"), &iax);
        fs::create_dir_all(&bus).unwrap();
        for (device, wq) in [("dsa0", "wq0.1"), ("dsa0", "wq0.2"), ("iax1", "wq1.0")] {
            std::os::unix::fs::symlink(real.join(device).join(wq), bus.join(wq)).unwrap();
        }
        let found = queues(&bus).unwrap();
        assert_eq!(found.iter().map(|wq| &*wq.name).collect::<Vec<_>>(), ["wq0.1", "wq1.0"]);
        let paging = Paging { page_requests: false, block_on_fault: false };
        assert_eq!((found[0].kind, found[0].mode, found[0].size), (DeviceKind::Dsa, Mode::Shared, 12));
        assert_eq!((found[0].paging, found[0].max_batch), (paging, 32));
        assert_eq!(found[0].node(), Path::new("/dev/dsa/wq0.1"));
        assert_eq!((found[1].kind, found[1].size, found[1].max_batch), (DeviceKind::Iaa, 16, 0));
        assert!(matches!(queues(&root.path().join("nothing")), Err(Error::Sysfs { .. })));
        fs::write(real.join("dsa0/wq0.1/size"), "many").unwrap();
        assert!(queues(&bus).unwrap_err().to_string().contains("wq0.1/size"));
    }

    #[test]
    fn the_file_of_this_thread_is_found_among_others() {
        let root = tempfile::tempdir().unwrap();
        let files = root.path().join("wq0.0/dsa!wq0.0");
        // SAFETY: no arguments, no effects.
        let own = unsafe { libc::gettid() }.to_string();
        write(&files.join("file3"), &[("pid", "1"), ("cr_faults", "9"), ("cr_fault_failures", "9")]);
        write(&files.join("file7"), &[("pid", &own), ("cr_faults", "5"), ("cr_fault_failures", "2")]);
        let file = OpenFile::of_this_thread(root.path(), DeviceKind::Dsa, "wq0.0").unwrap();
        assert_eq!((file.name(), file.faults().unwrap(), file.failures().unwrap()), ("file7".into(), 5, 2));
        assert!(OpenFile::of_this_thread_but(root.path(), DeviceKind::Dsa, "wq0.0", &file).is_err());
        write(&files.join("file8"), &[("pid", &own), ("cr_faults", "0"), ("cr_fault_failures", "0")]);
        let other = OpenFile::of_this_thread_but(root.path(), DeviceKind::Dsa, "wq0.0", &file).unwrap();
        assert_eq!(other.name(), "file8");
        fs::remove_dir_all(files.join("file8")).unwrap();
        fs::remove_dir_all(files.join("file7")).unwrap();
        assert!(OpenFile::of_this_thread(root.path(), DeviceKind::Dsa, "wq0.0").is_err());
    }
}

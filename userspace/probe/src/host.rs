//! What the host offers, read from /proc and /sys. Never writes, never fails: what cannot be read is `None`.

use std::{fs, path::Path};

use dsascope_core::event::{DeviceId, DeviceInfo, DriverInfo, WqInfo};

/// Facts about this machine; the judgement on them is `doctor`'s.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub name: String,
    /// `uname -r` and `uname -m`.
    pub kernel: String,
    pub machine: String,
    pub driver_loaded: bool,
    pub driver: DriverInfo,
    pub devices: Vec<DeviceInfo>,
    pub btf_vmlinux: bool,
    pub btf_idxd: bool,
    /// none, integrity, confidentiality; `None` without the lockdown LSM.
    pub lockdown: Option<String>,
    /// Open files on WQs, by any process.
    pub files: Vec<OpenFile>,
}

/// One `fileK` of sysfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    pub device: u16,
    pub wq: u16,
    /// The K of fileK.
    pub file: u32,
    /// Thread that opened it.
    pub tid: u32,
    pub cr_faults: Option<u64>,
    pub cr_fault_failures: Option<u64>,
}

const DEVICES: &str = "/sys/bus/dsa/devices";

fn text(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|t| t.trim().to_owned())
}

fn number<T: std::str::FromStr>(path: impl AsRef<Path>) -> Option<T> {
    text(path)?.parse().ok()
}

fn flag(path: impl AsRef<Path>) -> Option<bool> {
    number::<u8>(path).map(|v| v != 0)
}

fn hex(path: impl AsRef<Path>) -> Option<u64> {
    u64::from_str_radix(text(path)?.trim_start_matches("0x"), 16).ok()
}

/// What a device's PCI requests are signed with: bus, device and function. `None`: sysfs does not show its PCI function.
#[must_use]
pub fn requester(device: DeviceId) -> Option<u16> {
    let path = fs::canonicalize(Path::new(DEVICES).join(device.to_string())).ok()?;
    path.ancestors().skip(1).find_map(|p| requester_of(p.file_name()?.to_str()?))
}

/// Of a PCI address: `0000:6a:01.0` is 0x6a08.
fn requester_of(address: &str) -> Option<u16> {
    let mut parts = address.split([':', '.']);
    let mut part = || u16::from_str_radix(parts.next()?, 16).ok();
    let (_segment, bus, slot, function) = (part()?, part()?, part()?, part()?);
    (bus < 256 && slot < 32 && function < 8 && address.len() >= 12).then_some(bus << 8 | slot << 3 | function)
}

/// Names in a directory, sorted; empty when it cannot be read.
fn names(path: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The machine as it is now.
#[must_use]
pub fn preflight() -> Host {
    let kernel_file = |name: &str| text(format!("/proc/sys/kernel/{name}"));
    let driver_loaded = Path::new("/sys/module/idxd").exists();
    let btf_idxd = Path::new("/sys/kernel/btf/idxd").exists();
    Host {
        name: kernel_file("hostname").unwrap_or_default(),
        kernel: kernel_file("osrelease").unwrap_or_default(),
        machine: kernel_file("arch").unwrap_or_else(|| std::env::consts::ARCH.into()),
        driver_loaded,
        driver: DriverInfo {
            module: "idxd".into(),
            srcversion: text("/sys/module/idxd/srcversion"),
            btf: btf_idxd,
        },
        devices: devices(Path::new(DEVICES)),
        btf_vmlinux: Path::new("/sys/kernel/btf/vmlinux").exists(),
        btf_idxd,
        lockdown: text("/sys/kernel/security/lockdown").and_then(|t| chosen(&t)),
        files: open_files(Path::new(DEVICES)),
    }
}

/// The bracketed word of "none [integrity] confidentiality".
fn chosen(line: &str) -> Option<String> {
    line.split_whitespace().find_map(|w| w.strip_prefix('[')?.strip_suffix(']').map(str::to_owned))
}

/// Devices and their WQs; `root` is `/sys/bus/dsa/devices` or a copy of it.
#[must_use]
pub fn devices(root: &Path) -> Vec<DeviceInfo> {
    let all = names(root);
    let mut devices: Vec<DeviceInfo> = all
        .iter()
        .filter_map(|name| {
            let device = name.parse().ok()?;
            let at = root.join(name);
            Some(DeviceInfo {
                device,
                state: text(at.join("state")).unwrap_or_else(|| "unknown".into()),
                version: hex(at.join("version")).and_then(|v| u32::try_from(v).ok()),
                gen_cap: hex(at.join("gen_cap")),
                event_log_size: number(at.join("event_log_size")),
                pasid_enabled: flag(at.join("pasid_enabled")),
                numa_node: number(at.join("numa_node")),
                wqs: all.iter().filter_map(|wq| work_queue(root, wq, device.id)).collect(),
            })
        })
        .collect();
    devices.sort_by_key(|d| d.device);
    devices
}

/// (N, M) of "wqN.M".
pub(crate) fn wq_numbers(name: &str) -> Option<(u16, u16)> {
    let (device, wq) = name.strip_prefix("wq")?.split_once('.')?;
    Some((device.parse().ok()?, wq.parse().ok()?))
}

fn work_queue(root: &Path, name: &str, device: u16) -> Option<WqInfo> {
    let (of, wq) = wq_numbers(name)?;
    if of != device {
        return None;
    }
    let at = root.join(name);
    Some(WqInfo {
        wq,
        name: text(at.join("name")).filter(|n| !n.is_empty()),
        state: text(at.join("state")).unwrap_or_else(|| "unknown".into()),
        type_: text(at.join("type")).unwrap_or_else(|| "none".into()),
        mode: text(at.join("mode")),
        size: number(at.join("size")),
        threshold: number(at.join("threshold")),
        priority: number(at.join("priority")),
        group: number::<i32>(at.join("group_id")).and_then(|g| u32::try_from(g).ok()),
        clients: number(at.join("clients")),
        block_on_fault: flag(at.join("block_on_fault")),
        prs_disable: flag(at.join("prs_disable")),
        ats_disable: flag(at.join("ats_disable")),
    })
}

/// Open files, as idxd-facts section 5 lays them out: `wqN.M/{dsa,iax}!wqN.M/fileK`.
#[must_use]
pub fn open_files(root: &Path) -> Vec<OpenFile> {
    let mut files = Vec::new();
    for name in names(root) {
        let Some((device, wq)) = wq_numbers(&name) else { continue };
        for cdev in names(root.join(&name)).iter().filter(|n| n.ends_with(&format!("!{name}"))) {
            let at = root.join(&name).join(cdev);
            for file in names(&at) {
                let Some(k) = file.strip_prefix("file").and_then(|k| k.parse().ok()) else { continue };
                let at = at.join(&file);
                let Some(tid) = number(at.join("pid")) else { continue };
                files.push(OpenFile {
                    device,
                    wq,
                    file: k,
                    tid,
                    cr_faults: number(at.join("cr_faults")),
                    cr_fault_failures: number(at.join("cr_fault_failures")),
                });
            }
        }
    }
    files
}

/// A process as /proc knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub tgid: u32,
    pub comm: String,
    /// Id (the directory's inode) and path of its cgroup (version 2).
    pub cgroup: Option<(u64, String)>,
}

/// The process that a thread belongs to; `None` when it is gone.
#[must_use]
pub fn process_of_thread(tid: u32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let tgid = status.lines().find_map(|l| l.strip_prefix("Tgid:"))?.trim().parse().ok()?;
    let comm = text(format!("/proc/{tgid}/comm"))?;
    Some(Process { tgid, comm, cgroup: cgroup_of(tgid) })
}

/// (id, path) of a process's cgroup in the unified hierarchy.
#[must_use]
pub fn cgroup_of(tgid: u32) -> Option<(u64, String)> {
    use std::os::unix::fs::MetadataExt as _;
    let lines = fs::read_to_string(format!("/proc/{tgid}/cgroup")).ok()?;
    let path = lines.lines().find_map(|l| l.strip_prefix("0::"))?.to_owned();
    let id = fs::metadata(format!("/sys/fs/cgroup{path}")).ok()?.ino();
    Some((id, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysfs_is_read_as_the_driver_lays_it_out() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let put = |path: &str, value: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{value}\n")).unwrap();
        };
        put("dsa0/state", "enabled");
        put("dsa0/version", "0x200");
        put("dsa0/event_log_size", "64");
        put("wq0.1/mode", "dedicated");
        put("wq0.1/prs_disable", "1");
        put("wq0.1/group_id", "-1");
        put("wq0.1/dsa!wq0.1/file7/pid", "42");
        put("wq0.1/dsa!wq0.1/file7/cr_faults", "3");
        put("wq1.1/mode", "shared");
        let devices = devices(root);
        assert_eq!(devices.len(), 1);
        assert_eq!(devices[0].version, Some(0x200));
        assert_eq!(devices[0].event_log_size, Some(64));
        assert_eq!(devices[0].wqs.len(), 1, "wq1.1 belongs to another device");
        assert_eq!(devices[0].wqs[0].prs_disable, Some(true));
        assert_eq!(devices[0].wqs[0].group, None);
        assert_eq!(
            open_files(root),
            [OpenFile { device: 0, wq: 1, file: 7, tid: 42, cr_faults: Some(3), cr_fault_failures: None }]
        );
    }

    #[test]
    fn lockdown_is_the_bracketed_word() {
        assert_eq!(chosen("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(chosen("none"), None);
    }

    #[test]
    fn this_very_process_is_found() {
        let me = process_of_thread(std::process::id()).unwrap();
        assert_eq!(me.tgid, std::process::id());
        assert!(!me.comm.is_empty());
    }
}

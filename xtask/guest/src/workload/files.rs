//! The driver's view of this process' open file: its counters in sysfs.
//!
//! Owns: finding fileK. Refuses: counting for itself.

use std::path::PathBuf;

use anyhow::Context;
use dsascope_guest::{
    report::FileCounters,
    scenario::{DeviceKind, Process},
};
use nix::unistd::gettid;

use crate::sysfs;

#[derive(Debug)]
pub(crate) struct OpenFile {
    path: PathBuf,
    pid: u32,
}

impl OpenFile {
    /// The file that this thread has just opened on `wq`; the driver notes the opener's thread id.
    pub(crate) fn of_this_thread(kind: DeviceKind, wq: &str) -> anyhow::Result<Self> {
        let pid = gettid().as_raw() as u32;
        let path = sysfs::open_files(kind, wq)
            .into_iter()
            .find(|file| sysfs::number::<u32>(&file.join("pid")).is_ok_and(|opener| opener == pid))
            .with_context(|| format!("the driver shows no file of thread {pid} on {wq}"))?;
        Ok(Self { path, pid })
    }

    pub(crate) fn failures(&self) -> anyhow::Result<u64> {
        sysfs::number(&self.path.join("cr_fault_failures"))
    }

    pub(crate) fn faults(&self) -> anyhow::Result<u64> {
        sysfs::number(&self.path.join("cr_faults"))
    }

    /// `settled`: nothing is pending any more, so the counters are final.
    pub(crate) fn counters(&self, process: &Process, settled: bool) -> anyhow::Result<FileCounters> {
        let read = |name: &str| -> anyhow::Result<Option<u64>> {
            if settled { sysfs::number(&self.path.join(name)).map(Some) } else { Ok(None) }
        };
        Ok(FileCounters {
            process: process.name.clone(),
            device: process.device.clone(),
            work_queue: process.work_queue,
            file: self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            pid: self.pid,
            cr_faults: read("cr_faults")?,
            cr_fault_failures: read("cr_fault_failures")?,
        })
    }
}

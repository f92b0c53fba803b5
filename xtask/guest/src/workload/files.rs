//! The driver's view of this process' open file: its counters in sysfs, for the report.
//!
//! Refuses: counting for itself.

use std::path::Path;

use dsascope_guest::{
    report::FileCounters,
    scenario::{DeviceKind, Process},
};
use dsascope_submit::{Error, sysfs};

#[derive(Debug)]
pub(crate) struct OpenFile(sysfs::OpenFile);

impl OpenFile {
    /// The file that this thread has just opened on `wq`.
    pub(crate) fn of_this_thread(kind: DeviceKind, wq: &str) -> Result<Self, Error> {
        sysfs::OpenFile::of_this_thread(Path::new(sysfs::DEVICES), kind, wq).map(Self)
    }

    /// The other file that this thread has opened on `wq`.
    pub(crate) fn of_this_thread_but(kind: DeviceKind, wq: &str, known: &Self) -> Result<Self, Error> {
        sysfs::OpenFile::of_this_thread_but(Path::new(sysfs::DEVICES), kind, wq, &known.0).map(Self)
    }

    pub(crate) fn failures(&self) -> Result<u64, Error> {
        self.0.failures()
    }

    pub(crate) fn faults(&self) -> Result<u64, Error> {
        self.0.faults()
    }

    /// `settled`: nothing is pending any more, so the counters are final.
    pub(crate) fn counters(&self, process: &Process, settled: bool) -> Result<FileCounters, Error> {
        let read = |count: fn(&Self) -> Result<u64, Error>| {
            if settled { count(self).map(Some) } else { Ok(None) }
        };
        Ok(FileCounters {
            process: process.name.clone(),
            device: process.device.clone(),
            work_queue: process.work_queue,
            file: self.0.name(),
            pid: self.0.opener,
            cr_faults: read(Self::faults)?,
            cr_fault_failures: read(Self::failures)?,
        })
    }
}

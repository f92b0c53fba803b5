//! What the kernel says about a run: its log since the beginning, its taint flags, its BPF programs.
//!
//! Owns: /dev/kmsg. Refuses: deciding which complaint is the driver's and known.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;
use dsascope_guest::{report::KernelReport, scenario::Scenario};

use crate::sysfs;

const COMPLAINTS: [&str; 7] =
    ["BUG", "WARNING:", "Oops", "RIP:", "general protection", "Call Trace", "hung task"];

pub(crate) struct KernelLog {
    file: File,
    /// Of each device's slab cache when the run began.
    objects: BTreeMap<String, u64>,
}

impl KernelLog {
    pub(crate) fn begin(scenario: &Scenario) -> anyhow::Result<Self> {
        let what = "opening the kernel log";
        let mut file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").context(what)?;
        file.seek(SeekFrom::End(0)).context(what)?;
        let devices = scenario.devices.iter().map(|device| device.name.clone());
        let objects = devices.map(|device| Ok((device.clone(), fault_objects(&device)?)));
        Ok(Self { file, objects: objects.collect::<anyhow::Result<_>>()? })
    }

    pub(crate) fn end(&mut self) -> anyhow::Result<KernelReport> {
        let mut log = Vec::new();
        let mut record = vec![0; 8192];
        loop {
            match self.file.read(&mut record) {
                Ok(0) => break,
                Ok(n) => log.push(message(&String::from_utf8_lossy(&record[..n]))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {
                    log.push("(older lines were overwritten)".into());
                }
                Err(error) => return Err(error).context("reading the kernel log"),
            }
        }
        let complaints =
            log.iter().filter(|line| COMPLAINTS.iter().any(|word| line.contains(word))).cloned().collect();
        let tainted = sysfs::number(Path::new("/proc/sys/kernel/tainted"))?;
        let objects = self.objects.iter();
        let fault_objects = objects
            .map(|(device, before)| Ok((device.clone(), [*before, fault_objects(device)?])))
            .collect::<anyhow::Result<_>>()?;
        Ok(KernelReport { tainted, complaints, log, fault_objects })
    }
}

/// Objects of the cache that the driver names like the device; free ones that a CPU keeps at hand count too.
fn fault_objects(device: &str) -> anyhow::Result<u64> {
    let caches = sysfs::read(Path::new("/proc/slabinfo"))?;
    let mut fields = caches.lines().map(str::split_whitespace);
    let cache = fields.find_map(|mut fields| (fields.next()? == device).then(|| fields.next()).flatten());
    let cache = cache.with_context(|| format!("there is no slab cache {device}"))?;
    cache.parse().with_context(|| format!("the slab cache {device} holds {cache:?} objects"))
}

/// The text of one record: what stands between the first `;` and the end of its line.
fn message(record: &str) -> String {
    let text = record.split_once(';').map_or(record, |(_, text)| text);
    text.lines().next().unwrap_or_default().to_owned()
}

/// How many BPF programs are loaded.
pub(crate) fn bpf_programs() -> u32 {
    /// `union bpf_attr` for BPF_PROG_GET_NEXT_ID.
    #[repr(C)]
    struct NextId {
        start: u32,
        next: u32,
        open_flags: u32,
    }
    const BPF_PROG_GET_NEXT_ID: libc::c_int = 11;
    let mut ids = NextId { start: 0, next: 0, open_flags: 0 };
    let mut count = 0;
    // SAFETY: the structure is what the command reads and writes, and its size is passed along.
    while unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_NEXT_ID, &raw mut ids, size_of::<NextId>()) }
        == 0
    {
        count += 1;
        ids.start = ids.next;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_record_is_cut_to_its_text() {
        let record = "4,1234,5678901,-;BUG: Bad rss-counter state; mm:x\n SUBSYSTEM=pci\n";
        assert_eq!(message(record), "BUG: Bad rss-counter state; mm:x");
    }
}

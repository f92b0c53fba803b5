//! What a scenario's run reports: one file of JSON each, sent to the host.
//!
//! Owns: the reports' shape. Refuses: judging them beyond a scenario's expectations.
//!
//! | file | content |
//! |---|---|
//! | `processes.json` | [`ProcessReport`] a process |
//! | `sysfs.json` | [`FileCounters`] a file that a process had open on a WQ |
//! | `kernel.json` | [`KernelReport`] |
//! | `tracer.json` | [`TracerReport`], when there was a tracer |
//! | `tracer.stdout`, `tracer.stderr` | what the tracer wrote |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::scenario::{Exit, Inject, MAX_BATCH_IDENTIFIERS, Process, Scenario};

pub const PROCESSES: &str = "processes.json";
pub const SYSFS: &str = "sysfs.json";
pub const KERNEL: &str = "kernel.json";
pub const TRACER: &str = "tracer.json";
pub const TRACER_STDOUT: &str = "tracer.stdout";
pub const TRACER_STDERR: &str = "tracer.stderr";

/// What a process did, over all times that it opened its WQ.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessReport {
    pub process: String,
    pub pid: u32,
    pub device: String,
    pub work_queue: u8,
    /// Descriptors and batches sent to the device, resumed ones again, drains among them.
    pub submitted: u64,
    /// Completion-record faults that these must provoke; drains aside, whose records may go either way.
    pub faults: u64,
    /// Of these, records seen.
    pub delivered: u64,
    /// Of these, records that the driver counted as failed.
    pub failed: u64,
    /// Of these, records that nobody had asked for.
    pub uncopied: u64,
    /// Descriptors that the device must refuse, since their record straddles two pages.
    pub refused: u64,
    /// Drains submitted, and how many of these had their record in an absent page.
    pub drains: u64,
    pub drains_absent: u64,
    /// Partial completions that were resumed.
    pub resumed: u64,
    /// Records that tell of a hardware error.
    pub hardware_errors: u64,
    /// Batches whose record says of their elements' records what is not so: the driver has moved a failure between batches.
    pub misreported: u64,
    /// Of those that should have come to an end, how many did not in time.
    pub overdue: u64,
    /// Left behind by a process that exits with faults pending.
    pub left_pending: u64,
    /// Outstanding when the device was halted, or when the file that the driver delivers to was closed.
    pub lost: u64,
    /// Descriptors that did not end as they must, or did not do what they must.
    pub wrong: u64,
    /// The first of these, in words.
    pub first_wrong: Option<String>,
    /// How often its shared WQ was full when it submitted, by ENQCMD; by write(2), how often the driver gave up.
    pub retries: u64,
    /// Submission to visibility of the records in absent pages, µs, in the order they were seen. Records are looked at about
    /// every 50 µs.
    pub delivery_us: Vec<u32>,
    /// What stopped the process early.
    pub error: Option<String>,
}

impl ProcessReport {
    /// One more descriptor did not end as it must.
    pub fn note_wrong(&mut self, words: String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert(words);
    }

    /// Adds what another round counted.
    pub fn add(&mut self, mut round: Self) {
        self.submitted += round.submitted;
        self.faults += round.faults;
        self.delivered += round.delivered;
        self.failed += round.failed;
        self.uncopied += round.uncopied;
        self.refused += round.refused;
        self.drains += round.drains;
        self.drains_absent += round.drains_absent;
        self.resumed += round.resumed;
        self.hardware_errors += round.hardware_errors;
        self.misreported += round.misreported;
        self.overdue += round.overdue;
        self.left_pending += round.left_pending;
        self.lost += round.lost;
        self.wrong += round.wrong;
        self.retries += round.retries;
        self.first_wrong = self.first_wrong.take().or(round.first_wrong);
        self.delivery_us.append(&mut round.delivery_us);
    }
}

/// The driver's counters of one open file, read when all its descriptors had come to their end and before it was closed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileCounters {
    pub process: String,
    pub device: String,
    pub work_queue: u8,
    /// fileK.
    pub file: String,
    /// Thread id of the opener, as the driver has it.
    pub pid: u32,
    /// `None`: the process exited with faults pending, so nobody could read it in time.
    pub cr_faults: Option<u64>,
    pub cr_fault_failures: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelReport {
    /// /proc/sys/kernel/tainted.
    pub tainted: u64,
    /// Instructions that the emulation has done since the boot; `None`: it is not loaded.
    pub emulated: Option<u64>,
    /// Lines of the kernel log since the run began that name a BUG, WARNING or Oops.
    pub complaints: Vec<String>,
    /// All lines of the kernel log since the run began.
    pub log: Vec<String>,
    /// By device: the driver's objects for faults, as its slab cache counts them, before the run and after.
    pub fault_objects: BTreeMap<String, [u64; 2]>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TracerReport {
    pub argv: Vec<String>,
    /// Start to first complete line on stdout; `None`: it never came.
    pub ready_ms: Option<u64>,
    /// Ready to interrupt (or kill).
    pub attached_ms: u64,
    pub code: i32,
    /// VmHWM just before the end.
    pub peak_rss_kib: u64,
    pub cpu_until_ready_ms: u64,
    pub cpu_while_attached_ms: u64,
    /// Ended by this run's SIGKILL.
    pub killed: bool,
    /// BPF programs in the kernel: before it started, when it was ready, after it ended.
    pub bpf_programs_before: u32,
    pub bpf_programs_attached: u32,
    pub bpf_programs_after: u32,
    /// The second start after a kill.
    pub second: Option<Box<TracerReport>>,
}

/// What `service-times stop` prints: the driver's services as ftrace saw them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTimes {
    /// Start to end of `idxd_evl_fault_work`, in the order of their ends.
    pub service_us: Vec<u64>,
    /// Starts without an end and ends without a start.
    pub unpaired: u64,
}

/// One run's books as the guest returns them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub processes: Vec<ProcessReport>,
    pub sysfs: Vec<FileCounters>,
    pub kernel: KernelReport,
    pub tracer: Option<TracerReport>,
}

/// Where a run differs from what its scenario expects and from what every run must fulfil; one line each.
#[must_use]
pub fn differences(scenario: &Scenario, report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for process in &scenario.processes {
        match report.processes.iter().find(|p| p.process == process.name) {
            Some(found) => {
                of_process(scenario, process, found, &mut lines);
                if process.exit == Exit::Clean {
                    of_counters(found, &report.sysfs, &mut lines);
                }
            }
            None => lines.push(format!("{}: there is no report of it", process.name)),
        }
    }
    hardware_errors(scenario, report, &mut lines);
    if let Some(tracer) = &report.tracer {
        if tracer.bpf_programs_after > tracer.bpf_programs_before {
            let (before, after) = (tracer.bpf_programs_before, tracer.bpf_programs_after);
            lines.push(format!("tracer: {after} BPF programs after its end, {before} before its start"));
        }
        if tracer.bpf_programs_attached <= tracer.bpf_programs_before {
            lines.push("tracer: it said that it is attached, but loaded no BPF program".into());
        }
    }
    lines
}

/// As many descriptors ended with a hardware error as were told to.
fn hardware_errors(scenario: &Scenario, report: &Report, lines: &mut Vec<String>) {
    for device in &scenario.devices {
        let injected = device.injections.iter().map(|inject| match inject {
            Inject::HardwareErrors { descriptors, .. } => u64::from(*descriptors),
            Inject::Halt { .. }
            | Inject::Delay { .. }
            | Inject::ErrorsInRegister { .. }
            | Inject::LateEntries { .. } => 0,
        });
        let injected: u64 = injected.sum();
        let of_device = report.processes.iter().filter(|process| process.device == device.name);
        let seen: u64 = of_device.map(|process| process.hardware_errors).sum();
        // Those of records that do not come are not seen.
        let all = scenario.processes.iter().filter(|process| process.device == device.name).all(|process| {
            process.exit == Exit::Clean && !process.completion_records.has(|habit| !habit.is_seen())
        });
        if seen > injected || all && seen < injected {
            lines.push(format!("{}: {seen} hardware errors seen, {injected} injected", device.name));
        }
    }
}

fn of_process(scenario: &Scenario, process: &Process, found: &ProcessReport, lines: &mut Vec<String>) {
    let exit = process.exit;
    let name = &found.process;
    if let Some(error) = &found.error {
        lines.push(format!("{name}: {error}"));
    }
    if found.overdue > 0 {
        lines.push(format!("{name}: {} descriptors are overdue", found.overdue));
    }
    if found.wrong > 0 {
        let first = found.first_wrong.as_deref().unwrap_or_default();
        lines.push(format!("{name}: {} descriptors are wrong; the first: {first}", found.wrong));
    }
    let device = scenario.device(&found.device);
    // With few identifiers that is the driver's known defect.
    let few = device.is_some_and(|device| device.batch_identifiers < MAX_BATCH_IDENTIFIERS);
    if found.misreported > 0 && !few {
        lines.push(format!("{name}: {} batches are told of others' failures", found.misreported));
    }
    if found.lost > 0 && !process.may_lose() {
        lines.push(format!("{name}: {} descriptors are lost", found.lost));
    }
    if exit == Exit::Pending && found.left_pending == 0 {
        lines.push(format!("{name}: left nothing pending at its exit"));
    }
    let Some(expect) = scenario.expect.get(name) else { return };
    if let Some(expected) = expect.retried.filter(|&expected| expected != (found.retries > 0)) {
        let wished = if expected { "some" } else { "none" };
        lines.push(format!("{name}: {} retries, expected {wished}", found.retries));
    }
    for (what, expected, is) in [
        ("faults", expect.faults, found.faults),
        ("delivered", expect.delivered, found.delivered),
        ("failed", expect.failed, found.failed),
    ] {
        if let Some(expected) = expected.filter(|&expected| expected != is) {
            lines.push(format!("{name}: {what} {is}, expected {expected}"));
        }
    }
}

fn of_counters(found: &ProcessReport, files: &[FileCounters], lines: &mut Vec<String>) {
    let name = &found.process;
    let sum = |of: fn(&FileCounters) -> Option<u64>| {
        files.iter().filter(|f| &f.process == name).map(of).sum::<Option<u64>>()
    };
    // A drain's record that faults by itself is counted, one behind other entries is not.
    for (what, counted, is, perhaps) in [
        ("cr_faults", sum(|f| f.cr_faults), found.faults - found.lost, found.drains_absent),
        ("cr_fault_failures", sum(|f| f.cr_fault_failures), found.failed, 0),
    ] {
        match counted {
            Some(counted) if !(is..=is + perhaps).contains(&counted) => {
                lines.push(format!("{name}: {what} is {counted} in sysfs, {is} by its own account"));
            }
            None => lines.push(format!("{name}: {what} could not be read from sysfs")),
            Some(_) => {}
        }
    }
}

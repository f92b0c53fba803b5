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

use serde::{Deserialize, Serialize};

use crate::scenario::{Exit, Scenario};

pub const PROCESSES: &str = "processes.json";
pub const SYSFS: &str = "sysfs.json";
pub const KERNEL: &str = "kernel.json";
pub const TRACER: &str = "tracer.json";
pub const TRACER_STDOUT: &str = "tracer.stdout";
pub const TRACER_STDERR: &str = "tracer.stderr";

/// What a process did, over all times that it opened its WQ. Counts are descriptors (or batches).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessReport {
    pub process: String,
    pub pid: u32,
    pub device: String,
    pub work_queue: u8,
    pub submitted: u64,
    /// By where the completion record lay.
    pub resident: u64,
    pub absent: u64,
    pub read_only: u64,
    pub unmapped: u64,
    /// Records seen with a status, of resident and of absent pages.
    pub resident_completed: u64,
    pub delivered: u64,
    /// Records of read-only and unmapped pages that the driver counted as failed.
    pub failed: u64,
    /// Of those that should have come to an end, how many did not in time.
    pub overdue: u64,
    /// Left behind by a process that exits with faults pending.
    pub left_pending: u64,
    /// Records whose status was not success, or whose operation's result was wrong.
    pub wrong: u64,
    /// Submission to visibility of the records in absent pages, µs, in the order they were seen. Records are looked at about
    /// every 50 µs.
    pub delivery_us: Vec<u32>,
    /// What stopped the process early.
    pub error: Option<String>,
}

impl ProcessReport {
    /// Completion-record faults provoked.
    #[must_use]
    pub const fn faults(&self) -> u64 {
        self.absent + self.read_only + self.unmapped
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
    /// Lines of the kernel log since the run began that name a BUG, WARNING or Oops.
    pub complaints: Vec<String>,
    /// All lines of the kernel log since the run began.
    pub log: Vec<String>,
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
                of_process(scenario, process.exit, found, &mut lines);
                if process.exit == Exit::Clean {
                    of_counters(found, &report.sysfs, &mut lines);
                }
            }
            None => lines.push(format!("{}: there is no report of it", process.name)),
        }
    }
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

fn of_process(scenario: &Scenario, exit: Exit, found: &ProcessReport, lines: &mut Vec<String>) {
    let name = &found.process;
    if let Some(error) = &found.error {
        lines.push(format!("{name}: {error}"));
    }
    for (what, count) in [("overdue", found.overdue), ("wrong", found.wrong)] {
        if count > 0 {
            lines.push(format!("{name}: {count} descriptors are {what}"));
        }
    }
    if exit == Exit::Pending && found.left_pending == 0 {
        lines.push(format!("{name}: left nothing pending at its exit"));
    }
    let Some(expect) = scenario.expect.get(name) else { return };
    for (what, expected, is) in [
        ("faults", expect.faults, found.faults()),
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
    for (what, counted, is) in [
        ("cr_faults", sum(|f| f.cr_faults), found.faults()),
        ("cr_fault_failures", sum(|f| f.cr_fault_failures), found.failed),
    ] {
        match counted {
            Some(counted) if counted != is => {
                lines.push(format!("{name}: {what} is {counted} in sysfs, {is} by its own account"));
            }
            None => lines.push(format!("{name}: {what} could not be read from sysfs")),
            Some(_) => {}
        }
    }
}

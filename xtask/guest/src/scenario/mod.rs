//! Scenarios: devices, work queues and processes in domain words, with expected results. `docs/scenarios.md` is the reference.
//!
//! Owns: the format ([`Scenario::parse`], validated once), what a scenario promises ([`plan`]) and random ones ([`random`]).
//! Refuses: doing anything.

pub mod plan;
mod random;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::ops::Not;

use dsascope_core::findings::FindingKind;
use serde::{Deserialize, Serialize};

pub use dsascope_submit::{Case, DeviceKind, Habit, MAX_TRANSFER_BYTES, Operation, Pages};
pub use random::random;
pub use validate::{
    ENGINES, GROUPS, MAX_BATCH_DESCRIPTORS, MAX_BATCH_IDENTIFIERS, ScenarioError, TOTAL_WQ_ENTRIES,
    WORK_QUEUES,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Seconds until the run is given up.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u32,
    #[serde(default, skip_serializing_if = "Tracer::is_default")]
    pub tracer: Tracer,
    #[serde(rename = "device")]
    pub devices: Vec<Device>,
    #[serde(rename = "process", default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<Process>,
    /// By process name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, Expect>,
    /// Without it nobody looks at what dsascope finds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Findings>,
}

/// What dsascope must find of the run, and what it may: nothing else. What its attached programs cannot see it need not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub must: BTreeSet<FindingKind>,
    /// One of these at least, as fast as the machine is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub one_of: BTreeSet<FindingKind>,
    /// These or not, as fast as the machine is.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub may: BTreeSet<FindingKind>,
}

/// What the run does to dsascope, when one is attached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tracer {
    /// Size of the ring between kernel and user side; a power of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_bytes: Option<u32>,
    /// Stopped (SIGSTOP) for so many milliseconds from when the processes start, so that it cannot read its ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stall_ms: Option<u32>,
    /// SIGKILL so many milliseconds after the processes started; afterwards a second one is attached and stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_after_ms: Option<u32>,
    /// From so many faults a second of a process on it finds a storm, however slow the machine is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm_per_s: Option<NonZeroU32>,
    /// It follows submissions of each process that has a WQ open, and so looks up where records are.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub submitters: bool,
}

impl Tracer {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// As the driver names it: dsa0, iax1. The number is the device's place, whatever its kind.
    pub name: String,
    pub kind: DeviceKind,
    #[serde(default = "default_event_log_entries")]
    pub event_log_entries: u32,
    /// Batches that may be under way at once: with few, an identifier comes back soon.
    #[serde(default = "default_batch_identifiers", skip_serializing_if = "is_default_batch_identifiers")]
    pub batch_identifiers: u16,
    /// What goes wrong in the device.
    #[serde(rename = "inject", default, skip_serializing_if = "Vec::is_empty")]
    pub injections: Vec<Inject>,
    /// Without any, all engines are in group 0.
    #[serde(rename = "group", default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    #[serde(rename = "work_queue")]
    pub work_queues: Vec<WorkQueue>,
}

/// Something that goes wrong in the device, once it has accepted so many descriptors since the scenario's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Inject {
    /// A device error: the device stops, and what it had accepted is lost.
    Halt {
        #[serde(default)]
        after_descriptors: u64,
        /// What the driver must do to bring it back.
        reset: Reset,
    },
    /// That many descriptors, elements of batches among them, end with a hardware error (0x20).
    HardwareErrors {
        #[serde(default)]
        after_descriptors: u64,
        descriptors: u32,
    },
    /// Each descriptor takes that much longer from then on.
    Delay {
        #[serde(default)]
        after_descriptors: u64,
        delay_us: u64,
    },
    /// Errors but those of completion records go to the SWERROR register from then on, as in a device without an event log.
    ErrorsInRegister {
        #[serde(default)]
        after_descriptors: u64,
    },
    /// That many entries for completion records come so much later than the end of their descriptors.
    LateEntries {
        #[serde(default)]
        after_descriptors: u64,
        entries: u32,
        delay_ms: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    Software,
    Flr,
    Warm,
    Cold,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    pub id: u8,
    pub engines: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Dedicated,
    Shared,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkQueue {
    pub id: u8,
    pub mode: Mode,
    /// Entries.
    pub size: u16,
    /// Of a shared WQ: entries that processes can fill. All of them without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<u16>,
    #[serde(default = "default_priority")]
    pub priority: u8,
    #[serde(default)]
    pub group: u8,
    /// Whether the device may ask for absent pages (PRS); off is what makes completion-record faults.
    #[serde(default)]
    pub page_requests: bool,
    #[serde(default)]
    pub block_on_fault: bool,
}

/// How a process' descriptors reach the WQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Submission {
    /// Eight 8-byte stores, which the device model puts together.
    Store,
    Movdir64b,
    Enqcmd,
    /// By write(2): the driver submits.
    Write,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// When every descriptor has come to its end.
    #[default]
    Clean,
    /// By _exit right after its last `outstanding` descriptors were submitted.
    Pending,
    /// When nothing ends any more, because the device was halted: what is outstanding then is lost.
    Halted,
}

/// The batches of a process whose operation is `batch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    pub descriptors: u16,
    /// Of each descriptor.
    #[serde(default = "default_batch_operation")]
    pub operation: Operation,
    /// Where the descriptors' completion records are, in the same order in each batch.
    #[serde(default = "resident")]
    pub records: Shares,
    /// The descriptor of that index has a fence: it is not started when an earlier one failed or its record faulted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<u16>,
    /// The descriptor of that index finds nothing at its source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<u16>,
    /// The list's pages from that index on are absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_absent_from: Option<u16>,
    /// Whether the batch's own record is asked for also when all goes well.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub record_requested: bool,
}

/// Of `sum` descriptors, how many have their completion record where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    #[serde(default)]
    pub resident: u16,
    #[serde(default)]
    pub absent: u16,
    #[serde(default)]
    pub read_only: u16,
    #[serde(default)]
    pub unmapped: u16,
    /// Across the border of two pages.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub straddling: u16,
}

impl Shares {
    pub const NONE: Self = Self { resident: 0, absent: 0, read_only: 0, unmapped: 0, straddling: 0 };
}

impl Default for Shares {
    fn default() -> Self {
        Self { absent: 1, ..Self::NONE }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// At most 15 bytes: it becomes the command name.
    pub name: String,
    pub device: String,
    pub work_queue: u8,
    pub operation: Operation,
    /// Transfer sizes, taken in turn; none for noop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// Of what the operation reads, and of what it writes.
    #[serde(default, skip_serializing_if = "is_resident")]
    pub source: Pages,
    #[serde(default, skip_serializing_if = "is_resident")]
    pub destination: Pages,
    /// After so many descriptors a drain is submitted, with a resident record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_every: Option<u32>,
    /// By the WQ's mode without it: plain stores to a dedicated WQ, ENQCMD to a shared one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submission: Option<Submission>,
    /// Descriptors (or batches) to submit, each time the WQ is opened.
    pub count: u32,
    /// Without it: as fast as possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<u32>,
    /// Microseconds between two looks at the records; each look is a timer interrupt.
    #[serde(default = "default_poll_us")]
    pub poll_us: u32,
    #[serde(default = "one")]
    pub outstanding: u16,
    #[serde(default = "one")]
    pub threads: u16,
    /// How often the WQ is opened, used and closed.
    #[serde(default = "one")]
    pub repeat: u16,
    /// No page is used twice: each descriptor has memory of its own, its completion record too.
    #[serde(default, skip_serializing_if = "Not::not")]
    pub fresh_pages: bool,
    /// The WQ is opened twice, and the first file is closed when so many descriptors have ended. Later records are delivered to no one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_first_after: Option<u32>,
    #[serde(default)]
    pub start_delay_ms: u32,
    #[serde(default)]
    pub exit: Exit,
    /// Path below the cgroup root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    #[serde(default)]
    pub completion_records: Shares,
}

/// What is compared after the run; what is left out is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Completion-record faults provoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<u64>,
    /// Of these, records that the process saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// Of these, records that cannot be delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<u64>,
    /// Whether its shared WQ was ever full when it submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried: Option<bool>,
}

const fn default_timeout_s() -> u32 {
    120
}
const fn default_event_log_entries() -> u32 {
    64
}
const fn default_priority() -> u8 {
    10
}
const fn default_poll_us() -> u32 {
    50
}
const fn one() -> u16 {
    1
}
const fn default_batch_identifiers() -> u16 {
    MAX_BATCH_IDENTIFIERS
}
const fn default_batch_operation() -> Operation {
    Operation::Memmove
}
const fn resident() -> Shares {
    Shares { resident: 1, ..Shares::NONE }
}
const fn yes() -> bool {
    true
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_yes(value: &bool) -> bool {
    *value
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_resident(pages: &Pages) -> bool {
    matches!(pages, Pages::Resident)
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(value: &u16) -> bool {
    *value == 0
}
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_default_batch_identifiers(value: &u16) -> bool {
    *value == MAX_BATCH_IDENTIFIERS
}

impl Scenario {
    /// Reads and validates; the error names the field.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)?;
        scenario.validate()?;
        Ok(scenario)
    }

    /// The same scenario as a file.
    pub fn to_toml(&self) -> Result<String, ScenarioError> {
        Ok(toml::to_string(self)?)
    }

    #[must_use]
    pub fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.name == name)
    }

    #[must_use]
    pub fn process(&self, name: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.name == name)
    }

    /// Whether a device is left that only the machine's reset brings back, or that the driver brings back at a time of its own.
    #[must_use]
    pub fn needs_new_machine(&self) -> bool {
        let halts = |inject: &Inject| matches!(inject, Inject::Halt { .. });
        self.devices.iter().any(|device| device.injections.iter().any(halts))
    }

    /// The WQ that a process uses; of a validated scenario there is one.
    #[must_use]
    pub fn work_queue_of(&self, process: &Process) -> Option<&WorkQueue> {
        self.device(&process.device)?.work_queue(process.work_queue)
    }

    /// How a process submits, as it says or as its WQ's mode asks for.
    #[must_use]
    pub fn submission_of(&self, process: &Process) -> Submission {
        process.submission.unwrap_or_else(|| match self.work_queue_of(process).map(|wq| wq.mode) {
            Some(Mode::Shared) => Submission::Enqcmd,
            _ => Submission::Store,
        })
    }

    /// Whether it needs instructions that the guest's CPU does not have: for shared WQs, and wherever not by plain stores.
    #[must_use]
    pub fn needs_emulation(&self) -> bool {
        let shared =
            self.devices.iter().flat_map(|device| &device.work_queues).any(|wq| wq.mode == Mode::Shared);
        shared || self.processes.iter().any(|process| self.submission_of(process) != Submission::Store)
    }
}

impl Process {
    /// Whether descriptors may never end: the device stops, or the driver has nobody to deliver their records to.
    #[must_use]
    pub const fn may_lose(&self) -> bool {
        matches!(self.exit, Exit::Halted) || self.close_first_after.is_some()
    }
}

impl Device {
    /// The N of dsaN or iaxN.
    #[must_use]
    pub fn number(&self) -> Option<u16> {
        self.name.strip_prefix(self.kind.prefix())?.parse().ok()
    }

    #[must_use]
    pub fn work_queue(&self, id: u8) -> Option<&WorkQueue> {
        self.work_queues.iter().find(|wq| wq.id == id)
    }
}

//! Scenarios: devices, work queues and processes in domain words, with expected results. `docs/scenarios.md` is the reference.
//!
//! Owns: the format ([`Scenario::parse`], validated once), what a scenario promises ([`plan`]) and random ones ([`random`]).
//! Refuses: doing anything.

pub mod plan;
mod random;
mod validate;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use random::random;
pub use validate::{
    ENGINES, GROUPS, MAX_BATCH_DESCRIPTORS, MAX_TRANSFER_BYTES, ScenarioError, TOTAL_WQ_ENTRIES, WORK_QUEUES,
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
}

impl Tracer {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    Dsa,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// As the driver names it: dsa0.
    pub name: String,
    pub kind: DeviceKind,
    #[serde(default = "default_event_log_entries")]
    pub event_log_entries: u32,
    /// Without any, all engines are in group 0.
    #[serde(rename = "group", default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    #[serde(rename = "work_queue")]
    pub work_queues: Vec<WorkQueue>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Noop,
    Memmove,
    Memfill,
    Compare,
    /// Of memmoves with resident records; the process' completion-record habit is that of the batch's own record.
    Batch,
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
}

impl Default for Shares {
    fn default() -> Self {
        Self { resident: 0, absent: 1, read_only: 0, unmapped: 0 }
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
    /// Descriptors in a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_descriptors: Option<u16>,
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
}

impl Device {
    /// The N of dsaN.
    #[must_use]
    pub fn number(&self) -> Option<u16> {
        self.name.strip_prefix("dsa")?.parse().ok()
    }

    #[must_use]
    pub fn work_queue(&self, id: u8) -> Option<&WorkQueue> {
        self.work_queues.iter().find(|wq| wq.id == id)
    }
}

//! The one ordered stream of events: live tracing, replay and tests feed the same one to the same updater.
//!
//! All times are CLOCK_MONOTONIC nanoseconds. What was not observed is `None`, never 0. [`Fault`] is `Copy` and holds no
//! heap, so that the path of a fault allocates nothing.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use dsascope_common::hw::{completion, event_log::EntryHeader, page_request};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::driver::{Command, DriverEvent, Happening, WqConfig};
pub use crate::filter::Filtering;
pub use crate::ledger::{ByKind, KernelLedger};
pub use crate::name::{Comm, Context, DeviceId, DeviceKind, Key, WqId};
pub use crate::probe::{Hook, Verdict, VerdictState};
pub use crate::stages::{Durations, StageTimes};
pub use crate::submission::{
    Element, How, Origin, Place, Seen, Stack, SubmittedTotals, SubmitterFile, SubmitterSite, Submitters,
};

const PAGE_BYTES: u64 = 4096;

/// Everything that happens, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[allow(clippy::large_enum_variant, reason = "a fault is the common case and must not be boxed")]
pub enum Event {
    /// What is traced, on which machine, by which probes. First, and again when it changes.
    Session(Box<SessionInfo>),
    Fault(Fault),
    Interrupt(Interrupt),
    Open(Open),
    Release(Release),
    Driver(DriverEvent),
    PageRequest(PageRequest),
    Seen(Seen),
    /// The names behind the stack of an origin; after the first fault that has it.
    Stack(Box<Stack>),
    /// The memory behind a page of completion records; after a fault there.
    Place(Box<Place>),
    Hole(Hole),
    Snapshot(Box<Snapshot>),
    /// Time passes; rates and deadlines move.
    Tick {
        now_ns: u64,
    },
}

/// How a snapshot's JSON begins.
const SNAPSHOT_JSON: &[u8] = br#"{"kind":"snapshot","#;

impl Event {
    /// From its JSON. A snapshot, which has a line for each of thousands of files, is not made into a tree of values first.
    ///
    /// # Errors
    /// It is not the JSON of an event.
    pub fn from_json(text: &[u8]) -> serde_json::Result<Self> {
        if text.starts_with(SNAPSHOT_JSON) {
            return serde_json::from_slice(text).map(Self::Snapshot);
        }
        serde_json::from_slice(text)
    }

    /// When it was sent, in its stream's time.
    #[inline]
    #[must_use]
    pub fn at_ns(&self) -> u64 {
        match self {
            Self::Session(session) => session.started_ns,
            Self::Fault(fault) => fault.at_ns,
            Self::Interrupt(interrupt) => interrupt.at_ns,
            Self::Open(open) => open.at_ns,
            Self::Release(release) => release.at_ns,
            Self::Driver(event) => event.at_ns,
            Self::PageRequest(request) => request.at_ns,
            Self::Seen(seen) => seen.at_ns,
            Self::Stack(stack) => stack.at_ns,
            Self::Place(place) => place.at_ns,
            Self::Hole(hole) => hole.at_ns,
            Self::Snapshot(snapshot) => snapshot.at_ns,
            Self::Tick { now_ns } => *now_ns,
        }
    }
}

/// One completion-record fault, from the interrupt thread to the end of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// When the record was sent, after the end of the service.
    pub at_ns: u64,
    /// CPU that served the fault.
    pub cpu: u16,
    #[serde(flatten)]
    pub context: Context,
    /// Process whose fault it is; null when nobody was seen to open the WQ with this PASID.
    pub tgid: Option<u32>,
    /// Thread id of the kernel worker that served the fault.
    pub worker: u32,
    /// CPU of the interrupt thread that queued it.
    pub queue_cpu: Option<u16>,
    #[serde(flatten)]
    pub times: StageTimes,
    pub copy: CopyOutcome,
    /// User address the driver copied the record to.
    pub copy_addr: Option<u64>,
    /// Header of the event-log entry, as it lay in memory.
    #[serde(with = "crate::hex::header")]
    #[schemars(with = "String", regex(pattern = "^[0-9a-f]{64}$"))]
    pub entry: EntryHeader,
    /// The completion record as the device logged it; DSA uses the first 32 bytes.
    #[serde(with = "crate::hex::record")]
    #[schemars(with = "String", regex(pattern = "^[0-9a-f]{128}$"))]
    pub logged: [u8; 64],
    /// The completion record as the driver copied it or tried to, after its patch of a batch's status. Zero without a copy.
    #[serde(with = "crate::hex::record")]
    #[schemars(with = "String", regex(pattern = "^[0-9a-f]{128}$"))]
    pub delivered: [u8; 64],
    /// Calls of the driver's counter function during this service.
    pub counted_faults: u8,
    pub counted_failures: u8,
    pub marks: Marks,
    /// Where the record came from; absent where submissions are not traced or this one is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl Fault {
    /// Nanoseconds in each stage, from the submission on where it is known.
    #[must_use]
    pub fn durations(&self) -> Durations {
        let (submitted_ns, seen_ns) = match &self.origin {
            Some(origin) => (NonZeroU64::new(origin.submitted_ns), origin.seen_ns),
            None => (None, None),
        };
        self.times.durations(submitted_ns, seen_ns)
    }

    /// Error code of the entry without the write-fault bit: 0x1a, 0x26 or 0x27.
    #[must_use]
    pub const fn error(&self) -> u8 {
        self.entry.error() & completion::STATUS_MASK
    }

    /// The entry's fault address is that of a completion record.
    #[must_use]
    pub const fn is_of_record(&self) -> bool {
        use completion::status::{BATCH_EVL_ERR, CRA_XLAT, DRAIN_EVL};
        matches!(self.error(), CRA_XLAT | DRAIN_EVL | BATCH_EVL_ERR)
    }

    /// Header of the entry; `None` when it could not be read: its bytes are zero then, and no entry is.
    #[must_use]
    pub fn entry_seen(&self) -> Option<&EntryHeader> {
        (self.entry != EntryHeader::default()).then_some(&self.entry)
    }

    /// The entry of a descriptor of a batch.
    #[must_use]
    pub fn element_entry(&self) -> Option<&EntryHeader> {
        self.entry_seen().filter(|entry| entry.batch())
    }

    /// The entry of a descriptor of a batch, or of the batch's own record.
    #[must_use]
    pub fn batch_entry(&self) -> Option<&EntryHeader> {
        self.entry_seen().filter(|entry| entry.batch() || self.error() == completion::status::BATCH_EVL_ERR)
    }

    /// Page of the completion record, from the entry.
    #[must_use]
    pub fn page_address(&self) -> Option<u64> {
        self.entry_seen().map(|entry| entry.fault_addr() & !(PAGE_BYTES - 1))
    }

    /// Status byte of the record as the device logged it; `None` when it could not be read.
    #[must_use]
    pub fn logged_status(&self) -> Option<u8> {
        let status = self.logged[0];
        (status != completion::status::NONE || !self.marks.read_failed).then_some(status)
    }

    /// Status byte of the record as the driver copied it or tried to.
    #[must_use]
    pub fn delivered_status(&self) -> Option<u8> {
        self.delivered_record().map(|record| record[0])
    }

    /// The logged record, in the device's size.
    #[must_use]
    pub fn logged_record(&self) -> &[u8] {
        &self.logged[..self.context.device.kind.record_bytes()]
    }

    /// The record as the driver copied it or tried to, in the device's size; `None` when there was no copy or none was observed.
    #[must_use]
    pub fn delivered_record(&self) -> Option<&[u8]> {
        matches!(self.copy, CopyOutcome::Delivered { .. } | CopyOutcome::Short { .. })
            .then(|| &self.delivered[..self.context.device.kind.record_bytes()])
    }
}

/// What became of the completion record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum CopyOutcome {
    /// Copied whole; the submitter sees it.
    Delivered { bytes: u32 },
    /// The copy failed; the status byte was not written and the submitter waits for ever.
    Short { asked: u32, done: u32 },
    /// The driver did not copy (a batch whose record nobody asked for).
    NotCopied,
    /// The attached programs cannot see the copy.
    Unobserved,
}

impl CopyOutcome {
    /// It was copied in part or not at all, and so is not delivered.
    #[must_use]
    pub const fn has_failed(self) -> bool {
        matches!(self, Self::Short { .. })
    }

    /// Bytes that were to be copied; `None` without a copy that was seen.
    #[must_use]
    pub const fn asked(self) -> Option<u32> {
        match self {
            Self::Delivered { bytes } => Some(bytes),
            Self::Short { asked, .. } => Some(asked),
            Self::NotCopied | Self::Unobserved => None,
        }
    }

    /// Bytes that were copied.
    #[must_use]
    pub const fn done(self) -> Option<u32> {
        match self {
            Self::Delivered { bytes } => Some(bytes),
            Self::Short { done, .. } => Some(done),
            Self::NotCopied | Self::Unobserved => None,
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Short { .. } => "failed",
            Self::NotCopied => "not copied",
            Self::Unobserved => "unobserved",
        }
    }
}

/// Why a fault's record is not whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Marks {
    /// The end of the service was never seen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub end_missing: bool,
    /// The hand-over from the interrupt thread was not seen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub queue_missing: bool,
    /// The copy cannot be seen with the attached programs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub copy_unobserved: bool,
    /// Some kernel memory could not be read; the affected bytes are zero.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_failed: bool,
    /// The end of the copy was not seen; its outcome is what the driver's failure counter says.
    #[serde(default, skip_serializing_if = "is_false")]
    pub outcome_inferred: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Marks {
    #[must_use]
    pub const fn any(self) -> bool {
        self.end_missing
            || self.queue_missing
            || self.copy_unobserved
            || self.read_failed
            || self.outcome_inferred
    }
}

/// One run of a device's interrupt thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interrupt {
    pub at_ns: u64,
    pub cpu: u16,
    #[schemars(with = "String")]
    pub device: DeviceId,
    pub start_ns: u64,
    pub end_ns: u64,
    /// Faults queued during this run.
    pub entries: u32,
    /// The four qwords of SWERROR, when the driver stored another one during this run. One that is bit for bit the last is not seen.
    pub swerror: Option<[u64; 4]>,
}

impl Interrupt {
    #[must_use]
    pub const fn busy_ns(&self) -> Option<u64> {
        self.end_ns.checked_sub(self.start_ns)
    }
}

/// The IOMMU's answer to a group of page requests: how a page is brought in where a WQ's page requests are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PageRequest {
    /// When the response was given.
    pub at_ns: u64,
    pub cpu: u16,
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// Null: asked without one, for no process.
    pub pasid: Option<u32>,
    /// Page request group index; reused by the device.
    pub group: u16,
    /// The response code: 0 success, 1 invalid request, 15 failure.
    pub code: u8,
    /// What was asked for; null when the response was seen before it, or records were lost between the two.
    pub request: Option<Asked>,
}

/// A group of page requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// When the IOMMU's driver had handed on the last request of the group.
    pub at_ns: u64,
    /// Requests in the group.
    pub pages: u32,
    /// Page of the first.
    pub address: u64,
    /// One of them is for writing.
    pub write: bool,
}

impl PageRequest {
    /// From the request to its response.
    #[must_use]
    pub fn service_ns(&self) -> Option<u64> {
        self.at_ns.checked_sub(self.request?.at_ns)
    }

    #[must_use]
    pub const fn granted(&self) -> bool {
        self.code == page_request::SUCCESS
    }

    /// The response in a word.
    #[must_use]
    pub const fn answer(&self) -> &'static str {
        match self.code {
            page_request::SUCCESS => "granted",
            page_request::INVALID => "no such page",
            page_request::FAILURE => "failure",
            _ => "unknown answer",
        }
    }
}

/// A process has a WQ open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Open {
    pub at_ns: u64,
    #[serde(flatten)]
    pub context: Context,
    pub tgid: u32,
    /// Thread that opened it: what sysfs calls pid.
    pub tid: u32,
    pub cgroup: Option<u64>,
    /// Path below the cgroup root, when user space could find it.
    pub cgroup_path: Option<String>,
    #[schemars(with = "String")]
    pub comm: Comm,
    /// The K of sysfs' fileK.
    pub file: u32,
    /// Files that this process now has open on this WQ; the driver delivers to the first alone.
    pub files: u32,
    /// Found at attaching, not seen to open.
    pub existing: bool,
}

/// A file on a WQ is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Release {
    pub at_ns: u64,
    #[serde(flatten)]
    pub context: Context,
    pub start_ns: Option<NonZeroU64>,
    /// When the driver began to wait for queued faults, holding the device's event-log lock.
    pub drain_ns: Option<NonZeroU64>,
    pub end_ns: Option<NonZeroU64>,
    /// The driver's own counters as they were when the file went.
    pub counter_faults: u64,
    pub counter_failures: u64,
    pub file: u32,
    /// Entries that the driver marked, so that they are never served.
    pub skipped: u32,
}

impl Release {
    /// How long the close held up the device's event log.
    #[must_use]
    pub fn drain_duration_ns(&self) -> Option<u64> {
        self.end_ns?.get().checked_sub(self.drain_ns?.get())
    }
}

/// Something that happened and cannot be shown, in its place in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hole {
    pub at_ns: u64,
    #[serde(flatten)]
    pub what: HoleKind,
    /// How many.
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "hole", rename_all = "snake_case")]
pub enum HoleKind {
    /// The ring had no room for records of this CPU.
    RingLost { cpu: u16 },
    /// A service started whose end was not seen.
    EndMissing,
    /// A service started whose queueing was not seen.
    QueueMissing,
    /// A fault was queued, or ended, whose start was not seen.
    StartMissing,
    /// The table of faults or page requests in flight was full; the oldest was given up.
    Evicted,
    /// A group of page requests came again, or waited too long, and its response was not seen.
    ResponseMissing,
    /// A record that could not be decoded.
    Undecodable,
    /// The queue between the ring reader and the view was full.
    ChannelFull,
    /// Events of a capture that cannot be read: its bytes are not those that were written.
    CaptureDamaged,
    /// Events that the recorder could not write: the disk was full or too slow.
    CaptureUnwritten,
    /// A capture was cut off or not ended: what followed is not known.
    CaptureCut,
    /// Events of the run before this capture began: of the flight recorder, or of a file before this one.
    CaptureBegins,
}

impl HoleKind {
    /// Something that a capture lacks, not this run.
    #[must_use]
    pub const fn is_of_capture(self) -> bool {
        matches!(self, Self::CaptureDamaged | Self::CaptureUnwritten | Self::CaptureCut | Self::CaptureBegins)
    }

    /// Each kind once; losses of the ring by the first CPU.
    pub const ALL: [Self; 12] = [
        Self::RingLost { cpu: 0 },
        Self::EndMissing,
        Self::QueueMissing,
        Self::StartMissing,
        Self::Evicted,
        Self::ResponseMissing,
        Self::Undecodable,
        Self::ChannelFull,
        Self::CaptureDamaged,
        Self::CaptureUnwritten,
        Self::CaptureCut,
        Self::CaptureBegins,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingLost { .. } => "ring lost",
            Self::EndMissing => "end missing",
            Self::QueueMissing => "queue missing",
            Self::StartMissing => "start missing",
            Self::Evicted => "evicted",
            Self::ResponseMissing => "response missing",
            Self::Undecodable => "undecodable",
            Self::ChannelFull => "channel full",
            Self::CaptureDamaged => "capture damaged",
            Self::CaptureUnwritten => "capture unwritten",
            Self::CaptureCut => "capture cut off",
            Self::CaptureBegins => "before the capture",
        }
    }
}

/// What the kernel side has counted, whatever happened to the ring.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    pub at_ns: u64,
    /// The programs are detached and the ring is drained: the ledger must balance now.
    pub quiesced: bool,
    pub totals: Vec<ContextTotals>,
    pub ledger: KernelLedger,
    /// Records the reader has taken from the ring, by kind, and those it could not decode.
    pub received: ByKind,
    pub undecodable: u64,
    /// Faults queued and not started / started and not ended, as the kernel maps hold them.
    pub pending: Option<u64>,
    pub active: Option<u64>,
    /// By program: what the kernel's own statistics say.
    pub programs: Vec<ProgramStats>,
    /// Unread bytes in the ring.
    pub ring_used_bytes: Option<u64>,
    /// Faults that the session's filter has left out so far; null without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
    /// What was submitted, where submissions are traced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub submitted: Vec<SubmittedTotals>,
}

/// Statistics of one attached program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProgramStats {
    pub name: String,
    pub hook: Option<Hook>,
    /// Runs and time; null unless kernel.bpf_stats_enabled.
    pub runs: Option<u64>,
    pub run_ns: Option<u64>,
    /// Runs that the kernel skipped because the program was running already on that CPU, or a kretprobe had no instance left.
    pub missed: Option<u64>,
    /// Instructions that the verifier walked: the program's complexity on this kernel.
    #[serde(default)]
    pub verified_instructions: Option<u32>,
}

/// Exact totals of one open file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContextTotals {
    #[serde(flatten)]
    pub context: Context,
    /// Null when nobody was seen to open it.
    pub tgid: Option<u32>,
    #[schemars(with = "String")]
    pub comm: Comm,
    pub cgroup: Option<u64>,
    pub closed: bool,
    /// Faults handed to the worker, and those whose service ended.
    pub queued: u64,
    pub served: u64,
    /// Of `served`: copied whole, cut short, not copied at all, copy not observable.
    pub delivered: u64,
    pub failed: u64,
    pub not_copied: u64,
    pub unobserved: u64,
    /// Entries that were marked at close and never served.
    pub skipped: u64,
    /// Of `served`, by error code 0x1a, 0x27, 0x26.
    pub cr_faults: u64,
    pub batch_faults: u64,
    pub drains: u64,
    /// Calls of the driver's counter function.
    pub counter_faults: u64,
    pub counter_failures: u64,
    /// The driver's own counters when the file went; null while it is open.
    pub driver_faults: Option<u64>,
    pub driver_failures: Option<u64>,
    /// Fault records that the ring did not take.
    pub records_lost: u64,
    pub service_ns_sum: u64,
    pub service_ns_max: u64,
    pub opened_files: u64,
}

/// What is traced, where and by what.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SessionInfo {
    pub tool_version: String,
    pub host: String,
    /// `uname -r`.
    pub kernel: String,
    pub driver: DriverInfo,
    pub devices: Vec<DeviceInfo>,
    pub verdicts: Vec<Verdict>,
    /// When tracing began, and how long attaching took.
    pub started_ns: u64,
    pub attach_ns: u64,
    /// Wall-clock time (ns since 1970 UTC) at monotonic 0: add it to any time of this stream.
    pub wall_at_zero_ns: i64,
    pub ring_bytes: u64,
    pub cpus: u32,
    /// Faults that do not fit are left out of this stream; null: all are there. Everything but faults is, and so totals and losses are of
    /// the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filtering>,
    /// Where submissions are traced; absent where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitters: Option<Submitters>,
    /// Faults a second of one process from which on a rise is a storm, where it is not 500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storm_per_s: Option<u32>,
}

impl SessionInfo {
    /// Verdicts of probes that are required and not attached.
    pub fn missing_required(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|v| v.required && !v.state.attached())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverInfo {
    /// Module name, `idxd`.
    pub module: String,
    /// `/sys/module/idxd/srcversion`.
    pub srcversion: Option<String>,
    pub btf: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceInfo {
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// enabled, disabled, halted.
    pub state: String,
    /// VERSION register.
    pub version: Option<u32>,
    pub gen_cap: Option<u64>,
    /// Entries; null without event-log support.
    pub event_log_size: Option<u32>,
    pub pasid_enabled: Option<bool>,
    pub numa_node: Option<i32>,
    pub wqs: Vec<WqInfo>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WqInfo {
    /// The M of wqN.M.
    pub wq: u16,
    pub name: Option<String>,
    /// enabled or disabled.
    pub state: String,
    /// none, kernel or user.
    #[serde(rename = "type")]
    pub type_: String,
    /// dedicated or shared.
    pub mode: Option<String>,
    /// Descriptors.
    pub size: Option<u32>,
    pub threshold: Option<u32>,
    pub priority: Option<u32>,
    pub group: Option<u32>,
    pub clients: Option<u32>,
    pub block_on_fault: Option<bool>,
    /// Null when the device has no per-WQ control.
    pub prs_disable: Option<bool>,
    pub ats_disable: Option<bool>,
}

/// Counts by name, for open-ended sets.
pub type Named = BTreeMap<String, u64>;

//! What goes wrong, much of it without anybody being told: each a finding with a name, a count, what was seen of it, how sure that is, and
//! what to do.
//!
//! Owns: the findings there are, their sentences ([`sentence`]), advice and thresholds ([`threshold`]), when each began
//! and was over ([`history`]), and which hooks each rests on. Counting
//! is [`crate::model`]'s work. `docs/findings.md` is written from here. Refuses: guessing; what is not observed is said to be so
//! ([`FindingKind::needs`]).

pub mod history;
mod sentence;
pub mod threshold;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::{DeviceId, WqId};
use crate::probe::Hook;

/// How sure a finding is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Worth a look: what was seen is as it is then, but also otherwise.
    #[default]
    Possible,
    /// What was seen has other explanations, and each is rarer.
    Likely,
    /// It was seen itself.
    Certain,
}

impl Confidence {
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

macro_rules! findings {
    ($($(#[$m:meta])* $variant:ident = $name:literal, $confidence:ident, [$($hook:ident),*], $advice:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum FindingKind { $($(#[$m])* $variant,)* }

        impl FindingKind {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// As docs/findings.md and lines have it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How sure it is at best; what was seen of one may be less.
            #[must_use]
            pub const fn confidence(self) -> Confidence {
                match self { $(Self::$variant => Confidence::$confidence,)* }
            }

            /// Without one of these hooks it is not observed. None: the session and snapshots tell it.
            #[must_use]
            pub const fn needs(self) -> &'static [Hook] {
                match self { $(Self::$variant => &[$(Hook::$hook),*],)* }
            }

            /// What to do about it.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)* }
            }
        }
    };
}

findings! {
    /// A file's faults have become many times what they were.
    Storm = "storm", Certain, [ServiceEnd],
        "keep completion records in memory that stays present: allocate once, touch each page, reuse it, mlock(2) where pages may be taken away";
    /// A large share of a file's records was not delivered.
    FailureRatioHigh = "failure ratio high", Certain, [ServiceEnd, CopyEnd],
        "keep a record's memory mapped and writable until its status has come; each failure is a submitter that waits for ever";
    /// A record that could not be delivered lies in a mapping without write permission.
    RecordsReadOnly = "records in read-only memory", Certain, [CopyEnd],
        "give the mapping write permission before descriptors with records in it are submitted, and do not take it away meanwhile";
    /// A record that could not be delivered lies where nothing is mapped.
    RecordsUnmapped = "records in unmapped memory", Likely, [CopyEnd],
        "free a record's memory (munmap, exit of its owner) only after its status has come";
    /// A storm on pages that were there and are gone again.
    RecordsGivenBack = "records in memory given back", Likely, [ServiceEnd, CopyEnd],
        "do not give the records' pages back between uses (MADV_DONTNEED, munmap, an allocator that trims): reuse them, or mlock(2) them";
    /// A storm on a page of its own for each fault.
    RecordsNeverTouched = "records in untouched memory", Likely, [ServiceEnd],
        "touch the records' pages before submitting (MAP_POPULATE, MADV_POPULATE_WRITE, a write), and put many records on a page";
    /// A record that begins on one page and ends on the next.
    RecordsStraddle = "records across two pages", Certain, [ServiceEnd],
        "align records to their size, 32 bytes (DSA) or 64 bytes (IAA): one across two pages may fault twice, or arrive in part";
    /// Faults that were served after their file was closed, or whose PASID nobody has open.
    ProcessGone = "faults of a closed file", Likely, [OpenEnd, ReleaseEnd],
        "wait for each descriptor before the WQ is closed; a process that is killed leaves them to the driver";
    /// The driver had no memory for a work item: an entry was dropped.
    ServiceAllocationFailed = "service allocation failed", Certain, [Warning],
        "keep memory free for allocations that cannot wait (vm.min_free_kbytes), and submit again what waits";
    /// A batch's record that nobody asked for: the driver copies nothing, and never frees the work item.
    FaultObjectLeaked = "fault object leaked", Certain, [CopyStart],
        "ask for the completion record of each batch; the memory is gone until the driver is unloaded";
    /// The file that the driver delivers to was closed while another of the same process is open on the WQ.
    DeliveredToNoOne = "delivered to no one", Likely, [OpenEnd, ReleaseEnd, CopyEnd],
        "open a WQ once in a process, and keep the first file open for as long as any is used";
    /// A close waited for queued faults with the device's event log locked.
    CloseHeldLog = "close held the event log", Certain, [ReleaseDrain, ReleaseEnd],
        "close a file when none of its faults is pending, and give processes that come and go a device of their own";
    /// Entries of errors that are not about a completion record: the driver serves none of them.
    ErrorsNotServed = "errors not served", Certain, [Warning],
        "the submitters' descriptors are at fault: look at the warnings in the trace for error, operation and address";
    /// SWERROR holds one error; the device dropped later ones.
    ErrorsDropped = "errors dropped", Certain, [InterruptEnd],
        "enable the event log where the device has one; correct the error that is told first";
    /// A failed copy was told of another batch than its own.
    FailureMoved = "failure moved to another batch", Likely, [CopyStart, CopyEnd],
        "do not let processes with batches share a device; take no batch's status as proof of its elements' records";
    /// A run of the interrupt thread handed over as many entries as the log can hold.
    EventLogFull = "event log full", Likely, [InterruptEnd],
        "raise event_log_size (docs/event-log-sizing.md)";
    /// The log was never found full, and yet is smaller than what was seen advises.
    EventLogSmall = "event log small", Possible, [InterruptEnd],
        "raise event_log_size to what is advised before the next burst fills it (docs/event-log-sizing.md)";
    DeviceHalted = "device halted", Certain, [HaltSoftware, HaltFinal],
        "look into the kernel's log for the cause; a device that the driver gave up needs a reset of the machine";
    /// Page requests are on for a WQ whose engines others use too, and they are answered late or refused.
    PageRequestsStall = "page requests stall engines", Likely, [PageRequest, PageResponse],
        "give the WQ a group with an engine of its own, or set prs_disable for it; touch the pages before submitting";
    /// Block on fault where there are no page requests that it could wait for.
    BlockOnFaultAlone = "block on fault without page requests", Certain, [],
        "clear prs_disable on the WQ, or do not ask for block on fault and resume partial completions";
    /// A device that user space is to use, without shared virtual addressing.
    SvaOff = "SVA off", Certain, [],
        "turn the IOMMU on in scalable mode (intel_iommu=on,sm_on) and check with `dsascope doctor`: no process can open a user WQ";
    /// dsascope did not get all that it should have.
    OwnLoss = "own loss", Certain, [],
        "give dsascope a larger ring (--ring-size), or let a filter leave out what is not needed; totals by file stay exact";
    /// dsascope's programs take a share of the host that matters.
    OwnCostHigh = "own cost high", Certain, [],
        "trace for a shorter time or without --submitter, and see docs/performance.md for what each program costs";
}

impl FindingKind {
    /// Where it is explained: a file of this repository and a section of it.
    #[must_use]
    pub fn document(self) -> String {
        format!("docs/findings.md#{}", self.name().to_lowercase().replace(' ', "-"))
    }
}

/// Something that was seen of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    pub at_ns: u64,
    /// Null: of dsascope itself.
    #[schemars(with = "Option<String>")]
    pub device: Option<DeviceId>,
    /// The M of wqN.M.
    pub wq: Option<u16>,
    pub pasid: Option<u32>,
    pub words: String,
}

impl Evidence {
    /// `dsa0`, or `wq0.1 PASID 5`.
    #[must_use]
    pub fn place(&self) -> String {
        let Some(device) = self.device else { return "dsascope".into() };
        let Some(wq) = self.wq else { return device.to_string() };
        let wq = WqId { device: device.id, wq };
        self.pasid.map_or_else(|| wq.to_string(), |pasid| format!("{wq} PASID {pasid}"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    pub finding: FindingKind,
    pub count: u64,
    /// There may be more: records were lost, or the driver tells of some alone.
    pub at_least: bool,
    #[serde(default)]
    pub confidence: Confidence,
    pub sentence: String,
    pub advice: String,
    /// Where it is explained: a file of dsascope's repository, and a section of it.
    #[serde(default)]
    pub document: String,
    /// When it was first and last seen. A storm: from its beginning on. What the configuration or the books show: as of the last second.
    #[serde(default)]
    pub first_ns: u64,
    #[serde(default)]
    pub last_ns: u64,
    /// How often it began: more than once when it had been over in between.
    #[serde(default)]
    pub begun: u64,
    /// It was not seen for ten seconds.
    #[serde(default)]
    pub over: bool,
    /// The last few, oldest first.
    pub evidence: Vec<Evidence>,
}

/// What one kind of finding has come to. What `sum` and `most` are of depends on the kind: see its sentence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub count: u64,
    pub sum: u64,
    pub most: u64,
}

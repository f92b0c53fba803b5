//! What goes wrong without anybody being told: each a finding with a name, a count, what was seen of it, and what to do.
//!
//! Owns: the findings there are, their sentences and advice, and which hooks each rests on. Counting is [`crate::model`]'s work.
//! `docs/findings.md` is written from here. Refuses: guessing; what is not observed is said to be so ([`FindingKind::needs`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::{DeviceId, WqId};
use crate::probe::Hook;

/// From here on a close that keeps the event log from being read is worth a word: longer than it takes to serve some faults.
pub const HOLD_NS: u64 = 10_000_000;

macro_rules! findings {
    ($($(#[$m:meta])* $variant:ident = $name:literal, [$($hook:ident),*], $advice:literal;)*) => {
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

            /// Without one of these hooks it is not observed.
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
    /// The driver had no memory for a work item: an entry was dropped.
    ServiceAllocationFailed = "service allocation failed", [Warning],
        "keep memory free for allocations that cannot wait (vm.min_free_kbytes), and submit again what waits";
    /// A batch's record that nobody asked for: the driver copies nothing, and never frees the work item.
    FaultObjectLeaked = "fault object leaked", [CopyStart],
        "ask for the completion record of each batch; the memory is gone until the driver is unloaded";
    /// The file that the driver delivers to was closed while another of the same process is open on the WQ.
    DeliveredToNoOne = "delivered to no one", [OpenEnd, ReleaseEnd, CopyEnd],
        "open a WQ once in a process, and keep the first file open for as long as any is used";
    /// A close waited for queued faults with the device's event log locked.
    CloseHeldLog = "close held the event log", [ReleaseDrain, ReleaseEnd],
        "close a file when none of its faults is pending, and give processes that come and go a device of their own";
    /// Entries of errors that are not about a completion record: the driver serves none of them.
    ErrorsNotServed = "errors not served", [Warning],
        "the submitters' descriptors are at fault: look at the warnings in the trace for error, operation and address";
    /// SWERROR holds one error; the device dropped later ones.
    ErrorsDropped = "errors dropped", [InterruptEnd],
        "enable the event log where the device has one; correct the error that is told first";
    /// A failed copy was told of another batch than its own.
    FailureMoved = "failure moved to another batch", [CopyStart, CopyEnd],
        "do not let processes with batches share a device; take no batch's status as proof of its elements' records";
    /// A run of the interrupt thread handed over as many entries as the log can hold.
    EventLogFull = "event log full", [InterruptEnd],
        "raise event_log_size (docs/event-log-sizing.md)";
    DeviceHalted = "device halted", [HaltSoftware, HaltFinal],
        "look into the kernel's log for the cause; a device that the driver gave up needs a reset of the machine";
}

/// Something that was seen of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    pub at_ns: u64,
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// The M of wqN.M.
    pub wq: Option<u16>,
    pub pasid: Option<u32>,
    pub words: String,
}

impl Evidence {
    /// `dsa0`, or `wq0.1 PASID 5`.
    #[must_use]
    pub fn place(&self) -> String {
        let Some(wq) = self.wq else { return self.device.to_string() };
        let wq = WqId { device: self.device.id, wq };
        self.pasid.map_or_else(|| wq.to_string(), |pasid| format!("{wq} PASID {pasid}"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    pub finding: FindingKind,
    pub count: u64,
    /// There may be more: records were lost, or the driver tells of some alone.
    pub at_least: bool,
    pub sentence: String,
    pub advice: String,
    /// The last few, oldest first.
    pub evidence: Vec<Evidence>,
}

/// What one kind of finding has come to. What `sum` and `most` are of depends on the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub count: u64,
    pub sum: u64,
    pub most: u64,
}

/// `1 close`, `2 closes`.
fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn ms(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

impl FindingKind {
    /// The finding in a sentence.
    #[must_use]
    pub fn sentence(self, amount: &Amount) -> String {
        let Amount { count, sum, most } = *amount;
        match self {
            Self::ServiceAllocationFailed => {
                let entries = counted(count, "entry was", "entries were");
                format!("{entries} dropped because the driver had no memory: the submitters wait for ever")
            }
            Self::FaultObjectLeaked => {
                let records = counted(
                    count,
                    "batch record that nobody asked for was",
                    "batch records that nobody asked for were",
                );
                format!("{records} passed over without being freed: {sum} bytes of kernel memory leaked")
            }
            Self::DeliveredToNoOne => {
                let faults = counted(count, "fault of a process went", "faults of processes went");
                format!(
                    "{faults} to no one: the first file on the WQ is closed, and the driver knows no other"
                )
            }
            Self::CloseHeldLog => {
                let closes = counted(count, "close kept", "closes kept");
                format!(
                    "{closes} a device's event log from being read for {} or more, {} at most, {} in all",
                    ms(HOLD_NS),
                    ms(most),
                    ms(sum)
                )
            }
            Self::ErrorsNotServed => {
                let entries = counted(count, "entry", "entries");
                format!("{entries} of errors that the driver does not serve; it tells of ten in five seconds")
            }
            Self::ErrorsDropped => {
                let times = counted(count, "time", "times");
                format!("SWERROR was overrun {times}: later errors were dropped by the device")
            }
            Self::FailureMoved => {
                let failures = counted(count, "batch does", "batches do");
                format!(
                    "{failures} not tell of their own elements: the driver moved failures between uses of an identifier"
                )
            }
            Self::EventLogFull => {
                let runs = counted(count, "run", "runs");
                format!(
                    "the event log was found full by {runs} of the interrupt thread: engines waited {} at most",
                    ms(sum)
                )
            }
            Self::DeviceHalted => {
                let halts = counted(count, "halt", "halts");
                format!("{halts} of a device: what was under way is not finished")
            }
        }
    }
}

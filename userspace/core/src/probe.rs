//! What is observed in the driver, and what came of each attempt to observe it.
//!
//! Owns the names and intents of hooks and the verdict on each. Refuses: attaching; that is the probe crate.

use dsascope_common::wire::hook;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! hooks {
    ($($(#[$m:meta])* $variant:ident = $index:ident, $name:literal, $intent:literal;)*) => {
        /// What is observed, however it is attached.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Hook { $($(#[$m])* $variant,)* }

        impl Hook {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Index of the kernel side's hit counters.
            #[must_use]
            pub const fn index(self) -> u32 {
                match self { $(Self::$variant => hook::$index,)* }
            }

            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it is for, in a few words.
            #[must_use]
            pub const fn intent(self) -> &'static str {
                match self { $(Self::$variant => $intent,)* }
            }
        }
    };
}

hooks! {
    Queued = QUEUED, "queued", "entry handed to the worker";
    ServiceStart = SERVICE_START, "service start", "start of a fault's service";
    ServiceEnd = SERVICE_END, "service end", "end of a fault's service";
    CopyStart = COPY_START, "copy start", "address and record of the copy";
    CopyEnd = COPY_END, "copy end", "bytes really copied";
    InterruptStart = INTERRUPT_START, "interrupt start", "start of the device's interrupt thread";
    InterruptEnd = INTERRUPT_END, "interrupt end", "end of the interrupt thread, error register";
    Counter = COUNTER, "counter", "the driver's per-file counters";
    OpenStart = OPEN_START, "open start", "a process opens a work queue";
    OpenEnd = OPEN_END, "open end", "its PASID";
    ReleaseStart = RELEASE_START, "release start", "a file on a work queue goes";
    ReleaseDrain = RELEASE_DRAIN, "release drain", "the wait for its queued faults";
    ReleaseCounters = RELEASE_COUNTERS, "release counters", "the driver's counters at the end";
    ReleaseEnd = RELEASE_END, "release end", "end of the close";
    PageRequest = PAGE_REQUEST, "page request", "a device asks the IOMMU for a page";
    PageResponse = PAGE_RESPONSE, "page response", "the IOMMU's answer";
    CommandStart = COMMAND_START, "command start", "an administrative command is given";
    CommandEnd = COMMAND_END, "command end", "its status, and a WQ's configuration";
    HaltSoftware = HALT_SOFTWARE, "halt software", "a halt that the driver answers with the reset command";
    HaltFlr = HALT_FLR, "halt flr", "a halt that it answers with a function-level reset";
    HaltFinal = HALT_FINAL, "halt final", "a halt that it gives the device up for";
    ResetStart = RESET_START, "reset start", "a function-level reset";
    ResetEnd = RESET_END, "reset end", "the device is configured again";
    Warning = WARNING, "warning", "the driver's warnings";
    Submission = SUBMISSION, "submission", "a program submits a descriptor";
    Refusal = REFUSAL, "refusal", "a full shared work queue refused it";
    Seen = SEEN, "seen", "a program sees its completion record";
    WriteStart = WRITE_START, "write start", "a program submits by write(2)";
    WriteEnd = WRITE_END, "write end", "what of it the driver took";
}

impl Hook {
    /// Whether the totals of faults rest on it; the others tell of devices and of page requests.
    #[must_use]
    pub const fn is_of_faults(self) -> bool {
        self.index() < hook::PAGE_REQUEST
    }

    /// Whether it is wanted only where submissions are followed.
    #[must_use]
    pub const fn is_of_submissions(self) -> bool {
        self.index() >= hook::SUBMISSION
    }

    /// Whether it is in programs: what became of those is told by file, in [`crate::event::Submitters`].
    #[must_use]
    pub const fn is_in_programs(self) -> bool {
        matches!(self, Self::Submission | Self::Refusal | Self::Seen)
    }
}

/// What came of one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    pub hook: Hook,
    /// Without it a fault cannot be traced at all.
    pub required: bool,
    pub state: VerdictState,
    /// Times it fired; null until counted. Filled from snapshots by the model.
    pub hits: Option<u64>,
    /// How long attaching took.
    pub attach_ns: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum VerdictState {
    /// Attached by fentry, fexit, kprobe, kretprobe, tp_btf or tracepoint.
    Attached { by: String },
    /// The function or event does not exist here.
    NotOnThisKernel { why: String },
    /// The kernel refused.
    Refused { why: String },
    /// Attached, and found not to work.
    Broken { why: String },
    /// Not wanted, or covered by another hook.
    NotWanted,
}

impl VerdictState {
    #[must_use]
    pub const fn attached(&self) -> bool {
        matches!(self, Self::Attached { .. })
    }

    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Attached { .. } => "attached",
            Self::NotOnThisKernel { .. } => "not on this kernel",
            Self::Refused { .. } => "refused",
            Self::Broken { .. } => "broken",
            Self::NotWanted => "not wanted",
        }
    }

    /// The attach type, or the reason there is none.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Attached { by } => by,
            Self::NotOnThisKernel { why } | Self::Refused { why } | Self::Broken { why } => why,
            Self::NotWanted => "",
        }
    }
}

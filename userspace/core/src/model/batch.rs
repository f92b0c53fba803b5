//! One batch as its event-log entries tell it: the elements whose completion record (CR) faulted, then the batch's own CR.
//!
//! Owns what is said of a batch, and the judgement on the driver's patch. Joining entries is [`super::batches`]' work.
//!
//! Not known from the log, and so never claimed: how many descriptors the batch had, elements that did not fault, and whether a fence
//! stopped it (its CR tells how many descriptors were completed; that there were more is in the descriptor alone). Elements that failed
//! without a CR are entries the driver does not serve; they are not seen.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use dsascope_common::hw::completion::status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{Context, CopyOutcome, Fault};

/// Elements kept one by one, 40 bytes each; more are counted only.
pub const ELEMENTS: usize = 64;

/// One use of a batch identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    #[serde(flatten)]
    pub context: Context,
    pub tgid: Option<u32>,
    /// The device's identifier; reused.
    pub id: u8,
    /// Number of this use of the identifier on its device, from 1, since tracing began.
    pub generation: u64,
    /// When its first and its last record arrived.
    pub first_ns: u64,
    pub last_ns: u64,
    pub state: BatchState,
    /// The element that the device marked as the batch's first error was seen: no earlier one is missing.
    pub first_error_seen: bool,
    /// In the order of arrival; at most 64, all are counted below.
    pub elements: Vec<Element>,
    pub elements_delivered: u32,
    pub elements_failed: u32,
    /// Elements whose copy was not observed.
    pub elements_unknown: u32,
    /// The batch's own completion record; null until it was served.
    pub record: Option<BatchRecord>,
    /// What keeps this account from being certain.
    pub doubts: BTreeSet<Doubt>,
    pub finding: Option<Moved>,
    /// Log order of the first entry, and where entries were queued: what order can be relied on.
    #[serde(skip)]
    pub(super) first_queued_ns: Option<u64>,
    #[serde(skip)]
    queue_cpu: u16,
    /// End of the last copy of an element that failed.
    #[serde(skip)]
    pub(super) failed_ns: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Its own completion record has not been served.
    Open,
    /// Its own completion record was served: the last entry.
    Finished,
    /// The identifier came back before the batch's own record was seen.
    Reused,
    /// Records were lost while it was open: later entries cannot be told from those of the identifier's next use.
    Interrupted,
    /// Its file was closed: what was left in the log is never served.
    Closed,
    /// Given up because too many were open.
    Evicted,
}

impl BatchState {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Finished => "finished",
            Self::Reused => "end not seen",
            Self::Interrupted => "records lost",
            Self::Closed => "closed",
            Self::Evicted => "given up",
        }
    }
}

/// An element whose completion record the driver had to deliver (error 0x1a).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Element {
    /// Place of the descriptor in its batch.
    pub index: u16,
    pub outcome: ElementOutcome,
    #[serde(skip)]
    pub times: FaultTimes,
}

/// When the fault of a record was served, as far as that was seen: what a time line shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultTimes {
    pub queued_ns: Option<NonZeroU64>,
    pub started_ns: Option<NonZeroU64>,
    pub copy_ns: Option<NonZeroU64>,
    /// Of the copy; without one, of the service.
    pub end_ns: Option<NonZeroU64>,
}

impl FaultTimes {
    fn of(fault: &Fault) -> Self {
        let times = &fault.times;
        Self {
            queued_ns: times.queued_ns,
            started_ns: times.started_ns,
            copy_ns: times.copy_start_ns,
            end_ns: times.copy_end_ns.or(times.done_ns),
        }
    }

    /// The first and the last of them; `None`: none was seen.
    #[must_use]
    pub fn span_ns(&self) -> Option<(u64, u64)> {
        let all = [self.queued_ns, self.started_ns, self.copy_ns, self.end_ns];
        let known = || all.into_iter().flatten().map(NonZeroU64::get);
        known().min().zip(known().max())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ElementOutcome {
    Delivered,
    /// The copy failed; the driver notes it for the batch's record.
    Failed,
    Unknown,
}

impl ElementOutcome {
    fn of(fault: &Fault) -> Self {
        if fault.counted_failures > 0 { Self::Failed } else { Self::of_copy(fault.copy) }
    }

    #[must_use]
    pub const fn of_copy(copy: CopyOutcome) -> Self {
        match copy {
            CopyOutcome::Short { .. } => Self::Failed,
            CopyOutcome::Delivered { .. } => Self::Delivered,
            // The driver always copies an element's record: none seen means that it was not observed.
            CopyOutcome::NotCopied | CopyOutcome::Unobserved => Self::Unknown,
        }
    }
}

/// The batch's own completion record (error 0x27).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchRecord {
    pub copy: CopyOutcome,
    /// A completion record had been requested.
    pub requested: bool,
    /// As the device logged it.
    pub logged_status: u8,
    pub logged_result: u8,
    /// As the driver copied it or tried to; null without a copy.
    pub status: Option<u8>,
    pub result: Option<u8>,
    /// Fewer than the batch has when a fence or a fault of its list stopped it.
    pub descriptors_completed: u32,
    pub patch: Patch,
    #[serde(skip)]
    pub times: FaultTimes,
}

/// Whether the driver changed the batch's record because a copy of an element had failed: status 0x01 to 0x05, result to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Patch {
    Applied,
    NotApplied,
    /// The copy was not observed, or the record said already what the patch would say.
    Unknown,
}

impl BatchRecord {
    fn of(fault: &Fault) -> Self {
        let requested = fault.entry.rcr();
        let (logged_status, logged_result) = (fault.logged[0], fault.logged[1]);
        let unreadable = fault.marks.read_failed;
        let delivered = fault.delivered_record().filter(|_| !unreadable);
        let copied = delivered.and_then(|d| Some((*d.first()?, *d.get(1)?)));
        let patch = match (fault.copy, copied) {
            // Without a request the driver copies only what it has patched.
            (CopyOutcome::Delivered { .. } | CopyOutcome::Short { .. }, _) if !requested && !unreadable => {
                Patch::Applied
            }
            (CopyOutcome::NotCopied, _) if !requested && !unreadable => Patch::NotApplied,
            (_, Some(copied)) if copied != (logged_status, logged_result) => Patch::Applied,
            // The patch would have shown in one of the two bytes.
            (_, Some(_)) if logged_status == status::SUCCESS || logged_result != 1 => Patch::NotApplied,
            _ => Patch::Unknown,
        };
        let mut completed = [0; 4];
        completed.copy_from_slice(&fault.logged[4..8]);
        Self {
            copy: fault.copy,
            requested,
            logged_status,
            logged_result,
            status: copied.map(|(status, _)| status),
            result: copied.map(|(_, result)| result),
            descriptors_completed: u32::from_le_bytes(completed),
            patch,
            times: FaultTimes::of(fault),
        }
    }
}

/// What keeps a batch's account from being certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// It began before its first record that was seen: elements are missing.
    StartNotSeen,
    /// Its entries were queued on several CPUs, so their services had no order among themselves.
    SeveralCpus,
    /// An element's record arrived after the batch's own.
    LateElement,
    /// Whether the copy of some element failed was not observed.
    ElementUnknown,
    /// Whether the driver patched its record cannot be told.
    PatchUnknown,
    /// The stream has been filtered: elements may be missing.
    Filtered,
}

impl Doubt {
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::StartNotSeen => "its beginning was not seen",
            Self::SeveralCpus => "its entries were queued on several CPUs",
            Self::LateElement => "an element arrived after the batch's own record",
            Self::ElementUnknown => "the outcome of an element was not observed",
            Self::PatchUnknown => "whether the driver changed its record cannot be told",
            Self::Filtered => "a filter may have left elements out",
        }
    }
}

/// A failure that the driver booked to the wrong batch. It keeps one flag for each identifier and device, while it serves the entries of
/// one WQ in order only: when an identifier comes back on another WQ, entries of both uses may be served in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moved {
    pub finding: MovedKind,
    /// What of another batch with this identifier explains it; null when nothing that was seen before does.
    pub evidence: Option<Evidence>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MovedKind {
    /// The driver reported a failure although each of the batch's own elements was delivered.
    PatchedWithoutFailure,
    /// The driver reported none although the copy of an element failed: its submitter takes the batch for done.
    FailureNotPatched,
}

impl MovedKind {
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::PatchedWithoutFailure => {
                "told as failed, but no copy of its elements failed: another batch's failure"
            }
            Self::FailureNotPatched => {
                "an element's copy failed, but the batch is not told so: its failure went elsewhere"
            }
        }
    }
}

/// What another use of the same identifier did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    pub did: Did,
    /// When it touched the driver's flag.
    pub at_ns: u64,
    pub wq: u16,
    pub pasid: u32,
    pub generation: u64,
    /// Of the element.
    pub index: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// The copy of one of its elements failed: the driver set the flag.
    SetFlag,
    /// Its first element was served: the driver cleared the flag.
    ClearedFlag,
    /// Its own record was patched: the driver used the flag up.
    TookFlag,
}

impl Did {
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::SetFlag => "failed",
            Self::ClearedFlag => "cleared the failure",
            Self::TookFlag => "was told as failed in its place",
        }
    }
}

/// The driver's queues are per CPU: where a fault's queueing was not seen, it was queued where it was served.
fn queue_cpu(fault: &Fault) -> u16 {
    fault.queue_cpu.unwrap_or(fault.cpu)
}

impl Batch {
    pub(super) fn begin(fault: &Fault, generation: u64) -> Self {
        Self {
            context: fault.context,
            tgid: fault.tgid,
            id: fault.entry.batch_id(),
            generation,
            first_ns: fault.at_ns,
            last_ns: fault.at_ns,
            state: BatchState::Open,
            first_error_seen: false,
            elements: Vec::new(),
            elements_delivered: 0,
            elements_failed: 0,
            elements_unknown: 0,
            record: None,
            doubts: BTreeSet::from([Doubt::StartNotSeen]),
            finding: None,
            first_queued_ns: None,
            queue_cpu: queue_cpu(fault),
            failed_ns: None,
        }
    }

    /// Elements that faulted, kept or not.
    #[must_use]
    pub const fn element_count(&self) -> u32 {
        self.elements_delivered.saturating_add(self.elements_failed).saturating_add(self.elements_unknown)
    }

    /// Finished, and nothing about it is in doubt.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.state == BatchState::Finished && self.doubts.is_empty()
    }

    pub(super) fn has_index(&self, index: u16) -> bool {
        self.elements.iter().any(|element| element.index == index)
    }

    fn arrived(&mut self, fault: &Fault) {
        self.last_ns = self.last_ns.max(fault.at_ns);
        self.tgid = fault.tgid.or(self.tgid);
        if self.queue_cpu != queue_cpu(fault) {
            self.doubts.insert(Doubt::SeveralCpus);
        }
        let queued_ns = fault.times.queued_ns.map(NonZeroU64::get);
        self.first_queued_ns = match (self.first_queued_ns, queued_ns) {
            (Some(first), Some(queued)) => Some(first.min(queued)),
            (first, queued) => first.or(queued),
        };
    }

    pub(super) fn add_element(&mut self, fault: &Fault) -> ElementOutcome {
        self.arrived(fault);
        let outcome = ElementOutcome::of(fault);
        if fault.entry.first_err_in_batch() {
            self.first_error_seen = true;
            self.doubts.remove(&Doubt::StartNotSeen);
        }
        let count = match outcome {
            ElementOutcome::Delivered => &mut self.elements_delivered,
            ElementOutcome::Failed => {
                self.failed_ns = fault.times.copy_end_ns.map(NonZeroU64::get).or(self.failed_ns);
                &mut self.elements_failed
            }
            ElementOutcome::Unknown => {
                self.doubts.insert(Doubt::ElementUnknown);
                &mut self.elements_unknown
            }
        };
        *count = count.saturating_add(1);
        if self.elements.len() < ELEMENTS {
            let (index, times) = (fault.entry.batch_idx(), FaultTimes::of(fault));
            self.elements.push(Element { index, outcome, times });
        }
        outcome
    }

    pub(super) fn finish(&mut self, fault: &Fault) -> Patch {
        self.arrived(fault);
        let record = BatchRecord::of(fault);
        if record.patch == Patch::Unknown {
            self.doubts.insert(Doubt::PatchUnknown);
        }
        self.record = Some(record);
        self.state = BatchState::Finished;
        record.patch
    }

    /// What the driver did wrong, if that is certain. A failed copy just before the batch's own record must show in it whatever was
    /// missed earlier; that no copy failed can be said only of a batch that was seen from its first error on.
    pub(super) fn judge(&self) -> Option<MovedKind> {
        let record = self.record?;
        if [Doubt::SeveralCpus, Doubt::LateElement, Doubt::Filtered]
            .iter()
            .any(|doubt| self.doubts.contains(doubt))
        {
            return None;
        }
        match record.patch {
            Patch::Applied
                if self.elements_failed == 0 && self.elements_unknown == 0 && self.first_error_seen =>
            {
                Some(MovedKind::PatchedWithoutFailure)
            }
            Patch::NotApplied if self.elements_failed > 0 => Some(MovedKind::FailureNotPatched),
            _ => None,
        }
    }
}

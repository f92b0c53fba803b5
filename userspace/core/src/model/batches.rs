//! Joins event-log entries into batches by (device, WQ, PASID, identifier, generation), and finds failures that the driver booked to
//! the wrong batch.
//!
//! Rests on the order of service: the driver serves the entries of one WQ first in, first out as long as they are queued on one CPU
//! (idxd-facts section 2.4), and a batch's own entry is the last of its entries. An identifier's next use begins with the element
//! that the device marks as first error. Where one of the two is missing, a batch ends unfinished and the next begins with a doubt; two
//! uses are never joined. A loss of records ends every open batch, because what follows may be of the next use.
//!
//! Limit of that: a loss on another CPU than the batch's comes to light with that CPU's next record only.
//! Bounded: identifiers, open batches of each and ended batches have limits; what does not fit is counted in [`BatchTotals`].

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;

use dsascope_common::hw::completion::status;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::batch::{
    Batch, BatchState, Did, Doubt, Element, ElementOutcome, Evidence, Moved, MovedKind, Patch,
};
use crate::event::{Context, Fault, Key};

/// Identifiers followed: those of 16 devices.
const IDENTIFIERS: usize = 16 * 256;
/// Open batches of one identifier. More than one are open only while fault services of several WQs run side by side, or when ends were
/// not seen.
const OPEN_EACH: usize = 8;
/// Ended batches kept.
const ENDED: usize = 256;

/// Counts since tracing began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchTotals {
    /// Batches whose own record was served, and how many of them without any doubt.
    pub finished: u64,
    pub certain: u64,
    /// Batches that ended otherwise: identifier reused, records lost, file closed, given up for want of room.
    pub reused: u64,
    pub interrupted: u64,
    pub closed: u64,
    pub evicted: u64,
    /// Elements by what became of their records.
    pub elements_delivered: u64,
    pub elements_failed: u64,
    pub elements_unknown: u64,
    /// Batch records that the driver changed because of a failed element, and those whose own copy failed.
    pub patched: u64,
    pub records_failed: u64,
    /// Findings: failures told of the wrong batch, and failures not told of the right one.
    pub patched_without_failure: u64,
    pub failure_not_patched: u64,
    /// Elements that arrived after their batch's own record.
    pub late: u64,
    /// Entries of batches that were not followed because there were too many identifiers.
    pub other: u64,
}

/// What is known of one identifier of one device.
#[derive(Clone, Debug, Default)]
struct Identifier {
    uses: u64,
    open: Vec<Batch>,
    /// The last batch that finished: file, place in the log, number among the ended.
    last_end: Option<(Key, NonZeroU64, u64)>,
    /// The last that set the driver's flag, and the last that cleared or took it.
    set: Option<Evidence>,
    unset: Option<Evidence>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Batches {
    /// By device and identifier.
    identifiers: HashMap<(u16, u8), Identifier>,
    ended: VecDeque<Batch>,
    ended_total: u64,
    just_ended: Vec<Batch>,
    totals: BatchTotals,
    /// Faults are missing that were seen and left out.
    filtered: bool,
}

impl Batches {
    /// Batches that have not ended, in no order.
    pub fn open(&self) -> impl Iterator<Item = &Batch> {
        self.identifiers.values().flat_map(|identifier| &identifier.open)
    }

    /// The last that ended, oldest first.
    pub fn ended(&self) -> impl DoubleEndedIterator<Item = &Batch> + ExactSizeIterator {
        self.ended.iter()
    }

    /// Those that the last event ended.
    #[must_use]
    pub fn just_ended(&self) -> &[Batch] {
        &self.just_ended
    }

    #[must_use]
    pub const fn totals(&self) -> &BatchTotals {
        &self.totals
    }

    /// The stream does not have every fault.
    pub(super) const fn are_filtered(&mut self) {
        self.filtered = true;
    }

    /// Another event begins.
    pub(super) fn next_event(&mut self) {
        self.just_ended.clear();
    }

    /// Takes one fault in.
    pub fn fault(&mut self, fault: &Fault) {
        self.next_event();
        let element = fault.error() == status::CRA_XLAT && fault.entry.batch();
        if !element && fault.error() != status::BATCH_EVL_ERR {
            return;
        }
        let place = (fault.context.device.id, fault.entry.batch_id());
        let known = self.identifiers.len();
        if known >= IDENTIFIERS && !self.identifiers.contains_key(&place) {
            self.totals.other += 1;
            return;
        }
        let mut identifier = self.identifiers.remove(&place).unwrap_or_default();
        if element {
            self.element(&mut identifier, fault);
        } else {
            self.record(&mut identifier, fault);
        }
        self.identifiers.insert(place, identifier);
    }

    /// Records were lost: what is open cannot be followed further.
    pub fn lost(&mut self) {
        self.next_event();
        self.end_open(|_| true, BatchState::Interrupted);
    }

    /// A file was closed; its entries that were still in the log are not served.
    pub fn closed(&mut self, context: &Context) {
        self.next_event();
        let key = context.key();
        self.end_open(|batch| batch.context.key() == key, BatchState::Closed);
    }

    fn end_open(&mut self, which: impl Fn(&Batch) -> bool, state: BatchState) {
        let mut gone = Vec::new();
        for identifier in self.identifiers.values_mut() {
            gone.extend(identifier.open.extract_if(.., |batch| which(batch)));
        }
        gone.sort_by_key(|batch| (batch.first_ns, batch.context.key(), batch.id));
        for batch in gone {
            self.end(batch, state);
        }
    }

    fn element(&mut self, identifier: &mut Identifier, fault: &Fault) {
        let key = fault.context.key();
        if self.late(identifier, fault) {
            return;
        }
        let index = fault.entry.batch_idx();
        let first = fault.entry.first_err_in_batch();
        let queued_ns = fault.times.queued_ns.map(NonZeroU64::get);
        let open = identifier.open.iter().position(|batch| batch.context.key() == key);
        // The identifier's next use: its first error, or an element that this batch has already.
        let next = open.map(|at| &identifier.open[at]).is_some_and(|batch| {
            let before = batch.first_queued_ns.zip(queued_ns).is_some_and(|(first, queued)| queued < first);
            batch.has_index(index) || first && (batch.first_error_seen || !before)
        });
        let at = match open {
            Some(at) if next => {
                let batch = identifier.open.swap_remove(at);
                self.end(batch, BatchState::Reused);
                self.begin(identifier, fault)
            }
            Some(at) => at,
            None => self.begin(identifier, fault),
        };
        let Some(batch) = identifier.open.get_mut(at) else { return };
        let outcome = batch.add_element(fault);
        if first {
            identifier.unset = Some(evidence(Did::ClearedFlag, fault, batch.generation));
        }
        if outcome == ElementOutcome::Failed {
            identifier.set = Some(evidence(Did::SetFlag, fault, batch.generation));
        }
        self.totals.count_element(outcome);
    }

    fn record(&mut self, identifier: &mut Identifier, fault: &Fault) {
        let key = fault.context.key();
        let open = identifier.open.iter().position(|batch| batch.context.key() == key);
        let at = open.unwrap_or_else(|| self.begin(identifier, fault));
        if at >= identifier.open.len() {
            return;
        }
        let mut batch = identifier.open.swap_remove(at);
        let patch = batch.finish(fault);
        let own = batch.generation;
        let before = |e: &Evidence| e.generation != own && e.at_ns <= flag_ns(Did::TookFlag, fault);
        batch.finding = batch.judge().map(|finding| Moved {
            finding,
            evidence: match finding {
                MovedKind::PatchedWithoutFailure => identifier.set.filter(before),
                MovedKind::FailureNotPatched => {
                    identifier.unset.filter(before).filter(|e| Some(e.at_ns) >= batch.failed_ns)
                }
            },
        });
        if patch == Patch::Applied {
            identifier.unset = Some(evidence(Did::TookFlag, fault, own));
        }
        if let Some(queued_ns) = fault.times.queued_ns {
            identifier.last_end = Some((key, queued_ns, self.ended_total));
        }
        self.end(batch, BatchState::Finished);
    }

    /// Opens the identifier's next use; gives its place.
    fn begin(&mut self, identifier: &mut Identifier, fault: &Fault) -> usize {
        if identifier.open.len() >= OPEN_EACH {
            let oldest = (0..identifier.open.len()).min_by_key(|&at| identifier.open[at].last_ns);
            if let Some(at) = oldest {
                let batch = identifier.open.swap_remove(at);
                self.end(batch, BatchState::Evicted);
            }
        }
        identifier.uses += 1;
        let mut batch = Batch::begin(fault, identifier.uses);
        if self.filtered {
            batch.doubts.insert(Doubt::Filtered);
        }
        identifier.open.push(batch);
        identifier.open.len() - 1
    }

    /// An element that stood in the log before the record of its batch, and was served after it: on another CPU.
    fn late(&mut self, identifier: &mut Identifier, fault: &Fault) -> bool {
        let (Some((key, end_ns, number)), Some(queued_ns)) = (identifier.last_end, fault.times.queued_ns)
        else {
            return false;
        };
        if key != fault.context.key() || queued_ns >= end_ns {
            return false;
        }
        self.totals.late += 1;
        let first = self.ended_total - self.ended.len() as u64;
        let batch = number.checked_sub(first).and_then(|at| self.ended.get_mut(usize::try_from(at).ok()?));
        if let Some(batch) = batch {
            if batch.doubts.is_empty() {
                self.totals.certain -= 1;
            }
            batch.doubts.insert(Doubt::LateElement);
            let outcome = batch.add_element(fault);
            self.totals.count_element(outcome);
            if outcome == ElementOutcome::Failed {
                identifier.set = Some(evidence(Did::SetFlag, fault, batch.generation));
            }
            match batch.finding.take().map(|finding| finding.finding) {
                Some(MovedKind::PatchedWithoutFailure) => self.totals.patched_without_failure -= 1,
                Some(MovedKind::FailureNotPatched) => self.totals.failure_not_patched -= 1,
                None => {}
            }
        }
        true
    }

    fn end(&mut self, mut batch: Batch, state: BatchState) {
        batch.state = state;
        let t = &mut self.totals;
        *match state {
            BatchState::Finished | BatchState::Open => &mut t.finished,
            BatchState::Reused => &mut t.reused,
            BatchState::Interrupted => &mut t.interrupted,
            BatchState::Closed => &mut t.closed,
            BatchState::Evicted => &mut t.evicted,
        } += 1;
        t.certain += u64::from(batch.is_certain());
        if let Some(record) = &batch.record {
            t.patched += u64::from(record.patch == Patch::Applied);
            t.records_failed += u64::from(record.copy.has_failed());
        }
        match batch.finding.map(|finding| finding.finding) {
            Some(MovedKind::PatchedWithoutFailure) => t.patched_without_failure += 1,
            Some(MovedKind::FailureNotPatched) => t.failure_not_patched += 1,
            None => {}
        }
        self.just_ended.push(batch.clone());
        super::push_bounded(&mut self.ended, batch, ENDED);
        self.ended_total += 1;
    }
}

impl BatchTotals {
    fn count_element(&mut self, outcome: ElementOutcome) {
        *match outcome {
            ElementOutcome::Delivered => &mut self.elements_delivered,
            ElementOutcome::Failed => &mut self.elements_failed,
            ElementOutcome::Unknown => &mut self.elements_unknown,
        } += 1;
    }
}

/// When a service touched the driver's flag: it clears or takes it at its start, and sets it after the copy.
fn flag_ns(did: Did, fault: &Fault) -> u64 {
    let at = match did {
        Did::SetFlag => fault.times.copy_end_ns,
        Did::ClearedFlag | Did::TookFlag => fault.times.started_ns,
    };
    at.map_or(fault.at_ns, NonZeroU64::get)
}

fn evidence(did: Did, fault: &Fault, generation: u64) -> Evidence {
    let Context { wq, pasid, .. } = fault.context;
    let index = (did != Did::TookFlag).then(|| fault.entry.batch_idx());
    Evidence { did, at_ns: flag_ns(did, fault), wq, pasid, generation, index }
}

/// Elements as a strip of one character each, in the order of their index: what `marks` gives for delivered, failed, unknown.
#[must_use]
pub fn strip(elements: &[Element], marks: [char; 3]) -> String {
    let mut sorted: Vec<_> = elements.to_vec();
    sorted.sort_by_key(|element| element.index);
    let mark = |element: &Element| match element.outcome {
        ElementOutcome::Delivered => marks[0],
        ElementOutcome::Failed => marks[1],
        ElementOutcome::Unknown => marks[2],
    };
    sorted.iter().map(mark).collect()
}

#[cfg(test)]
mod tests;

//! Findings, counted from the events: the last few of each kind are kept as evidence.

use std::collections::{BTreeMap, VecDeque};

use dsascope_common::hw::completion::status;
use dsascope_common::hw::event_log::{DSA_ENTRY_BYTES, IAX_ENTRY_BYTES};

use super::Model;
use super::recent::push_bounded;
use super::row::{Delivery, Process};
use crate::decode::SoftwareError;
use crate::driver::{DriverEvent, Happening};
use crate::event::{CopyOutcome, DeviceKind, Fault, Interrupt, Release};
use crate::findings::{Amount, Evidence, Finding, FindingKind, HOLD_NS};
use crate::name::{Context, DeviceId};

/// Evidence kept of each kind.
const EVIDENCE: usize = 4;
/// `idxd_evl_fault` without its entry, on every kernel seen (idxd-facts section 2.1).
const FAULT_OBJECT_BYTES: usize = 48;
/// What the driver says when it has no memory for a work item, and of an error that it does not serve.
const NO_MEMORY: &str = "Failed to service fault work";
const ERROR: &str = "Device error ";

#[derive(Clone, Debug, Default)]
struct Tally {
    amount: Amount,
    evidence: VecDeque<Evidence>,
}

/// Findings so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    tallies: BTreeMap<FindingKind, Tally>,
}

/// Where and when.
fn at(at_ns: u64, device: DeviceId, words: String) -> Evidence {
    Evidence { at_ns, device, wq: None, pasid: None, words }
}

fn of_file(at_ns: u64, context: &Context, words: String) -> Evidence {
    Evidence { wq: Some(context.wq), pasid: Some(context.pasid), ..at(at_ns, context.device, words) }
}

impl Findings {
    fn note(&mut self, kind: FindingKind, count: u64, sum: u64, evidence: Evidence) {
        let tally = self.tallies.entry(kind).or_default();
        tally.amount.count += count;
        tally.amount.sum += sum;
        tally.amount.most = tally.amount.most.max(sum);
        push_bounded(&mut tally.evidence, evidence, EVIDENCE);
    }

    /// `row`: that of the fault's file.
    pub(super) fn fault(&mut self, fault: &Fault, row: &Process) {
        if fault.marks.end_missing {
            return;
        }
        if fault.error() == status::BATCH_EVL_ERR && fault.copy == CopyOutcome::NotCopied {
            let entry =
                if fault.context.device.kind == DeviceKind::Iax { IAX_ENTRY_BYTES } else { DSA_ENTRY_BYTES };
            let words = format!("batch {} asked for no completion record", fault.entry.batch_id());
            let bytes = (FAULT_OBJECT_BYTES + entry) as u64;
            self.note(FindingKind::FaultObjectLeaked, 1, bytes, of_file(fault.at_ns, &fault.context, words));
        }
        if row.is_unreachable(fault) {
            let words = format!("a completion record for {:#x} was not copied", fault.entry.fault_addr());
            self.note(FindingKind::DeliveredToNoOne, 1, 0, of_file(fault.at_ns, &fault.context, words));
        }
    }

    /// `row`: that of the file, after this release.
    pub(super) fn release(&mut self, release: &Release, row: &Process) {
        if let Some(held_ns) = release.drain_duration_ns().filter(|&ns| ns >= HOLD_NS) {
            let words = format!("the close waited {:.1} ms for queued faults", held_ns as f64 / 1e6);
            self.note(FindingKind::CloseHeldLog, 1, held_ns, of_file(release.at_ns, &release.context, words));
        }
        let skipped = u64::from(release.skipped);
        if skipped > 0 && row.delivery == Delivery::NoOne {
            let words = format!("{skipped} entries marked at a close while another file is open");
            let evidence = of_file(release.at_ns, &release.context, words);
            self.note(FindingKind::DeliveredToNoOne, skipped, 0, evidence);
        }
    }

    pub(super) fn interrupt(&mut self, interrupt: &Interrupt) {
        let device = interrupt.device;
        let error = interrupt.swerror.and_then(|qwords| SoftwareError::new(device, &qwords));
        if let Some(error) = error.filter(|error| error.overflow) {
            self.note(FindingKind::ErrorsDropped, 1, 0, at(interrupt.at_ns, device, error.words(device)));
        }
    }

    pub(super) fn driver(&mut self, event: &DriverEvent) {
        let (at_ns, device) = (event.at_ns, event.device);
        match &event.what {
            Happening::Halt { answer } => {
                self.note(FindingKind::DeviceHalted, 1, 0, at(at_ns, device, answer.words().into()));
            }
            Happening::Warning { text } if text.starts_with(NO_MEMORY) => {
                self.note(FindingKind::ServiceAllocationFailed, 1, 0, at(at_ns, device, text.clone()));
            }
            Happening::Warning { text } if text.starts_with(ERROR) => {
                self.note(FindingKind::ErrorsNotServed, 1, 0, at(at_ns, device, text.clone()));
            }
            _ => {}
        }
    }

    /// The log was full, or may have been: `waited_ns` is the longest that an engine can have waited for a slot.
    pub(super) fn log_full(&mut self, interrupt: &Interrupt, waited_ns: u64) {
        let words = format!("{} entries in one run of the interrupt thread", interrupt.entries);
        self.note(FindingKind::EventLogFull, 1, waited_ns, at(interrupt.at_ns, interrupt.device, words));
    }
}

impl Model {
    /// What was found, in the order of [`FindingKind::ALL`]; what did not happen is not in it.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let mut tallies = self.findings.tallies.clone();
        tallies.insert(FindingKind::FailureMoved, self.moved());
        let found = tallies.into_iter().filter(|(_, tally)| tally.amount.count > 0);
        found
            .map(|(finding, tally)| Finding {
                finding,
                count: tally.amount.count,
                // The driver's lines about errors have a rate limit.
                at_least: self.ledger.lost() > 0 || finding == FindingKind::ErrorsNotServed,
                sentence: finding.sentence(&tally.amount),
                advice: finding.advice().into(),
                evidence: tally.evidence.into(),
            })
            .collect()
    }

    /// Taken from the batches as they are now: an element that arrives late may take one back.
    fn moved(&self) -> Tally {
        let totals = self.batches.totals();
        let count = totals.patched_without_failure + totals.failure_not_patched;
        let mut tally = Tally { amount: Amount { count, ..Amount::default() }, ..Tally::default() };
        for batch in self.batches.ended().rev() {
            if let Some(moved) = batch.finding.filter(|_| tally.evidence.len() < EVIDENCE) {
                let words = format!("batch {} {}", batch.id, moved.finding.words());
                tally.evidence.push_front(of_file(batch.last_ns, &batch.context, words));
            }
        }
        tally
    }

    /// Findings that cannot be made here, because a hook that they need is not attached.
    #[must_use]
    pub fn findings_unobserved(&self) -> Vec<FindingKind> {
        let attached = |hook| self.verdicts().iter().any(|v| v.hook == hook && v.state.attached());
        let blind = |kind: &FindingKind| !kind.needs().iter().all(|&hook| attached(hook));
        FindingKind::ALL.iter().copied().filter(blind).collect()
    }
}

#[cfg(test)]
mod tests;

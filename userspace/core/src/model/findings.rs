//! Findings, counted from the events: the last few of each kind are kept as evidence.
//!
//! What a single event shows is noted when it comes; what only a rate shows is looked for once in a bucket of the rates ([`storm`]); what
//! the configuration or the books show is asked for when it is wanted ([`devices`], [`own`]).

mod devices;
mod follow;
mod memory;
mod own;
mod pages;
mod ratio;
mod storm;

use std::collections::{BTreeMap, VecDeque};

use dsascope_common::hw::completion::status;
use dsascope_common::hw::event_log::{DSA_ENTRY_BYTES, IAX_ENTRY_BYTES};

use super::recent::push_bounded;
use super::row::{Delivery, Process};
use super::rows::Rows;
use super::{Model, WINDOW_NS};
use crate::decode::SoftwareError;
use crate::driver::{DriverEvent, Happening, WqConfig};
use crate::event::{Comm, CopyOutcome, DeviceKind, Fault, Interrupt, Key, Release, SessionInfo};
use crate::findings::history::{History, Span};
use crate::findings::{Amount, Confidence, Evidence, Finding, FindingKind, threshold};
use crate::name::{Context, DeviceId};
use crate::rate::{BUCKET_NS, Rate};
use follow::Followed;
use pages::Pages;
use storm::Storms;

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
    /// Whom the sentence names.
    subject: String,
    /// Where it is less than the kind's.
    confidence: Option<Confidence>,
}

/// Findings so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    tallies: BTreeMap<FindingKind, Tally>,
    pages: Pages,
    storms: Storms,
    /// The last files of which many records fail.
    failing: VecDeque<Key>,
    history: History,
    followed: Followed,
    /// When rates are looked at again.
    pub(super) next_look_ns: u64,
    /// Nothing is known of rates before; later than the session's start where a capture begins late.
    pub(super) since_ns: u64,
}

/// Where and when.
fn at(at_ns: u64, device: DeviceId, words: String) -> Evidence {
    Evidence { at_ns, device: Some(device), wq: None, pasid: None, words }
}

fn of_file(at_ns: u64, context: &Context, words: String) -> Evidence {
    Evidence { wq: Some(context.wq), pasid: Some(context.pasid), ..at(at_ns, context.device, words) }
}

/// `leaky-importer (148) on wq0.2`.
fn who(context: &Context, tgid: Option<u32>, comm: Option<Comm>) -> String {
    let wq = context.wq_id();
    match (comm, tgid) {
        (Some(comm), Some(tgid)) => format!("{comm} ({tgid}) on {wq}"),
        (_, Some(tgid)) => format!("process {tgid} on {wq}"),
        (Some(comm), None) => format!("{comm} on {wq}"),
        (None, None) => format!("PASID {} on {wq}", context.pasid),
    }
}

impl Process {
    fn who(&self) -> String {
        who(&self.context, self.tgid, self.comm)
    }
}

impl Findings {
    fn note(&mut self, kind: FindingKind, count: u64, sum: u64, evidence: Evidence) {
        self.history.seen(kind, evidence.at_ns);
        let tally = self.tallies.entry(kind).or_default();
        tally.amount.count += count;
        tally.amount.sum += sum;
        tally.amount.most = tally.amount.most.max(sum);
        push_bounded(&mut tally.evidence, evidence, EVIDENCE);
    }

    pub(super) fn begin(&mut self, session: &SessionInfo) {
        self.storms.least_per_s = session.storm_per_s.map_or(threshold::STORM_PER_S, u64::from);
    }

    /// `row`: that of the fault's file. `config`: of its WQ.
    pub(super) fn fault(&mut self, fault: &Fault, row: &mut Process, config: Option<&WqConfig>) {
        if fault.marks.end_missing {
            return;
        }
        self.pages.add(fault);
        self.record(fault);
        self.block_on_fault(fault, config);
        self.ratio(fault, row);
        self.after_close(fault, row);
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

    /// Rates, once in a bucket. `whole`: that of all files.
    pub(super) fn look(&mut self, rows: &Rows, whole: &Rate, now_ns: u64) {
        self.next_look_ns = (now_ns / BUCKET_NS + 1).saturating_mul(BUCKET_NS);
        let per_s = whole.per_second(now_ns, WINDOW_NS, self.since_ns).unwrap_or(0.0);
        if !self.storms.is_calm() || per_s >= self.storms.least_per_s as f64 / 2.0 {
            self.storms.look(rows.iter(), &self.pages, (now_ns, self.since_ns));
        }
    }

    /// `row`: that of the file, after this release. `waited`: there were, or may have been, faults to wait for.
    pub(super) fn release(&mut self, release: &Release, row: &Process, waited: bool) {
        let held_ns = release.drain_duration_ns().filter(|&ns| waited && ns >= threshold::HOLD_NS);
        if let Some(held_ns) = held_ns {
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
        tallies.insert(FindingKind::Storm, self.findings.storms.tally());
        tallies.insert(FindingKind::RecordsGivenBack, self.findings.storms.given_back());
        tallies.insert(FindingKind::RecordsNeverTouched, self.findings.storms.fresh());
        tallies.insert(FindingKind::FailureMoved, self.moved());
        tallies.insert(FindingKind::EventLogSmall, self.small_event_logs());
        tallies.insert(FindingKind::PageRequestsStall, self.stalls());
        tallies.insert(FindingKind::SvaOff, self.sva_off());
        tallies.insert(FindingKind::OwnLoss, self.own_loss());
        tallies.insert(FindingKind::OwnCostHigh, self.own_cost());
        self.add_block_on_fault(tallies.entry(FindingKind::BlockOnFaultAlone).or_default());
        if let Some(tally) = tallies.get_mut(&FindingKind::FailureRatioHigh) {
            self.name_worst(tally);
        }
        let found = tallies.into_iter().filter(|(_, tally)| tally.amount.count > 0);
        found
            .map(|(finding, tally)| {
                let Span { first_ns, last_ns, begun, over } = self.span(finding, &tally);
                Finding {
                    finding,
                    count: tally.amount.count,
                    // The driver's lines about errors have a rate limit.
                    at_least: self.ledger.lost() > 0 || finding == FindingKind::ErrorsNotServed,
                    confidence: tally.confidence.unwrap_or_else(|| finding.confidence()),
                    sentence: finding.sentence(&tally.amount, &tally.subject),
                    advice: finding.advice().into(),
                    document: finding.document(),
                    first_ns,
                    last_ns,
                    begun,
                    over,
                    evidence: tally.evidence.into(),
                }
            })
            .collect()
    }

    /// Looks at rates when it is time to.
    pub(super) fn look(&mut self) {
        self.findings.look(&self.rows, &self.faults, self.now_ns);
        self.follow();
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

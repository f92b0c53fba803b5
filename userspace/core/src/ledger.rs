//! Loss is data: what was seen, sent, lost and received, by kind of record, and whether it adds up.
//!
//! `seen == sent + lost` for every kind, always; `received == sent` once the ring is drained. While tracing runs, records in
//! the ring are sent and not yet received, and the per-CPU counters are not read at one instant: only a quiesced ledger is
//! held to both.

use dsascope_common::wire::{counter, hole, kind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{Hole, HoleKind, Named, Snapshot};
use crate::probe::Hook;

/// A count for each kind of record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ByKind {
    pub fault: u64,
    pub interrupt: u64,
    pub open: u64,
    pub release: u64,
    /// Stage records, when faults are sent as stages.
    pub stage: u64,
    /// Commands, halts, resets and warnings.
    #[serde(default)]
    pub driver: u64,
    #[serde(default)]
    pub page_request: u64,
    #[serde(default)]
    pub page_response: u64,
    #[serde(default)]
    pub submission: u64,
    /// Parts of batches' lists.
    #[serde(default)]
    pub elements: u64,
    #[serde(default)]
    pub seen: u64,
}

impl ByKind {
    pub const KINDS: [u16; 11] = [
        kind::FAULT,
        kind::INTERRUPT,
        kind::OPEN,
        kind::RELEASE,
        kind::STAGE,
        kind::DRIVER,
        kind::PAGE_REQUEST,
        kind::PAGE_RESPONSE,
        kind::SUBMISSION,
        kind::ELEMENTS,
        kind::SEEN,
    ];

    /// Count of one of [`kind`]; 0 for a kind that does not exist.
    #[must_use]
    pub fn get(&self, kind: u16) -> u64 {
        let mut copy = *self;
        copy.slot(kind).map_or(0, |slot| *slot)
    }

    /// One more of `kind`; a kind that does not exist is not counted.
    pub fn count(&mut self, kind: u16) {
        if let Some(slot) = self.slot(kind) {
            *slot += 1;
        }
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        Self::KINDS.iter().map(|&kind| self.get(kind)).fold(0, u64::saturating_add)
    }

    fn slot(&mut self, kind: u16) -> Option<&mut u64> {
        match kind {
            kind::FAULT => Some(&mut self.fault),
            kind::INTERRUPT => Some(&mut self.interrupt),
            kind::OPEN => Some(&mut self.open),
            kind::RELEASE => Some(&mut self.release),
            kind::STAGE => Some(&mut self.stage),
            kind::DRIVER => Some(&mut self.driver),
            kind::PAGE_REQUEST => Some(&mut self.page_request),
            kind::PAGE_RESPONSE => Some(&mut self.page_response),
            kind::SUBMISSION => Some(&mut self.submission),
            kind::ELEMENTS => Some(&mut self.elements),
            kind::SEEN => Some(&mut self.seen),
            _ => None,
        }
    }

    fn from_counters(counters: &[u64], base: u32) -> Self {
        let mut all = Self::default();
        for kind in Self::KINDS {
            if let (Some(slot), Some(&count)) =
                (all.slot(kind), counters.get(base as usize + usize::from(kind)))
            {
                *slot = count;
            }
        }
        all
    }
}

/// The kernel side's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelLedger {
    pub seen: ByKind,
    pub sent: ByKind,
    pub lost: ByKind,
    /// What the programs could not follow, by kind; a kind that never happened is 0.
    pub holes: Named,
    /// Times each hook fired, by its serialised name.
    pub hits: Named,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("counter array of the kernel side: expected {expected} counters, found {found}")]
pub struct CounterCount {
    pub expected: usize,
    pub found: usize,
}

impl KernelLedger {
    /// From the counter array, summed over CPUs, indexed as [`counter`] says.
    ///
    /// # Errors
    /// The array has another length than this build's programs have.
    pub fn from_counters(counters: &[u64]) -> Result<Self, CounterCount> {
        let expected = counter::COUNT as usize;
        if counters.len() != expected {
            return Err(CounterCount { expected, found: counters.len() });
        }
        let at = |base: u32, index: usize| counters.get(base as usize + index).copied().unwrap_or(0);
        let holes = hole::NAMES
            .iter()
            .enumerate()
            .filter(|(_, name)| !name.is_empty())
            .map(|(index, name)| ((*name).to_owned(), at(counter::HOLE, index)))
            .collect();
        let hits = Hook::ALL
            .iter()
            .map(|hook| (hook.name().replace(' ', "_"), at(counter::HIT, hook.index() as usize)))
            .collect();
        Ok(Self {
            seen: ByKind::from_counters(counters, counter::SEEN),
            sent: ByKind::from_counters(counters, counter::SENT),
            lost: ByKind::from_counters(counters, counter::LOST),
            holes,
            hits,
        })
    }

    /// Nothing of a record is missing that anything is computed from. A stack the kernel had no room for is counted in
    /// `holes` and told as missing where it would stand; the record it belongs to is whole.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let stack = hole::NAMES[hole::STACK_MISSING as usize];
        self.holes.iter().all(|(name, &count)| count == 0 || name == stack)
    }

    #[must_use]
    pub fn hits(&self, hook: Hook) -> Option<u64> {
        self.hits.get(&hook.name().replace(' ', "_")).copied()
    }
}

/// The books of both sides, as of the last snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ledger {
    pub kernel: KernelLedger,
    /// Taken from the ring, decodable or not.
    pub received: ByKind,
    pub undecodable: u64,
    /// Records named by holes in the stream; at most `kernel.lost`, since a CPU that falls silent tells no more.
    pub ring_lost_placed: u64,
    /// Events that the tracer itself dropped between reader and updater.
    pub channel_lost: u64,
    /// Events that a capture should hold and does not.
    #[serde(default)]
    pub capture_lost: u64,
    pub quiesced: bool,
}

/// Whether the books agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "balance", rename_all = "snake_case")]
pub enum Balance {
    /// No snapshot yet.
    Unknown,
    /// Every record seen was sent or counted as lost, and every record sent was received.
    Balanced,
    /// The same as far as one can say while records are on their way.
    InFlight { records: u64 },
    /// The books disagree: a defect of dsascope.
    Unbalanced { differences: Vec<Difference> },
}

/// One kind of record whose books disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    pub record: String,
    pub seen: u64,
    pub sent: u64,
    pub lost: u64,
    pub received: u64,
}

impl Ledger {
    /// Takes over a snapshot's counters.
    pub fn absorb(&mut self, snapshot: &Snapshot) {
        self.kernel.clone_from(&snapshot.ledger);
        self.received = snapshot.received;
        self.undecodable = snapshot.undecodable;
        self.quiesced = snapshot.quiesced;
    }

    /// Takes over a hole of the stream, if it stands for lost records.
    pub fn hole(&mut self, hole: &Hole) {
        let lost = match hole.what {
            HoleKind::RingLost { .. } => &mut self.ring_lost_placed,
            HoleKind::ChannelFull => &mut self.channel_lost,
            HoleKind::CaptureDamaged | HoleKind::CaptureUnwritten | HoleKind::CaptureCut => {
                &mut self.capture_lost
            }
            _ => return,
        };
        // Counts may come from a hostile capture.
        *lost = lost.saturating_add(hole.count);
    }

    /// `seen == sent + lost` and, when quiesced, `received == sent`, for each kind.
    #[must_use]
    pub fn balance(&self) -> Balance {
        if !self.quiesced {
            let records = self.kernel.sent.total().saturating_sub(self.received.total());
            return if self.kernel == KernelLedger::default() {
                Balance::Unknown
            } else {
                Balance::InFlight { records }
            };
        }
        let differences: Vec<Difference> = ByKind::KINDS
            .iter()
            .map(|&kind| Difference {
                record: kind::NAMES.get(usize::from(kind)).copied().unwrap_or_default().to_owned(),
                seen: self.kernel.seen.get(kind),
                sent: self.kernel.sent.get(kind),
                lost: self.kernel.lost.get(kind),
                received: self.received.get(kind),
            })
            .filter(|d| d.sent.checked_add(d.lost) != Some(d.seen) || d.received != d.sent)
            .collect();
        if differences.is_empty() { Balance::Balanced } else { Balance::Unbalanced { differences } }
    }

    /// True unless the books are known to disagree.
    #[must_use]
    pub fn balanced(&self) -> bool {
        !matches!(self.balance(), Balance::Unbalanced { .. })
    }

    /// Records that never reached the updater.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let placed = self.kernel.lost.total().max(self.ring_lost_placed);
        [self.channel_lost, self.undecodable, self.capture_lost].into_iter().fold(placed, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_land_under_their_names() {
        let counters: Vec<u64> = (0..u64::from(counter::COUNT)).collect();
        let ledger = KernelLedger::from_counters(&counters).unwrap();
        assert_eq!(ledger.seen.fault, u64::from(counter::SEEN) + u64::from(kind::FAULT));
        assert_eq!(ledger.lost.stage, u64::from(counter::LOST) + u64::from(kind::STAGE));
        assert_eq!(ledger.holes["end_missing"], u64::from(counter::HOLE + hole::END_MISSING));
        assert_eq!(ledger.hits(Hook::CopyEnd), Some(u64::from(counter::HIT + Hook::CopyEnd.index())));
        assert!(KernelLedger::from_counters(&counters[1..]).is_err());
    }

    #[test]
    fn only_a_missing_stack_leaves_it_complete() {
        let mut counters = vec![0; counter::COUNT as usize];
        counters[(counter::HOLE + hole::STACK_MISSING) as usize] = 10;
        assert!(KernelLedger::from_counters(&counters).unwrap().is_complete());
        for (index, _) in hole::NAMES.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if index != hole::STACK_MISSING as usize {
                let mut counters = counters.clone();
                counters[counter::HOLE as usize + index] = 1;
                assert!(!KernelLedger::from_counters(&counters).unwrap().is_complete());
            }
        }
    }

    #[test]
    fn a_quiesced_ledger_must_add_up() {
        let count = |fault| ByKind { fault, ..ByKind::default() };
        let mut ledger = Ledger {
            kernel: KernelLedger { seen: count(10), sent: count(7), lost: count(3), ..Default::default() },
            received: count(7),
            quiesced: true,
            ..Default::default()
        };
        assert_eq!(ledger.balance(), Balance::Balanced);
        ledger.received.fault = 6;
        assert!(!ledger.balanced());
        ledger.quiesced = false;
        assert_eq!(ledger.balance(), Balance::InFlight { records: 1 });
        ledger.quiesced = true;
        ledger.received.fault = 7;
        ledger.kernel.lost.fault = 2;
        assert!(!ledger.balanced());
    }
}

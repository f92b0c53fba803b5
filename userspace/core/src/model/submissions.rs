//! What programs submitted, and how long what did not fault took.
//!
//! Faults' own latencies are with the others, by stage; the completions without a fault are what they compare with.

use crate::event::{Seen, SubmittedTotals};
use crate::hist::{Latency, Summary};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Submissions {
    totals: Vec<SubmittedTotals>,
    /// Faults whose submission is known.
    joined: u64,
    seen: u64,
    unfaulted: Latency,
}

impl Submissions {
    pub(super) fn fault(&mut self, is_joined: bool) {
        self.joined += u64::from(is_joined);
    }

    pub(super) fn seen(&mut self, seen: &Seen) {
        self.seen += 1;
        if seen.context.is_none()
            && let Some(ns) = seen.total_ns()
        {
            self.unfaulted.record(ns);
        }
    }

    pub(super) fn take_totals(&mut self, totals: &[SubmittedTotals]) {
        totals.clone_into(&mut self.totals);
    }

    /// Exact counts, as of the last snapshot.
    #[must_use]
    pub fn totals(&self) -> &[SubmittedTotals] {
        &self.totals
    }

    /// Faults whose submission is known.
    #[must_use]
    pub const fn joined(&self) -> u64 {
        self.joined
    }

    /// From submission to seen, of records that did not fault. `None`: no program tells.
    #[must_use]
    pub fn unfaulted(&self) -> Option<Summary> {
        self.unfaulted.summary()
    }

    /// Whether anything is known of submissions at all.
    #[must_use]
    pub fn are_traced(&self) -> bool {
        !self.totals.is_empty() || self.joined > 0 || self.seen > 0
    }
}

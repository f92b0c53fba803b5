//! What happened since the last look: the difference between the whole as it is and as it was.
//!
//! Counts and histograms are kept once, for the whole run, and subtracted when an interval ends. Only what no difference tells is
//! kept beside them: the extremes.

use super::count::Counts;
use crate::hist::{Extremes, StageHistograms};

/// What happened between two calls of [`super::Model::next_interval`].
#[derive(Clone, Debug, Default)]
pub struct Interval {
    pub since_ns: u64,
    pub counts: Counts,
    pub latency: StageHistograms,
    pub interrupts: u64,
    pub records_lost: u64,
    pub holes: u64,
}

/// The interval that has not ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Current {
    pub since_ns: u64,
    pub interrupts: u64,
    pub records_lost: u64,
    pub holes: u64,
    pub extremes: Extremes,
    /// The whole as it was when the interval began.
    counts: Counts,
    latency: StageHistograms,
}

impl Current {
    /// Ends it at `now_ns`, when the whole is as given, and begins the next.
    pub(super) fn next(&mut self, now_ns: u64, counts: Counts, latency: &StageHistograms) -> Interval {
        let next = Self { since_ns: now_ns, counts, latency: latency.clone(), ..Self::default() };
        let ended = std::mem::replace(self, next);
        Interval {
            since_ns: ended.since_ns,
            counts: self.counts.since(&ended.counts),
            latency: latency.since(&ended.latency, &ended.extremes),
            interrupts: ended.interrupts,
            records_lost: ended.records_lost,
            holes: ended.holes,
        }
    }
}

#[cfg(test)]
mod tests;

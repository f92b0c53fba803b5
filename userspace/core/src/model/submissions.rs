//! What programs submitted, and how long what did not fault took.
//!
//! Faults' own latencies are with the others, by stage; the completions without a fault are what they compare with.

use std::collections::HashMap;

use crate::event::{Place, Seen, Stack, SubmittedTotals};
use crate::hist::{Latency, Summary};
use crate::name::WqId;

/// Stacks, and places, that are kept; beyond it all are forgotten and come again with later faults.
const KEPT: usize = 16_384;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Submissions {
    totals: Vec<SubmittedTotals>,
    /// When they were read, and what each process had submitted to each WQ by then.
    read_ns: u64,
    submitted: HashMap<(u32, WqId), u64>,
    /// Between the last two readings.
    per_s: HashMap<(u32, WqId), f64>,
    /// Faults whose submission is known.
    joined: u64,
    seen: u64,
    unfaulted: Latency,
    /// By process and id.
    stacks: HashMap<(u32, u32), Box<Stack>>,
    /// By process and page.
    places: HashMap<(u32, u64), Box<Place>>,
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

    pub(super) fn stack(&mut self, stack: &Stack) {
        insert_bounded(&mut self.stacks, (stack.tgid, stack.id), stack);
    }

    pub(super) fn place(&mut self, place: &Place) {
        insert_bounded(&mut self.places, (place.tgid, place.page), place);
    }

    /// What is known of the stack of an origin.
    #[must_use]
    pub fn stack_of(&self, tgid: u32, id: u32) -> Option<&Stack> {
        self.stacks.get(&(tgid, id)).map(Box::as_ref)
    }

    /// What is known of the memory of a record, by its address.
    #[must_use]
    pub fn place_of(&self, tgid: u32, address: u64) -> Option<&Place> {
        self.places.get(&(tgid, address & !0xfff)).map(Box::as_ref)
    }

    pub(super) fn take_totals(&mut self, totals: &[SubmittedTotals], at_ns: u64) {
        let mut submitted = HashMap::new();
        for of in totals {
            if let (Some(tgid), Some(device), Some(wq)) = (of.tgid, of.device, of.wq) {
                *submitted.entry((tgid, WqId { device: device.id, wq })).or_default() += of.submissions;
            }
        }
        let over_ns = at_ns.saturating_sub(self.read_ns);
        // The first reading says nothing of how long it took.
        if !self.totals.is_empty() && over_ns > 0 {
            let rate = |(key, now): (&(u32, WqId), &u64)| {
                let before = self.submitted.get(key).copied().unwrap_or(0);
                (*key, now.saturating_sub(before) as f64 * 1e9 / over_ns as f64)
            };
            self.per_s = submitted.iter().map(rate).collect();
        }
        (self.read_ns, self.submitted) = (at_ns, submitted);
        totals.clone_into(&mut self.totals);
    }

    /// Descriptors that a process submitted to a WQ a second, between the last two readings. `None`: not followed, or not read twice.
    #[must_use]
    pub fn per_second(&self, tgid: u32, wq: WqId) -> Option<f64> {
        self.per_s.get(&(tgid, wq)).copied()
    }

    /// Those of all together.
    #[must_use]
    pub fn all_per_second(&self) -> Option<f64> {
        (!self.per_s.is_empty()).then(|| self.per_s.values().sum())
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

fn insert_bounded<K: Eq + std::hash::Hash, V: Clone>(map: &mut HashMap<K, Box<V>>, key: K, value: &V) {
    if map.len() >= KEPT {
        map.clear();
    }
    map.insert(key, Box::new(value.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{Comm, DeviceId, DeviceKind};

    fn totals(tgid: u32, wq: u16, submissions: u64) -> SubmittedTotals {
        SubmittedTotals {
            tgid: Some(tgid),
            comm: Comm::new("load"),
            device: Some(DeviceId::new(DeviceKind::Dsa, 0)),
            wq: Some(wq),
            how: None,
            operation_code: None,
            operation: None,
            submissions,
            refused: 0,
            elements: 0,
            bytes: 0,
            untold: 0,
            records_lost: 0,
            lists_cut: 0,
        }
    }

    #[test]
    fn a_rate_needs_two_readings_and_one_of_the_process() {
        const SECOND: u64 = 1_000_000_000;
        let mut submissions = Submissions::default();
        let of = |submissions: &Submissions, tgid, wq| submissions.per_second(tgid, WqId { device: 0, wq });
        submissions.take_totals(&[], SECOND);
        submissions.take_totals(&[totals(7, 1, 100)], 2 * SECOND);
        assert_eq!((of(&submissions, 7, 1), submissions.all_per_second()), (None, None));
        // Of two operations, and a process that is new.
        submissions.take_totals(&[totals(7, 1, 300), totals(7, 1, 50), totals(8, 1, 40)], 4 * SECOND);
        assert_eq!(of(&submissions, 7, 1), Some(125.0));
        assert_eq!((of(&submissions, 8, 1), of(&submissions, 7, 0)), (Some(20.0), None));
        assert_eq!(submissions.all_per_second(), Some(145.0));
        submissions.take_totals(&[totals(7, 1, 350), totals(8, 1, 40)], 5 * SECOND);
        assert_eq!((of(&submissions, 7, 1), of(&submissions, 8, 1)), (Some(0.0), Some(0.0)));
    }
}

//! What programs submitted, and how long what did not fault took.
//!
//! Faults' own latencies are with the others, by stage; the completions without a fault are what they compare with.

use std::collections::HashMap;

use crate::event::{Place, Seen, Stack, SubmittedTotals};
use crate::hist::{Latency, Summary};

/// Stacks, and places, that are kept; beyond it all are forgotten and come again with later faults.
const KEPT: usize = 16_384;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Submissions {
    totals: Vec<SubmittedTotals>,
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

fn insert_bounded<K: Eq + std::hash::Hash, V: Clone>(map: &mut HashMap<K, Box<V>>, key: K, value: &V) {
    if map.len() >= KEPT {
        map.clear();
    }
    map.insert(key, Box::new(value.clone()));
}

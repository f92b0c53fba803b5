//! The rows of open files, and where the latencies of each go: into histograms of its own, or into those that the rest shares.
//!
//! Bounded by [`Limits`]: a file that finds no room is counted in `other`; the latencies of files without histograms of their own
//! are kept together, and apart for [`REST`] WQs. Keys may come from a hostile capture: the hash has a random seed, and the
//! rows' limit bounds what collisions can cost.

use std::borrow::Cow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

use super::Limits;
use super::row::Process;
use crate::event::{Context, Fault, Key, WqId};
use crate::hist::StageHistograms;
use crate::stages::Durations;

/// WQs of which the rest's latencies are kept apart.
const REST: usize = 32;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    limits: Limits,
    rows: Vec<Process>,
    /// Where in `rows`.
    places: HashMap<Key, usize, foldhash::fast::RandomState>,
    other: Process,
    /// No row was closed when room was looked for last, and nobody has had one to close since: a storm of more files than rows must not
    /// look through all at each fault.
    all_open: bool,
    with_histograms: usize,
    /// Latencies of all, as of the last [`Self::gather`].
    gathered: StageHistograms,
    /// Faults have come since.
    behind: bool,
    /// Latencies of files without histograms of their own, of [`REST`] WQs and of all others.
    rest: BTreeMap<WqId, StageHistograms>,
    rest_elsewhere: StageHistograms,
}

impl Rows {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// All but `other`, in no order.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Process> {
        self.rows.iter()
    }

    pub(super) fn get(&self, key: Key) -> Option<&Process> {
        if key == Key::OTHER { Some(&self.other) } else { self.rows.get(*self.places.get(&key)?) }
    }

    pub(super) const fn other(&self) -> &Process {
        &self.other
    }

    /// Whether a file has a row, or would get one without any other giving way.
    pub(super) fn has_room(&self, key: Key) -> bool {
        key == Key::OTHER || self.rows.len() < self.limits.processes || self.places.contains_key(&key)
    }

    /// The row of an open file; makes room when there are too many, and is `other` when there is none to make.
    pub(super) fn row(&mut self, context: Context, now_ns: u64) -> &mut Process {
        match self.place(context, now_ns) {
            Some(at) => {
                self.all_open = false;
                &mut self.rows[at]
            }
            None => &mut self.other,
        }
    }

    fn place(&mut self, context: Context, now_ns: u64) -> Option<usize> {
        let key = context.key();
        if let Some(&at) = self.places.get(&key) {
            return Some(at);
        }
        if key == Key::OTHER || self.rows.len() >= self.limits.processes && !self.make_room() {
            return None;
        }
        let at = self.rows.len();
        self.places.insert(key, at);
        self.rows.push(Process::new(context, now_ns));
        Some(at)
    }

    /// Counts a fault; gives its row unless that is `other`.
    pub(super) fn fault(
        &mut self,
        fault: &Fault,
        durations: &Durations,
        now_ns: u64,
    ) -> Option<&mut Process> {
        self.behind = true;
        let Some(at) = self.place(fault.context, now_ns) else {
            self.other.add(fault);
            self.rest(fault.context.wq_id()).record(durations);
            return None;
        };
        self.rows[at].add(fault);
        self.measure(at, durations);
        Some(&mut self.rows[at])
    }

    /// Takes what became known of a fault after it was counted.
    pub(super) fn later(&mut self, context: Context, durations: &Durations, now_ns: u64) {
        self.behind = true;
        match self.place(context, now_ns) {
            Some(at) => self.measure(at, durations),
            None => self.rest(context.wq_id()).record(durations),
        }
    }

    fn measure(&mut self, at: usize, durations: &Durations) {
        let row = &mut self.rows[at];
        if row.latency.is_none() && self.with_histograms < self.limits.histograms {
            row.latency = Some(Box::default());
            self.with_histograms += 1;
        }
        match &mut row.latency {
            Some(latency) => latency.record(durations),
            None => {
                let wq = row.context.wq_id();
                self.rest(wq).record(durations);
            }
        }
    }

    /// The histograms that files of this WQ without any of their own share.
    fn rest(&mut self, wq: WqId) -> &mut StageHistograms {
        let room = self.rest.len() < REST;
        match self.rest.entry(wq) {
            Entry::Occupied(of_wq) => of_wq.into_mut(),
            Entry::Vacant(of_wq) if room => of_wq.insert(StageHistograms::default()),
            Entry::Vacant(_) => &mut self.rest_elsewhere,
        }
    }

    /// Latencies of all files without histograms of their own.
    pub(super) fn rest_latency(&self) -> StageHistograms {
        let mut sum = self.rest_elsewhere.clone();
        self.rest.values().for_each(|latency| sum.merge(latency));
        sum
    }

    /// Folds the closed file that has been silent longest into `other`. False when all are open.
    fn make_room(&mut self) -> bool {
        if self.all_open {
            return false;
        }
        let closed = (0..self.rows.len()).filter(|&at| self.rows[at].closed);
        let silent_since = |&at: &usize| self.rows[at].last_fault_ns.unwrap_or(self.rows[at].first_seen_ns);
        let Some(at) = closed.min_by_key(silent_since) else {
            self.all_open = true;
            return false;
        };
        let gone = self.rows.swap_remove(at);
        self.places.remove(&gone.key());
        if let Some(moved) = self.rows.get(at) {
            self.places.insert(moved.key(), at);
        }
        self.other.counts.merge(&gone.counts);
        self.other.interval_faults += gone.interval_faults;
        self.other.interval_failures += gone.interval_failures;
        if let Some(latency) = &gone.latency {
            self.with_histograms -= 1;
            self.rest(gone.context.wq_id()).merge(latency);
        }
        true
    }

    /// Latencies of one WQ: of its files that have histograms, and of the rest.
    pub(super) fn wq_latency(&self, wq: WqId) -> StageHistograms {
        let mut merged = self.rest.get(&wq).cloned().unwrap_or_default();
        let own = self.rows.iter().filter(|row| row.context.wq_id() == wq).filter_map(Process::latency);
        own.for_each(|latency| merged.merge(latency));
        merged
    }

    /// Latencies of all faults: each is recorded once, by file or with the rest, and the whole is their sum.
    pub(super) fn latency(&self) -> Cow<'_, StageHistograms> {
        if !self.behind {
            return Cow::Borrowed(&self.gathered);
        }
        let mut sum = self.sum();
        sum.refresh();
        Cow::Owned(sum)
    }

    fn sum(&self) -> StageHistograms {
        let mut sum = self.rest_latency();
        self.rows.iter().filter_map(Process::latency).for_each(|latency| sum.merge(latency));
        sum
    }

    /// Sums up the latencies of all faults.
    pub(super) fn gather(&mut self) -> &StageHistograms {
        if std::mem::take(&mut self.behind) {
            self.gathered.take_values(self.sum());
        }
        &self.gathered
    }

    /// Latencies of all faults as of the last [`Self::gather`]; their figures as of the last [`Self::refresh`].
    pub(super) const fn gathered(&self) -> &StageHistograms {
        &self.gathered
    }

    pub(super) fn refresh(&mut self) {
        self.gather();
        self.gathered.refresh();
        self.rows.iter_mut().filter_map(|row| row.latency.as_deref_mut()).for_each(StageHistograms::refresh);
    }

    pub(super) fn next_interval(&mut self) {
        for row in self.rows.iter_mut().chain([&mut self.other]) {
            (row.interval_faults, row.interval_failures) = (0, 0);
        }
    }
}

//! Which processes have series of their own: a bounded number, and what the others come to is counted as one.
//!
//! A free place goes to the process with most faults since the last look. It is kept until the process has been silent for
//! [`QUIET_NS`], so that series do not come and go with every change of rank. What a process comes to before it has a place stays with
//! the others, and what it came to while it had one leaves with it: no counter ever goes backwards, and nothing is counted twice.

use std::collections::{BTreeMap, HashMap};

use dsascope_core::event::{Comm, Key, WqId};
use dsascope_core::model::{Model, Process};

/// How long a process is silent before its place is given to another: longer than a scraper remembers what is gone.
pub const QUIET_NS: u64 = 600_000_000_000;

/// Whose series it is; the labels are made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub wq: WqId,
    /// `None`: nobody was seen to open the file.
    pub pid: Option<u32>,
    pub pasid: u32,
    pub comm: Comm,
}

/// Faults and failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub faults: u64,
    pub failed: u64,
}

impl Amount {
    fn of(row: &Process, before: Self) -> Self {
        Self::new(row.faults(), row.failures()).less(before)
    }

    pub(super) const fn new(faults: u64, failed: u64) -> Self {
        Self { faults, failed }
    }

    pub(super) const fn less(self, other: Self) -> Self {
        Self {
            faults: self.faults.saturating_sub(other.faults),
            failed: self.failed.saturating_sub(other.failed),
        }
    }

    const fn add(&mut self, other: Self) {
        self.faults += other.faults;
        self.failed += other.failed;
    }
}

#[derive(Clone, Copy, Debug)]
struct Place {
    amount: Amount,
    last_ns: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Admitted {
    most: usize,
    places: BTreeMap<Identity, Place>,
    /// What each open file had come to at the last look.
    seen: HashMap<Key, Amount>,
    /// What all that ever had a place came to while they had it.
    given: BTreeMap<WqId, Amount>,
}

impl Admitted {
    pub(super) fn new(most: usize) -> Self {
        Self { most, places: BTreeMap::new(), seen: HashMap::new(), given: BTreeMap::new() }
    }

    pub(super) fn look(&mut self, model: &Model) {
        let now_ns = model.now_ns();
        let mut seen = HashMap::with_capacity(self.seen.len());
        let mut grown = BTreeMap::<Identity, Amount>::new();
        for row in model.processes().filter(|row| !row.context.is_other()) {
            let key = row.key();
            let before = self.seen.get(&key).copied().unwrap_or_default();
            let more = Amount::of(row, before);
            let mut now = before;
            now.add(more);
            seen.insert(key, now);
            if more != Amount::default() {
                grown.entry(identity(row)).or_default().add(more);
            }
        }
        self.seen = seen;
        self.places
            .retain(|who, place| grown.contains_key(who) || now_ns.saturating_sub(place.last_ns) < QUIET_NS);
        self.fill(&grown, now_ns);
        for (who, more) in grown {
            if let Some(place) = self.places.get_mut(&who) {
                place.amount.add(more);
                place.last_ns = now_ns;
                self.given.entry(who.wq).or_default().add(more);
            }
        }
    }

    fn fill(&mut self, grown: &BTreeMap<Identity, Amount>, now_ns: u64) {
        let free = self.most.saturating_sub(self.places.len());
        let mut waiting: Vec<_> = grown.iter().filter(|(who, _)| !self.places.contains_key(who)).collect();
        waiting.sort_by_key(|(who, more)| (std::cmp::Reverse(more.faults), **who));
        for (who, _) in waiting.into_iter().take(free) {
            self.places.insert(*who, Place { amount: Amount::default(), last_ns: now_ns });
        }
    }

    /// Those with series of their own.
    pub(super) fn places(&self) -> impl Iterator<Item = (&Identity, Amount)> {
        self.places.iter().map(|(who, place)| (who, place.amount))
    }

    /// Of what a WQ came to in all: what is counted for no process by name.
    pub(super) fn others(&self, wq: WqId, total: Amount) -> Amount {
        total.less(self.given.get(&wq).copied().unwrap_or_default())
    }
}

fn identity(row: &Process) -> Identity {
    Identity {
        wq: row.context.wq_id(),
        pid: row.tgid,
        pasid: row.context.pasid,
        comm: row.comm.unwrap_or_default(),
    }
}

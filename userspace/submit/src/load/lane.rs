//! The lane of one thread on a real work queue: its slots, and what is drawn for each.
//!
//! Owns: what comes next by shares, timeouts, and what the driver's failure counter settles. Refuses: when; see [`super::drive`].

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use super::{
    drive::{Clock, Lane},
    tally::{Counts, End, Tally, Trouble, TroubleKind},
};
use crate::{Ask, Error, Faults, Habit, Kit, Mix, News, Pages, Random, Slot, sysfs::OpenFile};

/// Between two looks at the driver's counters.
const LOOK_NS: u64 = 1_000_000;

/// What is drawn from, by share.
#[derive(Clone, Debug)]
pub struct Shares {
    /// Of the kit's jobs.
    pub jobs: Vec<(usize, u16)>,
    pub records: Vec<(Habit, u16)>,
    pub source: Vec<(Pages, u16)>,
    pub destination: Vec<(Pages, u16)>,
    pub list: Vec<(Pages, u16)>,
}

/// Everything drawn anew for each descriptor.
#[derive(Clone, Debug)]
pub(super) struct Chooser {
    jobs: Mix<usize>,
    records: Mix<Habit>,
    source: Mix<Pages>,
    destination: Mix<Pages>,
    list: Mix<Pages>,
}

impl Chooser {
    pub(super) fn new(shares: &Shares, random: &Random) -> Result<Self, Error> {
        let empty = || Error::Invalid { operation: "mixing", problem: "all shares are zero".into() };
        Ok(Self {
            jobs: Mix::new(&shares.jobs, random.part(1)).ok_or_else(empty)?,
            records: Mix::new(&shares.records, random.part(2)).ok_or_else(empty)?,
            source: Mix::new(&shares.source, random.part(3)).ok_or_else(empty)?,
            destination: Mix::new(&shares.destination, random.part(4)).ok_or_else(empty)?,
            list: Mix::new(&shares.list, random.part(5)).ok_or_else(empty)?,
        })
    }

    fn ask(&mut self, number: u64) -> Ask {
        Ask {
            number,
            job: self.jobs.draw(),
            habit: self.records.draw(),
            source: self.source.draw(),
            destination: self.destination.draw(),
            list: self.list.draw(),
            record: None,
        }
    }
}

/// Records that cannot come have ended when the driver has counted as many failures as all threads together must have made.
#[derive(Debug)]
pub(super) struct Settlement<'a> {
    file: Option<&'a OpenFile>,
    failing: AtomicU64,
    failed: AtomicU64,
    looked_ns: AtomicU64,
    progress_ns: AtomicU64,
}

impl<'a> Settlement<'a> {
    pub(super) const fn new(file: Option<&'a OpenFile>) -> Self {
        Self {
            file,
            failing: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            looked_ns: AtomicU64::new(0),
            progress_ns: AtomicU64::new(0),
        }
    }

    /// Before they are submitted.
    fn expect(&self, faults: Faults) {
        self.failing.fetch_add(faults.failed, Ordering::SeqCst);
    }

    fn is_settled(&self, now_ns: u64) -> Result<bool, Error> {
        let failing = self.failing.load(Ordering::SeqCst);
        if self.failed.load(Ordering::SeqCst) >= failing {
            return Ok(true);
        }
        let looked_ns = self.looked_ns.load(Ordering::Relaxed);
        let due = now_ns.saturating_sub(looked_ns) >= LOOK_NS;
        let Some(file) = self.file.filter(|_| due) else { return Ok(false) };
        let taken = self.looked_ns.compare_exchange(looked_ns, now_ns, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_err() {
            return Ok(false);
        }
        let failed = file.failures()?;
        if self.failed.fetch_max(failed, Ordering::SeqCst) < failed {
            self.progress_ns.store(now_ns, Ordering::Relaxed);
        }
        Ok(failed >= failing)
    }
}

/// What one descriptor may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub timeout_ns: u64,
    pub resumes: u32,
}

pub(super) struct QueueLane<'a> {
    pub(super) kit: Kit<'a>,
    pub(super) thread: u16,
    pub(super) chooser: Chooser,
    pub(super) limits: Limits,
    pub(super) settlement: &'a Settlement<'a>,
    pub(super) tally: &'a Mutex<Tally>,
    /// By job: its operation in words, and the place that its latencies are added up at.
    pub(super) names: &'a [(String, usize)],
    pub(super) places: Vec<Place>,
    pub(super) number: u64,
}

/// A slot and what is known of what is in it.
pub(super) struct Place {
    slot: Slot,
    intended_ns: u64,
    prepared_ns: u64,
    first_fault_ns: Option<u64>,
    /// What is in it may still end, some time: nothing else comes here.
    lost: bool,
}

impl From<Slot> for Place {
    fn from(slot: Slot) -> Self {
        Self { slot, intended_ns: 0, prepared_ns: 0, first_fault_ns: None, lost: false }
    }
}

impl Place {
    const fn is_busy(&self) -> bool {
        !self.lost && !self.slot.is_free()
    }
}

impl QueueLane<'_> {
    fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner).counts);
    }

    /// What a place has to tell: an end, or nothing yet.
    fn look_at(&self, place: &mut Place, clock: &impl Clock) -> Result<Option<End>, Error> {
        let Self { kit, limits, .. } = self;
        if place.slot.is_unsent() && !place.slot.send(kit.queue, || clock.now_ns())? {
            let since_ns = place.slot.times().map_or(place.prepared_ns, |times| times.last_sent_ns);
            let late = clock.now_ns().saturating_sub(since_ns) > limits.timeout_ns;
            return Ok(late.then(|| self.lose(place, clock, TroubleKind::NotAccepted)));
        }
        let settled = self.settlement.is_settled(clock.now_ns())?;
        let resumes = place.slot.times().map_or(0, |times| times.resumes);
        let Some(news) = place.slot.look(kit, settled, resumes < limits.resumes)? else {
            let sent_ns = place.slot.times().map_or(place.prepared_ns, |times| times.last_sent_ns);
            let since_ns = match place.slot.ask() {
                Some(ask) if ask.habit.fails() => {
                    sent_ns.max(self.settlement.progress_ns.load(Ordering::Relaxed))
                }
                _ => sent_ns,
            };
            let late = clock.now_ns().saturating_sub(since_ns) > limits.timeout_ns;
            return Ok(late.then(|| self.lose(place, clock, TroubleKind::TimedOut)));
        };
        let now_ns = clock.now_ns();
        if news.again.is_some() || news.left_partial {
            place.first_fault_ns.get_or_insert(now_ns);
        }
        self.count(|counts| counts.saw(news.seen));
        if !news.ended {
            let faults = news.again.unwrap_or_default();
            self.settlement.expect(faults);
            self.count(|counts| {
                counts.submissions += 1;
                counts.resumed += 1;
                counts.faults += faults.total();
            });
            place.slot.send(kit.queue, || clock.now_ns())?;
            return Ok(None);
        }
        let end = self.end(place, now_ns, news);
        place.slot.clear();
        Ok(Some(end))
    }

    fn end(&self, place: &Place, now_ns: u64, news: News) -> End {
        let ask = place.slot.ask();
        let times = place.slot.times();
        let straddles = ask.is_some_and(|ask| ask.habit == Habit::Straddling);
        let trouble = match &news.wrong {
            Some(what) => Some((TroubleKind::Mismatch, what.clone())),
            None if news.left_partial => {
                Some((TroubleKind::Partial, "a page was missing, and the rest was not done".into()))
            }
            None => None,
        };
        End {
            job: self.group(place),
            intended_ns: place.intended_ns,
            measured: true,
            sent_ns: times.map(|times| times.first_sent_ns),
            first_fault_ns: place.first_fault_ns,
            ended_ns: now_ns,
            resumes: times.map_or(0, |times| times.resumes),
            unseen: news.status.is_none(),
            refused: straddles && news.drained,
            left_partial: news.left_partial,
            hardware_error: news.hardware_error,
            misreported: news.misreported,
            trouble: trouble.map(|(kind, what)| self.trouble(place, kind, what)),
        }
    }

    fn lose(&self, place: &mut Place, clock: &impl Clock, kind: TroubleKind) -> End {
        place.lost = true;
        let waited_ms = self.limits.timeout_ns / 1_000_000;
        let what = match kind {
            TroubleKind::NotAccepted => format!("the work queue was full for {waited_ms} ms"),
            _ if place.slot.ask().is_some_and(|ask| ask.habit.fails()) => {
                format!("the driver did not count its record's failure within {waited_ms} ms")
            }
            _ => format!("its completion record did not come within {waited_ms} ms"),
        };
        End {
            job: self.group(place),
            intended_ns: place.intended_ns,
            sent_ns: place.slot.times().map(|times| times.first_sent_ns),
            ended_ns: clock.now_ns(),
            trouble: Some(self.trouble(place, kind, what)),
            ..End::default()
        }
    }

    fn group(&self, place: &Place) -> usize {
        place.slot.ask().and_then(|ask| self.names.get(ask.job)).map_or(0, |(_, group)| *group)
    }

    fn trouble(&self, place: &Place, kind: TroubleKind, what: String) -> Trouble {
        let ask = place.slot.ask();
        let name = ask.and_then(|ask| self.names.get(ask.job)).map(|(name, _)| name.clone());
        Trouble {
            kind,
            thread: self.thread,
            number: ask.map_or(0, |ask| ask.number),
            operation: name.unwrap_or_default(),
            record_address: place.slot.awaited().map_or(0, |record| record.address()),
            what,
        }
    }
}

impl Lane for QueueLane<'_> {
    fn outstanding(&self) -> usize {
        self.places.iter().filter(|place| place.is_busy()).count()
    }

    fn room(&self) -> usize {
        self.places.iter().filter(|place| !place.lost).count()
    }

    fn start(&mut self, intended_ns: u64, clock: &impl Clock) -> Result<(), Error> {
        let free = self.places.iter().position(|place| !place.lost && place.slot.is_free());
        let Some(index) = free else {
            return Err(Error::Invalid { operation: "submitting", problem: "no slot is free".into() });
        };
        let ask = self.chooser.ask(self.number);
        self.number += 1;
        let place = &mut self.places[index];
        let sent = place.slot.prepare(&self.kit, &ask)?;
        place.intended_ns = intended_ns;
        place.prepared_ns = clock.now_ns();
        place.first_fault_ns = None;
        self.settlement.expect(sent.faults);
        self.count(|counts| {
            counts.started += 1;
            counts.submissions += sent.works;
            counts.faults += sent.faults.total();
            counts.perhaps_faults += sent.drains_absent;
        });
        self.places[index].slot.send(self.kit.queue, || clock.now_ns())?;
        Ok(())
    }

    fn look(&mut self, clock: &impl Clock, ended: &mut dyn FnMut(End)) -> Result<(), Error> {
        let mut places = std::mem::take(&mut self.places);
        let looked = places.iter_mut().filter(|place| place.is_busy()).try_for_each(|place| {
            if let Some(end) = self.look_at(place, clock)? {
                ended(end);
            }
            Ok(())
        });
        self.places = places;
        looked
    }
}

//! What a process will do, exactly: which descriptor has its completion record where, how a batch will go, and how many faults follow.
//!
//! Owns: the order of habits, and the device's and driver's rules as far as they decide about faults (idxd-facts sections 1.11 and 2.5).
//! Refuses: guessing what a process with faults pending at its exit leaves behind, or one whose device fails.

use std::ops::AddAssign;

use dsascope_common::hw::completion::status;
use dsascope_submit::Access;

use super::{Batch, Case, Exit, Expect, Inject, Operation, Pages, Process, Scenario, Shares, WorkQueue};

/// Where a completion record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Resident,
    Absent,
    ReadOnly,
    Unmapped,
    /// In two pages: the device refuses the descriptor and writes no record.
    Straddling,
}

impl Habit {
    pub const ALL: [Self; 5] =
        [Self::Resident, Self::Absent, Self::ReadOnly, Self::Unmapped, Self::Straddling];

    /// Whether the driver's copy cannot succeed.
    #[must_use]
    pub const fn fails(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Unmapped)
    }

    /// Whether the record comes in the end.
    #[must_use]
    pub const fn is_seen(self) -> bool {
        matches!(self, Self::Resident | Self::Absent)
    }

    /// Whether the device cannot write the record: an absent page it asks for, if it may.
    const fn faults(self, wq: &WorkQueue) -> bool {
        self.fails() || matches!(self, Self::Absent) && !wq.page_requests
    }
}

impl Shares {
    #[must_use]
    pub const fn of(&self, habit: Habit) -> u16 {
        match habit {
            Habit::Resident => self.resident,
            Habit::Absent => self.absent,
            Habit::ReadOnly => self.read_only,
            Habit::Unmapped => self.unmapped,
            Habit::Straddling => self.straddling,
        }
    }

    #[must_use]
    pub fn sum(&self) -> u32 {
        Habit::ALL.iter().map(|&habit| u32::from(self.of(habit))).sum()
    }

    #[must_use]
    pub fn has(&self, which: impl Fn(Habit) -> bool) -> bool {
        Habit::ALL.into_iter().any(|habit| which(habit) && self.of(habit) > 0)
    }

    /// One cycle of habits, each as evenly spread as its share allows; repeated for as long as the process submits.
    #[must_use]
    pub fn cycle(&self) -> Vec<Habit> {
        let sum = i64::from(self.sum());
        let mut credit = [0i64; Habit::ALL.len()];
        let mut cycle = Vec::new();
        for _ in 0..sum {
            for (credit, habit) in credit.iter_mut().zip(Habit::ALL) {
                *credit += i64::from(self.of(habit));
            }
            // The first of the largest: `max_by_key` would take the last.
            let next = (0..credit.len()).rev().max_by_key(|&index| credit[index]).unwrap_or_default();
            credit[next] -= sum;
            cycle.push(Habit::ALL[next]);
        }
        cycle
    }
}

/// Completion-record faults by what becomes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub delivered: u64,
    pub failed: u64,
    /// The driver counts them and copies nothing, since nobody asked for the record.
    pub uncopied: u64,
}

impl Faults {
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.delivered + self.failed + self.uncopied
    }

    /// As a scenario's expectation.
    #[must_use]
    pub const fn expect(&self) -> Expect {
        Expect { faults: Some(self.total()), delivered: Some(self.delivered), failed: Some(self.failed) }
    }

    fn count(&mut self, habit: Habit) {
        if habit.fails() {
            self.failed += 1;
        } else {
            self.delivered += 1;
        }
    }

    /// Of a descriptor that is no batch and no drain, each time that it is submitted.
    #[must_use]
    pub fn of(habit: Habit, wq: &WorkQueue) -> Self {
        let mut faults = Self::default();
        if habit.faults(wq) {
            faults.count(habit);
        }
        faults
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.uncopied += other.uncopied;
    }
}

/// How one submission of a batch goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    pub faults: Faults,
    /// Indices of elements whose record comes, and whether the element succeeds.
    pub records: Vec<(u16, bool)>,
    /// Indices of elements that are not started.
    pub not_started: Vec<u16>,
    /// The batch's own record as its submitter reads it; `None`: it does not come.
    pub record: Option<BatchRecord>,
    /// The copy of an element's record fails, which the driver notes by the batch's identifier.
    pub noted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRecord {
    pub status: u8,
    pub result: u8,
    pub completed: u32,
}

impl Batch {
    #[must_use]
    pub fn habits(&self) -> Vec<Habit> {
        self.records.cycle().into_iter().cycle().take(self.descriptors.into()).collect()
    }

    /// The first submission, with the batch's own record like `own`.
    #[must_use]
    pub fn play(&self, own: Habit, wq: &WorkQueue) -> Played {
        self.run(0, self.list_absent_from.filter(|_| !wq.block_on_fault), own, wq)
    }

    /// The second, of the elements from `from` on: all of the list is there.
    #[must_use]
    pub fn play_rest(&self, from: u16, own: Habit, wq: &WorkQueue) -> Played {
        self.run(from, None, own, wq)
    }

    fn run(&self, from: u16, list_ends: Option<u16>, own: Habit, wq: &WorkQueue) -> Played {
        let mut played = Played {
            faults: Faults::default(),
            records: Vec::new(),
            not_started: Vec::new(),
            record: None,
            noted: false,
        };
        let (mut good, mut logged, mut end) = (true, false, None);
        for (index, habit) in (0..self.descriptors).zip(self.habits()).skip(from.into()) {
            if end.is_none() {
                end = match () {
                    () if list_ends == Some(index) => Some((status::BATCH_PAGE_FAULT, index)),
                    () if self.fence == Some(index) && (!good || logged) => Some((status::BATCH_FAIL, index)),
                    () => None,
                };
            }
            if end.is_some() {
                played.not_started.push(index);
                continue;
            }
            let succeeds = self.failing != Some(index);
            good &= succeeds;
            if habit.faults(wq) {
                logged = true;
                played.noted |= habit.fails();
                played.faults.count(habit);
            }
            if habit.is_seen() {
                played.records.push((index, succeeds));
            }
        }
        let whole = (if good { status::SUCCESS } else { status::BATCH_FAIL }, self.descriptors);
        let (device, completed) = end.unwrap_or(whole);
        let failed = !good || device == status::BATCH_FAIL || played.noted;
        // The driver's patch.
        let read = if device == status::SUCCESS && failed { status::BATCH_FAIL } else { device };
        let asked = self.record_requested || device != status::SUCCESS;
        // Behind elements in the log the driver writes the record: when it was requested, or tells of a failed copy.
        let comes = if logged { self.record_requested || played.noted } else { asked };
        if logged && !comes {
            played.faults.uncopied += 1;
        } else if comes && (logged || own.faults(wq)) {
            played.faults.count(own);
        }
        if comes && own.is_seen() {
            let completed = u32::from(completed - from);
            played.record = Some(BatchRecord { status: read, result: u8::from(failed), completed });
        }
        played
    }

    /// All its submissions.
    fn faults(&self, own: Habit, wq: &WorkQueue) -> Faults {
        let first = self.play(own, wq);
        let mut faults = first.faults;
        if let (Some(BatchRecord { status: status::BATCH_PAGE_FAULT, .. }), Some(from)) =
            (first.record, self.list_absent_from)
        {
            faults += self.play_rest(from, own, wq).faults;
        }
        faults
    }
}

impl Process {
    /// What it submits, one case a transfer size, taken in turn.
    #[must_use]
    pub fn cases(&self) -> Vec<Case> {
        let operation = self.batch.as_ref().map_or(self.operation, |batch| batch.operation);
        match self.bytes.as_slice() {
            [] => vec![Case::new(operation, 0)],
            sizes => sizes.iter().map(|&bytes| Case::new(operation, bytes)).collect(),
        }
    }

    /// Partial completions of a case whose record is seen; `None` where that depends on the device.
    fn partial(&self, case: &Case, wq: &WorkQueue) -> Option<u64> {
        let pages = |pages: Pages, access| match pages {
            Pages::Absent if !wq.block_on_fault => case.pages(access),
            Pages::Absent | Pages::Resident => Some(0),
        };
        Some(pages(self.source, Access::Read)? + pages(self.destination, Access::Write)?)
    }

    /// The faults of everything it submits, over all times that it opens the WQ, drains aside, whose records may go either way; `None`
    /// where they depend on the device.
    #[must_use]
    pub fn plan(&self, wq: &WorkQueue) -> Option<Faults> {
        let cycle = self.completion_records.cycle();
        let resumes = self.source == Pages::Absent || self.destination == Pages::Absent;
        let partial = if resumes && self.completion_records.has(|habit| habit.is_seen() && habit.faults(wq)) {
            self.cases().iter().map(|case| self.partial(case, wq)).collect::<Option<Vec<_>>>()?
        } else {
            vec![0]
        };
        let of_batch = |habit| self.batch.as_ref().map(|batch| batch.faults(habit, wq));
        let batch: Vec<_> = Habit::ALL.map(of_batch).into();
        let mut all = Faults::default();
        for number in 0..self.count as usize {
            let habit = cycle[number % cycle.len()];
            match (self.operation, batch[habit as usize]) {
                (Operation::Drain, _) => {}
                (_, Some(faults)) => all += faults,
                (_, None) => {
                    let resumed = if habit.is_seen() { partial[number % partial.len()] } else { 0 };
                    (0..=resumed).for_each(|_| all += Faults::of(habit, wq));
                }
            }
        }
        let times = u64::from(self.repeat);
        Some(Faults {
            delivered: all.delivered * times,
            failed: all.failed * times,
            uncopied: all.uncopied * times,
        })
    }
}

impl Scenario {
    /// What must follow for a process; `None` when it exits with faults pending or the device fails, as then it depends on time.
    #[must_use]
    pub fn certain(&self, process: &Process) -> Option<Expect> {
        let device = self.device(&process.device)?;
        let fails = |inject: &Inject| matches!(inject, Inject::HardwareErrors { .. } | Inject::Halt { .. });
        let resumes = process.source == Pages::Absent || process.destination == Pages::Absent;
        let disturbed = device.injections.iter().any(fails) && (resumes || process.batch.is_some());
        let clean = process.exit == Exit::Clean && !disturbed;
        clean.then(|| process.plan(self.work_queue_of(process)?).map(|faults| faults.expect())).flatten()
    }

    /// About how many faults there will be.
    #[must_use]
    pub fn faults(&self) -> u64 {
        let of = |process: &Process| Some(process.plan(self.work_queue_of(process)?)?.total());
        self.processes.iter().filter_map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        toml::from_str("name = 'p'\ndevice = 'dsa0'\nwork_queue = 0\noperation = 'noop'\ncount = 1").unwrap()
    }

    fn wq(more: &str) -> WorkQueue {
        toml::from_str(&format!("id = 0\nmode = 'dedicated'\nsize = 16\n{more}")).unwrap()
    }

    fn batch(text: &str) -> Batch {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn habits_are_spread_evenly_and_keep_their_shares() {
        let shares = Shares { resident: 1, absent: 2, unmapped: 1, ..Shares::NONE };
        use Habit::{Absent, Resident, Unmapped};
        assert_eq!(shares.cycle(), [Absent, Resident, Unmapped, Absent]);
    }

    #[test]
    fn plan_counts_what_the_cycle_yields() {
        let shares = Shares { resident: 3, absent: 5, read_only: 2, unmapped: 1, straddling: 1 };
        let cycle = shares.cycle();
        for count in 0..40u32 {
            let process = Process { count, repeat: 3, completion_records: shares, ..process() };
            let times = |which: fn(Habit) -> bool| {
                3 * cycle.iter().cycle().take(count as usize).filter(|habit| which(**habit)).count() as u64
            };
            let faults =
                Faults { delivered: times(|h| h == Habit::Absent), failed: times(Habit::fails), uncopied: 0 };
            assert_eq!(process.plan(&wq("")), Some(faults), "count {count}");
        }
    }

    #[test]
    fn each_absent_page_is_one_more_submission_unless_the_device_asks() {
        let process = Process {
            operation: Operation::Memmove,
            bytes: vec![4096, 8192],
            count: 4,
            source: Pages::Absent,
            destination: Pages::Absent,
            ..process()
        };
        assert_eq!(process.plan(&wq("")).unwrap().delivered, 2 * (1 + 2) + 2 * (1 + 4));
        let asks = wq("page_requests = true\nblock_on_fault = true");
        assert_eq!(process.plan(&asks).unwrap().total(), 0);
        let failing = Shares { read_only: 1, ..Shares::NONE };
        let process = Process { completion_records: failing, ..process };
        assert_eq!(process.plan(&wq("")).unwrap().expect().failed, Some(4), "not resumed");
        assert_eq!(process.plan(&asks).unwrap().failed, 4, "the page is refused");
    }

    #[test]
    fn nothing_is_certain_when_faults_are_pending_at_exit() {
        let scenario = |process: Process| {
            let device = toml::from_str(
                "name = 'dsa0'\nkind = 'dsa'\nwork_queue = [{ id = 0, mode = 'dedicated', size = 16 }]",
            );
            Scenario {
                name: "s".into(),
                description: String::new(),
                timeout_s: 1,
                tracer: super::super::Tracer::default(),
                devices: vec![device.unwrap()],
                processes: vec![process],
                expect: std::collections::BTreeMap::new(),
            }
        };
        let pending = scenario(Process { exit: Exit::Pending, ..process() });
        assert_eq!(pending.certain(&pending.processes[0]), None);
        let clean = scenario(Process { count: 10, ..process() });
        let expect = Expect { faults: Some(10), delivered: Some(10), failed: Some(0) };
        assert_eq!(clean.certain(&clean.processes[0]), Some(expect));
    }

    #[test]
    fn a_batch_is_told_by_the_driver_once_an_element_is_in_the_log() {
        let plain = batch("descriptors = 4");
        let record = |status, result, completed| Some(BatchRecord { status, result, completed });
        let played = plain.play(Habit::Resident, &wq(""));
        assert_eq!((played.faults.total(), played.record), (0, record(1, 0, 4)));
        assert_eq!(plain.play(Habit::Absent, &wq("")).faults.delivered, 1);
        let delivered = batch("descriptors = 4\nrecords = { absent = 1, resident = 1 }");
        let played = delivered.play(Habit::Resident, &wq(""));
        assert_eq!((played.faults.delivered, played.record), (3, record(1, 0, 4)));
        let lost = batch("descriptors = 4\nrecords = { absent = 1, unmapped = 1 }");
        let played = lost.play(Habit::Resident, &wq(""));
        assert_eq!((played.faults.delivered, played.faults.failed), (3, 2));
        assert_eq!((played.record, played.records.len()), (record(5, 1, 4), 2));
        let unread = lost.play(Habit::ReadOnly, &wq(""));
        assert_eq!((unread.faults.failed, unread.record), (3, None));
    }

    #[test]
    fn a_fence_stops_behind_a_fault_and_a_failure() {
        let fence = batch("descriptors = 6\nfence = 3\nrecords = { absent = 1, resident = 2 }");
        let played = fence.play(Habit::Resident, &wq(""));
        let stopped = Some(BatchRecord { status: 5, result: 1, completed: 3 });
        assert_eq!((played.record, played.not_started), (stopped, vec![3, 4, 5]));
        let failing = batch("descriptors = 6\nfence = 3\nfailing = 1");
        let played = failing.play(Habit::Resident, &wq(""));
        assert_eq!((played.record, played.records), (stopped, vec![(0, true), (1, false), (2, true)]));
        let nothing = batch("descriptors = 6\nfence = 3").play(Habit::Resident, &wq(""));
        assert_eq!(nothing.record, Some(BatchRecord { status: 1, result: 0, completed: 6 }));
    }

    #[test]
    fn a_list_that_is_not_there_divides_a_batch() {
        let divided = batch("descriptors = 6\nlist_absent_from = 2\nrecords = { absent = 1 }");
        let first = divided.play(Habit::Absent, &wq(""));
        assert_eq!(first.record, Some(BatchRecord { status: 6, result: 0, completed: 2 }));
        let all = batch("descriptors = 4\nlist_absent_from = 0");
        assert_eq!(all.play(Habit::Resident, &wq("")).record.map(|r| (r.status, r.completed)), Some((6, 0)));
        let whole = all.play_rest(0, Habit::Resident, &wq(""));
        assert_eq!(whole.record.map(|r| (r.status, r.completed)), Some((1, 4)));
        let rest = divided.play_rest(2, Habit::Absent, &wq(""));
        assert_eq!(rest.record, Some(BatchRecord { status: 1, result: 0, completed: 4 }));
        assert_eq!(divided.faults(Habit::Absent, &wq("")).delivered, 6 + 2);
    }

    #[test]
    fn without_a_request_the_driver_copies_what_it_patched_alone() {
        let silent = batch("descriptors = 2\nrecord_requested = false\nrecords = { absent = 1 }");
        let played = silent.play(Habit::Resident, &wq(""));
        assert_eq!((played.faults.delivered, played.faults.uncopied, played.record), (2, 1, None));
        let noted = batch("descriptors = 2\nrecord_requested = false\nrecords = { unmapped = 1 }");
        let played = noted.play(Habit::Resident, &wq(""));
        assert_eq!((played.faults.delivered, played.faults.failed, played.faults.uncopied), (1, 2, 0));
        let quiet = batch("descriptors = 2\nrecord_requested = false").play(Habit::Absent, &wq(""));
        assert_eq!((quiet.faults.total(), quiet.record), (0, None));
    }
}

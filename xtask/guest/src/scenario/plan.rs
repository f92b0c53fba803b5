//! What a process will do, exactly: which descriptor has its completion record where, how a batch will go, and how many faults follow.
//!
//! Owns: the order of habits, and the sum of what [`dsascope_submit`] knows of each submission.
//! Refuses: guessing what a process with faults pending at its exit leaves behind, or one whose device fails.

use std::sync::Arc;

use dsascope_common::hw::completion::status;
use dsascope_submit::{
    Access, BatchPlan, BatchRecord, Element, Faults, Habit, Job, Pages, Paging, Play, spread,
};

use super::{Batch, Case, Exit, Expect, Inject, Operation, Process, Scenario, Shares, WorkQueue};

impl WorkQueue {
    #[must_use]
    pub const fn paging(&self) -> Paging {
        Paging { page_requests: self.page_requests, block_on_fault: self.block_on_fault }
    }
}

impl From<Faults> for Expect {
    fn from(faults: Faults) -> Self {
        Self {
            faults: Some(faults.total()),
            delivered: Some(faults.delivered),
            failed: Some(faults.failed),
            retried: None,
        }
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
        spread(&Habit::ALL.map(|habit| (habit, self.of(habit))))
    }
}

impl Batch {
    /// As it is laid out: the habits of records in turn.
    #[must_use]
    pub fn plan(&self) -> BatchPlan {
        let habits = self.records.cycle().into_iter().cycle();
        let element = |(index, habit)| Element {
            habit,
            fence: self.fence == Some(index),
            failing: self.failing == Some(index),
        };
        BatchPlan {
            elements: (0..self.descriptors).zip(habits).map(element).collect(),
            list_border: self.list_absent_from,
            record_requested: self.record_requested,
        }
    }

    /// All its submissions, with the batch's own record like `own`.
    fn faults(&self, own: Habit, paging: Paging) -> Faults {
        let plan = self.plan();
        let play = |from, list_absent_from| {
            plan.play(Play { from, list_absent_from, own, paging, operands_absent: &[] })
        };
        let first = play(0, plan.list_border);
        let mut faults = first.faults;
        if let (Some(BatchRecord { status: status::BATCH_PAGE_FAULT, .. }), Some(from)) =
            (first.record, self.list_absent_from)
        {
            // A scenario's lists have one page behind the border.
            faults += play(from, None).faults;
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

    /// The same, as slots take them. A batch's elements share memory.
    #[must_use]
    pub fn jobs(&self) -> Vec<Job> {
        let batch = self.batch.as_ref().map(Batch::plan);
        let job = |case| Job { cases: vec![Arc::new(case)], batch: batch.clone() };
        self.cases().into_iter().map(job).collect()
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
        let partial =
            if resumes && self.completion_records.has(|habit| habit.is_seen() && habit.faults(wq.paging())) {
                self.cases().iter().map(|case| self.partial(case, wq)).collect::<Option<Vec<_>>>()?
            } else {
                vec![0]
            };
        let of_batch = |habit| self.batch.as_ref().map(|batch| batch.faults(habit, wq.paging()));
        let batch: Vec<_> = Habit::ALL.map(of_batch).into();
        let mut all = Faults::default();
        for number in 0..self.count as usize {
            let habit = cycle[number % cycle.len()];
            match (self.operation, batch[habit as usize]) {
                (Operation::Drain, _) => {}
                (_, Some(faults)) => all += faults,
                (_, None) => {
                    let resumed = if habit.is_seen() { partial[number % partial.len()] } else { 0 };
                    (0..=resumed).for_each(|_| all += Faults::of(habit, wq.paging()));
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
        let planned = || process.plan(self.work_queue_of(process)?).map(Expect::from);
        let planned = clean.then(planned).flatten()?;
        // All of its records are in absent pages, and nobody hears of the later ones.
        let delivered = process.close_first_after.map_or(planned.delivered, |after| Some(after.into()));
        Some(Expect { delivered, ..planned })
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
        assert_eq!(process.plan(&wq("")).unwrap().failed, 4, "not resumed");
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
                findings: None,
            }
        };
        let pending = scenario(Process { exit: Exit::Pending, ..process() });
        assert_eq!(pending.certain(&pending.processes[0]), None);
        let clean = scenario(Process { count: 10, ..process() });
        let expect = Expect { faults: Some(10), delivered: Some(10), failed: Some(0), retried: None };
        assert_eq!(clean.certain(&clean.processes[0]), Some(expect));
    }

    #[test]
    fn a_list_that_is_not_there_makes_two_submissions() {
        let divided = batch("descriptors = 6\nlist_absent_from = 2\nrecords = { absent = 1 }");
        assert_eq!(divided.faults(Habit::Absent, Paging::default()).delivered, 6 + 2);
        let habits: Vec<_> = batch("descriptors = 3\nfence = 1\nrecords = { absent = 1, resident = 1 }")
            .plan()
            .elements
            .iter()
            .map(|element| (element.habit, element.fence))
            .collect();
        assert_eq!(habits, [(Habit::Resident, false), (Habit::Absent, true), (Habit::Resident, false)]);
    }
}

//! Submits a round's descriptors from its threads, keeps to the depth, and sees each to its end.
//!
//! Owns: who is outstanding. A record in a resident or absent page is seen; one that cannot be delivered ends when the driver's
//! failure counter says so. Refuses: spinning.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use dsascope_guest::{
    report::ProcessReport,
    scenario::{Exit, Process, plan::Habit},
};
use dsascope_submit::{Operation, Presence, Record, Work, WorkQueue};

use super::{
    Order,
    buffers::{Buffers, presence},
    files::OpenFile,
    lock,
};

/// Between two looks at the driver's counters.
const LOOK_AT_COUNTERS: Duration = Duration::from_millis(1);
/// Between two looks at the wish to stop.
const LOOK_AT_STOP: Duration = Duration::from_millis(100);
/// Without any progress, what is outstanding is overdue.
const PATIENCE: Duration = Duration::from_secs(15);

/// Set when a process that goes on for ever is to come to its end.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// Shared by a round's threads.
#[derive(Debug, Default)]
struct Books {
    report: ProcessReport,
    /// Outstanding with a record that will be seen.
    visible: u64,
    /// Submitted with a record that cannot be delivered, and how many of these the driver has finished.
    failing: u64,
    failed: u64,
    looked_at_counters: Option<Instant>,
}

pub(crate) struct Round<'a> {
    queue: &'a WorkQueue,
    file: &'a OpenFile,
    process: &'a Process,
    forever: bool,
    /// Between two looks at the records.
    poll: Duration,
    cycle: Vec<Habit>,
    workers: Vec<Mutex<Worker>>,
    books: Mutex<Books>,
}

/// A thread's memory: a slot for each descriptor that may be outstanding, and one whose end is not seen.
#[derive(Debug)]
struct Worker {
    slots: Vec<Slot>,
    unseen: Buffers,
    read_only: Vec<Record>,
    unmapped: Vec<Record>,
}

#[derive(Debug)]
struct Slot {
    buffers: Buffers,
    resident: Option<Record>,
    absent: Option<Record>,
    outstanding: Option<Outstanding>,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    number: u64,
    habit: Habit,
    record: Record,
    submitted: Instant,
}

/// What a process that exits with faults pending submits last.
pub(crate) struct Burst<'a> {
    queue: &'a WorkQueue,
    works: Vec<Work>,
}

impl Burst<'_> {
    pub(crate) fn submit_and_exit(self) -> ! {
        for work in &self.works {
            if let Err(error) = self.queue.submit(work) {
                eprintln!("submitting the last descriptors: {error}");
            }
        }
        // SAFETY: ends the process without unwinding or unmapping, which is what is asked for.
        unsafe { libc::_exit(0) }
    }
}

impl<'a> Round<'a> {
    pub(crate) fn prepare(
        queue: &'a WorkQueue,
        file: &'a OpenFile,
        order: &'a Order,
    ) -> anyhow::Result<Self> {
        let process = &order.process;
        let workers = (0..process.threads)
            .map(|_| Worker::new(queue, process).map(Mutex::new))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            queue,
            file,
            process,
            forever: order.forever,
            poll: Duration::from_micros(process.poll_us.into()),
            cycle: process.completion_records.cycle(),
            workers,
            books: Mutex::default(),
        })
    }

    /// Submits everything but a pending exit's last burst, and waits for the end of each.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let count = u64::from(self.process.count)
            - if self.process.exit == Exit::Pending { u64::from(self.process.outstanding) } else { 0 };
        let threads = self.workers.len() as u64;
        thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|t| {
                    scope.spawn(move || self.work(t as usize, count * t / threads, count * (t + 1) / threads))
                })
                .collect();
            running
                .into_iter()
                .try_for_each(|r| r.join().map_err(|_| anyhow!("a submitting thread panicked"))?)
        })?;
        self.wait_for_failures()
    }

    fn work(&self, thread: usize, from: u64, to: u64) -> anyhow::Result<()> {
        let mut worker = lock(&self.workers[thread]);
        let begin = Instant::now();
        let mut progress = Instant::now();
        for number in from.. {
            if self.forever && STOP.load(Ordering::Relaxed) || number >= to && !self.forever {
                break;
            }
            let due = self.process.rate_per_s.map_or(begin, |rate| {
                let seconds = (number - from) as f64 * self.workers.len() as f64 / f64::from(rate);
                begin + Duration::from_secs_f64(seconds)
            });
            let habit = self.cycle[number as usize % self.cycle.len()];
            loop {
                if self.look(&mut worker)? > 0 {
                    progress = Instant::now();
                }
                let wait = due.saturating_duration_since(Instant::now());
                if wait.is_zero() && self.submit(&mut worker, number, habit)? {
                    progress = Instant::now();
                    break;
                }
                if self.forever && STOP.load(Ordering::Relaxed) {
                    break;
                }
                let idle = worker.slots.iter().all(|slot| slot.outstanding.is_none());
                if wait.is_zero() && progress.elapsed() > PATIENCE {
                    return self.give_up(&worker);
                }
                thread::sleep(if wait.is_zero() || !idle { self.poll } else { wait.min(LOOK_AT_STOP) });
            }
        }
        let mut progress = Instant::now();
        while worker.slots.iter().any(|slot| slot.outstanding.is_some()) {
            if self.look(&mut worker)? > 0 {
                progress = Instant::now();
            } else if progress.elapsed() > PATIENCE {
                return self.give_up(&worker);
            }
            thread::sleep(self.poll);
        }
        Ok(())
    }

    /// False: the depth is reached.
    fn submit(&self, worker: &mut Worker, number: u64, habit: Habit) -> anyhow::Result<bool> {
        let free = worker.slots.iter().position(|slot| slot.outstanding.is_none());
        if !habit.fails() && free.is_none() || !self.reserve(habit)? {
            return Ok(false);
        }
        if habit.fails() {
            let (operation, record) = worker.unseen_work(self.queue, number, habit)?;
            self.queue.arm(record)?;
            self.queue.submit(&Work { operation, record: Some(record) })?;
        } else if let Some(slot) = free.and_then(|index| worker.slots.get_mut(index)) {
            let record = slot.record(habit)?;
            let operation = slot.buffers.prepare(self.queue, number)?;
            self.queue.arm(record)?;
            slot.outstanding = Some(Outstanding { number, habit, record, submitted: Instant::now() });
            self.queue.submit(&Work { operation, record: Some(record) })?;
        }
        Ok(true)
    }

    /// Takes one of the process' places on the WQ, if there is one.
    fn reserve(&self, habit: Habit) -> anyhow::Result<bool> {
        let mut books = lock(&self.books);
        let full = |books: &Books| {
            books.visible + books.failing.saturating_sub(books.failed) >= u64::from(self.process.outstanding)
        };
        if full(&books) {
            self.look_at_counters(&mut books)?;
        }
        if full(&books) {
            return Ok(false);
        }
        if habit.fails() {
            books.failing += 1;
        } else {
            books.visible += 1;
        }
        count(&mut books.report, habit);
        Ok(true)
    }

    fn look_at_counters(&self, books: &mut Books) -> anyhow::Result<()> {
        let recent = books.looked_at_counters.is_some_and(|at| at.elapsed() < LOOK_AT_COUNTERS);
        if books.failing > books.failed && !recent {
            books.failed = self.file.failures()?;
            books.looked_at_counters = Some(Instant::now());
        }
        Ok(())
    }

    /// Takes what has been completed off the slots; how many.
    fn look(&self, worker: &mut Worker) -> anyhow::Result<u32> {
        let mut seen = 0;
        for slot in &mut worker.slots {
            let Some(outstanding) = slot.outstanding else { continue };
            let Some(completion) = self.queue.completion(outstanding.record)? else { continue };
            let latency = outstanding.submitted.elapsed();
            slot.outstanding = None;
            seen += 1;
            let right = slot.buffers.is_right(self.queue, outstanding.number, &completion)?;
            let mut books = lock(&self.books);
            books.visible -= 1;
            books.report.wrong += u64::from(!right);
            if outstanding.habit == Habit::Absent {
                books.report.delivered += 1;
                if !self.forever {
                    books.report.delivery_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
                }
            } else {
                books.report.resident_completed += 1;
            }
        }
        Ok(seen)
    }

    fn give_up(&self, worker: &Worker) -> anyhow::Result<()> {
        let overdue = worker.slots.iter().filter(|slot| slot.outstanding.is_some()).count() as u64;
        lock(&self.books).report.overdue += overdue;
        Ok(())
    }

    fn wait_for_failures(&self) -> anyhow::Result<()> {
        let mut progress = Instant::now();
        loop {
            let mut books = lock(&self.books);
            let before = books.failed;
            self.look_at_counters(&mut books)?;
            if books.failed >= books.failing {
                return Ok(());
            }
            if books.failed > before {
                progress = Instant::now();
            } else if progress.elapsed() > PATIENCE {
                books.report.overdue += books.failing - books.failed;
                return Ok(());
            }
            drop(books);
            thread::sleep(LOOK_AT_COUNTERS);
        }
    }

    /// Adds the round to the process' report, and prepares the last burst of a pending exit.
    pub(crate) fn leave(self, report: &mut ProcessReport) -> anyhow::Result<Burst<'a>> {
        let Books { report: mut round, .. } = std::mem::take(&mut *lock(&self.books));
        if round.read_only + round.unmapped > 0 {
            round.failed = self.file.failures()?;
        }
        let mut works = Vec::new();
        if self.process.exit == Exit::Pending {
            let worker = lock(&self.workers[0]);
            // Shared pages would stay in a dying process' page table: the driver's copy may come after the kernel has cleared it.
            let untouched = self.queue.records(Presence::Untouched, self.process.outstanding.into())?;
            let first = u64::from(self.process.count - u32::from(self.process.outstanding));
            for (index, number) in (first..self.process.count.into()).enumerate() {
                let habit = self.cycle[number as usize % self.cycle.len()];
                let (operation, record) = if habit.fails() {
                    worker.unseen_work(self.queue, number, habit)?
                } else {
                    let slot = &worker.slots[index];
                    let record = if habit == Habit::Absent { untouched[index] } else { slot.record(habit)? };
                    (slot.buffers.prepare(self.queue, number)?, record)
                };
                self.queue.arm(record)?;
                works.push(Work { operation, record: Some(record) });
                count(&mut round, habit);
                round.left_pending += 1;
            }
        }
        add(report, round);
        Ok(Burst { queue: self.queue, works })
    }
}

impl Worker {
    fn new(queue: &WorkQueue, process: &Process) -> anyhow::Result<Self> {
        let depth = usize::from(process.outstanding);
        let records = |habit: Habit| -> anyhow::Result<Vec<Record>> {
            let used = process.completion_records.of(habit) > 0;
            Ok(queue.records(presence(habit), if used { depth } else { 0 })?)
        };
        let (resident, absent) = (records(Habit::Resident)?, records(Habit::Absent)?);
        let slots = (0..depth)
            .map(|index| {
                let buffers = Buffers::new(queue, process)?;
                let at = |records: &[Record]| records.get(index).copied();
                Ok(Slot { buffers, resident: at(&resident), absent: at(&absent), outstanding: None })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            slots,
            unseen: Buffers::new(queue, process)?,
            read_only: records(Habit::ReadOnly)?,
            unmapped: records(Habit::Unmapped)?,
        })
    }

    fn unseen_work(
        &self,
        queue: &WorkQueue,
        number: u64,
        habit: Habit,
    ) -> anyhow::Result<(Operation, Record)> {
        let records = if habit == Habit::ReadOnly { &self.read_only } else { &self.unmapped };
        let record = records.get(number as usize % records.len().max(1));
        let record = *record.ok_or_else(|| anyhow!("no {habit:?} records were prepared"))?;
        Ok((self.unseen.prepare(queue, number)?, record))
    }
}

impl Slot {
    fn record(&self, habit: Habit) -> anyhow::Result<Record> {
        let record = if habit == Habit::Resident { self.resident } else { self.absent };
        record.ok_or_else(|| anyhow!("no {habit:?} records were prepared"))
    }
}

fn count(report: &mut ProcessReport, habit: Habit) {
    report.submitted += 1;
    *match habit {
        Habit::Resident => &mut report.resident,
        Habit::Absent => &mut report.absent,
        Habit::ReadOnly => &mut report.read_only,
        Habit::Unmapped => &mut report.unmapped,
    } += 1;
}

fn add(report: &mut ProcessReport, mut round: ProcessReport) {
    report.submitted += round.submitted;
    report.resident += round.resident;
    report.absent += round.absent;
    report.read_only += round.read_only;
    report.unmapped += round.unmapped;
    report.resident_completed += round.resident_completed;
    report.delivered += round.delivered;
    report.failed += round.failed;
    report.overdue += round.overdue;
    report.left_pending += round.left_pending;
    report.wrong += round.wrong;
    report.delivery_us.append(&mut round.delivery_us);
}

//! Submits a round's descriptors from its threads, keeps to the depth, and sees each to its end.
//!
//! Owns: who is outstanding. A record in a resident or absent page is seen; those that cannot be delivered have ended when the driver's
//! failure counter says so of all. Refuses: spinning.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use dsascope_common::hw::{completion::status, descriptor::opcode};
use dsascope_guest::{
    report::ProcessReport,
    scenario::{Exit, Process},
};
use dsascope_submit::{
    Ask, Error, Faults, Habit, Job, Kit, News, Packing, Pages, Presence, Record, Sent, Slot, Work, WorkQueue,
};

use super::{Order, files::OpenFile, lock, offer, until_accepted};

/// Between two looks at the driver's counters.
const LOOK_AT_COUNTERS: Duration = Duration::from_millis(1);
/// Between two looks at the wish to stop.
const LOOK_AT_STOP: Duration = Duration::from_millis(100);
/// Without any progress, what is outstanding is overdue; or lost, where that is to be expected.
const PATIENCE: Duration = Duration::from_secs(15);
const PATIENCE_WITH_LOSS: Duration = Duration::from_secs(2);

/// Set when a process that goes on for ever is to come to its end.
pub(crate) static STOP: AtomicBool = AtomicBool::new(false);

/// Shared by a round's threads.
#[derive(Debug, Default)]
struct Books {
    report: ProcessReport,
    outstanding: u64,
    /// Records submitted that cannot be delivered, and how many of these the driver has finished.
    failing: u64,
    failed: u64,
    looked_at_counters: Option<Instant>,
}

pub(crate) struct Round<'a> {
    kit: Kit<'a>,
    file: &'a OpenFile,
    process: &'a Process,
    forever: bool,
    begun: Instant,
    /// Between two looks at the records.
    poll: Duration,
    patience: Duration,
    cycle: Vec<Habit>,
    workers: Vec<Mutex<Worker>>,
    books: Mutex<Books>,
}

/// A thread's memory: a slot for each descriptor that may be outstanding, and its drain.
#[derive(Debug)]
struct Worker {
    slots: Vec<Slot>,
    /// None is used twice: so many have been used.
    fresh: Option<usize>,
    drain: Option<Drain>,
}

#[derive(Debug)]
struct Drain {
    record: Record,
    outstanding: bool,
    submitted: u32,
}

/// What a process that exits with faults pending submits last.
pub(crate) struct Burst<'a> {
    queue: &'a WorkQueue,
    works: Vec<Work>,
}

impl Burst<'_> {
    pub(crate) fn submit_and_exit(self) -> ! {
        for work in &self.works {
            if let Err(error) = offer(self.queue, work) {
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
        jobs: &'a [Job],
    ) -> anyhow::Result<Self> {
        let process = &order.process;
        let kit = Kit {
            queue,
            kind: order.kind,
            paging: order.work_queue.paging(),
            packing: Packing::Pages,
            jobs,
            verify: true,
        };
        let worker = |_| Ok(Mutex::new(Worker::new(&kit, process)?));
        let workers = (0..process.threads).map(worker).collect::<anyhow::Result<_>>()?;
        Ok(Self {
            kit,
            file,
            process,
            forever: order.forever,
            begun: Instant::now(),
            poll: Duration::from_micros(process.poll_us.into()),
            patience: if process.may_lose() { PATIENCE_WITH_LOSS } else { PATIENCE },
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
        self.wait_for_counters()
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
            loop {
                if self.look(&mut worker)? {
                    progress = Instant::now();
                }
                let wait = due.saturating_duration_since(Instant::now());
                if wait.is_zero() && self.submit(&mut worker, number)? {
                    progress = Instant::now();
                    break;
                }
                if self.forever && STOP.load(Ordering::Relaxed) {
                    break;
                }
                if wait.is_zero() && progress.elapsed() > self.patience {
                    return self.give_up(&worker);
                }
                thread::sleep(if wait.is_zero() || !worker.is_idle() {
                    self.poll
                } else {
                    wait.min(LOOK_AT_STOP)
                });
            }
        }
        let mut progress = Instant::now();
        while !worker.is_idle() {
            if self.look(&mut worker)? {
                progress = Instant::now();
            } else if progress.elapsed() > self.patience {
                return self.give_up(&worker);
            }
            thread::sleep(self.poll);
        }
        Ok(())
    }

    /// False: the depth is reached, or a drain is due and the last one is still outstanding.
    fn submit(&self, worker: &mut Worker, number: u64) -> anyhow::Result<bool> {
        let every = self.process.drain_every;
        if let (Some(every), Some(drain)) = (every, &mut worker.drain)
            && drain.submitted >= every
        {
            if drain.outstanding {
                return Ok(false);
            }
            self.kit.queue.arm(drain.record)?;
            self.note(&Sent { works: 1, drains: 1, ..Sent::default() });
            offer(self.kit.queue, &Work::plain(opcode::DRAIN, drain.record))?;
            drain.outstanding = true;
            drain.submitted = 0;
        }
        let slot = match worker.fresh {
            Some(used) => worker.slots.get_mut(used),
            None => worker.slots.iter_mut().find(|slot| slot.is_free()),
        };
        let Some(slot) = slot else { return Ok(false) };
        {
            let mut books = lock(&self.books);
            if books.outstanding >= u64::from(self.process.outstanding) {
                return Ok(false);
            }
            books.outstanding += 1;
        }
        let sent = slot.prepare(&self.kit, &self.ask(number, None))?;
        self.note(&sent);
        self.send(slot)?;
        if let Some(used) = &mut worker.fresh {
            *used += 1;
        }
        if let Some(drain) = &mut worker.drain {
            drain.submitted += 1;
        }
        Ok(true)
    }

    /// What the `number`th is.
    fn ask(&self, number: u64, record: Option<Record>) -> Ask {
        Ask {
            number,
            job: number as usize % self.kit.jobs.len(),
            habit: self.cycle[number as usize % self.cycle.len()],
            source: self.process.source,
            destination: self.process.destination,
            list: Pages::Absent,
            record,
        }
    }

    /// Before it is sent: what has been sent may end at once.
    fn note(&self, sent: &Sent) {
        let mut books = lock(&self.books);
        books.failing += sent.faults.failed;
        count(&mut books.report, sent);
    }

    fn send(&self, slot: &mut Slot) -> Result<(), Error> {
        until_accepted(|| slot.send(self.kit.queue, || self.now_ns()))
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes what has ended off the slots; whether there was any progress.
    fn look(&self, worker: &mut Worker) -> anyhow::Result<bool> {
        let mut progress = false;
        let settled = self.is_settled()?;
        for slot in &mut worker.slots {
            if let Some(news) = slot.look(&self.kit, settled, true)? {
                progress = true;
                let sent_ns = slot.times().map_or(0, |times| times.last_sent_ns);
                let ended = news.ended;
                self.take(news, sent_ns);
                if ended {
                    slot.clear();
                } else {
                    self.send(slot)?;
                }
            }
        }
        if let Some(drain) = worker.drain.as_mut().filter(|drain| drain.outstanding)
            && let Some(completion) = self.kit.queue.completion(drain.record)?
        {
            progress = true;
            drain.outstanding = false;
            if completion.status != status::SUCCESS {
                lock(&self.books).report.note_wrong(format!("a drain ended with {completion:x?}"));
            }
        }
        Ok(progress)
    }

    fn take(&self, news: News, sent_ns: u64) {
        let delivered_us = news.delivered.then(|| (self.now_ns() - sent_ns) / 1000);
        let mut books = lock(&self.books);
        if news.ended {
            books.outstanding -= 1;
        }
        if let Some(Faults { failed, .. }) = news.again {
            books.failing += failed;
        }
        let report = &mut books.report;
        report.delivered += news.seen.delivered;
        report.uncopied += news.seen.uncopied;
        if let Some(again) = news.again {
            report.submitted += 1;
            report.resumed += 1;
            report.faults += again.total();
        }
        report.hardware_errors += u64::from(news.hardware_error);
        report.misreported += u64::from(news.misreported);
        if let Some(words) = news.wrong {
            report.note_wrong(words);
        }
        if !self.forever {
            report.delivery_us.extend(delivered_us.map(|us| u32::try_from(us).unwrap_or(u32::MAX)));
        }
    }

    /// Whether the driver has counted every failure that there must be.
    fn is_settled(&self) -> anyhow::Result<bool> {
        let mut books = lock(&self.books);
        self.look_at_counters(&mut books)?;
        Ok(books.failed >= books.failing)
    }

    fn look_at_counters(&self, books: &mut Books) -> anyhow::Result<()> {
        let recent = books.looked_at_counters.is_some_and(|at| at.elapsed() < LOOK_AT_COUNTERS);
        if books.failing > books.failed && !recent {
            books.failed = self.file.failures()?;
            books.looked_at_counters = Some(Instant::now());
        }
        Ok(())
    }

    fn give_up(&self, worker: &Worker) -> anyhow::Result<()> {
        let left = worker.slots.iter().filter(|slot| !slot.is_free()).count() as u64;
        let report = &mut lock(&self.books).report;
        if self.process.may_lose() {
            report.lost += left;
        } else {
            report.overdue += left;
        }
        Ok(())
    }

    /// What nobody sees, the driver counts: failures, and records that nobody asked for.
    fn wait_for_counters(&self) -> anyhow::Result<()> {
        let mut progress = Instant::now();
        let mut before = (0, 0);
        loop {
            let (failing, faults, uncopied, overdue) = {
                let books = lock(&self.books);
                let Books { report, failing, .. } = &*books;
                (*failing, report.faults, report.uncopied, report.overdue + report.lost)
            };
            let failed = if failing > 0 { self.file.failures()? } else { 0 };
            let counted = if uncopied > 0 { self.file.faults()? } else { faults };
            lock(&self.books).failed = failed;
            if failed >= failing && counted >= faults || overdue > 0 {
                return Ok(());
            }
            if (failed, counted) != before {
                before = (failed, counted);
                progress = Instant::now();
            } else if progress.elapsed() > self.patience {
                lock(&self.books).report.overdue += failing.saturating_sub(failed).max(1);
                return Ok(());
            }
            thread::sleep(LOOK_AT_COUNTERS);
        }
    }

    /// Adds the round to the process' report, and prepares the last burst of a pending exit.
    pub(crate) fn leave(self, report: &mut ProcessReport) -> anyhow::Result<Burst<'a>> {
        let Books { report: mut round, failing, .. } = std::mem::take(&mut *lock(&self.books));
        if failing > 0 {
            round.failed = self.file.failures()?;
        }
        round.retries = self.kit.queue.retries();
        let mut works = Vec::new();
        if self.process.exit == Exit::Pending {
            let mut worker = lock(&self.workers[0]);
            // Shared pages would stay in a dying process' page table: the driver's copy may come after the kernel has cleared it.
            let untouched = self.kit.queue.records(Presence::Untouched, self.process.outstanding.into())?;
            let first = u64::from(self.process.count - u32::from(self.process.outstanding));
            for ((number, slot), untouched) in (first..).zip(&mut worker.slots).zip(untouched) {
                let mut ask = self.ask(number, None);
                ask.record = (ask.habit == Habit::Absent).then_some(untouched);
                let sent = slot.prepare(&self.kit, &ask)?;
                count(&mut round, &sent);
                round.left_pending += 1;
                works.extend(slot.take_unsent());
            }
        }
        report.add(round);
        Ok(Burst { queue: self.kit.queue, works })
    }
}

impl Worker {
    fn new(kit: &Kit<'_>, process: &Process) -> anyhow::Result<Self> {
        let habits: Vec<_> =
            Habit::ALL.into_iter().filter(|h| process.completion_records.of(*h) > 0).collect();
        let count = if process.fresh_pages { process.count } else { process.outstanding.into() };
        let slots = Slot::several(kit, &habits, count as usize)?;
        let drain = match process.drain_every {
            Some(_) => kit.queue.records(Presence::Resident, 1)?.first().copied(),
            None => None,
        };
        let fresh = process.fresh_pages.then_some(0);
        Ok(Self {
            slots,
            fresh,
            drain: drain.map(|record| Drain { record, outstanding: false, submitted: 0 }),
        })
    }

    fn is_idle(&self) -> bool {
        let drained = self.drain.as_ref().is_none_or(|drain| !drain.outstanding);
        drained && self.slots.iter().all(Slot::is_free)
    }
}

fn count(report: &mut ProcessReport, sent: &Sent) {
    report.submitted += sent.works;
    report.faults += sent.faults.total();
    report.refused += u64::from(sent.refused);
    report.drains += sent.drains;
    report.drains_absent += sent.drains_absent;
}

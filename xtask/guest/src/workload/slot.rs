//! One place on the WQ: what is submitted there, until it has come to its end.
//!
//! Owns: when that is, what must be submitted once more before it, and whether all went as planned. Refuses: choosing what to submit.

use std::time::Instant;

use dsascope_common::hw::completion::{DsaCompletion, STATUS_MASK, status};
use dsascope_common::hw::descriptor::{Descriptor, opcode};
use dsascope_guest::scenario::{
    DeviceKind, Operation,
    plan::{BatchRecord, Faults, Habit, Played},
};
use dsascope_submit::{Error, Progress, Record, Step, Work, resume};

use super::buffers::{Buffers, Kit, is_partial, presence};

#[derive(Debug)]
pub(crate) struct Slot {
    buffers: Buffers,
    /// By habit, as far as the process has it.
    records: [Option<Record>; Habit::ALL.len()],
    /// Of the drain behind a descriptor whose own record does not come.
    drain: Option<Record>,
    outstanding: Option<Outstanding>,
}

#[derive(Debug)]
struct Outstanding {
    number: u64,
    habit: Habit,
    record: Record,
    submitted: Instant,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Operation(Progress),
    Batch(Descriptor, Played),
    Drain,
    /// The device refuses it; a drain behind it tells when it has.
    Refused(Record),
}

/// What became of a slot since it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) ended: bool,
    /// Of what has been seen to its end.
    pub(crate) seen: Faults,
    /// Of what was submitted once more.
    pub(crate) again: Option<Faults>,
    pub(crate) drained: bool,
    pub(crate) hardware_error: bool,
    pub(crate) misreported: bool,
    pub(crate) wrong: Option<String>,
    /// Of a record that the driver delivered.
    pub(crate) latency_us: Option<u32>,
}

/// What is submitted at once.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) works: Vec<Work>,
    pub(crate) faults: Faults,
    pub(crate) refused: bool,
    pub(crate) drains: u64,
    pub(crate) drains_absent: u64,
}

impl Slot {
    pub(crate) fn new(kit: &Kit<'_>) -> anyhow::Result<Self> {
        let shares = &kit.process.completion_records;
        let mut records = [None; Habit::ALL.len()];
        for habit in Habit::ALL.into_iter().filter(|habit| shares.of(*habit) > 0) {
            records[habit as usize] = kit.queue.records(presence(habit), 1)?.first().copied();
        }
        let drains = u32::from(shares.straddling > 0);
        let drain = kit.queue.records(presence(Habit::Resident), drains as usize)?.first().copied();
        Ok(Self { buffers: Buffers::new(kit)?, records, drain, outstanding: None })
    }

    pub(crate) const fn is_free(&self) -> bool {
        self.outstanding.is_none()
    }

    /// Prepares the `number`th descriptor, which is outstanding from now on. `record` in place of the slot's own.
    pub(crate) fn prepare(
        &mut self,
        kit: &Kit<'_>,
        number: u64,
        habit: Habit,
        record: Option<Record>,
    ) -> Result<Sent, Error> {
        let record = record.or(self.records[habit as usize]).ok_or_else(|| Error::Invalid {
            operation: "submitting",
            problem: format!("no {habit:?} record was prepared"),
        })?;
        kit.queue.arm(record)?;
        let descriptor = self.buffers.prepare(kit, number)?;
        let mut sent = Sent::default();
        let mut work = Work::new(descriptor, record);
        let task = match (kit.process.operation, &kit.process.batch, self.drain) {
            (Operation::Drain, ..) => {
                sent.drains = 1;
                sent.drains_absent = u64::from(habit == Habit::Absent);
                Task::Drain
            }
            (_, Some(batch), _) => {
                work.requested = batch.record_requested;
                let played = batch.play(habit, kit.wq);
                sent.faults = played.faults;
                Task::Batch(descriptor, played)
            }
            (_, None, Some(drain)) if habit == Habit::Straddling => {
                sent.refused = true;
                sent.drains = 1;
                kit.queue.arm(drain)?;
                Task::Refused(drain)
            }
            (_, None, _) => {
                sent.faults = Faults::of(habit, kit.wq);
                Task::Operation(Progress::new(descriptor))
            }
        };
        sent.works.push(work);
        if let Task::Refused(drain) = task {
            sent.works.push(Work::plain(opcode::DRAIN, drain));
        }
        self.outstanding = Some(Outstanding { number, habit, record, submitted: Instant::now(), task });
        Ok(sent)
    }

    /// Looks for an end. `settled`: the driver has counted all failures that there must be.
    pub(crate) fn look(&mut self, kit: &Kit<'_>, settled: bool) -> Result<Option<News>, Error> {
        let Some(outstanding) = &mut self.outstanding else { return Ok(None) };
        let news = outstanding.look(kit, &self.buffers, settled)?;
        if news.as_ref().is_some_and(|news| news.ended) {
            self.outstanding = None;
        }
        Ok(news)
    }
}

impl Outstanding {
    fn look(&mut self, kit: &Kit<'_>, buffers: &Buffers, settled: bool) -> Result<Option<News>, Error> {
        let mut news = News { ended: true, ..News::default() };
        match &self.task {
            Task::Refused(_) | Task::Drain => {
                let record = if let Task::Refused(drain) = self.task { drain } else { self.record };
                let Some(code) = status_of(kit, record)? else { return Ok(None) };
                news.drained = true;
                news.wrong = wrong(code == status::SUCCESS, || format!("a drain ended with {code:#x}"));
                return Ok(Some(news));
            }
            Task::Operation(_) if self.habit.fails() => {
                if !settled {
                    return Ok(None);
                }
                news.seen = Faults::of(self.habit, kit.wq);
            }
            Task::Operation(progress) => {
                let Some(code) = status_of(kit, self.record)? else { return Ok(None) };
                news.seen = Faults::of(self.habit, kit.wq);
                if news.seen.delivered > 0 {
                    news.latency_us = Some(micros(self.submitted));
                }
                let progress = *progress;
                self.operation(kit, buffers, code, progress, &mut news)?;
            }
            Task::Batch(descriptor, played) => {
                let record = kit.queue.completion(self.record)?;
                let came = played.record.is_none() || record.is_some();
                if !came || !buffers.elements_came(kit, played)? || played.faults.failed > 0 && !settled {
                    return Ok(None);
                }
                news.seen = played.faults;
                if played.record.is_some() && self.habit == Habit::Absent {
                    news.latency_us = Some(micros(self.submitted));
                }
                let (descriptor, played) = (*descriptor, played.clone());
                self.batch(kit, buffers, record, descriptor, &played, &mut news)?;
            }
        }
        Ok(Some(news))
    }

    fn operation(
        &mut self,
        kit: &Kit<'_>,
        buffers: &Buffers,
        code: u8,
        mut progress: Progress,
        news: &mut News,
    ) -> Result<(), Error> {
        let number = self.number;
        if code == status::HW_ERR1 {
            news.hardware_error = true;
            return Ok(());
        }
        let again = match kit.kind {
            DeviceKind::Iaa => {
                let Some(c) = kit.queue.iax_completion(self.record)? else { return Ok(()) };
                // The same once more: nothing tells how to go on.
                if is_partial(code) {
                    Some(c.fault_addr)
                } else {
                    let right = buffers.is_right_iaa(kit, number, &c)?;
                    news.wrong = wrong(right, || format!("descriptor {number} ended with {c:x?}"));
                    None
                }
            }
            DeviceKind::Dsa => {
                let Some(c) = kit.queue.completion(self.record)? else { return Ok(()) };
                if let Some(part) = progress.delta_part(&c) {
                    buffers.join(kit, number, part)?;
                }
                match progress.take(&c) {
                    Step::Resume { fault_addr, .. } => Some(fault_addr),
                    Step::Done(end) => {
                        let right = buffers.is_right(kit, number, &end)?;
                        news.wrong = wrong(right, || format!("descriptor {number} ended with {end:x?}"));
                        None
                    }
                    Step::Stuck => {
                        news.wrong = Some(format!("descriptor {number} cannot be resumed after {c:x?}"));
                        None
                    }
                }
            }
        };
        let Some(fault_addr) = again else { return Ok(()) };
        let work = Work::new(*progress.descriptor(), self.record);
        self.again(kit, fault_addr, work, Faults::of(self.habit, kit.wq), news)?;
        self.task = Task::Operation(progress);
        Ok(())
    }

    fn batch(
        &mut self,
        kit: &Kit<'_>,
        buffers: &Buffers,
        record: Option<DsaCompletion>,
        descriptor: Descriptor,
        played: &Played,
        news: &mut News,
    ) -> Result<(), Error> {
        let number = self.number;
        let is = record.map(|c| BatchRecord {
            status: c.status & STATUS_MASK,
            result: c.result,
            completed: c.bytes_completed,
        });
        let as_planned = is == played.record;
        news.misreported = !as_planned && is == played.record.map(|must| misreported(must, played));
        let right = as_planned || news.misreported;
        news.wrong =
            wrong(right, || format!("batch {number}'s record says {is:x?}, not {:x?}", played.record));
        let list_fault = is.is_some_and(|record| record.status == status::BATCH_PAGE_FAULT);
        if news.wrong.is_none() {
            news.wrong = buffers.wrong_element(kit, number, played)?;
        }
        let plan = kit.process.batch.as_ref().filter(|_| list_fault && news.wrong.is_none());
        let (Some(plan), Some(c)) = (plan, record) else { return Ok(()) };
        let Some(rest) = resume(&descriptor, &c) else {
            news.wrong = Some(format!("batch {number} cannot be resumed after {c:x?}"));
            return Ok(());
        };
        let played = plan.play_rest(c.bytes_completed as u16, self.habit, kit.wq);
        let work = Work { descriptor: rest, record: Some(self.record), requested: plan.record_requested };
        self.again(kit, c.fault_addr, work, played.faults, news)?;
        self.task = Task::Batch(rest, played);
        Ok(())
    }

    /// Submits what is left, once the page is there.
    fn again(
        &mut self,
        kit: &Kit<'_>,
        fault_addr: u64,
        work: Work,
        faults: Faults,
        news: &mut News,
    ) -> Result<(), Error> {
        kit.queue.bring(fault_addr)?;
        kit.queue.arm(self.record)?;
        news.ended = false;
        news.again = Some(faults);
        self.submitted = Instant::now();
        kit.queue.submit(&work)
    }
}

/// What the record says when the driver's note of a failed copy was another batch's, or another batch took it.
fn misreported(must: BatchRecord, played: &Played) -> BatchRecord {
    let whole = played.not_started.is_empty() && played.records.iter().all(|(_, succeeds)| *succeeds);
    match must.status {
        status::SUCCESS => BatchRecord { status: status::BATCH_FAIL, result: 1, ..must },
        status::BATCH_FAIL if whole && played.noted => {
            BatchRecord { status: status::SUCCESS, result: 0, ..must }
        }
        status::BATCH_PAGE_FAULT => BatchRecord { result: 1 - must.result.min(1), ..must },
        _ => must,
    }
}

fn status_of(kit: &Kit<'_>, record: Record) -> Result<Option<u8>, Error> {
    Ok(kit.queue.completion(record)?.map(|c| c.status & STATUS_MASK))
}

fn wrong(right: bool, words: impl FnOnce() -> String) -> Option<String> {
    (!right).then(words)
}

fn micros(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX)
}

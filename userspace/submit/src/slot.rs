//! One place on the WQ: what is submitted there, until it has come to its end.
//!
//! Owns: when that is, what must be submitted once more before it (partial completions, the rest of a batch whose list was not all there,
//! its last descriptor alone, elements that ended partly), and whether all went as planned. Time is an input. Refuses: choosing what to
//! submit, and waiting.

use std::collections::VecDeque;

use dsascope_common::hw::completion::{DsaCompletion, STATUS_MASK, status};
use dsascope_common::hw::descriptor::{BYTES, Descriptor, opcode};

use crate::{
    Ask, BatchRecord, DeviceKind, Element, Ending, Error, Faults, Habit, Job, Kit, PAGE, Packing, Pages,
    Play, Played, Presence, Progress, Record, Step, Work, WorkQueue,
    buffers::{Buffers, is_partial},
    last_of_batch, resume,
};

/// Descriptors on a page of a batch's list.
const LIST_PAGE: u16 = (PAGE / BYTES) as u16;

/// The records of slots, by habit.
type Records = [Option<Record>; Habit::ALL.len()];

#[derive(Debug)]
pub struct Slot {
    buffers: Buffers,
    records: Records,
    /// Of the drain behind a descriptor whose own record does not come.
    drain: Option<Record>,
    outstanding: Option<Outstanding>,
}

#[derive(Debug)]
struct Outstanding {
    ask: Ask,
    /// Of what is looked at.
    record: Record,
    /// Still to be submitted.
    unsent: VecDeque<Work>,
    first_sent_ns: Option<u64>,
    last_sent_ns: u64,
    resumes: u32,
    /// Elements of a batch before the one where what is submitted of it begins.
    before: u16,
    /// What a batch has left of its elements: each is submitted by itself, once the batch is through.
    parts: VecDeque<(u16, Progress)>,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Operation(Progress),
    Batch(Descriptor, Played),
    /// An element that is submitted by itself.
    Element(u16, Progress),
    Drain,
    /// The device refuses it; a drain behind it tells when it has.
    Refused(Record),
}

/// What became of a slot since it was last looked at.
#[derive(Debug, Default)]
pub struct News {
    /// Otherwise something is to be sent once more.
    pub ended: bool,
    /// As the record says; `None`: none was seen.
    pub status: Option<u8>,
    /// Of what has been seen to its end.
    pub seen: Faults,
    /// Of what is submitted once more.
    pub again: Option<Faults>,
    pub drained: bool,
    pub hardware_error: bool,
    pub misreported: bool,
    /// A page was missing, and nobody asks for the rest.
    pub left_partial: bool,
    pub wrong: Option<String>,
    /// The record was delivered by the driver.
    pub delivered: bool,
}

/// What is submitted at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub works: u64,
    pub faults: Faults,
    pub refused: bool,
    pub drains: u64,
    pub drains_absent: u64,
}

/// When something was submitted: at first, and when it was resumed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub first_sent_ns: u64,
    pub last_sent_ns: u64,
    pub resumes: u32,
}

impl Slot {
    /// `count` of them, for descriptors whose records lie so. Packed records of one habit share pages.
    pub fn several(kit: &Kit<'_>, habits: &[Habit], count: usize) -> Result<Vec<Self>, Error> {
        let mut by_habit = Vec::new();
        for habit in Habit::ALL {
            let wanted = if habits.contains(&habit) { count } else { 0 };
            by_habit.push(kit.queue.packed_records(habit.presence(), kit.packing, wanted)?);
        }
        let drains = if habits.contains(&Habit::Straddling) { count } else { 0 };
        let drains = kit.queue.packed_records(Presence::Resident, Packing::Pages, drains)?;
        let slot = |index: usize| {
            let mut records = [None; Habit::ALL.len()];
            for (record, all) in records.iter_mut().zip(&by_habit) {
                *record = all.get(index).copied();
            }
            let drain = drains.get(index).copied();
            Ok(Self { buffers: Buffers::new(kit)?, records, drain, outstanding: None })
        };
        (0..count).map(slot).collect()
    }

    /// About how much memory for the device one has.
    #[must_use]
    pub fn bytes(jobs: &[Job]) -> u64 {
        Buffers::bytes(jobs)
    }

    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.outstanding.is_none()
    }

    /// Prepares what is asked for, which is outstanding from now on; [`Slot::send`] sends it.
    pub fn prepare(&mut self, kit: &Kit<'_>, ask: &Ask) -> Result<Sent, Error> {
        let record = ask.record.or(self.records[ask.habit as usize]).ok_or_else(|| Error::Invalid {
            operation: "submitting",
            problem: format!("no {:?} record was prepared", ask.habit),
        })?;
        kit.queue.arm(record)?;
        let descriptor = self.buffers.prepare(kit, ask)?;
        let mut sent = Sent::default();
        let mut work = Work::new(descriptor, record);
        let task = match (descriptor.opcode(), &kit.job(ask.job)?.batch, self.drain) {
            (opcode::DRAIN, ..) => {
                sent.drains = 1;
                sent.drains_absent = u64::from(ask.habit == Habit::Absent);
                Task::Drain
            }
            (_, Some(batch), _) => {
                work.requested = batch.record_requested;
                let played = self.buffers.play(
                    kit,
                    ask,
                    0,
                    batch.list_border.filter(|_| ask.list == Pages::Absent),
                )?;
                sent.faults = played.faults;
                Task::Batch(descriptor, played)
            }
            (_, None, Some(drain)) if ask.habit == Habit::Straddling => {
                sent.refused = true;
                sent.drains = 1;
                kit.queue.arm(drain)?;
                Task::Refused(drain)
            }
            (_, None, _) => {
                sent.faults = Faults::of(ask.habit, kit.paging);
                Task::Operation(Progress::new(descriptor))
            }
        };
        let mut unsent = VecDeque::from([work]);
        if let Task::Refused(drain) = task {
            unsent.push_back(Work::plain(opcode::DRAIN, drain));
        }
        sent.works = unsent.len() as u64;
        self.outstanding = Some(Outstanding {
            ask: *ask,
            record,
            unsent,
            first_sent_ns: None,
            last_sent_ns: 0,
            resumes: 0,
            before: 0,
            parts: VecDeque::new(),
            task,
        });
        Ok(sent)
    }

    /// Sends what is to be sent, as far as the WQ takes it; whether nothing is left. `now_ns` is asked before each.
    pub fn send(&mut self, queue: &WorkQueue, now_ns: impl Fn() -> u64) -> Result<bool, Error> {
        let Some(outstanding) = &mut self.outstanding else { return Ok(true) };
        while let Some(work) = outstanding.unsent.front() {
            let at = now_ns();
            match queue.submit(work) {
                Err(Error::Full { .. }) => return Ok(false),
                result => result?,
            }
            outstanding.unsent.pop_front();
            outstanding.first_sent_ns.get_or_insert(at);
            outstanding.last_sent_ns = at;
        }
        Ok(true)
    }

    /// Something that somebody else will send, or nobody.
    pub fn take_unsent(&mut self) -> Vec<Work> {
        self.outstanding
            .as_mut()
            .map(|outstanding| outstanding.unsent.drain(..).collect())
            .unwrap_or_default()
    }

    /// Whether something was prepared that the WQ has not taken.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.outstanding.as_ref().is_some_and(|outstanding| !outstanding.unsent.is_empty())
    }

    /// What is outstanding.
    #[must_use]
    pub fn ask(&self) -> Option<&Ask> {
        self.outstanding.as_ref().map(|outstanding| &outstanding.ask)
    }

    /// Of what is outstanding: the record that is waited for.
    #[must_use]
    pub fn awaited(&self) -> Option<Record> {
        let outstanding = self.outstanding.as_ref()?;
        Some(if let Task::Refused(drain) = outstanding.task { drain } else { outstanding.record })
    }

    /// Of what is outstanding, once some of it was sent.
    #[must_use]
    pub fn times(&self) -> Option<Times> {
        let outstanding = self.outstanding.as_ref()?;
        let Outstanding { last_sent_ns, resumes, .. } = *outstanding;
        Some(Times { first_sent_ns: outstanding.first_sent_ns?, last_sent_ns, resumes })
    }

    /// Looks for an end. `settled`: the driver has counted all failures that there must be. `may_resume`: a partial completion is gone on
    /// with. When the news is no end, something is to be sent.
    pub fn look(&mut self, kit: &Kit<'_>, settled: bool, may_resume: bool) -> Result<Option<News>, Error> {
        let Some(outstanding) = &mut self.outstanding else { return Ok(None) };
        if !outstanding.unsent.is_empty() {
            return Ok(None);
        }
        outstanding.look(kit, &self.buffers, settled, may_resume)
    }

    /// Free again, after news of its end.
    pub fn clear(&mut self) {
        self.outstanding = None;
    }
}

impl Buffers {
    /// How a submission of the batch goes, of the elements from `from` on.
    fn play(
        &self,
        kit: &Kit<'_>,
        ask: &Ask,
        from: u16,
        list_absent_from: Option<u16>,
    ) -> Result<Played, Error> {
        let Some(plan) = &kit.job(ask.job)?.batch else { return Ok(Played::default()) };
        let may_lack = ask.source == Pages::Absent || ask.destination == Pages::Absent;
        let count = if may_lack { plan.elements.len() as u16 } else { 0 };
        let operands_absent: Vec<bool> = (0..count).map(|index| self.lacks_pages(kit, ask, index)).collect();
        Ok(plan.play(Play {
            from,
            list_absent_from,
            own: ask.habit,
            paging: kit.paging,
            operands_absent: &operands_absent,
        }))
    }
}

impl Outstanding {
    fn look(
        &mut self,
        kit: &Kit<'_>,
        buffers: &Buffers,
        settled: bool,
        may_resume: bool,
    ) -> Result<Option<News>, Error> {
        let mut news = News { ended: true, ..News::default() };
        match &self.task {
            Task::Refused(_) | Task::Drain => {
                let record = if let Task::Refused(drain) = self.task { drain } else { self.record };
                let Some(code) = status_of(kit, record)? else { return Ok(None) };
                news.drained = true;
                news.status = matches!(self.task, Task::Drain).then_some(code);
                news.wrong = wrong(code == status::SUCCESS, || format!("a drain ended with {code:#x}"));
                return Ok(Some(news));
            }
            Task::Operation(_) if self.ask.habit.fails() => {
                if !settled {
                    return Ok(None);
                }
                news.seen = Faults::of(self.ask.habit, kit.paging);
            }
            Task::Operation(progress) => {
                let Some(code) = status_of(kit, self.record)? else { return Ok(None) };
                news.status = Some(code);
                news.seen = Faults::of(self.ask.habit, kit.paging);
                news.delivered = news.seen.delivered > 0;
                let mut progress = *progress;
                if self.operation(kit, buffers, code, &mut progress, may_resume, &mut news)? {
                    self.task = Task::Operation(progress);
                }
            }
            Task::Batch(descriptor, played) => {
                let record = kit.queue.completion(self.record)?;
                let came = played.record.is_none() || record.is_some();
                let failures_counted = played.faults.failed == 0 || settled;
                if !came || !buffers.elements_came(kit, &self.ask, played)? || !failures_counted {
                    return Ok(None);
                }
                news.status = record.map(|c| c.status & STATUS_MASK);
                news.seen = played.faults;
                news.delivered = played.record.is_some() && self.ask.habit == Habit::Absent;
                let (descriptor, played) = (*descriptor, played.clone());
                self.batch(kit, buffers, record, descriptor, played, may_resume, &mut news)?;
            }
            Task::Element(index, progress) => {
                let (index, mut progress) = (*index, *progress);
                let Some(code) = status_of(kit, self.record)? else { return Ok(None) };
                let faults = Faults::of(element(kit, &self.ask, index)?.habit, kit.paging);
                news.status = Some(code);
                news.seen = faults;
                news.hardware_error = code == status::HW_ERR1;
                if news.hardware_error {
                    return Ok(Some(news));
                }
                if self.part(kit, buffers, index, &mut progress, may_resume, faults, &mut news)? {
                    self.task = Task::Element(index, progress);
                } else if news.wrong.is_none() && !news.left_partial {
                    self.next_element(kit, buffers, &mut news)?;
                }
            }
        }
        Ok(Some(news))
    }

    /// Whether it goes on.
    fn operation(
        &mut self,
        kit: &Kit<'_>,
        buffers: &Buffers,
        code: u8,
        progress: &mut Progress,
        may_resume: bool,
        news: &mut News,
    ) -> Result<bool, Error> {
        let number = self.ask.number;
        if code == status::HW_ERR1 {
            news.hardware_error = true;
            return Ok(false);
        }
        if kit.kind == DeviceKind::Dsa {
            let faults = Faults::of(self.ask.habit, kit.paging);
            return self.part(kit, buffers, 0, progress, may_resume, faults, news);
        }
        let Some(c) = kit.queue.iax_completion(self.record)? else { return Ok(false) };
        if !is_partial(code) {
            let right = buffers.is_right_iaa(kit, &self.ask, &c)?;
            news.wrong = wrong(right, || format!("descriptor {number} ended with {c:x?}"));
            return Ok(false);
        }
        if !may_resume {
            news.left_partial = true;
            return Ok(false);
        }
        // The same once more: nothing tells how to go on.
        let work = Work::new(*progress.descriptor(), self.record);
        self.again(kit, c.fault_addr, work, Faults::of(self.ask.habit, kit.paging), news)?;
        Ok(true)
    }

    /// Takes a DSA completion in, of an operation or of a batch's element; whether it goes on.
    #[expect(clippy::too_many_arguments, reason = "what a completion is judged by")]
    fn part(
        &mut self,
        kit: &Kit<'_>,
        buffers: &Buffers,
        index: u16,
        progress: &mut Progress,
        may_resume: bool,
        faults: Faults,
        news: &mut News,
    ) -> Result<bool, Error> {
        let number = self.ask.number;
        let Some(c) = kit.queue.completion(self.record)? else { return Ok(false) };
        if !may_resume && is_partial(c.status) {
            news.left_partial = true;
            return Ok(false);
        }
        if let Some(part) = progress.delta_part(&c) {
            buffers.join(kit, &self.ask, index, part)?;
        }
        match progress.take(&c) {
            Step::Resume { fault_addr, .. } => {
                let work = Work::new(*progress.descriptor(), self.record);
                self.again(kit, fault_addr, work, faults, news)?;
                Ok(true)
            }
            Step::Done(end) => {
                let right = buffers.is_right(kit, &self.ask, index, &end)?;
                news.wrong = wrong(right, || format!("descriptor {number} ended with {end:x?}"));
                Ok(false)
            }
            Step::Stuck => {
                news.left_partial = true;
                news.wrong = Some(format!("descriptor {number} cannot be resumed after {c:x?}"));
                Ok(false)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a completion is judged by")]
    fn batch(
        &mut self,
        kit: &Kit<'_>,
        buffers: &Buffers,
        record: Option<DsaCompletion>,
        descriptor: Descriptor,
        played: Played,
        may_resume: bool,
        news: &mut News,
    ) -> Result<(), Error> {
        let number = self.ask.number;
        let is = record.map(|c| BatchRecord {
            status: c.status & STATUS_MASK,
            result: c.result,
            completed: c.bytes_completed,
        });
        let as_planned = is == played.record;
        news.misreported = !as_planned && is == played.misreported();
        let right = as_planned || news.misreported;
        news.wrong =
            wrong(right, || format!("batch {number}'s record says {is:x?}, not {:x?}", played.record));
        if news.wrong.is_none() {
            news.wrong = buffers.wrong_element(kit, &self.ask, &played)?;
        }
        if news.wrong.is_some() {
            return Ok(());
        }
        for &(index, ending) in &played.records {
            if ending == Ending::Partly {
                let part = Progress::new(buffers.descriptor(kit, &self.ask, index)?);
                self.parts.push_back((index, part));
            }
        }
        let fault = record.filter(|c| c.status & STATUS_MASK == status::BATCH_PAGE_FAULT);
        if !may_resume && (fault.is_some() || !self.parts.is_empty()) {
            news.left_partial = true;
            return Ok(());
        }
        match fault {
            Some(c) => self.rest_of_batch(kit, buffers, &c, descriptor, news),
            None => self.next_element(kit, buffers, news),
        }
    }

    /// After a fault on the list: what was not read of it.
    fn rest_of_batch(
        &mut self,
        kit: &Kit<'_>,
        buffers: &Buffers,
        c: &DsaCompletion,
        descriptor: Descriptor,
        news: &mut News,
    ) -> Result<(), Error> {
        let number = self.ask.number;
        let from = self.before + c.bytes_completed as u16;
        if last_of_batch(&descriptor, c).is_some() {
            // One is left, which goes alone: no batch has one.
            kit.queue.bring(c.fault_addr)?;
            let last = Progress::new(buffers.descriptor(kit, &self.ask, from)?);
            self.parts.push_back((from, last));
            return self.next_element(kit, buffers, news);
        }
        let plan = kit.job(self.ask.job)?.batch.as_ref();
        let Some((rest, plan)) = resume(&descriptor, c).zip(plan) else {
            news.left_partial = true;
            news.wrong = Some(format!("batch {number} cannot be resumed after {c:x?}"));
            return Ok(());
        };
        // A page of the list was brought, no more.
        let played = buffers.play(kit, &self.ask, from, from.checked_add(LIST_PAGE))?;
        let work = Work { descriptor: rest, record: Some(self.record), requested: plan.record_requested };
        self.again(kit, c.fault_addr, work, played.faults, news)?;
        self.task = Task::Batch(rest, played);
        self.before = from;
        Ok(())
    }

    /// Submits the next element that is left by itself, with its own record; none: all is done.
    fn next_element(&mut self, kit: &Kit<'_>, buffers: &Buffers, news: &mut News) -> Result<(), Error> {
        while let Some((index, mut progress)) = self.parts.pop_front() {
            let Element { habit, failing, .. } = element(kit, &self.ask, index)?;
            if failing || !habit.is_seen() {
                // Its page will never be there, or nobody could tell its end.
                news.left_partial = true;
                continue;
            }
            let faults = Faults::of(habit, kit.paging);
            self.record = buffers.record(&self.ask, index)?;
            match kit.queue.completion(self.record)? {
                None => {
                    self.submit_again(kit, Work::new(*progress.descriptor(), self.record), faults, news)?;
                }
                // It was executed in the batch, in part.
                Some(_) if !self.part(kit, buffers, index, &mut progress, true, faults, news)? => continue,
                Some(_) => {}
            }
            self.task = Task::Element(index, progress);
            break;
        }
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
        self.submit_again(kit, work, faults, news)
    }

    fn submit_again(
        &mut self,
        kit: &Kit<'_>,
        work: Work,
        faults: Faults,
        news: &mut News,
    ) -> Result<(), Error> {
        kit.queue.arm(self.record)?;
        news.ended = false;
        news.again = Some(faults);
        self.resumes += 1;
        self.unsent.push_back(work);
        Ok(())
    }
}

/// As the batch is laid out; of what is no batch, an ordinary one.
fn element(kit: &Kit<'_>, ask: &Ask, index: u16) -> Result<Element, Error> {
    let plan = kit.job(ask.job)?.batch.as_ref();
    let element = plan.and_then(|plan| plan.elements.get(usize::from(index)));
    Ok(element.copied().unwrap_or_default())
}

fn status_of(kit: &Kit<'_>, record: Record) -> Result<Option<u8>, Error> {
    Ok(kit.queue.completion(record)?.map(|c| c.status & STATUS_MASK))
}

fn wrong(right: bool, words: impl FnOnce() -> String) -> Option<String> {
    (!right).then(words)
}

#[cfg(test)]
mod tests;

//! The memory of one outstanding descriptor: operands, records of a batch's elements, prepared batches.
//!
//! Owns: putting it into the state in which the device is to find it, and looking at what the device made of it. Refuses: order and time.

use std::{cell::RefCell, sync::Arc};

use dsascope_common::hw::completion::{DsaCompletion, IaxCompletion, STATUS_MASK, status};
use dsascope_common::hw::descriptor::{Descriptor, flags};
use serde::{Deserialize, Serialize};

use crate::{
    Access, Batch, BatchPlan, Case, DeltaPart, DeviceKind, Ending, Error, Habit, PAGE, Packing, Paging,
    Played, Presence, Record, Span, Work, WorkQueue, rebase_delta, reference::Expected,
};

/// Where pages are when a descriptor that names them is submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pages {
    #[default]
    Resident,
    /// Not in the page table. Without block on fault each page ends the operation with a partial completion, which is resumed.
    Absent,
}

/// What a slot may be asked to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// One; of a batch one for all its elements, or one each.
    pub cases: Vec<Arc<Case>>,
    pub batch: Option<BatchPlan>,
}

impl Job {
    #[must_use]
    pub fn single(case: Arc<Case>) -> Self {
        Self { cases: vec![case], batch: None }
    }

    /// Where the memory of a descriptor is: of a batch's element by its index.
    fn place(&self, index: usize) -> usize {
        index.min(self.cases.len().saturating_sub(1))
    }

    fn case(&self, index: usize) -> Result<&Arc<Case>, Error> {
        self.cases.get(self.place(index)).ok_or_else(missing)
    }
}

/// What all descriptors of a process share.
#[derive(Clone, Copy, Debug)]
pub struct Kit<'a> {
    pub queue: &'a WorkQueue,
    pub kind: DeviceKind,
    pub paging: Paging,
    pub packing: Packing,
    pub jobs: &'a [Job],
    /// Whether what operations leave in memory is looked at; how they end always is.
    pub verify: bool,
}

impl Kit<'_> {
    /// Descriptors block on faults where the WQ lets them.
    const fn flags(&self) -> u32 {
        if self.paging.block_on_fault { flags::BLOCK_ON_FAULT } else { 0 }
    }

    pub(crate) fn job(&self, number: usize) -> Result<&Job, Error> {
        self.jobs.get(number).ok_or_else(missing)
    }
}

/// What is to be prepared.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Names it in words.
    pub number: u64,
    /// Which of the kit's.
    pub job: usize,
    /// Where its record lies.
    pub habit: Habit,
    /// Of what it reads, of what it writes, and of a batch's list behind its border.
    pub source: Pages,
    pub destination: Pages,
    pub list: Pages,
    /// In place of the slot's own.
    pub record: Option<Record>,
}

impl Ask {
    #[must_use]
    pub const fn new(number: u64, job: usize, habit: Habit) -> Self {
        let pages = Pages::Resident;
        Self { number, job, habit, source: pages, destination: pages, list: pages, record: None }
    }

    const fn pages(&self, access: Access) -> Pages {
        match access {
            Access::Read => self.source,
            Access::Write => self.destination,
        }
    }

    /// Whether a descriptor of that case finds a page absent.
    fn lacks_pages(&self, case: &Case) -> bool {
        [Access::Read, Access::Write]
            .into_iter()
            .any(|access| self.pages(access) == Pages::Absent && case.pages(access) != Some(0))
    }
}

/// Operands of one descriptor.
#[derive(Debug)]
struct Arena {
    span: Span,
    /// What is in it, but for what the device wrote.
    holds: Option<Arc<Case>>,
    /// Pages may be absent.
    has_gaps: bool,
}

#[derive(Debug)]
pub(crate) struct Buffers {
    arenas: Vec<Arena>,
    /// By job: the batch of it, and its elements' records.
    batches: Vec<Option<(Batch, Vec<Record>)>>,
    /// What a look at memory is read into.
    look: RefCell<Vec<u8>>,
}

impl Buffers {
    /// Bytes of memory for the device that one slot has for these jobs.
    pub(crate) fn bytes(jobs: &[Job]) -> u64 {
        let arenas: u64 = arena_bytes(jobs).iter().map(|bytes| bytes.next_multiple_of(PAGE) as u64).sum();
        let of_batch = |batch: &BatchPlan| batch.elements.len().next_multiple_of(PAGE / 64) as u64 * 64;
        let lists: u64 = jobs.iter().filter_map(|job| job.batch.as_ref()).map(of_batch).sum();
        let elements = jobs.iter().filter_map(|job| Some(job.batch.as_ref()?.elements.len())).max();
        arenas + lists + (elements.unwrap_or(0) * PAGE) as u64
    }

    pub(crate) fn new(kit: &Kit<'_>) -> Result<Self, Error> {
        let arena = |bytes| {
            let span = kit.queue.span(Presence::Resident, bytes)?;
            Ok(Arena { span, holds: None, has_gaps: false })
        };
        let arenas: Vec<Arena> =
            arena_bytes(kit.jobs).into_iter().map(arena).collect::<Result<_, Error>>()?;
        let pool = Pool::new(kit)?;
        let batch = |job: &Job| -> Result<_, Error> {
            let Some(plan) = &job.batch else { return Ok(None) };
            let records = pool.records(plan)?;
            Ok(Some((batch(kit, plan, job, &arenas, &records)?, records)))
        };
        let batches = kit.jobs.iter().map(batch).collect::<Result<_, Error>>()?;
        Ok(Self { arenas, batches, look: RefCell::default() })
    }

    /// The descriptor of what is asked for, its memory ready: what it writes is as before, pages that are to be absent are.
    pub(crate) fn prepare(&mut self, kit: &Kit<'_>, ask: &Ask) -> Result<Descriptor, Error> {
        let job = kit.job(ask.job)?;
        for (case, arena) in job.cases.iter().zip(&mut self.arenas) {
            arena.prepare(kit.queue, ask, case)?;
        }
        match self.batches.get(ask.job).ok_or_else(missing)? {
            Some((batch, records)) => {
                records.iter().try_for_each(|&record| kit.queue.arm(record))?;
                kit.queue.arm_batch(batch, ask.list == Pages::Absent)?;
                let d = batch.descriptor();
                Ok(d.with(d.opcode(), d.flags() | kit.flags()))
            }
            None => self.descriptor(kit, ask, 0),
        }
    }

    /// Of a batch's element, or of what is no batch.
    pub(crate) fn descriptor(&self, kit: &Kit<'_>, ask: &Ask, index: u16) -> Result<Descriptor, Error> {
        let (case, arena) = self.at(kit, ask, index.into())?;
        Ok(case.descriptor(arena.span.address(), kit.flags()))
    }

    /// Makes a part of a delta record one with the parts before.
    pub(crate) fn join(&self, kit: &Kit<'_>, ask: &Ask, index: u16, part: DeltaPart) -> Result<(), Error> {
        let (_, Arena { span, .. }) = self.at(kit, ask, index.into())?;
        let offset = part.address.wrapping_sub(span.address()) as usize;
        let mut bytes = vec![0; part.bytes as usize];
        kit.queue.read(*span, offset, &mut bytes)?;
        if rebase_delta(&mut bytes, part.compared) {
            kit.queue.write(*span, offset, &bytes)?;
        }
        Ok(())
    }

    /// Whether an operation that ended so did what it must.
    pub(crate) fn is_right(
        &self,
        kit: &Kit<'_>,
        ask: &Ask,
        index: u16,
        end: &Expected,
    ) -> Result<bool, Error> {
        let (case, arena) = self.at(kit, ask, index.into())?;
        Ok(case.ends(end) && (!kit.verify || self.look(kit, arena, case, |memory| case.is_after(memory))?))
    }

    pub(crate) fn is_right_iaa(&self, kit: &Kit<'_>, ask: &Ask, end: &IaxCompletion) -> Result<bool, Error> {
        let (case, arena) = self.at(kit, ask, 0)?;
        if !kit.verify {
            return Ok(end.status == status::SUCCESS);
        }
        self.look(kit, arena, case, |memory| case.is_right_iaa(end, memory))
    }

    /// Whether all records of a batch's elements that must come have come.
    pub(crate) fn elements_came(&self, kit: &Kit<'_>, ask: &Ask, played: &Played) -> Result<bool, Error> {
        for &(index, _) in &played.records {
            if self.completion(kit, ask, index)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is wrong with a batch's elements, all of which came that should.
    pub(crate) fn wrong_element(
        &self,
        kit: &Kit<'_>,
        ask: &Ask,
        played: &Played,
    ) -> Result<Option<String>, Error> {
        for &(index, ending) in &played.records {
            let Some(record) = self.completion(kit, ask, index)? else { continue };
            let case = kit.job(ask.job)?.case(index.into())?;
            let code = record.status & STATUS_MASK;
            let right = match ending {
                Ending::Succeeds => case.ends(&Expected::from(&record)),
                Ending::Fails => matches!(code, status::PAGE_FAULT_NOBOF | status::PAGE_FAULT_IR),
                Ending::Partly => code == status::PAGE_FAULT_NOBOF,
            };
            if !right {
                return Ok(Some(format!("element {index} ended with {record:x?}")));
            }
        }
        for &index in &played.not_started {
            if self.completion(kit, ask, index)?.is_some() {
                return Ok(Some(format!("element {index} was executed behind the batch's end")));
            }
        }
        self.wrong_bytes(kit, ask, played)
    }

    /// Whether the elements that must have succeeded left other bytes than they must. Those that share memory say so together.
    fn wrong_bytes(&self, kit: &Kit<'_>, ask: &Ask, played: &Played) -> Result<Option<String>, Error> {
        let shared = kit.job(ask.job)?.cases.len() == 1;
        if !kit.verify || shared && !played.is_whole() {
            return Ok(None);
        }
        let done = played.records.iter().filter(|(_, ending)| *ending == Ending::Succeeds);
        for &(index, _) in done.take(if shared { 1 } else { usize::MAX }) {
            let (case, arena) = self.at(kit, ask, index.into())?;
            if !self.look(kit, arena, case, |memory| case.is_after(memory))? {
                let who = if shared { "the elements".to_owned() } else { format!("element {index}") };
                return Ok(Some(format!("{who} left other bytes than must be")));
            }
        }
        Ok(None)
    }

    /// Whether a descriptor of the batch finds a page absent.
    pub(crate) fn lacks_pages(&self, kit: &Kit<'_>, ask: &Ask, index: u16) -> bool {
        kit.job(ask.job).and_then(|job| job.case(index.into())).is_ok_and(|case| ask.lacks_pages(case))
    }

    pub(crate) fn record(&self, ask: &Ask, index: u16) -> Result<Record, Error> {
        let batch = self.batches.get(ask.job).and_then(Option::as_ref);
        batch.and_then(|(_, records)| records.get(usize::from(index)).copied()).ok_or_else(missing)
    }

    fn completion(&self, kit: &Kit<'_>, ask: &Ask, index: u16) -> Result<Option<DsaCompletion>, Error> {
        kit.queue.completion(self.record(ask, index)?)
    }

    fn look<T>(
        &self,
        kit: &Kit<'_>,
        arena: &Arena,
        case: &Case,
        judge: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Error> {
        let mut memory = self.look.borrow_mut();
        memory.resize(case.memory.len(), 0);
        kit.queue.read(arena.span, 0, &mut memory)?;
        Ok(judge(&memory))
    }

    fn at<'a>(&'a self, kit: &Kit<'a>, ask: &Ask, index: usize) -> Result<(&'a Case, &'a Arena), Error> {
        let job = kit.jobs.get(ask.job).ok_or_else(missing)?;
        Ok((job.case(index)?, self.arenas.get(job.place(index)).ok_or_else(missing)?))
    }
}

impl Arena {
    fn prepare(&mut self, queue: &WorkQueue, ask: &Ask, case: &Arc<Case>) -> Result<(), Error> {
        if self.has_gaps {
            queue.bring_all(self.span)?;
            self.has_gaps = false;
        }
        let is_new = !self.holds.as_ref().is_some_and(|held| Arc::ptr_eq(held, case));
        if is_new {
            queue.write(self.span, 0, &case.memory)?;
            self.holds = Some(Arc::clone(case));
        }
        for operand in case.operands() {
            let (from, bytes) = (operand.address as usize, operand.bytes as usize);
            if operand.access == Access::Write && !is_new {
                queue.write(self.span, from, &case.memory[from..from + bytes])?;
            }
            if ask.pages(operand.access) == Pages::Absent && bytes > 0 {
                queue.forget(self.span, from, bytes.next_multiple_of(PAGE))?;
                self.has_gaps = true;
            }
        }
        Ok(())
    }
}

/// Of all jobs, the most that an arena needs, by its place.
fn arena_bytes(jobs: &[Job]) -> Vec<usize> {
    let mut all = Vec::new();
    for job in jobs {
        all.resize(all.len().max(job.cases.len()), 0);
        for (bytes, case) in all.iter_mut().zip(&job.cases) {
            *bytes = case.memory.len().max(*bytes);
        }
    }
    all
}

/// Records of batches' elements, by habit; batches use them in turn.
struct Pool([Vec<Record>; Habit::ALL.len()]);

impl Pool {
    fn new(kit: &Kit<'_>) -> Result<Self, Error> {
        let plans = || kit.jobs.iter().filter_map(|job| job.batch.as_ref());
        let mut pool = [const { Vec::new() }; Habit::ALL.len()];
        for (records, habit) in pool.iter_mut().zip(Habit::ALL) {
            let of = |plan: &BatchPlan| plan.elements.iter().filter(|e| e.habit == habit).count();
            let most = plans().map(of).max().unwrap_or(0);
            *records = kit.queue.packed_records(habit.presence(), kit.packing, most)?;
        }
        Ok(Self(pool))
    }

    fn records(&self, plan: &BatchPlan) -> Result<Vec<Record>, Error> {
        let mut left = self.0.each_ref().map(|records| records.iter());
        let next =
            |element: &crate::Element| left[element.habit as usize].next().copied().ok_or_else(missing);
        plan.elements.iter().map(next).collect()
    }
}

fn batch(
    kit: &Kit<'_>,
    plan: &BatchPlan,
    job: &Job,
    arenas: &[Arena],
    records: &[Record],
) -> Result<Batch, Error> {
    let mut list = Vec::new();
    for ((index, element), &record) in plan.elements.iter().enumerate().zip(records) {
        let fence = if element.fence { flags::FENCE } else { 0 };
        let (case, arena) = (job.case(index)?, arenas.get(job.place(index)).ok_or_else(missing)?);
        let mut descriptor = case.descriptor(arena.span.address(), kit.flags() | fence);
        if element.failing {
            let nothing = kit.queue.span(Presence::Unmapped, case.memory.len())?;
            descriptor.source = nothing.address();
        }
        list.push(Work::new(descriptor, record));
    }
    kit.queue.batch(&list, plan.list_border)
}

/// Whether a device of that kind has ended this for want of a page.
pub(crate) const fn is_partial(code: u8) -> bool {
    code & STATUS_MASK == status::PAGE_FAULT_NOBOF
}

fn missing() -> Error {
    Error::Invalid { operation: "preparing an operation", problem: "it has no memory".into() }
}

//! The memory of one outstanding descriptor: operands, records of a batch's elements, prepared batches.
//!
//! Owns: putting it into the state in which the device is to find it, and looking at what the device made of it. Refuses: order and time.

use dsascope_common::hw::completion::{DsaCompletion, IaxCompletion, STATUS_MASK, status};
use dsascope_common::hw::descriptor::{Descriptor, flags};
use dsascope_guest::scenario::{
    Batch as Plan, Case, DeviceKind, Pages, Process, WorkQueue as Settings,
    plan::{Habit, Played},
};
use dsascope_submit::{
    Access, Batch, DeltaPart, Error, PAGE, Presence, Record, Span, Work, WorkQueue, rebase_delta,
    reference::Expected,
};

pub(crate) const fn presence(habit: Habit) -> Presence {
    match habit {
        Habit::Resident => Presence::Resident,
        Habit::Absent => Presence::Absent,
        Habit::ReadOnly => Presence::ReadOnly,
        Habit::Unmapped => Presence::Unmapped,
        Habit::Straddling => Presence::Straddling,
    }
}

/// What all descriptors of a process share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kit<'a> {
    pub(crate) queue: &'a WorkQueue,
    pub(crate) process: &'a Process,
    pub(crate) wq: &'a Settings,
    pub(crate) kind: DeviceKind,
    /// One a transfer size.
    pub(crate) cases: &'a [Case],
}

impl Kit<'_> {
    pub(crate) const fn case(&self, number: u64) -> usize {
        number as usize % self.cases.len()
    }

    /// Descriptors block on faults where the WQ lets them.
    const fn flags(&self) -> u32 {
        if self.wq.block_on_fault { flags::BLOCK_ON_FAULT } else { 0 }
    }
}

#[derive(Debug)]
pub(crate) struct Buffers {
    /// One a case: its memory, and the batch of it.
    arenas: Vec<(Span, Option<Batch>)>,
    /// Of a batch's descriptors.
    elements: Vec<Record>,
}

impl Buffers {
    pub(crate) fn new(kit: &Kit<'_>) -> Result<Self, Error> {
        let Kit { queue, process, .. } = *kit;
        let mut elements = Vec::new();
        if let Some(batch) = &process.batch {
            for habit in batch.habits() {
                elements.append(&mut queue.records(presence(habit), 1)?);
            }
        }
        let mut arenas = Vec::new();
        for case in kit.cases {
            let span = queue.span(Presence::Resident, case.memory.len())?;
            queue.write(span, 0, &case.memory)?;
            let batch = match &process.batch {
                Some(plan) => Some(batch(kit, plan, case, span, &elements)?),
                None => None,
            };
            arenas.push((span, batch));
        }
        Ok(Self { arenas, elements })
    }

    /// The descriptor of the `number`th operation, its memory ready: what it writes is as before, pages that are to be absent are.
    pub(crate) fn prepare(&self, kit: &Kit<'_>, number: u64) -> Result<Descriptor, Error> {
        let (case, (span, batch)) = self.at(kit, number)?;
        for operand in case.operands() {
            let (from, bytes) = (operand.address as usize, operand.bytes as usize);
            if operand.access == Access::Write {
                kit.queue.write(span, from, &case.memory[from..from + bytes])?;
            }
            let pages = match operand.access {
                Access::Read => kit.process.source,
                Access::Write => kit.process.destination,
            };
            if pages == Pages::Absent {
                kit.queue.forget(span, from, bytes.next_multiple_of(PAGE))?;
            }
        }
        for &element in &self.elements {
            kit.queue.arm(element)?;
        }
        match batch {
            Some(batch) => {
                kit.queue.arm_batch(&batch)?;
                let d = batch.descriptor();
                Ok(d.with(d.opcode(), d.flags() | kit.flags()))
            }
            None => Ok(case.descriptor(span.address(), kit.flags())),
        }
    }

    /// Makes a part of a delta record one with the parts before.
    pub(crate) fn join(&self, kit: &Kit<'_>, number: u64, part: DeltaPart) -> Result<(), Error> {
        let (_, (span, _)) = self.at(kit, number)?;
        let offset = part.address.wrapping_sub(span.address()) as usize;
        let mut bytes = vec![0; part.bytes as usize];
        kit.queue.read(span, offset, &mut bytes)?;
        if rebase_delta(&mut bytes, part.compared) {
            kit.queue.write(span, offset, &bytes)?;
        }
        Ok(())
    }

    /// Whether an operation that ended so did what it must.
    pub(crate) fn is_right(&self, kit: &Kit<'_>, number: u64, end: &Expected) -> Result<bool, Error> {
        let (case, memory) = self.memory(kit, number)?;
        Ok(case.is_right(end, &memory))
    }

    pub(crate) fn is_right_iaa(
        &self,
        kit: &Kit<'_>,
        number: u64,
        end: &IaxCompletion,
    ) -> Result<bool, Error> {
        let (case, memory) = self.memory(kit, number)?;
        Ok(case.is_right_iaa(end, &memory))
    }

    /// Whether all records of a batch's elements that must come have come.
    pub(crate) fn elements_came(&self, kit: &Kit<'_>, played: &Played) -> Result<bool, Error> {
        for &(index, _) in &played.records {
            if self.element(kit, index)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is wrong with a batch's elements, all of which came that should.
    pub(crate) fn wrong_element(
        &self,
        kit: &Kit<'_>,
        number: u64,
        played: &Played,
    ) -> Result<Option<String>, Error> {
        let (case, memory) = self.memory(kit, number)?;
        for &(index, succeeds) in &played.records {
            let Some(record) = self.element(kit, index)? else { continue };
            let code = record.status & STATUS_MASK;
            let right = if succeeds {
                case.says_right(&record)
            } else {
                matches!(code, status::PAGE_FAULT_NOBOF | status::PAGE_FAULT_IR)
            };
            if !right {
                return Ok(Some(format!("element {index} ended with {record:x?}")));
            }
        }
        for &index in &played.not_started {
            if self.element(kit, index)?.is_some() {
                return Ok(Some(format!("element {index} was executed behind the batch's end")));
            }
        }
        let all_did = played.not_started.is_empty() && played.records.iter().all(|(_, succeeds)| *succeeds);
        let right = !all_did || case.is_after(&memory);
        Ok((!right).then(|| "the elements left other bytes than they must".to_owned()))
    }

    fn element(&self, kit: &Kit<'_>, index: u16) -> Result<Option<DsaCompletion>, Error> {
        let record = self.elements.get(usize::from(index)).copied().ok_or_else(missing)?;
        kit.queue.completion(record)
    }

    fn memory<'a>(&self, kit: &Kit<'a>, number: u64) -> Result<(&'a Case, Vec<u8>), Error> {
        let (case, (span, _)) = self.at(kit, number)?;
        let mut memory = vec![0; case.memory.len()];
        kit.queue.read(span, 0, &mut memory)?;
        Ok((case, memory))
    }

    fn at<'a>(&self, kit: &Kit<'a>, number: u64) -> Result<(&'a Case, (Span, Option<Batch>)), Error> {
        let index = kit.case(number);
        Ok((&kit.cases[index], self.arenas.get(index).copied().ok_or_else(missing)?))
    }
}

fn batch(kit: &Kit<'_>, plan: &Plan, case: &Case, span: Span, elements: &[Record]) -> Result<Batch, Error> {
    let mut list = Vec::new();
    for (index, &record) in (0u16..).zip(elements) {
        let fence = if plan.fence == Some(index) { flags::FENCE } else { 0 };
        let mut descriptor = case.descriptor(span.address(), kit.flags() | fence);
        if plan.failing == Some(index) {
            let nothing = kit.queue.span(Presence::Unmapped, case.memory.len())?;
            descriptor.source = nothing.address();
        }
        list.push(Work::new(descriptor, record));
    }
    kit.queue.batch(&list, plan.list_absent_from)
}

/// Whether a device of that kind has ended this for want of a page.
pub(crate) const fn is_partial(code: u8) -> bool {
    code & STATUS_MASK == status::PAGE_FAULT_NOBOF
}

fn missing() -> Error {
    Error::Invalid { operation: "preparing an operation", problem: "it has no memory".into() }
}

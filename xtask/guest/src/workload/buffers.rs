//! The memory of one outstanding descriptor: operands, completion records, prepared batches; and whether the device did its work.
//!
//! Owns: operands and their marks. Refuses: order and time.

use dsascope_common::hw::completion::{DsaCompletion, STATUS_MASK, status};
use dsascope_guest::scenario::{Operation as Kind, Process, plan::Habit};
use dsascope_submit::{Batch, Error, Operation, Presence, Record, Span, Work, WorkQueue};

pub(crate) const fn presence(habit: Habit) -> Presence {
    match habit {
        Habit::Resident => Presence::Resident,
        Habit::Absent => Presence::Absent,
        Habit::ReadOnly => Presence::ReadOnly,
        Habit::Unmapped => Presence::Unmapped,
    }
}

#[derive(Debug)]
pub(crate) struct Buffers {
    kind: Kind,
    sizes: Vec<u32>,
    first: Option<Span>,
    second: Option<Span>,
    /// One a size.
    batches: Vec<Batch>,
    /// Of a batch's descriptors.
    elements: Vec<Record>,
}

impl Buffers {
    pub(crate) fn new(queue: &WorkQueue, process: &Process) -> Result<Self, Error> {
        let largest = process.bytes.iter().copied().max();
        let span = || largest.map(|bytes| queue.span(bytes as usize)).transpose();
        let mut buffers = Self {
            kind: process.operation,
            sizes: process.bytes.clone(),
            first: span()?,
            second: span()?,
            batches: Vec::new(),
            elements: Vec::new(),
        };
        if process.operation == Kind::Batch {
            let descriptors = usize::from(process.batch_descriptors.unwrap_or_default());
            buffers.elements = queue.records(Presence::Resident, descriptors)?;
            for index in 0..buffers.sizes.len() {
                let operation = buffers.memmove(index)?;
                let element = |&record| Work { operation, record: Some(record) };
                let list: Vec<Work> = buffers.elements.iter().map(element).collect();
                buffers.batches.push(queue.batch(&list)?);
            }
        }
        Ok(buffers)
    }

    /// The `number`th operation: its operands are marked with the number.
    pub(crate) fn prepare(&self, queue: &WorkQueue, number: u64) -> Result<Operation, Error> {
        let index = number as usize % self.sizes.len().max(1);
        let mark = number + 1;
        self.each_word(index, |first, second, offset| {
            let (a, b) = match self.kind {
                Kind::Compare => (mark, mark),
                _ => (mark, 0),
            };
            queue.write_u64(first, offset, a)?;
            queue.write_u64(second, offset, b)
        })?;
        for &element in &self.elements {
            queue.arm(element)?;
        }
        Ok(match self.kind {
            Kind::Noop => Operation::Noop,
            Kind::Memmove => self.memmove(index)?,
            Kind::Memfill => {
                Operation::Memfill { pattern: mark, destination: self.span(self.second, index)? }
            }
            Kind::Compare => Operation::Compare {
                first: self.span(self.first, index)?,
                second: self.span(self.second, index)?,
            },
            Kind::Batch => Operation::Batch(*self.batches.get(index).ok_or_else(missing)?),
        })
    }

    /// Whether the completed operation succeeded and left what it should.
    pub(crate) fn is_right(
        &self,
        queue: &WorkQueue,
        number: u64,
        completion: &DsaCompletion,
    ) -> Result<bool, Error> {
        let mut right = completion.status & STATUS_MASK == status::SUCCESS;
        for &element in &self.elements {
            let element = queue.completion(element)?;
            right &= element.is_some_and(|c| c.status & STATUS_MASK == status::SUCCESS);
        }
        let index = number as usize % self.sizes.len().max(1);
        match self.kind {
            Kind::Noop => {}
            Kind::Compare => right &= completion.result == 0,
            Kind::Memmove | Kind::Memfill | Kind::Batch => self.each_word(index, |_, second, offset| {
                right &= queue.read_u64(second, offset)? == number + 1;
                Ok(())
            })?,
        }
        Ok(right)
    }

    fn memmove(&self, index: usize) -> Result<Operation, Error> {
        let (source, destination) = (self.span(self.first, index)?, self.span(self.second, index)?);
        Ok(Operation::Memmove { source, destination })
    }

    fn span(&self, span: Option<Span>, index: usize) -> Result<Span, Error> {
        let bytes = *self.sizes.get(index).ok_or_else(missing)?;
        span.ok_or_else(missing)?.first(bytes as usize)
    }

    /// Calls `f` with the first and the last whole word of the operands; operands under eight bytes have none.
    fn each_word(
        &self,
        index: usize,
        mut f: impl FnMut(Span, Span, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (Some(first), Some(second), Some(&bytes)) = (self.first, self.second, self.sizes.get(index))
        else {
            return Ok(());
        };
        let words = bytes as usize / 8;
        if words > 0 {
            f(first, second, 0)?;
        }
        if words > 1 {
            f(first, second, 8 * (words - 1))?;
        }
        Ok(())
    }
}

fn missing() -> Error {
    Error::Invalid { operation: "preparing an operation", problem: "it has no operands".into() }
}

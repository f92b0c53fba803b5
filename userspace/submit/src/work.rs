//! What a descriptor asks for, in handles instead of addresses.
//!
//! Owns: the encoding of each operation. Refuses: memory that is not a handle's.

use dsascope_common::hw::descriptor::{Descriptor, flags, opcode};

use crate::{Error, Record, Span};

/// An operation and the completion record it asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    pub operation: Operation,
    /// `None`: no completion record is requested, and its end cannot be seen.
    pub record: Option<Record>,
}

/// Lengths are those of the spans; spans of one operation are equally long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    Noop,
    Memmove { source: Span, destination: Span },
    Memfill { pattern: u64, destination: Span },
    Compare { first: Span, second: Span },
    Batch(Batch),
}

/// A descriptor list in the queue's memory; made by [`crate::WorkQueue::batch`] and never changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch {
    pub(crate) queue: u64,
    pub(crate) list: u64,
    pub(crate) descriptors: u32,
}

impl Work {
    /// The 64 bytes for the portal or a batch's list.
    pub(crate) fn descriptor(&self) -> Result<Descriptor, Error> {
        let (code, source, destination, transfer_size) = match self.operation {
            Operation::Noop => (opcode::NOOP, 0, 0, 0),
            Operation::Memmove { source, destination } => {
                (opcode::MEMMOVE, source.address, destination.address, equal("memmove", source, destination)?)
            }
            Operation::Memfill { pattern, destination } => {
                (opcode::MEMFILL, pattern, destination.address, length("memfill", destination)?)
            }
            Operation::Compare { first, second } => {
                (opcode::COMPARE, first.address, second.address, equal("compare", first, second)?)
            }
            Operation::Batch(batch) => (opcode::BATCH, batch.list, 0, batch.descriptors),
        };
        let requested = if self.record.is_some() { flags::CRAV | flags::RCR } else { 0 };
        let descriptor = Descriptor {
            completion_addr: self.record.map_or(0, |record| record.address),
            source,
            destination,
            transfer_size,
            ..Descriptor::default()
        };
        Ok(descriptor.with(code, requested))
    }

    /// Whether every handle belongs to this queue.
    pub(crate) fn belongs_to(&self, queue: u64) -> bool {
        let operands = match self.operation {
            Operation::Noop => true,
            Operation::Memfill { destination, .. } => destination.queue == queue,
            Operation::Memmove { source: a, destination: b } | Operation::Compare { first: a, second: b } => {
                a.queue == queue && b.queue == queue
            }
            Operation::Batch(batch) => batch.queue == queue,
        };
        operands && self.record.is_none_or(|record| record.queue == queue)
    }
}

fn length(operation: &'static str, span: Span) -> Result<u32, Error> {
    match u32::try_from(span.bytes) {
        Ok(bytes) if bytes > 0 => Ok(bytes),
        _ => Err(Error::Invalid { operation, problem: format!("a span of {} bytes", span.bytes) }),
    }
}

fn equal(operation: &'static str, a: Span, b: Span) -> Result<u32, Error> {
    if a.bytes != b.bytes {
        let problem = format!("spans of {} and {} bytes", a.bytes, b.bytes);
        return Err(Error::Invalid { operation, problem });
    }
    length(operation, a)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Presence;

    const QUEUE: u64 = 7;

    fn span(address: u64, bytes: usize) -> Span {
        Span { queue: QUEUE, address, bytes }
    }

    #[test]
    fn memmove_carries_addresses_size_and_a_requested_record() {
        let record = Record { queue: QUEUE, address: 0x4000, watch: None, presence: Presence::Unmapped };
        let operation = Operation::Memmove { source: span(0x1000, 256), destination: span(0x2000, 256) };
        let d = Work { operation, record: Some(record) }.descriptor().unwrap();
        assert_eq!((d.opcode(), d.flags()), (3, 0x0c));
        assert_eq!(
            (d.source, d.destination, d.transfer_size, d.completion_addr),
            (0x1000, 0x2000, 256, 0x4000)
        );
    }

    #[test]
    fn without_a_record_nothing_is_requested() {
        let d = Work { operation: Operation::Noop, record: None }.descriptor().unwrap();
        assert_eq!(d, Descriptor::default());
    }

    #[test]
    fn spans_must_be_equally_long_and_not_empty() {
        let unequal = Operation::Compare { first: span(0x1000, 64), second: span(0x2000, 32) };
        assert!(Work { operation: unequal, record: None }.descriptor().is_err());
        let empty = Operation::Memfill { pattern: 1, destination: span(0x1000, 0) };
        assert!(Work { operation: empty, record: None }.descriptor().is_err());
    }

    #[test]
    fn foreign_handles_are_recognised() {
        let mut other = span(0x2000, 64);
        other.queue = QUEUE + 1;
        let work = Work { operation: Operation::Memfill { pattern: 0, destination: other }, record: None };
        assert!(!work.belongs_to(QUEUE));
        assert!(work.belongs_to(QUEUE + 1));
    }
}

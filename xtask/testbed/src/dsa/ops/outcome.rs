//! How an operation ended, and the completion record that says so.

use dsascope_common::hw::completion::{STATUS_WRITE_FAULT, status};

use super::super::model::Kind;
use super::memory::Fault;

/// The fields of a completion record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Outcome {
    pub(in super::super) status: u8,
    /// IAA: the error code.
    pub(in super::super) result: u8,
    /// Bytes, or a batch's descriptors.
    pub(in super::super) completed: u32,
    pub(in super::super) fault_addr: u64,
    /// With status 0x11.
    pub(in super::super) invalid_flags: u32,
    /// From byte 16 on: two words in a DSA record, six in an IAA record.
    pub(in super::super) operation_specific: [u64; 6],
}

impl Outcome {
    pub(in super::super) const fn new(status: u8) -> Self {
        Self { status, result: 0, completed: 0, fault_addr: 0, invalid_flags: 0, operation_specific: [0; 6] }
    }

    pub(in super::super) fn good(&self) -> bool {
        matches!(self.status, status::SUCCESS | status::SUCCESS_PRED)
    }

    /// All `bytes` are done.
    pub(super) const fn done(bytes: u32) -> Self {
        let mut outcome = Self::new(status::SUCCESS);
        outcome.completed = bytes;
        outcome
    }

    /// A partial completion: page fault after `completed` bytes.
    pub(super) fn faulted(fault: Fault, completed: u64) -> Self {
        let write = if fault.write { STATUS_WRITE_FAULT } else { 0 };
        Self {
            completed: completed as u32,
            fault_addr: fault.address,
            ..Self::new(status::PAGE_FAULT_NOBOF | write)
        }
    }

    /// The same with the first operation-specific words.
    pub(super) fn with<const N: usize>(mut self, words: [u64; N]) -> Self {
        self.operation_specific.iter_mut().zip(words).for_each(|(to, word)| *to = word);
        self
    }

    /// A completion record, `kind.cr_bytes()` long.
    pub(in super::super) fn record(&self, kind: Kind) -> Vec<u8> {
        let mut bytes = vec![self.status, self.result, 0, 0];
        bytes.extend_from_slice(&self.completed.to_le_bytes());
        bytes.extend_from_slice(&self.fault_addr.to_le_bytes());
        let mut words = self.operation_specific;
        words[0] |= u64::from(self.invalid_flags);
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        bytes.resize(kind.cr_bytes(), 0);
        bytes
    }
}

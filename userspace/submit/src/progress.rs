//! One DSA operation on its way through partial completions to its end.
//!
//! Owns: what all parts together say, which for a created delta record is not what the last one says. Pure; see [`crate::resume`].
//! Refuses: batches, which are resumed by [`crate::resume`] and [`crate::last_of_batch`] alone.

use dsascope_common::hw::completion::{DsaCompletion, STATUS_MASK, status};
use dsascope_common::hw::descriptor::{Descriptor, flags, opcode};
use dsascope_common::hw::operation::{CreateDelta, delta};

use crate::{reference::Expected, resume};

#[derive(Clone, Copy, Debug)]
pub struct Progress {
    descriptor: Descriptor,
    completed: u32,
    record_bytes: u32,
}

/// What follows from a completion record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A page was missing: make it present, then submit [`Progress::descriptor`].
    Resume { fault_addr: u64, write: bool },
    /// All is done, with what one completion record would have said.
    Done(Expected),
    /// A page was missing, and no descriptor can ask for the rest.
    Stuck,
}

/// A part of a delta record, whose offsets must be made to count from the first part's start: see [`crate::rebase_delta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaPart {
    pub address: u64,
    pub bytes: u32,
    /// Bytes that had been compared before this part.
    pub compared: u32,
}

impl Progress {
    #[must_use]
    pub const fn new(descriptor: Descriptor) -> Self {
        Self { descriptor, completed: 0, record_bytes: 0 }
    }

    /// What is to be submitted.
    #[must_use]
    pub const fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The part of a delta record that the completion tells of; to be asked for before it is taken.
    #[must_use]
    pub fn delta_part(&self, c: &DsaCompletion) -> Option<DeltaPart> {
        let bytes = c.delta_record_bytes();
        let address = CreateDelta::from_words(&self.descriptor.operation_specific).record_addr;
        let part = DeltaPart { address, bytes, compared: self.completed };
        (self.descriptor.opcode() == opcode::CR_DELTA && bytes > 0).then_some(part)
    }

    /// Takes a completion of [`Progress::descriptor`] in.
    pub fn take(&mut self, c: &DsaCompletion) -> Step {
        let create = self.descriptor.opcode() == opcode::CR_DELTA;
        self.completed = self.completed.saturating_add(c.bytes_completed);
        if create {
            self.record_bytes = self.record_bytes.saturating_add(c.delta_record_bytes());
        }
        if !matches!(c.status & STATUS_MASK, status::PAGE_FAULT_NOBOF) {
            return Step::Done(self.end(c, create));
        }
        match resume(&self.descriptor, c) {
            Some(rest) => {
                self.descriptor = rest;
                Step::Resume { fault_addr: c.fault_addr, write: c.status & !STATUS_MASK != 0 }
            }
            None => Step::Stuck,
        }
    }

    fn end(&self, c: &DsaCompletion, create: bool) -> Expected {
        let mut end = Expected { completed: self.completed, ..Expected::from(c) };
        if create && matches!(end.status, status::SUCCESS | status::SUCCESS_PRED) {
            end.words[0] = u64::from(self.record_bytes);
            // "Equal" is said of the last part; the status judges that, so a checked result is judged anew.
            if end.result == delta::RESULT_EQUAL && self.record_bytes > 0 {
                end.result = delta::RESULT_DIFFERENT;
            }
            let expected = CreateDelta::from_words(&self.descriptor.operation_specific).expected_results;
            let checked = self.descriptor.flags() & flags::CHECK_RESULT != 0;
            let unexpected = checked && expected >> end.result & 1 == 0;
            end.status = if unexpected { status::SUCCESS_PRED } else { status::SUCCESS };
        }
        end
    }
}

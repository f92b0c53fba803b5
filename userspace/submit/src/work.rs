//! What is submitted: an operation's descriptor and the completion record that it asks for.
//!
//! Owns: how a record is asked for. Refuses: judging a descriptor; the device does that.

use dsascope_common::hw::descriptor::{Descriptor, flags, opcode};

use crate::Record;

/// An operation and the completion record it asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Without record; its operands lie in memory of the queue that it is submitted to.
    pub descriptor: Descriptor,
    /// `None`: no completion record is requested, and its end cannot be seen.
    pub record: Option<Record>,
    /// With a record: whether it is asked for also when all went well.
    pub requested: bool,
}

impl Work {
    #[must_use]
    pub fn new(descriptor: Descriptor, record: Record) -> Self {
        Self { descriptor, record: Some(record), requested: true }
    }

    /// An operation without operands: noop or drain.
    #[must_use]
    pub fn plain(code: u8, record: Record) -> Self {
        Self::new(Descriptor::default().with(code, 0), record)
    }

    /// The 64 bytes for the portal or a batch's list.
    pub(crate) fn bytes(&self) -> Descriptor {
        let mut asked = self.descriptor.flags() & !(flags::CRAV | flags::RCR);
        if self.record.is_some() {
            asked |= flags::CRAV | if self.requested { flags::RCR } else { 0 };
        }
        let completion_addr = self.record.map_or(0, |record| record.address);
        Descriptor { completion_addr, ..self.descriptor }.with(self.descriptor.opcode(), asked)
    }

    pub(crate) const fn is_batch(&self) -> bool {
        self.descriptor.opcode() == opcode::BATCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Presence;

    const RECORD: Record = Record { queue: 7, address: 0x4000, watch: None, presence: Presence::Unmapped };

    #[test]
    fn a_requested_record_has_its_address_and_both_flags() {
        let d = Descriptor { source: 0x1000, ..Descriptor::default() }.with(opcode::MEMMOVE, flags::FENCE);
        let sent = Work::new(d, RECORD).bytes();
        assert_eq!((sent.opcode(), sent.flags(), sent.completion_addr), (3, 0x0d, 0x4000));
        let on_error_alone = Work { requested: false, ..Work::new(d, RECORD) }.bytes();
        assert_eq!((on_error_alone.flags(), on_error_alone.completion_addr), (0x05, 0x4000));
    }

    #[test]
    fn without_a_record_nothing_is_requested() {
        let asks = Descriptor::default().with(opcode::NOOP, flags::CRAV | flags::RCR);
        let sent = Work { descriptor: asks, record: None, requested: true }.bytes();
        assert_eq!(sent, Descriptor::default());
    }
}

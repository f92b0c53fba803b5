//! Which memory a descriptor names: what a device may read and write on its behalf.
//!
//! Owns: addresses and sizes of each operation's operands, batches' lists aside. Pure. Refuses, by `None`: operations that it does not know
//! and operands that wrap; whoever submits such a descriptor cannot say what the device will touch.

use dsascope_common::hw::descriptor::{Descriptor, opcode};
use dsascope_common::hw::operation::{Crc, CreateDelta, Dif, Iax, crc, dif};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    pub address: u64,
    pub bytes: u64,
    pub access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

impl Operand {
    /// Pages that it lies on.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        const PAGE: u64 = crate::PAGE as u64;
        if self.bytes == 0 { 0 } else { (self.address % PAGE + self.bytes).div_ceil(PAGE) }
    }
}

/// The operands in the order of the descriptor's fields.
#[must_use]
pub fn operands(d: &Descriptor) -> Option<Vec<Operand>> {
    let size = u64::from(d.transfer_size);
    let read = |address, bytes| Operand { address, bytes, access: Access::Read };
    let write = |address, bytes| Operand { address, bytes, access: Access::Write };
    let own = d.operation_specific;
    let all = match d.opcode() {
        opcode::NOOP | opcode::DRAIN => vec![],
        opcode::MEMMOVE => vec![read(d.source, size), write(d.destination, size)],
        opcode::MEMFILL => vec![write(d.destination, size)],
        opcode::COMPARE => vec![read(d.source, size), read(d.destination, size)],
        opcode::COMPVAL | opcode::TRANSL_FETCH | opcode::IAX_CRC64 => vec![read(d.source, size)],
        opcode::CFLUSH => vec![read(d.destination, size)],
        opcode::CR_DELTA => {
            let own = CreateDelta::from_words(&own);
            let record = write(own.record_addr, u64::from(own.max_record_bytes));
            vec![read(d.source, size), read(d.destination, size), record]
        }
        opcode::AP_DELTA => vec![read(d.source, own[0] & 0xffff_ffff), write(d.destination, size)],
        opcode::DUALCAST => vec![read(d.source, size), write(d.destination, size), write(own[0], size)],
        opcode::CRCGEN | opcode::COPY_CRC => {
            let mut all = vec![read(d.source, size)];
            if d.opcode() == opcode::COPY_CRC {
                all.push(write(d.destination, size));
            }
            if d.flags() & crc::FLAG_READ_SEED != 0 {
                all.push(read(Crc::from_words(&own).seed_addr, 4));
            }
            all
        }
        opcode::DIF_CHECK => vec![read(d.source, size)],
        opcode::DIF_INS | opcode::DIF_STRP | opcode::DIF_UPDT | opcode::DIX_GEN => {
            let (from, to) = dif_steps(d.opcode(), Dif::from_words(&own).block_bytes());
            vec![
                read(d.source, size),
                write(d.destination, size.div_ceil(u64::from(from)).checked_mul(u64::from(to))?),
            ]
        }
        opcode::IAX_COMPRESS | opcode::IAX_DECOMPRESS => {
            let own = Iax::from_words(&own);
            let output = write(d.destination, u64::from(own.max_destination_bytes));
            vec![read(d.source, size), output, read(own.source2, u64::from(own.source2_bytes))]
        }
        _ => return None,
    };
    all.iter().all(|operand| operand.address.checked_add(operand.bytes).is_some()).then_some(all)
}

/// Bytes that a DIF operation reads and writes for one block of data.
pub(crate) const fn dif_steps(op: u8, block: u32) -> (u32, u32) {
    match op {
        opcode::DIF_CHECK => (block + dif::BYTES, 0),
        opcode::DIF_INS => (block, block + dif::BYTES),
        opcode::DIX_GEN => (block, dif::BYTES),
        opcode::DIF_STRP => (block + dif::BYTES, block),
        _ => (block + dif::BYTES, block + dif::BYTES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(op: u8) -> Descriptor {
        let d =
            Descriptor { source: 0x1000, destination: 0x3000, transfer_size: 1024, ..Descriptor::default() };
        d.with(op, 0)
    }

    #[test]
    fn a_dif_operation_writes_more_or_less_than_it_reads() {
        let written = |op| operands(&descriptor(op)).unwrap()[1].bytes;
        assert_eq!(written(opcode::DIF_INS), 1040);
        assert_eq!(written(opcode::DIX_GEN), 16);
    }

    #[test]
    fn what_is_not_known_or_wraps_has_no_operands() {
        assert_eq!(operands(&descriptor(opcode::BATCH)), None);
        assert_eq!(operands(&descriptor(0x77)), None);
        let end = Descriptor { source: u64::MAX - 100, ..descriptor(opcode::MEMMOVE) };
        assert_eq!(operands(&end), None);
    }

    #[test]
    fn pages_are_counted_by_where_an_operand_lies() {
        let operand = |address, bytes| Operand { address, bytes, access: Access::Read };
        assert_eq!(operand(0x1000, 4096).pages(), 1);
        assert_eq!(operand(0x1fff, 2).pages(), 2);
        assert_eq!(operand(0x1000, 0).pages(), 0);
    }
}

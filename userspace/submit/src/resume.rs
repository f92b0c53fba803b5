//! Going on after a partial completion (idxd-facts section 6.2): which descriptor does the rest.
//!
//! Pure: descriptor and completion record in, descriptor out; making the page at the fault address present is the caller's.
//! Refuses, by `None`: a record that is no partial completion or that claims more than was asked, operations that cannot be resumed,
//! and rests that no descriptor can hold (a batch of one, see [`last_of_batch`]; a delta record with less than 80 bytes of room).
//! What a resumed descriptor reports is about its part: a comparison's offset and bytes completed count from the part's start, and a
//! creation of a delta record that ends "equal" may follow parts that were not (see [`rebase_delta`]).

use dsascope_common::hw::completion::{DsaCompletion, IaxCompletion, STATUS_MASK, status};
use dsascope_common::hw::descriptor::{Descriptor, opcode};
use dsascope_common::hw::operation::{Crc, CreateDelta, Dif, crc, delta};

use crate::operands::dif_steps;

const DESCRIPTOR_BYTES: u64 = 64;

/// The rest of a DSA operation or of a batch.
#[must_use]
pub fn resume(descriptor: &Descriptor, completion: &DsaCompletion) -> Option<Descriptor> {
    let (op, completed) = (descriptor.opcode(), completion.bytes_completed);
    if op == opcode::BATCH {
        let count = batch_rest(descriptor, completion)?;
        let source = batch_list(descriptor, completion)?;
        return (count >= 2).then_some(Descriptor { source, transfer_size: count, ..*descriptor });
    }
    if !is_page_fault(completion.status) {
        return None;
    }
    let mut rest = *descriptor;
    if op == opcode::AP_DELTA {
        let record_bytes = (descriptor.operation_specific[0] as u32).checked_sub(completed)?;
        rest.operation_specific[0] = u64::from(record_bytes);
        rest.source = on(rest.source, completed)?;
        return (record_bytes > 0).then_some(rest);
    }
    rest.transfer_size = descriptor.transfer_size.checked_sub(completed)?;
    match op {
        // From the end: what is left lies at the beginning.
        opcode::MEMMOVE if completion.result == 1 => {}
        opcode::MEMMOVE | opcode::COMPARE => {
            rest.source = on(rest.source, completed)?;
            rest.destination = on(rest.destination, completed)?;
        }
        opcode::MEMFILL | opcode::CFLUSH => rest.destination = on(rest.destination, completed)?,
        opcode::COMPVAL | opcode::TRANSL_FETCH => rest.source = on(rest.source, completed)?,
        opcode::DUALCAST => {
            rest.source = on(rest.source, completed)?;
            rest.destination = on(rest.destination, completed)?;
            rest.operation_specific[0] = on(rest.operation_specific[0], completed)?;
        }
        opcode::CRCGEN | opcode::COPY_CRC => {
            rest.source = on(rest.source, completed)?;
            if op == opcode::COPY_CRC {
                rest.destination = on(rest.destination, completed)?;
            }
            // Nothing was done: the seed may be what was not there.
            if completed > 0 {
                rest.operation_specific = Crc { seed: completion.crc(), seed_addr: 0 }.words();
                rest = rest.with(op, rest.flags() & !crc::FLAG_READ_SEED);
            }
        }
        opcode::CR_DELTA => {
            let written = completion.delta_record_bytes();
            let mut own = CreateDelta::from_words(&rest.operation_specific);
            own.record_addr = on(own.record_addr, written)?;
            own.max_record_bytes = own.max_record_bytes.checked_sub(written)?;
            if own.max_record_bytes < delta::MIN_RECORD_BYTES {
                return None;
            }
            rest.operation_specific = own.words();
            rest.source = on(rest.source, completed)?;
            rest.destination = on(rest.destination, completed)?;
        }
        opcode::DIF_CHECK | opcode::DIF_INS | opcode::DIF_STRP | opcode::DIF_UPDT | opcode::DIX_GEN => {
            let mut own = Dif::from_words(&rest.operation_specific);
            rest.source = on(rest.source, completed)?;
            if let Some(written) = dif_written(op, own.block_bytes(), completed)? {
                rest.destination = on(rest.destination, written)?;
            }
            if matches!(op, opcode::DIF_CHECK | opcode::DIF_STRP | opcode::DIF_UPDT) {
                own.source = completion.source_tags();
            }
            if matches!(op, opcode::DIF_INS | opcode::DIX_GEN | opcode::DIF_UPDT) {
                own.destination = completion.destination_tags();
            }
            rest.operation_specific = own.words();
        }
        _ => return None,
    }
    (rest.transfer_size > 0).then_some(rest)
}

/// The address of the one descriptor that a batch has left: it must be submitted by itself, since a batch has at least two.
#[must_use]
pub fn last_of_batch(batch: &Descriptor, completion: &DsaCompletion) -> Option<u64> {
    let count = batch_rest(batch, completion)?;
    let list = batch_list(batch, completion)?;
    (count == 1).then_some(list)
}

/// IAA tells nothing to go on with, so the same descriptor is submitted again. The caller must restore its second source if the
/// descriptor lets the device write that.
#[must_use]
pub fn resume_iax(descriptor: &Descriptor, completion: &IaxCompletion) -> Option<Descriptor> {
    is_page_fault(completion.status).then_some(*descriptor)
}

/// Makes the offsets of a delta record's part, which a resumed creation wrote, count from the first part's start, `compared` bytes before:
/// then all parts together are one record. False, and a part that is of no use any more, when an offset cannot be told.
#[must_use]
pub fn rebase_delta(part: &mut [u8], compared: u32) -> bool {
    let Ok(by) = u16::try_from(compared / 8) else { return false };
    part.chunks_mut(delta::ENTRY_BYTES as usize).all(|entry| {
        let Some(bytes) = entry.first_chunk_mut::<2>() else { return false };
        let Some(offset) = u16::from_le_bytes(*bytes).checked_add(by) else { return false };
        *bytes = offset.to_le_bytes();
        true
    })
}

fn is_page_fault(code: u8) -> bool {
    matches!(code & STATUS_MASK, status::PAGE_FAULT_NOBOF | status::PAGE_FAULT_IR)
}

/// Descriptors that were not read.
fn batch_rest(batch: &Descriptor, completion: &DsaCompletion) -> Option<u32> {
    let fault =
        batch.opcode() == opcode::BATCH && completion.status & STATUS_MASK == status::BATCH_PAGE_FAULT;
    fault.then(|| batch.transfer_size.checked_sub(completion.bytes_completed)).flatten()
}

fn batch_list(batch: &Descriptor, completion: &DsaCompletion) -> Option<u64> {
    batch.source.checked_add(DESCRIPTOR_BYTES * u64::from(completion.bytes_completed))
}

/// An address `bytes` on; a descriptor's operands do not wrap.
fn on(address: u64, bytes: u32) -> Option<u64> {
    address.checked_add(u64::from(bytes))
}

/// Bytes that a DIF operation has written for whole blocks of `completed` bytes; the inner `None` if it writes none. The device counts
/// what it has read.
fn dif_written(op: u8, block: u32, completed: u32) -> Option<Option<u32>> {
    if op == opcode::DIF_CHECK {
        return Some(None);
    }
    let (from, to) = dif_steps(op, block);
    let blocks = completed.is_multiple_of(from).then_some(completed / from)?;
    Some(Some(blocks.checked_mul(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTIAL: DsaCompletion = DsaCompletion {
        status: status::PAGE_FAULT_NOBOF,
        result: 0,
        fault_info: 0,
        reserved: 0,
        bytes_completed: 0x40,
        fault_addr: 0,
        operation_specific: [0; 2],
    };

    fn descriptor(op: u8) -> Descriptor {
        let d =
            Descriptor { source: 0x1000, destination: 0x2000, transfer_size: 0x100, ..Descriptor::default() };
        d.with(op, 0)
    }

    #[test]
    fn a_memmove_goes_on_where_it_stopped_or_from_the_end() {
        let rest = resume(&descriptor(opcode::MEMMOVE), &PARTIAL).unwrap();
        assert_eq!((rest.source, rest.destination, rest.transfer_size), (0x1040, 0x2040, 0xc0));
        let backward = DsaCompletion { result: 1, status: 0x83, ..PARTIAL };
        let rest = resume(&descriptor(opcode::MEMMOVE), &backward).unwrap();
        assert_eq!((rest.source, rest.destination, rest.transfer_size), (0x1000, 0x2000, 0xc0));
    }

    #[test]
    fn the_value_so_far_is_the_next_seed() {
        let d = descriptor(opcode::CRCGEN).with(opcode::CRCGEN, crc::FLAG_READ_SEED);
        let seeded = Descriptor { operation_specific: [0, 0x3000, 0], ..d };
        let rest = resume(&seeded, &DsaCompletion { operation_specific: [77, 0], ..PARTIAL }).unwrap();
        assert_eq!((rest.operation_specific, rest.flags()), ([77, 0, 0], 0));
        let nothing = DsaCompletion { bytes_completed: 0, ..PARTIAL };
        assert_eq!(resume(&seeded, &nothing), Some(seeded), "the seed itself was not there");
    }

    #[test]
    fn a_batch_goes_on_unless_one_is_left() {
        let batch = Descriptor { transfer_size: 5, ..descriptor(opcode::BATCH) };
        let fault = |completed| DsaCompletion { status: 6, bytes_completed: completed, ..PARTIAL };
        let rest = resume(&batch, &fault(2)).unwrap();
        assert_eq!((rest.source, rest.transfer_size), (0x1080, 3));
        assert_eq!(last_of_batch(&batch, &fault(2)), None);
        assert_eq!((resume(&batch, &fault(4)), last_of_batch(&batch, &fault(4))), (None, Some(0x1100)));
        assert_eq!((resume(&batch, &fault(6)), last_of_batch(&batch, &fault(6))), (None, None));
        assert_eq!(resume(&batch, &PARTIAL), None, "a batch has a status of its own");
    }

    #[test]
    fn what_is_not_partial_is_not_resumed() {
        let done = DsaCompletion { status: status::SUCCESS, ..PARTIAL };
        assert_eq!(resume(&descriptor(opcode::MEMMOVE), &done), None);
        assert_eq!(resume(&descriptor(opcode::NOOP), &PARTIAL), None);
        let impossible = DsaCompletion { bytes_completed: 0x101, ..PARTIAL };
        assert_eq!(resume(&descriptor(opcode::MEMFILL), &impossible), None);
        let end = Descriptor { source: u64::MAX - 0x20, ..descriptor(opcode::MEMMOVE) };
        assert_eq!(resume(&end, &PARTIAL), None, "addresses do not wrap");
    }

    #[test]
    fn iaa_begins_again() {
        let d = descriptor(opcode::IAX_COMPRESS);
        let fault = IaxCompletion { status: 0x83, bytes_completed: 7, ..IaxCompletion::default() };
        assert_eq!(resume_iax(&d, &fault), Some(d));
        let overflow = IaxCompletion { status: status::IAX_OUTBUF_OVERFLOW, ..fault };
        assert_eq!(resume_iax(&d, &overflow), None);
    }

    #[test]
    fn parts_of_a_delta_record_are_rebased() {
        let mut part = [[1, 0, 9, 9, 9, 9, 9, 9, 9, 9], [0, 1, 8, 8, 8, 8, 8, 8, 8, 8]].concat();
        assert!(rebase_delta(&mut part, 0x800));
        assert_eq!((part[..2].to_vec(), part[10..12].to_vec(), part[2]), (vec![1, 1], vec![0, 2], 9));
        assert!(!rebase_delta(&mut part, 0x8_0000));
        assert!(!rebase_delta(&mut part[..11], 8), "half an entry");
    }
}

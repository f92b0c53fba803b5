//! What refuses a descriptor before anything is done: opcode, flags, reserved fields, sizes, alignment, overlap; in this order.
//!
//! Not modelled: traffic classes are not looked at; an interrupt handle without a requested interrupt is ignored;
//! sizes of delta records, AECS and destinations are not held against the WQ's limit, only the transfer size is.
//! Unverified: the order; that a privileged descriptor on a shared WQ without privileged mode is refused as such; that fields which
//! an operation has no use for are reserved; which flags go with which operation (from Intel's DML, with the common ones allowed
//! everywhere); DIF and delta sizes' statuses; that a DIF's update may not be in place.

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::{Descriptor, flags, opcode};
use dsascope_common::hw::operation::{
    ALL_RESERVED, CreateDelta, Dif, Iax, Words, compare, crc, delta, dif, dualcast, fill, iax,
    translation_fetch,
};
use dsascope_common::hw::regs::wqcfg;

use super::super::model::{Kind, VECTORS};
use super::{Context, Outcome};

/// Bits [30:20] beside the PASID.
const PASID_RESERVED: u32 = 0x7ff0_0000;
/// Bit 31 beside it. A dedicated WQ takes it from its own configuration, as it does the PASID.
const PRIVILEGED: u32 = 1 << 31;
const AECS_ALIGN: u64 = 32;

impl Context<'_> {
    pub(in super::super) fn check(&self, d: &Descriptor) -> Result<(), Outcome> {
        let op = d.opcode();
        let masked = self.config[8 + usize::from(op >> 5)] >> (op & 31) & 1 == 0;
        if !self.kind.operations().contains(&op) || masked || self.in_batch && op == opcode::BATCH {
            return Err(Outcome::new(status::BAD_OPCODE));
        }
        let mode = self.config[wqcfg::MODE];
        if mode & (wqcfg::MODE_DEDICATED | wqcfg::MODE_PRIV) == 0
            && !self.in_batch
            && d.pasid & PRIVILEGED != 0
        {
            return Err(Outcome::new(status::PRIV_BAD));
        }
        let mut invalid = d.flags() & !allowed_flags(self.kind, op);
        if d.flags() & flags::CRAV == 0 {
            invalid |= d.flags() & flags::RCR;
        }
        if mode & wqcfg::MODE_BLOCK_ON_FAULT == 0 {
            invalid |= d.flags() & flags::BLOCK_ON_FAULT;
        }
        if op == opcode::IAX_COMPRESS {
            invalid |= !d.flags() & iax::FLAG_READ_AECS;
        }
        if invalid != 0 {
            return Err(Outcome { invalid_flags: invalid, ..Outcome::new(status::INVALID_FLAGS) });
        }
        if d.flags() & flags::CRAV != 0 && !d.completion_addr.is_multiple_of(self.kind.cr_bytes() as u64) {
            return Err(Outcome::new(status::CRA_ALIGN));
        }
        if d.flags() & flags::RCI != 0 && d.interrupt_handle >= VECTORS {
            return Err(Outcome::new(status::INT_HANDLE_INVAL));
        }
        reserved(d).and_then(|()| self.sizes(d)).and_then(|()| operands(d)).map_err(Outcome::new)
    }

    fn sizes(&self, d: &Descriptor) -> Result<(), u8> {
        let limits = self.config[wqcfg::LIMITS];
        let (least, log2, error) = match d.opcode() {
            opcode::NOOP | opcode::DRAIN => return Ok(()),
            opcode::BATCH => (2, limits >> wqcfg::LIMITS_BATCH_SHIFT & 0xf, status::DESC_CNT_ERANGE),
            _ => (1, limits & 0x1f, status::XFER_ERANGE),
        };
        demand((least..=1u64 << log2).contains(&u64::from(d.transfer_size)), error)
    }
}

fn demand(good: bool, otherwise: u8) -> Result<(), u8> {
    if good { Ok(()) } else { Err(otherwise) }
}

fn reserved(d: &Descriptor) -> Result<(), u8> {
    let own = d.operation_specific.iter().zip(reserved_words(d)).all(|(word, mask)| word & mask == 0);
    let op = d.opcode();
    let unused_source = matches!(op, opcode::NOOP | opcode::CFLUSH) && d.source != 0;
    let unused_destination = matches!(
        op,
        opcode::NOOP
            | opcode::BATCH
            | opcode::TRANSL_FETCH
            | opcode::CRCGEN
            | opcode::DIF_CHECK
            | opcode::IAX_CRC64
    ) && d.destination != 0;
    let unused_size = op == opcode::NOOP && d.transfer_size != 0;
    let flags = matches!(op, opcode::IAX_COMPRESS | opcode::IAX_DECOMPRESS | opcode::IAX_CRC64);
    demand(
        own && !unused_source
            && !unused_destination
            && !unused_size
            && (flags || d.reserved == 0)
            && d.pasid & PASID_RESERVED == 0,
        status::NOZERO_RESERVE,
    )
}

fn reserved_words(d: &Descriptor) -> Words {
    match d.opcode() {
        opcode::MEMFILL if d.flags() & fill::FLAG_PATTERN_16 != 0 => fill::RESERVED_16,
        opcode::COMPARE | opcode::COMPVAL => compare::RESERVED,
        opcode::CR_DELTA => CreateDelta::RESERVED,
        opcode::AP_DELTA => delta::APPLY_RESERVED,
        opcode::DUALCAST => dualcast::RESERVED,
        opcode::TRANSL_FETCH => translation_fetch::RESERVED,
        opcode::CRCGEN | opcode::COPY_CRC if d.flags() & crc::FLAG_READ_SEED != 0 => crc::RESERVED_READ_SEED,
        opcode::CRCGEN | opcode::COPY_CRC => crc::RESERVED,
        opcode::DIF_CHECK | opcode::DIF_STRP => dif::RESERVED_SOURCE,
        opcode::DIF_INS | opcode::DIX_GEN => dif::RESERVED_DESTINATION,
        opcode::DIF_UPDT => dif::RESERVED_UPDATE,
        opcode::IAX_CRC64 => iax::CRC64_RESERVED,
        // Their fields have checks of their own; a drain's are the engine's.
        opcode::IAX_COMPRESS | opcode::IAX_DECOMPRESS | opcode::DRAIN => [0; 3],
        _ => ALL_RESERVED,
    }
}

/// What an operation asks of its operands, beyond a transfer size that the WQ allows.
fn operands(d: &Descriptor) -> Result<(), u8> {
    let size = d.transfer_size;
    let aligned = |addresses: &[u64]| demand(addresses.iter().all(|a| a % 8 == 0), status::ADDR_ALIGN);
    let apart = |pairs: &[[(u64, u32); 2]]| {
        demand(pairs.iter().all(|[a, b]| !overlap(*a, *b)), status::OVERLAP_BUFFERS)
    };
    let (source, destination) = ((d.source, size), (d.destination, size));
    match d.opcode() {
        opcode::BATCH => demand(d.source.is_multiple_of(64), status::DESCLIST_ALIGN),
        opcode::CR_DELTA => {
            let own = CreateDelta::from_words(&d.operation_specific);
            let record = (own.record_addr, own.max_record_bytes);
            delta_transfer(size)?;
            demand(own.max_record_bytes >= delta::MIN_RECORD_BYTES, status::DR_ERANGE)?;
            aligned(&[d.source, d.destination, own.record_addr])?;
            apart(&[[source, record], [destination, record]])
        }
        opcode::AP_DELTA => {
            let record_bytes = d.operation_specific[0] as u32;
            delta_transfer(size)?;
            let whole = record_bytes > 0 && record_bytes.is_multiple_of(delta::ENTRY_BYTES);
            demand(whole, status::DR_ERANGE)?;
            aligned(&[d.source, d.destination])?;
            apart(&[[(d.source, record_bytes), destination]])
        }
        opcode::DUALCAST => {
            let second = (d.operation_specific[0], size);
            demand((d.destination ^ second.0) & 0xfff == 0, status::DCAST_ERR)?;
            apart(&[[source, destination], [source, second], [destination, second]])
        }
        opcode::COPY_CRC => apart(&[[source, destination]]),
        opcode::DIF_CHECK | opcode::DIF_INS | opcode::DIF_STRP | opcode::DIF_UPDT | opcode::DIX_GEN => {
            let own = Dif::from_words(&d.operation_specific);
            let (source_step, destination_step) = super::dif::steps(d.opcode(), &own);
            demand(size.is_multiple_of(source_step), status::XFER_ERANGE)?;
            let written = u64::from(size / source_step) * u64::from(destination_step);
            let written = u32::try_from(written).map_err(|_| status::XFER_ERANGE)?;
            if d.opcode() == opcode::DIF_CHECK {
                Ok(())
            } else {
                apart(&[[source, (d.destination, written)]])
            }
        }
        opcode::IAX_COMPRESS => {
            let own = Iax::from_words(&d.operation_specific);
            let known = iax::COMPRESS_FLUSH_OUTPUT | iax::COMPRESS_END | iax::COMPRESS_LITERALS_ONLY;
            let flags = d.reserved;
            let modelled = flags & !known == 0 && flags & iax::COMPRESS_FLUSH_OUTPUT != 0;
            demand(modelled, status::IAX_INVALID_COMP_FLAG)?;
            iax_operands(d, &own)?;
            demand(own.source2_bytes as usize == iax::compress_aecs::BYTES, status::XFER_ERANGE)
        }
        opcode::IAX_DECOMPRESS => {
            let own = Iax::from_words(&d.operation_specific);
            let ends = iax::DECOMPRESS_FLUSH_OUTPUT | iax::DECOMPRESS_SUPPRESS_OUTPUT;
            let known = ends
                | iax::DECOMPRESS_ENABLE
                | iax::DECOMPRESS_STOP_ON_EOB
                | iax::DECOMPRESS_CHECK_FOR_EOB
                | iax::DECOMPRESS_FINAL_EOB;
            let has = |flags| d.reserved & flags != 0;
            let modelled = !has(!known) && has(iax::DECOMPRESS_ENABLE) && has(ends);
            demand(modelled, status::IAX_INVALID_COMP_FLAG)?;
            iax_operands(d, &own)?;
            let state = own.source2_bytes as usize;
            if d.flags() & iax::FLAG_READ_AECS == 0 {
                return demand(own.source2 == 0 && state == 0, status::NOZERO_RESERVE);
            }
            let whole = (1..=iax::decompress_aecs::MAX_BYTES).contains(&state) && state.is_multiple_of(32);
            demand(whole, status::XFER_ERANGE)
        }
        _ => Ok(()),
    }
}

fn delta_transfer(size: u32) -> Result<(), u8> {
    demand(size.is_multiple_of(8) && size <= delta::MAX_TRANSFER_BYTES, status::XFER_ERANGE)
}

/// Of compression and decompression alike.
fn iax_operands(d: &Descriptor, own: &Iax) -> Result<(), u8> {
    demand(own.filter_flags == 0, status::IAX_INVALID_FILTER_FLAG)?;
    demand(own.inputs == 0, status::NOZERO_RESERVE)?;
    demand(own.max_destination_bytes > 0, status::XFER_ERANGE)?;
    demand(own.source2.is_multiple_of(AECS_ALIGN), status::ADDR_ALIGN)?;
    let destination = (d.destination, own.max_destination_bytes);
    let apart = !overlap((d.source, d.transfer_size), destination)
        && !overlap((own.source2, own.source2_bytes), destination);
    demand(apart, status::OVERLAP_BUFFERS)
}

/// Whether two buffers, address and bytes, have a byte in common.
fn overlap(a: (u64, u32), b: (u64, u32)) -> bool {
    b.0.wrapping_sub(a.0) < u64::from(a.1) && b.1 > 0 || a.0.wrapping_sub(b.0) < u64::from(b.1) && a.1 > 0
}

fn allowed_flags(kind: Kind, op: u8) -> u32 {
    use flags::{
        ADDR1_TC, ADDR2_TC, ADDR3_TC, BLOCK_ON_FAULT, CACHE_CONTROL, CHECK_RESULT, CR_TC, CRAV, CRSTS,
        DESTINATION_READBACK, DESTINATION_STEERING, FENCE, RCI, RCR, STRICT_ORDER,
    };
    const ALL: u32 = BLOCK_ON_FAULT | CRAV | RCR | RCI | CRSTS | CR_TC;
    const WRITES: u32 =
        CACHE_CONTROL | STRICT_ORDER | DESTINATION_READBACK | DESTINATION_STEERING | ADDR1_TC | ADDR2_TC;
    const CRC: u32 =
        crc::FLAG_READ_SEED | crc::FLAG_BYPASS_INVERSION_AND_REFLECTION | crc::FLAG_BYPASS_DATA_REFLECTION;
    /// Readback addresses valid, implicit readbacks suppressed.
    const DRAIN: u32 = 0xf << 16;
    let own = match op {
        opcode::MEMMOVE
        | opcode::AP_DELTA
        | opcode::DIF_INS
        | opcode::DIF_STRP
        | opcode::DIF_UPDT
        | opcode::DIX_GEN
        | opcode::CFLUSH => WRITES,
        opcode::MEMFILL => WRITES | fill::FLAG_PATTERN_16,
        opcode::COMPARE => ADDR1_TC | ADDR2_TC | CHECK_RESULT,
        opcode::COMPVAL => ADDR1_TC | CHECK_RESULT,
        opcode::CR_DELTA => WRITES | ADDR3_TC | CHECK_RESULT,
        opcode::DUALCAST => WRITES | ADDR3_TC | dualcast::FLAG_STEERING_2,
        opcode::TRANSL_FETCH | opcode::DIF_CHECK | opcode::BATCH | opcode::IAX_CRC64 => ADDR1_TC,
        opcode::CRCGEN => ADDR1_TC | ADDR3_TC | CRC,
        opcode::COPY_CRC => WRITES | ADDR3_TC | CRC,
        opcode::DRAIN => ADDR1_TC | ADDR2_TC | DRAIN,
        opcode::IAX_COMPRESS | opcode::IAX_DECOMPRESS => {
            WRITES | ADDR3_TC | iax::FLAG_READ_AECS | iax::FLAG_CRC_RFC3720
        }
        _ => 0,
    };
    // IAA has no batches, and so no fences.
    let fence = if kind == Kind::Dsa && op != opcode::BATCH { FENCE } else { 0 };
    ALL | own | fence
}

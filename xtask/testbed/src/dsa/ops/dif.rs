//! Data integrity fields: check, insert, strip, update, and DIX generation, which writes the fields alone.
//!
//! A field follows each block of 512, 520, 4096 or 4104 bytes: guard (CRC-16 of T10, polynomial 0x8bb7), application tag and reference
//! tag, each big-endian. Blocks are checked and written one by one; bytes completed are the source's, and the record's tags are those of
//! the block that comes next, so that a resumed operation begins with them.
//! Unverified (idxd-facts has the fields' places only): flags, masks and result bits as in Intel's DML; that a set bit of an application
//! tag's mask leaves that bit out, both of a check and, as zero, of what is written; that the tags are in the record of a success too;
//! that a block which fails the check is not written.

use ::crc::{CRC_16_T10_DIF, Crc, Table};
use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::Descriptor;
use dsascope_common::hw::operation::{Dif, Tags, dif};

use super::memory::Fault;
use super::{Context, Outcome};

static GUARD: Crc<u16, Table<16>> = Crc::<u16, Table<16>>::new(&CRC_16_T10_DIF);

const FIELD: usize = dif::BYTES as usize;

/// A field as it lies behind its block.
#[derive(Clone, Copy)]
struct Field {
    guard: u16,
    application: u16,
    reference: u32,
}

impl Field {
    fn from_bytes(bytes: [u8; FIELD]) -> Self {
        let [g1, g0, a1, a0, r3, r2, r1, r0] = bytes;
        Self {
            guard: u16::from_be_bytes([g1, g0]),
            application: u16::from_be_bytes([a1, a0]),
            reference: u32::from_be_bytes([r3, r2, r1, r0]),
        }
    }

    fn bytes(self) -> [u8; FIELD] {
        let [[g1, g0], [a1, a0]] = [self.guard, self.application].map(u16::to_be_bytes);
        let [r3, r2, r1, r0] = self.reference.to_be_bytes();
        [g1, g0, a1, a0, r3, r2, r1, r0]
    }
}

/// Why an operation ended at a block.
enum Stop {
    Fault(Fault),
    /// Bits of the result.
    Mismatch(u8),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Context<'_> {
    pub(super) fn dif_check(&self, d: &Descriptor) -> Outcome {
        blocks(d, true, false, |own, from, _| self.checked_block(own, from).map(|_| ()))
    }

    pub(super) fn dif_insert(&self, d: &Descriptor) -> Outcome {
        blocks(d, false, true, |own, from, to| {
            let mut block = vec![0; own.block_bytes() as usize];
            self.read(from, &mut block)?;
            block.extend_from_slice(&generated(own, &block).bytes());
            Ok(self.write(to, &block)?)
        })
    }

    pub(super) fn dif_strip(&self, d: &Descriptor) -> Outcome {
        blocks(d, true, false, |own, from, to| {
            let (block, _) = self.checked_block(own, from)?;
            Ok(self.write(to, &block)?)
        })
    }

    pub(super) fn dif_update(&self, d: &Descriptor) -> Outcome {
        blocks(d, true, true, |own, from, to| {
            let (mut block, old) = self.checked_block(own, from)?;
            let mut new = generated(own, &block);
            if own.destination_flags & dif::DESTINATION_PASS_GUARD != 0 {
                new.guard = old.guard;
            }
            if own.destination_flags & dif::DESTINATION_PASS_APPLICATION != 0 {
                new.application = old.application;
            }
            if own.destination_flags & dif::DESTINATION_PASS_REFERENCE != 0 {
                new.reference = old.reference;
            }
            block.extend_from_slice(&new.bytes());
            Ok(self.write(to, &block)?)
        })
    }

    pub(super) fn dix_generate(&self, d: &Descriptor) -> Outcome {
        blocks(d, false, true, |own, from, to| {
            let mut block = vec![0; own.block_bytes() as usize];
            self.read(from, &mut block)?;
            Ok(self.write(to, &generated(own, &block).bytes())?)
        })
    }

    /// A block whose field is as expected, and the field.
    fn checked_block(&self, own: &Dif, from: u64) -> Result<(Vec<u8>, Field), Stop> {
        let mut block = vec![0; own.block_bytes() as usize];
        let mut field = [0; FIELD];
        self.read(from, &mut block)?;
        self.read(from.wrapping_add(block.len() as u64), &mut field)?;
        let field = Field::from_bytes(field);
        match mismatches(own, &block, field) {
            0 => Ok((block, field)),
            bits => Err(Stop::Mismatch(bits)),
        }
    }
}

/// Bytes that one block takes at the source and at the destination of an operation.
pub(super) fn steps(op: u8, own: &Dif) -> (u32, u32) {
    use dsascope_common::hw::descriptor::opcode::{DIF_INS, DIF_STRP, DIX_GEN};
    let block = own.block_bytes();
    let whole = block + dif::BYTES;
    match op {
        DIF_INS => (block, whole),
        DIX_GEN => (block, dif::BYTES),
        DIF_STRP => (whole, block),
        _ => (whole, whole),
    }
}

/// `each` with the tags of its block, the block's source and destination.
fn blocks(
    d: &Descriptor,
    has_source_tags: bool,
    has_destination_tags: bool,
    each: impl Fn(&Dif, u64, u64) -> Result<(), Stop>,
) -> Outcome {
    let mut own = Dif::from_words(&d.operation_specific);
    let (source_step, destination_step) = steps(d.opcode(), &own);
    let count = d.transfer_size / source_step;
    let end = (0..count).find_map(|block| {
        let from = d.source.wrapping_add(u64::from(block) * u64::from(source_step));
        let to = d.destination.wrapping_add(u64::from(block) * u64::from(destination_step));
        if let Err(stop) = each(&own, from, to) {
            let completed = block * source_step;
            return Some(match stop {
                Stop::Fault(fault) => Outcome::faulted(fault, u64::from(completed)),
                Stop::Mismatch(result) => Outcome { result, completed, ..Outcome::new(status::DIF_ERR) },
            });
        }
        advance(
            &mut own.source,
            own.source_flags & dif::SOURCE_FIXED_REFERENCE == 0,
            own.source_flags & dif::SOURCE_INCREMENT_APPLICATION != 0,
        );
        advance(
            &mut own.destination,
            own.destination_flags & dif::DESTINATION_FIXED_REFERENCE == 0,
            own.destination_flags & dif::DESTINATION_INCREMENT_APPLICATION != 0,
        );
        None
    });
    let told = |tags: Tags, is: bool| if is { tags.word() } else { 0 };
    end.unwrap_or(Outcome::done(d.transfer_size))
        .with([told(own.source, has_source_tags), told(own.destination, has_destination_tags)])
}

fn advance(tags: &mut Tags, reference: bool, application: bool) {
    tags.reference = tags.reference.wrapping_add(u32::from(reference));
    tags.application = tags.application.wrapping_add(u16::from(application));
}

fn guard(own: &Dif, block: &[u8]) -> u16 {
    let seed = if own.flags & dif::INVERT_CRC_SEED != 0 { 0xffff } else { 0 };
    let mut digest = GUARD.digest_with_initial(seed);
    digest.update(block);
    let crc = digest.finalize();
    if own.flags & dif::INVERT_CRC_RESULT != 0 { !crc } else { crc }
}

fn generated(own: &Dif, block: &[u8]) -> Field {
    let Tags { reference, application_mask, application } = own.destination;
    Field { guard: guard(own, block), application: application & !application_mask, reference }
}

/// Bits of the result.
fn mismatches(own: &Dif, block: &[u8], field: Field) -> u8 {
    let has = |flag| own.source_flags & flag != 0;
    let (application_f, reference_f) = (field.application == u16::MAX, field.reference == u32::MAX);
    let all_f = application_f && reference_f && field.guard == u16::MAX;
    if has(dif::SOURCE_ALL_F) && has(dif::SOURCE_ALL_F_ERROR) && all_f {
        return dif::ALL_F_DETECTED;
    }
    if has(dif::SOURCE_ALL_F) && all_f
        || has(dif::SOURCE_APPLICATION_F) && application_f
        || has(dif::SOURCE_APPLICATION_REFERENCE_F) && application_f && reference_f
    {
        return 0;
    }
    let mut bits = 0;
    if !has(dif::SOURCE_NO_GUARD_CHECK) && guard(own, block) != field.guard {
        bits |= dif::MISMATCH_GUARD;
    }
    if (own.source.application ^ field.application) & !own.source.application_mask != 0 {
        bits |= dif::MISMATCH_APPLICATION;
    }
    if !has(dif::SOURCE_NO_REFERENCE_CHECK) && own.source.reference != field.reference {
        bits |= dif::MISMATCH_REFERENCE;
    }
    bits
}

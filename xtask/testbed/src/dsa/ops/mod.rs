//! The operations themselves, against memory: one file a family, and the checks that come before any of them.
//!
//! Owns: what status, result, bytes completed, fault address and operation-specific fields an operation ends with (idxd-facts
//! sections 1.10 and 6.2). A partial completion is such that the arithmetic of `dsascope_submit::resume` continues it; where that needs
//! it, bytes completed are rounded down and the rest is done twice.
//! Not modelled: destination readback, cache control, steering tags and traffic classes are accepted without effect; the
//! completion record's fault information stays zero; page requests are the engine's. IAA's analytics (scan, set membership, extract,
//! select, RLE burst, find unique, expand, zero compression and decompression) are refused as bad opcodes.
//! Unverified, because idxd-facts is silent: see docs/operations.md, and "Unverified" at the top of each file.

mod cache;
mod check;
mod compare;
mod copy;
mod crc;
mod delta;
mod dif;
mod iax;
mod memory;
mod outcome;

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::{Descriptor, opcode};

pub(super) use outcome::Outcome;

use super::host::Dma;
use super::model::Kind;
use super::state::WQCFG_DWORDS;

/// Who executes: a device of `kind` for `pasid` on a WQ configured so.
pub(super) struct Context<'a> {
    pub(super) kind: Kind,
    pub(super) dma: &'a dyn Dma,
    pub(super) pasid: Option<u32>,
    pub(super) config: &'a [u32; WQCFG_DWORDS],
    /// The descriptor is an element of a batch.
    pub(super) in_batch: bool,
}

impl Context<'_> {
    /// Execute anything but a batch or a drain; the descriptor has passed [`Context::check`].
    pub(super) fn run(&self, d: &Descriptor) -> Outcome {
        match d.opcode() {
            opcode::NOOP => Outcome::new(status::SUCCESS),
            opcode::MEMMOVE => self.memmove(d),
            opcode::MEMFILL => self.memfill(d),
            opcode::COMPARE => self.compare(d),
            opcode::COMPVAL => self.compare_pattern(d),
            opcode::CR_DELTA => self.create_delta(d),
            opcode::AP_DELTA => self.apply_delta(d),
            opcode::DUALCAST => self.dualcast(d),
            opcode::TRANSL_FETCH => self.translation_fetch(d),
            opcode::CRCGEN => self.crc(d, false),
            opcode::COPY_CRC => self.crc(d, true),
            opcode::DIF_CHECK => self.dif_check(d),
            opcode::DIF_INS => self.dif_insert(d),
            opcode::DIF_STRP => self.dif_strip(d),
            opcode::DIF_UPDT => self.dif_update(d),
            opcode::DIX_GEN => self.dix_generate(d),
            opcode::CFLUSH => self.cache_flush(d),
            opcode::IAX_CRC64 => self.crc64(d),
            opcode::IAX_COMPRESS => self.compress(d),
            opcode::IAX_DECOMPRESS => self.decompress(d),
            _ => Outcome::new(status::BAD_OPCODE),
        }
    }
}

#[cfg(test)]
mod tests;

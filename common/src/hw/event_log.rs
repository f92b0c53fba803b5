//! Event-log entries: a 32-byte header, then the completion record to be delivered.
//! DSA: 64 bytes, record at 32. IAA: 128 bytes, record at 64.

use super::{PASID_MASK, bits, field};

pub const HEADER_BYTES: usize = 32;
pub const DSA_ENTRY_BYTES: usize = 64;
pub const IAX_ENTRY_BYTES: usize = 128;
pub const DSA_CR_OFFSET: usize = 32;
pub const IAX_CR_OFFSET: usize = 64;

/// The header, four qwords as they lie in memory. Accessors name the bits; nothing is checked here.
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EntryHeader {
    pub qwords: [u64; 4],
}

const _: () = assert!(size_of::<EntryHeader>() == HEADER_BYTES);

macro_rules! flag {
    ($($(#[$m:meta])* $get:ident, $set:ident: $qword:literal, $bit:literal;)*) => {$(
        $(#[$m])*
        #[inline]
        #[must_use]
        pub const fn $get(&self) -> bool {
            self.qwords[$qword] >> $bit & 1 == 1
        }
        #[inline]
        #[must_use]
        pub const fn $set(mut self, on: bool) -> Self {
            self.qwords[$qword] = self.qwords[$qword] & !(1 << $bit) | (on as u64) << $bit;
            self
        }
    )*};
}

macro_rules! number {
    ($($(#[$m:meta])* $get:ident, $set:ident: $ty:ty, $qword:literal, $hi:literal, $lo:literal;)*) => {$(
        $(#[$m])*
        #[inline]
        #[must_use]
        pub const fn $get(&self) -> $ty {
            bits(self.qwords[$qword], $hi, $lo) as $ty
        }
        #[inline]
        #[must_use]
        pub const fn $set(mut self, value: $ty) -> Self {
            self.qwords[$qword] = self.qwords[$qword] & !field(u64::MAX, $hi, $lo) | field(value as u64, $hi, $lo);
            self
        }
    )*};
}

impl EntryHeader {
    flag! {
        desc_valid, with_desc_valid: 0, 2;
        wq_idx_valid, with_wq_idx_valid: 0, 3;
        /// The descriptor was inside a batch.
        batch, with_batch: 0, 4;
        /// The fault was a write.
        fault_rw, with_fault_rw: 0, 5;
        privileged, with_privileged: 0, 6;
        err_info_valid, with_err_info_valid: 0, 7;
        /// A completion interrupt had been requested.
        rci, with_rci: 1, 48;
        ims, with_ims: 1, 49;
        /// A completion record had been requested.
        rcr, with_rcr: 1, 50;
        first_err_in_batch, with_first_err_in_batch: 1, 51;
    }
    number! {
        /// Compare after masking with [`super::completion::STATUS_MASK`].
        error, with_error: u8, 0, 15, 8;
        wq_idx, with_wq_idx: u8, 0, 23, 16;
        batch_id, with_batch_id: u8, 0, 31, 24;
        operation, with_operation: u8, 0, 39, 32;
        pasid, with_pasid: u32, 0, 59, 40;
        /// Index of the descriptor within its batch.
        batch_idx, with_batch_idx: u16, 1, 15, 0;
        /// For error 0x11.
        invalid_flags, with_invalid_flags: u32, 1, 63, 32;
        /// For errors 0x19, 0x1a, 0x26, 0x27.
        interrupt_handle, with_interrupt_handle: u16, 1, 47, 32;
        /// For errors 0x06, 0x1a, 0x1f.
        operand_id, with_operand_id: u8, 1, 63, 61;
        /// The completion record's address for errors 0x1a, 0x26, 0x27.
        fault_addr, with_fault_addr: u64, 2, 63, 0;
    }
}

const _: () = assert!(PASID_MASK == bits(u64::MAX, 59, 40) as u32);

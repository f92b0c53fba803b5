//! Hardware formats of DSA and IAA. All integers are little-endian; bit 0 is the least significant.

pub mod completion;
pub mod descriptor;
pub mod event_log;
pub mod operation;
pub mod page_request;
pub mod regs;

/// Bits `[hi:lo]` of `value`, as the register tables write them.
#[inline]
#[must_use]
pub const fn bits(value: u64, hi: u32, lo: u32) -> u64 {
    let width = hi - lo + 1;
    let mask = if width >= 64 { u64::MAX } else { (1 << width) - 1 };
    (value >> lo) & mask
}

/// `value` shifted to bits `[hi:lo]`; bits that do not fit are cut off.
#[inline]
#[must_use]
pub const fn field(value: u64, hi: u32, lo: u32) -> u64 {
    bits(value, hi - lo, 0) << lo
}

/// PASIDs have 20 bits.
pub const PASID_MASK: u32 = 0xf_ffff;

pub const VENDOR_INTEL: u16 = 0x8086;
pub const DEVICE_DSA_SPR0: u16 = 0x0b25;
pub const DEVICE_IAX_SPR0: u16 = 0x0cfe;

//! Tables that are looked up without calling a helper: array maps, which the kernel's compiler inlines, as set-associative tables.
//!
//! Owns: which slot belongs to a key. A table is two arrays: the keys by bucket, and the values by slot (`bucket * WAYS + way`).
//! Refuses: growing; a bucket that is full says so, and the caller decides.

use core::arch::asm;

use aya_ebpf::maps::Array;

pub const WAYS: usize = 4;
/// Keys of one bucket; 0 is a free slot.
pub type Bucket = [u64; WAYS];

/// Sets `word` to `value` if it is 0; false: somebody else has it.
///
/// # Safety
/// `word` must point into a live map value.
#[inline(always)]
unsafe fn claim_word(word: *mut u64, value: u64) -> bool {
    let seen: u64;
    // SAFETY: map values are 8-byte aligned and stay valid while the program runs.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({0} + 0, r0, {1})",
            in(reg) word,
            in(reg) value,
            inlateout("r0") 0_u64 => seen,
            options(nostack)
        );
    }
    seen == 0
}

/// A table of `1 << BITS` buckets.
pub struct Slots<const BITS: u32>(pub &'static Array<Bucket>);

impl<const BITS: u32> Slots<BITS> {
    #[inline(always)]
    fn bucket(&self, key: u64) -> Option<(u32, *mut u64)> {
        let bucket = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS)) as u32;
        Some((bucket, self.0.get_ptr_mut(bucket)?.cast()))
    }

    /// The slot of a key.
    #[inline(always)]
    pub fn find(&self, key: u64) -> Option<u32> {
        let (bucket, keys) = self.bucket(key)?;
        let mut way = 0;
        while way < WAYS {
            // SAFETY: a live map value of WAYS words. Others change only keys that are not this one.
            if unsafe { keys.add(way).read_volatile() } == key {
                return Some(bucket * WAYS as u32 + way as u32);
            }
            way += 1;
        }
        None
    }

    /// A free slot, now this key's. `None`: the bucket is full.
    #[inline(always)]
    pub fn claim(&self, key: u64) -> Option<u32> {
        let (bucket, keys) = self.bucket(key)?;
        let mut way = 0;
        while way < WAYS {
            // SAFETY: a live map value of WAYS words.
            if unsafe { claim_word(keys.add(way), key) } {
                return Some(bucket * WAYS as u32 + way as u32);
            }
            way += 1;
        }
        None
    }

    /// Gives a slot back.
    #[inline(always)]
    pub fn release(&self, slot: u32) {
        if let Some(keys) = self.0.get_ptr_mut(slot / WAYS as u32) {
            // SAFETY: a live map value of WAYS words.
            unsafe { keys.cast::<u64>().add(slot as usize % WAYS).write_volatile(0) };
        }
    }
}

//! Tables that are looked up without calling a helper: array maps, which the kernel's compiler inlines, as set-associative tables.
//!
//! Owns: which place belongs to a key. Keys and values of a bucket lie together, so that a look-up touches few pages. Refuses: growing; a bucket that is full says so, and the caller decides.

use core::arch::asm;

use aya_ebpf::maps::Array;

pub const WAYS: usize = 4;

#[repr(C)]
pub struct Bucket<V> {
    keys: [u64; WAYS],
    values: [V; WAYS],
}

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

/// A table of `1 << BITS` buckets. Key 0 is a free slot.
pub struct Table<V: 'static, const BITS: u32>(pub &'static Array<Bucket<V>>);

/// A key's place, while the program runs.
pub struct Slot<V> {
    key: *mut u64,
    pub value: *mut V,
}

impl<V> Slot<V> {
    /// Gives the place back.
    #[inline(always)]
    pub fn release(self) {
        // SAFETY: points into a live map value.
        unsafe { self.key.write_volatile(0) };
    }
}

impl<V, const BITS: u32> Table<V, BITS> {
    #[inline(always)]
    fn bucket(&self, key: u64) -> Option<*mut Bucket<V>> {
        self.0.get_ptr_mut((key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - BITS)) as u32)
    }

    #[inline(always)]
    fn slot(bucket: *mut Bucket<V>, way: usize) -> Slot<V> {
        // SAFETY: `way` is below WAYS, and `bucket` is a live map value.
        unsafe {
            Slot {
                key: (&raw mut (*bucket).keys).cast::<u64>().add(way),
                value: (&raw mut (*bucket).values).cast::<V>().add(way),
            }
        }
    }

    #[inline(always)]
    pub fn find(&self, key: u64) -> Option<Slot<V>> {
        let bucket = self.bucket(key)?;
        let mut way = 0;
        while way < WAYS {
            let slot = Self::slot(bucket, way);
            // SAFETY: a live map value. Others change only keys that are not this one.
            if unsafe { slot.key.read_volatile() } == key {
                return Some(slot);
            }
            way += 1;
        }
        None
    }

    /// A free place, now this key's; its value is whatever was there. `None`: the bucket is full.
    #[inline(always)]
    pub fn claim(&self, key: u64) -> Option<Slot<V>> {
        let bucket = self.bucket(key)?;
        let mut way = 0;
        while way < WAYS {
            let slot = Self::slot(bucket, way);
            // SAFETY: a live map value.
            if unsafe { claim_word(slot.key, key) } {
                return Some(slot);
            }
            way += 1;
        }
        None
    }
}

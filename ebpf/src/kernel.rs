//! Reading kernel memory: offsets, checked reads, the driver's identities.
//!
//! Every offset is a global that the loader sets from BTF; [`ABSENT`] says that this kernel has no such field.

use aya_ebpf::{
    Global,
    helpers::{bpf_get_current_pid_tgid, generated},
};
use dsascope_common::wire::ContextKey;

/// The loader's value for a field that the kernel's BTF does not have.
pub const ABSENT: u32 = u32::MAX;

macro_rules! offsets {
    ($($global:ident = $structure:literal, $member:literal;)*) => {$(
        #[unsafe(no_mangle)]
        pub static $global: Global<u32> = Global::new(ABSENT);
    )*};
}
dsascope_common::for_each_offset!(offsets);

/// Address of `idxd_evl_fault_work`.
#[unsafe(no_mangle)]
pub static WORK_FUNCTION: Global<u64> = Global::new(0);

/// The time of all records: CLOCK_MONOTONIC nanoseconds.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { generated::bpf_ktime_get_ns() }
}

#[inline(always)]
pub fn current_tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

#[inline(always)]
pub fn current_cpu() -> u16 {
    // SAFETY: the helper has no preconditions.
    unsafe { generated::bpf_get_smp_processor_id() as u16 }
}

/// Reads `T` at `address + offset`; `None` when the field is absent or the memory cannot be read.
#[inline(always)]
pub fn read<T: Copy>(address: u64, offset: &Global<u32>) -> Option<T> {
    let offset = offset.load();
    if address == 0 || offset == ABSENT {
        return None;
    }
    read_at(address + u64::from(offset))
}

#[inline(always)]
pub fn read_at<T: Copy>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails instead of faulting.
    unsafe { aya_ebpf::helpers::bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Reads `size_of::<T>()` bytes straight into `destination`; false when the memory cannot be read (then it is zero).
///
/// # Safety
/// `destination` must point to a writable `T` (a map value or the stack).
#[inline(always)]
pub unsafe fn read_into<T>(destination: *mut T, address: u64) -> bool {
    // SAFETY: the caller vouches for the destination; the helper checks the source.
    unsafe {
        generated::bpf_probe_read_kernel(destination.cast(), size_of::<T>() as u32, address as *const _) == 0
    }
}

/// Sets fields to 0, each with a store of its own: left to itself the compiler makes one `memset` of neighbours, which is a loop over
/// bytes here.
macro_rules! clear {
    ($place:expr; $($field:ident),+) => {
        // SAFETY: fields of a place that may be written.
        unsafe { $((&raw mut $place.$field).write_volatile(0);)+ }
    };
}
pub(crate) use clear;

/// Sets words to 0, as [`clear!`] does fields.
///
/// # Safety
/// `words` must point into a live map value, 8-byte aligned.
#[inline(always)]
pub unsafe fn clear_words<const N: usize>(words: *mut [u64; N]) {
    let mut n = 0;
    while n < N {
        // SAFETY: within the array, for which the caller vouches.
        unsafe { words.cast::<u64>().add(n).write_volatile(0) };
        n += 1;
    }
}

/// What names a WQ, read from `struct idxd_wq`.
#[derive(Clone, Copy)]
pub struct Wq {
    pub device: u16,
    pub wq: u16,
    pub device_type: u8,
    /// The idxd_device.
    pub idxd: u64,
}

#[inline(always)]
pub fn wq(wq: u64) -> Option<Wq> {
    // Neighbours on every kernel seen: one read for both where that is so.
    let together = WQ_ID.load() == WQ_IDXD.load() + 8;
    let [idxd, id] = if together {
        read::<[u64; 2]>(wq, &WQ_IDXD)?
    } else {
        [read(wq, &WQ_IDXD)?, u64::from(read::<u32>(wq, &WQ_ID)?)]
    };
    let data: u64 = read(idxd, &DEVICE_DATA)?;
    Some(Wq {
        device: read::<u32>(idxd, &DEVICE_ID)? as u16,
        wq: id as u16,
        device_type: read::<u32>(data, &DATA_TYPE)? as u8,
        idxd,
    })
}

/// The process behind a PASID of a WQ, found as the driver finds it: `wq->upasid_xa`. Used once a file, and only for files that
/// were open before attaching.
#[inline(always)]
pub fn process_of(wq: u64, pasid: u32) -> Option<(u32, [u8; 16])> {
    const DEPTH: u32 = 5; // 20 bits, six a level, and one for good measure
    let xa = wq + u64::from(present(&WQ_UPASID_XA)?);
    let mut entry: u64 = read(xa, &XARRAY_HEAD)?;
    let mut depth = 0;
    // An internal node is marked by the low bits 10; small values are other internal entries.
    while entry & 3 == 2 && entry > 4096 {
        if depth == DEPTH {
            return None;
        }
        depth += 1;
        let node = entry - 2;
        let shift: u8 = read(node, &XA_NODE_SHIFT)?;
        let slot = u64::from(pasid >> (shift & 31)) & 63;
        entry = read_at(node + u64::from(present(&XA_NODE_SLOTS)?) + slot * 8)?;
    }
    let context = entry;
    if read::<u32>(context, &CTX_PASID)? != pasid {
        return None;
    }
    let mm: u64 = read(context, &CTX_MM)?;
    let owner: u64 = read(mm, &MM_OWNER)?;
    let leader: u64 = read(owner, &TASK_GROUP_LEADER)?;
    Some((read(owner, &TASK_TGID)?, read(leader, &TASK_COMM)?))
}

#[inline(always)]
fn present(offset: &Global<u32>) -> Option<u32> {
    let offset = offset.load();
    if offset == ABSENT { None } else { Some(offset) }
}

/// An offset as u64; `ABSENT` never passes the loader's check for the fields that are used this way.
#[inline(always)]
pub fn offset(offset: &Global<u32>) -> u64 {
    u64::from(offset.load())
}

pub const NO_CONTEXT: ContextKey = ContextKey { opened_ns: 0, pasid: 0, device: 0, wq: 0 };

//! Accounting: the ring, counters of everything seen, sent and lost, exact totals by open file.
//!
//! `seen == sent + lost` for every record kind, whatever happens. Counters are per CPU but added to atomically: a program may be
//! preempted by another on the same CPU.

use core::arch::asm;

use aya_ebpf::{
    Global,
    bindings::{BPF_ANY, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use dsascope_common::wire::{ContextKey, OTHER_CONTEXT, RecordHeader, Session, SessionKey, Totals, counter};

use crate::{
    kernel::current_cpu,
    slots::{Bucket, Table},
};

/// The loader sets the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 * 1024 * 1024, 0);

#[map]
static COUNTERS: PerCpuArray<[u64; counter::COUNT as usize]> = PerCpuArray::with_max_entries(1, 0);

#[map]
static TOTALS: HashMap<ContextKey, Totals> = HashMap::with_max_entries(8192, 0);

#[map]
pub static SESSIONS: HashMap<SessionKey, Session> = HashMap::with_max_entries(8192, 0);

/// Wake the reader each time a CPU has sent so many records of a kind; a power of two, minus one.
#[unsafe(no_mangle)]
static WAKE_MASK: Global<u64> = Global::new(63);
#[unsafe(no_mangle)]
pub static STAGES: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub static VERBOSE: Global<u32> = Global::new(0);

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;

static NO_TOTALS: Totals = Totals {
    tgid: 0,
    closed: 0,
    cgroup: 0,
    comm: [0; 16],
    queued: 0,
    served: 0,
    delivered: 0,
    failed: 0,
    not_copied: 0,
    unobserved: 0,
    skipped: 0,
    cr_faults: 0,
    batch_faults: 0,
    drains: 0,
    counter_faults: 0,
    counter_failures: 0,
    driver_faults: 0,
    driver_failures: 0,
    records_lost: 0,
    service_ns_sum: 0,
    service_ns_max: 0,
    opened_files: 0,
};

/// Adds to a counter in a map value.
///
/// # Safety
/// `counter` must point into a live map value.
#[inline(always)]
pub unsafe fn add(counter: *mut u64, n: u64) {
    // The target declares no compare-and-swap, so core offers no `fetch_add`; the instruction set has had this one from the start.
    // SAFETY: map values are 8-byte aligned and stay valid while the program runs.
    unsafe {
        asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) n, options(nostack, preserves_flags))
    };
}

#[inline(always)]
pub fn count(index: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: a live map value; every index is a constant below COUNT.
        unsafe { add(counters.cast::<u64>().add(index as usize), 1) };
    }
}

#[inline(always)]
pub fn hit(hook: u32) {
    count(counter::HIT + hook);
}

#[inline(always)]
pub fn hole(kind: u32) {
    count(counter::HOLE + kind);
}

/// Counts a record that was seen and could not even be put together.
#[inline(always)]
pub fn lost(kind: u16) {
    count(counter::SEEN + u32::from(kind));
    count(counter::LOST + u32::from(kind));
    count(counter::LOST);
}

/// A record that starts with a [`RecordHeader`].
///
/// # Safety
/// Only for `repr(C)` types whose first field is the header.
pub unsafe trait Record {
    const KIND: u16;
}

/// Sends one record as of `time_ns`; false, and counted, when the ring is full.
///
/// # Safety
/// `record` must point to a `T` in a map value or on the stack.
#[inline(always)]
pub unsafe fn send<T: Record>(record: *mut T, time_ns: u64) -> bool {
    // SAFETY: `Record` promises the header; the caller vouches for the memory.
    send_by::<T>(time_ns, |header, flags| unsafe {
        *record.cast::<RecordHeader>() = header;
        EVENTS.output::<T>(&*record, flags).is_ok()
    })
}

/// Sends one record that `fill` puts together in the ring itself, all of it but the header; for records that a stack is too small for.
#[inline(always)]
pub fn send_in_place<T: Record + 'static>(time_ns: u64, fill: impl FnOnce(*mut T)) -> bool {
    send_by::<T>(time_ns, |header, flags| {
        let Some(mut entry) = EVENTS.reserve::<T>(0) else { return false };
        let record = entry.as_mut_ptr();
        // SAFETY: the ring's memory, of a `T`'s size; `Record` promises the header.
        unsafe { record.cast::<RecordHeader>().write(header) };
        fill(record);
        entry.submit(flags);
        true
    })
}

/// Keeps the books of one record, and says how to wake the reader: seldom, as it also looks on a timer, and a wake-up costs more than
/// the record.
#[inline(always)]
fn send_by<T: Record>(time_ns: u64, put: impl FnOnce(RecordHeader, u64) -> bool) -> bool {
    let Some(counters) = COUNTERS.get_ptr_mut(0) else { return false };
    let counters = counters.cast::<u64>();
    let index = |i: u32| {
        // SAFETY: every index is a constant below COUNT.
        unsafe { counters.add(i as usize) }
    };
    let kind = u32::from(T::KIND);
    // SAFETY: counters are a live map value.
    unsafe {
        add(index(counter::SEEN + kind), 1);
        let header =
            RecordHeader { kind: T::KIND, cpu: current_cpu(), lost: *index(counter::LOST) as u32, time_ns };
        let due = *index(counter::SEEN + kind) & WAKE_MASK.load() == 0;
        if put(header, if due { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }) {
            add(index(counter::SENT + kind), 1);
            true
        } else {
            add(index(counter::LOST + kind), 1);
            add(index(counter::LOST), 1);
            false
        }
    }
}

/// The totals of a file; made when first asked for. When the map is full: those of "other", and a hole.
#[inline(always)]
pub fn totals(context: &ContextKey) -> Option<*mut Totals> {
    if let Some(totals) = TOTALS.get_ptr_mut(context) {
        return Some(totals);
    }
    // Another CPU may have been faster; either way the entry is there now.
    let _ = TOTALS.insert(context, &NO_TOTALS, u64::from(BPF_NOEXIST));
    if let Some(totals) = TOTALS.get_ptr_mut(context) {
        return Some(totals);
    }
    hole(dsascope_common::wire::hole::TOTALS_FULL);
    TOTALS.get_ptr_mut(&OTHER_CONTEXT)
}

/// The open file that (device, WQ, PASID) names now; opening time 0 when it was open before attaching.
#[inline(always)]
pub fn context(pasid: u32, device: u16, wq: u16) -> ContextKey {
    let key = SessionKey { pasid, device, wq };
    // SAFETY: the value is read at once; sessions change only at open and release of this very file.
    let opened_ns = unsafe { SESSIONS.get(&key) }.map_or(0, |s| s.opened_ns);
    ContextKey { opened_ns, pasid, device, wq }
}

/// An open file by what a fault tells of it, so that it need not be asked who it is. Made at open, where the driver has just said it;
/// a file that was open before attaching is not here.
#[derive(Clone, Copy)]
pub struct File {
    wq: u64,
    pasid: u64,
    pub context: ContextKey,
    pub device_type: u64,
}

const FILES: Table<File, FILE_BITS> = Table(&FILE_BUCKETS);
const FILE_BITS: u32 = 10;

#[map]
static FILE_BUCKETS: Array<Bucket<File>> = Array::with_max_entries(1 << FILE_BITS, 0);

/// Not unique: the file says itself whose it is.
#[inline(always)]
fn file_key(wq: u64, pasid: u32) -> u64 {
    wq ^ u64::from(pasid) << 44
}

#[inline(always)]
pub fn known_file(wq: u64, pasid: u32) -> Option<&'static File> {
    let slot = FILES.find(file_key(wq, pasid))?;
    // SAFETY: a live map value. It changes at open and release only, when this file has no faults.
    let file = unsafe { &*slot.value };
    if file.wq == wq && file.pasid == u64::from(pasid) { Some(file) } else { None }
}

/// Remembers an open file, if there is room.
#[inline(always)]
pub fn remember_file(wq: u64, device_type: u8, context: &ContextKey) {
    let key = file_key(wq, context.pasid);
    if let Some(slot) = FILES.find(key).or_else(|| FILES.claim(key)) {
        let file = File {
            wq,
            pasid: u64::from(context.pasid),
            context: *context,
            device_type: u64::from(device_type),
        };
        // SAFETY: a live map value.
        unsafe { *slot.value = file };
    }
}

#[inline(always)]
pub fn forget_file(wq: u64, pasid: u32) {
    if known_file(wq, pasid).is_some()
        && let Some(slot) = FILES.find(file_key(wq, pasid))
    {
        slot.release();
    }
}

#[inline(always)]
pub fn set_session(key: &SessionKey, session: &Session) {
    let _ = SESSIONS.insert(key, session, u64::from(BPF_ANY));
}

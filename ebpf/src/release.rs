//! Closing a WQ: the driver drains what is left, and marks the log's entries that it will never serve.
//!
//! Hooks: `idxd_file_dev_release` entry and exit; inside it, on the same thread, `drain_workqueue` (the marks are made, the
//! event-log lock is held) and `idxd_xa_pasid_remove` (the counters are final).

use core::ffi::c_void;

use aya_ebpf::{bindings::BPF_ANY, helpers::generated::bpf_loop, macros::map, maps::HashMap};
use dsascope_common::{
    hw::event_log::{DSA_ENTRY_BYTES, EntryHeader, IAX_ENTRY_BYTES},
    wire::{RecordHeader, ReleaseRecord, Session, SessionKey, device_type, hole, kind},
};

use crate::{
    account::{self, SESSIONS, send, set_session, totals},
    kernel::{self, NO_CONTEXT, current_tid, now_ns, offset, read, read_at},
    wrap::{on_entry, on_exit},
};

/// A release while it lasts.
#[repr(C)]
pub struct Releasing {
    record: ReleaseRecord,
    context: u64,
    wq: u64,
    evl: u64,
    entry_bytes: u64,
}

/// Threads that are in `idxd_file_dev_release`.
#[map]
static RELEASING: HashMap<u32, Releasing> = HashMap::with_max_entries(1024, 0);

static NOT_RELEASING: Releasing = Releasing {
    record: ReleaseRecord {
        header: RecordHeader { kind: kind::RELEASE, cpu: 0, lost: 0, time_ns: 0 },
        context: NO_CONTEXT,
        start_ns: 0,
        drain_ns: 0,
        end_ns: 0,
        counter_faults: 0,
        counter_failures: 0,
        file: 0,
        skipped: 0,
    },
    context: 0,
    wq: 0,
    evl: 0,
    entry_bytes: 0,
};

// SAFETY: `repr(C)`, starts with the header.
unsafe impl account::Record for ReleaseRecord {
    const KIND: u16 = kind::RELEASE;
}

#[inline(always)]
fn releasing() -> Option<&'static mut Releasing> {
    // SAFETY: a live map value that only this thread's programs touch, used while the program runs.
    RELEASING.get_ptr_mut(&current_tid()).map(|r| unsafe { &mut *r })
}

/// Whether the current thread is in a release.
#[inline(always)]
pub fn is_releasing() -> bool {
    releasing().is_some()
}

/// (struct device *dev): the context's embedded device.
#[inline(always)]
fn start(device: u64) {
    if RELEASING.insert(&current_tid(), &NOT_RELEASING, u64::from(BPF_ANY)).is_err() {
        account::hole(hole::TASK_FULL);
        return;
    }
    let Some(release) = releasing() else { return };
    release.record.start_ns = now_ns();
    release.context = device - offset(&kernel::CTX_DEVICE);
    if described(release).is_none() {
        account::hole(hole::READ_FAILED);
    }
}

#[inline(always)]
fn described(release: &mut Releasing) -> Option<()> {
    release.wq = read(release.context, &kernel::CTX_WQ)?;
    let wq = kernel::wq(release.wq)?;
    let pasid: u32 = read(release.context, &kernel::CTX_PASID)?;
    release.record.file = read::<u32>(release.context, &kernel::CTX_ID)?;
    release.record.context = account::context(pasid, wq.device, wq.wq);
    release.evl = read(wq.idxd, &kernel::DEVICE_EVL)?;
    release.entry_bytes =
        if wq.device_type == device_type::IAX { IAX_ENTRY_BYTES as u64 } else { DSA_ENTRY_BYTES as u64 };
    Some(())
}

/// Called inside a release: every entry of this file that the interrupt thread has not reached is marked now.
#[inline(always)]
fn drain() {
    let Some(release) = releasing() else { return };
    release.record.drain_ns = now_ns();
    if count_marked(release).is_none() {
        account::hole(hole::READ_FAILED);
    }
}

/// Counts the marked entries of this file: walks the driver's bitmap (one bit an entry) and looks into the log behind each set
/// bit. Bounded by the log: at most 1024 words, and the bits that are set in them.
#[inline(always)]
fn count_marked(release: &mut Releasing) -> Option<()> {
    if release.evl == 0 {
        return Some(());
    }
    let entries: u16 = read(release.evl, &kernel::EVL_SIZE)?;
    let mut scan = Scan {
        log: read(release.evl, &kernel::EVL_LOG)?,
        bitmap: read(release.evl, &kernel::EVL_BMAP)?,
        entry_bytes: release.entry_bytes,
        word: 0,
        first: 0,
        pasid: release.record.context.pasid,
        wq: u32::from(release.record.context.wq),
        skipped: 0,
        failed: 0,
    };
    let words = u32::from(entries).div_ceil(64);
    // SAFETY: the callback has the signature that the helper asks for; `scan` outlives the call.
    unsafe { bpf_loop(words, word_callback as *mut c_void, (&raw mut scan).cast(), 0) };
    release.record.skipped = scan.skipped;
    if scan.failed == 0 { Some(()) } else { None }
}

/// A walk over the bitmap. Callbacks, because the verifier checks each once however often it runs.
struct Scan {
    log: u64,
    bitmap: u64,
    entry_bytes: u64,
    /// Bits of the word that is looked at, and the index of its first.
    word: u64,
    first: u64,
    pasid: u32,
    wq: u32,
    skipped: u32,
    failed: u32,
}

unsafe extern "C" fn word_callback(index: u32, scan: *mut c_void) -> i64 {
    // SAFETY: `count_marked` passes its own `Scan`.
    let scan = unsafe { &mut *scan.cast::<Scan>() };
    let Some(word) = read_at::<u64>(scan.bitmap + u64::from(index) * 8) else {
        scan.failed = 1;
        return 1;
    };
    if word != 0 {
        scan.word = word;
        scan.first = u64::from(index) * 64;
        // SAFETY: as in `count_marked`.
        unsafe { bpf_loop(64, bit_callback as *mut c_void, core::ptr::from_mut(scan).cast(), 0) };
    }
    0
}

unsafe extern "C" fn bit_callback(bit: u32, scan: *mut c_void) -> i64 {
    // SAFETY: `word_callback` passes on its own `Scan`.
    let scan = unsafe { &mut *scan.cast::<Scan>() };
    if scan.word >> (bit & 63) & 1 == 0 {
        return 0;
    }
    let Some(qword) = read_at::<u64>(scan.log + (scan.first + u64::from(bit)) * scan.entry_bytes) else {
        scan.failed = 1;
        return 1;
    };
    let header = EntryHeader { qwords: [qword, 0, 0, 0] };
    if header.pasid() == scan.pasid && u32::from(header.wq_idx()) == scan.wq {
        scan.skipped += 1;
    }
    0
}

/// (struct idxd_user_context *ctx): all its faults are served, its counters final.
#[inline(always)]
fn counters(context: u64) {
    let Some(release) = releasing() else { return };
    if context != release.context {
        return;
    }
    let at = context + offset(&kernel::CTX_COUNTERS);
    match read_at::<[u64; 2]>(at) {
        Some([faults, failures]) => {
            release.record.counter_faults = faults;
            release.record.counter_failures = failures;
        }
        None => account::hole(hole::READ_FAILED),
    }
}

#[inline(always)]
fn end() {
    let Some(release) = releasing() else { return };
    release.record.end_ns = now_ns();
    let key = release.record.context;
    let session_key = SessionKey { pasid: key.pasid, device: key.device, wq: key.wq };
    // SAFETY: sessions of one PASID and WQ change only in open and release, which the driver serialises by the WQ's lock.
    let files = unsafe { SESSIONS.get(&session_key) }.map_or(1, |s| s.files);
    if let Some(totals) = totals(&key) {
        // SAFETY: a live map value.
        unsafe {
            account::add(&raw mut (*totals).skipped, u64::from(release.record.skipped));
            account::add(&raw mut (*totals).driver_faults, release.record.counter_faults);
            account::add(&raw mut (*totals).driver_failures, release.record.counter_failures);
            if files <= 1 {
                (*totals).closed = 1;
            }
        }
    }
    if files <= 1 {
        let _ = SESSIONS.remove(&session_key);
        account::forget_file(release.wq, key.pasid);
    } else {
        // SAFETY: as above.
        if let Some(s) = unsafe { SESSIONS.get(&session_key) }.copied() {
            set_session(&session_key, &Session { files: s.files - 1, ..s });
        }
    }
    // SAFETY: a live map value.
    unsafe { send(&raw mut release.record, release.record.end_ns) };
    let _ = RELEASING.remove(&current_tid());
}

on_entry!(RELEASE_START, start, release_start_fentry, release_start_kprobe, (0));
on_entry!(RELEASE_DRAIN, drain, release_drain_fentry, release_drain_kprobe, ());
on_entry!(RELEASE_COUNTERS, counters, release_counters_fentry, release_counters_kprobe, (0));
on_exit!(RELEASE_END, end, release_end_fexit, release_end_kretprobe);

//! The interrupt thread: `idxd_misc_thread`, entry and exit.

use aya_ebpf::{macros::map, maps::Array};
use dsascope_common::wire::{InterruptRecord, hole, kind};

use crate::{
    account::{self, send},
    kernel::{self, current_tid, now_ns, offset, read, read_into},
    slots::{Bucket, Table},
    wrap::{on_entry, on_exit},
};

/// One interrupt thread and its run. `start_ns` is 0 between runs.
#[repr(C)]
pub struct Running {
    record: InterruptRecord,
    /// What the thread was called with: the device's `ie`. The device does not change while it is the same.
    ie: u64,
    idxd: u64,
}

/// Interrupt threads, by thread id. A device has one, and keeps it: slots stay.
const THREADS: Table<Running, THREAD_BITS> = Table(&INTERRUPT_THREADS);
const THREAD_BITS: u32 = 8;

#[map]
static INTERRUPT_THREADS: Array<Bucket<Running>> = Array::with_max_entries(1 << THREAD_BITS, 0);

// SAFETY: `repr(C)`, starts with the header.
unsafe impl account::Record for InterruptRecord {
    const KIND: u16 = kind::INTERRUPT;
}

#[inline(always)]
fn running(thread: u32) -> Option<&'static mut Running> {
    // SAFETY: a live map value that only its thread's programs touch, used while the program runs.
    THREADS.find(u64::from(thread)).map(|slot| unsafe { &mut *slot.value })
}

/// (int vec, void *data): data is the device's `ie`.
#[inline(always)]
fn start(ie: u64) {
    let thread = current_tid();
    let known = match running(thread) {
        Some(run) if run.ie == ie => Some(run),
        _ => first_run(thread, ie),
    };
    let Some(run) = known else {
        account::hole(hole::TASK_FULL);
        return;
    };
    run.record.entries = 0;
    run.record.start_ns = now_ns();
}

/// The first run seen of this thread on this device: who it is, and the error register's copy as it was before.
#[inline(always)]
fn first_run(thread: u32, ie: u64) -> Option<&'static mut Running> {
    let key = u64::from(thread);
    // SAFETY: a live map value that only this thread's programs touch.
    let run = THREADS.find(key).or_else(|| THREADS.claim(key)).map(|slot| unsafe { &mut *slot.value })?;
    run.ie = ie;
    run.idxd = ie - offset(&kernel::DEVICE_IE);
    run.record.device = read::<u32>(run.idxd, &kernel::DEVICE_ID).unwrap_or(0) as u16;
    let data: u64 = read(run.idxd, &kernel::DEVICE_DATA).unwrap_or(0);
    run.record.device_type = read::<u32>(data, &kernel::DATA_TYPE).unwrap_or(0) as u8;
    // SAFETY: the destination is a field of a live map value.
    unsafe { read_into(&raw mut run.record.swerror, run.idxd + offset(&kernel::DEVICE_SW_ERR)) };
    Some(run)
}

#[inline(always)]
fn end() {
    let Some(run) = running(current_tid()) else { return };
    if run.record.start_ns == 0 {
        return;
    }
    run.record.end_ns = now_ns();
    let swerror: [u64; 4] = read(run.idxd, &kernel::DEVICE_SW_ERR).unwrap_or(run.record.swerror);
    let last = &run.record.swerror;
    let changed =
        (swerror[0] ^ last[0]) | (swerror[1] ^ last[1]) | (swerror[2] ^ last[2]) | (swerror[3] ^ last[3]);
    run.record.swerror_changed = u8::from(changed != 0);
    run.record.swerror = swerror;
    // SAFETY: a live map value.
    unsafe { send(&raw mut run.record, run.record.end_ns) };
    run.record.start_ns = 0;
}

/// Called when the current thread queued a fault: counts it, and tells when this run of the thread began (0: not seen).
#[inline(always)]
pub fn entry_queued() -> u64 {
    match running(current_tid()) {
        Some(run) => {
            run.record.entries += 1;
            run.record.start_ns
        }
        None => 0,
    }
}

on_entry!(INTERRUPT_START, start, interrupt_start_fentry, interrupt_start_kprobe, (1));
on_exit!(INTERRUPT_END, end, interrupt_end_fexit, interrupt_end_kretprobe);

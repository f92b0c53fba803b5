//! The service: the WQ's worker delivers the completion record.
//!
//! Hooks: `idxd_evl_fault_work`'s entry and exit, or `workqueue_execute_start` and `_end` for works with that function.
//! The work item is freed inside the function and may be in use again before the end: from the start on, the worker's thread id
//! names the fault.

use aya_ebpf::{
    macros::{map, tracepoint},
    maps::Array,
    programs::TracePointContext,
};
use dsascope_common::{
    hw::completion::{STATUS_MASK, status},
    wire::{FaultRecord, RecordHeader, StageRecord, counter, hole, kind, mark, stage},
};

use crate::{
    account::{self, STAGES, send, totals},
    kernel::{self, WORK_FUNCTION, current_tid, now_ns, offset, read_at},
    queue::{describe, take},
    slots::{Bucket, Slot, Table},
    wrap::{on_entry, on_exit, ran},
};

/// The fault in service, by worker.
const ACTIVE: Table<FaultRecord, ACTIVE_BITS> = Table(&ACTIVE_BUCKETS);
const ACTIVE_BITS: u32 = 10;

#[map]
static ACTIVE_BUCKETS: Array<Bucket<FaultRecord>> = Array::with_max_entries(1 << ACTIVE_BITS, 0);

/// 1: no program observes the copy.
#[unsafe(no_mangle)]
static COPY_UNOBSERVED: aya_ebpf::Global<u32> = aya_ebpf::Global::new(0);

// SAFETY: `repr(C)`, starts with the header.
unsafe impl account::Record for FaultRecord {
    const KIND: u16 = kind::FAULT;
}

#[inline(always)]
fn start(work: u64) {
    let now = now_ns();
    let worker = current_tid();
    if let Some(slot) = in_service(worker) {
        // SAFETY: a live map value that only this worker's programs touch.
        let fault = unsafe { &mut *slot.value };
        // The worker cannot be in two faults: the end of the last one was missed.
        account::hole(hole::END_MISSING);
        fault.marks |= mark::END_MISSING;
        finish(fault, now);
        slot.release();
    }
    let pending = take(work);
    // SAFETY: a live map value that only this worker's programs touch.
    let Some(fault) = ACTIVE.claim(u64::from(worker)).map(|slot| unsafe { &mut *slot.value }) else {
        account::hole(hole::ACTIVE_FULL);
        account::lost(kind::FAULT);
        return;
    };
    account::count(counter::STARTED);
    fault.marks = if COPY_UNOBSERVED.load() != 0 { mark::COPY_UNOBSERVED } else { 0 };
    fault.worker = worker;
    fault.queued_ns = pending.queued_ns;
    fault.interrupt_ns = pending.interrupt_ns;
    fault.queue_cpu = pending.cpu as u16;
    if pending.queued_ns == 0 {
        account::hole(hole::QUEUE_MISSING);
        fault.marks |= mark::QUEUE_MISSING;
    }
    describe(fault, work);
    fault.started_ns = now;
    kernel::clear!(fault; copy_start_ns, copy_end_ns, done_ns, copy_addr, copy_asked, copy_done, tgid);
    kernel::clear!(fault; counted_faults, counted_failures);
    // SAFETY: a field of a live map value, at a multiple of 8.
    unsafe { kernel::clear_words((&raw mut fault.delivered).cast::<[u64; 8]>()) };
    if fault.context.opened_ns == 0 {
        identify(fault, work);
    }
    if STAGES.load() != 0 {
        send_stage(fault, stage::STARTED, 0, 0);
    }
}

/// What a worker serves. Only its own programs touch it.
#[inline(always)]
pub fn in_service(worker: u32) -> Option<Slot<FaultRecord>> {
    ACTIVE.find(u64::from(worker))
}

/// Who has a file that was open before attaching: asks the driver's own table, once a file.
#[inline(always)]
fn identify(fault: &FaultRecord, work: u64) {
    let Some(totals) = totals(&fault.context) else { return };
    // SAFETY: a live map value.
    unsafe {
        if (*totals).tgid == 0 {
            let wq: u64 = kernel::read(work, &kernel::FAULT_WQ).unwrap_or(0);
            if let Some((tgid, comm)) = kernel::process_of(wq, fault.context.pasid) {
                (*totals).comm = comm;
                (*totals).tgid = tgid;
            }
        }
    }
}

#[inline(always)]
fn end() {
    let now = now_ns();
    let Some(slot) = in_service(current_tid()) else {
        account::hole(hole::START_MISSING);
        return;
    };
    // SAFETY: a live map value that only this worker's programs touch.
    let fault = unsafe { &mut *slot.value };
    fault.done_ns = now;
    finish(fault, now);
    slot.release();
}

/// Adds the fault to its totals and sends it.
#[inline(always)]
fn finish(fault: &mut FaultRecord, now: u64) {
    account::count(counter::ENDED);
    if fault.copy_start_ns != 0 && fault.copy_end_ns == 0 && fault.counted_faults != 0 {
        // A kretprobe has a limited number of instances. The driver counts each failed copy, so the outcome is known all the same.
        fault.marks |= mark::OUTCOME_INFERRED;
        fault.copy_done = if fault.counted_failures == 0 { fault.copy_asked } else { 0 };
    }
    let totals = totals(&fault.context);
    if let Some(totals) = totals {
        // SAFETY: a live map value.
        fault.tgid = unsafe { (*totals).tgid };
    }
    let sent = if STAGES.load() != 0 {
        send_stage(fault, stage::DONE, 0, 0)
    } else {
        // SAFETY: a live map value.
        unsafe { send(&raw mut *fault, now) }
    };
    let Some(totals) = totals else { return };
    // SAFETY: a live map value.
    unsafe {
        account::add(&raw mut (*totals).queued, 1);
        account::add(&raw mut (*totals).served, 1);
        // Of a copy whose start was missed nobody knows how much it was to copy.
        let begun = fault.copy_start_ns != 0;
        let ended = fault.copy_end_ns != 0;
        let outcome = if begun && (ended || fault.marks & mark::OUTCOME_INFERRED != 0) {
            if fault.copy_done == fault.copy_asked {
                &raw mut (*totals).delivered
            } else {
                &raw mut (*totals).failed
            }
        } else if begun || ended || fault.marks & (mark::COPY_UNOBSERVED | mark::END_MISSING) != 0 {
            &raw mut (*totals).unobserved
        } else {
            &raw mut (*totals).not_copied
        };
        account::add(outcome, 1);
        match fault.entry.error() & STATUS_MASK {
            status::CRA_XLAT => account::add(&raw mut (*totals).cr_faults, 1),
            status::BATCH_EVL_ERR => account::add(&raw mut (*totals).batch_faults, 1),
            status::DRAIN_EVL => account::add(&raw mut (*totals).drains, 1),
            _ => {}
        }
        account::add(&raw mut (*totals).counter_faults, u64::from(fault.counted_faults));
        if fault.counted_failures != 0 {
            account::add(&raw mut (*totals).counter_failures, u64::from(fault.counted_failures));
        }
        if !sent {
            account::add(&raw mut (*totals).records_lost, 1);
        }
        if fault.done_ns != 0 {
            let service_ns = fault.done_ns - fault.started_ns;
            account::add(&raw mut (*totals).service_ns_sum, service_ns);
            // A race between two workers may keep the smaller maximum; the records have the exact one.
            if service_ns > (*totals).service_ns_max {
                (*totals).service_ns_max = service_ns;
            }
        }
    }
}

#[inline(always)]
pub fn stage_record(fault: &FaultRecord, stage: u16) -> StageRecord {
    StageRecord {
        header: RecordHeader { kind: kind::STAGE, cpu: 0, lost: 0, time_ns: 0 },
        context: fault.context,
        work: fault.work,
        worker: fault.worker,
        stage,
        device_type: fault.device_type,
        reserved: 0,
        value: 0,
        value2: 0,
    }
}

#[inline(always)]
pub fn send_stage(fault: &FaultRecord, stage: u16, value: u64, value2: u64) -> bool {
    let mut record = stage_record(fault, stage);
    record.value = value;
    record.value2 = value2;
    // SAFETY: on the stack.
    unsafe { send(&raw mut record, now_ns()) }
}

on_entry!(SERVICE_START, start, service_start_fentry, service_start_kprobe, (0));
on_exit!(SERVICE_END, end, service_end_fexit, service_end_kretprobe);

#[tracepoint]
pub fn service_start_tracepoint(ctx: TracePointContext) -> u32 {
    let at = |o| aya_ebpf::EbpfContext::as_ptr(&ctx) as u64 + offset(o);
    if read_at::<u64>(at(&kernel::TP_START_FUNCTION)) == Some(WORK_FUNCTION.load()) {
        ran!(&ctx, SERVICE_START);
        start(read_at(at(&kernel::TP_START_WORK)).unwrap_or(0));
    }
    0
}

#[tracepoint]
pub fn service_end_tracepoint(ctx: TracePointContext) -> u32 {
    let at = |o| aya_ebpf::EbpfContext::as_ptr(&ctx) as u64 + offset(o);
    if read_at::<u64>(at(&kernel::TP_END_FUNCTION)) == Some(WORK_FUNCTION.load()) {
        ran!(&ctx, SERVICE_END);
        end();
    }
    0
}

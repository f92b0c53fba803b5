//! The hand-over: the interrupt thread queued a fault for the WQ's worker.
//!
//! Hook: `workqueue:workqueue_queue_work`, for works whose function is `idxd_evl_fault_work`. It runs with interrupts disabled,
//! before a worker can see the item; the event-log entry is already copied behind it.

use aya_ebpf::{
    bindings::BPF_ANY,
    macros::{btf_tracepoint, map, tracepoint},
    maps::{Array, HashMap, PerCpuArray},
    programs::{BtfTracePointContext, TracePointContext},
};
use dsascope_common::{
    hw::event_log::{HEADER_BYTES, IAX_CR_OFFSET},
    wire::{FaultRecord, Pending, StagePayload, StageRecord, counter, device_type, hole, kind, mark, stage},
};

use crate::{
    account::{self, STAGES},
    interrupt,
    kernel::{self, WORK_FUNC, WORK_FUNCTION, current_cpu, now_ns, offset, read, read_at, read_into},
    service::stage_record,
    slots::{Bucket, Table},
    wrap::ran,
};

/// Faults that wait for their worker, by work item: only what the item itself does not tell when its service starts.
const PENDING: Table<Pending, PENDING_BITS> = Table(&PENDING_BUCKETS);
const PENDING_BITS: u32 = 12;

#[map]
static PENDING_BUCKETS: Array<Bucket<Pending>> = Array::with_max_entries(1 << PENDING_BITS, 0);

/// Those that found their bucket full. The loader sets the size.
#[map]
static PENDING_MORE: HashMap<u64, Pending> = HashMap::with_max_entries(16384, 0);

/// Whether anything was ever put there: the look-up is not for free.
#[map]
static MORE_USED: Array<u32> = Array::with_max_entries(1, 0);

/// See [`number`].
#[map]
static NUMBER: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// For the measured alternative alone. Interrupts are off in this hook, so nobody else uses this CPU's entry meanwhile.
#[map]
static SCRATCH: PerCpuArray<FaultRecord> = PerCpuArray::with_max_entries(1, 0);

/// What is not known of a work item: all zeros, told by `queued_ns`. (An `Option` would leave its fields unset, and verifiers follow
/// unset fields to whatever else was in their place.)
const UNKNOWN: Pending = Pending { queued_ns: 0, interrupt_ns: 0, cpu: 0, reserved: 0 };

/// Takes what is known of a work item out of the table.
#[inline(always)]
pub fn take(work: u64) -> Pending {
    let mut pending = UNKNOWN;
    if let Some(slot) = PENDING.find(work) {
        // SAFETY: a live map value, this work item's.
        pending = unsafe { *slot.value };
        slot.release();
    } else if MORE_USED.get(0).is_some_and(|used| *used != 0) {
        // SAFETY: the value is read at once.
        if let Some(value) = unsafe { PENDING_MORE.get(&work) } {
            pending = *value;
            let _ = PENDING_MORE.remove(&work);
        }
    }
    if pending.queued_ns != 0 {
        account::count(counter::TAKEN);
    }
    pending
}

#[inline(always)]
fn put(work: u64, pending: &Pending) -> bool {
    let put = match PENDING.claim(work) {
        Some(slot) => {
            // SAFETY: a live map value, of this work item from now on; its worker cannot see the item yet.
            unsafe { *slot.value = *pending };
            true
        }
        None => {
            if let Some(used) = MORE_USED.get_ptr_mut(0) {
                // SAFETY: a live map value; it only ever becomes 1.
                unsafe { used.write_volatile(1) };
            }
            PENDING_MORE.insert(&work, pending, u64::from(BPF_ANY)).is_ok()
        }
    };
    if put {
        account::count(counter::PUT);
    }
    put
}

#[inline(always)]
fn queued(work: u64) {
    let pending = Pending {
        queued_ns: now_ns(),
        interrupt_ns: interrupt::entry_queued(),
        cpu: u32::from(current_cpu()),
        reserved: 0,
    };
    if take(work).queued_ns != 0 {
        // The item's memory is in use again: the fault that had it was served, and its start was missed.
        account::hole(hole::START_MISSING);
        account::lost(kind::FAULT);
    }
    if !put(work, &pending) {
        // Its start will find the entry all the same; only the queueing time is gone.
        account::hole(hole::PENDING_FULL);
    }
    if STAGES.load() != 0
        && let Some(fault) = SCRATCH.get_ptr_mut(0)
    {
        // SAFETY: a live map value, see SCRATCH.
        let fault = unsafe { &mut *fault };
        fault.marks = 0;
        describe(fault, work);
        fault.interrupt_ns = pending.interrupt_ns;
        stage_payload(fault, stage::QUEUED);
    }
}

/// Reads what the work item says of its fault: WQ, entry, logged record.
#[inline(always)]
pub fn describe(fault: &mut FaultRecord, work: u64) {
    fault.work = work;
    let entry = work + offset(&kernel::FAULT_ENTRY);
    // Header and a DSA's record lie together in the entry, and so they do here.
    const _: () = assert!(
        core::mem::offset_of!(FaultRecord, logged)
            == core::mem::offset_of!(FaultRecord, entry) + HEADER_BYTES
    );
    // SAFETY: the destination is fields of a live map value.
    let mut whole = unsafe {
        let both = (&raw mut *fault).byte_add(core::mem::offset_of!(FaultRecord, entry));
        read_into(both.cast::<[u8; 64]>(), entry)
    };
    let wq_address: u64 = read(work, &kernel::FAULT_WQ).unwrap_or(0);
    let pasid = fault.entry.pasid();
    if let Some(file) = account::known_file(wq_address, pasid) {
        fault.context = file.context;
        fault.device_type = file.device_type as u8;
    } else if let Some(wq) = kernel::wq(wq_address) {
        fault.context = account::context(pasid, wq.device, wq.wq);
        fault.device_type = wq.device_type;
    } else {
        whole = false;
    }
    if fault.device_type == device_type::IAX {
        // SAFETY: the destination is a field of a live map value.
        whole &= unsafe { read_into(&raw mut fault.logged, entry + IAX_CR_OFFSET as u64) };
    }
    if !whole {
        fault.marks |= mark::READ_FAILED;
        account::hole(hole::READ_FAILED);
    }
}

/// The measured alternative: a record for this stage alone.
#[inline(always)]
fn stage_payload(fault: &FaultRecord, stage: u16) {
    let mut payload = StagePayload { stage: stage_record(fault, stage), bytes: [0; 96] };
    payload.stage.value2 = fault.interrupt_ns;
    // SAFETY: 32 and 64 bytes into an array of 96.
    unsafe {
        *payload.bytes.as_mut_ptr().cast::<[u64; 4]>() = fault.entry.qwords;
        *payload.bytes.as_mut_ptr().add(32).cast::<[u64; 8]>() = *(&raw const fault.logged).cast();
        account::send(&raw mut payload, now_ns());
    }
}

// SAFETY: both are `repr(C)` and start with the header.
unsafe impl account::Record for StageRecord {
    const KIND: u16 = dsascope_common::wire::kind::STAGE;
}
// SAFETY: as above.
unsafe impl account::Record for StagePayload {
    const KIND: u16 = dsascope_common::wire::kind::STAGE;
}

/// A pointer that the verifier knows the type of, as a number with which one may calculate: it forgets the type of what was in a map.
#[inline(always)]
fn number(pointer: u64) -> Option<u64> {
    let word = NUMBER.get_ptr_mut(0)?;
    // SAFETY: a live map value; interrupts are off in this hook, so nobody else uses this CPU's entry meanwhile.
    unsafe {
        word.write_volatile(pointer);
        Some(word.read_volatile())
    }
}

#[btf_tracepoint]
pub fn queued_btf(ctx: BtfTracePointContext) -> i32 {
    // (int req_cpu, struct pool_workqueue *pwq, struct work_struct *work)
    let work: u64 = ctx.arg(2);
    // Straight from the pointer, whose type the verifier knows: this runs for every work item of the machine.
    // SAFETY: the kernel's own work item; the offset is its member's.
    let function = unsafe { ((work + offset(&WORK_FUNC)) as *const u64).read_volatile() };
    if function == WORK_FUNCTION.load()
        && let Some(work) = number(work)
    {
        ran!(&ctx, QUEUED);
        queued(work);
    }
    0
}

#[tracepoint]
pub fn queued_tracepoint(ctx: TracePointContext) -> u32 {
    let at = |o| aya_ebpf::EbpfContext::as_ptr(&ctx) as u64 + offset(o);
    if read_at::<u64>(at(&kernel::TP_QUEUE_FUNCTION)) == Some(WORK_FUNCTION.load()) {
        ran!(&ctx, QUEUED);
        queued(read_at(at(&kernel::TP_QUEUE_WORK)).unwrap_or(0));
    }
    0
}

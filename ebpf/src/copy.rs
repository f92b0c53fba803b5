//! The copy: the worker writes the completion record into the process's memory, and the driver counts.
//!
//! Hooks: `idxd_copy_cr` entry and exit, `idxd_user_counter_increment` entry. Both run inside the service.

use dsascope_common::wire::{FaultRecord, StagePayload, stage};

use crate::{
    account::{self, STAGES, totals},
    kernel::{self, current_tid, now_ns, read_into},
    service::{in_service, send_stage, stage_record},
    wrap::{on_entry, on_exit},
};

#[inline(always)]
fn mine() -> Option<&'static mut FaultRecord> {
    // SAFETY: a live map value that only this worker's programs touch, used while the program runs.
    in_service(current_tid()).map(|slot| unsafe { &mut *slot.value })
}

/// (struct idxd_wq *wq, unsigned int pasid, unsigned long addr, void *cr, int len)
#[inline(always)]
fn copy_start(address: u64, cr: u64, bytes: u64) {
    let Some(fault) = mine() else { return };
    fault.copy_start_ns = now_ns();
    fault.copy_addr = address;
    fault.copy_asked = bytes as u32;
    // SAFETY: the destination is a field of a live map value.
    unsafe {
        if bytes as u32 >= 64 {
            read_into(&raw mut fault.delivered, cr);
        } else {
            read_into((&raw mut fault.delivered).cast::<[u8; 32]>(), cr);
        }
    }
    if STAGES.load() != 0 {
        let mut payload = StagePayload { stage: stage_record(fault, stage::COPY_START), bytes: [0; 96] };
        payload.stage.value = address;
        payload.stage.value2 = u64::from(bytes as u32);
        // SAFETY: 64 bytes into an array of 96; the payload is on the stack.
        unsafe {
            *payload.bytes.as_mut_ptr().cast::<[u64; 8]>() = *(&raw const fault.delivered).cast();
            account::send(&raw mut payload, fault.copy_start_ns);
        }
    }
}

#[inline(always)]
fn copy_end(copied: i32) {
    let Some(fault) = mine() else { return };
    fault.copy_end_ns = now_ns();
    fault.copy_done = if copied > 0 { copied as u32 } else { 0 };
    if STAGES.load() != 0 {
        send_stage(fault, stage::COPY_END, u64::from(fault.copy_done), 0);
    }
}

/// (struct idxd_wq *wq, u32 pasid, int index): index 0 faults, 1 failures.
#[inline(always)]
fn counter(wq: u64, pasid: u64, index: u64) {
    let failure = index as u32 == 1;
    if let Some(fault) = mine() {
        // Joins the totals with the rest of the fault.
        let n = if failure { &mut fault.counted_failures } else { &mut fault.counted_faults };
        *n = n.saturating_add(1);
        return;
    }
    let Some(wq) = kernel::wq(wq) else { return };
    if let Some(totals) = totals(&account::context(pasid as u32, wq.device, wq.wq)) {
        // SAFETY: a live map value.
        unsafe {
            let n =
                if failure { &raw mut (*totals).counter_failures } else { &raw mut (*totals).counter_faults };
            account::add(n, 1);
        }
    }
}

on_entry!(COPY_START, copy_start, copy_start_fentry, copy_start_kprobe, (2, 3, 4));
on_exit!(COPY_END, copy_end, copy_end_fexit, copy_end_kretprobe, ret);
on_entry!(COUNTER, counter, counter_fentry, counter_kprobe, (0, 1, 2));

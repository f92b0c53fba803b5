//! Opening a WQ: who is behind a PASID.
//!
//! Hook: `idxd_cdev_open`, entry (the file) and exit (it went well, and the context is filled in).

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated},
    macros::map,
    maps::HashMap,
};
use dsascope_common::wire::{ContextKey, OpenRecord, RecordHeader, Session, SessionKey, hole, kind};

use crate::{
    account::{self, SESSIONS, send, set_session, totals},
    kernel::{self, current_tid, now_ns, read},
    wrap::{on_entry, on_exit},
};

/// `struct file *` of the threads that are in `idxd_cdev_open`.
#[map]
static OPENING: HashMap<u32, u64> = HashMap::with_max_entries(1024, 0);

// SAFETY: `repr(C)`, starts with the header.
unsafe impl account::Record for OpenRecord {
    const KIND: u16 = kind::OPEN;
}

/// Whether the current thread is in an open.
#[inline(always)]
pub fn is_opening() -> bool {
    OPENING.get_ptr(&current_tid()).is_some()
}

/// (struct inode *inode, struct file *file)
#[inline(always)]
fn open_start(file: u64) {
    if OPENING.insert(&current_tid(), &file, u64::from(BPF_ANY)).is_err() {
        account::hole(hole::TASK_FULL);
    }
}

#[inline(always)]
fn open_end(result: i32) {
    let thread = current_tid();
    // SAFETY: only this thread's programs touch the value.
    let Some(file) = unsafe { OPENING.get(&thread) }.copied() else { return };
    let _ = OPENING.remove(&thread);
    if result == 0 && opened(file).is_none() {
        account::hole(hole::READ_FAILED);
    }
}

#[inline(always)]
fn opened(file: u64) -> Option<()> {
    let context: u64 = read(file, &kernel::FILE_PRIVATE_DATA)?;
    let wq_address: u64 = read(context, &kernel::CTX_WQ)?;
    let wq = kernel::wq(wq_address)?;
    let pasid: u32 = read(context, &kernel::CTX_PASID)?;
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;

    // A second open by the same process on the same WQ shares PASID and counters with the first.
    let session_key = SessionKey { pasid, device: wq.device, wq: wq.wq };
    // SAFETY: sessions of one PASID and WQ change only in open and release, which the driver serialises by the WQ's lock.
    let session = match unsafe { SESSIONS.get(&session_key) } {
        Some(s) if s.tgid == tgid => Session { opened_ns: s.opened_ns, tgid, files: s.files + 1 },
        _ => Session { opened_ns: now_ns(), tgid, files: 1 },
    };
    set_session(&session_key, &session);

    let key = ContextKey { opened_ns: session.opened_ns, pasid, device: wq.device, wq: wq.wq };
    account::remember_file(wq_address, wq.device_type, &key);
    let mut record = OpenRecord {
        header: RecordHeader { kind: kind::OPEN, cpu: 0, lost: 0, time_ns: 0 },
        context: key,
        tgid,
        tid: current_tid(),
        // SAFETY: the helper has no preconditions.
        cgroup: unsafe { generated::bpf_get_current_cgroup_id() },
        file: read::<u32>(context, &kernel::CTX_ID).unwrap_or(u32::MAX),
        files: session.files,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
    };
    if let Some(totals) = totals(&key) {
        // SAFETY: a live map value.
        unsafe {
            (*totals).tgid = tgid;
            (*totals).cgroup = record.cgroup;
            (*totals).comm = record.comm;
            account::add(&raw mut (*totals).opened_files, 1);
        }
    }
    // SAFETY: on the stack.
    unsafe { send(&raw mut record, now_ns()) };
    Some(())
}

on_entry!(OPEN_START, open_start, open_start_fentry, open_start_kprobe, (1));
on_exit!(OPEN_END, open_end, open_end_fexit, open_end_kretprobe, ret);

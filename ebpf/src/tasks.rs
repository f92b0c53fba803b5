//! Which process has which PASID: a task iterator, run once before attaching.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_seq_write;
use dsascope_common::wire::TaskPasid;

use crate::kernel::{self, read};

/// The head of the kernel's `struct bpf_iter__task`; both are pointers the verifier knows the types of.
#[repr(C)]
struct IterTask {
    meta: *const IterMeta,
    task: *const c_void,
}

#[repr(C)]
struct IterMeta {
    seq: *mut c_void,
}

#[inline(always)]
fn describe(task: u64) -> Option<TaskPasid> {
    let tgid: u32 = read(task, &kernel::TASK_TGID)?;
    // One line a process: its leader's.
    if read::<u32>(task, &kernel::TASK_PID)? != tgid {
        return None;
    }
    let mm: u64 = read(task, &kernel::TASK_MM)?;
    let iommu: u64 = read(mm, &kernel::MM_IOMMU_MM)?;
    Some(TaskPasid {
        tgid,
        pasid: read(iommu, &kernel::IOMMU_MM_PASID)?,
        comm: read(task, &kernel::TASK_COMM)?,
    })
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
extern "C" fn pasids_iter(context: *const IterTask) -> i32 {
    // SAFETY: the verifier checks both loads against the iterator's context; `task` is null after the last one.
    let (seq, task) = unsafe { ((*(*context).meta).seq, (*context).task) };
    if !task.is_null()
        && let Some(mut line) = describe(task as u64)
    {
        // SAFETY: `line` is on the stack, `seq` is the iterator's.
        unsafe { bpf_seq_write(seq.cast(), (&raw mut line).cast(), size_of::<TaskPasid>() as u32) };
    }
    0
}

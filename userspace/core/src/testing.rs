//! Sample faults for this crate's tests.

use std::num::NonZeroU64;

use dsascope_common::hw::event_log::EntryHeader;

use crate::event::{Context, CopyOutcome, DeviceId, DeviceKind, Fault, Marks, StageTimes};

pub(crate) fn context(device: u16, wq: u16, pasid: u32) -> Context {
    Context { device: DeviceId::new(DeviceKind::Dsa, device), wq, pasid, opened_ns: NonZeroU64::new(1_000) }
}

/// A memmove whose record was delivered at `at_ns`, after 10, 20, 40, 80 and 160 ns in its stages.
pub(crate) fn fault(context: Context, at_ns: u64) -> Fault {
    let mut logged = [0; 64];
    logged[0] = 0x01;
    let time = |before: u64| NonZeroU64::new(at_ns.saturating_sub(before));
    Fault {
        at_ns,
        cpu: 1,
        context,
        tgid: Some(4242),
        worker: 77,
        queue_cpu: Some(1),
        times: StageTimes {
            interrupt_ns: time(310),
            queued_ns: time(300),
            started_ns: time(280),
            copy_start_ns: time(240),
            copy_end_ns: time(160),
            done_ns: time(0),
        },
        copy: CopyOutcome::Delivered { bytes: 32 },
        copy_addr: Some(0x7f00_1000),
        entry: EntryHeader::default()
            .with_desc_valid(true)
            .with_wq_idx_valid(true)
            .with_fault_rw(true)
            .with_err_info_valid(true)
            .with_error(0x1a)
            .with_wq_idx(context.wq as u8)
            .with_operation(0x03)
            .with_pasid(context.pasid)
            .with_rcr(true)
            .with_fault_addr(0x7f00_1000),
        logged,
        delivered: logged,
        counted_faults: 1,
        counted_failures: 0,
        marks: Marks::default(),
        origin: None,
    }
}

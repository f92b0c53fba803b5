//! Page requests: what the IOMMU is asked for by a device that meets an absent page, where its WQ's page requests are on.
//!
//! Hooks: `intel_iommu:prq_report` when a request was handed on, `intel_iommu:qi_submit` when its group's response goes back. Only
//! those of idxd devices are sent. Only attached when wanted, because `qi_submit` also fires for each invalidation.
//! Refuses: joining the two. They run on different CPUs, in either order.

use aya_ebpf::{
    EbpfContext,
    macros::{btf_tracepoint, map, tracepoint},
    maps::HashMap,
    programs::{BtfTracePointContext, TracePointContext},
};
use dsascope_common::{
    hw::page_request::{Request, Response},
    wire::{PageRequestRecord, PageResponseRecord, RecordHeader, hole, kind},
};

use crate::{
    account::{self, send},
    kernel::{self, now_ns, read},
    wrap::ran,
};

/// Devices by requester (bus, device, function): the N of dsaN or iaxN. Set by the loader.
#[map]
static REQUESTERS: HashMap<u32, u32> = HashMap::with_max_entries(1024, 0);

// SAFETY: `repr(C)`, starts with the header.
unsafe impl account::Record for PageRequestRecord {
    const KIND: u16 = kind::PAGE_REQUEST;
}

// SAFETY: `repr(C)`, starts with the header.
unsafe impl account::Record for PageResponseRecord {
    const KIND: u16 = kind::PAGE_RESPONSE;
}

/// [`send`] fills it in.
const HEADER: RecordHeader = RecordHeader { kind: 0, cpu: 0, lost: 0, time_ns: 0 };

#[inline(always)]
fn device(requester: u16) -> Option<u16> {
    // SAFETY: the value is read at once; the map does not change while programs are attached.
    unsafe { REQUESTERS.get(&u32::from(requester)) }.map(|device| *device as u16)
}

#[inline(always)]
fn requested(request: Request) {
    if let Some(device) = device(request.requester()) {
        let mut record = PageRequestRecord { header: HEADER, device, reserved: [0; 3], request };
        // SAFETY: on the stack.
        unsafe { send(&raw mut record, now_ns()) };
    }
}

#[inline(always)]
fn responded(response: Response) {
    if let Some(device) = device(response.requester()) {
        let mut record = PageResponseRecord { header: HEADER, device, reserved: [0; 3], response };
        // SAFETY: on the stack.
        unsafe { send(&raw mut record, now_ns()) };
    }
}

/// A quadword of a tracepoint's record; `None` when BTF does not say where it is, and then the loader does not attach this program.
#[inline(always)]
fn field(ctx: &TracePointContext, offset: &aya_ebpf::Global<u32>) -> Option<u64> {
    read(EbpfContext::as_ptr(ctx) as u64, offset)
}

#[btf_tracepoint]
pub fn page_request_btf(ctx: BtfTracePointContext) -> i32 {
    // (struct intel_iommu *iommu, struct device *dev, u64 dw0, u64 dw1, u64 dw2, u64 dw3, unsigned long seq)
    ran!(&ctx, PAGE_REQUEST);
    requested(Request { qwords: [ctx.arg(2), ctx.arg(3)] });
    0
}

#[tracepoint]
pub fn page_request_tracepoint(ctx: TracePointContext) -> u32 {
    ran!(&ctx, PAGE_REQUEST);
    match (field(&ctx, &kernel::TP_PRQ_DW0), field(&ctx, &kernel::TP_PRQ_DW1)) {
        (Some(low), Some(high)) => requested(Request { qwords: [low, high] }),
        _ => account::hole(hole::READ_FAILED),
    }
    0
}

#[btf_tracepoint]
pub fn page_response_btf(ctx: BtfTracePointContext) -> i32 {
    // (struct intel_iommu *iommu, u64 qw0, u64 qw1, u64 qw2, u64 qw3)
    let low = ctx.arg(1);
    if Response::is(low) {
        ran!(&ctx, PAGE_RESPONSE);
        responded(Response { qwords: [low, ctx.arg(2)] });
    }
    0
}

#[tracepoint]
pub fn page_response_tracepoint(ctx: TracePointContext) -> u32 {
    match field(&ctx, &kernel::TP_QI_QW0) {
        Some(low) if !Response::is(low) => {}
        Some(low) => {
            ran!(&ctx, PAGE_RESPONSE);
            match field(&ctx, &kernel::TP_QI_QW1) {
                Some(high) => responded(Response { qwords: [low, high] }),
                None => account::hole(hole::READ_FAILED),
            }
        }
        None => account::hole(hole::READ_FAILED),
    }
    0
}

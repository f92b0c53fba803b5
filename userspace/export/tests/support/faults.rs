//! Any faults at all.

use std::num::NonZeroU64;

use dsascope_common::hw::event_log::EntryHeader;
use dsascope_core::event::{Context, CopyOutcome, DeviceId, DeviceKind, Fault, Marks, StageTimes};
use proptest::prelude::*;
use zerocopy::FromBytes;

fn time() -> impl Strategy<Value = Option<NonZeroU64>> {
    (0..u64::MAX / 4).prop_map(NonZeroU64::new)
}

prop_compose! {
    pub(crate) fn fault()(
        at_ns in 0..u64::MAX / 4,
        device in prop::sample::select(vec![DeviceKind::Dsa, DeviceKind::Iax, DeviceKind::Unknown]),
        (wq, pasid, cpu) in (0u16..8, 1u32..6, any::<u16>()),
        tgid in any::<Option<u32>>(),
        times in prop::array::uniform6(time()),
        qwords in any::<[[u8; 8]; 4]>(),
        statuses in any::<[u8; 2]>(),
        (asked, done, how) in (any::<u32>(), any::<u32>(), 0..4),
        marks in any::<[bool; 5]>(),
        copy_addr in any::<Option<u64>>(),
    ) -> Fault {
        let [interrupt_ns, queued_ns, started_ns, copy_start_ns, copy_end_ns, done_ns] = times;
        let [mut logged, mut delivered] = [[0; 64]; 2];
        (logged[0], delivered[0]) = (statuses[0], statuses[1]);
        Fault {
            at_ns,
            cpu,
            context: Context { device: DeviceId::new(device, 1), wq, pasid, opened_ns: NonZeroU64::new(7) },
            tgid,
            worker: done,
            queue_cpu: Some(wq),
            times: StageTimes { interrupt_ns, queued_ns, started_ns, copy_start_ns, copy_end_ns, done_ns },
            copy: match how {
                0 => CopyOutcome::Delivered { bytes: asked },
                1 => CopyOutcome::Short { asked, done },
                2 => CopyOutcome::NotCopied,
                _ => CopyOutcome::Unobserved,
            },
            copy_addr,
            entry: EntryHeader::read_from_bytes(qwords.as_flattened()).unwrap(),
            logged,
            delivered,
            counted_faults: statuses[0],
            counted_failures: statuses[1],
            marks: Marks {
                end_missing: marks[0],
                queue_missing: marks[1],
                copy_unobserved: marks[2],
                read_failed: marks[3],
                outcome_inferred: marks[4],
            },
            origin: None,
        }
    }
}

use dsascope_common::hw::descriptor::flags;
use dsascope_common::hw::event_log::EntryHeader;

use super::*;
use crate::event::{Comm, How};
use crate::testing;

const TGID: u32 = 7;

fn origin(submitted_ns: u64, operation: u8, element: Option<Element>) -> Origin {
    Origin {
        submitted_ns,
        seen_ns: None,
        tid: 8,
        comm: Comm::default(),
        how: How::Enqcmd,
        operation,
        bytes: Some(64),
        instruction: None,
        stack: None,
        element,
    }
}

fn descriptor(operation: u8, record: u64) -> Descriptor {
    Descriptor { completion_addr: record, ..Descriptor::default() }.with(operation, flags::CRAV)
}

/// A fault of `record`, logged at `queued_ns` and copied 10 ns later.
fn fault(record: u64, queued_ns: u64) -> Fault {
    let mut fault = testing::fault(testing::context(0, 1, 5), queued_ns + 20);
    fault.tgid = Some(TGID);
    fault.times.interrupt_ns = None;
    fault.times.queued_ns = NonZeroU64::new(queued_ns);
    fault.times.copy_end_ns = NonZeroU64::new(queued_ns + 10);
    fault.entry = EntryHeader::default().with_fault_addr(record);
    fault
}

fn seen(record: u64, at_ns: u64) -> Seen {
    Seen {
        at_ns,
        tgid: TGID,
        tid: 8,
        record,
        status: 1,
        submitted_ns: None,
        context: None,
        delivered_ns: None,
    }
}

#[derive(Default)]
struct Run {
    joiner: Joiner,
    told: Vec<Seen>,
}

impl Run {
    fn submit(&mut self, record: u64, at_ns: u64) {
        self.joiner.submission(
            TGID,
            &origin(at_ns, opcode::MEMMOVE, None),
            &descriptor(opcode::MEMMOVE, record),
        );
    }

    /// Elements' records are one after another from `record` on; `told` of them have submissions of their own.
    fn batch(&mut self, list: u64, record: u64, descriptors: u32, told: u32, at_ns: u64) {
        let batch =
            Descriptor { source: list, transfer_size: descriptors, ..descriptor(opcode::BATCH, record - 64) };
        self.joiner.submission(TGID, &origin(at_ns, opcode::BATCH, None), &batch);
        for index in 0..told {
            let origin = origin(at_ns, opcode::NOOP, Some(Element { list, index }));
            let record = record + u64::from(index) * 64;
            self.joiner.submission(TGID, &origin, &descriptor(opcode::NOOP, record));
        }
    }

    fn fault(&mut self, record: u64, queued_ns: u64) -> Option<Origin> {
        let mut fault = fault(record, queued_ns);
        self.joiner.fault(&mut fault);
        fault.origin
    }

    fn element(&mut self, record: u64, batch_id: u8, index: u16, queued_ns: u64) -> Option<Origin> {
        let mut fault = fault(record, queued_ns);
        fault.entry = fault.entry.with_batch(true).with_batch_id(batch_id).with_batch_idx(index);
        self.joiner.fault(&mut fault);
        fault.origin
    }

    fn see(&mut self, record: u64, at_ns: u64) {
        self.joiner.seen(seen(record, at_ns), &mut told(&mut self.told));
    }

    fn expire(&mut self, now_ns: u64) {
        self.joiner.expire(now_ns, &mut told(&mut self.told));
    }
}

fn told(list: &mut Vec<Seen>) -> impl FnMut(Event) {
    |event| match event {
        Event::Seen(seen) => list.push(seen),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_fault_has_the_submission_of_its_record() {
    let mut run = Run::default();
    run.submit(0x1000, 100);
    run.submit(0x2000, 110);
    assert_eq!(run.fault(0x2000, 200).unwrap().submitted_ns, 110);
    assert_eq!(run.fault(0x3000, 210), None);
    // A second fault of one submission is somebody else's.
    assert_eq!(run.fault(0x2000, 220), None);
    let mut foreign = fault(0x1000, 230);
    foreign.tgid = Some(TGID + 1);
    run.joiner.fault(&mut foreign);
    assert_eq!(foreign.origin, None);
}

#[test]
fn a_record_that_was_submitted_again_before_its_fault_was_told_of_keeps_them_apart() {
    let mut run = Run::default();
    run.submit(0x1000, 100);
    run.see(0x1000, 210);
    run.submit(0x1000, 220);
    // Logged before the second submission, told of after it.
    let first = run.fault(0x1000, 190).unwrap();
    assert_eq!((first.submitted_ns, first.seen_ns.map(NonZeroU64::get)), (100, Some(210)));
    let second = run.fault(0x1000, 300).unwrap();
    assert_eq!((second.submitted_ns, second.seen_ns), (220, None));
    run.expire(u64::MAX);
    assert_eq!(run.told, [], "told with its fault, and once");
}

#[test]
fn what_is_seen_after_its_fault_is_told_at_once_with_it() {
    let mut run = Run::default();
    run.submit(0x1000, 100);
    run.fault(0x1000, 200);
    run.see(0x1000, 250);
    let [seen] = run.told[..] else { panic!("{:?}", run.told) };
    assert_eq!((seen.total_ns(), seen.notice_ns()), (Some(150), Some(40)));
    assert!(seen.context.is_some());
}

#[test]
fn what_is_seen_without_a_fault_is_told_after_a_while() {
    let mut run = Run::default();
    run.submit(0x1000, 100);
    run.see(0x1000, 150);
    run.see(0x9000, 160);
    assert_eq!(run.told, [seen(0x9000, 160)], "of an unknown submission nothing comes");
    run.expire(150 + PATIENCE_NS - 1);
    assert_eq!(run.told.len(), 1);
    run.expire(150 + PATIENCE_NS);
    assert_eq!((run.told[1].total_ns(), run.told[1].context), (Some(50), None));
    // Numbers go on when the queue was empty.
    run.submit(0x1000, 200);
    run.see(0x1000, 250);
    assert_eq!(run.fault(0x1000, 220).unwrap().seen_ns.map(NonZeroU64::get), Some(250));
}

#[test]
fn elements_have_their_place_and_those_not_told_of_their_batch() {
    let mut run = Run::default();
    run.batch(0xa000, 0x1000, 8, 2, 100);
    let told = run.element(0x1040, 3, 1, 200).unwrap();
    assert_eq!((told.element, told.bytes), (Some(Element { list: 0xa000, index: 1 }), Some(64)));
    let untold = run.element(0x5000, 3, 7, 210).unwrap();
    assert_eq!((untold.element, untold.bytes), (Some(Element { list: 0xa000, index: 7 }), None));
    assert_eq!((untold.submitted_ns, untold.operation), (100, opcode::NOOP));
    // Not of that list, or told of and yet unknown.
    assert_eq!(run.element(0x5000, 3, 8, 220), None);
    assert_eq!(run.element(0x6000, 3, 0, 220), None);
    assert_eq!(run.element(0x5000, 4, 7, 220), None);
    // The batch's own record ends it; its identifier may be another's now.
    let own = run.element(0x1000 - 64, 3, 0, 230).unwrap();
    assert_eq!((own.operation, own.element), (opcode::BATCH, None));
    assert_eq!(run.element(0x5000, 3, 7, 240), None);
}

#[test]
fn after_a_loss_nothing_is_joined_to_what_was_before() {
    let mut run = Run::default();
    run.submit(0x1000, 100);
    run.batch(0xa000, 0x2000, 8, 2, 100);
    run.element(0x2000, 3, 0, 150);
    run.joiner.lost();
    assert_eq!(run.fault(0x1000, 200), None);
    assert_eq!(run.element(0x5000, 3, 7, 210), None);
}

#[test]
fn the_oldest_give_way() {
    let mut run = Run { joiner: Joiner::new(2), ..Run::default() };
    for (record, at_ns) in [(0x1000, 100), (0x2000, 110), (0x1000, 120), (0x3000, 130)] {
        run.submit(record, at_ns);
    }
    assert_eq!(run.fault(0x1000, 200), None);
    assert_eq!(run.fault(0x2000, 200).unwrap().submitted_ns, 110);
    assert_eq!(run.fault(0x3000, 200).unwrap().submitted_ns, 130);
}

#[test]
fn descriptors_without_a_record_are_not_followed() {
    let mut run = Run::default();
    let without = Descriptor { completion_addr: 0x1000, ..Descriptor::default() };
    run.joiner.submission(TGID, &origin(100, opcode::NOOP, None), &without);
    assert_eq!(run.fault(0x1000, 200), None);
}

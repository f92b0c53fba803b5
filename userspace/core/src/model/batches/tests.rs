mod simulation;

use super::*;
use crate::event::{CopyOutcome, Event, Hole, HoleKind};
use crate::model::Model;
use crate::testing::{context, fault};

/// An element of a batch, queued and served at `at_ns`.
fn element(wq: u16, id: u8, index: u16, first: bool, failed: bool, at_ns: u64) -> Fault {
    let mut fault = fault(context(0, wq, 5), at_ns);
    fault.entry =
        fault.entry.with_batch(true).with_batch_id(id).with_batch_idx(index).with_first_err_in_batch(first);
    if failed {
        fault.copy = CopyOutcome::Short { asked: 32, done: 0 };
        fault.counted_failures = 1;
    }
    fault
}

fn record(wq: u16, id: u8, patched: bool, at_ns: u64) -> Fault {
    let mut fault = fault(context(0, wq, 5), at_ns);
    fault.entry = fault.entry.with_error(status::BATCH_EVL_ERR).with_operation(1).with_batch_id(id);
    fault.logged[4] = 8;
    fault.delivered = fault.logged;
    if patched {
        fault.delivered[..2].copy_from_slice(&[status::BATCH_FAIL, 1]);
    }
    fault
}

fn feed(faults: &[Fault]) -> Batches {
    let mut batches = Batches::default();
    for fault in faults {
        batches.fault(fault);
    }
    batches
}

fn states(batches: &Batches) -> Vec<(BatchState, u64, u32)> {
    batches.ended().map(|b| (b.state, b.generation, b.element_count())).collect()
}

#[test]
fn a_batch_is_joined_and_its_record_says_how_it_ended() {
    let mut batches = feed(&[
        element(0, 3, 4, true, false, 1_000),
        element(0, 3, 2, false, true, 2_000),
        record(0, 3, true, 3_000),
    ]);
    let batch = batches.just_ended()[0].clone();
    assert!(batch.is_certain() && batch.finding.is_none());
    assert_eq!((batch.elements_delivered, batch.elements_failed), (1, 1));
    assert_eq!(strip(&batch.elements, ['.', 'X', '?']), "X.");
    let record = batch.record.unwrap();
    assert_eq!((record.logged_status, record.status, record.result), (1, Some(5), Some(1)));
    assert_eq!((record.patch, record.descriptors_completed), (Patch::Applied, 8));
    // An element outside of a batch, and anything else, is none of ours.
    batches.fault(&fault(context(0, 0, 5), 4_000));
    assert!(batches.just_ended().is_empty() && batches.open().next().is_none());
}

#[test]
fn an_identifier_that_comes_back_begins_another_batch() {
    let batches = feed(&[
        // After its record.
        element(0, 3, 0, true, false, 1_000),
        record(0, 3, false, 2_000),
        // With a new first error; with an element that the batch has already, whose first error was not seen.
        element(0, 3, 0, true, false, 3_000),
        element(0, 3, 1, true, false, 4_000),
        element(0, 3, 1, false, false, 5_000),
        // On another WQ, while the last is open.
        element(1, 3, 7, true, false, 6_000),
    ]);
    let expected = [(BatchState::Finished, 1, 1), (BatchState::Reused, 2, 1), (BatchState::Reused, 3, 1)];
    assert_eq!(states(&batches), expected);
    let mut open: Vec<_> = batches.open().map(|b| (b.context.wq, b.generation, b.first_error_seen)).collect();
    open.sort_unstable();
    assert_eq!(open, [(0, 4, false), (1, 5, true)]);
}

#[test]
fn a_record_alone_is_a_batch_of_which_nothing_else_was_seen() {
    let batches = feed(&[record(0, 9, true, 1_000)]);
    let batch = batches.ended().next().unwrap();
    assert_eq!(batch.doubts.iter().copied().collect::<Vec<_>>(), [Doubt::StartNotSeen]);
    assert_eq!((batch.element_count(), batch.finding), (0, None));
}

#[test]
fn losses_and_closes_end_what_is_open() {
    let mut model = Model::default();
    model.update(&Event::Fault(element(0, 1, 0, true, true, 1_000)));
    model.update(&Event::Hole(Hole { at_ns: 1_500, what: HoleKind::RingLost { cpu: 1 }, count: 1 }));
    assert_eq!(model.batches().just_ended()[0].state, BatchState::Interrupted);
    // What follows may be of the same batch or of the next: nothing is joined, nothing is found.
    model.update(&Event::Fault(element(0, 1, 1, false, false, 2_000)));
    model.update(&Event::Fault(record(0, 1, true, 3_000)));
    let batch = &model.batches().just_ended()[0];
    assert_eq!((batch.state, batch.element_count(), batch.finding), (BatchState::Finished, 1, None));
    assert!(!batch.is_certain());
    model.update(&Event::Fault(element(0, 1, 0, true, false, 4_000)));
    model.update(&Event::Fault(element(1, 1, 0, true, false, 4_000)));
    let release = crate::event::Release {
        at_ns: 5_000,
        context: context(0, 0, 5),
        start_ns: None,
        drain_ns: None,
        end_ns: None,
        counter_faults: 0,
        counter_failures: 0,
        file: 0,
        skipped: 1,
    };
    model.update(&Event::Release(release));
    assert_eq!(model.batches().just_ended()[0].state, BatchState::Closed);
    assert_eq!(model.batches().open().map(|b| b.context.wq).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_moved_failure_is_found_on_both_sides_with_its_cause() {
    // The identifier goes from WQ 0 to WQ 1 while WQ 0 is behind: its failure is cleared, and the one of WQ 1 told twice over.
    let batches = feed(&[
        element(0, 7, 0, true, true, 1_000),
        element(1, 7, 0, true, false, 2_000),
        record(0, 7, false, 3_000),
        record(1, 7, false, 4_000),
    ]);
    let findings: Vec<_> = batches.ended().map(|b| b.finding).collect();
    let cleared = findings[0].unwrap();
    assert_eq!(cleared.finding, MovedKind::FailureNotPatched);
    let cause = cleared.evidence.unwrap();
    assert_eq!((cause.did, cause.wq, cause.generation, cause.index), (Did::ClearedFlag, 1, 2, Some(0)));
    assert_eq!(findings[1], None);

    let batches = feed(&[
        element(0, 7, 0, true, false, 1_000),
        element(1, 7, 5, true, true, 2_000),
        record(0, 7, true, 3_000),
        record(1, 7, false, 4_000),
    ]);
    let found: Vec<_> = batches
        .ended()
        .map(|b| b.finding.unwrap())
        .map(|f| (f.finding, f.evidence.map(|e| (e.did, e.wq, e.index))))
        .collect();
    let expected = [
        (MovedKind::PatchedWithoutFailure, Some((Did::SetFlag, 1, Some(5)))),
        (MovedKind::FailureNotPatched, Some((Did::TookFlag, 0, None))),
    ];
    assert_eq!(found, expected);
    let totals = batches.totals();
    assert_eq!((totals.patched_without_failure, totals.failure_not_patched, totals.patched), (1, 1, 1));
}

#[test]
fn what_the_driver_did_to_the_record() {
    let base = record(0, 0, false, 1_000);
    let patch = |change: &dyn Fn(&mut Fault)| {
        let mut fault = base;
        change(&mut fault);
        Batch::begin(&fault, 1).finish(&fault)
    };
    assert_eq!(patch(&|_| {}), Patch::NotApplied);
    assert_eq!(patch(&|f| f.delivered[1] = 1), Patch::Applied);
    let both = |f: &mut Fault, status: u8, result: u8| {
        f.logged[..2].copy_from_slice(&[status, result]);
        f.delivered[..2].copy_from_slice(&[status, result]);
    };
    // The driver would have made the status 0x05.
    assert_eq!(patch(&|f| both(f, 1, 1)), Patch::NotApplied);
    // The device has said it all already.
    assert_eq!(patch(&|f| both(f, 5, 1)), Patch::Unknown);
    assert_eq!(patch(&|f| both(f, 6, 0)), Patch::NotApplied);
    // Nobody asked for a record: only a failure makes the driver write one.
    let unasked = |f: &mut Fault| f.entry = f.entry.with_rcr(false);
    assert_eq!(patch(&|f| unasked(f)), Patch::Applied);
    assert_eq!(
        patch(&|f| {
            unasked(f);
            f.copy = CopyOutcome::NotCopied;
        }),
        Patch::NotApplied
    );
    assert_eq!(patch(&|f| f.copy = CopyOutcome::Unobserved), Patch::Unknown);
    assert_eq!(patch(&|f| f.marks.read_failed = true), Patch::Unknown);
}

#[test]
fn services_side_by_side_are_joined_and_not_judged() {
    let mut early = record(0, 7, true, 3_000);
    early.queue_cpu = Some(2);
    let mut late = element(0, 7, 1, false, true, 4_000);
    late.times.queued_ns = NonZeroU64::new(2_500);
    let batches = feed(&[element(0, 7, 0, true, false, 1_000), early, late]);
    let ended: Vec<_> = batches.ended().collect();
    assert_eq!((ended.len(), ended[0].element_count(), ended[0].finding), (1, 2, None));
    assert_eq!(ended[0].doubts.iter().copied().collect::<Vec<_>>(), [Doubt::SeveralCpus, Doubt::LateElement]);
    assert_eq!(batches.totals().late, 1);
    // The same on one CPU is a finding at first, and is taken back.
    let mut late = element(0, 7, 1, false, true, 4_000);
    late.times.queued_ns = NonZeroU64::new(2_500);
    let batches = feed(&[element(0, 7, 0, true, false, 1_000), record(0, 7, true, 3_000), late]);
    assert_eq!(batches.totals().patched_without_failure, 0);
    assert_eq!(batches.ended().next().unwrap().finding, None);
}

#[test]
fn tables_are_bounded_and_what_does_not_fit_is_counted() {
    let mut batches = Batches::default();
    for device in 0..20u16 {
        for id in 0..=255u8 {
            let mut fault = element(0, id, 0, true, false, 1_000);
            fault.context.device.id = device;
            batches.fault(&fault);
        }
    }
    assert_eq!(batches.totals().other, 4 * 256);
    for wq in 0..100 {
        batches.fault(&element(wq, 0, 0, true, false, 2_000 + u64::from(wq)));
    }
    assert_eq!(batches.totals().evicted, 100 - 8);
    for index in 0..1000 {
        batches.fault(&element(99, 0, index, index == 0, false, 3_000));
    }
    let batch = batches.open().find(|b| b.context.wq == 99).unwrap();
    assert_eq!((batch.elements.len(), batch.element_count()), (64, 1000));
    batches.lost();
    assert_eq!(batches.ended().len(), ENDED);
}

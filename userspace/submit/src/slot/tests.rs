use std::sync::{Arc, atomic::Ordering};

use super::*;
use crate::{BatchPlan, Case, Operation, Paging, stand_in::StandIn};

const PAGED: Ask =
    Ask { source: Pages::Absent, destination: Pages::Absent, ..Ask::new(0, 0, Habit::Resident) };

struct Bench {
    device: Arc<StandIn>,
    queue: WorkQueue,
    jobs: Vec<Job>,
}

/// What became of one descriptor from its submission to its end.
#[derive(Debug, Default)]
struct Story {
    faults: Faults,
    seen: Faults,
    resumes: u32,
    end: News,
}

impl Bench {
    fn new(jobs: Vec<Job>) -> Self {
        let device = Arc::new(StandIn::default());
        Self { queue: WorkQueue::standing_in(Arc::clone(&device)), device, jobs }
    }

    fn of(operation: Operation, bytes: u32) -> Self {
        Self::new(vec![Job::single(Arc::new(Case::new(operation, bytes)))])
    }

    fn batch(operations: &[Operation], plan: BatchPlan) -> Self {
        let cases = operations.iter().map(|&operation| Arc::new(Case::new(operation, 8192))).collect();
        Self::new(vec![Job { cases, batch: Some(plan) }])
    }

    fn kit(&self) -> Kit<'_> {
        Kit {
            queue: &self.queue,
            kind: DeviceKind::Dsa,
            paging: Paging::default(),
            packing: Packing::Pages,
            jobs: &self.jobs,
            verify: true,
        }
    }

    fn slot(&self) -> Slot {
        Slot::several(&self.kit(), &Habit::ALL, 1).unwrap().remove(0)
    }

    fn run(&self, slot: &mut Slot, ask: &Ask) -> Story {
        let kit = self.kit();
        let mut story = Story { faults: slot.prepare(&kit, ask).unwrap().faults, ..Story::default() };
        loop {
            assert!(slot.send(&self.queue, || 7).unwrap());
            let settled = self.device.failures.load(Ordering::Relaxed) >= story.faults.failed;
            let news = slot.look(&kit, settled, true).unwrap().expect("the stand-in is done at once");
            story.seen += news.seen;
            story.faults += news.again.unwrap_or_default();
            if news.ended {
                story.resumes = slot.times().unwrap().resumes;
                story.end = news;
                slot.clear();
                return story;
            }
        }
    }

    fn executed(&self) -> Vec<u8> {
        std::mem::take(&mut *self.device.executed.lock().unwrap())
    }
}

fn plan(count: usize) -> BatchPlan {
    BatchPlan { elements: vec![Element::default(); count], list_border: None, record_requested: true }
}

#[track_caller]
fn is_right(story: &Story) {
    let end = &story.end;
    assert_eq!((end.wrong.as_deref(), end.left_partial, end.misreported), (None, false, false));
    assert_eq!(story.seen, story.faults);
}

#[test]
fn each_absent_page_is_brought_and_the_rest_resumed() {
    for (operation, pages) in [
        (Operation::Memmove, 6),
        (Operation::Memfill, 3),
        (Operation::Compare, 6),
        (Operation::Dualcast, 9),
        (Operation::Crcgen, 3),
        (Operation::CopyCrc, 6),
    ] {
        let bench = Bench::of(operation, 3 * 4096);
        let mut slot = bench.slot();
        for habit in [Habit::Resident, Habit::Absent] {
            let story = bench.run(&mut slot, &Ask { habit, ..PAGED });
            is_right(&story);
            assert_eq!(story.resumes, pages, "{operation:?}");
            let faults = if habit == Habit::Absent { u64::from(pages) + 1 } else { 0 };
            assert_eq!(story.faults.delivered, faults, "{operation:?}");
        }
        let resident = bench.run(&mut slot, &Ask::new(0, 0, Habit::Resident));
        is_right(&resident);
        assert_eq!(resident.resumes, 0, "{operation:?}: pages that were absent are there again");
    }
}

#[test]
fn a_record_that_cannot_come_has_ended_when_the_driver_counted_it() {
    let bench = Bench::of(Operation::Memmove, 4096);
    let mut slot = bench.slot();
    for habit in [Habit::ReadOnly, Habit::Unmapped] {
        let kit = bench.kit();
        let sent = slot.prepare(&kit, &Ask::new(0, 0, habit)).unwrap();
        assert_eq!(sent.faults, Faults { failed: 1, ..Faults::default() });
        assert!(slot.send(&bench.queue, || 1).unwrap());
        assert!(slot.look(&kit, false, true).unwrap().is_none());
        let news = slot.look(&kit, true, true).unwrap().unwrap();
        assert_eq!((news.ended, news.status, news.seen.failed), (true, None, 1));
        slot.clear();
    }
    assert_eq!(bench.device.failures.load(Ordering::Relaxed), 2);
}

#[test]
fn what_was_not_accepted_is_still_to_be_sent() {
    let bench = Bench::of(Operation::Noop, 0);
    let mut slot = bench.slot();
    bench.device.full.store(true, Ordering::Relaxed);
    slot.prepare(&bench.kit(), &Ask::new(0, 0, Habit::Resident)).unwrap();
    assert!(!slot.send(&bench.queue, || 5).unwrap());
    assert!(slot.is_unsent() && slot.times().is_none());
    bench.device.full.store(false, Ordering::Relaxed);
    assert!(slot.send(&bench.queue, || 9).unwrap());
    assert_eq!(slot.times(), Some(Times { first_sent_ns: 9, last_sent_ns: 9, resumes: 0 }));
}

#[test]
fn one_wrong_byte_is_found() {
    let bench = Bench::of(Operation::Memmove, 4096);
    let mut slot = bench.slot();
    bench.device.errs.store(true, Ordering::Relaxed);
    let story = bench.run(&mut slot, &Ask::new(3, 0, Habit::Resident));
    assert!(story.end.wrong.is_some_and(|words| words.starts_with("descriptor 3 ended with")));
    let bench = Bench::batch(&[Operation::Crcgen, Operation::Memfill], plan(2));
    bench.device.errs.store(true, Ordering::Relaxed);
    let story = bench.run(&mut bench.slot(), &Ask::new(0, 0, Habit::Resident));
    assert_eq!(story.end.wrong.as_deref(), Some("element 1 left other bytes than must be"));
}

#[test]
fn partial_completions_stay_when_nobody_may_resume_them() {
    let bench = Bench::of(Operation::Memmove, 4096);
    let mut slot = bench.slot();
    slot.prepare(&bench.kit(), &PAGED).unwrap();
    assert!(slot.send(&bench.queue, || 1).unwrap());
    let news = slot.look(&bench.kit(), true, false).unwrap().unwrap();
    assert_eq!((news.ended, news.left_partial, news.status), (true, true, Some(3)));
}

#[test]
fn a_batch_goes_on_behind_the_border_of_its_list_and_the_last_goes_alone() {
    let operations = [Operation::Memmove, Operation::Memfill, Operation::Dualcast, Operation::Crcgen];
    for (border, again) in [(0, opcode::BATCH), (2, opcode::BATCH), (3, opcode::CRCGEN)] {
        for habit in [Habit::Resident, Habit::Absent] {
            let mut plan = BatchPlan { list_border: Some(border), ..plan(4) };
            plan.elements[3].habit = habit;
            let bench = Bench::batch(&operations, plan);
            let mut slot = bench.slot();
            let absent = Ask { list: Pages::Absent, ..Ask::new(0, 0, habit) };
            let story = bench.run(&mut slot, &absent);
            is_right(&story);
            assert_eq!((story.resumes, bench.executed()), (1, vec![opcode::BATCH, again]), "{border}");
            let present = bench.run(&mut slot, &Ask { list: Pages::Resident, ..absent });
            is_right(&present);
            assert_eq!((present.resumes, bench.executed()), (0, vec![opcode::BATCH]));
        }
    }
}

#[test]
fn elements_that_ended_partly_are_resumed_one_by_one() {
    let bench = Bench::batch(&[Operation::Memmove, Operation::Noop, Operation::CopyCrc], plan(3));
    let mut slot = bench.slot();
    let story = bench.run(&mut slot, &PAGED);
    is_right(&story);
    // 8192 bytes have two pages on each side; the first of them ended the element in the batch.
    assert_eq!(
        bench.executed(),
        [&[opcode::BATCH][..], &[opcode::MEMMOVE; 4], &[opcode::COPY_CRC; 4]].concat()
    );
    assert_eq!(story.resumes, 8);
}

#[test]
fn a_batch_divided_by_its_list_resumes_the_parts_of_both() {
    let operations = [Operation::Memfill; 4];
    let bench = Bench::batch(&operations, BatchPlan { list_border: Some(2), ..plan(4) });
    let story = bench.run(&mut bench.slot(), &Ask { list: Pages::Absent, ..PAGED });
    is_right(&story);
    assert_eq!(bench.executed(), [&[opcode::BATCH; 2][..], &[opcode::MEMFILL; 8]].concat());
}

#[test]
fn a_long_list_is_brought_page_by_page() {
    let case = Arc::new(Case::new(Operation::Memfill, 64));
    let long = BatchPlan { list_border: Some(3), ..plan(3 + 64 + 64 + 1) };
    let bench = Bench::new(vec![Job { cases: vec![case], batch: Some(long) }]);
    let story = bench.run(&mut bench.slot(), &Ask { list: Pages::Absent, ..Ask::new(0, 0, Habit::Absent) });
    is_right(&story);
    assert_eq!(bench.executed(), [&[opcode::BATCH; 3][..], &[opcode::MEMFILL]].concat());
}

#[test]
fn words_of_failures_and_fences_go_as_planned() {
    let mut words = plan(4);
    words.elements[0].habit = Habit::Unmapped;
    words.elements[1].failing = true;
    words.elements[3].fence = true;
    let bench = Bench::batch(&[Operation::Memmove; 4], words);
    let story = bench.run(&mut bench.slot(), &Ask::new(0, 0, Habit::Resident));
    is_right(&story);
    assert_eq!((story.faults.failed, story.faults.delivered, story.end.status), (1, 1, Some(5)));
}

#[test]
fn packed_records_do_not_overwrite_each_other() {
    let bench = Bench::of(Operation::Memmove, 64);
    let kit = Kit { packing: Packing::Packed, ..bench.kit() };
    let mut slots = Slot::several(&kit, &[Habit::Absent], 3).unwrap();
    let addresses: Vec<u64> =
        slots.iter().map(|slot| slot.records[Habit::Absent as usize].unwrap().address()).collect();
    assert_eq!((addresses[1] - addresses[0], addresses[2] - addresses[1]), (64, 64));
    for slot in &mut slots {
        slot.prepare(&kit, &Ask::new(0, 0, Habit::Absent)).unwrap();
        slot.send(&bench.queue, || 1).unwrap();
    }
    for slot in &mut slots {
        assert_eq!(slot.look(&kit, true, true).unwrap().unwrap().wrong, None);
    }
}

#[test]
fn a_kit_without_a_look_at_memory_believes_the_record() {
    let bench = Bench::of(Operation::Memmove, 4096);
    bench.device.errs.store(true, Ordering::Relaxed);
    let kit = Kit { verify: false, ..bench.kit() };
    let mut slot = Slot::several(&kit, &[Habit::Resident], 1).unwrap().remove(0);
    slot.prepare(&kit, &Ask::new(0, 0, Habit::Resident)).unwrap();
    slot.send(&bench.queue, || 1).unwrap();
    assert_eq!(slot.look(&kit, true, true).unwrap().unwrap().wrong, None);
}

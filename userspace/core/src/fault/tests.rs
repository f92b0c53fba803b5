use std::collections::{HashMap, VecDeque};

use dsascope_common::wire::{ContextKey, RecordHeader, kind};
use proptest::prelude::*;

use super::*;
use crate::hex;

/// A true fault of the simulated kernel: when it reached each stage.
#[derive(Clone, Copy, Debug, Default)]
struct Truth {
    times: [u64; 6],
    work: u64,
}

/// Steps of the simulated kernel, as random bytes choose them.
#[derive(Clone, Copy, Debug)]
struct Step {
    cpu: u16,
    /// Which of the CPU's two workers (two WQs); the interrupt thread when 2 or more.
    actor: u8,
    lost: bool,
    nanoseconds: u16,
}

struct Running {
    fault: usize,
    stage: u16,
}

/// Per-CPU queues that serve in order, memory that is reused, records that get lost and are counted by CPU.
#[derive(Default)]
struct Kernel {
    now: u64,
    truth: Vec<Truth>,
    queues: HashMap<(u16, u8), VecDeque<usize>>,
    running: HashMap<(u16, u8), Running>,
    lost: HashMap<u16, u32>,
    free: Vec<u64>,
    joiner: StageJoiner,
    told: HashMap<u16, u32>,
    out: Vec<Event>,
    received_starts: usize,
}

impl Kernel {
    fn send(&mut self, step: Step, wq: u8, fault: usize, stage: u16, value: u64, value2: u64) {
        let lost = self.lost.entry(step.cpu).or_default();
        if step.lost {
            *lost += 1;
            return;
        }
        let header = RecordHeader { kind: kind::STAGE, cpu: step.cpu, lost: *lost, time_ns: self.now };
        let record = StageRecord {
            header,
            context: ContextKey { opened_ns: 1, pasid: 7, device: 0, wq: u16::from(wq) },
            work: self.truth[fault].work,
            worker: u32::from(step.cpu) * 2 + u32::from(wq),
            stage,
            device_type: 0,
            reserved: 0,
            value,
            value2,
        };
        let mut bytes = [0; 96];
        bytes[24..32].copy_from_slice(&(fault as u64).to_le_bytes());
        let mut events = Vec::new();
        let told = self.told.insert(step.cpu, header.lost).unwrap_or(0);
        if told != header.lost {
            self.joiner.lost_on(step.cpu, self.now, &mut |event| events.push(event));
        }
        let payload = matches!(stage, stage::QUEUED | stage::COPY_START).then_some(&bytes);
        self.joiner.push(&record, payload, &mut |event| events.push(event));
        self.received_starts += usize::from(stage == stage::STARTED);
        self.out.extend(events);
    }

    fn step(&mut self, step: Step) {
        self.now += 1 + u64::from(step.nanoseconds);
        if step.actor >= 2 {
            let wq = step.actor % 2;
            let fault = self.truth.len();
            let work = self.free.pop().unwrap_or(0x1000 + fault as u64);
            let interrupt = self.now - 1;
            self.truth.push(Truth { times: [interrupt, self.now, 0, 0, 0, 0], work });
            self.queues.entry((step.cpu, wq)).or_default().push_back(fault);
            self.send(step, wq, fault, stage::QUEUED, 0, interrupt);
            return;
        }
        let place = (step.cpu, step.actor);
        match self.running.get_mut(&place) {
            None => {
                if let Some(fault) = self.queues.get_mut(&place).and_then(VecDeque::pop_front) {
                    self.truth[fault].times[2] = self.now;
                    self.running.insert(place, Running { fault, stage: stage::STARTED });
                    self.send(step, step.actor, fault, stage::STARTED, 0, 0);
                }
            }
            Some(running) => {
                running.stage += 1;
                let (fault, stage) = (running.fault, running.stage);
                self.truth[fault].times[usize::from(stage)] = self.now;
                let value = if stage == stage::COPY_START { fault as u64 } else { 32 };
                if stage == stage::COPY_END {
                    // The service frees its own memory before it ends.
                    self.free.push(self.truth[fault].work);
                }
                if stage == stage::DONE {
                    self.running.remove(&place);
                }
                self.send(step, step.actor, fault, stage, value, 32);
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let loss = prop::sample::select(vec![0u8, 2, 30]);
    loss.prop_flat_map(|percent| {
        let step =
            (0u16..3, 0u8..5, 0u8..100, 0u16..500).prop_map(move |(cpu, actor, dice, nanoseconds)| Step {
                cpu,
                // Three of five turns work, so that queues drain.
                actor: if actor < 4 { actor % 2 } else { 2 + (nanoseconds % 2) as u8 },
                lost: dice < percent,
                nanoseconds,
            });
        prop::collection::vec(step, 0..600)
    })
}

proptest! {
    #[test]
    fn every_start_is_accounted_for_and_no_time_is_invented(steps in steps()) {
        let mut kernel = Kernel::default();
        let lossless = steps.iter().all(|step| !step.lost);
        for step in steps {
            kernel.step(step);
        }
        let mut events = std::mem::take(&mut kernel.out);
        let waiting = kernel.joiner.pending.len();
        kernel.joiner.finish(kernel.now, &mut |event| events.push(event));

        let (mut produced, mut holes, mut orphans) = (0, 0, 0);
        let mut seen = std::collections::HashSet::new();
        for event in &events {
            match event {
                Event::Fault(fault) => {
                    produced += 1;
                    let number = fault.entry.qwords[3] as usize;
                    prop_assert!(seen.insert(number), "fault {number} twice");
                    let t = fault.times;
                    let got = [t.interrupt_ns, t.queued_ns, t.started_ns, t.copy_start_ns, t.copy_end_ns, t.done_ns]
                        .map(|ns| ns.map_or(0, NonZeroU64::get));
                    prop_assert_eq!(got, kernel.truth[number].times);
                    prop_assert_eq!(fault.copy_addr, Some(number as u64));
                    prop_assert_eq!(fault.copy, CopyOutcome::Delivered { bytes: 32 });
                }
                Event::Hole(hole) if hole.what == HoleKind::StartMissing => orphans += 1,
                Event::Hole(hole) => {
                    prop_assert!(matches!(hole.what, HoleKind::EndMissing | HoleKind::QueueMissing));
                    holes += hole.count as usize;
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(produced + holes, kernel.received_starts);
        if lossless {
            // Only what has not ended is missing.
            prop_assert_eq!(holes, kernel.running.len());
            prop_assert_eq!(orphans, waiting);
        }
    }
}

fn record(stage: u16, work: u64, worker: u32, time_ns: u64) -> StageRecord {
    StageRecord {
        header: RecordHeader { kind: kind::STAGE, cpu: 0, lost: 0, time_ns },
        context: ContextKey { opened_ns: 1, pasid: 7, device: 0, wq: 0 },
        work,
        worker,
        stage,
        device_type: 0,
        reserved: 0,
        value: 0,
        value2: 0,
    }
}

fn holes(events: &[Event]) -> Vec<HoleKind> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Hole(hole) => Some(hole.what),
            _ => None,
        })
        .collect()
}

#[test]
fn what_never_comes_is_given_up_after_the_deadline() {
    let mut joiner = StageJoiner::new(8, 100);
    let mut events = Vec::new();
    let mut out = |event| events.push(event);
    joiner.push(&record(stage::QUEUED, 1, 0, 10), Some(&[0; 96]), &mut out);
    joiner.push(&record(stage::QUEUED, 2, 0, 20), Some(&[0; 96]), &mut out);
    joiner.push(&record(stage::STARTED, 2, 5, 30), None, &mut out);
    joiner.expire(110, &mut out);
    joiner.expire(111, &mut out);
    joiner.expire(1_000, &mut out);
    // A start after that is a hole, not a fault of 990 ns.
    joiner.push(&record(stage::STARTED, 1, 6, 1_000), None, &mut out);
    joiner.push(&record(stage::DONE, 1, 6, 1_001), None, &mut out);
    assert_eq!(holes(&events), [HoleKind::StartMissing, HoleKind::EndMissing, HoleKind::QueueMissing]);
    assert_eq!(events.len(), 3);
}

#[test]
fn memory_is_bounded_and_the_oldest_gives_way() {
    let mut joiner = StageJoiner::new(4, u64::MAX);
    let mut events = Vec::new();
    for n in 0..10 {
        joiner.push(&record(stage::QUEUED, n, 0, n), Some(&[0; 96]), &mut |event| events.push(event));
    }
    assert_eq!(holes(&events), [HoleKind::Evicted; 6]);
    assert_eq!(joiner.pending.len(), 4);
    assert!(joiner.pending.contains_key(&9) && !joiner.pending.contains_key(&5));
}

#[test]
fn the_payload_becomes_entry_and_records() {
    let mut joiner = StageJoiner::default();
    let mut faults = Vec::new();
    let mut out = |event| faults.push(event);
    let mut queued = [0u8; 96];
    queued[1] = 0x1a;
    queued[32] = 0x01;
    let mut copied = [0u8; 96];
    copied[0] = 0x05;
    joiner.push(&record(stage::QUEUED, 1, 0, 10), Some(&queued), &mut out);
    joiner.push(&record(stage::STARTED, 1, 5, 20), None, &mut out);
    joiner.push(&record(stage::COPY_START, 1, 5, 30), Some(&copied), &mut out);
    joiner.push(&record(stage::DONE, 1, 5, 40), None, &mut out);
    let Some(Event::Fault(fault)) = faults.pop() else { panic!("{faults:?}") };
    assert_eq!(fault.error(), 0x1a);
    assert!(hex::encode(&fault.logged).starts_with("0100"));
    assert!(hex::encode(&fault.delivered).starts_with("0500"));
    // The copy began and its end was not seen: its outcome is not known.
    assert_eq!(fault.copy, CopyOutcome::Unobserved);
}

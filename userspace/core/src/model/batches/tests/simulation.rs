//! A device that gives identifiers out and writes entries, and a driver that serves each WQ first in, first out with one failure flag an
//! identifier (idxd-facts sections 2.4, 2.5 and 8), against which joining and findings are held.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

/// A batch as a process submits it.
#[derive(Clone, Debug)]
struct Plan {
    wq: u16,
    pasid: u32,
    /// Of the elements whose record faults: whether the copy fails.
    elements: Vec<bool>,
    /// Status and result that the device logs for the batch.
    logged: (u8, u8),
    requested: bool,
}

/// An entry of the log: of which batch, and which of its elements; `None` is the batch's own.
#[derive(Clone, Copy, Debug)]
struct Entry {
    batch: usize,
    element: Option<usize>,
    id: u8,
}

/// What is known of a batch without looking at the driver's records.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Truth {
    elements: Vec<(u16, ElementOutcome)>,
    completed: Option<u32>,
    finding: Option<MovedKind>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let logged = prop::sample::select(vec![(1, 0), (1, 0), (1, 0), (5, 1), (6, 0), (5, 0)]);
    let elements = prop::collection::vec(prop::bool::weighted(0.3), 1..5);
    (0..3u16, 0..2u32, elements, logged, prop::bool::weighted(0.8)).prop_map(
        |(wq, pasid, elements, logged, requested)| Plan { wq, pasid: 5 + pasid, elements, logged, requested },
    )
}

/// The order in which the device writes entries: batches side by side, an identifier free again once its batch's own entry is written.
fn write(plans: &[Plan], ids: u8, choices: &mut impl Iterator<Item = usize>) -> Vec<Entry> {
    let mut free: Vec<u8> = (0..ids).rev().collect();
    let mut live: Vec<Entry> = Vec::new();
    let mut next = 0;
    let mut log = Vec::new();
    while next < plans.len() || !live.is_empty() {
        let choice = choices.next().unwrap_or(0);
        let can_start = next < plans.len() && !free.is_empty();
        if live.is_empty() || (can_start && choice.is_multiple_of(3)) {
            let id = free.pop().unwrap();
            live.push(Entry { batch: next, element: Some(0), id });
            next += 1;
            continue;
        }
        let at = choice / 3 % live.len();
        let entry = live[at];
        log.push(entry);
        let left = plans[entry.batch].elements.len();
        match entry.element {
            Some(n) => live[at].element = Some(n + 1).filter(|&n| n < left),
            None => {
                live.swap_remove(at);
                free.push(entry.id);
            }
        }
    }
    log
}

/// Serves the log and gives the records in the order in which they end, with the truth of each batch.
fn serve(
    plans: &[Plan],
    log: &[Entry],
    choices: &mut impl Iterator<Item = usize>,
) -> (Vec<(usize, Fault)>, Vec<Truth>) {
    let mut queues: BTreeMap<u16, VecDeque<(usize, Entry)>> = BTreeMap::new();
    for (order, entry) in log.iter().enumerate() {
        queues.entry(plans[entry.batch].wq).or_default().push_back((order, *entry));
    }
    let mut flags: HashMap<u8, bool> = HashMap::new();
    let mut in_service: BTreeMap<u16, Fault> = BTreeMap::new();
    let mut truths: Vec<_> =
        plans.iter().map(|_| Truth { elements: vec![], completed: None, finding: None }).collect();
    let mut records = Vec::new();
    let mut now_ns = 1_000_000;
    while !queues.is_empty() {
        now_ns += 10;
        let wqs: Vec<u16> = queues.keys().copied().collect();
        let wq = wqs[choices.next().unwrap_or(0) % wqs.len()];
        let queue = queues.get_mut(&wq).unwrap();
        let (order, entry) = queue[0];
        let (plan, truth) = (&plans[entry.batch], &mut truths[entry.batch]);
        let flag = flags.entry(entry.id).or_default();
        if let Some(mut fault) = in_service.remove(&wq) {
            // The copy has ended.
            if fault.copy.has_failed() {
                *flag = true;
            }
            fault.times.copy_end_ns = NonZeroU64::new(now_ns);
            fault.at_ns = now_ns;
            records.push((entry.batch, fault));
            queue.pop_front();
            if queue.is_empty() {
                queues.remove(&wq);
            }
            continue;
        }
        let mut fault = match entry.element {
            Some(n) => {
                let failed = plan.elements[n];
                let outcome = if failed { ElementOutcome::Failed } else { ElementOutcome::Delivered };
                // Unlike any other index, so that what is joined wrongly shows.
                let index = (entry.batch * 8 + n) as u16;
                truth.elements.push((index, outcome));
                if n == 0 {
                    *flag = false;
                }
                element(wq, entry.id, index, n == 0, failed, now_ns)
            }
            None => {
                let (status, result) = plan.logged;
                let patched = std::mem::take(flag);
                let mut fault = record(wq, entry.id, false, now_ns);
                fault.entry = fault.entry.with_rcr(plan.requested);
                fault.logged[..2].copy_from_slice(&[status, result]);
                fault.logged[4..8].copy_from_slice(&(entry.batch as u32).to_le_bytes());
                fault.delivered = fault.logged;
                if patched {
                    fault.delivered[..2].copy_from_slice(&[if status == 1 { 5 } else { status }, 1]);
                }
                if !plan.requested && !patched {
                    fault.copy = CopyOutcome::NotCopied;
                }
                truth.completed = Some(entry.batch as u32);
                let own = plan.elements.contains(&true);
                let visible = !plan.requested || status == 1 || result != 1;
                truth.finding = match (patched, own) {
                    _ if !visible => None,
                    (true, false) => Some(MovedKind::PatchedWithoutFailure),
                    (false, true) => Some(MovedKind::FailureNotPatched),
                    _ => None,
                };
                fault
            }
        };
        fault.context.pasid = plan.pasid;
        fault.times.queued_ns = NonZeroU64::new(1 + order as u64);
        fault.times.started_ns = NonZeroU64::new(now_ns);
        in_service.insert(wq, fault);
    }
    (records, truths)
}

fn run(plans: &[Plan], ids: u8, seed: &[usize]) -> (Vec<(usize, Fault)>, Vec<Truth>) {
    let mut choices = seed.iter().copied().cycle();
    let log = write(plans, ids, &mut choices);
    serve(plans, &log, &mut choices)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn joined_batches_are_the_simulated_ones(
        plans in prop::collection::vec(plan(), 1..30), ids in 1..4u8, seed in prop::collection::vec(any::<usize>(), 40..400),
    ) {
        let (records, truths) = run(&plans, ids, &seed);
        let faults: Vec<_> = records.iter().map(|(_, fault)| *fault).collect();
        let batches = feed(&faults);
        prop_assert_eq!(batches.open().count(), 0);
        prop_assert_eq!(batches.ended().len(), plans.len());
        let mut generations: BTreeMap<u8, Vec<u64>> = BTreeMap::new();
        for batch in batches.ended() {
            let number = batch.record.unwrap().descriptors_completed as usize;
            let (plan, truth) = (&plans[number], &truths[number]);
            let elements: Vec<_> = batch.elements.iter().map(|e| (e.index, e.outcome)).collect();
            prop_assert_eq!(&elements, &truth.elements);
            prop_assert_eq!((batch.context.wq, batch.context.pasid), (plan.wq, plan.pasid));
            prop_assert_eq!(batch.finding.map(|f| f.finding), truth.finding, "batch {}", number);
            prop_assert!(batch.is_certain() || batch.doubts.iter().all(|d| *d == Doubt::PatchUnknown));
            generations.entry(batch.id).or_default().push(batch.generation);
            // Evidence is of another batch, and of before.
            if let Some(evidence) = batch.finding.and_then(|f| f.evidence) {
                prop_assert!(evidence.generation != batch.generation && evidence.at_ns <= batch.last_ns);
            }
        }
        for uses in generations.values_mut() {
            uses.sort_unstable();
            prop_assert!(uses.iter().copied().eq(1..=uses.len() as u64));
        }
        let total = |kind| truths.iter().filter(|t| t.finding == Some(kind)).count() as u64;
        prop_assert_eq!(batches.totals().patched_without_failure, total(MovedKind::PatchedWithoutFailure));
        prop_assert_eq!(batches.totals().failure_not_patched, total(MovedKind::FailureNotPatched));
    }

    #[test]
    fn losses_make_batches_incomplete_and_never_wrong(
        plans in prop::collection::vec(plan(), 1..30), ids in 1..4u8, seed in prop::collection::vec(any::<usize>(), 40..400),
        lost in prop::collection::vec(prop::bool::weighted(0.2), 200),
    ) {
        let (records, truths) = run(&plans, ids, &seed);
        let mut batches = Batches::default();
        let mut behind: HashMap<u16, bool> = HashMap::new();
        for ((_, fault), lost) in records.iter().zip(lost.into_iter().chain(std::iter::repeat(false))) {
            // A WQ's faults are served on one CPU; its losses are told before that CPU's next record.
            let behind = behind.entry(fault.context.wq).or_default();
            if lost {
                *behind = true;
                continue;
            }
            if std::mem::take(behind) {
                batches.lost();
            }
            batches.fault(fault);
        }
        for batch in batches.ended().chain(batches.open()) {
            let mut of: Vec<_> = batch.elements.iter().map(|e| usize::from(e.index) / 8).collect();
            of.extend(batch.record.map(|r| r.descriptors_completed as usize));
            prop_assert!(of.windows(2).all(|pair| pair[0] == pair[1]), "{:?} joined", of);
            let truth = &truths[of[0]];
            if let Some(finding) = batch.finding {
                prop_assert_eq!(Some(finding.finding), truth.finding);
            }
            if batch.state == BatchState::Finished && !batch.doubts.contains(&Doubt::StartNotSeen) {
                prop_assert_eq!(batch.elements.len(), truth.elements.len());
            }
        }
    }
}

/// The two processes of the driver's own account: without a second WQ no failure ever moves.
#[test]
fn one_wq_alone_moves_nothing_and_two_do() {
    let moved = |wqs: u16| {
        let plans: Vec<_> = (0..200)
            .map(|n| Plan {
                wq: n % wqs,
                pasid: 5,
                elements: vec![n % 3 == 0, n % 5 == 0],
                logged: (1, 0),
                requested: true,
            })
            .collect();
        let seed: Vec<usize> = (0..997).map(|n| n * 7919 % 1009).collect();
        let (records, truths) = run(&plans, 2, &seed);
        let faults: Vec<_> = records.iter().map(|(_, fault)| *fault).collect();
        let totals = *feed(&faults).totals();
        assert_eq!(totals.certain, 200);
        let found = totals.patched_without_failure + totals.failure_not_patched;
        assert_eq!(found, truths.iter().filter(|t| t.finding.is_some()).count() as u64);
        found
    };
    assert_eq!(moved(1), 0);
    assert!(moved(2) > 0);
}

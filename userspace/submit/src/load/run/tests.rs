use std::sync::Arc;

use super::*;
use crate::{
    DeviceKind, Operation, Packing, Pages, Paging, WorkQueue,
    load::{Jobs, TroubleKind, Wanted},
    stand_in::StandIn,
};

fn load() -> Load {
    Load {
        threads: 2,
        depth: 3,
        rate_per_s: None,
        poisson: false,
        ramp: Duration::ZERO,
        warm_up: Duration::ZERO,
        duration: None,
        count: Some(200),
        shares: Shares {
            jobs: vec![(0, 1)],
            records: vec![(Habit::Resident, 1)],
            source: vec![(Pages::Resident, 1)],
            destination: vec![(Pages::Resident, 1)],
            list: vec![(Pages::Resident, 1)],
        },
        limits: Limits { timeout_ns: 200_000_000, resumes: u32::MAX },
        poll: Duration::ZERO,
        seed: 1,
        cpus: vec![0],
        interval: Duration::from_millis(5),
    }
}

fn jobs(operations: &[Operation], batches: &[(u16, u16)]) -> Jobs {
    let wanted = Wanted {
        operations: operations.iter().map(|&operation| (operation, 1)).collect(),
        bytes: vec![(64, 1), (5000, 1)],
        batches: batches.to_vec(),
        words: None,
        list_border: Some(1),
    };
    wanted.jobs(DeviceKind::Dsa, 1 << 20, 32).unwrap()
}

fn go(device: &Arc<StandIn>, jobs: &Jobs, load: &Load, stop_after: u64) -> (Outcome, Vec<Counts>) {
    let queue = WorkQueue::standing_in(Arc::clone(device));
    let kit = Kit {
        queue: &queue,
        kind: DeviceKind::Dsa,
        paging: Paging::default(),
        packing: Packing::Pages,
        jobs: &jobs.jobs,
        verify: true,
    };
    let load = Load { shares: Shares { jobs: jobs.shares.clone(), ..load.shares.clone() }, ..load.clone() };
    let (stop, mut seen) = (AtomicBool::new(false), Vec::new());
    let watch = |snapshot: &Snapshot<'_>| {
        assert!(snapshot.from <= snapshot.to);
        seen.push(*snapshot.counts);
        stop.store(snapshot.counts.started >= stop_after, Ordering::Relaxed);
        Ok(())
    };
    let outcome = run(&kit, &jobs.names, jobs.groups.len(), None, &load, &stop, watch).unwrap();
    (outcome, seen)
}

#[test]
fn a_mixed_load_does_what_it_says_and_nothing_is_lost_between_threads_and_intervals() {
    let operations = [Operation::Memmove, Operation::Memfill, Operation::Compare, Operation::CopyCrc];
    let jobs = jobs(&operations, &[(1, 1), (3, 1)]);
    let half = vec![(Pages::Resident, 1), (Pages::Absent, 1)];
    let load = Load {
        count: Some(64),
        shares: Shares {
            records: vec![(Habit::Resident, 1), (Habit::Absent, 1)],
            source: half.clone(),
            destination: half.clone(),
            list: half,
            ..load().shares
        },
        ..load()
    };
    let device = Arc::new(StandIn::default());
    let (outcome, seen) = go(&device, &jobs, &load, u64::MAX);
    let counts = outcome.tally.counts;
    assert_eq!(outcome.tally.troubles, []);
    assert_eq!((counts.started, counts.ended, outcome.ended), (64, 64, Ended::Done));
    assert_eq!(counts.faults, device.faults.load(Ordering::Relaxed));
    assert_eq!((counts.delivered, counts.failed), (counts.faults, 0));
    assert!(counts.resumed > 0 && counts.submissions == counts.started + counts.resumed);
    assert_eq!(counts.submissions, device.executed.lock().unwrap().len() as u64);
    assert_eq!(outcome.tally.service.len(), 64);
    assert_eq!(outcome.tally.jobs.iter().map(|of_job| of_job.ended).sum::<u64>(), 64);
    assert_eq!(
        outcome.tally.first_fault.len(),
        (1..=1000).map(|n| outcome.tally.resumes.count_at(n)).sum::<u64>()
    );
    assert_eq!(seen.last(), Some(&counts));
}

#[test]
fn a_record_that_never_comes_is_told_with_its_address() {
    let device = Arc::new(StandIn::default());
    device.dead.store(true, Ordering::Relaxed);
    let load = Load { limits: Limits { timeout_ns: 1_000_000, resumes: 0 }, ..load() };
    let (outcome, _) = go(&device, &jobs(&[Operation::Noop], &[(1, 1)]), &load, u64::MAX);
    assert_eq!((outcome.ended, outcome.tally.counts.timed_out), (Ended::NoRoom, 6));
    let trouble = &outcome.tally.troubles[0];
    assert_eq!((trouble.kind, &*trouble.operation), (TroubleKind::TimedOut, "noop"));
    assert!(trouble.record_address > 0 && trouble.record_address.is_multiple_of(4096));
}

#[test]
fn a_work_queue_that_stays_full_is_told() {
    let device = Arc::new(StandIn::default());
    device.full.store(true, Ordering::Relaxed);
    let load = Load { limits: Limits { timeout_ns: 1_000_000, resumes: 0 }, ..load() };
    let (outcome, _) = go(&device, &jobs(&[Operation::Noop], &[(1, 1)]), &load, u64::MAX);
    let counts = outcome.tally.counts;
    assert_eq!((counts.not_accepted, counts.timed_out, counts.ended), (6, 0, 0));
    assert!(outcome.retries > 6);
}

#[test]
fn a_wish_to_stop_ends_it_with_what_was_done() {
    let device = Arc::new(StandIn::default());
    let jobs = jobs(&[Operation::Noop], &[(1, 1)]);
    let (outcome, _) = go(&device, &jobs, &Load { count: None, ..load() }, 1);
    let counts = outcome.tally.counts;
    assert_eq!(outcome.ended, Ended::Asked);
    assert!(counts.started > 0 && counts.started == counts.ended);
}

#[test]
fn the_same_seed_submits_the_same() {
    let jobs = jobs(&[Operation::Memmove, Operation::Noop, Operation::Compare], &[(1, 1)]);
    let order = |seed| {
        let device = Arc::new(StandIn::default());
        let load = Load { threads: 1, depth: 1, count: Some(50), seed, ..load() };
        go(&device, &jobs, &load, u64::MAX);
        std::mem::take(&mut *device.executed.lock().unwrap())
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
}

#[test]
fn partial_completions_that_nobody_resumes_are_the_verdict() {
    let device = Arc::new(StandIn::default());
    let absent = Shares { source: vec![(Pages::Absent, 1)], ..load().shares };
    let load =
        Load { count: Some(4), shares: absent, limits: Limits { resumes: 0, ..load().limits }, ..load() };
    let (outcome, _) = go(&device, &jobs(&[Operation::Memmove], &[(1, 1)]), &load, u64::MAX);
    assert_eq!((outcome.tally.counts.left_partial, outcome.tally.counts.ended), (4, 0));
    assert_eq!(outcome.tally.troubles[0].kind, TroubleKind::Partial);
}

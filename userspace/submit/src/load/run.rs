//! A load from its threads' start to its outcome.
//!
//! Owns: the threads, the sum of what they count, interval by interval, and the last look at the driver's counters. Refuses: configuration.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    drive::{Clock, drive},
    lane::{Chooser, Limits, QueueLane, Settlement, Shares},
    report::Driver,
    schedule::{Plan, Schedule},
    tally::{Counts, Tally},
};
use crate::{Error, Habit, Kit, Packing, Random, Slot, sysfs::OpenFile};

#[derive(Clone, Debug)]
pub struct Load {
    pub threads: u16,
    /// Descriptors outstanding at most, a thread.
    pub depth: u16,
    /// Of all threads together, a second; `None`: closed loop.
    pub rate_per_s: Option<f64>,
    pub poisson: bool,
    pub ramp: Duration,
    pub warm_up: Duration,
    /// Behind the warm-up.
    pub duration: Option<Duration>,
    /// Of all threads together, the warm-up's not among them.
    pub count: Option<u64>,
    pub shares: Shares,
    pub limits: Limits,
    /// Between two looks at the records; zero: without rest.
    pub poll: Duration,
    pub seed: u64,
    /// One a thread, in turn; none: wherever the scheduler likes.
    pub cpus: Vec<usize>,
    /// Between two snapshots.
    pub interval: Duration,
}

/// Why a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All was done that was asked for.
    Done,
    /// Somebody said so.
    Asked,
    /// What timed out holds all places on the WQ.
    NoRoom,
}

#[derive(Debug)]
pub struct Outcome {
    pub ended: Ended,
    pub elapsed: Duration,
    pub tally: Tally,
    /// How often a shared WQ said that it is full.
    pub retries: u64,
    /// `None`: the driver shows no such file.
    pub driver: Option<Driver>,
}

/// One interval of a load under way.
#[derive(Debug)]
pub struct Snapshot<'a> {
    pub from: Duration,
    pub to: Duration,
    /// Of the interval.
    pub interval: &'a Tally,
    /// Since the begin.
    pub counts: &'a Counts,
}

/// Runs it. `watch` sees each interval; when it fails, the load ends with its error. `names` is as of [`super::Jobs`], `groups` their number.
pub fn run(
    kit: &Kit<'_>,
    names: &[(String, usize)],
    groups: usize,
    file: Option<&OpenFile>,
    load: &Load,
    stop: &AtomicBool,
    mut watch: impl FnMut(&Snapshot<'_>) -> Result<(), Error>,
) -> Result<Outcome, Error> {
    let settlement = Settlement::new(file);
    let tallies: Vec<Mutex<Tally>> = (0..load.threads).map(|_| Mutex::new(Tally::new(groups))).collect();
    let seed = Random::new(load.seed);
    let mut lanes = Vec::new();
    for (thread, tally) in (0..load.threads).zip(&tallies) {
        let random = seed.part(thread.into());
        let slots = Slot::several(kit, &habits(&load.shares), load.depth.into())?;
        let lane = QueueLane {
            kit: *kit,
            thread,
            chooser: Chooser::new(&load.shares, &random)?,
            limits: load.limits,
            settlement: &settlement,
            tally,
            names,
            places: slots.into_iter().map(Into::into).collect(),
            number: 0,
        };
        lanes.push((lane, Schedule::new(plan(load, thread), random.part(0))));
    }
    let clock = Running(Instant::now());
    let running = AtomicUsize::new(lanes.len());
    let failed = AtomicBool::new(false);
    let watcher = thread::current();
    let (mut all, watched, worked) = thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .into_iter()
            .map(|(mut lane, schedule)| {
                let (clock, watcher, running, failed) = (&clock, watcher.clone(), &running, &failed);
                scope.spawn(move || {
                    // Also when it panics: the watcher waits for it.
                    let _last = Leaving { running, watcher };
                    settle_on(load, lane.thread)?;
                    let tally = lane.tally;
                    let stops = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
                    let ended = |end| lock(tally).end(&end);
                    let done = drive(&mut lane, clock, schedule, ns(load.poll), stops, ended);
                    failed.fetch_or(done.is_err(), Ordering::Relaxed);
                    lock(tally).counts.never_started = done?;
                    Ok(())
                })
            })
            .collect();
        let (all, watched) = collect(&tallies, groups, &clock, &running, load.interval, &failed, &mut watch);
        let panicked = || Error::Invalid { operation: "submitting", problem: "a thread panicked".into() };
        let worked = threads.into_iter().try_for_each(|t| t.join().map_err(|_| panicked())?);
        (all, watched, worked)
    });
    worked?;
    watched?;
    for tally in &tallies {
        all.absorb(&mut lock(tally));
    }
    let elapsed = clock.0.elapsed();
    let certain = all.counts.timed_out == 0 && kit.packing == Packing::Pages;
    let counted = |file| Driver::of(file, &all.counts, certain, load.limits.timeout_ns);
    let driver = file.map(counted).transpose()?;
    let lost = all.counts.timed_out + all.counts.not_accepted;
    let ended = match () {
        () if stop.load(Ordering::Relaxed) => Ended::Asked,
        () if lost >= u64::from(load.threads) * u64::from(load.depth) => Ended::NoRoom,
        () => Ended::Done,
    };
    Ok(Outcome { ended, elapsed, tally: all, retries: kit.queue.retries(), driver })
}

/// Takes what the threads have counted, interval by interval, until the last has left.
fn collect(
    tallies: &[Mutex<Tally>],
    groups: usize,
    clock: &Running,
    running: &AtomicUsize,
    interval: Duration,
    failed: &AtomicBool,
    watch: &mut impl FnMut(&Snapshot<'_>) -> Result<(), Error>,
) -> (Tally, Result<(), Error>) {
    let (mut all, mut part, mut spare) = (Tally::new(groups), Tally::new(groups), Tally::new(groups));
    let mut from = Duration::ZERO;
    loop {
        let left = (from + interval).saturating_sub(clock.0.elapsed());
        let last = running.load(Ordering::Acquire) == 0;
        if !last && !left.is_zero() {
            thread::park_timeout(left);
            continue;
        }
        for tally in tallies {
            // A thread waits no longer than for this.
            std::mem::swap(&mut *lock(tally), &mut spare);
            part.absorb(&mut spare);
        }
        let to = clock.0.elapsed();
        let mut counts = all.counts;
        counts.add(&part.counts);
        let watched = watch(&Snapshot { from, to, interval: &part, counts: &counts });
        all.absorb(&mut part);
        if watched.is_err() {
            failed.store(true, Ordering::Relaxed);
        }
        if last || watched.is_err() {
            return (all, watched);
        }
        from = to;
    }
}

fn plan(load: &Load, thread: u16) -> Plan {
    let threads = u64::from(load.threads.max(1));
    let (thread, warm_up_ns) = (u64::from(thread), ns(load.warm_up));
    Plan {
        depth: load.depth.into(),
        rate_per_s: load.rate_per_s.map(|rate| rate / threads as f64),
        poisson: load.poisson,
        offset: thread as f64 / threads as f64,
        ramp_ns: ns(load.ramp),
        warm_up_ns,
        end_ns: load.duration.map(|duration| warm_up_ns.saturating_add(ns(duration))),
        count: load.count.map(|count| count / threads + u64::from(thread < count % threads)),
    }
}

fn habits(shares: &Shares) -> Vec<Habit> {
    shares.records.iter().filter(|(_, share)| *share > 0).map(|&(habit, _)| habit).collect()
}

/// This thread to its CPU, and its sleeps to end when asked.
fn settle_on(load: &Load, thread: u16) -> Result<(), Error> {
    // SAFETY: an integer argument; it changes this thread alone.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    let Some(&cpu) = load.cpus.get(usize::from(thread) % load.cpus.len().max(1)) else { return Ok(()) };
    // SAFETY: the set is a plain bit field, for which zero is the empty set; CPU_SET leaves what is beyond it alone.
    let pinned = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if pinned != 0 {
        return Err(Error::System {
            operation: "pinning a thread to its CPU",
            source: std::io::Error::last_os_error(),
        });
    }
    Ok(())
}

/// New memory of this thread, and of those that it starts, comes from that NUMA node.
pub fn bind_memory(node: u32) -> Result<(), Error> {
    let mut mask = [0 as libc::c_ulong; 16];
    let bits = libc::c_ulong::BITS;
    let word = mask.get_mut((node / bits) as usize);
    let too_large =
        || Error::Invalid { operation: "binding memory", problem: format!("there is no node {node}") };
    *word.ok_or_else(too_large)? |= 1 << (node % bits);
    // SAFETY: the mask is as long as said, and read only.
    let bound = unsafe {
        libc::syscall(
            libc::SYS_set_mempolicy,
            libc::MPOL_BIND,
            mask.as_ptr(),
            mask.len() as u64 * u64::from(bits),
        )
    };
    if bound != 0 {
        let source = std::io::Error::last_os_error();
        return Err(Error::System { operation: "binding memory to a NUMA node", source });
    }
    Ok(())
}

struct Leaving<'a> {
    running: &'a AtomicUsize,
    watcher: thread::Thread,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Release);
        self.watcher.unpark();
    }
}

/// The real time.
struct Running(Instant);

impl Clock for Running {
    fn now_ns(&self) -> u64 {
        ns(self.0.elapsed())
    }

    fn rest(&self, ns: u64) {
        match ns {
            0 => std::hint::spin_loop(),
            _ => thread::sleep(Duration::from_nanos(ns)),
        }
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

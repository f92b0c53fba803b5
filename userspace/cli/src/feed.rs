//! The one ordered stream that every command reads: a source's events, the kernel's totals and ticks among them, and a capture of all of
//! it when one is asked for.
//!
//! What happens at a certain time (an interval, the end) happens at a tick of the stream, so that a capture says it again just so. Owns:
//! timers, what a filter leaves out of all of it, and what the recorder is told. Refuses: folding and showing.

use std::time::Duration;

use anyhow::{Context, Result};
use dsascope_capture::{Notice, Recorder};
use dsascope_core::event::Event;
use dsascope_core::filter::Sieve;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::source::{Next, Source};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(250);
/// Ticks between two readings of the kernel's totals.
const TICKS_A_SNAPSHOT: u64 = 4;

/// How often to tell of an interval, and how long to run, in the stream's time: it has a tick then, beside those that it always has.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace {
    pub interval: Option<Duration>,
    pub duration: Option<Duration>,
}

/// Time between two looks at a recorder that is behind.
const BEHIND: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Feed<S> {
    source: S,
    sieve: Option<Sieve>,
    recorder: Option<Recorder>,
    /// What the recorder told, for whoever has a place to show it.
    notices: Vec<Notice>,
    tick: Interval,
    ticks: u64,
    interval: Option<Interval>,
    deadline: Option<Instant>,
    /// Events that should be in a capture and are not.
    unwritten: u64,
}

/// What woke the feed.
enum Woken {
    /// With the totals, or without.
    Tick {
        totals: bool,
    },
    Events(Result<Next>),
}

impl<S: Source> Feed<S> {
    /// To be called within a runtime.
    pub(crate) fn new(source: S, pace: Pace, sieve: Option<Sieve>, recorder: Option<Recorder>) -> Self {
        let start = Instant::now();
        let every = |period| {
            let mut interval = interval_at(start + period, period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
            interval
        };
        Self {
            source,
            sieve,
            recorder,
            notices: Vec::new(),
            tick: every(TICK),
            ticks: 0,
            interval: pace.interval.map(every),
            deadline: pace.duration.and_then(|duration| start.checked_add(duration)),
            unwritten: 0,
        }
    }

    /// Waits for events and appends them. Cancel-safe: dropping the future loses nothing.
    pub(crate) async fn next(&mut self, out: &mut Vec<Event>) -> Result<Next> {
        let from = out.len();
        let woken = if self.source.is_recorded() {
            // What was recorded can wait for the disk.
            while self.recorder.as_ref().is_some_and(Recorder::is_behind) {
                tokio::time::sleep(BEHIND).await;
            }
            Woken::Events(self.source.next_batch(out).await)
        } else {
            let interval = async {
                match &mut self.interval {
                    Some(interval) => interval.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = until(self.deadline) => {
                    self.deadline = None;
                    Woken::Tick { totals: false }
                }
                _ = interval => Woken::Tick { totals: true },
                _ = self.tick.tick() => {
                    self.ticks += 1;
                    Woken::Tick { totals: self.ticks.is_multiple_of(TICKS_A_SNAPSHOT) }
                }
                next = self.source.next_batch(out) => Woken::Events(next),
            }
        };
        let next = match woken {
            Woken::Tick { totals } => {
                if totals {
                    out.extend(self.source.snapshot()?.map(|snapshot| Event::Snapshot(Box::new(snapshot))));
                }
                out.push(Event::Tick { now_ns: self.source.now_ns() });
                Next::More
            }
            Woken::Events(next) => next?,
        };
        self.sift(out, from);
        self.record(&out[from..]);
        Ok(next)
    }

    /// Leaves out of the events behind `from` what the filter does not take.
    fn sift(&mut self, out: &mut Vec<Event>, from: usize) {
        let Some(sieve) = &mut self.sieve else { return };
        let mut at = 0;
        out.retain_mut(|event| {
            at += 1;
            at <= from || sieve.takes(event)
        });
    }

    /// Stops observing: a last tick, then what was on its way, the last totals included. The capture is whole afterwards.
    pub(crate) fn finish(&mut self, out: &mut Vec<Event>) -> Result<()> {
        let from = out.len();
        if !self.source.is_recorded() {
            out.push(Event::Tick { now_ns: self.source.now_ns() });
        }
        self.source.finish(out)?;
        self.sift(out, from);
        out.extend(self.sieve.as_mut().and_then(Sieve::end));
        self.record(&out[from..]);
        if let Some(recorder) = self.recorder.take() {
            self.notices.extend(recorder.finish().context("finish the capture")?);
        }
        Ok(())
    }

    /// What the recorder has to tell since the last call.
    pub(crate) fn notices(&mut self) -> impl Iterator<Item = Notice> {
        if let Some(recorder) = &self.recorder {
            self.notices.extend(recorder.notices());
        }
        for notice in &self.notices {
            if let Notice::Incomplete { events, .. } = notice {
                self.unwritten += events;
            }
        }
        self.notices.drain(..)
    }

    /// Events that should be in a capture and are not, as far as it was told.
    pub(crate) const fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Saves what the flight recorder holds, if there is one.
    pub(crate) fn save(&mut self, why: &str) {
        if let Some(recorder) = &mut self.recorder {
            recorder.save(why);
        }
    }

    pub(crate) fn source(&mut self) -> &mut S {
        &mut self.source
    }

    fn record(&mut self, events: &[Event]) {
        if let Some(recorder) = &mut self.recorder {
            events.iter().for_each(|event| recorder.push(event));
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

//! When descriptors are to start: closed loop (as soon as another has ended) or open loop (at times that ask nobody), with a ramp.
//!
//! Owns: intended starts, which latencies are measured from, so that a stall of the device is charged to all that should have started
//! meanwhile (no coordinated omission). Pure: time is an input, in nanoseconds since the run began. Refuses: waiting.

use crate::Random;

/// Of one thread.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Descriptors outstanding at most.
    pub depth: usize,
    /// Descriptors a second; `None`: closed loop.
    pub rate_per_s: Option<f64>,
    /// Gaps are exponential, as of many independent clients; otherwise all are the same.
    pub poisson: bool,
    /// The first of them comes that part of a gap late, so that threads do not go in step.
    pub offset: f64,
    /// Until then the rate, or the depth in a closed loop, rises from nothing.
    pub ramp_ns: u64,
    /// What is to start before is not measured and not part of the count.
    pub warm_up_ns: u64,
    /// Nothing is to start then or later.
    pub end_ns: Option<u64>,
    /// How many are to start.
    pub count: Option<u64>,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// To start one that should start then.
    Now { intended_ns: u64 },
    /// Nothing before then; or before one ends, when that is first.
    Later { at_ns: u64 },
    /// Nothing before one has ended.
    Full,
    /// All have started.
    Over,
}

#[derive(Clone, Debug)]
pub struct Schedule {
    plan: Plan,
    random: Random,
    /// In an open loop: arrivals so far, of a clock that ticks once an average gap; and when the next is.
    arrived: f64,
    next_ns: u64,
    left: Option<u64>,
}

impl Schedule {
    #[must_use]
    pub fn new(plan: Plan, random: Random) -> Self {
        let left = plan.count;
        let mut schedule = Self { arrived: plan.offset, plan, random, next_ns: 0, left };
        if schedule.plan.poisson {
            schedule.arrived = 0.0;
            schedule.advance();
        } else {
            schedule.next_ns = schedule.time_of(schedule.arrived);
        }
        schedule
    }

    /// `outstanding`: how many are under way.
    #[must_use]
    pub fn due(&self, now_ns: u64, outstanding: usize) -> Due {
        let intended_ns = if self.plan.rate_per_s.is_some() { self.next_ns } else { now_ns };
        let ended = |at_ns| self.plan.end_ns.is_some_and(|end_ns| at_ns >= end_ns);
        if self.left == Some(0) || ended(now_ns) || ended(intended_ns) {
            Due::Over
        } else if intended_ns > now_ns {
            Due::Later { at_ns: intended_ns }
        } else if outstanding >= self.depth_at(now_ns) {
            Due::Full
        } else {
            Due::Now { intended_ns }
        }
    }

    /// The one that was due has started.
    pub fn started(&mut self, intended_ns: u64) {
        if self.is_measured(intended_ns) {
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        self.advance();
    }

    #[must_use]
    pub const fn is_measured(&self, intended_ns: u64) -> bool {
        intended_ns >= self.plan.warm_up_ns
    }

    /// In an open loop that has ended at `now_ns`: how many should have started by then and never did.
    #[must_use]
    pub fn never_started(mut self, now_ns: u64) -> u64 {
        let end_ns = self.plan.end_ns.map_or(now_ns, |end_ns| end_ns.min(now_ns));
        let mut count = 0;
        while self.plan.rate_per_s.is_some() && self.left != Some(0) && self.next_ns < end_ns {
            count += 1;
            self.started(self.next_ns);
        }
        count
    }

    fn depth_at(&self, now_ns: u64) -> usize {
        let Plan { depth, ramp_ns, rate_per_s, .. } = self.plan;
        if rate_per_s.is_some() || now_ns >= ramp_ns {
            return depth;
        }
        ((depth as f64 * now_ns as f64 / ramp_ns as f64).ceil() as usize).clamp(1, depth)
    }

    fn advance(&mut self) {
        if self.plan.rate_per_s.is_none() {
            return;
        }
        self.arrived += if self.plan.poisson { -self.random.unit().ln() } else { 1.0 };
        self.next_ns = self.time_of(self.arrived);
    }

    /// While the rate rises linearly, its integral is a square.
    fn time_of(&self, arrived: f64) -> u64 {
        let Some(rate_per_s) = self.plan.rate_per_s else { return 0 };
        let (rate_per_ns, ramp_ns) = (rate_per_s / 1e9, self.plan.ramp_ns as f64);
        let in_ramp = rate_per_ns * ramp_ns / 2.0;
        let ns = if arrived < in_ramp {
            (2.0 * ramp_ns * arrived / rate_per_ns).sqrt()
        } else {
            ramp_ns + (arrived - in_ramp) / rate_per_ns
        };
        ns.round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn plan() -> Plan {
        Plan {
            depth: 4,
            rate_per_s: Some(1000.0),
            poisson: false,
            offset: 0.0,
            ramp_ns: 0,
            warm_up_ns: 0,
            end_ns: None,
            count: None,
        }
    }

    fn starts(plan: Plan, seed: u64) -> impl Iterator<Item = u64> {
        let mut schedule = Schedule::new(plan, Random::new(seed));
        std::iter::from_fn(move || match schedule.due(u64::MAX - 1, 0) {
            Due::Now { intended_ns } => {
                schedule.started(intended_ns);
                Some(intended_ns)
            }
            _ => None,
        })
    }

    #[test]
    fn an_open_loop_starts_at_its_rate_whoever_is_outstanding() {
        let mut schedule = Schedule::new(plan(), Random::new(1));
        assert_eq!(schedule.due(0, 0), Due::Now { intended_ns: 0 });
        schedule.started(0);
        assert_eq!(schedule.due(0, 1), Due::Later { at_ns: MS });
        assert_eq!(schedule.due(7 * MS, 4), Due::Full);
        assert_eq!(schedule.due(7 * MS, 3), Due::Now { intended_ns: MS }, "it was to start long ago");
        let half = starts(Plan { offset: 0.5, ..plan() }, 1).nth(10);
        assert_eq!(half, Some(10 * MS + MS / 2));
    }

    #[test]
    fn a_closed_loop_starts_when_there_is_room() {
        let closed = Plan { rate_per_s: None, count: Some(2), ..plan() };
        let mut schedule = Schedule::new(closed, Random::new(1));
        assert_eq!(schedule.due(5, 4), Due::Full);
        assert_eq!(schedule.due(9, 3), Due::Now { intended_ns: 9 });
        schedule.started(9);
        schedule.started(9);
        assert_eq!(schedule.due(9, 0), Due::Over);
    }

    #[test]
    fn a_ramp_has_half_the_starts_of_the_same_time_behind_it() {
        let ramp = Plan { ramp_ns: 1000 * MS, ..plan() };
        let before = starts(ramp.clone(), 1).take_while(|&ns| ns < 1000 * MS).count();
        let behind = starts(ramp, 1).filter(|&ns| ns >= 1000 * MS).take_while(|&ns| ns < 2000 * MS).count();
        assert_eq!((before, behind), (500, 1000));
        let closed = Schedule::new(Plan { rate_per_s: None, ramp_ns: 100, ..plan() }, Random::new(1));
        assert_eq!([0, 25, 26, 99, 100].map(|ns| closed.depth_at(ns)), [1, 1, 2, 4, 4]);
    }

    #[test]
    fn exponential_gaps_have_the_rate_as_their_mean_and_the_seed_as_their_order() {
        let poisson = Plan { poisson: true, ..plan() };
        let all: Vec<u64> = starts(poisson.clone(), 1).take(100_000).collect();
        let mean = all[all.len() - 1] as f64 / all.len() as f64;
        // Five standard errors of an exponential mean.
        assert!((mean / MS as f64 - 1.0).abs() < 5.0 / (all.len() as f64).sqrt(), "{mean}");
        let gaps: Vec<u64> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let long = gaps.iter().filter(|&&gap| gap > 2 * MS).count() as f64 / gaps.len() as f64;
        assert!((long - (-2f64).exp()).abs() < 0.01, "{long} of the gaps are longer than two means");
        assert_eq!(starts(poisson.clone(), 1).nth(5), Some(all[5]));
        assert_ne!(starts(poisson, 2).nth(5), Some(all[5]));
    }

    #[test]
    fn what_never_started_is_counted() {
        let ends = Plan { end_ns: Some(100 * MS), ..plan() };
        let mut schedule = Schedule::new(ends, Random::new(1));
        for intended_ns in (0..40).map(|ms| ms * MS) {
            assert_eq!(schedule.due(intended_ns, 0), Due::Now { intended_ns });
            schedule.started(intended_ns);
        }
        assert_eq!(schedule.due(200 * MS, 0), Due::Over);
        assert_eq!(schedule.clone().never_started(50 * MS), 10, "asked to end early");
        assert_eq!(schedule.never_started(200 * MS), 60);
    }

    #[test]
    fn the_warm_up_is_no_part_of_the_count() {
        let warm = Plan { warm_up_ns: 10 * MS, count: Some(5), ..plan() };
        assert_eq!(starts(warm, 1).last(), Some(14 * MS));
    }
}

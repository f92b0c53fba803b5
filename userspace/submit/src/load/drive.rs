//! One thread's loop: starts what is due, looks at what is outstanding, rests.
//!
//! Owns: the order of these, and which times a latency is between. Refuses: knowing of devices; it drives a [`Lane`] by a [`Clock`], and the
//! tests' have neither hardware nor sleeps.

use super::{
    schedule::{Due, Schedule},
    tally::End,
};
use crate::Error;

/// Time since the run began, and a way to let it pass.
pub trait Clock {
    fn now_ns(&self) -> u64;
    fn rest(&self, ns: u64);
}

/// Where descriptors are submitted, and seen to their ends.
pub trait Lane {
    fn outstanding(&self) -> usize;
    /// More outstanding descriptors than that it has no room for.
    fn room(&self) -> usize;
    /// Submits the next one.
    fn start(&mut self, intended_ns: u64, clock: &impl Clock) -> Result<(), Error>;
    /// Looks at all that is outstanding, once, and tells of those that have ended.
    fn look(&mut self, clock: &impl Clock, ended: &mut dyn FnMut(End)) -> Result<(), Error>;
}

/// Until the schedule is over or somebody says `stop`, and nothing is outstanding any more; how many starts of an open loop never came.
pub fn drive(
    lane: &mut impl Lane,
    clock: &impl Clock,
    mut schedule: Schedule,
    poll_ns: u64,
    stop: impl Fn() -> bool,
    mut ended: impl FnMut(End),
) -> Result<u64, Error> {
    let never_started = loop {
        lane.look(clock, &mut |end| ended(measured(end, &schedule)))?;
        let now_ns = clock.now_ns();
        if stop() || lane.room() == 0 {
            break schedule.clone().never_started(now_ns);
        }
        match schedule.due(now_ns, lane.outstanding()) {
            Due::Now { .. } if lane.outstanding() >= lane.room() => clock.rest(poll_ns),
            Due::Now { intended_ns } => {
                lane.start(intended_ns, clock)?;
                schedule.started(intended_ns);
            }
            Due::Full => clock.rest(poll_ns),
            Due::Later { at_ns } => {
                let wait_ns = at_ns - now_ns;
                clock.rest(if lane.outstanding() > 0 {
                    wait_ns.min(poll_ns)
                } else {
                    wait_ns.min(LOOK_AT_STOP_NS)
                });
            }
            Due::Over => break schedule.clone().never_started(now_ns),
        }
    };
    while lane.outstanding() > 0 {
        lane.look(clock, &mut |end| ended(measured(end, &schedule)))?;
        clock.rest(poll_ns);
    }
    Ok(never_started)
}

/// With nothing outstanding, the wish to stop is looked at so often.
const LOOK_AT_STOP_NS: u64 = 50_000_000;

fn measured(end: End, schedule: &Schedule) -> End {
    End { measured: schedule.is_measured(end.intended_ns), ..end }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::VecDeque};

    use super::*;
    use crate::{
        Random,
        load::{Tally, schedule::Plan},
    };

    const US: u64 = 1_000;
    const MS: u64 = 1_000 * US;

    /// Time passes when somebody rests.
    #[derive(Default)]
    struct Script(Cell<u64>);

    impl Clock for Script {
        fn now_ns(&self) -> u64 {
            self.0.get()
        }
        fn rest(&self, ns: u64) {
            self.0.set(self.0.get() + ns);
        }
    }

    /// Takes 100 µs for each, and does nothing at all during the stall.
    struct Device {
        stall: std::ops::Range<u64>,
        room: usize,
        busy_until_ns: u64,
        outstanding: VecDeque<(u64, u64, u64)>,
    }

    impl Device {
        fn new(stall: std::ops::Range<u64>) -> Self {
            Self { stall, room: 4, busy_until_ns: 0, outstanding: VecDeque::new() }
        }
    }

    impl Lane for Device {
        fn outstanding(&self) -> usize {
            self.outstanding.len()
        }
        fn room(&self) -> usize {
            self.room
        }
        fn start(&mut self, intended_ns: u64, clock: &impl Clock) -> Result<(), Error> {
            let now_ns = clock.now_ns();
            let mut ends_ns = now_ns.max(self.busy_until_ns) + 100 * US;
            if ends_ns > self.stall.start && now_ns < self.stall.end {
                ends_ns = ends_ns.max(self.stall.end + 100 * US);
            }
            self.busy_until_ns = ends_ns;
            self.outstanding.push_back((intended_ns, now_ns, ends_ns));
            Ok(())
        }
        fn look(&mut self, clock: &impl Clock, ended: &mut dyn FnMut(End)) -> Result<(), Error> {
            let now_ns = clock.now_ns();
            while let Some((intended_ns, sent_ns, _)) =
                self.outstanding.pop_front_if(|&mut (.., ends)| ends <= now_ns)
            {
                ended(End { intended_ns, sent_ns: Some(sent_ns), ended_ns: now_ns, ..End::default() });
            }
            Ok(())
        }
    }

    /// A second, with a stall of the device from 0.3 s to 0.5 s.
    fn run(rate_per_s: Option<f64>, stall: std::ops::Range<u64>) -> (Tally, u64) {
        let mut device = Device::new(stall);
        let plan = Plan {
            depth: if rate_per_s.is_some() { 4 } else { 1 },
            rate_per_s,
            poisson: false,
            offset: 0.0,
            ramp_ns: 0,
            warm_up_ns: 0,
            end_ns: Some(1_000 * MS),
            count: None,
        };
        let schedule = Schedule::new(plan, Random::new(1));
        let mut tally = Tally::new(1);
        let clock = Script::default();
        let missed = drive(&mut device, &clock, schedule, 10 * US, || false, |end| tally.end(&end)).unwrap();
        (tally, missed)
    }

    #[test]
    fn an_open_loop_shows_the_stall_that_a_closed_one_hides() {
        let stall = 300 * MS..500 * MS;
        let (open, missed) = run(Some(1000.0), stall.clone());
        let (closed, _) = run(None, stall);
        assert_eq!(missed, 0);
        assert_eq!(open.intended.len(), 1000);
        // A fifth of all should have started while the device stood still, and waited 100 ms on average.
        let p90 = open.intended.value_at_quantile(0.9);
        assert!((70 * MS..120 * MS).contains(&p90), "{p90}");
        // The closed loop sent one of thousands into it.
        assert!(closed.intended.len() > 5000);
        assert!(closed.intended.value_at_quantile(0.999) < MS);
        assert!(closed.intended.max() > 190 * MS);
        // Even in the open loop, the device's own time tells of those alone that it had taken.
        assert!(open.service.value_at_quantile(0.9) < MS);
    }

    #[test]
    fn without_a_stall_both_say_the_same() {
        let nothing = 0..0;
        let (open, _) = run(Some(1000.0), nothing.clone());
        let (closed, _) = run(None, nothing);
        assert_eq!(open.intended.value_at_quantile(0.99), closed.intended.value_at_quantile(0.99));
    }

    #[test]
    fn what_a_slow_device_never_took_is_counted() {
        let (tally, missed) = run(Some(20_000.0), 0..0);
        assert_eq!(tally.intended.len() + missed, 20_000);
        assert!(missed > 9_000, "{missed}: the device does ten a millisecond");
    }

    #[test]
    fn a_lane_without_room_ends_the_run() {
        let mut device = Device { room: 0, ..Device::new(0..0) };
        let plan = Plan {
            depth: 1,
            rate_per_s: None,
            poisson: false,
            offset: 0.0,
            ramp_ns: 0,
            warm_up_ns: 0,
            end_ns: None,
            count: None,
        };
        let schedule = Schedule::new(plan, Random::new(1));
        let missed = drive(&mut device, &Script::default(), schedule, 1, || false, |_| {}).unwrap();
        assert_eq!(missed, 0);
    }
}

//! What a process will do, exactly: which descriptor has its completion record where, and how many faults follow.
//!
//! Owns: the order of habits. Refuses: guessing what a process with faults pending at its exit leaves behind.

use super::{Exit, Expect, Process, Shares};

/// Where a completion record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    Resident,
    Absent,
    ReadOnly,
    Unmapped,
}

impl Habit {
    pub const ALL: [Self; 4] = [Self::Resident, Self::Absent, Self::ReadOnly, Self::Unmapped];

    /// Whether the driver's copy cannot succeed.
    #[must_use]
    pub const fn fails(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Unmapped)
    }
}

impl Shares {
    #[must_use]
    pub const fn of(&self, habit: Habit) -> u16 {
        match habit {
            Habit::Resident => self.resident,
            Habit::Absent => self.absent,
            Habit::ReadOnly => self.read_only,
            Habit::Unmapped => self.unmapped,
        }
    }

    #[must_use]
    pub fn sum(&self) -> u32 {
        Habit::ALL.iter().map(|&habit| u32::from(self.of(habit))).sum()
    }

    /// One cycle of habits, each as evenly spread as its share allows; repeated for as long as the process submits.
    #[must_use]
    pub fn cycle(&self) -> Vec<Habit> {
        let sum = i64::from(self.sum());
        let mut credit = [0i64; 4];
        let mut cycle = Vec::new();
        for _ in 0..sum {
            for (credit, habit) in credit.iter_mut().zip(Habit::ALL) {
                *credit += i64::from(self.of(habit));
            }
            // The first of the largest: `max_by_key` would take the last.
            let next = (0..4).rev().max_by_key(|&index| credit[index]).unwrap_or_default();
            credit[next] -= sum;
            cycle.push(Habit::ALL[next]);
        }
        cycle
    }
}

/// Descriptors by habit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub resident: u64,
    pub absent: u64,
    pub read_only: u64,
    pub unmapped: u64,
}

impl Plan {
    #[must_use]
    pub const fn faults(&self) -> u64 {
        self.absent + self.read_only + self.unmapped
    }

    /// As a scenario's expectation.
    #[must_use]
    pub const fn expect(&self) -> Expect {
        Expect {
            faults: Some(self.faults()),
            delivered: Some(self.absent),
            failed: Some(self.read_only + self.unmapped),
        }
    }
}

impl Process {
    /// Everything it submits, over all times that it opens the WQ.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let cycle = self.completion_records.cycle();
        let count = self.count as usize;
        let in_count = |habit| {
            let of = |habits: &[Habit]| habits.iter().filter(|&&h| h == habit).count();
            let whole = count.checked_div(cycle.len()).unwrap_or_default();
            let rest = &cycle[..count - whole * cycle.len()];
            (whole * of(&cycle) + of(rest)) as u64 * u64::from(self.repeat)
        };
        Plan {
            resident: in_count(Habit::Resident),
            absent: in_count(Habit::Absent),
            read_only: in_count(Habit::ReadOnly),
            unmapped: in_count(Habit::Unmapped),
        }
    }

    /// What must follow from the plan; `None` when the process exits with faults pending, as then it depends on time.
    #[must_use]
    pub fn certain(&self) -> Option<Expect> {
        (self.exit == Exit::Clean).then(|| self.plan().expect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn habits_are_spread_evenly_and_keep_their_shares() {
        let shares = Shares { resident: 1, absent: 2, read_only: 0, unmapped: 1 };
        use Habit::{Absent, Resident, Unmapped};
        assert_eq!(shares.cycle(), [Absent, Resident, Unmapped, Absent]);
    }

    #[test]
    fn plan_counts_what_the_cycle_yields() {
        let shares = Shares { resident: 3, absent: 5, read_only: 2, unmapped: 1 };
        let cycle = shares.cycle();
        for count in 0..40u32 {
            let process = Process { count, repeat: 3, completion_records: shares, ..process() };
            let mut seen = Plan::default();
            for habit in cycle.iter().cycle().take(count as usize) {
                *match habit {
                    Habit::Resident => &mut seen.resident,
                    Habit::Absent => &mut seen.absent,
                    Habit::ReadOnly => &mut seen.read_only,
                    Habit::Unmapped => &mut seen.unmapped,
                } += 3;
            }
            assert_eq!(process.plan(), seen, "count {count}");
        }
    }

    #[test]
    fn nothing_is_certain_when_faults_are_pending_at_exit() {
        assert_eq!(Process { exit: Exit::Pending, ..process() }.certain(), None);
        let expect = Process { count: 10, ..process() }.certain();
        assert_eq!(expect, Some(Expect { faults: Some(10), delivered: Some(10), failed: Some(0) }));
    }

    fn process() -> Process {
        toml::from_str("name = 'p'\ndevice = 'dsa0'\nwork_queue = 0\noperation = 'noop'\ncount = 1").unwrap()
    }
}

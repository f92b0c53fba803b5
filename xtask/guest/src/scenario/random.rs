//! Random valid scenarios, the same for the same seed on every machine.
//!
//! Owns: the choice. Refuses: scenarios that take long (a few hundred descriptors a process), as many are run in one boot.

use std::collections::BTreeMap;

use super::{Device, DeviceKind, Exit, Group, Mode, Operation, Process, Scenario, Shares, Tracer, WorkQueue};

/// SplitMix64: small, and good enough to choose scenarios.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included.
    fn range(&mut self, low: u16, high: u16) -> u16 {
        let width = u64::from(high.saturating_sub(low)) + 1;
        low + (self.next() % width) as u16
    }

    fn one_in(&mut self, n: u16) -> bool {
        self.range(1, n) == 1
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() as usize % from.len()]
    }
}

/// A valid scenario of one to four processes on dsa0.
#[must_use]
pub fn random(seed: u64) -> Scenario {
    let mut r = Random(seed);
    let processes = r.range(1, 4);
    let groups = groups(&mut r);
    let group_ids: Vec<u8> = if groups.is_empty() { vec![0] } else { groups.iter().map(|g| g.id).collect() };
    let mut ids: Vec<u8> = (0..super::WORK_QUEUES).collect();
    let work_queues: Vec<WorkQueue> = (0..processes)
        .map(|_| WorkQueue {
            id: ids.swap_remove(r.next() as usize % ids.len()),
            mode: Mode::Dedicated,
            size: r.range(1, 32),
            priority: r.range(1, 15) as u8,
            group: r.pick(&group_ids),
            page_requests: false,
            block_on_fault: false,
        })
        .collect();
    let processes: Vec<Process> =
        work_queues.iter().enumerate().map(|(index, wq)| process(&mut r, index, wq)).collect();
    let expect: BTreeMap<_, _> =
        processes.iter().filter_map(|process| Some((process.name.clone(), process.certain()?))).collect();
    let event_log_entries = match r.range(0, 3) {
        0 => 64,
        1 => r.range(64, 300).into(),
        2 => r.range(301, 4096).into(),
        _ => r.pick(&[100, 128, 1000, 65535]),
    };
    Scenario {
        name: format!("seed {seed}"),
        description: String::new(),
        timeout_s: 120,
        tracer: Tracer::default(),
        devices: vec![Device {
            name: "dsa0".into(),
            kind: DeviceKind::Dsa,
            event_log_entries,
            groups,
            work_queues,
        }],
        processes,
        expect,
    }
}

/// None (all engines in group 0), or one to four groups of one engine or two.
fn groups(r: &mut Random) -> Vec<Group> {
    match r.range(0, 3) {
        0 => Vec::new(),
        1 => vec![Group { id: r.range(0, 3) as u8, engines: vec![0, 1, 2, 3] }],
        2 => vec![Group { id: 0, engines: vec![0, 2] }, Group { id: 1, engines: vec![1, 3] }],
        _ => (0..4).map(|id| Group { id, engines: vec![3 - id] }).collect(),
    }
}

fn process(r: &mut Random, index: usize, wq: &WorkQueue) -> Process {
    let operation = r.pick(&[
        Operation::Noop,
        Operation::Memmove,
        Operation::Memfill,
        Operation::Compare,
        Operation::Batch,
    ]);
    let bytes = match operation {
        Operation::Noop => Vec::new(),
        _ => (0..r.range(1, 3)).map(|_| r.pick(&[1, 8, 64, 200, 4096, 5000, 16384])).collect(),
    };
    let completion_records = shares(r);
    let count = r.range(10, 200);
    let faulty =
        completion_records.resident == 0 || completion_records.sum() > completion_records.resident.into();
    let pending = faulty && r.one_in(5);
    let threads = if pending || wq.size < 2 { 1 } else { r.pick(&[1, 1, 2]) };
    let outstanding = r.range(threads, wq.size.min(count));
    Process {
        name: format!("random-{index}"),
        device: "dsa0".into(),
        work_queue: wq.id,
        operation,
        bytes,
        batch_descriptors: (operation == Operation::Batch).then(|| r.range(2, 16)),
        count: count.into(),
        poll_us: 50,
        rate_per_s: r.one_in(4).then(|| u32::from(r.range(100, 1000))),
        outstanding,
        threads,
        repeat: if pending { 1 } else { r.pick(&[1, 1, 1, 2, 3]) },
        start_delay_ms: if r.one_in(3) { r.range(1, 100).into() } else { 0 },
        exit: if pending { Exit::Pending } else { Exit::Clean },
        cgroup: None,
        completion_records,
    }
}

/// One habit alone, or a mix.
fn shares(r: &mut Random) -> Shares {
    let none = Shares { resident: 0, absent: 0, read_only: 0, unmapped: 0 };
    match r.range(0, 6) {
        0 => Shares { absent: 1, ..none },
        1 => Shares { read_only: 1, ..none },
        2 => Shares { unmapped: 1, ..none },
        3 => Shares { resident: 1, ..none },
        _ => Shares {
            resident: r.range(0, 4),
            absent: r.range(1, 8),
            read_only: r.range(0, 2),
            unmapped: r.range(0, 2),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::plan::Habit;
    use proptest::prelude::*;

    #[test]
    fn ten_thousand_seeds_are_valid_and_cover_the_format() {
        let (mut operations, mut processes, mut habits) = ([0; 5], [0; 5], [0; 4]);
        let (mut pending, mut smallest, mut largest, mut repeated) = (0, 0, 0, 0);
        for seed in 0..10_000 {
            let s = random(seed);
            s.validate().unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            processes[s.processes.len()] += 1;
            smallest += u32::from(s.devices[0].event_log_entries == 64);
            largest += u32::from(s.devices[0].event_log_entries == 65535);
            for p in &s.processes {
                operations[p.operation as usize] += 1;
                pending += u32::from(p.exit == Exit::Pending);
                repeated += u32::from(p.repeat > 1);
                for (n, habit) in habits.iter_mut().zip(Habit::ALL) {
                    *n += u32::from(p.completion_records.of(habit) > 0);
                }
            }
        }
        assert!(operations.iter().all(|&n| n > 1000), "{operations:?}");
        assert!(processes[1..].iter().all(|&n| n > 1000), "{processes:?}");
        assert!(habits.iter().all(|&n| n > 1000), "{habits:?}");
        assert!(pending > 500 && smallest > 500 && largest > 100 && repeated > 500);
    }

    proptest! {
        #[test]
        fn any_seed_is_valid_and_survives_its_file(seed: u64) {
            let s = random(seed);
            prop_assert_eq!(&random(seed), &s);
            prop_assert_eq!(&Scenario::parse(&s.to_toml().unwrap()).unwrap(), &s);
            let json = serde_json::to_string(&s).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Scenario>(&json).unwrap(), &s);
        }
    }
}

//! Random valid scenarios, the same for the same seed on every machine.
//!
//! Owns: the choice. Refuses: scenarios that take long (a few hundred descriptors a process), as many are run in one boot.

use std::collections::BTreeMap;

use dsascope_submit::Access;

use super::{
    Batch, Device, DeviceKind, Exit, Group, Habit, Inject, MAX_BATCH_IDENTIFIERS, Mode, Operation, Pages,
    Process, Scenario, Shares, Submission, Tracer, WorkQueue,
};

/// Of so many seeds one has shared WQs and every way to submit, for which its guest emulates instructions.
const SHARING: u64 = 4;

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

/// A valid scenario of one to four processes on up to two DSAs and an IAA, whose outcome is certain but for what processes leave behind
/// that exit with faults pending.
#[must_use]
pub fn random(seed: u64) -> Scenario {
    let mut r = Random(seed);
    let mut devices: Vec<Device> =
        places(&mut r).into_iter().map(|(kind, name)| device(&mut r, kind, name)).collect();
    let mut processes = Vec::new();
    for index in 0..r.range(1, 4) {
        // Each device has a process at least, as far as they go.
        let place = usize::from(index) % devices.len();
        let device = &mut devices[place];
        let wq = work_queue(&mut r, device);
        let process = process(&mut r, index, device, &wq);
        device.work_queues.push(wq);
        processes.push(process);
    }
    devices.retain(|device| !device.work_queues.is_empty());
    for device in &mut devices {
        inject(&mut r, device, &processes);
    }
    let mut scenario = Scenario {
        name: format!("seed {seed}"),
        description: String::new(),
        timeout_s: 120,
        tracer: Tracer::default(),
        devices,
        processes,
        expect: BTreeMap::new(),
        findings: None,
    };
    if seed % SHARING == SHARING - 1 {
        share(&mut r, &mut scenario);
    }
    let certain = |process: &Process| Some((process.name.clone(), scenario.certain(process)?));
    scenario.expect = scenario.processes.iter().filter_map(certain).collect();
    scenario
}

/// Makes some WQs shared, by several processes where they can be, and has descriptors submitted in each way there is.
fn share(r: &mut Random, scenario: &mut Scenario) {
    for device in &mut scenario.devices {
        for wq in &mut device.work_queues {
            if !r.one_in(3) {
                wq.mode = Mode::Shared;
                wq.threshold = r.one_in(2).then(|| r.range(1, wq.size));
            }
        }
    }
    for process in &mut scenario.processes {
        let Some(device) = scenario.devices.iter().find(|device| device.name == process.device) else {
            continue;
        };
        let Some(own) = device.work_queue(process.work_queue) else { continue };
        // What becomes of a fault depends on these.
        let alike = |wq: &&WorkQueue| {
            wq.mode == Mode::Shared
                && (wq.page_requests, wq.block_on_fault) == (own.page_requests, own.block_on_fault)
        };
        let shared: Vec<u8> = device.work_queues.iter().filter(alike).map(|wq| wq.id).collect();
        let joins = !shared.is_empty() && r.one_in(2);
        if joins {
            process.work_queue = r.pick(&shared);
        }
        let by_write = process.operation != Operation::Batch && process.completion_records.straddling == 0;
        let ways: &[_] = match (joins || own.mode == Mode::Shared, by_write) {
            (true, true) => &[Submission::Enqcmd, Submission::Enqcmd, Submission::Write],
            (true, false) => &[Submission::Enqcmd],
            (false, true) => &[Submission::Store, Submission::Movdir64b, Submission::Write],
            (false, false) => &[Submission::Store, Submission::Movdir64b],
        };
        process.submission = Some(r.pick(ways));
    }
}

/// One device, two or three, as every boot for random scenarios has them.
fn places(r: &mut Random) -> Vec<(DeviceKind, &'static str)> {
    let (first, second, third) =
        ((DeviceKind::Dsa, "dsa0"), (DeviceKind::Dsa, "dsa1"), (DeviceKind::Iaa, "iax2"));
    match r.range(0, 5) {
        0 | 1 => vec![first],
        2 => vec![third],
        3 => vec![first, third],
        4 => vec![second, first],
        _ => vec![first, second, third],
    }
}

/// Without work queues.
fn device(r: &mut Random, kind: DeviceKind, name: &str) -> Device {
    let event_log_entries = match r.range(0, 3) {
        0 => 64,
        1 => r.range(64, 300).into(),
        2 => r.range(301, 4096).into(),
        _ => r.pick(&[100, 128, 1000, 65535]),
    };
    let few = kind == DeviceKind::Dsa && r.one_in(6);
    Device {
        name: name.into(),
        kind,
        event_log_entries,
        batch_identifiers: if few { r.range(1, 8) } else { MAX_BATCH_IDENTIFIERS },
        injections: Vec::new(),
        groups: groups(r),
        work_queues: Vec::new(),
    }
}

fn work_queue(r: &mut Random, device: &Device) -> WorkQueue {
    let all = [0];
    let groups: Vec<u8> = device.groups.iter().map(|group| group.id).collect();
    let free: Vec<u8> = (0..super::WORK_QUEUES).filter(|id| device.work_queue(*id).is_none()).collect();
    let page_requests = r.one_in(4);
    WorkQueue {
        id: r.pick(&free),
        mode: Mode::Dedicated,
        threshold: None,
        size: r.range(1, 32),
        priority: r.range(1, 15) as u8,
        group: r.pick(if groups.is_empty() { &all } else { &groups }),
        page_requests,
        block_on_fault: page_requests && r.one_in(2),
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

/// Errors and delays; no halt, which no other scenario of the boot should pay for.
fn inject(r: &mut Random, device: &mut Device, processes: &[Process]) {
    if r.one_in(8) {
        let (after_descriptors, delay_us) = (r.range(0, 20).into(), r.range(1, 300).into());
        device.injections.push(Inject::Delay { after_descriptors, delay_us });
    }
    let mut own = processes.iter().filter(|process| process.device == device.name);
    // All of them must happen, and a batch's end must be certain.
    if r.one_in(4) && own.all(|p| !matches!(p.operation, Operation::Batch | Operation::Drain)) {
        let (after_descriptors, descriptors) = (r.range(0, 4).into(), r.range(1, 5).into());
        device.injections.push(Inject::HardwareErrors { after_descriptors, descriptors });
    }
}

fn process(r: &mut Random, index: u16, device: &Device, wq: &WorkQueue) -> Process {
    let of_kind: Vec<Operation> = Operation::ALL.into_iter().filter(|o| o.is_of(device.kind)).collect();
    let batch = device.kind == DeviceKind::Dsa && r.one_in(4);
    let operation = if batch { Operation::Batch } else { r.pick(&of_kind) };
    let mut batch = (operation == Operation::Batch).then(|| batch_of(r, device, &of_kind));
    let executed = batch.as_ref().map_or(operation, |batch| batch.operation);
    let mut completion_records = shares(r);
    let waits = operation == Operation::Drain || batch.as_ref().is_some_and(|b| b.list_absent_from.is_some());
    if waits {
        // Whoever must see its record to go on.
        completion_records = Shares { resident: r.range(0, 2), absent: r.range(1, 3), ..Shares::NONE };
    }
    if !waits && batch.is_none() && wq.size >= 2 && r.one_in(6) {
        completion_records.straddling = r.range(1, 2);
    }
    let faulty = completion_records.has(|habit| habit != Habit::Resident && habit != Habit::Straddling);
    let pending = faulty && !waits && !wq.page_requests && completion_records.straddling == 0 && r.one_in(5);
    if let (true, Some(batch)) = (pending, &mut batch) {
        // Shared pages must not be brought into a dying process.
        batch.records = Shares { absent: 0, resident: batch.records.resident + 1, ..batch.records };
    }
    let pages = |r: &mut Random, access| {
        let may = executed.accesses(access) && (batch.is_none() || wq.block_on_fault);
        if may && r.one_in(3) { Pages::Absent } else { Pages::Resident }
    };
    let (source, destination) = (pages(r, Access::Read), pages(r, Access::Write));
    let resumes = source == Pages::Absent || destination == Pages::Absent;
    let count = if resumes { r.range(10, 40) } else { r.range(10, 200) };
    // Places on the WQ: drains need some beside the descriptors.
    let each = if completion_records.straddling > 0 { 2 } else { 1 };
    let mut threads = if pending || wq.size < 2 * each { 1 } else { r.pick(&[1, 1, 2]) };
    let drains = operation != Operation::Drain && wq.size >= (each + 1) * threads && r.one_in(4);
    if drains && wq.size < (each + 1) * threads {
        threads = 1;
    }
    let room = (wq.size - if drains { threads } else { 0 }) / each;
    let unit = executed.unit_bytes();
    let sizes = [1, 8, 64, 200, 4096, 5000, 16384].map(|bytes: u32| bytes.next_multiple_of(unit));
    Process {
        name: format!("random-{index}"),
        device: device.name.clone(),
        work_queue: wq.id,
        operation,
        bytes: if executed.has_operands() {
            (0..r.range(1, 3)).map(|_| r.pick(&sizes)).collect()
        } else {
            Vec::new()
        },
        submission: None,
        batch,
        source,
        destination,
        drain_every: drains.then(|| r.range(1, 20).into()),
        count: count.into(),
        poll_us: 50,
        rate_per_s: r.one_in(4).then(|| u32::from(r.range(100, 1000))),
        outstanding: r.range(threads, room.min(count)),
        threads,
        repeat: if pending { 1 } else { r.pick(&[1, 1, 1, 2, 3]) },
        fresh_pages: false,
        close_first_after: None,
        start_delay_ms: if r.one_in(3) { r.range(1, 100).into() } else { 0 },
        exit: if pending { Exit::Pending } else { Exit::Clean },
        cgroup: None,
        completion_records,
    }
}

fn batch_of(r: &mut Random, device: &Device, operations: &[Operation]) -> Batch {
    let single: Vec<_> =
        operations.iter().copied().filter(|o| !matches!(o, Operation::Batch | Operation::Drain)).collect();
    let descriptors = r.range(2, 16);
    let operation = r.pick(&single);
    let index = |r: &mut Random, n| r.one_in(n).then(|| r.range(0, descriptors - 1));
    let records = match r.range(0, 2) {
        0 => Shares { resident: 1, ..Shares::NONE },
        _ => Shares {
            resident: r.range(0, 4),
            absent: r.range(1, 4),
            read_only: r.range(0, 1),
            unmapped: r.range(0, 1),
            straddling: 0,
        },
    };
    Batch {
        descriptors,
        operation,
        records,
        fence: index(r, 3),
        failing: index(r, 4).filter(|_| operation.accesses(Access::Read)),
        list_absent_from: r.one_in(4).then(|| r.range(0, descriptors - 2)),
        record_requested: device.batch_identifiers < MAX_BATCH_IDENTIFIERS || !r.one_in(4),
    }
}

/// One habit alone, or a mix.
fn shares(r: &mut Random) -> Shares {
    let none = Shares::NONE;
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
            straddling: 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_thousand_seeds_are_valid_and_cover_the_format() {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let mut see = |what: &str, is: bool| *seen.entry(what.to_owned()).or_default() += u32::from(is);
        for seed in 0..2_000 {
            let s = random(seed);
            s.validate().unwrap_or_else(|e| panic!("seed {seed}: {e}\n{}", s.to_toml().unwrap()));
            see("three devices", s.devices.len() == 3);
            see("four processes", s.processes.len() == 4);
            for d in &s.devices {
                see(&d.name, true);
                see("smallest log", d.event_log_entries == 64);
                see("largest log", d.event_log_entries == 65535);
                see("few identifiers", d.batch_identifiers < 9);
                see("delay", d.injections.iter().any(|i| matches!(i, Inject::Delay { .. })));
                see("errors", d.injections.iter().any(|i| matches!(i, Inject::HardwareErrors { .. })));
                see("page requests", d.work_queues.iter().any(|wq| wq.page_requests));
                see("block on fault", d.work_queues.iter().any(|wq| wq.block_on_fault));
                see("shared", d.work_queues.iter().any(|wq| wq.mode == Mode::Shared));
                see("threshold", d.work_queues.iter().any(|wq| wq.threshold.is_some()));
            }
            for p in &s.processes {
                see(&format!("{:?}", p.operation), true);
                see("pending", p.exit == Exit::Pending);
                see("repeated", p.repeat > 1);
                see(&format!("by {:?}", s.submission_of(p)), true);
                let place = |p: &Process| (p.device.clone(), p.work_queue);
                see("neighbours", s.processes.iter().any(|q| q.name != p.name && place(q) == place(p)));
                see("drains", p.drain_every.is_some());
                see("absent source", p.source == Pages::Absent);
                see("absent destination", p.destination == Pages::Absent);
                Habit::ALL.iter().for_each(|h| see(&format!("{h:?}"), p.completion_records.of(*h) > 0));
                let Some(batch) = &p.batch else { continue };
                see("fence", batch.fence.is_some());
                see("failing", batch.failing.is_some());
                see("list", batch.list_absent_from.is_some());
                see("silent", !batch.record_requested);
                see("faulting elements", batch.records.absent > 0);
            }
        }
        let operations = Operation::ALL.map(|operation| format!("{operation:?}"));
        for what in operations.iter().map(String::as_str).chain(["three devices", "iax2", "dsa1", "silent"]) {
            assert!(seen.get(what).is_some_and(|n| *n > 0), "{what}");
        }
        assert!(seen.values().all(|n| *n > 20), "{seen:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

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

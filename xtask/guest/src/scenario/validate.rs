//! What a scenario must fulfil before anything is done with it. Each error names the field and the rule.
//!
//! Owns: the rules. Refuses: repairing.

use std::collections::BTreeSet;

use dsascope_common::hw::regs::evlstatus;
use dsascope_submit::{Access, Habit};

use super::{
    Batch, Device, DeviceKind, Exit, Inject, Mode, Operation, Pages, Process, Scenario, Submission, WorkQueue,
};

/// Resources of one device (idxd-facts section 7.1, and the testbed's model).
pub const WORK_QUEUES: u8 = 8;
pub const GROUPS: u8 = 4;
pub const ENGINES: u8 = 4;
pub const TOTAL_WQ_ENTRIES: u32 = 128;
/// What every WQ is configured with.
pub const MAX_BATCH_DESCRIPTORS: u16 = 32;
/// What an event-log entry has room for.
pub const MAX_BATCH_IDENTIFIERS: u16 = 256;
/// Of a process that uses no page twice.
const FRESH_DESCRIPTORS: u32 = 4096;
/// A command name has 16 bytes with its zero.
const NAME_BYTES: usize = 15;

#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("scenario: {0}")]
    Syntax(#[from] toml::de::Error),
    #[error("scenario as a file: {0}")]
    Format(#[from] toml::ser::Error),
    #[error("scenario field {field}: {problem}")]
    Field { field: String, problem: String },
}

fn field(field: impl Into<String>, problem: impl Into<String>) -> ScenarioError {
    ScenarioError::Field { field: field.into(), problem: problem.into() }
}

/// `ensure!(condition, field, problem...)`
macro_rules! ensure {
    ($condition:expr, $field:expr, $($problem:tt)*) => {
        if !$condition {
            return Err(field($field, format!($($problem)*)));
        }
    };
}

impl Scenario {
    /// Checks every rule of the format.
    pub fn validate(&self) -> Result<(), ScenarioError> {
        ensure!(!self.name.is_empty(), "name", "is empty");
        ensure!(
            (1..=3600).contains(&self.timeout_s),
            "timeout_s",
            "must be 1 to 3600, not {}",
            self.timeout_s
        );
        if let Some(bytes) = self.tracer.ring_bytes {
            let good = bytes.is_power_of_two() && bytes >= 4096;
            ensure!(good, "tracer.ring_bytes", "must be a power of two from 4096, not {bytes}");
        }
        let long = self.tracer.stall_ms.is_some_and(|ms| ms / 1000 >= self.timeout_s);
        ensure!(!long, "tracer.stall_ms", "must be shorter than timeout_s");
        ensure!(!self.devices.is_empty(), "device", "at least one is needed");
        let mut numbers = BTreeSet::new();
        for (index, device) in self.devices.iter().enumerate() {
            let at = format!("device[{index}]");
            device.validate(&at)?;
            let free = numbers.insert(device.number());
            ensure!(free, format!("{at}.name"), "the number of {:?} is there twice", device.name);
        }
        let mut names = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for (index, process) in self.processes.iter().enumerate() {
            let at = format!("process[{index}]");
            ensure!(names.insert(&process.name), format!("{at}.name"), "{:?} is there twice", process.name);
            process.validate(&at)?;
            let (device, wq) = self.place_of(process, &at)?;
            let free = taken.insert((&process.device, process.work_queue)) || wq.mode == Mode::Shared;
            ensure!(free, format!("{at}.work_queue"), "a dedicated WQ can be open in one process only");
            process.validate_on(device, wq, &at)?;
        }
        for name in self.expect.keys() {
            ensure!(names.contains(name), format!("expect.{name}"), "there is no process of that name");
        }
        if let Some(findings) = &self.findings {
            let surely = findings.must.intersection(&findings.may).next();
            ensure!(surely.is_none(), "findings.may", "has what must be found: {surely:?}");
        }
        Ok(())
    }

    fn place_of(&self, process: &Process, at: &str) -> Result<(&Device, &WorkQueue), ScenarioError> {
        let device = self.device(&process.device);
        let device =
            device.ok_or_else(|| field(format!("{at}.device"), format!("no device {:?}", process.device)))?;
        let wq = device.work_queue(process.work_queue).ok_or_else(|| {
            field(
                format!("{at}.work_queue"),
                format!("{} has no work queue {}", device.name, process.work_queue),
            )
        })?;
        Ok((device, wq))
    }
}

impl Device {
    fn validate(&self, at: &str) -> Result<(), ScenarioError> {
        let name = format!("{at}.name");
        let prefix = self.kind.prefix();
        let wrong = || field(&name, format!("must be {prefix} and a number, as the driver names it"));
        let number = self.number().ok_or_else(wrong)?;
        ensure!(self.name == format!("{prefix}{number}"), name, "must be written {prefix}{number}");
        let identifiers = self.batch_identifiers;
        let at_identifiers = format!("{at}.batch_identifiers");
        let good = (1..=MAX_BATCH_IDENTIFIERS).contains(&identifiers);
        ensure!(good, at_identifiers, "must be 1 to {MAX_BATCH_IDENTIFIERS}, not {identifiers}");
        let all = self.kind == DeviceKind::Dsa || identifiers == MAX_BATCH_IDENTIFIERS;
        ensure!(all, at_identifiers, "an IAA has no batches");
        let halts = self.injections.iter().filter(|inject| matches!(inject, Inject::Halt { .. })).count();
        ensure!(halts <= 1, format!("{at}.inject"), "a device can be halted once");
        let sizes = evlstatus::MIN_SIZE..=evlstatus::MAX_SIZE;
        let entries = self.event_log_entries;
        ensure!(
            sizes.contains(&entries),
            format!("{at}.event_log_entries"),
            "must be 64 to 65535, not {entries}"
        );
        let groups = self.validate_groups(at)?;
        ensure!(!self.work_queues.is_empty(), format!("{at}.work_queue"), "at least one is needed");
        let mut ids = BTreeSet::new();
        for (index, wq) in self.work_queues.iter().enumerate() {
            let at = format!("{at}.work_queue[{index}]");
            ensure!(
                wq.id < WORK_QUEUES,
                format!("{at}.id"),
                "must be 0 to {}, not {}",
                WORK_QUEUES - 1,
                wq.id
            );
            ensure!(ids.insert(wq.id), format!("{at}.id"), "{} is there twice", wq.id);
            ensure!(wq.size > 0, format!("{at}.size"), "must not be 0");
            if let Some(threshold) = wq.threshold {
                let shared = wq.mode == Mode::Shared;
                ensure!(shared, format!("{at}.threshold"), "is for shared WQs only");
                let good = (1..=wq.size).contains(&threshold);
                ensure!(
                    good,
                    format!("{at}.threshold"),
                    "must be 1 to the WQ's {} entries, not {threshold}",
                    wq.size
                );
            }
            ensure!(
                (1..=15).contains(&wq.priority),
                format!("{at}.priority"),
                "must be 1 to 15, not {}",
                wq.priority
            );
            ensure!(groups.contains(&wq.group), format!("{at}.group"), "group {} has no engine", wq.group);
            let bof = !wq.block_on_fault || wq.page_requests;
            ensure!(bof, format!("{at}.block_on_fault"), "needs page_requests, which are off");
        }
        let total: u32 = self.work_queues.iter().map(|wq| u32::from(wq.size)).sum();
        let fits = total <= TOTAL_WQ_ENTRIES;
        ensure!(
            fits,
            format!("{at}.work_queue"),
            "sizes sum to {total}, the device has {TOTAL_WQ_ENTRIES} entries"
        );
        Ok(())
    }

    /// The groups that have an engine.
    fn validate_groups(&self, at: &str) -> Result<BTreeSet<u8>, ScenarioError> {
        if self.groups.is_empty() {
            return Ok(BTreeSet::from([0]));
        }
        let (mut ids, mut engines) = (BTreeSet::new(), BTreeSet::new());
        for (index, group) in self.groups.iter().enumerate() {
            let at = format!("{at}.group[{index}]");
            ensure!(group.id < GROUPS, format!("{at}.id"), "must be 0 to {}, not {}", GROUPS - 1, group.id);
            ensure!(ids.insert(group.id), format!("{at}.id"), "{} is there twice", group.id);
            ensure!(!group.engines.is_empty(), format!("{at}.engines"), "at least one is needed");
            for engine in &group.engines {
                let at = format!("{at}.engines");
                ensure!(*engine < ENGINES, at, "must be 0 to {}, not {engine}", ENGINES - 1);
                ensure!(engines.insert(*engine), at, "engine {engine} is there twice");
            }
        }
        Ok(ids)
    }
}

impl Process {
    fn validate(&self, at: &str) -> Result<(), ScenarioError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let good = !self.name.is_empty() && self.name.len() <= NAME_BYTES && self.name.chars().all(plain);
        ensure!(good, format!("{at}.name"), "must be 1 to {NAME_BYTES} letters, digits, '-', '_' or '.'");
        self.validate_operation(at)?;
        ensure!(
            (1..=10_000_000).contains(&self.count),
            format!("{at}.count"),
            "must be 1 to 10000000, not {}",
            self.count
        );
        ensure!(self.rate_per_s != Some(0), format!("{at}.rate_per_s"), "must not be 0");
        ensure!(
            (1..=1_000_000).contains(&self.poll_us),
            format!("{at}.poll_us"),
            "must be 1 to 1000000, not {}",
            self.poll_us
        );
        ensure!(self.repeat > 0, format!("{at}.repeat"), "must not be 0");
        ensure!(
            (1..=64).contains(&self.threads),
            format!("{at}.threads"),
            "must be 1 to 64, not {}",
            self.threads
        );
        ensure!(
            self.outstanding >= self.threads,
            format!("{at}.outstanding"),
            "must be at least one a thread"
        );
        let sum = shares(&self.completion_records, &format!("{at}.completion_records"))?;
        ensure!(self.drain_every != Some(0), format!("{at}.drain_every"), "must not be 0");
        if let Some(cgroup) = &self.cgroup {
            let part = |p: &str| !p.is_empty() && !p.starts_with('.') && p.chars().all(plain);
            ensure!(
                cgroup.split('/').all(part),
                format!("{at}.cgroup"),
                "must be a relative path of plain names"
            );
        }
        let most = FRESH_DESCRIPTORS;
        ensure!(
            !self.fresh_pages || self.count <= most && self.threads == 1,
            format!("{at}.fresh_pages"),
            "needs threads = 1 and a count of at most {most}"
        );
        if let Some(after) = self.close_first_after {
            let at = format!("{at}.close_first_after");
            let behind = u32::from(self.outstanding);
            ensure!(
                after > 0 && after < self.count && self.count - after <= behind,
                at,
                "must leave 1 to outstanding = {behind} of the descriptors"
            );
            let simple =
                self.threads == 1 && self.repeat == 1 && self.exit == Exit::Clean && self.batch.is_none();
            ensure!(simple, at, "needs threads = 1, repeat = 1, a clean exit and no batches");
            let absent = self.completion_records.absent;
            let all_absent = u32::from(absent) == sum && self.drain_every.is_none();
            ensure!(all_absent, at, "needs all completion records absent, and no drains");
        }
        if self.exit == Exit::Pending {
            let exit = format!("{at}.exit");
            ensure!(
                u32::from(self.completion_records.resident) < sum,
                exit,
                "pending needs completion records that fault"
            );
            ensure!(self.repeat == 1, exit, "pending ends the process: repeat must be 1");
            ensure!(self.threads == 1, exit, "pending needs threads = 1");
            ensure!(
                self.count >= u32::from(self.outstanding),
                exit,
                "pending needs a count of at least outstanding"
            );
        }
        Ok(())
    }

    fn validate_operation(&self, at: &str) -> Result<(), ScenarioError> {
        let batch = format!("{at}.batch");
        let executed = match (self.operation, &self.batch) {
            (Operation::Batch, Some(own)) => {
                own.validate(self, &batch)?;
                own.operation
            }
            (Operation::Batch, None) => return Err(field(batch, "is needed for a batch")),
            (_, Some(_)) => return Err(field(batch, "is for batches only")),
            (operation, None) => operation,
        };
        let bytes = format!("{at}.bytes");
        if executed.has_operands() {
            ensure!(!self.bytes.is_empty(), bytes, "at least one transfer size is needed");
        } else {
            ensure!(self.bytes.is_empty(), bytes, "there is nothing to transfer");
        }
        let (unit, most) = (executed.unit_bytes(), executed.max_bytes());
        for size in &self.bytes {
            let good = (1..=most).contains(size) && size.is_multiple_of(unit);
            ensure!(good, bytes, "must be multiples of {unit} up to {most}, not {size}");
        }
        for (pages, access, what) in
            [(self.source, Access::Read, "source"), (self.destination, Access::Write, "destination")]
        {
            let has = pages == Pages::Resident || executed.accesses(access);
            ensure!(has, format!("{at}.{what}"), "there is none");
        }
        let records = &self.completion_records;
        let seen = !records.has(|habit| !habit.is_seen());
        ensure!(
            seen || self.operation != Operation::Drain,
            format!("{at}.completion_records"),
            "a drain whose record does not come cannot be waited for"
        );
        Ok(())
    }

    /// Rules that need the WQ and its device.
    fn validate_on(&self, device: &Device, wq: &WorkQueue, at: &str) -> Result<(), ScenarioError> {
        let submission = format!("{at}.submission");
        match (wq.mode, self.submission) {
            (_, None | Some(Submission::Write))
            | (Mode::Dedicated, Some(Submission::Store | Submission::Movdir64b))
            | (Mode::Shared, Some(Submission::Enqcmd)) => {}
            (Mode::Dedicated, Some(Submission::Enqcmd)) => {
                return Err(field(submission, "ENQCMD is for shared WQs, and this one is dedicated"));
            }
            (Mode::Shared, Some(Submission::Store | Submission::Movdir64b)) => {
                return Err(field(submission, "a shared WQ takes descriptors by ENQCMD and write(2) only"));
            }
        }
        let batch = self.operation == Operation::Batch && self.submission == Some(Submission::Write);
        ensure!(!batch, submission, "not every kernel's driver takes batches by write(2)");
        let misaligned = self.completion_records.straddling > 0 && self.submission == Some(Submission::Write);
        ensure!(!misaligned, submission, "the driver itself refuses records in two pages by write(2)");
        let kind = device.kind;
        ensure!(self.operation.is_of(kind), format!("{at}.operation"), "{} cannot do it", device.name);
        // A drain behind each descriptor whose record straddles, and one a thread now and then.
        let behind = if self.completion_records.straddling > 0 { self.outstanding } else { 0 };
        let places = behind + if self.drain_every.is_some() { self.threads } else { 0 };
        // What does not fit into a shared WQ is offered again; a dedicated one throws it away.
        let (most, whose) = match wq.mode {
            Mode::Dedicated => (u32::from(wq.size), "WQ"),
            Mode::Shared => (TOTAL_WQ_ENTRIES, "device"),
        };
        let fits = u32::from(self.outstanding) + u32::from(places) <= most;
        ensure!(
            fits,
            format!("{at}.outstanding"),
            "{} and {places} for drains are more than the {whose}'s {most} entries",
            self.outstanding
        );
        let resident = self.source == Pages::Resident && self.destination == Pages::Resident;
        ensure!(
            resident || self.operation != Operation::Batch || wq.block_on_fault,
            format!("{at}.source"),
            "a batch's operands may be absent only on a WQ with block_on_fault"
        );
        let silent = self.batch.as_ref().is_some_and(|batch| !batch.record_requested);
        ensure!(
            !silent || device.batch_identifiers == MAX_BATCH_IDENTIFIERS,
            format!("{at}.batch.record_requested"),
            "with few identifiers, whether the record comes would depend on other batches"
        );
        let errors = device.injections.iter().any(|inject| matches!(inject, Inject::HardwareErrors { .. }));
        ensure!(
            !errors || self.operation != Operation::Batch,
            format!("{at}.operation"),
            "nobody can say how a batch ends on a device with hardware errors"
        );
        let late = device.injections.iter().any(|inject| matches!(inject, Inject::LateEntries { .. }));
        ensure!(
            !late || self.exit == Exit::Pending,
            format!("{at}.exit"),
            "must be \"pending\" where entries are late"
        );
        let shared = wq.mode == Mode::Shared && !wq.page_requests;
        ensure!(
            shared || self.close_first_after.is_none(),
            format!("{at}.close_first_after"),
            "needs a shared WQ without page_requests: a dedicated one can be open once"
        );
        let halts = device.injections.iter().any(|inject| matches!(inject, Inject::Halt { .. }));
        ensure!(
            halts == (self.exit == Exit::Halted),
            format!("{at}.exit"),
            "must be \"halted\" where the device is halted, and only there"
        );
        Ok(())
    }
}

impl Batch {
    fn validate(&self, process: &Process, at: &str) -> Result<(), ScenarioError> {
        let count = self.descriptors;
        let good = (2..=MAX_BATCH_DESCRIPTORS).contains(&count);
        ensure!(good, format!("{at}.descriptors"), "must be 2 to {MAX_BATCH_DESCRIPTORS}, not {count}");
        let element = self.operation.is_of(DeviceKind::Dsa)
            && !matches!(self.operation, Operation::Batch | Operation::Drain);
        ensure!(element, format!("{at}.operation"), "cannot be in a batch");
        shares(&self.records, &format!("{at}.records"))?;
        let straddling = self.records.straddling + process.completion_records.straddling;
        ensure!(straddling == 0, format!("{at}.records"), "must not straddle in batches");
        for (what, index) in [("fence", self.fence), ("failing", self.failing)] {
            let inside = index.is_none_or(|index| index < count);
            ensure!(inside, format!("{at}.{what}"), "there is no such descriptor");
        }
        let source = self.failing.is_none() || self.operation.accesses(Access::Read);
        ensure!(source, format!("{at}.failing"), "the operation has no source");
        let list = format!("{at}.list_absent_from");
        let whole = self.list_absent_from.is_none_or(|from| from + 2 <= count);
        ensure!(whole, list, "two descriptors must be left: a batch has no less");
        let resumes = self.list_absent_from.is_none() || !process.completion_records.has(Habit::fails);
        ensure!(resumes, list, "needs records that come, to be resumed");
        Ok(())
    }
}

/// The sum of the shares.
fn shares(shares: &super::Shares, at: &str) -> Result<u32, ScenarioError> {
    let sum = shares.sum();
    ensure!((1..=1000).contains(&sum), at, "shares must sum to 1 to 1000, not {sum}");
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::scenario::Expect;

    const GOOD: &str = r#"
        name = "good"
        [[device]]
        name = "dsa0"
        kind = "dsa"
        [[device.work_queue]]
        id = 0
        mode = "dedicated"
        size = 16
        [[device.work_queue]]
        id = 1
        mode = "shared"
        size = 16
        [[process]]
        name = "p"
        device = "dsa0"
        work_queue = 0
        operation = "memmove"
        bytes = [64]
        count = 10
        outstanding = 4
        completion_records = { absent = 1 }
        [expect.p]
        faults = 10
    "#;

    #[test]
    fn a_good_one_is_read() {
        let scenario = Scenario::parse(GOOD).unwrap();
        assert_eq!(scenario.devices[0].event_log_entries, 64);
        assert_eq!(scenario.expect["p"].faults, Some(10));
    }

    #[test]
    fn errors_name_the_field() {
        for (from, to, names) in [
            ("size = 16", "size = 0", "device[0].work_queue[0].size"),
            ("size = 16", "size = 127", "device[0].work_queue: sizes sum"),
            ("kind = \"dsa\"", "kind = \"dsa\"\nevent_log_entries = 63", "device[0].event_log_entries"),
            ("kind = \"dsa\"", "kind = \"dsa\"\nevent_log_entries = 65536", "device[0].event_log_entries"),
            ("id = 1", "id = 8", "device[0].work_queue[1].id"),
            ("id = 1", "id = 0", "device[0].work_queue[1].id"),
            ("size = 16", "size = 16\ngroup = 1", "device[0].work_queue[0].group"),
            ("size = 16", "size = 16\npriority = 16", "device[0].work_queue[0].priority"),
            ("size = 16", "size = 16\nblock_on_fault = true", "device[0].work_queue[0].block_on_fault"),
            ("work_queue = 0", "work_queue = 2", "process[0].work_queue"),
            ("size = 16", "size = 16\nthreshold = 8", "device[0].work_queue[0].threshold: is for shared"),
            ("mode = \"shared\"", "mode = \"shared\"\nthreshold = 17", "device[0].work_queue[1].threshold"),
            ("count = 10", "count = 10\nsubmission = \"enqcmd\"", "process[0].submission"),
            ("work_queue = 0", "work_queue = 1\nsubmission = \"store\"", "process[0].submission"),
            ("count = 10", "count = 10\nsubmission = \"mail\"", "mail"),
            ("device = \"dsa0\"", "device = \"dsa1\"", "process[0].device"),
            ("name = \"p\"", "name = \"sixteen-letters-\"", "process[0].name"),
            ("bytes = [64]", "bytes = []", "process[0].bytes"),
            ("bytes = [64]", "bytes = [0]", "process[0].bytes"),
            ("bytes = [64]", "bytes = [64]\nbatch = { descriptors = 2 }", "process[0].batch: is for"),
            ("\"memmove\"", "\"batch\"", "process[0].batch: is needed"),
            ("\"memmove\"", "\"cr_delta\"\nbatch = { descriptors = 2 }", "process[0].batch"),
            ("\"memmove\"", "\"dif_check\"", "process[0].bytes: must be multiples of 512"),
            ("\"memmove\"", "\"compress\"", "process[0].operation: dsa0 cannot"),
            ("\"memmove\"", "\"compare\"\ndestination = \"absent\"", "process[0].destination: there is none"),
            ("\"memmove\"", "\"batch\"\nbatch = { descriptors = 1 }", "process[0].batch.descriptors"),
            ("\"memmove\"", "\"batch\"\nbatch = { descriptors = 2, fence = 2 }", "process[0].batch.fence"),
            (
                "\"memmove\"",
                "\"batch\"\nbatch = { descriptors = 4, list_absent_from = 3 }",
                "list_absent_from",
            ),
            (
                "\"memmove\"",
                "\"batch\"\nbatch = { descriptors = 4, operation = \"drain\" }",
                "batch.operation",
            ),
            (
                "\"memmove\"",
                "\"batch\"\nsource = \"absent\"\nbatch = { descriptors = 4 }",
                "process[0].source",
            ),
            ("outstanding = 4", "outstanding = 16\ndrain_every = 5", "16 and 1 for drains"),
            ("{ absent = 1 }", "{ straddling = 1 }\nexit = \"halted\"", "process[0].exit"),
            (
                "outstanding = 4\n        completion_records = { absent = 1 }",
                "outstanding = 9\ncompletion_records = { straddling = 1 }",
                "9 for drains",
            ),
            ("kind = \"dsa\"", "kind = \"iaa\"", "device[0].name: must be iax"),
            ("kind = \"dsa\"", "kind = \"dsa\"\nbatch_identifiers = 0", "device[0].batch_identifiers"),
            (
                "kind = \"dsa\"",
                "kind = \"dsa\"\ninject = [{ kind = \"halt\", reset = \"flr\" }]",
                "process[0].exit",
            ),
            ("count = 10", "count = 0", "process[0].count"),
            ("count = 10", "count = 10\nrate_per_s = 0", "process[0].rate_per_s"),
            ("count = 10", "count = 10\npoll_us = 0", "process[0].poll_us"),
            ("outstanding = 4", "outstanding = 17", "process[0].outstanding"),
            ("outstanding = 4", "outstanding = 4\nthreads = 5", "process[0].outstanding"),
            ("outstanding = 4", "outstanding = 11\nexit = \"pending\"", "process[0].exit"),
            ("{ absent = 1 }", "{ resident = 0, absent = 0 }", "process[0].completion_records"),
            ("{ absent = 1 }", "{ resident = 1 }\nexit = \"pending\"", "process[0].exit"),
            ("{ absent = 1 }", "{ absent = 1 }\ncgroup = \"../x\"", "process[0].cgroup"),
            ("[expect.p]", "[expect.q]", "expect.q"),
            ("name = \"good\"", "name = \"good\"\ntracer.ring_bytes = 5000", "tracer.ring_bytes"),
            ("name = \"good\"", "name = \"good\"\ntracer.stall_ms = 120000", "tracer.stall_ms"),
            ("name = \"good\"", "name = \"good\"\ncolour = 1", "colour"),
            ("count = 10", "count = \"ten\"", "count"),
            ("operation = \"memmove\"", "operation = \"mammove\"", "mammove"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = Scenario::parse(&text).expect_err(to).to_string();
            assert!(error.contains(names), "{to}: {error}");
        }
    }

    #[test]
    fn a_shared_work_queue_takes_many_processes() {
        let on_shared =
            GOOD.replace("work_queue = 0", "work_queue = 1").replace("outstanding = 4", "outstanding = 20");
        let process = &on_shared[on_shared.find("[[process]]").unwrap()..on_shared.find("[expect").unwrap()];
        let second = process.replace("name = \"p\"", "name = \"q\"\nsubmission = \"write\"");
        let scenario = Scenario::parse(&on_shared.replace("[expect", &format!("{second}\n[expect"))).unwrap();
        let submissions = scenario.processes.iter().map(|process| scenario.submission_of(process));
        assert_eq!(submissions.collect::<Vec<_>>(), [Submission::Enqcmd, Submission::Write]);
        assert!(scenario.needs_emulation());
        let batch = on_shared
            .replace("\"memmove\"", "\"batch\"\nbatch = { descriptors = 2 }\nsubmission = \"write\"");
        assert!(Scenario::parse(&batch).unwrap_err().to_string().contains("process[0].submission"));
    }

    #[test]
    fn plain_stores_to_dedicated_work_queues_need_no_emulation() {
        let dedicated = GOOD.replace("mode = \"shared\"", "mode = \"dedicated\"");
        assert!(!Scenario::parse(&dedicated).unwrap().needs_emulation());
        assert!(
            Scenario::parse(GOOD).unwrap().needs_emulation(),
            "the driver refuses a shared WQ without ENQCMD"
        );
        let wide = dedicated.replace("count = 10", "count = 10\nsubmission = \"movdir64b\"");
        assert!(Scenario::parse(&wide).unwrap().needs_emulation());
    }

    #[test]
    fn one_process_a_dedicated_work_queue() {
        let process = &GOOD[GOOD.find("[[process]]").unwrap()..GOOD.find("[expect").unwrap()];
        let second = process.replace("name = \"p\"", "name = \"q\"");
        let error = Scenario::parse(&GOOD.replace("[expect", &format!("{second}\n[expect"))).unwrap_err();
        assert!(error.to_string().contains("process[1].work_queue: a dedicated WQ"), "{error}");
    }

    #[test]
    fn what_breaks_its_word_has_processes_that_can_bear_it() {
        let with = |device: &str, process: &str| {
            let text = GOOD.replacen("kind = \"dsa\"", &format!("kind = \"dsa\"\n{device}"), 1);
            Scenario::parse(&text.replacen("count = 10", &format!("count = 10\n{process}"), 1))
        };
        let says = |result: Result<Scenario, ScenarioError>, words: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        let late = "inject = [{ kind = 'late_entries', entries = 4, delay_ms = 1 }]";
        says(with(late, ""), "exit: must be \"pending\"");
        with(late, "exit = 'pending'").unwrap();
        with("", "fresh_pages = true").unwrap();
        says(with("", "fresh_pages = true\nthreads = 2"), "fresh_pages");
        says(with("", "close_first_after = 7"), "needs a shared WQ");
        let shared = |words: &str| {
            let text = GOOD.replacen("work_queue = 0", "work_queue = 1", 1);
            Scenario::parse(&text.replacen("count = 10", &format!("count = 10\n{words}"), 1))
        };
        shared("close_first_after = 7").unwrap();
        says(shared("close_first_after = 5"), "1 to outstanding = 4");
        says(shared("close_first_after = 7\nrepeat = 2"), "repeat = 1");
    }

    #[test]
    fn groups_need_engines_and_own_them() {
        let with = |groups: &str| {
            Scenario::parse(&GOOD.replacen(
                "[[device.work_queue]]",
                &format!("{groups}[[device.work_queue]]"),
                1,
            ))
        };
        with("[[device.group]]\nid = 0\nengines = [0, 1]\n").unwrap();
        let twice = "[[device.group]]\nid = 0\nengines = [0]\n[[device.group]]\nid = 1\nengines = [0]\n";
        assert!(with(twice).unwrap_err().to_string().contains("device[0].group[1].engines"));
        assert!(
            with("[[device.group]]\nid = 0\nengines = [4]\n").unwrap_err().to_string().contains("engines")
        );
    }

    #[test]
    fn the_scenario_files_are_valid_and_expect_what_they_plan() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
        let mut files = 0;
        for file in fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            let scenario = Scenario::parse(&fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            for (name, expect) in &scenario.expect {
                let certain = scenario.certain(scenario.process(name).unwrap());
                let counts = Expect { retried: None, ..*expect };
                assert!(certain.is_none_or(|certain| certain == counts), "{}: {name}", path.display());
            }
            files += 1;
        }
        assert!(files >= 9, "{files}");
    }

    #[test]
    fn the_reference_shows_a_valid_scenario() {
        let text = include_str!("../../../../docs/scenarios.md");
        let toml = text.split("```toml\n").nth(1).and_then(|t| t.split("```").next()).unwrap();
        let scenario = Scenario::parse(toml).unwrap();
        let writer = scenario.process("writer").unwrap();
        assert_eq!(scenario.certain(writer), Some(scenario.expect["writer"]));
    }
}

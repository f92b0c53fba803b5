//! The books of one scenario: the devices' truth log, what dsascope reported, the driver's counters, the processes' own account.
//!
//! Owns: reading them into one shape, by device, WQ and PASID. Refuses: comparing; [`super::compare`] does that.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result, bail};
use dsascope_common::hw::completion::STATUS_MASK;
use dsascope_common::hw::completion::status::{BATCH_EVL_ERR, CRA_XLAT, DRAIN_EVL};
use dsascope_common::hw::descriptor::opcode;
use dsascope_core::event::{DriverEvent, Fault, Hook, SessionInfo};
use dsascope_core::json::{Body, Line, SummaryLine};
use dsascope_core::model::Batch;
use dsascope_guest::report::{
    FileCounters, KERNEL, KernelReport, PROCESSES, ProcessReport, SYSFS, TRACER, TRACER_STDOUT, TracerReport,
};
use dsascope_guest::scenario::{Exit, Findings, Scenario, Submission};
use dsascope_testbed::truth::{self, BlockCause, DropReason, Event};
use serde::{Deserialize, Serialize};

use super::Attach;
use super::driver::DeviceActs;
use super::pages::Pages;
use crate::session::Outcome;
use crate::test::report;

/// What a second dsascope wrote, after the first one was killed.
const SECOND_STDOUT: &str = "second.stdout";

/// What the books are kept by: one process on one WQ.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// As the driver names it.
    pub device: String,
    /// The M of wqN.M.
    pub wq: u16,
    pub pasid: u32,
}

/// All that is known of one scenario's run.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// How dsascope was told to attach.
    pub attach: Attach,
    pub device: BTreeMap<Key, DeviceAccount>,
    /// By device: how often its engines waited, and for how long, by cause.
    pub blocked: BTreeMap<String, BTreeMap<BlockCause, Blocked>>,
    pub tracer: Tracer,
    /// The driver's counters of each file, as sysfs showed them.
    pub driver: Vec<FileCounters>,
    pub processes: Vec<Process>,
    pub kernel: KernelReport,
    /// What the devices did besides serving descriptors, by name.
    pub acts: BTreeMap<String, DeviceActs>,
    pub pages: Pages,
    /// What dsascope is to find.
    pub findings: Option<Findings>,
}

/// A process' own account.
#[derive(Clone, Debug, Default)]
pub struct Process {
    pub report: ProcessReport,
    /// It exited with faults pending: what became of the last ones is not known to it.
    pub exit_pending: bool,
    pub submission: Option<Submission>,
    /// Completion records of each descriptor it submits: its own and, of a batch, those of the elements.
    pub records_per_descriptor: u64,
    /// Its device is halted under it.
    pub halted: bool,
    /// Each of its own records comes in the end.
    pub sees_all: bool,
}

impl Process {
    /// Faults that were served when the driver had nobody to deliver to and to count them for; the device does not know of these.
    pub fn unheard(&self) -> u64 {
        if self.halted { 0 } else { self.report.lost }
    }
}

/// What the devices did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceAccount {
    /// Entries that the driver hands to a worker, by error code: 0x1a, 0x26, 0x27.
    pub faults: BTreeMap<u8, u64>,
    /// Errors that the driver does not serve: entries that it only logs, and what went to SWERROR.
    pub other_errors: u64,
    /// Of `faults`, those that came when their descriptors had ended and been drained, so that nobody may hear of them.
    pub late: u64,
    /// Of `faults`, drains' records: behind other entries (0x26), or in a page of their own that was absent (0x1a).
    pub drains: u64,
    /// All of `faults`, as they lay in the event log, in order.
    pub raw: Vec<Vec<u8>>,
    /// Batches whose own record is in the log.
    pub batches: Vec<LoggedBatch>,
    /// Accepted from portals, without elements of batches.
    pub descriptors: u64,
    /// Not accepted: the WQ was full or disabled.
    pub refused: u64,
    /// Not accepted by a shared WQ at its threshold, and told so.
    pub retries: u64,
    /// When the first was accepted, and when the end of the last was told.
    pub first_ns: Option<u64>,
    pub last_ns: u64,
}

/// Waits of a device's engines, during which these serve nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Blocked {
    pub waits: u64,
    pub total_ns: u64,
    pub longest_ns: u64,
}

/// A batch that is in the event log: as the device's entries and its own account have it, and as dsascope joined it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoggedBatch {
    pub id: u8,
    /// Indices of the elements whose records faulted.
    pub elements: Vec<u16>,
    /// Of the batch's own record in the log.
    pub status: u8,
    pub result: u8,
    pub completed: u32,
}

impl DeviceAccount {
    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Descriptors from the first's start to the last's end.
    pub fn per_s(&self) -> Option<f64> {
        let ns = self.last_ns.checked_sub(self.first_ns?).filter(|ns| *ns > 0)?;
        Some(self.descriptors as f64 * 1e9 / ns as f64)
    }
}

/// What there is of dsascope.
#[derive(Clone, Debug, Default)]
pub enum Tracer {
    /// It ran to its end.
    Traced(Box<Account>),
    /// The scenario killed it; the account of the one that was started afterwards.
    Killed(Box<Account>),
    #[default]
    Absent,
}

impl Tracer {
    /// What was reported, be it by the second one.
    pub fn account(&self) -> Option<&Account> {
        match self {
            Self::Traced(account) | Self::Killed(account) => Some(account),
            Self::Absent => None,
        }
    }
}

/// What dsascope reported.
#[derive(Clone, Debug)]
pub struct Account {
    pub session: SessionInfo,
    pub summary: SummaryLine,
    /// Every fault's line; `None`: totals alone were asked for.
    pub faults: Option<Vec<Fault>>,
    /// Batches that ended, and whether nothing about them is in doubt; with `faults`.
    pub batches: Vec<(Batch, bool)>,
    /// Every line of what the driver did to devices; `None`: totals alone were asked for.
    pub driver: Option<Vec<DriverEvent>>,
    pub run: TracerReport,
}

impl Account {
    /// Whether a program was attached to the hook.
    pub fn observes(&self, hook: Hook) -> bool {
        self.session.verdicts.iter().any(|verdict| verdict.hook == hook && verdict.state.attached())
    }

    /// What `--json` wrote.
    pub fn parse(text: &str, deep: bool, run: TracerReport) -> Result<Self> {
        let (mut session, mut summary) = (None, None);
        let (mut faults, mut driver) = (deep.then(Vec::new), deep.then(Vec::new));
        let mut batches = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = Line::parse(line)
                .with_context(|| format!("dsascope's line {} is not in its format", number + 1))?;
            match line.body {
                Body::Session(first) => session = Some(*first),
                Body::Summary(last) => summary = Some(*last),
                Body::Fault(fault) => {
                    if let Some(faults) = &mut faults {
                        faults.push(fault.fault);
                    }
                }
                Body::Batch(line) if deep => batches.push((line.batch, line.certain)),
                Body::Driver(line) => {
                    if let Some(driver) = &mut driver {
                        driver.push(line.event);
                    }
                }
                _ => {}
            }
        }
        Ok(Self {
            batches,
            session: session.context("dsascope wrote no session line")?,
            summary: summary.context("dsascope wrote no summary line")?,
            faults,
            driver,
            run,
        })
    }

    /// The keys of all open files that it reports.
    pub fn keys(&self) -> BTreeSet<Key> {
        let of_totals = |c: &dsascope_core::json::SummaryContext| of_context(&c.totals.context);
        let of_faults = self.faults.iter().flatten().map(|fault| of_context(&fault.context));
        self.summary.contexts.iter().map(of_totals).chain(of_faults).collect()
    }
}

pub fn of_context(context: &dsascope_core::event::Context) -> Key {
    Key { device: context.device.to_string(), wq: context.wq, pasid: context.pasid }
}

impl Books {
    /// From what the guest returned and the truth log's part.
    pub fn read(outcome: &Outcome, truth: &[truth::Line], scenario: &Scenario, deep: bool) -> Result<Self> {
        let processes: Vec<ProcessReport> = report(outcome, PROCESSES)?;
        let run: TracerReport = report(outcome, TRACER)?;
        let tracer = match run.second.clone() {
            _ if !run.killed => Tracer::Traced(Box::new(account(outcome, TRACER_STDOUT, deep, run)?)),
            Some(second) => Tracer::Killed(Box::new(account(outcome, SECOND_STDOUT, deep, *second)?)),
            None => bail!("dsascope was killed and not started again"),
        };
        Ok(Self {
            attach: Attach::default(),
            device: device_accounts(truth),
            blocked: blocked(truth),
            pages: Pages::read(truth),
            tracer,
            driver: report(outcome, SYSFS)?,
            processes: processes
                .into_iter()
                .map(|report| {
                    let plan = scenario.processes.iter().find(|process| process.name == report.process);
                    let elements =
                        plan.and_then(|plan| plan.batch.as_ref()).map_or(0, |batch| batch.descriptors.into());
                    Process {
                        exit_pending: plan.is_some_and(|plan| plan.exit == Exit::Pending),
                        submission: plan.map(|plan| scenario.submission_of(plan)),
                        records_per_descriptor: 1 + elements,
                        sees_all: plan.is_some_and(|p| !p.completion_records.has(|habit| !habit.is_seen())),
                        halted: plan.is_some_and(|plan| plan.exit == Exit::Halted),
                        report,
                    }
                })
                .collect(),
            kernel: report(outcome, KERNEL)?,
            acts: super::driver::acts(truth),
            findings: scenario.findings.clone(),
        })
    }
}

fn account(outcome: &Outcome, file: &str, deep: bool, run: TracerReport) -> Result<Account> {
    let bytes = outcome.files.get(file).with_context(|| format!("the guest sent no {file}"))?;
    Account::parse(&String::from_utf8_lossy(bytes), deep, run)
}

/// The truth log's lines from byte `offset` on, and where the next ones will start.
pub fn truth_since(path: &Path, offset: u64) -> Result<(Vec<truth::Line>, u64)> {
    let name = || format!("the truth log {}", path.display());
    let mut file = BufReader::new(File::open(path).with_context(name)?);
    file.seek(SeekFrom::Start(offset)).with_context(name)?;
    let mut lines = Vec::new();
    let mut end = offset;
    let mut text = String::new();
    loop {
        text.clear();
        let bytes = file.read_line(&mut text).with_context(name)?;
        if bytes == 0 || !text.ends_with('\n') {
            return Ok((lines, end));
        }
        end += bytes as u64;
        lines.push(serde_json::from_str(&text).with_context(|| format!("{} holds nonsense", name()))?);
    }
}

/// How long engines waited for what.
fn blocked(lines: &[truth::Line]) -> BTreeMap<String, BTreeMap<BlockCause, Blocked>> {
    let mut all: BTreeMap<String, BTreeMap<BlockCause, Blocked>> = BTreeMap::new();
    for line in lines {
        if let Event::EngineBlocked { device, cause, blocked_ns, .. } = &line.event {
            let blocked = all.entry(device.clone()).or_default().entry(*cause).or_default();
            blocked.waits += 1;
            blocked.total_ns += blocked_ns;
            blocked.longest_ns = blocked.longest_ns.max(*blocked_ns);
        }
    }
    all
}

/// Counts and entries of all processes that appear.
fn device_accounts(lines: &[truth::Line]) -> BTreeMap<Key, DeviceAccount> {
    let mut accounts: BTreeMap<Key, DeviceAccount> = BTreeMap::new();
    let mut at = |device: &str, wq: u8, pasid: u32, change: &mut dyn FnMut(&mut DeviceAccount)| {
        change(accounts.entry(Key { device: device.to_owned(), wq: wq.into(), pasid }).or_default());
    };
    // Elements in the log, by the only name of a batch: device, identifier, generation.
    let mut elements: BTreeMap<(&str, u8, u64), Vec<u16>> = BTreeMap::new();
    let mut logged = BTreeSet::new();
    for line in lines {
        if let Event::EventLogEntry {
            device,
            error,
            batch,
            batch_id,
            batch_generation: Some(generation),
            batch_index,
            ..
        } = &line.event
        {
            let name = (device.as_str(), *batch_id, *generation);
            match error & STATUS_MASK {
                CRA_XLAT if *batch => elements.entry(name).or_default().push(*batch_index),
                BATCH_EVL_ERR => {
                    logged.insert(name);
                }
                _ => {}
            }
        }
    }
    for line in lines {
        let now_ns = line.time_ns;
        match &line.event {
            Event::BatchEnd {
                device,
                wq,
                pasid: Some(pasid),
                batch_id,
                generation,
                status,
                result,
                completed,
                ..
            } => {
                let name = (device.as_str(), *batch_id, *generation);
                if logged.contains(&name) {
                    let batch = LoggedBatch {
                        id: *batch_id,
                        elements: elements.remove(&name).unwrap_or_default(),
                        status: *status,
                        result: *result,
                        completed: *completed,
                    };
                    at(device, *wq, *pasid, &mut |account| account.batches.push(batch.clone()));
                }
            }
            Event::CompletionRecord { device, wq, pasid: Some(pasid), .. } => {
                at(device, *wq, *pasid, &mut |account| account.last_ns = now_ns);
            }
            Event::EventLogEntry { device, wq, pasid, error, operation, raw, .. } => {
                at(device, *wq, *pasid, &mut |account| account.last_ns = now_ns);
                at(device, *wq, *pasid, &mut |account| match error & STATUS_MASK {
                    handed_over @ (CRA_XLAT | BATCH_EVL_ERR | DRAIN_EVL) => {
                        *account.faults.entry(handed_over).or_default() += 1;
                        account.drains += u64::from(*operation == opcode::DRAIN);
                        account.raw.push(truth::unhex(raw).unwrap_or_default());
                    }
                    _ => account.other_errors += 1,
                });
            }
            Event::EntryLate { device, wq, pasid: Some(pasid) } => {
                at(device, *wq, *pasid, &mut |account| account.late += 1);
            }
            Event::SoftwareError { device, wq, pasid: Some(pasid), .. } => {
                at(device, *wq, *pasid, &mut |account| account.other_errors += 1);
            }
            Event::Descriptor { device, wq, pasid: Some(pasid), batch_index: None, .. } => {
                at(device, *wq, *pasid, &mut |account| {
                    account.descriptors += 1;
                    account.first_ns.get_or_insert(now_ns);
                });
            }
            Event::Dropped {
                device,
                wq,
                pasid: Some(pasid),
                reason: DropReason::WqDisabled | DropReason::WqFull,
            } => at(device, *wq, *pasid, &mut |account| account.refused += 1),
            Event::Retry { device, wq, pasid: Some(pasid), .. } => {
                at(device, *wq, *pasid, &mut |account| account.retries += 1);
            }
            _ => {}
        }
    }
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_truth_log_is_read_on_from_where_the_last_scenario_ended() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mark = |text: &str| format!("{{\"time_ns\":1,\"event\":\"mark\",\"text\":\"{text}\"}}\n");
        write!(file, "{}", mark("a")).unwrap();
        let (lines, end) = truth_since(file.path(), 0).unwrap();
        assert_eq!((lines.len(), end), (1, mark("a").len() as u64));
        write!(file, "{}{}{{\"half", mark("b"), mark("c")).unwrap();
        let (lines, end) = truth_since(file.path(), end).unwrap();
        assert_eq!((lines.len(), end), (2, 3 * mark("a").len() as u64));
        writeln!(file, "{{}}").unwrap();
        assert!(truth_since(file.path(), end).is_err());
    }

    #[test]
    fn output_without_its_last_line_is_an_error() {
        let error = Account::parse("", false, TracerReport::default()).unwrap_err();
        assert!(error.to_string().contains("no session line"));
        assert!(Account::parse("{}", false, TracerReport::default()).is_err());
    }
}

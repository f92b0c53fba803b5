//! The comparison: every rule that the books of one scenario must fulfil, by process and for the run as a whole. Pure.
//!
//! Owns: the rules. A number that a book does not have is `None`; it is compared with nothing, and shown as missing. Refuses: losses
//! as an excuse, unless the loss ledger names them.

use std::collections::{BTreeMap, BTreeSet};

use dsascope_common::hw::completion::status::{BATCH_EVL_ERR, CRA_XLAT, DRAIN_EVL};
use dsascope_core::event::{Fault, Hook};
use dsascope_core::json::SummaryContext;
use dsascope_core::ledger::ByKind;
use dsascope_testbed::truth::BlockCause;
use serde::Serialize;

use super::books::{Account, Blocked, Books, DeviceAccount, Key, Process, Tracer, of_context};
use super::missed::Missed;
use super::observed::Observed;
use super::{batches, deep, driver, findings, pages, workload};

/// Exit codes of dsascope: all well, and records were lost.
const TRACER_OK: i32 = 0;
const TRACER_LOSS: i32 = 8;
/// When a process exits with faults pending, the driver copies into a memory map that is being torn down, and the kernel says so. That
/// is the driver's defect.
const TEARDOWN: [&str; 3] = ["Bad rss-counter state", "Bad page", "non-zero pgtables_bytes"];
/// Bit of /proc/sys/kernel/tainted: "Bad page" was said; it stays for the rest of the boot.
const TAINT_BAD_PAGE: u64 = 1 << 5;
/// The bits of the module that emulates instructions: without symbol versions, out of tree, unsigned.
const TAINT_EMULATION: u64 = 1 << 1 | 1 << 12 | 1 << 13;

/// Two numbers that should be equal and are not, or a rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub rule: Rule,
    pub text: String,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Event-log entries of the device = faults queued + entries the driver skipped at a close.
    Queued,
    /// Queued = served.
    Served,
    /// Served = the sum of all outcomes.
    Outcomes,
    /// By error code, where nothing was skipped: entries of the device = served.
    Codes,
    /// Calls of the driver's counter function = the driver's counters.
    Counters,
    /// Served = records received + records lost.
    Records,
    /// The PASID's process is the one that the scenario started.
    Process,
    /// What the process itself knows.
    Workload,
    /// Every entry of the device has its fault record, byte for byte, and every record its entry.
    Entries,
    /// Every batch in the device's log is one that dsascope joined, with its elements and its record, and the driver's errors among them are
    /// those that the process noticed.
    Batches,
    /// The times of a fault's stages stand in order.
    Order,
    /// The devices' page requests = what dsascope's programs saw = answered + lost responses; no latency is longer than an engine's wait.
    PageRequests,
    /// Seen = sent + lost and received = sent, for every kind of record.
    Ledger,
    /// dsascope's own judgement and exit code.
    Tracer,
    /// What the devices did besides serving descriptors: commands, halts, errors that nobody serves, waits for a slot of the log.
    Device,
    /// Found is what the scenario says, and nothing else.
    Findings,
    /// Taint, BUG, WARNING.
    Kernel,
    /// What the guest itself finds against the scenario's expectations.
    Expectation,
}

/// Where the driver's counters were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// From sysfs, by the process, before it closed the file.
    Sysfs,
    /// From the driver's memory, by dsascope, when the file went.
    AtRelease,
    #[default]
    NotReadable,
}

/// One process on one WQ, in all books. `None`: the book does not have it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    pub device: String,
    pub wq: u16,
    pub pasid: u32,
    pub process: Option<String>,
    pub pid: Option<u32>,
    /// The device's entries of errors 0x1a, 0x26 and 0x27.
    pub device_faults: u64,
    pub queued: Option<u64>,
    pub skipped: Option<u64>,
    pub served: Option<u64>,
    pub delivered: Option<u64>,
    pub failed: Option<u64>,
    /// Served without a copy, or with one that nobody saw.
    pub other: Option<u64>,
    pub received: Option<u64>,
    pub lost: Option<u64>,
    pub counted_faults: Option<u64>,
    pub counted_failures: Option<u64>,
    pub driver_faults: Option<u64>,
    pub driver_failures: Option<u64>,
    pub driver_source: Source,
    /// Descriptors a second, by the device.
    pub descriptors_per_s: Option<f64>,
    /// Faults a second, by dsascope; where it wrote each.
    pub faults_per_s: Option<f64>,
    pub workload_faults: Option<u64>,
    pub workload_delivered: Option<u64>,
    pub workload_failed: Option<u64>,
    pub differences: Vec<Difference>,
}

/// One scenario's result.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    pub rows: Vec<Row>,
    pub page_requests: Vec<pages::Row>,
    /// Of the run as a whole.
    pub differences: Vec<Difference>,
    /// Defects of the driver that are known and do not count.
    pub known: Vec<String>,
    /// What dsascope missed and says that it missed; only where it was made to attach by fentry.
    pub explained: Vec<String>,
    /// How dsascope was attached and what that cost.
    pub observed: Option<Observed>,
    /// How long the devices' engines waited for what.
    pub blocked: BTreeMap<String, BTreeMap<BlockCause, Blocked>>,
    /// Entries were compared byte for byte.
    pub deep: bool,
    pub records_lost: u64,
    /// The scenario killed dsascope: its book is missing.
    pub killed: bool,
}

impl Comparison {
    pub fn exact(&self) -> bool {
        self.differences.is_empty() && self.rows.iter().all(|row| row.differences.is_empty())
    }

    /// All differences with the name of what they concern.
    pub fn all_differences(&self) -> Vec<String> {
        let of_rows = self.rows.iter().flat_map(|row| {
            row.differences.iter().map(move |d| format!("{} PASID {}: {}", row.wq_name(), row.pasid, d.text))
        });
        of_rows.chain(self.differences.iter().map(|d| d.text.clone())).collect()
    }
}

impl Row {
    /// `wqN.M`, as the driver names it.
    pub fn wq_name(&self) -> String {
        let number = self.device.trim_start_matches(|c: char| !c.is_ascii_digit());
        format!("wq{number}.{}", self.wq)
    }

    pub(super) fn differ(&mut self, rule: Rule, text: String) {
        self.differences.push(Difference { rule, text });
    }

    /// Both numbers there and unequal: a difference.
    pub(super) fn equal(&mut self, rule: Rule, left: (&str, Option<u64>), right: (&str, Option<u64>)) {
        self.within(rule, 0, left, right);
    }

    /// Both numbers there and more than `slack` apart: a difference.
    pub(super) fn within(
        &mut self,
        rule: Rule,
        slack: u64,
        (left, a): (&str, Option<u64>),
        (right, b): (&str, Option<u64>),
    ) {
        if let (Some(a), Some(b)) = (a, b)
            && a.abs_diff(b) > slack
        {
            let beyond = if slack > 0 { format!(", {slack} explained") } else { String::new() };
            self.differ(rule, format!("{left} {a}, {right} {b}{beyond}"));
        }
    }
}

/// Holds the books against each other.
pub fn compare(books: &Books) -> Comparison {
    let mut comparison = Comparison { blocked: books.blocked.clone(), ..Comparison::default() };
    kernel(books, &mut comparison);
    let account = match &books.tracer {
        Tracer::Traced(account) => Some(&**account),
        Tracer::Killed(second) => {
            comparison.killed = true;
            second_start(second, &mut comparison);
            None
        }
        Tracer::Absent => None,
    };
    comparison.observed = books.tracer.account().map(Observed::of);
    let missed = account.map(|account| Missed::of(account, books.attach)).unwrap_or_default();
    let mut keys: BTreeSet<Key> = books.device.keys().cloned().collect();
    if let Some(account) = account {
        whole(account, missed, &mut comparison);
        comparison.differences.extend(driver::compare(account, missed, &books.acts, &books.kernel.log));
        comparison.differences.extend(findings::compare(books.findings.as_ref(), account));
        keys.extend(account.keys());
    }
    let mut deep = account.and_then(deep::by_key);
    comparison.deep = deep.is_some();
    let nothing = DeviceAccount::default();
    for key in keys {
        let device = books.device.get(&key).unwrap_or(&nothing);
        let mut row = Row {
            device: key.device.clone(),
            wq: key.wq,
            pasid: key.pasid,
            device_faults: device.faults(),
            ..Row::default()
        };
        let contexts: Vec<&SummaryContext> = account
            .map(|account| &account.summary.contexts)
            .into_iter()
            .flatten()
            .filter(|context| of_context(&context.totals.context) == key)
            .collect();
        if let Some(account) = account {
            take_totals(&mut row, account, missed, &contexts);
        }
        // Without a hook at the open it looks for the process when a fault comes, and of late ones none is left.
        let knows = |account: &Account| account.observes(Hook::OpenEnd) || device.late < device.faults();
        let process = take_process(&mut row, books, &contexts, account.is_some_and(knows));
        take_driver(&mut row, books, process, &contexts);
        rules(&mut row, account, missed, device, &contexts, process);
        row.descriptors_per_s = device.per_s();
        if let Some(deep) = &mut deep {
            let faults = deep.remove(&key).unwrap_or_default();
            row.faults_per_s = per_s(&faults);
            let missing = if process.is_some_and(|process| process.halted) {
                row.device_faults.saturating_sub(row.received.unwrap_or(0))
            } else {
                missed.without_record(&row)
            };
            row.differences.extend(deep::compare(device, &faults, missing));
            let joined: Vec<_> = account
                .map(|account| &account.batches)
                .into_iter()
                .flatten()
                .filter(|(batch, _)| of_context(&batch.context) == key)
                .collect();
            row.differences.extend(batches::compare(device, &joined, missing, process));
            if let Some(report) =
                process.map(|process| &process.report).filter(|report| report.misreported > 0)
            {
                let (name, count) = (&report.process, report.misreported);
                comparison.known.push(format!(
                    "{name}: {count} batches were told of other batches' failures (docs/driver-notes.md)"
                ));
            }
        }
        comparison.rows.push(row);
    }
    workload::absent_processes(books, &mut comparison);
    missed.explain(&mut comparison);
    leaked(books, &mut comparison);
    let (page_requests, differences) = pages::compare(&books.pages, account, &books.processes);
    comparison.page_requests = page_requests;
    comparison.differences.extend(differences);
    comparison
}

/// From the first to the last.
fn per_s(faults: &[&Fault]) -> Option<f64> {
    let times = || faults.iter().map(|fault| fault.at_ns);
    let ns = times().max()?.checked_sub(times().min()?).filter(|ns| *ns > 0)?;
    Some((faults.len() - 1) as f64 * 1e9 / ns as f64)
}

/// Sums over the times that the process opened the WQ.
fn take_totals(row: &mut Row, account: &Account, missed: Missed, contexts: &[&SummaryContext]) {
    let sum = |of: fn(&SummaryContext) -> u64| Some(contexts.iter().map(|context| of(context)).sum::<u64>());
    let seen = |hook, value: Option<u64>| value.filter(|_| account.observes(hook));
    row.queued = sum(|c| c.totals.queued);
    row.served = sum(|c| c.totals.served);
    row.skipped = seen(Hook::ReleaseStart, sum(|c| c.totals.skipped)).filter(|_| missed.releases == 0);
    row.delivered = seen(Hook::CopyEnd, sum(|c| c.totals.delivered));
    row.failed = seen(Hook::CopyEnd, sum(|c| c.totals.failed));
    row.other = sum(|c| c.totals.not_copied + c.totals.unobserved);
    row.lost = sum(|c| c.totals.records_lost);
    row.received = contexts.iter().map(|context| context.records_received).sum();
    row.counted_faults = seen(Hook::Counter, sum(|c| c.totals.counter_faults));
    row.counted_failures = seen(Hook::Counter, sum(|c| c.totals.counter_failures));
}

/// The process behind the PASID: by the pid that dsascope saw, else the only one that the scenario has on this WQ, else the only one there that
/// faults, or does not, as this PASID does: without a hook at the open dsascope knows no process that does not fault.
fn take_process<'a>(
    row: &mut Row,
    books: &'a Books,
    contexts: &[&SummaryContext],
    knows: bool,
) -> Option<&'a Process> {
    let on_wq = |process: &&Process| {
        process.report.device == row.device && u16::from(process.report.work_queue) == row.wq
    };
    let pids: BTreeSet<u32> = contexts.iter().filter_map(|context| context.totals.tgid).collect();
    let process = if pids.is_empty() {
        let alike =
            |process: &&Process| (process.report.faults > 0) == (row.device_faults > 0) && on_wq(process);
        only(books.processes.iter().filter(on_wq)).or_else(|| only(books.processes.iter().filter(alike)))
    } else {
        books.processes.iter().filter(on_wq).find(|process| pids.contains(&process.report.pid))
    };
    row.pid = pids.first().copied().or(process.map(|process| process.report.pid));
    row.process = process.map(|process| process.report.process.clone());
    let Some(process) = process else {
        row.differ(Rule::Process, format!("pids {pids:?} are none of this WQ's processes"));
        return None;
    };
    if pids.len() > 1 {
        row.differ(Rule::Process, format!("one PASID, pids {pids:?}"));
    }
    if knows && pids.is_empty() && row.device_faults > 0 {
        row.differ(Rule::Process, "dsascope does not know whose PASID it is".into());
    }
    for context in contexts.iter().filter(|context| context.totals.tgid.is_some()) {
        let comm = context.totals.comm.to_string();
        if comm != process.report.process {
            row.differ(Rule::Process, format!("command {comm:?}, process {:?}", process.report.process));
        }
    }
    row.workload_faults = Some(process.report.faults);
    row.workload_delivered = Some(process.report.delivered);
    row.workload_failed = Some(process.report.failed);
    Some(process)
}

/// The one that there is, if there is one and no other.
fn only<T>(mut candidates: impl Iterator<Item = T>) -> Option<T> {
    candidates.next().filter(|_| candidates.next().is_none())
}

/// The driver's counters: sysfs where the process could read it, else what dsascope read when the files went.
fn take_driver(row: &mut Row, books: &Books, process: Option<&Process>, contexts: &[&SummaryContext]) {
    let Some(process) = process else { return };
    let files = || books.driver.iter().filter(|file| file.process == process.report.process);
    let sysfs: Option<(u64, u64)> = files()
        .map(|file| Some((file.cr_faults?, file.cr_fault_failures?)))
        .try_fold((0, 0), |sum, file| file.map(|file| (sum.0 + file.0, sum.1 + file.1)))
        .filter(|_| files().next().is_some());
    let at_release: Option<(u64, u64)> = contexts
        .iter()
        .map(|context| Some((context.totals.driver_faults?, context.totals.driver_failures?)))
        .try_fold((0, 0), |sum, file| file.map(|file| (sum.0 + file.0, sum.1 + file.1)))
        .filter(|_| !contexts.is_empty());
    let (figures, source) = match (sysfs, at_release) {
        (Some(sysfs), _) => (Some(sysfs), Source::Sysfs),
        (None, Some(at_release)) => (Some(at_release), Source::AtRelease),
        (None, None) => (None, Source::NotReadable),
    };
    row.driver_faults = figures.map(|figures| figures.0);
    row.driver_failures = figures.map(|figures| figures.1);
    row.driver_source = source;
    if source == Source::NotReadable && !process.exit_pending && !process.halted {
        row.differ(
            Rule::Counters,
            "the driver's counters could not be read, though the process closed its file".into(),
        );
    }
    if let (Some(sysfs), Some(at_release)) = (sysfs, at_release)
        && sysfs != at_release
    {
        row.differ(
            Rule::Counters,
            format!("sysfs {sysfs:?}, dsascope at the release {at_release:?} (faults, failures)"),
        );
    }
}

fn rules(
    row: &mut Row,
    account: Option<&Account>,
    missed: Missed,
    device: &DeviceAccount,
    contexts: &[&SummaryContext],
    process: Option<&Process>,
) {
    let device_faults = row.device_faults;
    if let Some(account) = account {
        let seen = row.queued.map(|queued| queued + row.skipped.unwrap_or(0));
        if seen.is_some_and(|seen| seen > device_faults) {
            row.differ(Rule::Queued, format!("device {device_faults}, queued and skipped {seen:?}"));
        }
        match (row.queued, row.skipped) {
            // The driver never read what was in the log of a device that was reset.
            (queued, skipped) if process.is_some_and(|process| process.halted) => {
                let handled = queued.unwrap_or(0) + skipped.unwrap_or(0);
                if handled > device_faults {
                    row.differ(Rule::Queued, format!("device {device_faults}, queued and skipped {handled}"));
                }
            }
            (queued, Some(skipped)) => row.within(
                Rule::Queued,
                missed.services(),
                ("device", Some(device_faults)),
                (&format!("queued + {skipped} skipped"), queued.map(|queued| queued + skipped)),
            ),
            // Nobody saw how many were skipped: there may be as many as were pending.
            (Some(_), None) if process.is_some_and(|process| process.exit_pending) => {}
            (queued, None) => row.within(
                Rule::Queued,
                missed.services(),
                ("device", Some(device_faults)),
                ("queued", queued),
            ),
        }
        row.equal(Rule::Served, ("queued", row.queued), ("served", row.served));
        let outcomes = contexts
            .iter()
            .map(|c| c.totals.delivered + c.totals.failed + c.totals.not_copied + c.totals.unobserved)
            .sum();
        row.equal(Rule::Outcomes, ("served", row.served), ("outcomes", Some(outcomes)));
        let unobserved = contexts.iter().map(|c| c.totals.unobserved).sum();
        if account.observes(Hook::CopyEnd) {
            row.within(
                Rule::Outcomes,
                missed.outcomes(),
                ("copies whose end is attached to", Some(0)),
                ("unobserved", Some(unobserved)),
            );
        }
        let by_code: [(u8, u64); 3] = [
            (CRA_XLAT, contexts.iter().map(|c| c.totals.cr_faults).sum()),
            (BATCH_EVL_ERR, contexts.iter().map(|c| c.totals.batch_faults).sum()),
            (DRAIN_EVL, contexts.iter().map(|c| c.totals.drains).sum()),
        ];
        if row.skipped == Some(0) && !process.is_some_and(|process| process.halted) {
            for (code, served) in by_code {
                let logged = device.faults.get(&code).copied().unwrap_or(0);
                row.within(
                    Rule::Codes,
                    missed.services(),
                    (&format!("device's {code:#x}"), Some(logged)),
                    ("served", Some(served)),
                );
            }
        }
        // The driver counts 0x1a and 0x27 once each before its copy, 0x26 never (idxd-facts section 2.5).
        let counted = by_code[0].1 + by_code[1].1;
        let slack = missed.services() + missed.counters;
        row.within(Rule::Counters, slack, ("counted", row.counted_faults), ("faults served", Some(counted)));
        if by_code[2].1 == 0 {
            row.within(
                Rule::Counters,
                missed.outcomes() + missed.counters,
                ("counted failures", row.counted_failures),
                ("copies failed", row.failed),
            );
        }
        let records = row.received.zip(row.lost).map(|(received, lost)| received + lost);
        row.equal(Rule::Records, ("served", row.served), ("received + lost", records));
    }
    // The driver's counter function was called for these, and found nobody to count them for.
    let unheard = device.late + process.map_or(0, Process::unheard);
    let heard = |counted: Option<u64>| counted.map(|counted| counted.saturating_sub(unheard));
    row.within(
        Rule::Counters,
        missed.counted(),
        ("counted", heard(row.counted_faults)),
        ("driver's faults", row.driver_faults),
    );
    row.within(
        Rule::Counters,
        missed.counted(),
        ("counted failures", heard(row.counted_failures)),
        ("driver's failures", row.driver_failures),
    );
    let halted = process.is_some_and(|process| process.halted);
    let skipped_at_most = if account.is_some() { row.skipped } else { Some(0) };
    if row.driver_source == Source::Sysfs && skipped_at_most == Some(0) && !halted {
        let counted = device_faults - device.faults.get(&DRAIN_EVL).copied().unwrap_or(0);
        row.equal(
            Rule::Counters,
            ("device, drains' 0x26 aside", heard(Some(counted))),
            ("driver's faults", row.driver_faults),
        );
    }
    if let Some(process) = process {
        workload::compare(row, missed, device, process);
    }
}

/// The driver forgets the object of a fault whose record it does not copy. That is its defect.
fn leaked(books: &Books, comparison: &mut Comparison) {
    for (device, [before, after]) in &books.kernel.fault_objects {
        let of_device = books.processes.iter().filter(|process| process.report.device == *device);
        let uncopied: u64 = of_device.map(|process| process.report.uncopied).sum();
        if uncopied > 0 && after > before {
            comparison.known.push(format!(
                "{device}: {uncopied} records not copied, and {} more fault objects than before (docs/driver-notes.md)",
                after - before
            ));
        }
    }
}

/// What dsascope says of the run as a whole.
fn whole(account: &Account, missed: Missed, comparison: &mut Comparison) {
    let mut differ = |rule, text: String| comparison.differences.push(Difference { rule, text });
    let summary = &account.summary;
    let ledger = &summary.ledger;
    for kind in ByKind::KINDS {
        let (seen, sent, lost) =
            (ledger.kernel.seen.get(kind), ledger.kernel.sent.get(kind), ledger.kernel.lost.get(kind));
        let received = ledger.received.get(kind);
        let name = dsascope_common::wire::kind::NAMES.get(usize::from(kind)).copied().unwrap_or_default();
        if seen != sent + lost {
            differ(Rule::Ledger, format!("{name} records: {seen} seen, {sent} sent + {lost} lost"));
        }
        if received != sent {
            differ(Rule::Ledger, format!("{name} records: {sent} sent, {received} received"));
        }
    }
    for (what, count) in
        [("could not be decoded", ledger.undecodable), ("lost in dsascope itself", ledger.channel_lost)]
    {
        if count > 0 {
            differ(Rule::Ledger, format!("{count} records {what}"));
        }
    }
    let lost_by_context: u64 = summary.contexts.iter().map(|context| context.totals.records_lost).sum();
    let lost = ledger.kernel.lost.fault;
    // A start that was missed is noticed, and counted as a record lost, when its work item is in use again; nobody knows whose it was.
    if lost.saturating_sub(missed.services()) > lost_by_context || lost < lost_by_context {
        differ(Rule::Ledger, format!("{lost} fault records lost, {lost_by_context} by open file"));
    }
    match (summary.exact, missed.any()) {
        (false, false) => {
            differ(Rule::Tracer, format!("dsascope says it is not exact: {}", summary.reasons.join("; ")));
        }
        (true, true) => differ(Rule::Tracer, format!("dsascope calls itself exact, but missed {missed}")),
        _ => {}
    }
    let any_lost = ledger.kernel.lost.total() > 0;
    if !any_lost && !summary.complete && !missed.any() {
        let holes: BTreeMap<_, _> = ledger.kernel.holes.iter().filter(|(_, count)| **count > 0).collect();
        differ(
            Rule::Tracer,
            format!("no record lost, and still not complete: kernel {holes:?}, stream {:?}", summary.holes),
        );
    }
    let expected = if any_lost { TRACER_LOSS } else { TRACER_OK };
    if account.run.code != expected {
        differ(Rule::Tracer, format!("dsascope ended with {}, expected {expected}", account.run.code));
    }
    comparison.records_lost = ledger.kernel.lost.total();
}

/// The second dsascope, started when all had ended, must see nothing and say so exactly.
fn second_start(second: &Account, comparison: &mut Comparison) {
    whole(second, Missed::default(), comparison);
    let served: u64 = second.summary.contexts.iter().map(|context| context.totals.served).sum();
    if served > 0 {
        let text = format!("the second dsascope reports {served} faults; there were none");
        comparison.differences.push(Difference { rule: Rule::Tracer, text });
    }
}

fn kernel(books: &Books, comparison: &mut Comparison) {
    let mut differ = |text| comparison.differences.push(Difference { rule: Rule::Kernel, text });
    let emulation = if books.kernel.emulated.is_some() { TAINT_EMULATION } else { 0 };
    if books.kernel.tainted & !(TAINT_BAD_PAGE | emulation) != 0 {
        differ(format!("the kernel is tainted: {}", books.kernel.tainted));
    }
    let pending = books.processes.iter().any(|process| process.exit_pending);
    // "Bad page" comes with a stack trace of the dying process.
    let mut within_bad_page = false;
    for line in &books.kernel.complaints {
        let teardown = pending && TEARDOWN.iter().any(|known| line.contains(known));
        let trace = line.trim_start().starts_with("Call Trace:") || line.starts_with("RIP: 0033:");
        if teardown || within_bad_page && trace {
            comparison.known.push(line.clone());
        } else {
            differ(format!("the kernel says: {line}"));
        }
        within_bad_page = teardown && line.contains("Bad page") || within_bad_page && trace;
    }
}

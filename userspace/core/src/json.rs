//! JSON Lines: one object a line, each with `"v":1` and `"kind"`. The structs here are the single source of the format;
//! docs/schema/dsascope-v1.schema.json is generated from them.
//!
//! Within version 1 fields are only added. Times are CLOCK_MONOTONIC nanoseconds; null means "not observed", never 0.

pub mod doctor;

use dsascope_common::wire::hole;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::doctor::DoctorReport;
use crate::compare::Comparison;
use crate::decode::text::{Decoded, Item};
use crate::decode::{SoftwareError, operation, status};
use crate::event::{
    Comm, Command, Context, ContextTotals, DriverEvent, Durations, Event, Fault, Filtering, Happening, Hole,
    HoleKind, Interrupt, Open, PageRequest, Place, ProgramStats, Release, Seen, SessionInfo, Stack,
    SubmittedTotals, WqConfig,
};
use crate::findings::{Finding, FindingKind};
use crate::hist::{StageHistograms, Summary};
use crate::ledger::{Balance, Ledger};
use crate::model::{Batch, BatchTotals, Counts, EventLogAdvice, Model, PageRequestTotals};
use crate::probe::Hook;
use crate::stages::Stage;

/// Version of the format.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Version of the format, 1.
    #[schemars(range(min = 1, max = 1))]
    pub v: u32,
    #[serde(flatten)]
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    Session(Box<SessionInfo>),
    Fault(Box<FaultLine>),
    Interrupt(Box<InterruptLine>),
    Open(Open),
    Release(Release),
    Driver(Box<DriverLine>),
    PageRequest(PageRequest),
    Seen(Seen),
    Stack(Box<Stack>),
    Place(Box<Place>),
    Hole(Hole),
    /// A batch ended, as far as its entries tell; or was open when tracing ended.
    Batch(Box<BatchLine>),
    Stat(Box<StatLine>),
    Summary(Box<SummaryLine>),
    /// Of `decode`: a structure in words; a fact about the dump it is from; what could not be read.
    Decoded(Box<Decoded>),
    DecodeNote(DecodeNote),
    DecodeProblem(DecodeNote),
    /// Of `doctor`.
    Doctor(Box<DoctorReport>),
    /// Of `diff`.
    Comparison(Box<Comparison>),
}

/// Something that is said of a line of `decode`'s input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DecodeNote {
    pub line: u64,
    pub text: String,
}

/// A batch, joined from its entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchLine {
    #[serde(flatten)]
    pub batch: Batch,
    /// Command of the process, when it is known.
    #[schemars(with = "Option<String>")]
    pub comm: Option<Comm>,
    /// It ended, and nothing about it is in doubt.
    pub certain: bool,
}

/// A fault, with names for its codes and the durations between its times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FaultLine {
    #[serde(flatten)]
    pub fault: Fault,
    /// Command of the process, when it is known.
    #[schemars(with = "Option<String>")]
    pub comm: Option<Comm>,
    /// Name of the entry's error code; null when the code is unknown.
    pub error: Option<String>,
    pub error_code: u8,
    pub operation: Option<String>,
    pub operation_code: u8,
    /// Name of the logged completion record's status.
    pub status: Option<String>,
    pub status_code: u8,
    /// Place in a batch, for an element of one.
    pub batch: Option<BatchPlace>,
    /// Nanoseconds in each stage.
    pub durations_ns: Durations,
    /// Name of the submitted descriptor's operation; absent where its submission is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_operation: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchPlace {
    /// Batch identifier; reused by the device.
    pub id: u8,
    /// Index of the descriptor in its batch.
    pub index: u16,
    pub first_error: bool,
}

/// A run of the interrupt thread, with its SWERROR in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InterruptLine {
    #[serde(flatten)]
    pub interrupt: Interrupt,
    #[serde(default)]
    pub software_error: Option<SoftwareError>,
}

/// What the driver did to a device, or said of it, with names for codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverLine {
    #[serde(flatten)]
    pub event: DriverEvent,
    /// Of a command: its name, its status in words, and how long it took.
    pub command: Option<String>,
    pub status: Option<String>,
    pub duration_ns: Option<u64>,
    /// What a WQ that was enabled had been configured with before, as far as it was seen.
    pub before: Option<WqConfig>,
}

/// Latency of one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageLatency {
    pub stage: Stage,
    #[serde(flatten)]
    pub summary: Summary,
}

/// What happened in one interval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatLine {
    pub at_ns: u64,
    pub interval_ns: u64,
    /// Of this interval, as counted from records.
    pub faults: u64,
    pub delivered: u64,
    pub failed: u64,
    pub not_copied: u64,
    pub unobserved: u64,
    pub interrupts: u64,
    /// Records lost and holes found in this interval.
    pub records_lost: u64,
    pub holes: u64,
    pub faults_per_s: Option<f64>,
    /// Since tracing began.
    pub faults_total: u64,
    pub failures_total: u64,
    pub pending: Option<u64>,
    /// Of this interval.
    pub latency: Vec<StageLatency>,
    /// Open files with faults in this interval, most first.
    pub processes: Vec<StatProcess>,
    pub balance: Balance,
    /// Batches since tracing began.
    #[serde(default)]
    pub batches: BatchTotals,
    /// How full each device's event log was seen to be, and what size that advises.
    #[serde(default)]
    pub event_logs: Vec<EventLogAdvice>,
    /// What went wrong without anybody being told, since tracing began: docs/findings.md.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Page requests by process since tracing began, with `--page-requests`.
    #[serde(default)]
    pub page_requests: Vec<PageRequestTotals>,
    /// What programs submitted, since tracing began; absent where submissions are not traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submissions: Option<SubmissionsLine>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatProcess {
    #[serde(flatten)]
    pub context: Context,
    pub tgid: Option<u32>,
    #[schemars(with = "Option<String>")]
    pub comm: Option<Comm>,
    /// Of this interval.
    pub faults: u64,
    pub failed: u64,
    /// Since tracing began.
    pub faults_total: u64,
    pub failures_total: u64,
    /// Service time since tracing began; null beyond the number of files with histograms of their own.
    pub service: Option<Summary>,
}

/// The last line: exact totals, and what is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SummaryLine {
    pub at_ns: u64,
    /// Totals are exact, whatever records were lost.
    pub exact: bool,
    /// Why they are not.
    pub reasons: Vec<String>,
    /// Every record arrived and no fault has a hole in it; a stack that the kernel had no room for is none.
    pub complete: bool,
    pub contexts: Vec<SummaryContext>,
    pub interrupts: u64,
    pub latency: Vec<StageLatency>,
    /// Holes in the stream, by kind.
    pub holes: Vec<HoleCount>,
    pub ledger: Ledger,
    pub balance: Balance,
    /// What each attached program cost, read just before it was detached.
    #[serde(default)]
    pub programs: Vec<ProgramStats>,
    #[serde(default)]
    pub batches: BatchTotals,
    #[serde(default)]
    pub event_logs: Vec<EventLogAdvice>,
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// Findings that could not be made, because a hook that they need was not attached.
    #[serde(default)]
    pub findings_unobserved: Vec<FindingKind>,
    #[serde(default)]
    pub page_requests: Vec<PageRequestTotals>,
    /// What programs submitted, since tracing began; absent where submissions are not traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submissions: Option<SubmissionsLine>,
    /// Only what this names is in `contexts`; null: nothing was left out. The other figures are of the whole.
    #[serde(default)]
    pub selection: Option<String>,
    /// The session's filter, and how many faults it left out in all; null: none. Totals are of all faults, latencies, batches and findings of
    /// those that it took.
    #[serde(default)]
    pub filter: Option<Filtering>,
}

/// What programs submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SubmissionsLine {
    /// Faults whose submission is known.
    pub faults: u64,
    /// From submission to seen, of records that did not fault; null: no program tells.
    pub unfaulted: Option<Summary>,
    /// Exact counts, by process, WQ, operation and way.
    pub totals: Vec<SubmittedTotals>,
}

impl SubmissionsLine {
    fn of(model: &Model) -> Option<Self> {
        let submissions = model.submissions();
        submissions.are_traced().then(|| Self {
            faults: submissions.joined(),
            unfaulted: submissions.unfaulted(),
            totals: submissions.totals().to_vec(),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoleCount {
    #[serde(flatten)]
    pub what: HoleKind,
    pub count: u64,
}

/// One open file's account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SummaryContext {
    #[serde(flatten)]
    pub totals: ContextTotals,
    /// Fault records of this file that arrived; null once there were more files than rows to count them in, or when the session has a filter.
    pub records_received: Option<u64>,
}

impl Line {
    /// The line of an event, after the model has taken it in; snapshots and ticks have none.
    #[must_use]
    pub fn of(event: &Event, model: &Model) -> Option<Self> {
        let body = match event {
            Event::Session(session) => Body::Session(session.clone()),
            Event::Fault(fault) => {
                let comm = model.process(fault.context.key()).and_then(|process| process.comm);
                Body::Fault(Box::new(FaultLine::new(fault, comm)))
            }
            Event::Interrupt(interrupt) => Body::Interrupt(Box::new(InterruptLine::new(interrupt))),
            Event::Open(open) => Body::Open(open.clone()),
            Event::Release(release) => Body::Release(*release),
            Event::Driver(event) => Body::Driver(Box::new(DriverLine::new(event, model))),
            Event::PageRequest(request) => Body::PageRequest(*request),
            Event::Seen(seen) => Body::Seen(*seen),
            Event::Stack(stack) => Body::Stack(stack.clone()),
            Event::Place(place) => Body::Place(place.clone()),
            Event::Hole(hole) => Body::Hole(*hole),
            Event::Snapshot(_) | Event::Tick { .. } => return None,
        };
        Some(body.into())
    }

    /// The event of a line; `batch`, `stat`, `summary` and what `decode` and `doctor` write are no events.
    #[must_use]
    pub fn into_event(self) -> Option<Event> {
        Some(match self.body {
            Body::Session(session) => Event::Session(session),
            Body::Fault(line) => Event::Fault(line.fault),
            Body::Interrupt(line) => Event::Interrupt(line.interrupt),
            Body::Open(open) => Event::Open(open),
            Body::Release(release) => Event::Release(release),
            Body::Driver(line) => Event::Driver(line.event),
            Body::PageRequest(request) => Event::PageRequest(request),
            Body::Seen(seen) => Event::Seen(seen),
            Body::Stack(stack) => Event::Stack(stack),
            Body::Place(place) => Event::Place(place),
            Body::Hole(hole) => Event::Hole(hole),
            Body::Batch(_)
            | Body::Stat(_)
            | Body::Summary(_)
            | Body::Decoded(_)
            | Body::DecodeNote(_)
            | Body::DecodeProblem(_)
            | Body::Doctor(_)
            | Body::Comparison(_) => return None,
        })
    }

    /// The line as text, without its newline.
    ///
    /// # Errors
    /// Never for values of these types; the signature is the serialiser's.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Reads a line back.
    ///
    /// # Errors
    /// Not a line of this format, or of another version.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        use serde::de::Error;
        let line: Self = serde_json::from_str(text)?;
        if line.v != VERSION {
            return Err(serde_json::Error::custom(format!("line of version {}, not {VERSION}", line.v)));
        }
        Ok(line)
    }
}

impl From<Body> for Line {
    fn from(body: Body) -> Self {
        Self { v: VERSION, body }
    }
}

impl FaultLine {
    #[must_use]
    pub fn new(fault: &Fault, comm: Option<Comm>) -> Self {
        let kind = fault.context.device.kind;
        let entry = &fault.entry;
        let logged = status(kind, fault.logged[0]);
        let name = |name: Option<&'static str>| name.map(str::to_owned);
        Self {
            fault: *fault,
            comm,
            error: name(status(kind, entry.error()).name),
            error_code: fault.error(),
            operation: name(operation(kind, entry.operation())),
            operation_code: entry.operation(),
            status: name(logged.name),
            status_code: fault.logged[0],
            batch: entry.batch().then(|| BatchPlace {
                id: entry.batch_id(),
                index: entry.batch_idx(),
                first_error: entry.first_err_in_batch(),
            }),
            durations_ns: fault.durations(),
            origin_operation: fault.origin.and_then(|origin| name(operation(kind, origin.operation))),
        }
    }
}

impl InterruptLine {
    #[must_use]
    pub fn new(interrupt: &Interrupt) -> Self {
        let error = interrupt.swerror.and_then(|qwords| SoftwareError::new(interrupt.device, &qwords));
        Self { interrupt: *interrupt, software_error: error }
    }
}

impl DriverLine {
    #[must_use]
    pub fn new(event: &DriverEvent, model: &Model) -> Self {
        let command = match &event.what {
            Happening::Command(command) => Some(command),
            _ => None,
        };
        let own = |name: &'static str| name.to_owned();
        Self {
            event: event.clone(),
            command: command.and_then(Command::name).map(own),
            status: command.and_then(Command::status).map(own),
            duration_ns: event.duration_ns(),
            before: model.before(event).cloned(),
        }
    }
}

impl BatchLine {
    #[must_use]
    pub fn new(batch: &Batch, model: &Model) -> Self {
        let comm = model.process(batch.context.key()).and_then(|process| process.comm);
        Self { batch: batch.clone(), comm, certain: batch.is_certain() }
    }
}

impl From<Item> for Line {
    fn from(item: Item) -> Self {
        Self::from(match item {
            Item::Decoded(decoded) => Body::Decoded(decoded),
            Item::Note { line, text } => Body::DecodeNote(DecodeNote { line, text }),
            Item::Problem { line, text } => Body::DecodeProblem(DecodeNote { line, text }),
        })
    }
}

fn latencies(histograms: &StageHistograms) -> Vec<StageLatency> {
    let line = |stage| histograms.summary_now(stage).map(|summary| StageLatency { stage, summary });
    Stage::ALL.into_iter().filter_map(line).collect()
}

/// Ends the model's current interval and tells what happened in it.
pub fn stat(model: &mut Model) -> Line {
    let mut processes: Vec<StatProcess> = model
        .processes()
        .chain([model.other()])
        .filter(|process| process.interval_faults > 0)
        .map(|process| StatProcess {
            context: process.context,
            tgid: process.tgid,
            comm: process.comm,
            faults: process.interval_faults,
            failed: process.interval_failures,
            faults_total: process.faults(),
            failures_total: process.failures(),
            service: if process.context.is_other() {
                model.rest_latency().summary_now(Stage::Service)
            } else {
                process.latency().and_then(|latency| latency.summary_now(Stage::Service))
            },
        })
        .collect();
    processes.sort_by_key(|process| (std::cmp::Reverse(process.faults), process.context.key()));
    let at_ns = model.now_ns();
    let interval = model.next_interval();
    let interval_ns = at_ns.saturating_sub(interval.since_ns);
    Line::from(Body::Stat(Box::new(StatLine {
        at_ns,
        interval_ns,
        faults: interval.counts.faults,
        delivered: interval.counts.delivered,
        failed: interval.counts.failed,
        not_copied: interval.counts.not_copied,
        unobserved: interval.counts.unobserved,
        interrupts: interval.interrupts,
        records_lost: interval.records_lost,
        holes: interval.holes,
        faults_per_s: (interval_ns > 0).then(|| interval.counts.faults as f64 * 1e9 / interval_ns as f64),
        faults_total: model.faults(),
        failures_total: model.failures(),
        pending: model.snapshot().and_then(|snapshot| snapshot.pending),
        latency: latencies(&interval.latency),
        processes,
        balance: model.ledger().balance(),
        batches: *model.batches().totals(),
        event_logs: model.event_logs().collect(),
        findings: model.findings(),
        page_requests: model.page_requests().totals().collect(),
        submissions: SubmissionsLine::of(model),
    })))
}

/// The account of the whole run, from the last snapshot and the records.
#[must_use]
pub fn summary(model: &Model) -> Line {
    let apart = model.other().counts == Counts::default() && model.filtering().is_none();
    let contexts: Vec<SummaryContext> = model
        .snapshot()
        .into_iter()
        .flat_map(|snapshot| &snapshot.totals)
        .map(|totals| {
            let row = model.process(totals.context.key());
            let mut totals = totals.clone();
            if let Some(row) = row {
                totals.context.device = row.context.device;
                totals.tgid = totals.tgid.or(row.tgid);
                if let (true, Some(comm)) = (totals.comm.is_empty(), row.comm) {
                    totals.comm = comm;
                }
            }
            let records_received =
                apart.then(|| row.map_or(0, |row| row.counts.faults + row.counts.unfinished));
            SummaryContext { totals, records_received }
        })
        .collect();
    let reasons = reasons(model, &contexts);
    let ledger = model.ledger().clone();
    let whole = model.counts().unfinished == 0 && model.holes().values().all(|&count| count == 0);
    Line::from(Body::Summary(Box::new(SummaryLine {
        at_ns: model.now_ns(),
        exact: reasons.is_empty(),
        complete: whole && ledger.lost() == 0 && ledger.kernel.is_complete(),
        reasons,
        contexts,
        interrupts: model.devices().map(|device| device.interrupts).sum(),
        latency: latencies(&model.latency()),
        holes: model.holes().iter().map(|(&what, &count)| HoleCount { what, count }).collect(),
        balance: ledger.balance(),
        ledger,
        programs: model.snapshot().map(|snapshot| snapshot.programs.clone()).unwrap_or_default(),
        batches: *model.batches().totals(),
        event_logs: model.event_logs().collect(),
        findings: model.findings(),
        findings_unobserved: model.findings_unobserved(),
        page_requests: model.page_requests().totals().collect(),
        submissions: SubmissionsLine::of(model),
        selection: None,
        filter: model.filtering(),
    })))
}

/// Everything that keeps the totals from being exact.
fn reasons(model: &Model, contexts: &[SummaryContext]) -> Vec<String> {
    let missing = model.holes().iter().filter(|(what, _)| what.is_of_capture());
    let mut reasons: Vec<String> = missing
        .map(|(what, count)| format!("{count} events are not in the capture: {}", what.name()))
        .collect();
    let in_capture = reasons.is_empty();
    let Some(snapshot) = model.snapshot() else {
        reasons.push("the kernel's totals were never read".into());
        return reasons;
    };
    if !snapshot.quiesced {
        reasons.push("the last totals were read while probes were attached".into());
    }
    if let Balance::Unbalanced { differences } = model.ledger().balance() {
        reasons.extend(differences.iter().map(|d| {
            format!(
                "{} records: {} seen, {} sent, {} lost, {} received",
                d.record, d.seen, d.sent, d.lost, d.received
            )
        }));
    }
    if let Some(session) = model.session() {
        for verdict in session.missing_required() {
            reasons.push(format!("required probe \"{}\" is {}", verdict.hook.name(), verdict.state.name()));
        }
    }
    // A copy's end that was missed has its outcome from the driver's counter; where that is not so, the copy is "unobserved". A
    // hand-over that was missed is a hole at its fault, and most that are skipped were other works', queued by an interrupt.
    let counts = |hook: Hook| hook.is_of_faults() && !matches!(hook, Hook::CopyEnd | Hook::Queued);
    let skipped = |p: &&ProgramStats| p.hook.is_none_or(counts) && p.missed.is_some_and(|missed| missed > 0);
    for program in snapshot.programs.iter().filter(skipped) {
        let missed = program.missed.unwrap_or(0);
        reasons.push(format!("the kernel skipped {missed} runs of {}", program.name));
    }
    // A service that ended without a start was under way at attaching (a start that the kernel skipped is in `missed`).
    let name = hole::NAMES.get(hole::TOTALS_FULL as usize).copied().unwrap_or_default();
    if let Some(count) = snapshot.ledger.holes.get(name).filter(|&&count| count > 0) {
        reasons.push(format!("{count} faults counted together because the table of totals was full"));
    }
    if let Some(Filtering { left_out, .. }) = model.filtering().filter(|_| in_capture) {
        let served: u64 = contexts.iter().map(|context| context.totals.served).sum();
        let lost: u64 = contexts.iter().map(|context| context.totals.records_lost).sum();
        let received = model.counts().faults + model.counts().unfinished;
        if snapshot.received.stage == 0 && served > received + left_out + lost {
            reasons
                .push(format!("{served} served, {received} received, {left_out} left out and {lost} lost"));
        }
    }
    for SummaryContext { totals: t, records_received } in contexts {
        let name = format!("{} {} PASID {}", t.context.device, t.context.wq_id(), t.context.pasid);
        let outcomes = t.delivered + t.failed + t.not_copied + t.unobserved;
        if outcomes != t.served {
            reasons.push(format!("{name}: {} served, {outcomes} with an outcome", t.served));
        }
        let copies_seen = snapshot.programs.iter().any(|p| p.hook == Some(Hook::CopyEnd));
        if copies_seen && t.unobserved > 0 {
            reasons.push(format!("{name}: {} copies without a known outcome", t.unobserved));
        }
        // Joined stages make no whole records, and what is not in a capture was not lost on the way.
        let received = records_received.filter(|_| snapshot.received.stage == 0 && in_capture);
        if let Some(received) = received.filter(|received| t.served > received + t.records_lost) {
            let (served, lost) = (t.served, t.records_lost);
            reasons.push(format!("{name}: {served} served, {received} received and {lost} lost"));
        }
        // What happened before attaching is in the driver's counters alone. What it did not count is told by faults, and some are left out.
        if t.context.opened_ns.is_some() && model.filtering().is_none() {
            let row = model.process(t.context.key());
            let (faults, failures) = row.map_or((0, 0), |row| row.uncounted);
            let counters = [
                ("faults", t.driver_faults, t.counter_faults.saturating_sub(faults)),
                ("failures", t.driver_failures, t.counter_failures.saturating_sub(failures)),
            ];
            for (what, driver, own) in counters {
                if let Some(driver) = driver.filter(|&driver| driver != own) {
                    reasons.push(format!("{name}: the driver counted {driver} {what}, dsascope {own}"));
                }
            }
        }
    }
    reasons
}

/// The JSON Schema of [`Line`], as committed.
///
/// # Errors
/// Never for this schema; the signature is the serialiser's.
pub fn schema() -> Result<String, serde_json::Error> {
    let mut schema = schemars::schema_for!(Line);
    schema.insert("title".into(), "dsascope JSON Lines, version 1".into());
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}

#[cfg(test)]
mod tests;

//! Every metric's samples from a model. What the model does not know has no sample.

use std::collections::BTreeMap;
use std::sync::Arc;

use dsascope_common::wire::kind;
use dsascope_core::decode::operation;
use dsascope_core::event::{ByKind, HoleKind, Hook, SessionInfo, VerdictState, WqId};
use dsascope_core::findings::FindingKind;
use dsascope_core::ledger::Balance;
use dsascope_core::metrics::{self, Metric, OTHER};
use dsascope_core::model::{Counts, Exact, Model, Wq};
use dsascope_core::stages::Stage;

use super::admitted::{Admitted, Amount};
use super::{Distribution, Scrape, Value};

/// What the exporting process knows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Own<'a> {
    pub version: &'a str,
    pub cpu_seconds: Option<f64>,
    pub memory_bytes: Option<u64>,
}

/// Takes samples one after the other, so that counters never go backwards: a count that was told is the least that follows.
#[derive(Debug)]
pub struct Gatherer {
    admitted: Admitted,
    last: Arc<Scrape>,
}

/// Counts by WQ that the kernel keeps as well: name, and where both have it.
type ByWq = (&'static Metric, fn(&Counts) -> Option<u64>, fn(&Exact) -> u64);
const BY_WQ: [ByWq; 6] = [
    (&metrics::FAULTS, |counts| Some(counts.faults), |exact| exact.served),
    (&metrics::DELIVERED, |counts| Some(counts.delivered), |exact| exact.delivered),
    (&metrics::FAILED, |counts| Some(counts.failed), |exact| exact.failed),
    (&metrics::NOT_COPIED, |counts| Some(counts.not_copied), |exact| exact.not_copied),
    (&metrics::UNOBSERVED, |counts| Some(counts.unobserved), |exact| exact.unobserved),
    (&metrics::SKIPPED, |_| None, |exact| exact.skipped),
];

impl Gatherer {
    /// With series for `top` processes.
    #[must_use]
    pub fn new(top: usize) -> Self {
        Self { admitted: Admitted::new(top), last: Arc::default() }
    }

    /// All samples as of now.
    pub fn gather(&mut self, model: &Model, own: &Own<'_>) -> Arc<Scrape> {
        self.admitted.look(model);
        let mut new = New { scrape: Scrape::default(), last: &self.last };
        new.wqs(model);
        new.processes(model, &self.admitted);
        new.latencies(model);
        new.devices(model);
        new.whole(model);
        new.loss(model);
        new.probes(model);
        new.cost(model, own);
        self.last = Arc::new(new.scrape);
        Arc::clone(&self.last)
    }
}

/// The larger of what is known.
fn best(counted: Option<u64>, exact: Option<u64>) -> Option<u64> {
    counted.max(exact)
}

/// A name as a label's value: in one word.
fn word(name: &str) -> String {
    name.replace(' ', "_")
}

fn of_wq(model: &Model, wq: &Wq) -> Vec<String> {
    let device = model.device(wq.id.device).map_or(wq.device, |device| device.device);
    vec![device.to_string(), wq.id.to_string()]
}

/// What is not kept by WQ.
fn of_no_wq() -> Vec<String> {
    vec![OTHER.into(), OTHER.into()]
}

fn and(mut labels: Vec<String>, more: impl IntoIterator<Item = String>) -> Vec<String> {
    labels.extend(more);
    labels
}

/// Samples that are being taken.
struct New<'a> {
    scrape: Scrape,
    last: &'a Scrape,
}

impl New<'_> {
    fn count(&mut self, metric: &Metric, labels: Vec<String>, count: impl Into<Option<u64>>) {
        let family = self.last.families.iter().find(|family| family.metric.name == metric.name);
        let told = match family.and_then(|family| family.samples.get(&labels)) {
            Some(Value::Count(told)) => Some(*told),
            _ => None,
        };
        if let Some(count) = count.into().map(|count| count.max(told.unwrap_or(0))) {
            self.scrape.set(metric, labels, Value::Count(count));
        }
    }

    fn gauge(&mut self, metric: &Metric, labels: Vec<String>, value: impl Into<Option<u64>>) {
        if let Some(value) = value.into() {
            self.scrape.set(metric, labels, Value::Count(value));
        }
    }

    fn seconds(&mut self, metric: &Metric, labels: Vec<String>, ns: impl Into<Option<u64>>) {
        if let Some(ns) = ns.into() {
            self.scrape.set(metric, labels, Value::Float(ns as f64 / 1e9));
        }
    }

    fn wqs(&mut self, model: &Model) {
        for (metric, counted, exact) in BY_WQ {
            let mut sum = 0;
            for wq in model.wqs() {
                // A WQ that the totals do not have has none.
                let totals = model.exact().map(|_| wq.exact.unwrap_or_default());
                let value = best(counted(&wq.counts), totals.as_ref().map(exact));
                sum += value.unwrap_or(0);
                self.count(metric, of_wq(model, wq), value);
            }
            // Files that the kernel's table had no room for are in no WQ's totals.
            let all = best(counted(&model.counts()), model.exact().as_ref().map(exact));
            let rest = all.and_then(|all| all.checked_sub(sum)).filter(|&rest| rest > 0);
            self.count(metric, of_no_wq(), rest);
        }
        let mut open = BTreeMap::<WqId, u64>::new();
        for row in model.processes().filter(|row| !row.closed) {
            *open.entry(row.context.wq_id()).or_default() += row.files.map_or(1, u64::from);
        }
        for wq in model.wqs() {
            let labels = of_wq(model, wq);
            self.gauge(&metrics::OPEN_FILES, labels.clone(), open.get(&wq.id).copied().unwrap_or(0));
            let counts = &wq.counts;
            for (error, count) in [
                ("cr_fault", counts.cr_faults),
                ("batch", counts.batch_faults),
                ("drain", counts.drains),
                (OTHER, counts.other_errors),
            ] {
                self.count(&metrics::ERRORS, and(labels.clone(), [error.into()]), count);
            }
            for (code, count) in counts.by_status.iter() {
                let status = format!("{code:#04x}");
                self.count(&metrics::STATUSES, and(labels.clone(), [status]), count);
            }
            for (code, count) in counts.by_operation.iter() {
                let name = operation(wq.device.kind, code).map_or_else(|| format!("{code:#04x}"), word);
                self.count(&metrics::OPERATIONS, and(labels.clone(), [name]), count);
            }
        }
    }

    fn processes(&mut self, model: &Model, admitted: &Admitted) {
        let mut process = |wq: &Wq, who: [String; 3], amount: Amount| {
            let labels = and(of_wq(model, wq), who);
            self.count(&metrics::PROCESS_FAULTS, labels.clone(), amount.faults);
            self.count(&metrics::PROCESS_FAILED, labels, amount.failed);
        };
        for (who, amount) in admitted.places() {
            let Some(wq) = model.wq(who.wq) else { continue };
            let pid = who.pid.map(|pid| pid.to_string()).unwrap_or_default();
            process(wq, [who.pasid.to_string(), pid, who.comm.to_string()], amount);
        }
        for wq in model.wqs() {
            let total = Amount::new(wq.faults(), wq.failures());
            process(wq, [OTHER; 3].map(Into::into), admitted.others(wq.id, total));
        }
    }

    fn latencies(&mut self, model: &Model) {
        let mut sums: [Distribution; Stage::COUNT] = Default::default();
        let mut stage_seconds = |labels: Vec<String>, stage: Stage, whole: Distribution| {
            let labels = and(labels, [stage.name().to_owned()]);
            self.scrape.set(&metrics::STAGE_SECONDS, labels, Value::Histogram(Box::new(whole)));
        };
        for wq in model.wqs().filter(|wq| wq.counts.faults + wq.counts.unfinished > 0) {
            let latency = model.wq_histograms(wq.id);
            for stage in Stage::ALL {
                let Some(latency) = latency.get(stage) else { continue };
                let whole = Distribution::new(latency);
                sums[stage.index()].merge(&whole);
                stage_seconds(of_wq(model, wq), stage, whole);
            }
        }
        // The model keeps no latencies apart for WQs beyond its limit.
        let all = model.latency();
        for stage in Stage::ALL {
            let Some(latency) = all.get(stage) else { continue };
            let mut rest = Distribution::new(latency);
            rest.subtract(&sums[stage.index()]);
            if rest.count() > 0 {
                stage_seconds(of_no_wq(), stage, rest);
            }
        }
    }

    fn devices(&mut self, model: &Model) {
        for device in model.devices() {
            let labels = || vec![device.device.to_string()];
            self.count(&metrics::INTERRUPTS, labels(), device.interrupts);
            self.seconds(&metrics::INTERRUPT_SECONDS, labels(), device.interrupt_busy_ns);
            self.count(&metrics::INTERRUPT_ENTRIES, labels(), device.interrupt_entries);
            self.count(&metrics::SWERRORS, labels(), device.swerrors);
            self.count(&metrics::HALTS, labels(), device.halts);
            self.count(&metrics::RESETS, labels(), device.resets);
            self.count(&metrics::WARNINGS, labels(), device.warnings);
            let sva = device.info.as_ref().and_then(|info| info.pasid_enabled);
            self.gauge(&metrics::SVA_ENABLED, labels(), sva.map(u64::from));
        }
        for log in model.event_logs() {
            let labels = || vec![log.device.to_string()];
            self.gauge(&metrics::EVENT_LOG_SIZE, labels(), log.size.map(u64::from));
            self.gauge(&metrics::EVENT_LOG_DEPTH, labels(), log.last_depth.map(u64::from));
            self.gauge(&metrics::EVENT_LOG_HIGH_WATER, labels(), log.high_water.map(u64::from));
            self.gauge(&metrics::EVENT_LOG_ADVISED, labels(), log.advised_size.map(u64::from));
            self.seconds(&metrics::EVENT_LOG_WAITED, labels(), log.waited_at_most_ns);
        }
    }

    fn whole(&mut self, model: &Model) {
        let snapshot = model.snapshot();
        self.gauge(&metrics::PENDING, vec![], snapshot.and_then(|snapshot| snapshot.pending));
        self.gauge(&metrics::ACTIVE, vec![], snapshot.and_then(|snapshot| snapshot.active));
        let is_watched = |hook| model.verdicts().iter().any(|v| v.hook == hook && v.state.attached());
        if is_watched(Hook::PageResponse) {
            let (groups, refused) = model
                .page_requests()
                .totals()
                .fold((0, 0), |(groups, refused), of| (groups + of.groups, refused + of.refused));
            self.count(&metrics::PAGE_REQUESTS, vec![], groups);
            self.count(&metrics::PAGE_REQUESTS_REFUSED, vec![], refused);
        }
        let found = model.findings();
        let unobserved = model.findings_unobserved();
        for &kind in FindingKind::ALL {
            let count = found.iter().find(|finding| finding.finding == kind).map(|finding| finding.count);
            let count = count.or_else(|| (!unobserved.contains(&kind)).then_some(0));
            self.count(&metrics::FINDINGS, vec![word(kind.name())], count);
        }
        let Some(session) = model.session() else { return };
        self.gauge(&metrics::HOST_INFO, vec![session.host.clone(), session.kernel.clone()], 1);
        self.seconds(&metrics::START_TIME, vec![], wall_ns(session, session.started_ns));
        self.seconds(&metrics::LAST_EVENT_TIME, vec![], wall_ns(session, model.now_ns()));
        self.gauge(&metrics::RING_SIZE, vec![], session.ring_bytes);
    }

    fn loss(&mut self, model: &Model) {
        let mut holes: BTreeMap<&str, u64> = HoleKind::ALL.iter().map(|kind| (kind.name(), 0)).collect();
        for (kind, count) in model.holes() {
            let sum = holes.entry(kind.name()).or_default();
            *sum = sum.saturating_add(*count);
        }
        for (name, count) in holes {
            self.count(&metrics::HOLES, vec![word(name)], count);
        }
        let ledger = model.ledger();
        for (place, count) in [
            ("ring", ledger.kernel.lost.total().max(ledger.ring_lost_placed)),
            ("undecodable", ledger.undecodable),
            ("channel", ledger.channel_lost),
            ("capture", ledger.capture_lost),
        ] {
            self.count(&metrics::LOST, vec![place.into()], count);
        }
        match ledger.balance() {
            Balance::Unknown => {}
            Balance::Balanced | Balance::InFlight { .. } => self.gauge(&metrics::BALANCED, vec![], 1),
            Balance::Unbalanced { .. } => self.gauge(&metrics::BALANCED, vec![], 0),
        }
        if model.snapshot().is_none() {
            return;
        }
        for number in ByKind::KINDS {
            let record =
                || vec![kind::NAMES.get(usize::from(number)).copied().unwrap_or_default().to_owned()];
            self.count(&metrics::RECORDS_SEEN, record(), ledger.kernel.seen.get(number));
            self.count(&metrics::RECORDS_SENT, record(), ledger.kernel.sent.get(number));
            self.count(&metrics::RECORDS_LOST, record(), ledger.kernel.lost.get(number));
            self.count(&metrics::RECORDS_RECEIVED, record(), ledger.received.get(number));
        }
        self.count(&metrics::LEFT_OUT, vec![], model.filtering().map(|filter| filter.left_out));
        for (hole, &count) in &ledger.kernel.holes {
            self.count(&metrics::KERNEL_HOLES, vec![hole.clone()], count);
        }
    }

    fn probes(&mut self, model: &Model) {
        for verdict in model.verdicts() {
            let hook = word(verdict.hook.name());
            let by = match &verdict.state {
                VerdictState::NotWanted => continue,
                VerdictState::Attached { by } => by.clone(),
                state => word(state.name()),
            };
            let attached = u64::from(verdict.state.attached());
            self.gauge(&metrics::PROBE_ATTACHED, vec![hook.clone(), by], attached);
            self.count(&metrics::PROBE_HITS, vec![hook], verdict.hits);
        }
        let missing = model.session().map(|session| session.missing_required().count() as u64);
        self.gauge(&metrics::PROBE_REQUIRED_MISSING, vec![], missing);
    }

    fn cost(&mut self, model: &Model, own: &Own<'_>) {
        if let Some(snapshot) = model.snapshot() {
            let mut programs = BTreeMap::<&str, [Option<u64>; 3]>::new();
            for program in &snapshot.programs {
                let sums = programs.entry(&program.name).or_default();
                for (sum, more) in sums.iter_mut().zip([program.runs, program.run_ns, program.missed]) {
                    *sum = sum.zip(more).map(|(sum, more)| sum + more).or(*sum).or(more);
                }
            }
            for (name, [runs, run_ns, missed]) in programs {
                let labels = || vec![name.to_owned()];
                self.count(&metrics::PROGRAM_RUNS, labels(), runs);
                self.seconds(&metrics::PROGRAM_SECONDS, labels(), run_ns);
                self.count(&metrics::PROGRAM_MISSED, labels(), missed);
            }
            self.gauge(&metrics::RING_USED, vec![], snapshot.ring_used_bytes);
        }
        if let Some(seconds) = own.cpu_seconds {
            self.scrape.set(&metrics::OWN_CPU_SECONDS, vec![], Value::Float(seconds));
        }
        self.gauge(&metrics::OWN_MEMORY, vec![], own.memory_bytes);
        self.gauge(&metrics::BUILD_INFO, vec![own.version.to_owned()], 1);
    }
}

/// A time of the stream, in ns since 1970; `None` when the session does not tell.
fn wall_ns(session: &SessionInfo, at_ns: u64) -> Option<u64> {
    let wall_ns = session.wall_at_zero_ns.checked_add_unsigned(at_ns)?;
    u64::try_from(wall_ns).ok().filter(|_| session.wall_at_zero_ns != 0)
}

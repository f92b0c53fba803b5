//! All that is known now, folded from the event stream. [`Model::update`] is pure: the same events give the same model.
//!
//! Bounded: rows of open files, histograms and recent lists each have a limit ([`Limits`]); what does not fit is counted in
//! [`Model::other`]. The kernel's exact totals win over counted records where records were lost; both are kept.
//! Refuses: drawing, sorting for display, clocks.

pub mod batch;
pub mod batches;
mod by_code;
mod count;
mod driver;
pub mod event_log;
mod findings;
mod interval;
pub mod page_requests;
mod read;
mod recent;
mod row;
mod rows;
pub mod submissions;

use std::collections::{BTreeMap, VecDeque};

use crate::event::{
    DriverEvent, Event, Fault, Hole, HoleKind, Interrupt, Key, Open, Release, Seen, SessionInfo, Snapshot,
    WqId,
};
use crate::hist::{StageHistograms, Summary};
use crate::ledger::{Balance, Ledger};
use crate::probe::Verdict;
use crate::rate::Rate;
use crate::stages::Stage;

pub use batch::Batch;
pub use batches::{BatchTotals, Batches};
pub use by_code::ByCode;
pub use count::{Counts, Exact};
pub use event_log::{EventLog, EventLogAdvice};
use findings::Findings;
pub use interval::Interval;
pub use page_requests::{PageRequestTotals, PageRequests};
use recent::push_bounded;
pub use row::{Delivery, Device, Process, Wq};
use rows::Rows;
pub use submissions::Submissions;

/// Window of the rates that are shown.
pub const WINDOW_NS: u64 = 2_000_000_000;

/// What the model may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of open files; beyond it, closed ones give way, oldest first.
    pub processes: usize,
    /// Open files with histograms of their own; the rest share those of `other`.
    pub histograms: usize,
    pub recent_faults: usize,
    pub recent_holes: usize,
    pub recent_releases: usize,
    pub recent_driver_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes: 4096,
            histograms: 32,
            recent_faults: 1024,
            recent_holes: 256,
            recent_releases: 64,
            recent_driver_events: 256,
        }
    }
}

impl Limits {
    /// For whoever shows no list of faults: keeping the last ones costs a copy of each.
    #[must_use]
    pub fn without_faults() -> Self {
        Self { recent_faults: 0, ..Self::default() }
    }
}

/// Figures of the header line.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub now_ns: u64,
    /// Since tracing began.
    pub uptime_ns: Option<u64>,
    pub faults: u64,
    pub failures: u64,
    /// Over the last two seconds.
    pub faults_per_s: Option<f64>,
    pub failures_per_s: Option<f64>,
    pub interrupts_per_s: Option<f64>,
    /// Open files of processes, as far as known.
    pub open_files: usize,
    pub records_lost: u64,
    pub holes: u64,
    /// Queued and not started / started and not ended, at the last snapshot.
    pub pending: Option<u64>,
    pub active: Option<u64>,
    pub balance: Balance,
    pub service: Option<Summary>,
    pub driver: Option<Summary>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Model {
    limits: Limits,
    session: Option<SessionInfo>,
    now_ns: u64,
    /// Time of the first event: rates cannot look before it.
    since_ns: Option<u64>,
    rows: Rows,
    wqs: BTreeMap<WqId, Wq>,
    devices: BTreeMap<u16, Device>,
    exact: Option<Exact>,
    faults: Rate,
    failures: Rate,
    interrupts: Rate,
    losses: Rate,
    recent: VecDeque<Fault>,
    recent_total: u64,
    holes: BTreeMap<HoleKind, u64>,
    recent_holes: VecDeque<Hole>,
    recent_releases: VecDeque<Release>,
    recent_driver_events: VecDeque<DriverEvent>,
    batches: Batches,
    findings: Findings,
    page_requests: PageRequests,
    submissions: Submissions,
    ledger: Ledger,
    snapshot: Option<Snapshot>,
    /// Faults that a filter has left out of the stream.
    left_out: u64,
    interval: interval::Current,
}

impl Model {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, rows: Rows::new(limits), ..Self::default() }
    }

    /// Folds one event in.
    pub fn update(&mut self, event: &Event) {
        self.batches.next_event();
        match event {
            Event::Session(session) => self.begin(session),
            Event::Fault(fault) => self.fault(fault),
            Event::Interrupt(interrupt) => self.interrupt(interrupt),
            Event::Open(open) => self.open(open),
            Event::Release(release) => self.release(release),
            Event::Driver(event) => self.driver(event),
            Event::PageRequest(request) => {
                self.advance(request.at_ns);
                self.page_requests.add(request);
            }
            Event::Seen(seen) => self.seen(seen),
            Event::Stack(stack) => self.submissions.stack(stack),
            Event::Place(place) => {
                self.submissions.place(place);
                self.findings.place(place, &self.rows);
            }
            Event::Hole(hole) => self.hole(hole),
            Event::Snapshot(snapshot) => self.take_snapshot(snapshot),
            Event::Tick { now_ns } => self.pass(*now_ns),
        }
    }

    /// Brings every cached latency figure up to date: whoever shows them asks for it, since it costs what thousands of faults do.
    pub fn refresh(&mut self) {
        self.rows.refresh();
    }

    /// Ends the current interval and begins the next.
    pub fn next_interval(&mut self) -> Interval {
        self.rows.next_interval();
        let counts = self.counts();
        self.interval.next(self.now_ns, counts, self.rows.gather())
    }

    fn advance(&mut self, at_ns: u64) {
        self.now_ns = self.now_ns.max(at_ns);
        if self.since_ns.is_none() {
            self.since_ns = Some(at_ns);
            self.interval.since_ns = at_ns;
            self.findings.since_ns = at_ns;
        }
        if self.now_ns >= self.findings.next_look_ns {
            self.look();
        }
    }

    fn pass(&mut self, now_ns: u64) {
        self.advance(now_ns);
        let since_ns = self.since_ns.unwrap_or(now_ns);
        self.devices.values_mut().for_each(|device| device.event_log.tick(now_ns, since_ns));
    }

    fn begin(&mut self, session: &SessionInfo) {
        self.advance(session.started_ns);
        for info in &session.devices {
            let device = self.devices.entry(info.device.id).or_insert_with(|| Device::new(info.device));
            device.device = info.device;
            device.info = Some(info.clone());
            for wq in &info.wqs {
                let id = WqId { device: info.device.id, wq: wq.wq };
                self.wqs.entry(id).or_insert_with(|| Wq::new(id, info.device)).describe(wq);
            }
        }
        if let Some(filter) = &session.filter {
            self.left_out = self.left_out.max(filter.left_out);
            self.batches.are_filtered();
        }
        self.findings.begin(session);
        self.session = Some(session.clone());
        self.count_hits();
    }

    fn fault(&mut self, fault: &Fault) {
        self.advance(fault.at_ns);
        let failed = fault.copy.has_failed();
        let durations = fault.durations();
        self.faults.add(fault.at_ns, 1);
        let id = fault.context.wq_id();
        let wq = self.wqs.entry(id).or_insert_with(|| Wq::new(id, fault.context.device));
        wq.counts.add(fault);
        wq.last_fault_ns = wq.last_fault_ns.max(fault.at_ns);
        wq.rate.add(fault.at_ns, 1);
        let device = self.devices.entry(id.device).or_insert_with(|| Device::new(fault.context.device));
        device.count(fault);
        device.rate.add(fault.at_ns, 1);
        if failed {
            self.failures.add(fault.at_ns, 1);
            wq.failure_rate.add(fault.at_ns, 1);
        }
        self.interval.extremes.record(&durations);
        let is_first = match self.rows.fault(fault, &durations, self.now_ns) {
            Some(row) => {
                self.findings.fault(fault, row, wq.config.as_ref());
                row.context.opened_ns.is_none() && row.counts.faults == 1 && row.files.is_none()
            }
            None => false,
        };
        if is_first {
            self.findings.unknown(fault, &self.rows);
        }
        self.submissions.fault(fault.origin.is_some());
        if self.limits.recent_faults > 0 {
            push_bounded(&mut self.recent, *fault, self.limits.recent_faults);
        }
        self.recent_total += 1;
        self.batches.fault(fault);
    }

    fn seen(&mut self, seen: &Seen) {
        self.advance(seen.at_ns);
        self.submissions.seen(seen);
        if let Some(context) = seen.context {
            let durations = seen.durations();
            self.interval.extremes.record(&durations);
            self.rows.later(context, &durations, self.now_ns);
        }
    }

    fn interrupt(&mut self, interrupt: &Interrupt) {
        self.advance(interrupt.at_ns);
        self.interrupts.add(interrupt.at_ns, 1);
        self.interval.interrupts += 1;
        let device = self.devices.entry(interrupt.device.id).or_insert_with(|| Device::new(interrupt.device));
        device.interrupts += 1;
        device.interrupt_busy_ns += interrupt.busy_ns().unwrap_or(0);
        device.interrupt_entries += u64::from(interrupt.entries);
        device.interrupt_rate.add(interrupt.at_ns, 1);
        let size = device.info.as_ref().and_then(|info| info.event_log_size);
        if let Some(waited_ns) = device.event_log.run(interrupt, size) {
            self.findings.log_full(interrupt, waited_ns);
        }
        self.findings.interrupt(interrupt);
        if let Some(swerror) = interrupt.swerror {
            device.swerrors += 1;
            device.last_swerror = Some(swerror);
        }
    }

    fn open(&mut self, open: &Open) {
        self.advance(open.at_ns);
        self.page_requests.open(open);
        let row = self.rows.row(open.context, self.now_ns);
        if row.context.is_other() {
            return;
        }
        row.open(open);
    }

    fn release(&mut self, release: &Release) {
        self.advance(release.at_ns);
        push_bounded(&mut self.recent_releases, *release, self.limits.recent_releases);
        self.batches.closed(&release.context);
        if let (Some(ns), Some(device)) =
            (release.drain_duration_ns(), self.devices.get_mut(&release.context.device.id))
        {
            device.event_log.held_up(ns);
        }
        let row = self.rows.row(release.context, self.now_ns);
        if row.context.is_other() {
            return;
        }
        row.release(release);
        // Without a fault in that time, what took long was the machine.
        let knows_all = self.left_out == 0 && self.ledger.lost() == 0;
        let last_fault_ns = self.wqs.get(&release.context.wq_id()).map_or(0, |wq| wq.last_fault_ns);
        let waited = release.drain_ns.is_some_and(|ns| last_fault_ns >= ns.get()) || !knows_all;
        self.findings.release(release, row, waited);
    }

    fn hole(&mut self, hole: &Hole) {
        self.advance(hole.at_ns);
        if hole.what != HoleKind::ResponseMissing {
            self.batches.lost();
        }
        if hole.what == HoleKind::CaptureBegins {
            self.findings.since_ns = self.findings.since_ns.max(hole.at_ns);
        }
        self.findings.hole(hole);
        let holes = self.holes.entry(hole.what).or_default();
        *holes = holes.saturating_add(hole.count);
        self.interval.holes = self.interval.holes.saturating_add(hole.count);
        let before = self.ledger.lost();
        self.ledger.hole(hole);
        self.interval.records_lost += self.ledger.lost() - before;
        let amount = u32::try_from(hole.count).unwrap_or(u32::MAX);
        self.losses.add(hole.at_ns, amount);
        push_bounded(&mut self.recent_holes, *hole, self.limits.recent_holes);
    }

    fn take_snapshot(&mut self, snapshot: &Snapshot) {
        self.advance(snapshot.at_ns);
        self.left_out = self.left_out.max(snapshot.left_out.unwrap_or(0));
        let before = self.ledger.lost();
        self.ledger.absorb(snapshot);
        self.interval.records_lost += self.ledger.lost().saturating_sub(before);
        let mut all = Exact::default();
        self.wqs.values_mut().for_each(|wq| wq.exact = None);
        self.devices.values_mut().for_each(|device| device.exact = None);
        for totals in &snapshot.totals {
            all.add(totals);
            // Totals make no row give way: those of a row that did so itself would come back with every snapshot.
            if self.rows.has_room(totals.context.key()) {
                self.rows.row(totals.context, self.now_ns).take_totals(totals);
            }
            if !totals.context.is_other() {
                let id = totals.context.wq_id();
                let device = totals.context.device;
                let wq = self.wqs.entry(id).or_insert_with(|| Wq::new(id, device));
                wq.exact.get_or_insert_default().add(totals);
                let device = self.devices.entry(id.device).or_insert_with(|| Device::new(device));
                device.exact.get_or_insert_default().add(totals);
            }
        }
        self.submissions.take_totals(&snapshot.submitted, snapshot.at_ns);
        self.exact = Some(all);
        self.snapshot = Some(snapshot.clone());
        self.count_hits();
    }

    fn count_hits(&mut self) {
        let (Some(session), Some(snapshot)) = (&mut self.session, &self.snapshot) else { return };
        for verdict in session.verdicts.iter_mut().filter(|v| v.state.attached()) {
            verdict.hits = snapshot.ledger.hits(verdict.hook);
        }
    }
}

#[cfg(test)]
mod tests;

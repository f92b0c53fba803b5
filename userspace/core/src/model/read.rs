//! What can be asked of the model. Refuses: changing it.

use std::borrow::Cow;

use super::*;
use crate::event::Filtering;

impl Model {
    #[must_use]
    pub const fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// What the stream has of faults, where that is not all, with how many were left out so far.
    #[must_use]
    pub fn filtering(&self) -> Option<Filtering> {
        let filter = self.session.as_ref()?.filter.as_ref()?;
        Some(Filtering { expression: filter.expression.clone(), left_out: self.left_out })
    }

    #[must_use]
    pub const fn session(&self) -> Option<&SessionInfo> {
        self.session.as_ref()
    }

    /// From the beginning of the session to a moment of the stream; without a session, the moment itself.
    #[must_use]
    pub fn since_start_ns(&self, at_ns: u64) -> u64 {
        at_ns.saturating_sub(self.session.as_ref().map_or(0, |session| session.started_ns))
    }

    /// Verdicts on the probes, with hits as of the last snapshot.
    #[must_use]
    pub fn verdicts(&self) -> &[Verdict] {
        self.session.as_ref().map_or(&[], |s| &s.verdicts)
    }

    #[must_use]
    pub fn header(&self) -> Header {
        let since = self.since_ns.unwrap_or(self.now_ns);
        Header {
            now_ns: self.now_ns,
            uptime_ns: self.session.as_ref().and_then(|s| self.now_ns.checked_sub(s.started_ns)),
            faults: self.faults(),
            failures: self.failures(),
            faults_per_s: self.faults.per_second(self.now_ns, WINDOW_NS, since),
            failures_per_s: self.failures.per_second(self.now_ns, WINDOW_NS, since),
            interrupts_per_s: self.interrupts.per_second(self.now_ns, WINDOW_NS, since),
            open_files: self.rows.iter().filter(|p| !p.closed).count(),
            records_lost: self.ledger.lost(),
            holes: self.holes.values().copied().fold(0, u64::saturating_add),
            pending: self.snapshot.as_ref().and_then(|s| s.pending),
            active: self.snapshot.as_ref().and_then(|s| s.active),
            balance: self.ledger.balance(),
            service: self.latency_shown().summary(Stage::Service),
            driver: self.latency_shown().summary(Stage::Driver),
        }
    }

    #[must_use]
    pub fn faults(&self) -> u64 {
        count::best(self.wqs().map(|wq| wq.counts.faults).sum(), self.exact.map(|e| e.served))
    }

    #[must_use]
    pub fn failures(&self) -> u64 {
        count::best(self.wqs().map(|wq| wq.counts.failed).sum(), self.exact.map(|e| e.failed))
    }

    /// Counted from records, all devices: the sum of those of the WQs.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.wqs().for_each(|wq| counts.merge(&wq.counts));
        counts
    }

    /// The kernel's totals over all files, as of the last snapshot.
    #[must_use]
    pub const fn exact(&self) -> Option<Exact> {
        self.exact
    }

    /// Latencies of all faults up to now. If some have come since the last refresh, merged anew from those of the files, which may cost
    /// a millisecond: take it once.
    #[must_use]
    pub fn latency(&self) -> Cow<'_, StageHistograms> {
        self.rows.latency()
    }

    /// The same as of the last refresh: what a frame shows.
    #[must_use]
    pub const fn latency_shown(&self) -> &StageHistograms {
        self.rows.gathered()
    }

    /// Open and closed files, in no order.
    pub fn processes(&self) -> impl ExactSizeIterator<Item = &Process> {
        self.rows.iter()
    }

    #[must_use]
    pub fn process(&self, key: Key) -> Option<&Process> {
        self.rows.get(key)
    }

    /// What had no row of its own: counts of files beyond the limit, and of rows that gave way. Their latencies are in
    /// [`Self::rest_latency`].
    #[must_use]
    pub const fn other(&self) -> &Process {
        self.rows.other()
    }

    /// Latencies of all files without histograms of their own; merged anew, which may cost a millisecond.
    #[must_use]
    pub fn rest_latency(&self) -> StageHistograms {
        self.rows.rest_latency()
    }

    /// Faults a second of one file over the last two seconds.
    #[must_use]
    pub fn process_rate(&self, process: &Process) -> Option<f64> {
        process.rate.per_second(self.now_ns, WINDOW_NS, self.since_ns?)
    }

    #[must_use]
    pub fn process_failure_rate(&self, process: &Process) -> Option<f64> {
        process.failure_rate.per_second(self.now_ns, WINDOW_NS, self.since_ns?)
    }

    #[must_use]
    pub fn wq_rate(&self, wq: &Wq) -> Option<f64> {
        wq.rate.per_second(self.now_ns, WINDOW_NS, self.since_ns?)
    }

    #[must_use]
    pub fn device_rate(&self, device: &Device) -> Option<f64> {
        device.rate.per_second(self.now_ns, WINDOW_NS, self.since_ns?)
    }

    /// Faults of the last `points` spans of `span_ns`, oldest first: a sparkline.
    #[must_use]
    pub fn fault_history(&self, span_ns: u64, points: usize) -> Vec<u64> {
        self.faults.history(self.now_ns, span_ns, points)
    }

    /// The same for one file.
    #[must_use]
    pub fn process_history(&self, process: &Process, span_ns: u64, points: usize) -> Vec<u64> {
        process.rate.history(self.now_ns, span_ns, points)
    }

    pub fn wqs(&self) -> impl ExactSizeIterator<Item = &Wq> {
        self.wqs.values()
    }

    #[must_use]
    pub fn wq(&self, id: WqId) -> Option<&Wq> {
        self.wqs.get(&id)
    }

    /// Latencies of one WQ, merged from its files; costs about a millisecond.
    #[must_use]
    pub fn wq_latency(&self, id: WqId) -> StageHistograms {
        let mut merged = self.rows.wq_latency(id);
        merged.refresh();
        merged
    }

    /// The same for whoever reads the histograms themselves: no figures are made of them.
    #[must_use]
    pub fn wq_histograms(&self, id: WqId) -> StageHistograms {
        self.rows.wq_latency(id)
    }

    pub fn devices(&self) -> impl ExactSizeIterator<Item = &Device> {
        self.devices.values()
    }

    #[must_use]
    pub fn device(&self, id: u16) -> Option<&Device> {
        self.devices.get(&id)
    }

    /// The last faults, oldest first.
    #[must_use]
    pub fn recent_faults(&self) -> impl DoubleEndedIterator<Item = &Fault> + ExactSizeIterator {
        self.recent.iter()
    }

    /// A recent fault by its number in the order of arrival, counted from 0.
    #[must_use]
    pub fn fault_number(&self, number: u64) -> Option<&Fault> {
        let first = self.recent_total - self.recent.len() as u64;
        self.recent.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// Numbers of the recent faults: what [`Self::fault_number`] takes.
    #[must_use]
    pub fn recent_numbers(&self) -> std::ops::Range<u64> {
        self.recent_total - self.recent.len() as u64..self.recent_total
    }

    /// Holes in the stream, by kind.
    #[must_use]
    pub const fn holes(&self) -> &BTreeMap<HoleKind, u64> {
        &self.holes
    }

    pub fn recent_holes(&self) -> impl DoubleEndedIterator<Item = &Hole> + ExactSizeIterator {
        self.recent_holes.iter()
    }

    pub fn recent_releases(&self) -> impl DoubleEndedIterator<Item = &Release> + ExactSizeIterator {
        self.recent_releases.iter()
    }

    #[must_use]
    pub const fn batches(&self) -> &Batches {
        &self.batches
    }

    #[must_use]
    pub const fn page_requests(&self) -> &PageRequests {
        &self.page_requests
    }

    /// What programs submitted, as far as that is traced.
    #[must_use]
    pub const fn submissions(&self) -> &Submissions {
        &self.submissions
    }

    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The last snapshot.
    #[must_use]
    pub const fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }
}

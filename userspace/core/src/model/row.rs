//! Rows of the model: open files, work queues, devices.

use std::num::NonZeroU64;

use super::count::{Counts, Exact, best};
use super::event_log::EventLog;
use crate::driver::WqConfig;
use crate::event::{
    Comm, Context, ContextTotals, CopyOutcome, DeviceId, DeviceInfo, DeviceKind, Fault, Key, Open, Release,
    WqId, WqInfo,
};
use crate::hist::{StageHistograms, Summary};
use crate::rate::Rate;
use crate::stages::Stage;

/// Which of a process's files on a WQ the driver delivers to: it knows the one that was opened first, until that is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// The first was opened before tracing began, or its open was not seen.
    #[default]
    Unknown,
    /// The K of sysfs' fileK.
    File(u32),
    /// The first is closed, and another open.
    NoOne,
}

/// One process's open file on one WQ.
///
/// What every fault changes comes first and together: in a storm of thousands of files each fault finds its row out of the processor's cache.
#[derive(Clone, Debug)]
pub struct Process {
    pub context: Context,
    pub last_fault_ns: Option<u64>,
    pub(super) rate: Rate,
    /// Of [`Self::counts`], since the last [`super::Model::next_interval`].
    pub interval_faults: u64,
    pub interval_failures: u64,
    /// Counted from records.
    pub counts: Counts,
    /// `None`: nobody was seen to open this file.
    pub tgid: Option<u32>,
    pub comm: Option<Comm>,
    pub cgroup: Option<u64>,
    pub cgroup_path: Option<String>,
    /// Files the process has open on this WQ; the driver delivers to the first alone.
    pub files: Option<u32>,
    pub delivery: Delivery,
    /// Calls of the driver's counter function, for faults and for failures, that the driver's counters do not have: they came while
    /// it delivered to no one.
    pub uncounted: (u64, u64),
    pub closed: bool,
    /// When the last file that was known to be open went.
    pub(super) closed_ns: Option<u64>,
    /// A share of its faults failed that is worth a word.
    pub(super) fails_often: bool,
    /// Was open before tracing began.
    pub existing: bool,
    pub first_seen_ns: u64,
    /// The kernel's exact totals, as of the last snapshot.
    pub totals: Option<ContextTotals>,
    /// The driver's own counters at the close.
    pub driver_counters: Option<(u64, u64)>,
    pub(super) failure_rate: Rate,
    /// Few rows have it, and all are gone through fault by fault.
    pub(super) latency: Option<Box<StageHistograms>>,
}

impl Process {
    pub(super) fn new(context: Context, now_ns: u64) -> Self {
        Self {
            context,
            tgid: None,
            comm: None,
            cgroup: None,
            cgroup_path: None,
            files: None,
            delivery: Delivery::default(),
            uncounted: (0, 0),
            closed: false,
            closed_ns: None,
            fails_often: false,
            existing: false,
            first_seen_ns: now_ns,
            last_fault_ns: None,
            counts: Counts::default(),
            interval_faults: 0,
            interval_failures: 0,
            totals: None,
            driver_counters: None,
            rate: Rate::default(),
            failure_rate: Rate::default(),
            latency: None,
        }
    }

    /// What the kernel collects when its own table is full, and what the model folds together.
    pub(super) fn collecting() -> Self {
        let key = Key::OTHER;
        let context = Context {
            device: DeviceId::new(DeviceKind::Unknown, key.device),
            wq: key.wq,
            pasid: key.pasid,
            opened_ns: NonZeroU64::new(key.opened_ns),
        };
        Self::new(context, 0)
    }

    #[must_use]
    pub const fn key(&self) -> Key {
        self.context.key()
    }

    /// Faults whose service ended: exact up to the last snapshot, and what records have told since.
    #[must_use]
    pub fn faults(&self) -> u64 {
        best(self.counts.faults, self.totals.as_ref().map(|t| t.served))
    }

    #[must_use]
    pub fn failures(&self) -> u64 {
        best(self.counts.failed, self.totals.as_ref().map(|t| t.failed))
    }

    #[must_use]
    pub fn delivered(&self) -> u64 {
        best(self.counts.delivered, self.totals.as_ref().map(|t| t.delivered))
    }

    /// Handed to the worker and not yet served, at the last snapshot.
    #[must_use]
    pub fn pending(&self) -> Option<u64> {
        self.totals.as_ref().map(|t| t.queued.saturating_sub(t.served))
    }

    #[must_use]
    pub fn records_lost(&self) -> Option<u64> {
        self.totals.as_ref().map(|t| t.records_lost)
    }

    /// Latencies of this file; `None` when it shares [`super::Model::rest_latency`] or had no fault.
    #[must_use]
    pub fn latency(&self) -> Option<&StageHistograms> {
        self.latency.as_deref()
    }

    /// Figures as of the last refresh.
    #[must_use]
    pub fn summary(&self, stage: Stage) -> Option<Summary> {
        self.latency.as_ref()?.summary(stage)
    }

    /// The driver did not find whom to deliver to.
    pub(super) fn is_unreachable(&self, fault: &Fault) -> bool {
        self.delivery == Delivery::NoOne && matches!(fault.copy, CopyOutcome::Short { done: 0, .. })
    }

    pub(super) fn open(&mut self, open: &Open) {
        self.tgid = Some(open.tgid);
        self.comm = Some(open.comm);
        self.cgroup = open.cgroup.or(self.cgroup);
        if open.cgroup_path.is_some() {
            self.cgroup_path.clone_from(&open.cgroup_path);
        }
        self.files = Some(open.files);
        self.closed = false;
        self.closed_ns = None;
        self.existing |= open.existing;
        self.delivery = match self.delivery {
            // Which of several files was first is not known when none was seen to be opened.
            _ if open.existing && open.files > 1 => Delivery::Unknown,
            known @ (Delivery::File(_) | Delivery::Unknown) if open.files > 1 => known,
            _ => Delivery::File(open.file),
        };
    }

    pub(super) fn release(&mut self, release: &Release) {
        self.files = self.files.map(|files| files.saturating_sub(1));
        self.closed = self.files.is_none_or(|files| files == 0);
        self.closed_ns =
            (self.files == Some(0)).then(|| release.end_ns.map_or(release.at_ns, NonZeroU64::get));
        self.driver_counters = Some((release.counter_faults, release.counter_failures));
        if self.delivery == Delivery::File(release.file) {
            self.delivery = if self.closed { Delivery::Unknown } else { Delivery::NoOne };
        }
    }

    pub(super) fn add(&mut self, fault: &Fault) {
        self.counts.add(fault);
        if self.is_unreachable(fault) {
            self.uncounted.0 += u64::from(fault.counted_faults);
            self.uncounted.1 += u64::from(fault.counted_failures);
        }
        if fault.tgid.is_some() && !self.context.is_other() {
            self.tgid = fault.tgid;
        }
        self.learn(fault.context.device);
        self.last_fault_ns = Some(self.last_fault_ns.unwrap_or(0).max(fault.at_ns));
        if fault.marks.end_missing {
            return;
        }
        self.interval_faults += 1;
        self.rate.add(fault.at_ns, 1);
        if fault.copy.has_failed() {
            self.interval_failures += 1;
            self.failure_rate.add(fault.at_ns, 1);
        }
    }

    /// The kind of this row's device, when a record tells it; the collecting row takes faults of any device.
    fn learn(&mut self, device: DeviceId) {
        if self.context.device.kind == DeviceKind::Unknown && self.context.device.id == device.id {
            self.context.device = device;
        }
    }

    pub(super) fn take_totals(&mut self, totals: &ContextTotals) {
        self.tgid = totals.tgid.or(self.tgid);
        if !totals.comm.is_empty() {
            self.comm = Some(totals.comm);
        }
        self.cgroup = totals.cgroup.or(self.cgroup);
        self.closed |= totals.closed;
        self.learn(totals.context.device);
        self.totals = Some(totals.clone());
    }
}

impl Default for Process {
    fn default() -> Self {
        Self::collecting()
    }
}

/// One work queue.
#[derive(Clone, Debug)]
pub struct Wq {
    pub id: WqId,
    pub device: DeviceId,
    /// Configuration, when the session tells it.
    pub info: Option<WqInfo>,
    /// What it is configured with: since it was last seen to be enabled, else as the session tells it.
    pub config: Option<WqConfig>,
    /// The same before it was last enabled.
    pub before: Option<WqConfig>,
    pub counts: Counts,
    pub exact: Option<Exact>,
    /// When a service of it last ended.
    pub(super) last_fault_ns: u64,
    pub(super) rate: Rate,
    pub(super) failure_rate: Rate,
}

impl Wq {
    pub(super) fn new(id: WqId, device: DeviceId) -> Self {
        Self {
            id,
            device,
            info: None,
            config: None,
            before: None,
            counts: Counts::default(),
            exact: None,
            last_fault_ns: 0,
            rate: Rate::default(),
            failure_rate: Rate::default(),
        }
    }

    /// As the session tells it.
    pub(super) fn describe(&mut self, info: &WqInfo) {
        self.info = Some(info.clone());
        self.config = WqConfig::from_info(info);
    }

    /// It was enabled with this configuration.
    pub(super) fn configured(&mut self, config: &WqConfig) {
        self.before = self.config.replace(config.clone());
        if let Some(info) = &mut self.info {
            info.state = "enabled".into();
            info.type_.clone_from(&config.type_);
            info.mode = Some(config.mode.clone());
            (info.size, info.threshold) = (Some(config.size), Some(config.threshold));
            info.priority = Some(config.priority);
            info.block_on_fault = Some(config.block_on_fault);
            // Where sysfs has no such attribute there is no control, and so it stays.
            info.prs_disable = info.prs_disable.map(|_| config.prs_disable);
            info.ats_disable = info.ats_disable.map(|_| config.ats_disable);
        }
    }

    #[must_use]
    pub fn faults(&self) -> u64 {
        best(self.counts.faults, self.exact.map(|t| t.served))
    }

    #[must_use]
    pub fn failures(&self) -> u64 {
        best(self.counts.failed, self.exact.map(|t| t.failed))
    }
}

/// One device.
#[derive(Clone, Debug)]
pub struct Device {
    pub device: DeviceId,
    pub info: Option<DeviceInfo>,
    /// Counted from records: faults whose service ended.
    counted_faults: u64,
    /// Failures among them.
    counted_failures: u64,
    pub exact: Option<Exact>,
    /// Runs of the interrupt thread, time in it, entries it handed over.
    pub interrupts: u64,
    pub interrupt_busy_ns: u64,
    pub interrupt_entries: u64,
    /// Times the driver stored another SWERROR, and the last one's four qwords.
    pub swerrors: u64,
    pub last_swerror: Option<[u64; 4]>,
    pub halts: u64,
    pub resets: u64,
    /// Lines that the driver wrote to the kernel's log.
    pub warnings: u64,
    /// How full its event log was seen to be.
    pub event_log: EventLog,
    pub(super) rate: Rate,
    pub(super) interrupt_rate: Rate,
}

impl Device {
    pub(super) fn new(device: DeviceId) -> Self {
        Self {
            device,
            info: None,
            counted_faults: 0,
            counted_failures: 0,
            exact: None,
            interrupts: 0,
            interrupt_busy_ns: 0,
            interrupt_entries: 0,
            swerrors: 0,
            last_swerror: None,
            halts: 0,
            resets: 0,
            warnings: 0,
            event_log: EventLog::default(),
            rate: Rate::default(),
            interrupt_rate: Rate::default(),
        }
    }

    pub(super) fn count(&mut self, fault: &Fault) {
        if !fault.marks.end_missing {
            self.counted_faults += 1;
            self.counted_failures += u64::from(fault.copy.has_failed());
        }
    }

    #[must_use]
    pub fn faults(&self) -> u64 {
        best(self.counted_faults, self.exact.map(|t| t.served))
    }

    #[must_use]
    pub fn failures(&self) -> u64 {
        best(self.counted_failures, self.exact.map(|t| t.failed))
    }
}

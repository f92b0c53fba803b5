//! How full a device's event log was seen to be, and what that advises.
//!
//! The log's head and tail are device registers; what is observed is how many faults each run of the interrupt thread handed over. That
//! is the log's depth when the run began, less entries that the driver does not serve (other errors, entries of closed files): a lower
//! bound. How long the device waited for a slot is not observed either, only the longest that it can have been: an engine waits from
//! when the log has become full to when the driver has written the head, at the end of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::row::Device;
use super::{Model, WINDOW_NS};
use crate::event::{DeviceId, Interrupt};
use crate::rate::Rate;
use crate::sizing::{Load, time_to_full_ns, usable};

/// Powers of two of depths: a log has at most 65535 entries.
const BUCKETS: usize = 17;

/// Depths that the runs of one device's interrupt thread found.
#[derive(Clone, Debug, Default)]
pub struct EventLog {
    /// Runs by depth: 0, 1, 2 to 3, 4 to 7, and so on.
    runs_by_depth: [u64; BUCKETS],
    /// Depth at the last run, and the deepest of all.
    pub last_depth: Option<u32>,
    pub high_water: u32,
    /// Runs that handed anything over, their entries, and the time they took.
    busy_runs: u64,
    busy_entries: u64,
    busy_ns: u64,
    /// Longest time that a close kept the log from being read.
    pub longest_hold_ns: u64,
    last_run: Option<Run>,
    /// Longest time in all that an engine can have waited for a slot.
    waited_at_most_ns: u64,
    entries: Rate,
    /// Most entries in any window of the rate.
    peak_per_s: f64,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    end_ns: u64,
    busy_ns: u64,
    handled: u32,
}

impl EventLog {
    /// Returns the longest that an engine can have waited until the end of this run, when the log was full as it began.
    pub(super) fn run(&mut self, interrupt: &Interrupt, size: Option<u32>) -> Option<u64> {
        let waited_ns = size.and_then(|size| self.waited(interrupt, usable(size)));
        self.count(interrupt);
        waited_ns
    }

    /// The driver frees the slots of a run all at once, at its end. What a run handles was in the log when it began. So the log can
    /// have been full from the end of the run before on when this run handles all that it holds, and during the run before when
    /// both runs together do.
    fn waited(&mut self, interrupt: &Interrupt, usable: u32) -> Option<u64> {
        let handled = interrupt.entries;
        let busy_ns = interrupt.busy_ns().unwrap_or(0);
        let last = self.last_run.replace(Run { end_ns: interrupt.end_ns, busy_ns, handled });
        let last_was_full = last.is_some_and(|last| last.handled >= usable);
        if let Some(last) = last.filter(|_| !last_was_full)
            && last.handled.saturating_add(handled) >= usable
        {
            self.waited_at_most_ns += last.busy_ns;
        }
        if handled < usable {
            return None;
        }
        let waited_ns = last.map_or(busy_ns, |last| interrupt.end_ns.saturating_sub(last.end_ns));
        self.waited_at_most_ns += waited_ns;
        Some(waited_ns)
    }

    fn count(&mut self, interrupt: &Interrupt) {
        let depth = interrupt.entries;
        let bucket = (u32::BITS - depth.leading_zeros()) as usize;
        self.runs_by_depth[bucket.min(BUCKETS - 1)] += 1;
        self.last_depth = Some(depth);
        self.high_water = self.high_water.max(depth);
        if depth > 0 {
            self.busy_runs += 1;
            self.busy_entries += u64::from(depth);
            self.busy_ns += interrupt.busy_ns().unwrap_or(0);
            self.entries.add(interrupt.at_ns, depth);
        }
    }

    pub(super) fn held_up(&mut self, ns: u64) {
        self.longest_hold_ns = self.longest_hold_ns.max(ns);
    }

    /// The rate is looked at with every tick, so that its peak is known later.
    pub(super) fn tick(&mut self, now_ns: u64, since_ns: u64) {
        if let Some(rate) = self.entries.per_second(now_ns, WINDOW_NS, since_ns) {
            self.peak_per_s = self.peak_per_s.max(rate);
        }
    }

    /// Mean depth of the runs that handed anything over.
    #[must_use]
    pub fn mean_depth(&self) -> Option<f64> {
        (self.busy_runs > 0).then(|| self.busy_entries as f64 / self.busy_runs as f64)
    }

    /// Time of the interrupt thread an entry.
    #[must_use]
    pub fn service_ns(&self) -> Option<f64> {
        (self.busy_entries > 0 && self.busy_ns > 0).then(|| self.busy_ns as f64 / self.busy_entries as f64)
    }
}

/// The account of one device's log, and the advice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventLogAdvice {
    #[schemars(with = "String")]
    pub device: DeviceId,
    /// `event_log_size`, in entries; null when it is not known.
    pub size: Option<u32>,
    /// Faults handed over by a run of the interrupt thread: at the last one, the mean of those that had any, the most.
    pub last_depth: Option<u32>,
    pub mean_depth: Option<f64>,
    pub high_water: Option<u32>,
    /// Runs by what they handed over: none, 1, 2 to 3, 4 to 7, and so on, up to the highest that happened.
    pub runs_by_depth: Vec<u64>,
    /// A run found the log full: the device may have waited for a slot.
    pub was_full: bool,
    pub entries_per_s: Option<f64>,
    pub peak_entries_per_s: Option<f64>,
    /// Time of the interrupt thread an entry.
    pub service_ns_per_entry: Option<f64>,
    /// Longest time that a close kept the log from being read.
    pub longest_hold_ns: u64,
    /// Longest time in all that an engine can have waited for a slot; null without a size. Not less than it was, unless entries of
    /// closed files or of errors that are not served were in the log, which no run tells of.
    #[serde(default)]
    pub waited_at_most_ns: Option<u64>,
    /// From empty to full at the peak rate if nobody read; null without entries or size.
    pub time_to_full_ns: Option<u64>,
    /// A value for `event_log_size`; null before the first entry.
    pub advised_size: Option<u32>,
}

impl EventLogAdvice {
    /// The log is smaller than what is advised, or was seen full.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.was_full || self.size.zip(self.advised_size).is_some_and(|(size, advised)| size < advised)
    }
}

impl Model {
    /// The account of each device's event log, in the order of devices; none for devices without one.
    pub fn event_logs(&self) -> impl Iterator<Item = EventLogAdvice> {
        let has_log = |d: &&Device| d.info.as_ref().is_none_or(|info| info.event_log_size.is_some());
        self.devices.values().filter(has_log).map(|device| self.event_log(device))
    }

    /// Entries of the last `points` spans of `span_ns`, oldest first: a sparkline.
    #[must_use]
    pub fn event_log_history(&self, device: &Device, span_ns: u64, points: usize) -> Vec<u64> {
        device.event_log.entries.history(self.now_ns, span_ns, points)
    }

    /// What was seen of one device's event log, and the size it advises.
    #[must_use]
    pub fn event_log(&self, device: &Device) -> EventLogAdvice {
        let log = &device.event_log;
        let size = device.info.as_ref().and_then(|info| info.event_log_size);
        let rate =
            self.since_ns.and_then(|since_ns| log.entries.per_second(self.now_ns, WINDOW_NS, since_ns));
        let any = log.busy_entries > 0;
        let used = log.runs_by_depth.iter().rposition(|&runs| runs > 0).map_or(0, |last| last + 1);
        let peak = log.peak_per_s.max(rate.unwrap_or(0.0));
        let peak = (any && peak > 0.0).then_some(peak);
        let was_full = any && size.is_some_and(|size| log.high_water >= usable(size));
        let load = Load {
            entries_per_s: peak.unwrap_or(0.0),
            service_ns: log.service_ns().unwrap_or(0.0),
            burst: log.high_water,
            pause_ns: log.longest_hold_ns,
        };
        EventLogAdvice {
            device: device.device,
            size,
            last_depth: log.last_depth,
            mean_depth: log.mean_depth(),
            high_water: log.last_depth.map(|_| log.high_water),
            runs_by_depth: log.runs_by_depth[..used].to_vec(),
            was_full,
            entries_per_s: rate,
            peak_entries_per_s: peak,
            service_ns_per_entry: log.service_ns(),
            longest_hold_ns: log.longest_hold_ns,
            waited_at_most_ns: size.map(|_| log.waited_at_most_ns),
            time_to_full_ns: size.zip(peak).and_then(|(size, peak)| time_to_full_ns(size, 0, peak, 0.0)),
            advised_size: any.then(|| load.advised_size()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{DeviceInfo, DeviceKind, Event, SessionInfo};
    use crate::findings::FindingKind;

    const MS: u64 = 1_000_000;
    const DSA0: DeviceId = DeviceId { kind: DeviceKind::Dsa, id: 0 };

    fn session() -> Event {
        let info = DeviceInfo {
            device: DSA0,
            state: "enabled".into(),
            version: None,
            gen_cap: None,
            event_log_size: Some(64),
            pasid_enabled: None,
            numa_node: None,
            wqs: vec![],
        };
        Event::Session(Box::new(SessionInfo { devices: vec![info], ..SessionInfo::default() }))
    }

    fn run(at_ms: u64, entries: u32) -> Event {
        let at_ns = at_ms * MS;
        Event::Interrupt(Interrupt {
            at_ns,
            cpu: 0,
            device: DSA0,
            start_ns: at_ns - 2_000 * u64::from(entries),
            end_ns: at_ns,
            entries,
            swerror: None,
        })
    }

    #[test]
    fn nothing_seen_advises_nothing() {
        let mut model = Model::default();
        model.update(&session());
        let advice = model.event_logs().next().unwrap();
        assert_eq!(advice.size, Some(64));
        assert_eq!((advice.high_water, advice.advised_size, advice.time_to_full_ns), (None, None, None));
        model.update(&run(5, 0));
        let advice = model.event_logs().next().unwrap();
        assert_eq!((advice.high_water, advice.advised_size), (Some(0), None));
        assert!(!advice.is_small());
    }

    #[test]
    fn depths_peak_and_advice() {
        let mut model = Model::default();
        model.update(&session());
        for n in 1..=1000 {
            model.update(&run(n, if n == 500 { 63 } else { 10 }));
        }
        model.update(&Event::Tick { now_ns: 1000 * MS });
        model.update(&Event::Tick { now_ns: 60_000 * MS });
        let advice = model.event_logs().next().unwrap();
        assert_eq!((advice.high_water, advice.last_depth), (Some(63), Some(10)));
        assert!(advice.was_full && advice.is_small());
        assert_eq!(advice.entries_per_s, Some(0.0));
        let peak = advice.peak_entries_per_s.unwrap();
        assert!((peak - 10_053.0).abs() < 200.0, "{peak}");
        assert!((advice.service_ns_per_entry.unwrap() - 2_000.0).abs() < 1.0);
        let to_full_ms = advice.time_to_full_ns.unwrap() / MS;
        assert_eq!(to_full_ms, 6);
        assert_eq!(advice.advised_size, Some(192));
        assert_eq!(advice.runs_by_depth, [0, 0, 0, 0, 999, 0, 1]);
    }

    fn waited(model: &Model) -> u64 {
        model.event_logs().next().unwrap().waited_at_most_ns.unwrap()
    }

    #[test]
    fn a_log_that_is_never_near_full_keeps_no_engine_waiting() {
        let mut model = Model::default();
        model.update(&session());
        for n in 1..=50 {
            model.update(&run(n, 31));
        }
        assert_eq!(waited(&model), 0);
        assert!(model.findings().is_empty());
    }

    #[test]
    fn the_longest_wait_for_a_slot() {
        let mut model = Model::default();
        model.update(&session());
        // 20 and 43 entries: the log may have become full while the first run lasted, 40 us.
        for (at_ms, entries) in [(1, 20), (5, 43), (9, 1)] {
            model.update(&run(at_ms, entries));
        }
        assert_eq!(waited(&model), 40_000);
        // Full when the run began, so perhaps ever since the end of the one before.
        model.update(&run(12, 63));
        assert_eq!(waited(&model), 40_000 + 2_000 + 3 * MS);
        model.update(&run(14, 63));
        assert_eq!(waited(&model), 40_000 + 2_000 + 5 * MS);
        let finding = &model.findings()[0];
        assert_eq!((finding.finding, finding.count), (FindingKind::EventLogFull, 2));
        assert!(finding.sentence.contains("5.0 ms at most"), "{}", finding.sentence);
    }
}

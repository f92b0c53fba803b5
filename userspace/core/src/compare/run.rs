//! A run folded into groups, and whether two of them can be compared at all.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{CopyOutcome, DeviceInfo, Event, Fault, SessionInfo};
use crate::hist::StageHistograms;
use crate::model::Model;

/// The group of everything.
pub(super) const ALL: &str = "all";
/// Groups at most; further ones are one, of this name.
const MOST_GROUPS: usize = 1000;
const OTHER: &str = "other";

/// What faults are told apart by, beside stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Nothing: stages alone.
    #[default]
    Stage,
    WorkQueue,
    /// Command and WQ: process numbers mean nothing in another run.
    Process,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) faults: u64,
    pub(super) failures: u64,
    pub(super) latency: StageHistograms,
}

/// A whole run, folded.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub(super) session: SessionInfo,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) lost: u64,
    /// From the beginning to the last fault or tick.
    pub(super) span_ns: u64,
}

impl Run {
    /// The histograms of a group, for drawing.
    #[must_use]
    pub fn latency(&self, group: &str) -> Option<&StageHistograms> {
        self.groups.get(group).map(|group| &group.latency)
    }
}

/// Folds a run into groups. Memory is bounded by [`MOST_GROUPS`] times the histograms of [`crate::hist`].
#[derive(Debug)]
pub struct Collector {
    by: By,
    groups: BTreeMap<String, Group>,
    name: String,
}

impl Collector {
    #[must_use]
    pub fn new(by: By) -> Self {
        Self { by, groups: BTreeMap::from([(ALL.to_owned(), Group::default())]), name: String::new() }
    }

    /// To be told of every event, after the model.
    pub fn event(&mut self, model: &Model, event: &Event) {
        let Event::Fault(fault) = event else { return };
        self.add(ALL, fault);
        let mut name = std::mem::take(&mut self.name);
        name.clear();
        // Writing to a String cannot fail.
        let written = match self.by {
            By::Stage => return,
            By::WorkQueue => std::fmt::write(&mut name, format_args!("{}", fault.context.wq_id())),
            By::Process => match model.process(fault.context.key()).and_then(|process| process.comm) {
                Some(comm) => std::fmt::write(&mut name, format_args!("{comm} {}", fault.context.wq_id())),
                None => std::fmt::write(&mut name, format_args!("? {}", fault.context.wq_id())),
            },
        };
        debug_assert!(written.is_ok());
        let known = self.groups.contains_key(&name) || self.groups.len() < MOST_GROUPS;
        self.add(if known { &name } else { OTHER }, fault);
        self.name = name;
    }

    fn add(&mut self, name: &str, fault: &Fault) {
        if !self.groups.contains_key(name) {
            self.groups.insert(name.to_owned(), Group::default());
        }
        let Some(group) = self.groups.get_mut(name) else { return };
        group.faults += 1;
        group.failures += u64::from(matches!(fault.copy, CopyOutcome::Short { .. }));
        group.latency.record(&fault.times.durations());
    }

    /// The run is over.
    #[must_use]
    pub fn finish(self, model: &Model) -> Run {
        let session = model.session().cloned().unwrap_or_default();
        Run {
            lost: model.ledger().lost(),
            span_ns: model.now_ns().saturating_sub(session.started_ns),
            groups: self.groups,
            session,
        }
    }
}

/// How much a difference weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Figures may differ for this alone.
    Warn,
    /// Figures do not mean the same.
    Refuse,
}

/// Something about two runs that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    pub what: String,
    pub a: String,
    pub b: String,
    pub severity: Severity,
}

/// What is not the same about two runs, beside their figures.
pub(super) fn differences(a: &Run, b: &Run) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut note = |what: &str, a: String, b: String, severity| {
        if a != b {
            all.push(Difference { what: what.into(), a, b, severity });
        }
    };
    let (sa, sb) = (&a.session, &b.session);
    note("host", sa.host.clone(), sb.host.clone(), Severity::Warn);
    note("kernel", sa.kernel.clone(), sb.kernel.clone(), Severity::Warn);
    let source =
        |session: &SessionInfo| session.driver.srcversion.clone().unwrap_or_else(|| "unknown".into());
    note("driver", source(sa), source(sb), Severity::Warn);
    note("CPUs", sa.cpus.to_string(), sb.cpus.to_string(), Severity::Warn);
    note("dsascope", sa.tool_version.clone(), sb.tool_version.clone(), Severity::Warn);
    for (what, words) in device_words(sa, sb) {
        let [a, b] = words.map(|words| words.unwrap_or_else(|| "not there".into()));
        note(&what, a, b, Severity::Warn);
    }
    for verdict in &sa.verdicts {
        let how = |session: &SessionInfo| {
            let same = session.verdicts.iter().find(|other| other.hook == verdict.hook);
            same.map_or_else(|| "not there".into(), |v| format!("{} {}", v.state.name(), v.state.detail()))
        };
        let seen = |session: &SessionInfo| {
            session.verdicts.iter().any(|other| other.hook == verdict.hook && other.state.attached())
        };
        let severity = if verdict.hook.is_of_faults() && seen(sa) != seen(sb) {
            Severity::Refuse
        } else {
            Severity::Warn
        };
        note(&format!("probe \"{}\"", verdict.hook.name()), how(sa), how(sb), severity);
    }
    for (run, which) in [(a, "first"), (b, "second")] {
        if run.lost > 0 {
            all.push(Difference {
                what: format!("loss in the {which} run"),
                a: a.lost.to_string(),
                b: b.lost.to_string(),
                severity: Severity::Warn,
            });
        }
    }
    all
}

/// By device and WQ: its configuration in words, of each run.
fn device_words(a: &SessionInfo, b: &SessionInfo) -> BTreeMap<String, [Option<String>; 2]> {
    let mut words: BTreeMap<String, [Option<String>; 2]> = BTreeMap::new();
    for (number, session) in [a, b].into_iter().enumerate() {
        for device in &session.devices {
            let DeviceInfo { version, event_log_size, pasid_enabled, numa_node, .. } = device;
            let text = format!(
                "version {}, event log {}, SVA {}, node {}",
                show(version),
                show(event_log_size),
                show(pasid_enabled),
                show(numa_node)
            );
            words.entry(device.device.to_string()).or_default()[number] = Some(text);
            for wq in &device.wqs {
                let text = format!(
                    "{}, size {}, threshold {}, priority {}, group {}, block on fault {}, page requests off {}, ATS off {}",
                    wq.mode.as_deref().unwrap_or("-"),
                    show(&wq.size),
                    show(&wq.threshold),
                    show(&wq.priority),
                    show(&wq.group),
                    show(&wq.block_on_fault),
                    show(&wq.prs_disable),
                    show(&wq.ats_disable),
                );
                words.entry(format!("wq{}.{}", device.device.id, wq.wq)).or_default()[number] = Some(text);
            }
        }
    }
    words
}

fn show<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "-".into(), ToString::to_string)
}

//! A run folded into groups, and whether two of them can be compared at all.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::{CopyOutcome, Event, Fault, Key, SessionInfo};
use crate::hist::StageHistograms;
use crate::model::Model;
use crate::probe::{Hook, Verdict, VerdictState};

/// The group of everything.
pub const ALL: &str = "all";
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
    /// Faults of which the copy was not observed.
    pub(super) unobserved: u64,
    pub(super) latency: StageHistograms,
}

/// A whole run, folded.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub(super) session: SessionInfo,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) lost: u64,
    /// Of every kind.
    pub(super) holes: u64,
    /// From the beginning to the last fault or tick.
    pub(super) span_ns: u64,
}

impl Run {
    fn facts(&self) -> Facts<'_> {
        let all = self.groups.get(ALL);
        Facts {
            session: &self.session,
            lost: self.lost,
            holes: self.holes,
            unobserved: all.map_or(0, |all| all.unobserved),
            faults: all.map_or(0, |all| all.faults),
        }
    }

    /// What is not the same about this run and one that goes on, as [`super::compare`] has it of two that are over.
    #[must_use]
    pub fn differences_to(&self, model: &Model) -> Vec<Difference> {
        let Some(session) = model.session() else { return Vec::new() };
        let counts = model.counts();
        let now = Facts {
            session,
            lost: model.ledger().lost(),
            holes: model.holes().values().sum(),
            unobserved: counts.unobserved,
            faults: counts.faults,
        };
        between(&self.facts(), &now)
    }

    /// The histograms of a group, for drawing.
    #[must_use]
    pub fn latency(&self, group: &str) -> Option<&StageHistograms> {
        self.groups.get(group).map(|group| &group.latency)
    }
}

/// What decides whether figures can be compared, of a run that is over or goes on.
struct Facts<'a> {
    session: &'a SessionInfo,
    lost: u64,
    holes: u64,
    /// Of its faults, those of which the copy was not observed.
    unobserved: u64,
    faults: u64,
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
            By::Process => write_process(&mut name, model, fault.context.key()),
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
        group.latency.record(&fault.durations());
        // As the model counts: a fault is one whose service ended.
        if fault.marks.end_missing {
            return;
        }
        group.faults += 1;
        group.failures += u64::from(fault.copy.has_failed());
        group.unobserved += u64::from(matches!(fault.copy, CopyOutcome::Unobserved));
    }

    /// The run is over.
    #[must_use]
    pub fn finish(self, model: &Model) -> Run {
        let session = model.session().cloned().unwrap_or_default();
        let mut groups = self.groups;
        groups.values_mut().for_each(|group| group.latency.refresh());
        Run {
            lost: model.ledger().lost(),
            holes: model.holes().values().sum(),
            span_ns: model.now_ns().saturating_sub(session.started_ns),
            groups,
            session,
        }
    }
}

/// The group of a file's faults when they are told apart by process.
#[must_use]
pub fn process_group(model: &Model, key: Key) -> String {
    let mut name = String::new();
    // Writing to a String cannot fail.
    let _ = write_process(&mut name, model, key);
    name
}

fn write_process(name: &mut String, model: &Model, key: Key) -> std::fmt::Result {
    match model.process(key).and_then(|process| process.comm) {
        Some(comm) => std::fmt::write(name, format_args!("{comm} {}", key.wq_id())),
        None => std::fmt::write(name, format_args!("? {}", key.wq_id())),
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
    between(&a.facts(), &b.facts())
}

fn between(a: &Facts<'_>, b: &Facts<'_>) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut note = |what: &str, a: String, b: String, severity| {
        if a != b {
            all.push(Difference { what: what.into(), a, b, severity });
        }
    };
    let (sa, sb) = (a.session, b.session);
    note("host", sa.host.clone(), sb.host.clone(), Severity::Warn);
    note("kernel", sa.kernel.clone(), sb.kernel.clone(), Severity::Warn);
    let source =
        |session: &SessionInfo| session.driver.srcversion.clone().unwrap_or_else(|| "unknown".into());
    note("driver", source(sa), source(sb), Severity::Warn);
    note("CPUs", sa.cpus.to_string(), sb.cpus.to_string(), Severity::Warn);
    note("dsascope", sa.tool_version.clone(), sb.tool_version.clone(), Severity::Warn);
    let filter = |session: &SessionInfo| {
        session.filter.as_ref().map_or_else(|| "none".into(), |filter| filter.expression.clone())
    };
    note("filter", filter(sa), filter(sb), Severity::Refuse);
    let (ca, cb) = (configuration(sa), configuration(sb));
    let objects: BTreeSet<&String> = ca.keys().chain(cb.keys()).collect();
    for object in objects {
        match (ca.get(object), cb.get(object)) {
            (Some(a), Some(b)) => {
                for ((what, a), (_, b)) in a.iter().zip(b) {
                    note(&format!("{object} {what}"), a.clone(), b.clone(), Severity::Warn);
                }
            }
            (a, b) => {
                let there = |is: bool| if is { "there" } else { "not there" }.to_owned();
                note(object, there(a.is_some()), there(b.is_some()), Severity::Warn);
            }
        }
    }
    for &hook in Hook::ALL {
        let of =
            |session: &SessionInfo| session.verdicts.iter().find(|verdict| verdict.hook == hook).cloned();
        let (va, vb) = (of(sa), of(sb));
        let seen = |verdict: &Option<Verdict>| verdict.as_ref().is_some_and(|v| v.state.attached());
        let covered = |verdict: &Option<Verdict>| {
            matches!(verdict, Some(Verdict { state: VerdictState::NotWanted, .. }))
        };
        let how = |verdict: Option<Verdict>| {
            verdict.map_or_else(
                || "not there".into(),
                |v| format!("{} {}", v.state.name(), v.state.detail()).trim_end().to_owned(),
            )
        };
        // What is not wanted is covered by another hook, or tells of nothing that is compared.
        let means_less = hook.is_of_faults() && seen(&va) != seen(&vb) && !covered(&va) && !covered(&vb);
        let severity = if means_less { Severity::Refuse } else { Severity::Warn };
        note(&format!("probe \"{}\"", hook.name()), how(va), how(vb), severity);
    }
    if a.unobserved + b.unobserved > 0 {
        let unobserved = |run: &Facts<'_>| format!("{} of {}", run.unobserved, run.faults);
        let none = |run: &Facts<'_>| run.unobserved == run.faults;
        let both_ran = a.faults > 0 && b.faults > 0;
        let severity = if both_ran && none(a) != none(b) { Severity::Refuse } else { Severity::Warn };
        note("copies not observed", unobserved(a), unobserved(b), severity);
    }
    for (what, a, b) in [("events lost", a.lost, b.lost), ("holes in the stream", a.holes, b.holes)] {
        if a + b > 0 {
            let (what, severity) = (what.into(), Severity::Warn);
            all.push(Difference { what, a: a.to_string(), b: b.to_string(), severity });
        }
    }
    all
}

/// What is configured, by device and WQ: each attribute in words, in one order.
fn configuration(session: &SessionInfo) -> BTreeMap<String, Vec<(&'static str, String)>> {
    let mut all = BTreeMap::new();
    for device in &session.devices {
        let attributes = vec![
            ("version", device.version.map_or_else(|| "-".into(), |version| format!("{version:#x}"))),
            ("event log entries", show(&device.event_log_size)),
            ("shared virtual addressing", show(&device.pasid_enabled)),
            ("NUMA node", show(&device.numa_node)),
        ];
        all.insert(device.device.to_string(), attributes);
        for wq in &device.wqs {
            let attributes = vec![
                ("name", show(&wq.name)),
                ("type", wq.type_.clone()),
                ("mode", show(&wq.mode)),
                ("size", show(&wq.size)),
                ("threshold", show(&wq.threshold)),
                ("priority", show(&wq.priority)),
                ("group", show(&wq.group)),
                ("block on fault", show(&wq.block_on_fault)),
                ("page requests off", show(&wq.prs_disable)),
                ("ATS off", show(&wq.ats_disable)),
            ];
            all.insert(format!("wq{}.{}", device.device.id, wq.wq), attributes);
        }
    }
    all
}

fn show<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "-".into(), ToString::to_string)
}

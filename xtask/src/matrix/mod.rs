//! The matrix of kernels: what came of each scenario on each kernel, and with which probes, at what cost.
//!
//! Owns: the results, their file `docs/kernels.json`, and putting new ones over old ones cell by cell, so that one kernel or one scenario
//! can be run again by itself. Refuses: running anything ([`crate::test`] does) and laying it out ([`document`] does).

pub mod document;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::binaries::workspace;
use crate::reconcile::Attach;
use crate::reconcile::observed::{Attachment, Observed, unseen};

const RESULTS: &str = "docs/kernels.json";
const DOCUMENT: &str = "docs/kernels.md";

/// All results, by kernel as [`crate::version::MATRIX`] names it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matrix {
    pub kernels: BTreeMap<String, Row>,
}

/// One kernel's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    #[serde(flatten)]
    pub outcome: Outcome,
    /// When it is not plainly what was asked for, why.
    pub note: Option<String>,
    /// From QEMU's start to the agent's first word, of the last boot.
    pub boot_seconds: f64,
    /// By scenario, then by way to attach.
    pub scenarios: BTreeMap<String, BTreeMap<Attach, Cell>>,
    /// By way to attach.
    pub attached: BTreeMap<Attach, Vec<Attachment>>,
}

/// What the kernel is good for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// `kernel` as `uname -r` says it.
    Traced { kernel: String },
    /// No process can open a work queue, and doctor says so.
    SvaOff { kernel: String },
    /// Nothing was run.
    NotOnTheMirror { why: String },
}

/// One scenario on one kernel, attached in one way. Random scenarios are one cell together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Scenarios that were run, and those whose books were exact.
    pub run: usize,
    pub exact: usize,
    /// Means over them.
    pub attach_ms: f64,
    /// Time in BPF programs; none without faults.
    pub ns_per_fault: Option<f64>,
    /// Runs of programs that the kernel skipped, over all of them.
    pub runs_skipped: u64,
    pub seconds: f64,
}

impl Matrix {
    /// The committed results.
    pub fn read() -> Result<Self> {
        let path = path(RESULTS);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is not what it should be", path.display()))
    }

    /// Puts these results over the committed ones, and draws the document anew.
    pub fn write(&self) -> Result<()> {
        let mut all = if path(RESULTS).exists() { Self::read()? } else { Self::default() };
        all.take(self.clone());
        let mut text = serde_json::to_string_pretty(&all)?;
        text.push('\n');
        put(&path(RESULTS), &text)?;
        let document = path(DOCUMENT);
        let old =
            fs::read_to_string(&document).with_context(|| format!("cannot read {}", document.display()))?;
        let new = document::replaced(&old, &all)
            .with_context(|| format!("{} has no place for the matrix", document.display()))?;
        put(&document, &new)
    }

    /// Takes a kernel's results, or a part of them, and writes them down if `write`.
    pub fn book(&mut self, wanted: &str, row: Row, write: bool) -> Result<()> {
        let one = Self { kernels: BTreeMap::from([(wanted.to_owned(), row)]) };
        if write {
            one.write()?;
        }
        self.take(one);
        Ok(())
    }

    /// Newer results replace older ones of the same kernel, scenario and way to attach.
    fn take(&mut self, newer: Self) {
        for (wanted, newer) in newer.kernels {
            match self.kernels.get_mut(&wanted) {
                // Another kernel by the same name: what the old one showed is not this one's.
                Some(row) if row.outcome == newer.outcome => row.take(newer),
                _ => drop(self.kernels.insert(wanted, newer)),
            }
        }
    }
}

impl Row {
    pub fn new(outcome: Outcome, note: Option<String>) -> Self {
        Self { outcome, note, boot_seconds: 0.0, scenarios: BTreeMap::new(), attached: BTreeMap::new() }
    }

    /// Books a test's result; `observed` has one element a scenario that was exact.
    pub fn add(&mut self, scenario: &str, attach: Attach, run: usize, observed: &[Observed], seconds: f64) {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let attach_ms: Vec<_> = observed.iter().map(|one| one.attach_ms).collect();
        let costs: Vec<_> = observed.iter().filter_map(|one| one.ns_per_fault).collect();
        let cell = Cell {
            run,
            exact: observed.len(),
            attach_ms: mean(&attach_ms),
            ns_per_fault: (!costs.is_empty()).then(|| mean(&costs)),
            runs_skipped: observed.iter().map(|one| one.runs_skipped).sum(),
            seconds,
        };
        self.scenarios.entry(scenario.to_owned()).or_default().insert(attach, cell);
        if let Some(last) = observed.last() {
            self.take_hooks(attach, last.hooks.clone());
        }
    }

    fn take(&mut self, newer: Self) {
        self.note = newer.note;
        if newer.boot_seconds > 0.0 {
            self.boot_seconds = newer.boot_seconds;
        }
        for (attach, hooks) in newer.attached {
            self.take_hooks(attach, hooks);
        }
        for (scenario, cells) in newer.scenarios {
            self.scenarios.entry(scenario).or_default().extend(cells);
        }
    }

    /// Newer ones replace older ones; not every scenario asks for every hook.
    fn take_hooks(&mut self, attach: Attach, newer: Vec<Attachment>) {
        let hooks = self.attached.entry(attach).or_default();
        hooks.retain(|hook| newer.iter().all(|newer| newer.hook != hook.hook));
        hooks.extend(newer);
        hooks.sort_by_key(|hook| hook.hook);
    }

    /// The hooks that one way to attach has no program for.
    pub fn unseen(&self, attach: Attach) -> String {
        self.attached.get(&attach).map(|hooks| unseen(hooks)).unwrap_or_default()
    }

    /// All cells of one way to attach.
    fn cells(&self, attach: Attach) -> impl Iterator<Item = &Cell> {
        self.scenarios.values().filter_map(move |cells| cells.get(&attach))
    }

    fn seconds(&self) -> f64 {
        let cells = self.scenarios.values().flat_map(BTreeMap::values);
        self.boot_seconds + cells.map(|cell| cell.seconds).sum::<f64>()
    }
}

fn path(name: &str) -> PathBuf {
    workspace().join(name)
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use dsascope_core::event::Hook;

    use super::*;

    fn observed(attach_ms: f64, ns_per_fault: Option<f64>) -> Observed {
        Observed { hooks: Vec::new(), attach_ms, ns_per_fault, runs_skipped: 1 }
    }

    fn traced(kernel: &str) -> Row {
        Row::new(Outcome::Traced { kernel: kernel.into() }, None)
    }

    #[test]
    fn a_cell_is_the_mean_of_what_was_exact() {
        let mut row = traced("7.3.4");
        row.add("random", Attach::Auto, 3, &[observed(10.0, Some(4e3)), observed(30.0, None)], 2.0);
        let cell = row.scenarios["random"][&Attach::Auto];
        assert_eq!((cell.run, cell.exact, cell.runs_skipped), (3, 2, 2));
        assert_eq!((cell.attach_ms, cell.ns_per_fault), (20.0, Some(4e3)));
    }

    #[test]
    fn hooks_of_all_scenarios_are_kept() {
        let attached = |hook, by: &str| Attachment { hook, by: Some(by.into()), verified_instructions: None };
        let with = |hooks| Observed { hooks, ..observed(1.0, None) };
        let mut row = traced("7.3.4");
        let both = vec![attached(Hook::Queued, "tp_btf"), attached(Hook::PageRequest, "tracepoint")];
        row.add("page-requests", Attach::Auto, 1, &[with(both)], 1.0);
        row.add("batches", Attach::Auto, 1, &[with(vec![attached(Hook::Queued, "tracepoint")])], 1.0);
        let hooks = [attached(Hook::Queued, "tracepoint"), attached(Hook::PageRequest, "tracepoint")];
        assert_eq!(row.attached[&Attach::Auto], hooks);
    }

    #[test]
    fn newer_cells_replace_older_ones_of_the_same_kernel_alone() {
        let with = |kernel: &str, scenario: &str, attach, ms| {
            let mut row = traced(kernel);
            row.add(scenario, attach, 1, &[observed(ms, None)], 1.0);
            Matrix { kernels: BTreeMap::from([("7.3".to_owned(), row)]) }
        };
        let mut all = with("7.3.4", "a", Attach::Auto, 1.0);
        all.take(with("7.3.4", "a", Attach::Kprobe, 2.0));
        all.take(with("7.3.4", "b", Attach::Auto, 3.0));
        all.take(with("7.3.4", "a", Attach::Auto, 4.0));
        let row = &all.kernels["7.3"];
        assert_eq!(row.scenarios["a"][&Attach::Auto].attach_ms, 4.0);
        assert_eq!((row.scenarios["a"].len(), row.scenarios.len(), row.seconds()), (2, 2, 3.0));
        all.take(with("7.3.5", "a", Attach::Auto, 5.0));
        assert_eq!(all.kernels["7.3"].scenarios.len(), 1);
    }
}

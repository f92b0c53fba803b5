//! `--fail-if`: `copy.p99 > 1.2x`, `service.max > 10ms`, `queue.mean > 20%`, `failures > 0`, `faults/s < 0.9x`, `loss > 0`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Comparison, Figure, GroupChange, Z95};
use crate::expression::{Comparison as Sign, ConditionError, Quantity, Reader};
use crate::stages::Stage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Stage(Stage, Figure),
    Faults,
    FaultsPerSecond,
    Failures,
    Loss,
}

/// A condition on a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    subject: Subject,
    sign: Sign,
    value: Quantity,
}

/// What became of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    Holds {
        found: String,
    },
    /// It would hold, but what was found may be chance.
    Uncertain {
        found: String,
    },
    No,
    /// What it asks for is not known of both runs.
    Unknown,
}

impl Verdict {
    /// What is not known is no success: a run without the faults that it should have had must not pass.
    #[must_use]
    pub const fn fails(&self) -> bool {
        matches!(self, Self::Holds { .. } | Self::Unknown)
    }

    /// What was found, behind whether that fails.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Holds { found } => found.clone(),
            Self::Uncertain { found } => format!("{found}, but that may be chance"),
            Self::No => "no".into(),
            Self::Unknown => "not known of both runs".into(),
        }
    }
}

/// A condition and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    pub condition: String,
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let mut reader = Reader::new(text);
        let word = reader.word();
        let Some(subject) = subject(word) else {
            let stages = Stage::ALL.map(Stage::name).join(" ");
            let figures = Figure::ALL.map(Figure::name).join(" ");
            return Err(reader.error(format!(
                "expected STAGE.FIGURE (of {stages}; {figures}), faults, faults/s, failures or loss"
            )));
        };
        let sign = reader.comparison()?;
        let value = reader.quantity()?;
        match (subject, value) {
            (_, Quantity::Times(_) | Quantity::Percent(_))
            | (Subject::Stage(..), Quantity::Nanoseconds(_)) => {}
            (Subject::Stage(..), _) => return Err(reader.error("expected 1.2x, 20% or a time")),
            (_, Quantity::Number(_)) => {}
            _ => return Err(reader.error("expected 1.2x, 20% or a number")),
        }
        reader.end()?;
        Ok(Self { text: text.trim().into(), subject, sign, value })
    }
}

fn subject(word: &str) -> Option<Subject> {
    Some(match word {
        "faults" => Subject::Faults,
        "faults/s" => Subject::FaultsPerSecond,
        "failures" => Subject::Failures,
        "loss" => Subject::Loss,
        word => {
            let (stage, figure) = Figure::of_stage(word)?;
            Subject::Stage(stage, figure)
        }
    })
}

impl Condition {
    /// Of the group of everything. A factor or a share holds only where the change is no chance; a value that B is held against, the maximum
    /// (of which no sample tells a range) and loss are taken as they are.
    #[must_use]
    pub fn check(&self, comparison: &Comparison) -> Verdict {
        let Some(all) = comparison.groups.first() else { return Verdict::Unknown };
        let counted = |a: u64, b: u64| Some((a as f64, b as f64, counts_differ((a, 1.0), (b, 1.0))));
        let found = match self.subject {
            Subject::Stage(stage, figure) => of_stage(all, stage, figure),
            Subject::Faults => counted(all.faults_a, all.faults_b),
            Subject::Failures => counted(all.failures_a, all.failures_b),
            Subject::Loss => Some((comparison.lost_a as f64, comparison.lost_b as f64, true)),
            Subject::FaultsPerSecond => rates(all),
        };
        let Some((a, b, sure)) = found else { return Verdict::Unknown };
        let (left, right, sure) = match self.value {
            Quantity::Times(times) => (times_of(a, b), times, sure),
            Quantity::Percent(percent) => ((times_of(a, b) - 1.0) * 100.0, percent, sure),
            Quantity::Number(value) | Quantity::Nanoseconds(value) => (b, value, true),
        };
        if !self.sign.holds(left, right) {
            return Verdict::No;
        }
        let found = match self.value {
            Quantity::Times(_) | Quantity::Percent(_) if left.is_infinite() => format!("{b} after none"),
            Quantity::Times(_) => format!("{left:.2}x"),
            Quantity::Percent(_) => format!("{left:.1}%"),
            Quantity::Nanoseconds(_) => format!("{left:.0} ns"),
            Quantity::Number(_) => format!("{left}"),
        };
        if sure { Verdict::Holds { found } } else { Verdict::Uncertain { found } }
    }
}

/// B by A; nothing by nothing is no change, something by nothing more than any factor.
fn times_of(a: f64, b: f64) -> f64 {
    if a == b { 1.0 } else { b / a }
}

/// Whether counts over their spans differ by more than chance (95 %), each as of events that come independently.
fn counts_differ((a, span_a): (u64, f64), (b, span_b): (u64, f64)) -> bool {
    let (a, b) = (a as f64, b as f64);
    let variance = a / (span_a * span_a) + b / (span_b * span_b);
    (b / span_b - a / span_a).abs() > Z95 * variance.sqrt()
}

/// Faults a second of both, and whether they differ by more than chance.
fn rates(all: &GroupChange) -> Option<(f64, f64, bool)> {
    let (a, b) = (all.faults_per_s_a?, all.faults_per_s_b?);
    // Without faults a span has no weight.
    let span = |count: u64, per_s: f64| if per_s > 0.0 { count as f64 / per_s } else { 1.0 };
    let sure = counts_differ((all.faults_a, span(all.faults_a, a)), (all.faults_b, span(all.faults_b, b)));
    Some((a, b, sure))
}

/// The figure of both in ns, and whether the change is no chance.
fn of_stage(all: &GroupChange, stage: Stage, figure: Figure) -> Option<(f64, f64, bool)> {
    let stage = all.stages.iter().find(|other| other.stage == stage)?;
    let change = stage.changes.iter().find(|change| change.figure == figure)?;
    let sure = figure == Figure::Max || change.certain == Some(true);
    Some((change.a?.ns as f64, change.b?.ns as f64, sure))
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

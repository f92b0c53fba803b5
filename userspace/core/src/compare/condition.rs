//! `--fail-if`: `copy.p99 > 1.2x`, `service.max > 10ms`, `queue.mean > 20%`, `failures > 0`, `faults/s < 0.9x`, `loss > 0`.

use std::fmt;
use std::str::FromStr;

use super::{Comparison, Figure, GroupChange};
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
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Holds {
        found: String,
    },
    /// It would hold, but the two ranges overlap: what was found may be chance.
    Uncertain {
        found: String,
    },
    No,
    /// What it asks for is not known of both runs.
    Unknown,
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
            let (stage, figure) = word.split_once('.')?;
            let stage = Stage::ALL.into_iter().find(|other| other.name() == stage)?;
            Subject::Stage(stage, Figure::ALL.into_iter().find(|other| other.name() == figure)?)
        }
    })
}

impl Condition {
    /// Of the group of everything. A factor or a share of a percentile holds only where the change is certain; all else as it is.
    #[must_use]
    pub fn check(&self, comparison: &Comparison) -> Verdict {
        let Some(all) = comparison.groups.first() else { return Verdict::Unknown };
        let (a, b, certain) = match self.subject {
            Subject::Stage(stage, figure) => match of_stage(all, stage, figure) {
                Some(found) => found,
                None => return Verdict::Unknown,
            },
            Subject::Faults => (all.faults_a as f64, all.faults_b as f64, None),
            Subject::Failures => (all.failures_a as f64, all.failures_b as f64, None),
            Subject::Loss => (comparison.lost_a as f64, comparison.lost_b as f64, None),
            Subject::FaultsPerSecond => match all.faults_per_s_a.zip(all.faults_per_s_b) {
                Some((a, b)) => (a, b, None),
                None => return Verdict::Unknown,
            },
        };
        let (left, right, relative) = match self.value {
            Quantity::Times(times) if a > 0.0 => (b / a, times, true),
            Quantity::Percent(percent) if a > 0.0 => ((b - a) / a * 100.0, percent, true),
            Quantity::Times(_) | Quantity::Percent(_) => return Verdict::Unknown,
            Quantity::Number(value) | Quantity::Nanoseconds(value) => (b, value, false),
        };
        if !self.sign.holds(left, right) {
            return Verdict::No;
        }
        let found = match self.value {
            Quantity::Times(_) => format!("{left:.2}x"),
            Quantity::Percent(_) => format!("{left:.1}%"),
            Quantity::Nanoseconds(_) => format!("{left:.0} ns"),
            Quantity::Number(_) => format!("{left}"),
        };
        if relative && certain == Some(false) {
            Verdict::Uncertain { found }
        } else {
            Verdict::Holds { found }
        }
    }
}

/// The figure of both in ns, and whether the change is certain.
fn of_stage(all: &GroupChange, stage: Stage, figure: Figure) -> Option<(f64, f64, Option<bool>)> {
    let stage = all.stages.iter().find(|other| other.stage == stage)?;
    let change = stage.changes.iter().find(|change| change.figure == figure)?;
    Some((change.a?.ns as f64, change.b?.ns as f64, change.certain))
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

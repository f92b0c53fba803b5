//! Two runs beside each other: what differs, by how much, and how sure that is.
//!
//! [`Collector`] folds a run into groups, [`compare`] sets two of them side by side. Pure. Percentiles have distribution-free ranges from the
//! ranks of the sorted values (95 %), the mean one from the spread, the shift as a whole the chance that a fault of the second run is slower
//! (Mann-Whitney, from the histograms). All take faults as independent, which those of one storm are not quite: docs/compare.md.

mod condition;
mod run;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use condition::{Checked, Condition, Verdict};
pub use run::{ALL, By, Collector, Difference, Run, Severity, process_group};

use crate::hist::{Latency, Summary};
use crate::stages::Stage;

/// Standard deviations of a 95 % range.
const Z95: f64 = 1.96;
/// With fewer values than this a mean has no range: how it is distributed still depends on how they are.
const LEAST_FOR_MEAN: u64 = 30;

/// The figures that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    P50,
    P90,
    P99,
    P999,
    Max,
    Mean,
}

impl Figure {
    pub const ALL: [Self; 6] = [Self::P50, Self::P90, Self::P99, Self::P999, Self::Max, Self::Mean];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Max => "max",
            Self::Mean => "mean",
        }
    }

    #[must_use]
    pub const fn of(self, summary: &Summary) -> u64 {
        match self {
            Self::P50 => summary.p50_ns,
            Self::P90 => summary.p90_ns,
            Self::P99 => summary.p99_ns,
            Self::P999 => summary.p999_ns,
            Self::Max => summary.max_ns,
            Self::Mean => summary.mean_ns,
        }
    }

    /// `copy.p99`, as conditions name it.
    pub(crate) fn of_stage(word: &str) -> Option<(Stage, Self)> {
        let (stage, figure) = word.split_once('.')?;
        let stage = Stage::ALL.into_iter().find(|other| other.name() == stage)?;
        Some((stage, Self::ALL.into_iter().find(|other| other.name() == figure)?))
    }

    const fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            Self::Max | Self::Mean => None,
        }
    }
}

/// A figure of one run, and where it lies with 95 % confidence; null where that cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    pub ns: u64,
    pub low_ns: Option<u64>,
    pub high_ns: Option<u64>,
}

impl Estimate {
    fn of(latency: &Latency, figure: Figure) -> Option<Self> {
        let summary = latency.summary()?;
        let [low_ns, high_ns] = match (figure.quantile(), figure) {
            (Some(quantile), _) => ranks(latency, quantile),
            (None, Figure::Mean) => around_mean(latency, &summary),
            (None, _) => [None; 2],
        };
        Some(Self { ns: figure.of(&summary), low_ns, high_ns })
    }
}

/// The values whose ranks enclose a percentile, rounded outwards; `None` where so few values lie beyond it that the rank does not exist.
fn ranks(latency: &Latency, quantile: f64) -> [Option<u64>; 2] {
    let count = latency.count() as f64;
    let spread = Z95 * (count * quantile * (1.0 - quantile)).sqrt();
    [(count * quantile - spread).floor(), (count * quantile + spread).ceil() + 1.0]
        .map(|rank| (rank >= 1.0 && rank <= count).then(|| latency.percentile(rank / count)).flatten())
}

/// Where the mean lies, from the spread of the values; `None` of few values, and where some are longer than is told apart.
fn around_mean(latency: &Latency, summary: &Summary) -> [Option<u64>; 2] {
    if summary.count < LEAST_FOR_MEAN || summary.clamped > 0 {
        return [None; 2];
    }
    let mean = summary.mean_ns as f64;
    let squares: f64 = latency.recorded().map(|(ns, count)| (ns as f64 - mean).powi(2) * count as f64).sum();
    let count = summary.count as f64;
    let half = Z95 * (squares / (count - 1.0) / count).sqrt();
    [Some((mean - half).max(0.0).floor() as u64), Some((mean + half).ceil() as u64)]
}

/// One figure of both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    pub figure: Figure,
    pub a: Option<Estimate>,
    pub b: Option<Estimate>,
    /// B less A.
    pub delta_ns: Option<i64>,
    /// B by A.
    pub ratio: Option<f64>,
    /// The ranges of the two do not overlap; null where that cannot be told, for want of values or of a range.
    pub certain: Option<bool>,
}

impl Change {
    /// Of the histograms of two runs.
    #[must_use]
    pub fn new(figure: Figure, a: Option<&Latency>, b: Option<&Latency>) -> Self {
        let [a, b] = [a, b].map(|latency| latency.and_then(|latency| Estimate::of(latency, figure)));
        let both = a.zip(b);
        Self {
            figure,
            a,
            b,
            delta_ns: both.and_then(|(a, b)| i64::try_from(i128::from(b.ns) - i128::from(a.ns)).ok()),
            ratio: both.filter(|(a, _)| a.ns > 0).map(|(a, b)| b.ns as f64 / a.ns as f64),
            certain: both.and_then(|(a, b)| {
                let apart = |below: Option<u64>, above: Option<u64>| Some(below? < above?);
                match (apart(a.high_ns, b.low_ns), apart(b.high_ns, a.low_ns)) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                }
            }),
        }
    }
}

/// A stage of both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageChange {
    pub stage: Stage,
    pub count_a: u64,
    pub count_b: u64,
    pub changes: Vec<Change>,
    /// The chance that a fault of B is slower than one of A, 0 to 1; 0.5: neither. Null when one has none.
    pub slower: Option<f64>,
    /// That it is not 0.5 is no chance (95 %).
    pub shifted: bool,
}

/// What is compared under one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupChange {
    /// `all`, a WQ, a command on a WQ.
    pub group: String,
    /// Counted from records.
    pub faults_a: u64,
    pub faults_b: u64,
    pub failures_a: u64,
    pub failures_b: u64,
    pub faults_per_s_a: Option<f64>,
    pub faults_per_s_b: Option<f64>,
    pub stages: Vec<StageChange>,
}

/// Two runs beside each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// What is not the same about the runs themselves.
    pub differences: Vec<Difference>,
    /// The first one is of everything.
    pub groups: Vec<GroupChange>,
    /// Events that were lost, of each.
    pub lost_a: u64,
    pub lost_b: u64,
    /// A percentile is at most so much above the value it stands for.
    pub bucket_error: f64,
    /// Of `--fail-if`.
    #[serde(default)]
    pub conditions: Vec<Checked>,
}

impl Comparison {
    /// Holds conditions against the group of everything.
    pub fn check(&mut self, conditions: &[Condition]) {
        self.conditions = conditions
            .iter()
            .map(|condition| Checked { condition: condition.to_string(), verdict: condition.check(self) })
            .collect();
    }
}

/// Sets two runs side by side: groups of both, most faults first, after the one of everything.
#[must_use]
pub fn compare(a: &Run, b: &Run) -> Comparison {
    let mut names: Vec<&str> = a.groups.keys().chain(b.groups.keys()).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let faults =
        |name: &&str| [a, b].map(|run| run.groups.get(*name).map_or(0, |g| g.faults)).iter().sum::<u64>();
    names.sort_by_key(|name| (*name != ALL, std::cmp::Reverse(faults(name))));
    let groups = names.into_iter().map(|name| group(name, a, b)).collect();
    Comparison {
        differences: run::differences(a, b),
        groups,
        lost_a: a.lost,
        lost_b: b.lost,
        bucket_error: 10f64.powi(-i32::from(crate::hist::DIGITS)),
        conditions: Vec::new(),
    }
}

fn group(name: &str, a: &Run, b: &Run) -> GroupChange {
    let [of_a, of_b] = [a, b].map(|run| run.groups.get(name));
    let stages = Stage::ALL.into_iter().filter_map(|stage| {
        let [la, lb] = [of_a, of_b].map(|group| group.and_then(|group| group.latency.get(stage)));
        let (slower, shifted) = la.zip(lb).map_or((None, false), |(a, b)| shift(a, b));
        la.or(lb).map(|_| StageChange {
            stage,
            count_a: la.map_or(0, Latency::count),
            count_b: lb.map_or(0, Latency::count),
            changes: Figure::ALL.map(|figure| Change::new(figure, la, lb)).to_vec(),
            slower,
            shifted,
        })
    });
    let rate = |run: &Run, faults: u64| (run.span_ns > 0).then(|| faults as f64 * 1e9 / run.span_ns as f64);
    let count = |group: Option<&run::Group>| group.map_or((0, 0), |group| (group.faults, group.failures));
    let ((faults_a, failures_a), (faults_b, failures_b)) = (count(of_a), count(of_b));
    GroupChange {
        group: name.into(),
        faults_a,
        faults_b,
        failures_a,
        failures_b,
        faults_per_s_a: rate(a, faults_a),
        faults_per_s_b: rate(b, faults_b),
        stages: stages.collect(),
    }
}

/// Mann-Whitney over the buckets of two histograms: the chance that a value of B is the larger (ties count half), and whether it differs
/// from a half by more than chance.
fn shift(a: &Latency, b: &Latency) -> (Option<f64>, bool) {
    let (count_a, count_b) = (a.count() as f64, b.count() as f64);
    let (mut below, mut wins, mut ties) = (0.0, 0.0, 0.0);
    let (mut of_a, mut of_b) = (a.recorded().peekable(), b.recorded().peekable());
    while let Some(value) = of_a.peek().into_iter().chain(of_b.peek()).map(|&(value, _)| value).min() {
        let in_a = of_a.next_if(|&(at, _)| at == value).map_or(0.0, |(_, count)| count as f64);
        let in_b = of_b.next_if(|&(at, _)| at == value).map_or(0.0, |(_, count)| count as f64);
        wins += in_b * (below + in_a / 2.0);
        below += in_a;
        let together: f64 = in_a + in_b;
        ties += together.powi(3) - together;
    }
    let pairs = count_a * count_b;
    if pairs == 0.0 {
        return (None, false);
    }
    let all = count_a + count_b;
    let variance = pairs / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)).max(1.0));
    let z = if variance > 0.0 { (wins - pairs / 2.0) / variance.sqrt() } else { 0.0 };
    (Some(wins / pairs), z.abs() > Z95)
}

#[cfg(test)]
mod tests;

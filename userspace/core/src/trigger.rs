//! Triggers of the flight recorder: when something has gone wrong, told once each time it begins.
//!
//! `METRIC > VALUE [for DURATION]`, or a metric that has a value of its own (`loss`, `failure-ratio`). Pure: time is that of the stream. Looked
//! at with each tick, but for `loss` and a single fault's time; a fault costs nothing else than to be counted where percentiles are asked for.

use std::fmt;
use std::str::FromStr;

use crate::compare::Figure;
use crate::event::Event;
use crate::expression::{Comparison, ConditionError, Quantity, Reader, nearest};
use crate::hist::Latency;
use crate::model::Model;
use crate::stages::Stage;

/// What `failure-ratio` alone means, in percent of the faults of the last two seconds.
pub const FAILURE_RATIO_PERCENT: f64 = 1.0;

/// Percentiles are of the faults of so long at least, and twice as long at most.
const RECENT_NS: u64 = 1_000_000_000;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Over the last two seconds.
    FaultsPerSecond,
    FailuresPerSecond,
    /// Percent of the faults of the last two seconds.
    FailureRatio,
    /// Events lost so far: fires each time that there are more.
    Loss,
    /// Percent of its size that the fullest event log was found filled at the last interrupt.
    EventLog,
    /// One fault's time in a stage.
    Stage(Stage),
    /// Of the faults of the last one to two seconds.
    Figure(Stage, Figure),
}

impl Metric {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "faults/s" => Self::FaultsPerSecond,
            "failures/s" => Self::FailuresPerSecond,
            "failure-ratio" => Self::FailureRatio,
            "loss" => Self::Loss,
            "event-log" => Self::EventLog,
            word => match Figure::of_stage(word) {
                Some((stage, figure)) => Self::Figure(stage, figure),
                None => Self::Stage(Stage::ALL.into_iter().find(|stage| stage.name() == word)?),
            },
        })
    }

    const NAMES: [&str; 5] = ["faults/s", "failures/s", "failure-ratio", "loss", "event-log"];

    /// Words that name one, without those of a stage's figures.
    fn names() -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().chain(Stage::ALL.map(Stage::name))
    }

    /// Every word that names one.
    fn words() -> String {
        let stages = Stage::ALL.map(Stage::name).join(" ");
        let figures = Figure::ALL.map(Figure::name).join(" .");
        format!("{} {stages}, or of a stage .{figures}", Self::NAMES.join(" "))
    }
}

/// Latencies of the last one to two spans of [`RECENT_NS`].
#[derive(Clone, Debug, Default)]
struct Recent {
    older: Latency,
    newer: Latency,
    /// When the newer began.
    since_ns: Option<u64>,
}

impl Recent {
    /// The figure at this tick; `None` without faults.
    fn tick(&mut self, now_ns: u64, figure: Figure) -> Option<f64> {
        let mut both = self.older.clone();
        both.merge(&self.newer);
        if now_ns.saturating_sub(*self.since_ns.get_or_insert(now_ns)) >= RECENT_NS {
            self.older = std::mem::take(&mut self.newer);
            self.since_ns = Some(now_ns);
        }
        both.summary().map(|summary| figure.of(&summary) as f64)
    }
}

/// A condition that was read, and whether it holds.
#[derive(Clone, Debug)]
pub struct Trigger {
    text: String,
    metric: Metric,
    comparison: Comparison,
    value: f64,
    /// How long it has to hold.
    for_ns: u64,
    /// Since when it holds.
    since_ns: Option<u64>,
    fired: bool,
    lost: u64,
    /// Where a figure of a stage is asked for.
    recent: Option<Box<Recent>>,
}

/// What a trigger has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fired {
    pub at_ns: u64,
    /// The condition, and what it was found to be.
    pub what: String,
}

impl FromStr for Trigger {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let mut reader = Reader::new(text);
        let word = reader.word();
        let Some(metric) = Metric::parse(word) else {
            return Err(reader.error(match nearest(word, Metric::names()) {
                Some(near) => format!("no such metric: did you mean {near}?"),
                None if word.is_empty() => format!("a metric is missing: one of {}", Metric::words()),
                None => format!("no such metric: one of {}", Metric::words()),
            }));
        };
        let (mut comparison, mut value, mut for_ns) = (Comparison::Above, 0.0, 0);
        let alone = Reader::new(text.trim().strip_prefix(word).unwrap_or_default()).end().is_ok();
        match metric {
            Metric::Loss if alone => {}
            Metric::FailureRatio if alone => value = FAILURE_RATIO_PERCENT,
            Metric::Loss => return Err(reader.error("loss stands alone")),
            _ => {
                comparison = reader.comparison()?;
                value = match (metric, reader.quantity()?) {
                    (Metric::Stage(_) | Metric::Figure(..), Quantity::Nanoseconds(ns)) => ns,
                    (Metric::Stage(_) | Metric::Figure(..), _) => {
                        return Err(reader.error("expected a time, such as 1ms"));
                    }
                    (Metric::FailureRatio | Metric::EventLog, Quantity::Percent(percent)) => percent,
                    (Metric::FailureRatio | Metric::EventLog, _) => {
                        return Err(reader.error("expected a share, such as 10%"));
                    }
                    (_, Quantity::Number(number)) => number,
                    _ => return Err(reader.error("expected a number")),
                };
                match reader.word() {
                    "" => {}
                    "for" => {
                        let Quantity::Nanoseconds(ns) = reader.quantity()? else {
                            return Err(reader.error("expected a time, such as 2s"));
                        };
                        if matches!(metric, Metric::Stage(_)) {
                            return Err(reader.error("one fault's time holds for no time"));
                        }
                        for_ns = ns as u64;
                    }
                    _ => return Err(reader.error("expected `for` and a time, or nothing")),
                }
                reader.end()?;
            }
        }
        let text = text.trim().to_owned();
        let recent = matches!(metric, Metric::Figure(..)).then(Box::default);
        Ok(Self { text, metric, comparison, value, for_ns, since_ns: None, fired: false, lost: 0, recent })
    }
}

impl Trigger {
    /// To be told of every event, after the model. Says when the condition has come to hold; again only after it did not.
    pub fn update(&mut self, model: &Model, event: &Event) -> Option<Fired> {
        let at_ns = event.at_ns();
        match (self.metric, event) {
            (Metric::Stage(stage), Event::Fault(fault)) => {
                let ns = fault.durations().get(stage)?;
                self.comparison.holds(ns as f64, self.value).then(|| self.fired(at_ns, &format!("{ns} ns")))
            }
            (Metric::Figure(stage, _), Event::Fault(fault)) => {
                let ns = fault.durations().get(stage)?;
                self.recent.as_mut()?.newer.record(ns);
                None
            }
            (Metric::Loss, Event::Hole(_) | Event::Snapshot(_)) => {
                let lost = model.ledger().lost();
                let more = lost > self.lost;
                self.lost = self.lost.max(lost);
                more.then(|| self.fired(at_ns, &format!("{lost} events")))
            }
            (Metric::Stage(_) | Metric::Loss, _) => None,
            (_, Event::Tick { now_ns }) => self.tick(model, *now_ns),
            _ => None,
        }
    }

    fn tick(&mut self, model: &Model, now_ns: u64) -> Option<Fired> {
        let found = match (self.metric, &mut self.recent) {
            (Metric::Figure(_, figure), Some(recent)) => recent.tick(now_ns, figure),
            _ => self.found(model),
        };
        let Some(found) = found.filter(|&found| self.comparison.holds(found, self.value)) else {
            (self.since_ns, self.fired) = (None, false);
            return None;
        };
        let since_ns = *self.since_ns.get_or_insert(now_ns);
        if self.fired || now_ns.saturating_sub(since_ns) < self.for_ns {
            return None;
        }
        self.fired = true;
        let unit = if matches!(self.metric, Metric::Figure(..)) { " ns" } else { "" };
        Some(self.fired(now_ns, &format!("{found:.1}{unit}")))
    }

    /// `None`: not known.
    fn found(&self, model: &Model) -> Option<f64> {
        let header = model.header();
        match self.metric {
            Metric::FaultsPerSecond => header.faults_per_s,
            Metric::FailuresPerSecond => header.failures_per_s,
            Metric::FailureRatio => {
                let faults = header.faults_per_s.filter(|&faults| faults > 0.0)?;
                Some(header.failures_per_s? / faults * 100.0)
            }
            Metric::EventLog => model
                .event_logs()
                .filter_map(|log| Some(f64::from(log.last_depth?) / f64::from(log.size?) * 100.0))
                .reduce(f64::max),
            Metric::Loss | Metric::Stage(_) | Metric::Figure(..) => None,
        }
    }

    fn fired(&self, at_ns: u64, found: &str) -> Fired {
        Fired { at_ns, what: format!("{self} ({found})") }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;

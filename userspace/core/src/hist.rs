//! Latency histograms: three significant digits, nanoseconds, bounded memory.
//!
//! Range 1 ns to [`HIGHEST_NS`] (68.7 s); longer values count at the limit and are counted as clamped. A histogram is created
//! with its first value and grows to the largest seen: 45 KiB up to 1 ms, 86 KiB up to 1 s, 110 KiB at the limit. A
//! [`StageHistograms`] has seven at most, so 770 KiB. The model keeps four and those of 32 files, as a default: 27 MiB at the very
//! worst, and two fifths of that where faults take less than a millisecond. Where more files fault than that, those of up to 32 WQs are
//! added, for the rest.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stages::{Durations, Stage};

/// Longest value that is told apart: 2^36 - 1 ns.
pub const HIGHEST_NS: u64 = (1 << 36) - 1;
/// Range a new histogram has before it must grow: about 1 ms.
const FIRST_NS: u64 = (1 << 20) - 1;
/// Significant decimal digits: a percentile is at most 0.1 % above the value it stands for.
pub const DIGITS: u8 = 3;

/// Latencies of one stage.
#[derive(Clone, Debug)]
pub struct Latency {
    inner: Histogram<u32>,
    count: u64,
    clamped: u64,
    sum_ns: u128,
    max_ns: u64,
    min_ns: u64,
}

/// The figures of a histogram. Count, mean, min and max are exact; percentiles are within 0.1 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    pub count: u64,
    pub mean_ns: u64,
    pub min_ns: u64,
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    /// Values beyond the range, counted at its end.
    pub clamped: u64,
}

/// One bar of a histogram for display: values in `[from_ns, to_ns)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub from_ns: u64,
    pub to_ns: u64,
    pub count: u64,
}

impl Default for Latency {
    fn default() -> Self {
        let mut inner = Histogram::new_with_bounds(1, FIRST_NS, DIGITS).expect("constant bounds are valid");
        inner.auto(true);
        Self { inner, count: 0, clamped: 0, sum_ns: 0, max_ns: 0, min_ns: u64::MAX }
    }
}

impl Latency {
    pub fn record(&mut self, ns: u64) {
        self.count += 1;
        self.sum_ns += u128::from(ns);
        self.max_ns = self.max_ns.max(ns);
        self.min_ns = self.min_ns.min(ns);
        self.clamped += u64::from(ns > HIGHEST_NS);
        // Fails only when it cannot grow, and it may; counters saturate.
        let _ = self.inner.record(ns.min(HIGHEST_NS));
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.clamped += other.clamped;
        self.sum_ns += other.sum_ns;
        self.max_ns = self.max_ns.max(other.max_ns);
        self.min_ns = self.min_ns.min(other.min_ns);
        // Fails only when it cannot grow, and it may.
        let _ = self.inner.add(&other.inner);
    }

    /// What was recorded after `before`, an earlier state of this one: values from `min_ns` to `max_ns`.
    fn since(&self, before: &Self, min_ns: u64, max_ns: u64) -> Self {
        let mut inner = self.inner.clone();
        // Fails only when it has less than `before`.
        let _ = inner.subtract(&before.inner);
        Self {
            inner,
            count: self.count - before.count,
            clamped: self.clamped - before.clamped,
            sum_ns: self.sum_ns - before.sum_ns,
            max_ns,
            min_ns,
        }
    }

    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Exact, longer values than are told apart included.
    #[must_use]
    pub const fn sum_ns(&self) -> u128 {
        self.sum_ns
    }

    /// All figures in one pass; `None` when nothing was recorded.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        if self.count == 0 {
            return None;
        }
        let [p50_ns, p90_ns, p99_ns, p999_ns] = self.percentiles([0.5, 0.9, 0.99, 0.999]);
        Some(Summary {
            count: self.count,
            mean_ns: u64::try_from(self.sum_ns / u128::from(self.count)).unwrap_or(u64::MAX),
            min_ns: self.min_ns,
            p50_ns,
            p90_ns,
            p99_ns,
            p999_ns,
            max_ns: self.max_ns,
            clamped: self.clamped,
        })
    }

    /// The value that the fraction `quantile` (0 to 1) of all values does not exceed.
    #[must_use]
    pub fn percentile(&self, quantile: f64) -> Option<u64> {
        (self.count > 0).then(|| self.percentiles([quantile])[0])
    }

    fn percentiles<const N: usize>(&self, quantiles: [f64; N]) -> [u64; N] {
        quantiles.map(|quantile| match self.inner.value_at_quantile(quantile) {
            // Nothing so short: a counter is full and no longer counts, so that the sum is never reached.
            0 if self.min_ns > 0 => self.max_ns,
            value => value.min(self.max_ns),
        })
    }

    /// Each bucket that holds a value: the highest value it stands for, and its count; in rising order.
    pub fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        self.inner.iter_recorded().map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
    }

    /// Bars with `per_decade` equal steps of the logarithm, from the first to the last that holds a value.
    #[must_use]
    pub fn bars(&self, per_decade: u32) -> Vec<Bar> {
        let steps = f64::from(per_decade.max(1));
        let edge = |number: i32| 10f64.powf(f64::from(number) / steps).ceil() as u64;
        let mut bars: Vec<Bar> = Vec::new();
        let mut number = 0;
        for step in self.inner.iter_recorded() {
            let value = self.inner.lowest_equivalent(step.value_iterated_to()).max(1);
            if bars.is_empty() {
                number = ((value as f64).log10() * steps).floor() as i32;
                while edge(number) > value {
                    number -= 1;
                }
            }
            while bars.last().is_none_or(|bar| bar.to_ns <= value) {
                let (from_ns, to_ns) = (edge(number), edge(number + 1));
                number += 1;
                if to_ns > from_ns && (!bars.is_empty() || to_ns > value) {
                    bars.push(Bar { from_ns, to_ns, count: 0 });
                }
            }
            if let Some(bar) = bars.last_mut() {
                bar.count += step.count_since_last_iteration();
            }
        }
        bars
    }
}

/// One bar of two histograms on one axis: how many values of each are in `[from_ns, to_ns)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarPair {
    pub from_ns: u64,
    pub to_ns: u64,
    pub counts: [u64; 2],
}

/// Bars of two histograms, as [`Latency::bars`] of both together has them.
#[must_use]
pub fn bar_pairs(both: [Option<&Latency>; 2], per_decade: u32) -> Vec<BarPair> {
    let mut together = Latency::default();
    both.into_iter().flatten().for_each(|latency| together.merge(latency));
    // The edges of each are the same steps of the logarithm.
    let mut own = both
        .map(|latency| latency.map_or(Vec::new(), |latency| latency.bars(per_decade)).into_iter().peekable());
    let pair = |Bar { from_ns, to_ns, .. }: Bar| {
        let count = |bars: &mut std::iter::Peekable<std::vec::IntoIter<Bar>>| {
            bars.next_if(|bar| bar.from_ns == from_ns).map_or(0, |bar| bar.count)
        };
        BarPair { from_ns, to_ns, counts: own.each_mut().map(count) }
    };
    together.bars(per_decade).into_iter().map(pair).collect()
}

/// Latencies of every stage, each created with its first value.
#[derive(Clone, Debug, Default)]
pub struct StageHistograms {
    stages: [Option<Box<Latency>>; Stage::COUNT],
    summaries: [Option<Summary>; Stage::COUNT],
    stale: bool,
}

impl StageHistograms {
    pub fn record(&mut self, durations: &Durations) {
        for stage in Stage::ALL {
            if let Some(ns) = durations.get(stage) {
                self.stale = true;
                match &mut self.stages[stage.index()] {
                    Some(latency) => latency.record(ns),
                    none => none.insert(Box::default()).record(ns),
                }
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            if let Some(theirs) = theirs {
                mine.get_or_insert_default().merge(theirs);
                self.stale = true;
            }
        }
    }

    /// What was recorded after `before`, an earlier state of these, of which `extremes` are the shortest and the longest.
    #[must_use]
    pub fn since(&self, before: &Self, extremes: &Extremes) -> Self {
        let mut since = Self { stale: true, ..Self::default() };
        for (stage, latency) in since.stages.iter_mut().enumerate() {
            *latency = match (&self.stages[stage], &before.stages[stage]) {
                (Some(now), Some(before)) if now.count > before.count => {
                    Some(Box::new(now.since(before, extremes.min_ns[stage], extremes.max_ns[stage])))
                }
                (Some(now), None) => Some(now.clone()),
                _ => None,
            };
        }
        since.refresh();
        since
    }

    /// Takes over what `other` has recorded; the figures stay as of the last refresh.
    pub(crate) fn take_values(&mut self, other: Self) {
        self.stages = other.stages;
        self.stale = true;
    }

    #[must_use]
    pub fn get(&self, stage: Stage) -> Option<&Latency> {
        self.stages[stage.index()].as_deref()
    }

    /// The figures as of the last [`Self::refresh`]: what a frame shows.
    #[must_use]
    pub fn summary(&self, stage: Stage) -> Option<Summary> {
        self.summaries[stage.index()]
    }

    /// The figures of this moment.
    #[must_use]
    pub fn summary_now(&self, stage: Stage) -> Option<Summary> {
        self.get(stage)?.summary()
    }

    /// Brings the figures up to date when values have come since.
    pub fn refresh(&mut self) {
        if std::mem::take(&mut self.stale) {
            for (summary, latency) in self.summaries.iter_mut().zip(&self.stages) {
                *summary = latency.as_ref().and_then(|latency| latency.summary());
            }
        }
    }
}

/// The shortest and the longest of every stage.
#[derive(Clone, Debug)]
pub struct Extremes {
    min_ns: [u64; Stage::COUNT],
    max_ns: [u64; Stage::COUNT],
}

impl Default for Extremes {
    fn default() -> Self {
        Self { min_ns: [u64::MAX; Stage::COUNT], max_ns: [0; Stage::COUNT] }
    }
}

impl Extremes {
    pub fn record(&mut self, durations: &Durations) {
        for stage in Stage::ALL {
            if let Some(ns) = durations.get(stage) {
                let (min_ns, max_ns) = (&mut self.min_ns[stage.index()], &mut self.max_ns[stage.index()]);
                (*min_ns, *max_ns) = (ns.min(*min_ns), ns.max(*max_ns));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = u64> {
        (0u32..36).prop_flat_map(|bits| 0..(1u64 << bits))
    }

    proptest! {
        #[test]
        fn percentiles_agree_with_the_sorted_values(mut values in prop::collection::vec(value(), 1..400)) {
            let mut latency = Latency::default();
            values.iter().for_each(|&v| latency.record(v));
            values.sort_unstable();
            let summary = latency.summary().unwrap();
            let exact = |q: f64| values[((q * values.len() as f64).ceil() as usize).max(1) - 1];
            for (got, q) in [(summary.p50_ns, 0.5), (summary.p90_ns, 0.9), (summary.p99_ns, 0.99), (summary.p999_ns, 0.999)] {
                let want = exact(q);
                prop_assert!(got >= want && got as f64 <= want as f64 * 1.001 + 1.0, "q {q}: got {got}, sorted {want}");
            }
            prop_assert_eq!(summary.max_ns, *values.last().unwrap());
            prop_assert_eq!(summary.min_ns, values[0]);
            prop_assert_eq!(summary.mean_ns, values.iter().sum::<u64>() / values.len() as u64);
        }

        #[test]
        fn merging_is_recording_together(a in prop::collection::vec(value(), 0..100), b in prop::collection::vec(value(), 1..100)) {
            let record = |values: &[u64]| {
                let mut latency = Latency::default();
                values.iter().for_each(|&v| latency.record(v));
                latency
            };
            let mut merged = record(&a);
            merged.merge(&record(&b));
            prop_assert_eq!(merged.summary(), record(&[a, b].concat()).summary());
        }

        #[test]
        fn bars_hold_every_value(values in prop::collection::vec(value(), 1..200), per_decade in 1u32..12) {
            let mut latency = Latency::default();
            values.iter().for_each(|&v| latency.record(v));
            let bars = latency.bars(per_decade);
            prop_assert_eq!(bars.iter().map(|b| b.count).sum::<u64>(), values.len() as u64);
            prop_assert!(bars.iter().all(|b| b.from_ns < b.to_ns));
            prop_assert!(bars.windows(2).all(|pair| pair[0].to_ns == pair[1].from_ns));
            prop_assert!(bars[0].count > 0 && bars.last().unwrap().count > 0);
        }
    }

    #[test]
    fn two_histograms_share_an_axis() {
        let latency = |values: &[u64]| {
            let mut latency = Latency::default();
            values.iter().for_each(|&ns| latency.record(ns));
            latency
        };
        let (a, b) = (latency(&[1000, 1000, 2000, 50_000]), latency(&[4000, 9000]));
        let pairs = bar_pairs([Some(&a), Some(&b)], 5);
        assert!(pairs.windows(2).all(|pair| pair[0].to_ns == pair[1].from_ns));
        for (side, latency) in [&a, &b].into_iter().enumerate() {
            let counted = pairs.iter().filter(|pair| pair.counts[side] > 0);
            let counted: Vec<_> = counted.map(|pair| (pair.from_ns, pair.to_ns, pair.counts[side])).collect();
            let own = latency.bars(5).into_iter().filter(|bar| bar.count > 0);
            assert_eq!(counted, own.map(|bar| (bar.from_ns, bar.to_ns, bar.count)).collect::<Vec<_>>());
        }
        assert_eq!(bar_pairs([None, None], 5), []);
    }

    #[test]
    fn beyond_the_range_is_clamped_and_said() {
        let mut latency = Latency::default();
        latency.record(HIGHEST_NS + 1);
        latency.record(u64::MAX);
        let summary = latency.summary().unwrap();
        assert_eq!((summary.count, summary.clamped, summary.max_ns), (2, 2, u64::MAX));
        assert!(latency.inner.distinct_values() * 4 <= 110 << 10, "{}", latency.inner.distinct_values() * 4);
    }
}

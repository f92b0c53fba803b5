//! One latency histogram as Prometheus takes it: classic buckets with fixed bounds, and native ones that grow by 9 %.
//!
//! Both are made in one pass over the recorded values, so that they always agree. A recorded value stands for a range of 0.1 % at most
//! and is placed by its highest, as in percentiles, so a value just below a bound may be counted above it.

use std::collections::BTreeMap;

use dsascope_core::hist::Latency;
use dsascope_core::metrics::BUCKETS_NS;

/// Of native histograms: each power of two is cut into 2^3.
pub const SCHEMA: i32 = 3;
/// Values up to here are in a native histogram's bucket of zero.
pub const ZERO_NS: u64 = 1;

/// A run of native buckets that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// From the end of the span before, or from bucket 0.
    pub offset: i32,
    pub length: u32,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    count: u64,
    sum_ns: u128,
    /// Not cumulative; the last has no bound.
    classic: [u64; Distribution::BUCKETS],
    zero: u64,
    native: BTreeMap<i32, u64>,
}

impl Distribution {
    /// Classic buckets, with the one that has no bound.
    pub const BUCKETS: usize = BUCKETS_NS.len() + 1;

    #[must_use]
    pub fn new(latency: &Latency) -> Self {
        let mut new = Self { sum_ns: latency.sum_ns(), ..Self::default() };
        let mut fullest = (0, 0);
        for (ns, count) in latency.recorded() {
            new.add(ns, count);
            if count > fullest.1 {
                fullest = (ns, count);
            }
        }
        // A counter of the histogram that was full has lost these.
        new.add(fullest.0, latency.count().saturating_sub(new.count));
        new
    }

    fn add(&mut self, ns: u64, count: u64) {
        if count == 0 {
            return;
        }
        self.count += count;
        self.classic[BUCKETS_NS.partition_point(|&bound_ns| bound_ns < ns)] += count;
        if ns <= ZERO_NS {
            self.zero += count;
        } else {
            *self.native.entry(native_bucket(ns)).or_default() += count;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.zero += other.zero;
        for (mine, theirs) in self.classic.iter_mut().zip(other.classic) {
            *mine += theirs;
        }
        for (&bucket, count) in &other.native {
            *self.native.entry(bucket).or_default() += count;
        }
    }

    /// Without what is in `part`.
    pub(super) fn subtract(&mut self, part: &Self) {
        self.count = self.count.saturating_sub(part.count);
        self.sum_ns = self.sum_ns.saturating_sub(part.sum_ns);
        self.zero = self.zero.saturating_sub(part.zero);
        for (mine, theirs) in self.classic.iter_mut().zip(part.classic) {
            *mine = mine.saturating_sub(theirs);
        }
        for (bucket, theirs) in &part.native {
            if let Some(mine) = self.native.get_mut(bucket) {
                *mine = mine.saturating_sub(*theirs);
            }
        }
        self.native.retain(|_, count| *count > 0);
    }

    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    #[must_use]
    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// Upper bounds with the count up to there; the last bound is none.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = BUCKETS_NS.into_iter().map(Some).chain([None]);
        bounds.zip(self.classic).scan(0, |sum, (bound_ns, count)| {
            *sum += count;
            Some((bound_ns, *sum))
        })
    }

    /// Count of the native bucket of zero.
    #[must_use]
    pub const fn zero(&self) -> u64 {
        self.zero
    }

    /// Native buckets that hold anything: number and count. Bucket n ends at 2^(n/8) s.
    pub fn native(&self) -> impl Iterator<Item = (i32, u64)> {
        self.native.iter().map(|(&bucket, &count)| (bucket, count))
    }

    /// The native buckets as they are sent: spans, and each count less the one before.
    pub(super) fn spans(&self) -> (Vec<Span>, Vec<i64>) {
        let (mut spans, mut deltas) = (Vec::<Span>::new(), Vec::new());
        let (mut next, mut before) = (0, 0i64);
        for (bucket, count) in self.native() {
            match spans.last_mut() {
                Some(span) if bucket == next => span.length += 1,
                _ => spans.push(Span { offset: bucket - next, length: 1 }),
            }
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            deltas.push(count - before);
            (next, before) = (bucket + 1, count);
        }
        (spans, deltas)
    }
}

/// The first whose end is not below `ns`.
fn native_bucket(ns: u64) -> i32 {
    let seconds = ns as f64 / 1e9;
    (seconds.log2() * f64::from(1 << SCHEMA)).ceil() as i32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn distribution(values: &[u64]) -> Distribution {
        let mut latency = Latency::default();
        values.iter().for_each(|&ns| latency.record(ns));
        Distribution::new(&latency)
    }

    #[test]
    fn a_bound_is_in_its_bucket() {
        let classic = distribution(&[1_000, 1_001, 59_000_000_000, 80_000_000_000]).classic;
        assert_eq!((classic[0], classic[1]), (1, 1));
        // The longest is beyond the range that is told apart.
        assert_eq!((classic[23], classic[24]), (1, 1));
        assert_eq!(native_bucket(500_000_000), -8);
        assert_eq!(native_bucket(500_000_001), -7);
        assert_eq!(native_bucket(1_000_000_000), 0);
        assert_eq!(native_bucket(1_090_000_000), 1);
    }

    #[test]
    fn spans_and_deltas() {
        let whole = distribution(&[0, 1, 480_000_000, 480_000_000, 520_000_000, 1_950_000_000]);
        assert_eq!((whole.zero, whole.count()), (2, 6));
        let (spans, deltas) = whole.spans();
        assert_eq!(spans, [Span { offset: -8, length: 2 }, Span { offset: 14, length: 1 }]);
        assert_eq!(deltas, [2, -1, 0]);
        assert_eq!(Distribution::default().spans(), (vec![], vec![]));
    }

    fn durations() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec((0u32..40).prop_flat_map(|bits| 0..(1u64 << bits)), 0..300)
    }

    proptest! {
        #[test]
        fn classic_and_native_hold_every_value(values in durations()) {
            let whole = distribution(&values);
            let count = values.len() as u64;
            prop_assert_eq!(whole.count(), count);
            prop_assert_eq!(whole.cumulative().last(), Some((None, count)));
            prop_assert_eq!(whole.zero() + whole.native().map(|(_, count)| count).sum::<u64>(), count);
            prop_assert!(whole.cumulative().is_sorted_by_key(|(_, count)| count));
            // Read back as a scraper does.
            let (spans, deltas) = whole.spans();
            let (mut bucket, mut sum, mut deltas) = (0, 0, deltas.into_iter());
            let mut read = Vec::new();
            for span in spans {
                bucket += span.offset;
                for _ in 0..span.length {
                    sum += deltas.next().unwrap();
                    read.push((bucket, sum as u64));
                    bucket += 1;
                }
            }
            prop_assert_eq!(deltas.next(), None);
            prop_assert_eq!(read, whole.native().collect::<Vec<_>>());
        }

        #[test]
        fn every_bound_is_right_within_the_resolution(values in durations()) {
            let whole = distribution(&values);
            for (bound_ns, counted) in whole.cumulative() {
                let Some(bound_ns) = bound_ns else { continue };
                let below = |bound: f64| values.iter().filter(|&&ns| ns as f64 <= bound).count() as u64;
                let (least, exact) = (below(bound_ns as f64 * 0.999), below(bound_ns as f64));
                prop_assert!((least..=exact).contains(&counted), "{bound_ns}: {counted} not in {least}..={exact}");
            }
        }

        #[test]
        fn what_is_subtracted_is_gone(a in durations(), b in durations()) {
            let mut whole = distribution(&[a.clone(), b.clone()].concat());
            whole.subtract(&distribution(&b));
            prop_assert_eq!(whole, distribution(&a));
        }
    }
}

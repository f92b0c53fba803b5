//! Rates over sliding windows. Time comes with each call; a rate exists once some time has passed.

/// Width of a bucket; also the least age of a rate.
pub const BUCKET_NS: u64 = 250_000_000;
/// Buckets kept: one minute.
pub const BUCKETS: usize = 240;

/// Counts of the last minute. 960 bytes, allocated with the first count.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    buckets: Option<Box<[u32; BUCKETS]>>,
    /// Number (time / width) of the newest bucket.
    newest: u64,
}

impl Rate {
    /// `count` more at `at_ns`. What is older than the window is left out.
    pub fn add(&mut self, at_ns: u64, count: u32) {
        let number = at_ns / BUCKET_NS;
        self.advance(number);
        if self.newest - number >= BUCKETS as u64 {
            return;
        }
        let buckets = self.buckets.get_or_insert_with(|| Box::new([0; BUCKETS]));
        let slot = &mut buckets[(number % BUCKETS as u64) as usize];
        *slot = slot.saturating_add(count);
    }

    /// Per second over the last `window_ns` (at most a minute) before `now_ns`, of which only what lies after `since_ns`, when
    /// counting began. `None` before one bucket's width has passed.
    #[must_use]
    pub fn per_second(&self, now_ns: u64, window_ns: u64, since_ns: u64) -> Option<f64> {
        let window_ns = window_ns.clamp(BUCKET_NS, (BUCKETS as u64 - 1) * BUCKET_NS);
        let last = now_ns / BUCKET_NS;
        let first = now_ns.saturating_sub(window_ns).div_ceil(BUCKET_NS).max(since_ns / BUCKET_NS);
        let from_ns = (first * BUCKET_NS).max(since_ns);
        let covered_ns = now_ns.checked_sub(from_ns)?;
        if covered_ns < BUCKET_NS && now_ns.saturating_sub(since_ns) < BUCKET_NS {
            return None;
        }
        let total: u64 = (first..=last).map(|number| u64::from(self.bucket(number))).sum();
        (covered_ns > 0).then(|| total as f64 * 1e9 / covered_ns as f64)
    }

    /// Counts of the last `points` whole spans of `span_ns` (whole buckets) before `now_ns`, oldest first: a sparkline.
    #[must_use]
    pub fn history(&self, now_ns: u64, span_ns: u64, points: usize) -> Vec<u64> {
        (1..=points as u64).rev().map(|back| self.span(now_ns, span_ns, back)).collect()
    }

    /// Count of the `back`th whole span of `span_ns` (whole buckets) before `now_ns`; the last is 1.
    #[must_use]
    pub fn span(&self, now_ns: u64, span_ns: u64, back: u64) -> u64 {
        let width = (span_ns / BUCKET_NS).max(1);
        let end = now_ns / BUCKET_NS;
        let from = end.saturating_sub(back * width);
        (from..end.saturating_sub((back - 1) * width)).map(|number| u64::from(self.bucket(number))).sum()
    }

    fn bucket(&self, number: u64) -> u32 {
        let Some(buckets) = &self.buckets else { return 0 };
        if number > self.newest || self.newest - number >= BUCKETS as u64 {
            return 0;
        }
        buckets[(number % BUCKETS as u64) as usize]
    }

    fn advance(&mut self, number: u64) {
        if number <= self.newest {
            return;
        }
        if let Some(buckets) = &mut self.buckets {
            let steps = (number - self.newest).min(BUCKETS as u64);
            for step in 0..steps {
                buckets[((number - step) % BUCKETS as u64) as usize] = 0;
            }
        }
        self.newest = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_steady_stream_has_its_rate() {
        let mut rate = Rate::default();
        for ms in 0..20_000 {
            rate.add(5 * SECOND + ms * 1_000_000, 1);
        }
        let now = 25 * SECOND;
        for window in [1, 10, 60] {
            let got = rate.per_second(now, window * SECOND, 5 * SECOND).unwrap();
            assert!((got - 1000.0).abs() < 1.0, "{window} s: {got}");
        }
        assert_eq!(rate.history(now, SECOND, 3), [1000, 1000, 1000]);
        // Silence empties the window without further counts.
        assert_eq!(rate.per_second(now + 30 * SECOND, SECOND, 5 * SECOND), Some(0.0));
    }

    #[test]
    fn no_rate_before_time_has_passed() {
        let mut rate = Rate::default();
        rate.add(SECOND, 5);
        assert_eq!(rate.per_second(SECOND, SECOND, SECOND), None);
        assert_eq!(rate.per_second(SECOND + BUCKET_NS / 2, SECOND, SECOND), None);
        assert_eq!(rate.per_second(SECOND + 2 * BUCKET_NS, SECOND, SECOND), Some(10.0));
    }

    #[test]
    fn late_counts_land_in_their_bucket_or_nowhere() {
        let mut rate = Rate::default();
        rate.add(100 * SECOND, 1);
        rate.add(99 * SECOND, 7);
        rate.add(SECOND, 100);
        assert_eq!(rate.history(101 * SECOND, SECOND, 2), [7, 1]);
    }
}

//! How large an event log should be, and how long it takes to fill: arithmetic alone. docs/event-log-sizing.md derives the formula.
//!
//! Refuses: measuring ([`crate::model::EventLog`] does that), and guessing what was not measured.

use dsascope_common::hw::regs::evlstatus::{MAX_SIZE, MIN_SIZE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Advice is rounded up to so many entries: a page of DSA entries.
const STEP: u32 = 64;
/// What was seen is multiplied by this: the largest burst so far is not the largest there is.
const HEADROOM: f64 = 2.0;

/// What loads the log of one device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    /// Entries that the device writes, a second.
    pub entries_per_s: f64,
    /// Time the interrupt thread needs for an entry.
    pub service_ns: f64,
    /// Entries that come at once.
    pub burst: u32,
    /// Longest time that nobody reads the log: a close that holds its lock.
    pub pause_ns: u64,
}

impl Load {
    /// Share of its time that the interrupt thread works for this rate. At 1 and above no size is enough.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.entries_per_s * self.service_ns / 1e9
    }

    /// Entries that the log must hold: the burst, what comes in a pause, and what comes while those are read, because the driver gives
    /// slots free at the end of a run only. `None` when the driver cannot keep up.
    #[must_use]
    pub fn entries_needed(&self) -> Option<f64> {
        let busy = self.utilisation();
        let waiting = f64::from(self.burst) + self.entries_per_s * self.pause_ns as f64 / 1e9;
        let needed = waiting * (1.0 + busy);
        (busy < 1.0 && needed.is_finite() && needed >= 0.0).then_some(needed)
    }

    /// A value for `event_log_size`: the entries needed, twice, and the slot that stays empty; in steps of 64, within what the driver
    /// takes.
    #[must_use]
    pub fn advised_size(&self) -> u32 {
        let Some(needed) = self.entries_needed() else { return MAX_SIZE };
        rounded(needed * HEADROOM + 1.0)
    }
}

fn rounded(entries: f64) -> u32 {
    let steps = (entries / f64::from(STEP)).ceil() * f64::from(STEP);
    // The cast saturates; NaN becomes 0.
    (steps as u32).clamp(MIN_SIZE, MAX_SIZE)
}

/// Entries that a log of `size` takes: one slot stays empty, since head = tail means that it is empty.
#[must_use]
pub const fn usable(size: u32) -> u32 {
    size.saturating_sub(1)
}

/// Nanoseconds until a log of `size` entries that holds `used` is full, when `written_per_s` come and `read_per_s` are read; 0 for
/// reading means that nobody reads. `None`: never.
#[must_use]
pub fn time_to_full_ns(size: u32, used: u32, written_per_s: f64, read_per_s: f64) -> Option<u64> {
    let free = f64::from(usable(size).saturating_sub(used));
    let net = written_per_s - read_per_s;
    let ns = free * 1e9 / net;
    (net > 0.0 && ns.is_finite()).then_some(ns as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CALM: Load = Load { entries_per_s: 0.0, service_ns: 0.0, burst: 0, pause_ns: 0 };

    #[test]
    fn the_example_of_the_document() {
        let load = Load { entries_per_s: 20_000.0, service_ns: 2_000.0, burst: 48, pause_ns: 10_000_000 };
        assert!((load.utilisation() - 0.04).abs() < 1e-9);
        // (48 + 200) * 1.04 = 257.92; twice, and a slot: 516.84.
        assert!((load.entries_needed().unwrap() - 257.92).abs() < 1e-6);
        assert_eq!(load.advised_size(), 576);
        assert_eq!(time_to_full_ns(64, 0, 20_000.0, 0.0), Some(3_150_000));
        assert_eq!(time_to_full_ns(64, 48, 20_000.0, 0.0), Some(750_000));
    }

    #[test]
    fn limits() {
        assert_eq!(CALM.advised_size(), 64);
        assert_eq!(Load { burst: u32::MAX, ..CALM }.advised_size(), 65535);
        let drowning = Load { entries_per_s: 1e6, service_ns: 1_000.0, ..CALM };
        assert_eq!((drowning.entries_needed(), drowning.advised_size()), (None, 65535));
        assert_eq!(time_to_full_ns(64, 0, 100.0, 100.0), None);
        assert_eq!(time_to_full_ns(64, 63, 100.0, 0.0), Some(0));
        assert_eq!(time_to_full_ns(0, 5, 100.0, 0.0), Some(0));
    }

    proptest! {
        #[test]
        fn more_load_never_advises_less(
            rate in 0.0..1e6f64, service in 0.0..1e5f64, burst in 0..70_000u32, pause in 0..1_000_000_000u64, more in 1.0..3.0f64,
        ) {
            let load = Load { entries_per_s: rate, service_ns: service, burst, pause_ns: pause };
            let size = load.advised_size();
            prop_assert!((64..=65535).contains(&size) && (size.is_multiple_of(64) || size == 65535));
            let heavier = [
                Load { entries_per_s: rate * more, ..load },
                Load { burst: burst + 1, ..load },
                Load { pause_ns: pause * 2, ..load },
            ];
            prop_assert!(heavier.iter().all(|load| load.advised_size() >= size));
            if let Some(needed) = load.entries_needed() {
                prop_assert!(size == 65535 || f64::from(usable(size)) >= needed);
            }
        }
    }
}

//! A capture in the live view: where it stands, and what is asked of whoever plays it.

/// Where a capture stands. Times are since tracing began.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// The file's name.
    pub name: String,
    pub at_ns: u64,
    pub end_ns: u64,
    /// Seconds of the capture a second; `None`: as fast as it can be read.
    pub speed: Option<f64>,
    pub paused: bool,
    /// On the way to a place that was asked for.
    pub seeking: bool,
}

/// What only the runner can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Hold the capture, or go on.
    Pause,
    Slower,
    Faster,
    /// Go on to the next fault, and hold there.
    NextFault,
    /// Go on to the end of the next batch with faults, and hold there.
    NextBatch,
    /// So many seconds on, or back.
    Seek(i32),
    Start,
    End,
    /// To the fault with the longest service, and hold there.
    Worst,
    /// Save what the flight recorder holds.
    Save,
    /// Give what is open, marked or selected to the terminal's clipboard: [`crate::view::text`].
    Copy,
}

/// Speeds to choose from; beyond the last one is "as fast as it can be read".
pub const SPEEDS: [f64; 9] = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 1000.0];

impl Ask {
    /// The speed after this one; others leave it.
    #[must_use]
    pub fn speed(self, now: Option<f64>) -> Option<f64> {
        match (self, now) {
            (Self::Slower, None) => SPEEDS.last().copied(),
            (Self::Slower, Some(now)) => {
                Some(SPEEDS.into_iter().rev().find(|&speed| speed < now).unwrap_or(SPEEDS[0]))
            }
            (Self::Faster, Some(now)) => SPEEDS.into_iter().find(|&speed| speed > now),
            _ => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_end_at_both_sides() {
        assert_eq!(Ask::Slower.speed(Some(0.1)), Some(0.1));
        assert_eq!(Ask::Faster.speed(Some(1.0)), Some(2.0));
        assert_eq!(Ask::Faster.speed(Some(0.15)), Some(0.2));
        assert_eq!(Ask::Faster.speed(Some(1000.0)), None);
        assert_eq!(Ask::Faster.speed(None), None);
        assert_eq!(Ask::Slower.speed(None), Some(1000.0));
    }
}

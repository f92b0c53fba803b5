//! How far a long run is, on a terminal's stderr: nothing for what takes less than a second.

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

const AFTER: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(100);
const CELLS: usize = 30;

/// A bar; gone when dropped.
#[derive(Debug)]
pub(crate) struct Bar {
    began: Instant,
    next: Option<Instant>,
    shown: bool,
}

impl Bar {
    /// Shows nothing at all unless it is `wanted` and stderr is a terminal.
    pub(crate) fn new(wanted: bool) -> Self {
        let began = Instant::now();
        let next = (wanted && stderr().is_terminal()).then(|| began + AFTER);
        Self { began, next, shown: false }
    }

    /// `done`: from 0 to 1, when it is known.
    pub(crate) fn show(&mut self, done: Option<f64>) {
        let (Some(next), Some(done)) = (self.next, done) else { return };
        let now = Instant::now();
        if now < next {
            return;
        }
        self.next = Some(now + BETWEEN);
        self.shown = true;
        let full = ((done * CELLS as f64) as usize).min(CELLS);
        let left = self.began.elapsed().as_secs_f64() * (1.0 - done) / done.max(0.001);
        let bar = format!("{}{}", "#".repeat(full), ".".repeat(CELLS - full));
        // A terminal that takes no progress is not worth ending the work for.
        let _ = write!(stderr(), "\r\x1b[K[{bar}] {:.0} %, {left:.0} s left", done * 100.0);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

//! What the tracer and (with --verbose) the eBPF programs log: lines on stderr. While the live view has the terminal they wait, the
//! newest [`KEPT`] of them, and are written when it is given back.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

use crate::terminal;

const KEPT: usize = 200;

static WAITING: Mutex<Waiting> = Mutex::new(Waiting { lines: VecDeque::new(), dropped: 0 });

struct Waiting {
    lines: VecDeque<String>,
    dropped: u64,
}

impl Waiting {
    fn push(&mut self, line: String) {
        if self.lines.len() == KEPT {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line);
    }
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format!("{}: {}", record.level().as_str().to_ascii_lowercase(), record.args());
        if terminal::is_taken() {
            WAITING.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        } else {
            eprintln!("{line}");
        }
    }

    fn flush(&self) {
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.dropped > 0 {
            eprintln!("({} older log lines dropped)", waiting.dropped);
        }
        for line in waiting.lines.drain(..) {
            eprintln!("{line}");
        }
        waiting.dropped = 0;
    }
}

/// Warnings always; with `verbose` all that is logged.
pub(crate) fn init(verbose: bool) {
    log::set_max_level(if verbose { LevelFilter::Trace } else { LevelFilter::Warn });
    // Fails only when it is called twice.
    let _ = log::set_logger(&Stderr);
}

/// Writes what waited.
pub(crate) fn flush() {
    log::logger().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_the_others_counted() {
        let mut waiting = Waiting { lines: VecDeque::new(), dropped: 0 };
        for n in 0..KEPT + 3 {
            waiting.push(n.to_string());
        }
        assert_eq!((waiting.lines.len(), waiting.dropped), (KEPT, 3));
        assert_eq!(waiting.lines.front().map(String::as_str), Some("3"));
    }
}

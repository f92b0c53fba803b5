//! From where on something is worth a word. docs/findings.md has each of them, and why.

/// Faults a second of one file, over two seconds, that may be a storm: where the session has no other (`--storm-rate`).
pub const STORM_PER_S: u64 = 500;
/// So many times the median of the windows before is a change.
pub const STORM_TIMES: u64 = 5;
/// So many times that rate are a storm even if nothing changed, or nothing is known of before.
pub const STORM_ALONE_TIMES: u64 = 10;

/// Faults of a file before a share of them says anything.
pub const RATIO_FAULTS: u64 = 50;
/// The share of failures that must be exceeded for sure, by the lower end of the 95 % interval.
pub const RATIO: f64 = 0.1;

/// Faults of a storm whose pages must be known.
pub const PAGES_FAULTS: u64 = 64;
/// Of them, the share in % on pages that were there before.
pub const GIVEN_BACK_PERCENT: u64 = 20;
/// A page that faults so long after it was brought in was there: no entry waits in the log for as long.
pub const GIVEN_BACK_NS: u64 = 10_000_000;
/// Different pages in %, of the faults.
pub const FRESH_PERCENT: u64 = 90;

/// From here on a close that keeps the event log from being read is worth a word.
pub const HOLD_NS: u64 = 10_000_000;

/// An answer to a page request is late from here on.
pub const LATE_NS: u64 = 10_000_000;
/// Late or refused page requests of a process, and their least share in %.
pub const LATE_REQUESTS: u64 = 20;
pub const LATE_PERCENT: u64 = 10;

/// Own programs, of one CPU: in thousandths. Measured over at least the time below.
pub const OWN_COST_PERMILLE: u64 = 100;
pub const OWN_COST_OVER_NS: u64 = 2_000_000_000;

/// What was not seen for so long is over.
pub const OVER_NS: u64 = 10_000_000_000;

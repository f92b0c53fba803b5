//! A load on a work queue: many verified descriptors from several threads, and what became of them.
//!
//! Owns: the run from its first submission to its report. [`schedule`] says when, [`Shares`] what, [`drive`] in which order;
//! [`Tally`] adds up, [`report`] tells. Refuses: signals, terminals and files; the command has them.

pub mod drive;
pub mod hlog;
mod jobs;
mod lane;
pub mod report;
mod run;
pub mod schedule;
mod tally;
mod words;

pub use jobs::{Jobs, Wanted, all_of};
pub use lane::{Limits, Shares};
pub use report::Report;
pub use run::{Ended, Load, Outcome, Snapshot, bind_memory, run};
pub use tally::{Counts, DIGITS, End, HIGHEST_NS, OfJob, TROUBLES, Tally, Trouble, TroubleKind};
pub use words::Words;

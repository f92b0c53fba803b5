//! Runs of dsascope's programs that the kernel skipped, and what each may have hidden.
//!
//! Programs of the tracing kind are skipped when a task that preempts one comes to the same place (docs/probes.md). dsascope counts
//! them and calls its totals inexact; where it was made to attach so, the books may differ by what was counted, and by no more.
//! Refuses: excusing anything in the other ways to attach, which must miss nothing.

use std::fmt;

use dsascope_core::event::Hook;

use super::Attach;
use super::books::Account;
use super::compare::{Comparison, Difference, Row, Rule};

/// Skipped runs by what they show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Missed {
    /// Of the service: the fault is not seen at all.
    pub(super) starts: u64,
    /// Of the service: the fault ends when its worker begins the next one, or not at all.
    pub(super) ends: u64,
    /// Of either end of the copy: its outcome is not known.
    pub(super) copies: u64,
    pub(super) counters: u64,
    /// Of a file's open: what its faults are booked under.
    pub(super) opens: u64,
    /// Of a file's release: entries that the driver skipped at the close, and its final counters.
    pub(super) releases: u64,
    /// Of the interrupt thread: a run of it is not seen.
    pub(super) interrupts: u64,
    /// Of a command, a halt, a reset or a warning.
    pub(super) devices: u64,
}

impl Missed {
    pub(super) fn of(account: &Account, attach: Attach) -> Self {
        let mut missed = Self::default();
        if attach != Attach::Fentry {
            return missed;
        }
        for program in &account.summary.programs {
            let runs = program.missed.unwrap_or(0);
            match program.hook {
                Some(Hook::ServiceStart) => missed.starts += runs,
                Some(Hook::ServiceEnd) => missed.ends += runs,
                Some(Hook::CopyStart | Hook::CopyEnd) => missed.copies += runs,
                Some(Hook::Counter) => missed.counters += runs,
                Some(Hook::OpenStart | Hook::OpenEnd) => missed.opens += runs,
                Some(Hook::ReleaseStart | Hook::ReleaseDrain | Hook::ReleaseCounters | Hook::ReleaseEnd) => {
                    missed.releases += runs;
                }
                Some(Hook::InterruptStart | Hook::InterruptEnd) => missed.interrupts += runs,
                Some(
                    Hook::CommandStart
                    | Hook::CommandEnd
                    | Hook::HaltSoftware
                    | Hook::HaltFlr
                    | Hook::HaltFinal
                    | Hook::ResetStart
                    | Hook::ResetEnd
                    | Hook::Warning,
                ) => missed.devices += runs,
                // The hand-over gives a time and counts for nothing: its fault has a hole. Page requests and submissions must all be
                // seen.
                Some(
                    Hook::Queued
                    | Hook::PageRequest
                    | Hook::PageResponse
                    | Hook::Submission
                    | Hook::Refusal
                    | Hook::Seen
                    | Hook::WriteStart
                    | Hook::WriteEnd,
                )
                | None => {}
            }
        }
        missed
    }

    pub(super) fn any(self) -> bool {
        self != Self::default()
    }

    /// Faults that may be missing.
    pub(super) fn services(self) -> u64 {
        self.starts + self.ends
    }

    /// Outcomes that may be missing or unknown.
    pub(super) fn outcomes(self) -> u64 {
        self.services() + self.copies
    }

    /// Calls of the driver's counter function that may be missing: its own, and those kept with a fault that never ended.
    pub(super) fn counted(self) -> u64 {
        self.counters + self.ends
    }

    /// Faults of the device that dsascope did not see at all, as far as missed runs explain them.
    fn unseen(self, row: &Row) -> u64 {
        let seen = row.queued.unwrap_or(0) + row.skipped.unwrap_or(0);
        row.device_faults.saturating_sub(seen).min(self.services())
    }

    /// Entries that have no record: skipped at a close, unseen, or lost.
    pub(super) fn without_record(self, row: &Row) -> u64 {
        let absent = match row.skipped {
            Some(skipped) => skipped + self.unseen(row),
            // Nobody saw how many were skipped. Whether it may be so many is for the rule of queued faults.
            None => row.device_faults.saturating_sub(row.queued.unwrap_or(0)),
        };
        absent + row.lost.unwrap_or(0)
    }

    /// Any process may have lost as many faults as runs were missed; all processes together no more than that.
    pub(super) fn explain(self, comparison: &mut Comparison) {
        if !self.any() {
            return;
        }
        let faults: u64 = comparison.rows.iter().map(|row| row.device_faults).sum();
        let unseen: u64 = comparison.rows.iter().map(|row| self.unseen(row)).sum();
        let explained = format!("{unseen} of {faults} faults unseen; the kernel skipped runs of {self}");
        if unseen > self.services() {
            comparison.differences.push(Difference { rule: Rule::Queued, text: explained });
        } else {
            comparison.explained.push(explained);
        }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("service start", self.starts),
            ("service end", self.ends),
            ("copy", self.copies),
            ("counter", self.counters),
            ("open", self.opens),
            ("release", self.releases),
            ("interrupt", self.interrupts),
            ("device", self.devices),
        ];
        let some: Vec<_> =
            all.iter().filter(|(_, runs)| *runs > 0).map(|(what, runs)| format!("{what} {runs}")).collect();
        f.write_str(&some.join(", "))
    }
}

//! Counts of faults by outcome, error, status and operation: the same for a file, a WQ, a device and the whole.

use dsascope_common::hw::completion::status;

use super::by_code::ByCode;
use crate::event::{ContextTotals, CopyOutcome, Fault};

/// Faults counted from records; less than the kernel's totals where records were lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults whose service ended.
    pub faults: u64,
    pub delivered: u64,
    pub failed: u64,
    pub not_copied: u64,
    pub unobserved: u64,
    /// By error code 0x1a, 0x27, 0x26, anything else.
    pub cr_faults: u64,
    pub batch_faults: u64,
    pub drains: u64,
    pub other_errors: u64,
    /// Faults whose end was not seen; not in `faults`.
    pub unfinished: u64,
    /// Status byte of the completion record: as delivered, or as logged where nothing was delivered.
    pub by_status: ByCode,
    pub by_operation: ByCode,
}

impl Counts {
    pub(super) fn add(&mut self, fault: &Fault) {
        if fault.marks.end_missing {
            self.unfinished += 1;
            return;
        }
        self.faults += 1;
        *match fault.copy {
            CopyOutcome::Delivered { .. } => &mut self.delivered,
            CopyOutcome::Short { .. } => &mut self.failed,
            CopyOutcome::NotCopied => &mut self.not_copied,
            CopyOutcome::Unobserved => &mut self.unobserved,
        } += 1;
        *match fault.error() {
            status::CRA_XLAT => &mut self.cr_faults,
            status::BATCH_EVL_ERR => &mut self.batch_faults,
            status::DRAIN_EVL => &mut self.drains,
            _ => &mut self.other_errors,
        } += 1;
        self.by_status.add(fault.delivered_record().unwrap_or(&fault.logged)[0], 1);
        self.by_operation.add(fault.entry.operation(), 1);
    }

    /// What was counted after `before`, an earlier state of these.
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            faults: self.faults - before.faults,
            delivered: self.delivered - before.delivered,
            failed: self.failed - before.failed,
            not_copied: self.not_copied - before.not_copied,
            unobserved: self.unobserved - before.unobserved,
            cr_faults: self.cr_faults - before.cr_faults,
            batch_faults: self.batch_faults - before.batch_faults,
            drains: self.drains - before.drains,
            other_errors: self.other_errors - before.other_errors,
            unfinished: self.unfinished - before.unfinished,
            by_status: self.by_status.since(&before.by_status),
            by_operation: self.by_operation.since(&before.by_operation),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let Self {
            faults,
            delivered,
            failed,
            not_copied,
            unobserved,
            cr_faults,
            batch_faults,
            drains,
            other_errors,
            unfinished,
            by_status,
            by_operation,
        } = other;
        self.faults += faults;
        self.delivered += delivered;
        self.failed += failed;
        self.not_copied += not_copied;
        self.unobserved += unobserved;
        self.cr_faults += cr_faults;
        self.batch_faults += batch_faults;
        self.drains += drains;
        self.other_errors += other_errors;
        self.unfinished += unfinished;
        self.by_status.merge(by_status);
        self.by_operation.merge(by_operation);
    }
}

/// The kernel's exact totals, summed over open files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exact {
    pub queued: u64,
    pub served: u64,
    pub delivered: u64,
    pub failed: u64,
    pub not_copied: u64,
    pub unobserved: u64,
    pub skipped: u64,
    pub counter_faults: u64,
    pub counter_failures: u64,
    pub records_lost: u64,
}

impl Exact {
    pub(super) fn add(&mut self, totals: &ContextTotals) {
        self.queued += totals.queued;
        self.served += totals.served;
        self.delivered += totals.delivered;
        self.failed += totals.failed;
        self.not_copied += totals.not_copied;
        self.unobserved += totals.unobserved;
        self.skipped += totals.skipped;
        self.counter_faults += totals.counter_faults;
        self.counter_failures += totals.counter_failures;
        self.records_lost += totals.records_lost;
    }
}

/// The best count there is: the kernel's, or the records' where they have run ahead of the last snapshot.
pub(super) fn best(counted: u64, exact: Option<u64>) -> u64 {
    exact.map_or(counted, |exact| exact.max(counted))
}

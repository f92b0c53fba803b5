//! Files of which a large share of the records is not delivered.

use super::{Findings, Tally, of_file};
use crate::event::Fault;
use crate::findings::{FindingKind, threshold};
use crate::model::Model;
use crate::model::recent::push_bounded;
use crate::model::row::Process;

/// Files that fail often, among which the worst is looked for.
pub(super) const FAILING: usize = 64;

/// The lower end of the 95 % interval (Wilson's) of a share of which `some` of `all` were seen.
fn share_at_least(some: u64, all: u64) -> f64 {
    const Z: f64 = 1.96;
    let n = all as f64;
    let share = some as f64 / n;
    let middle = share + Z * Z / (2.0 * n);
    let reach = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    (middle - reach) / (1.0 + Z * Z / n)
}

/// So many failures that one can be sure of their share.
fn fails_often(row: &Process) -> bool {
    let (failed, faults) = (row.counts.failed, row.counts.faults);
    faults >= threshold::RATIO_FAULTS && share_at_least(failed, faults) > threshold::RATIO
}

impl Findings {
    /// Asked at each failure; from where it is one, each is seen. `row`: that of the fault's file.
    #[inline]
    pub(super) fn ratio(&mut self, fault: &Fault, row: &mut Process) {
        if !fault.copy.has_failed() {
            return;
        }
        if row.fails_often {
            return self.history.seen(FindingKind::FailureRatioHigh, fault.at_ns);
        }
        if !fails_often(row) {
            return;
        }
        row.fails_often = true;
        push_bounded(&mut self.failing, row.key(), FAILING);
        let (failed, faults) = (row.counts.failed, row.counts.faults);
        let words = format!("{failed} of {faults} faults had failed by then");
        self.note(FindingKind::FailureRatioHigh, 1, 0, of_file(fault.at_ns, &fault.context, words));
        if let Some(tally) = self.tallies.get_mut(&FindingKind::FailureRatioHigh) {
            tally.subject = row.who();
            (tally.amount.sum, tally.amount.most) = (failed, faults);
        }
    }
}

impl Model {
    /// The file with most failures of those that fail often, as it is now; where none has a row any more, the last that was found stays.
    pub(super) fn name_worst(&self, tally: &mut Tally) {
        let often = self.findings.failing.iter().filter_map(|&key| self.rows.get(key));
        if let Some(worst) = often.max_by_key(|row| row.counts.failed) {
            tally.subject = worst.who();
            (tally.amount.sum, tally.amount.most) = (worst.counts.failed, worst.counts.faults);
        }
    }
}

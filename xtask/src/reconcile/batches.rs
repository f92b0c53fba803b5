//! Batch by batch: what the device did against what dsascope joined from the driver's services.
//!
//! Owns: matching as multisets, since an identifier comes back. Refuses: judging batches that dsascope itself has doubts about.

use std::collections::BTreeMap;

use dsascope_core::model::Batch;
use dsascope_core::model::batch::BatchState;

use super::books::{DeviceAccount, LoggedBatch, Process};
use super::compare::{Difference, Rule};

/// Batches shown with a difference.
const SHOWN: usize = 3;

/// Differences of one process; so many entries have no record (skipped at a close, or lost).
pub(super) fn compare(
    device: &DeviceAccount,
    joined: &[&(Batch, bool)],
    missing: u64,
    process: Option<&Process>,
) -> Vec<Difference> {
    let mut differences = Vec::new();
    let mut differ = |text| differences.push(Difference { rule: Rule::Batches, text });
    // Batches of the device that dsascope did not join above zero, joined ones that the device did not do below.
    let mut balance: BTreeMap<LoggedBatch, i64> = BTreeMap::new();
    for batch in &device.batches {
        *balance.entry(batch.clone()).or_default() += 1;
    }
    let mut doubtful = 0;
    for (batch, certain) in joined {
        match logged(batch).filter(|_| *certain) {
            Some(batch) => *balance.entry(batch).or_default() -= 1,
            None => doubtful += 1,
        }
    }
    let examples = |sign: i64| {
        let of_sign = balance.iter().filter(|(_, count)| count.signum() == sign).take(SHOWN);
        of_sign.map(|(batch, _)| format!("{batch:?}")).collect::<Vec<_>>().join(", ")
    };
    let invented: i64 = -balance.values().filter(|count| **count < 0).sum::<i64>();
    let not_joined: i64 = balance.values().filter(|count| **count > 0).sum();
    if invented > 0 {
        differ(format!("{invented} batches that the device did not do: {}", examples(-1)));
    }
    // What is in doubt, or lacks an entry, may be any of the device's.
    if not_joined.unsigned_abs() > doubtful + missing {
        differ(format!(
            "{not_joined} batches of the device were not joined, {doubtful} are in doubt: {}",
            examples(1)
        ));
    }
    if let Some(report) = process.filter(|p| !p.exit_pending && !p.halted && p.sees_all).map(|p| &p.report) {
        let found = joined.iter().filter(|(batch, _)| batch.finding.is_some()).count() as u64;
        if doubtful == 0 && missing == 0 && found != report.misreported {
            let noticed = report.misreported;
            differ(format!(
                "dsascope found {found} failures moved between batches, the process noticed {noticed}"
            ));
        }
    }
    differences
}

/// What dsascope says of a batch, as the device would; `None` without its own record.
fn logged(batch: &Batch) -> Option<LoggedBatch> {
    let record = batch.record.filter(|_| batch.state == BatchState::Finished)?;
    let mut elements: Vec<u16> = batch.elements.iter().map(|element| element.index).collect();
    elements.sort_unstable();
    Some(LoggedBatch {
        id: batch.id,
        elements,
        status: record.logged_status,
        result: record.logged_result,
        completed: record.descriptors_completed,
    })
}

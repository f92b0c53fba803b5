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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use dsascope_common::hw::event_log::EntryHeader;
    use dsascope_core::event::{Context, CopyOutcome, DeviceId, DeviceKind, Fault, Marks, StageTimes};
    use dsascope_core::model::Batches;
    use dsascope_guest::report::ProcessReport;

    use super::*;

    fn fault(number: u64, entry: EntryHeader, record: [u8; 8], delivered: [u8; 8]) -> Fault {
        let at = |ns| NonZeroU64::new(number * 1_000 + ns);
        let bytes = |first: [u8; 8]| std::array::from_fn(|at| first.get(at).copied().unwrap_or(0));
        Fault {
            at_ns: number * 1_000 + 70,
            cpu: 0,
            context: Context {
                device: DeviceId::new(DeviceKind::Dsa, 0),
                wq: 1,
                pasid: 5,
                opened_ns: NonZeroU64::new(1),
            },
            tgid: Some(1),
            worker: 7,
            queue_cpu: Some(0),
            times: StageTimes {
                interrupt_ns: at(10),
                queued_ns: at(20),
                started_ns: at(30),
                copy_start_ns: at(40),
                copy_end_ns: at(50),
                done_ns: at(60),
            },
            copy: CopyOutcome::Delivered { bytes: 32 },
            copy_addr: None,
            entry,
            logged: bytes(record),
            delivered: bytes(delivered),
            counted_faults: 1,
            counted_failures: 0,
            marks: Marks::default(),
            origin: None,
        }
    }

    /// One batch of which an element's record was delivered, and then its own as `told`.
    fn joined(told: [u8; 8]) -> (Batch, bool) {
        let entry = EntryHeader::default().with_batch_id(3).with_pasid(5).with_rcr(true);
        let element = entry.with_error(0x9a).with_batch(true).with_batch_idx(2).with_first_err_in_batch(true);
        let record = [1, 0, 0, 0, 4, 0, 0, 0];
        let mut batches = Batches::default();
        batches.fault(&fault(1, element, [1; 8], [1; 8]));
        batches.fault(&fault(2, entry.with_error(0xa7), record, told));
        let batch = batches.just_ended()[0].clone();
        let certain = batch.is_certain();
        (batch, certain)
    }

    fn account() -> DeviceAccount {
        let batch = LoggedBatch { id: 3, elements: vec![2], status: 1, result: 0, completed: 4 };
        DeviceAccount { batches: vec![batch], ..DeviceAccount::default() }
    }

    fn found(
        device: &DeviceAccount,
        joined: &[&(Batch, bool)],
        missing: u64,
        misreported: u64,
    ) -> Vec<String> {
        let report = ProcessReport { misreported, ..ProcessReport::default() };
        let process = Process { report, sees_all: true, ..Process::default() };
        compare(device, joined, missing, Some(&process)).into_iter().map(|d| d.text).collect()
    }

    #[test]
    fn a_batch_is_found_again_with_its_elements_and_its_record() {
        let batch = joined([1, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(found(&account(), &[&batch], 0, 0), Vec::<String>::new());
        let mut other = account();
        other.batches[0].elements.push(3);
        assert_eq!(found(&other, &[&batch], 0, 0).len(), 2, "one invented, one not joined");
    }

    #[test]
    fn a_batch_that_was_not_joined_needs_a_reason() {
        assert_eq!(found(&account(), &[], 0, 0).len(), 1);
        assert_eq!(found(&account(), &[], 1, 0).len(), 0, "an entry was skipped or lost");
        let (batch, _) = joined([1, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(found(&account(), &[&(batch, false)], 0, 0).len(), 0, "in doubt");
    }

    #[test]
    fn a_moved_failure_is_one_that_the_process_noticed_too() {
        let patched = joined([5, 1, 0, 0, 4, 0, 0, 0]);
        assert!(patched.0.finding.is_some());
        assert_eq!(found(&account(), &[&patched], 0, 1).len(), 0);
        assert_eq!(found(&account(), &[&patched], 0, 0).len(), 1);
    }
}

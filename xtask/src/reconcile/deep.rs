//! Entry by entry: each event-log entry of the device against the bytes that dsascope recorded, and the order of a fault's times.
//!
//! Owns: matching as multisets, since two faults may be equal to the last byte. Refuses: anything but bytes and times.

use std::collections::BTreeMap;

use dsascope_core::event::Fault;

use super::books::{Account, DeviceAccount, Key, of_context};
use super::compare::{Difference, Rule};

const HEADER_BYTES: usize = 32;
/// The record of an IAA entry lies behind reserved bytes.
const IAX_RECORD_AT: usize = 64;
/// Entries shown with a difference.
const SHOWN: usize = 3;

/// Fault records by process; `None` when they were not kept.
pub(super) fn by_key(account: &Account) -> Option<BTreeMap<Key, Vec<&Fault>>> {
    let mut all: BTreeMap<Key, Vec<&Fault>> = BTreeMap::new();
    for fault in account.faults.as_ref()? {
        all.entry(of_context(&fault.context)).or_default().push(fault);
    }
    Some(all)
}

/// Differences of one process; exactly `missing` entries may have no record (skipped at a close, or lost).
pub(super) fn compare(device: &DeviceAccount, faults: &[&Fault], missing: u64) -> Vec<Difference> {
    let mut differences = Vec::new();
    // Entries of the device without a record above zero, records without an entry below.
    let mut balance: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for raw in &device.raw {
        *balance.entry(condensed(raw)).or_default() += 1;
    }
    for fault in faults {
        *balance.entry(recorded(fault)).or_default() -= 1;
    }
    let unrecorded: i64 = balance.values().filter(|count| **count > 0).sum();
    let invented: i64 = -balance.values().filter(|count| **count < 0).sum::<i64>();
    let examples = |sign: i64| {
        let of_sign = balance.iter().filter(|(_, count)| count.signum() == sign).take(SHOWN);
        of_sign.map(|(bytes, _)| dsascope_core::hex::encode(bytes)).collect::<Vec<_>>().join(", ")
    };
    let mut differ = |rule, text| differences.push(Difference { rule, text });
    if unrecorded.unsigned_abs() != missing {
        differ(
            Rule::Entries,
            format!("{unrecorded} entries without a record, {missing} skipped or lost: {}", examples(1)),
        );
    }
    if invented > 0 {
        differ(Rule::Entries, format!("{invented} records without an entry: {}", examples(-1)));
    }
    let disordered: Vec<_> = faults.iter().filter(|fault| !in_order(fault)).collect();
    if let Some(first) = disordered.first() {
        differ(
            Rule::Order,
            format!("{} faults whose stages are not in order, first {:?}", disordered.len(), first.times),
        );
    }
    differences
}

/// Header and record of an entry as the device wrote it.
fn condensed(raw: &[u8]) -> Vec<u8> {
    match raw.split_at_checked(IAX_RECORD_AT) {
        Some((first, record)) if !record.is_empty() => [&first[..HEADER_BYTES], record].concat(),
        _ => raw.to_vec(),
    }
}

/// The same of a fault record.
fn recorded(fault: &Fault) -> Vec<u8> {
    let header = fault.entry.qwords.iter().flat_map(|qword| qword.to_le_bytes());
    header.chain(fault.logged_record().iter().copied()).collect()
}

fn in_order(fault: &Fault) -> bool {
    let t = &fault.times;
    let stages = [t.interrupt_ns, t.queued_ns, t.started_ns, t.copy_start_ns, t.copy_end_ns, t.done_ns];
    stages.iter().flatten().is_sorted()
}

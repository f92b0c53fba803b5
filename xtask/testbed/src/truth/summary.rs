//! Counts of a truth log by device, WQ and PASID: one side of a reconciliation.

use std::collections::BTreeMap;

use dsascope_common::hw::completion::STATUS_MASK;

use super::{DropReason, Event, Line};

/// One process on one WQ, as the device sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub device: String,
    pub wq: u8,
    pub pasid: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted from the portal.
    pub descriptors: u64,
    /// Fetched as elements of batches.
    pub batch_elements: u64,
    /// Completion records that the device wrote itself.
    pub completion_records: u64,
    /// Event-log entries by error code, without the write bit.
    pub entries: BTreeMap<u8, u64>,
    pub entries_abandoned: u64,
    pub software_errors: u64,
    pub dropped: BTreeMap<DropReason, u64>,
    /// Not accepted by a shared WQ, and told so.
    pub retries: u64,
}

/// Counts of all keys that appear in `lines`.
#[must_use]
pub fn summarise(lines: &[Line]) -> BTreeMap<Key, Counts> {
    let mut all: BTreeMap<Key, Counts> = BTreeMap::new();
    let mut at = |device: &String, wq: u8, pasid: Option<u32>, count: &dyn Fn(&mut Counts)| {
        count(all.entry(Key { device: device.clone(), wq, pasid }).or_default());
    };
    for line in lines {
        match &line.event {
            Event::Descriptor { device, wq, pasid, batch_index: None, .. } => {
                at(device, *wq, *pasid, &|c| c.descriptors += 1);
            }
            Event::Descriptor { device, wq, pasid, .. } => {
                at(device, *wq, *pasid, &|c| c.batch_elements += 1);
            }
            Event::CompletionRecord { device, wq, pasid, .. } => {
                at(device, *wq, *pasid, &|c| c.completion_records += 1);
            }
            Event::EventLogEntry { device, wq, pasid, error, .. } => {
                at(device, *wq, Some(*pasid), &|c| *c.entries.entry(error & STATUS_MASK).or_default() += 1);
            }
            Event::EntryAbandoned { device, wq, pasid, .. } => {
                at(device, *wq, *pasid, &|c| c.entries_abandoned += 1);
            }
            Event::SoftwareError { device, wq, pasid, .. } => {
                at(device, *wq, *pasid, &|c| c.software_errors += 1);
            }
            Event::Dropped { device, wq, pasid, reason } => {
                at(device, *wq, *pasid, &|c| *c.dropped.entry(*reason).or_default() += 1);
            }
            Event::Retry { device, wq, pasid, .. } => at(device, *wq, *pasid, &|c| c.retries += 1),
            Event::Interrupt { .. }
            | Event::Command { .. }
            | Event::Head { .. }
            | Event::BatchBegin { .. }
            | Event::PageRequest { .. }
            | Event::Injected { .. }
            | Event::Halt { .. }
            | Event::PageResponse { .. }
            | Event::BatchEnd { .. }
            | Event::EngineBlocked { .. }
            | Event::EntryLate { .. }
            | Event::Reset { .. }
            | Event::Mark { .. } => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_process() {
        let device = || "dsa0".to_owned();
        let line = |event| Line { time_ns: 0, event };
        let entry = |error, pasid| {
            line(Event::EventLogEntry {
                device: device(),
                index: 0,
                error,
                wq: 2,
                pasid,
                operation: 0,
                fault_addr: 0,
                batch: false,
                batch_id: 0,
                batch_generation: None,
                batch_index: 0,
                raw: String::new(),
            })
        };
        let lines = [
            entry(0x1a, 5),
            entry(0x83, 5),
            entry(0x1a, 6),
            line(Event::Dropped { device: device(), wq: 2, pasid: Some(5), reason: DropReason::Aborted }),
        ];
        let all = summarise(&lines);
        let five = &all[&Key { device: device(), wq: 2, pasid: Some(5) }];
        assert_eq!(five.entries, BTreeMap::from([(0x1a, 1), (3, 1)]));
        assert_eq!(five.dropped[&DropReason::Aborted], 1);
        assert_eq!(all.len(), 2);
    }
}

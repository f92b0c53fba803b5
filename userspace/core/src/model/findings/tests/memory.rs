//! Records in memory where no fault can be resolved, or that nobody owns any more.

use super::*;
use crate::event::Place;
use crate::submission::{Mapped, Memory, MemoryKind, Permissions};

const RECORD: u64 = 0x7f00_1000;

fn short(at_ns: u64) -> Event {
    let Event::Fault(mut fault) = not_copied(at_ns) else { unreachable!("a fault") };
    fault.entry = fault.entry.with_fault_addr(RECORD + 0x40);
    Event::Fault(fault)
}

fn place(tgid: u32, memory: Memory) -> Event {
    Event::Place(Box::new(Place { at_ns: 9 * MS, tgid, page: RECORD, memory }))
}

fn mapped(permissions: &str) -> Memory {
    Memory::Mapped(Mapped {
        start: RECORD,
        end: RECORD + 0x1000,
        kind: MemoryKind::File("/lib/records".into()),
        permissions: permissions.parse::<Permissions>().expect("permissions"),
        page_bytes: Some(4096),
        transparent_huge: None,
        node: None,
        nodes: None,
    })
}

#[test]
fn read_only_and_unmapped_memory_keeps_records_from_being_delivered() {
    let begin = [open(context(0, 0, 1), 0, 1), short(8 * MS)];
    let with = |place| found(&[&begin[..], &[place]].concat());
    assert_eq!(with(place(4242, mapped("r--p"))), [(FindingKind::RecordsReadOnly, 1)]);
    assert_eq!(with(place(4242, Memory::Unmapped)), [(FindingKind::RecordsUnmapped, 1)]);
    assert_eq!(with(place(4242, mapped("rw-p"))), [], "the copy failed for another reason");
    assert_eq!(with(place(7, Memory::Unmapped)), [], "of another process");
    // Another process has the same address, and its record was delivered later.
    let mut other = fault(context(0, 1, 2), 8 * MS);
    other.tgid = Some(7);
    let both = |tgid| found(&[&begin[..], &[Event::Fault(other), place(tgid, Memory::Unmapped)]].concat());
    assert_eq!(both(4242), [(FindingKind::RecordsUnmapped, 1)]);
    assert_eq!(both(7), []);

    let finding = model(&[&begin[..], &[place(4242, mapped("r--p"))]].concat()).findings().swap_remove(0);
    assert!(
        finding
            .sentence
            .starts_with("records on 1 page could not be delivered, last of redis (4242) on wq0.0"),
        "{}",
        finding.sentence
    );
    assert_eq!(finding.evidence[0].words, "0x7f001000 is file /lib/records, r--p, 4 KiB pages");
    assert_eq!(finding.confidence, Confidence::Certain);
}

#[test]
fn a_record_that_was_delivered_may_have_been_freed_since() {
    let delivered = Event::Fault(fault(context(0, 0, 1), 8 * MS));
    let events = [open(context(0, 0, 1), 0, 1), delivered, place(4242, Memory::Unmapped)];
    assert_eq!(found(&events), []);
}

#[test]
fn a_record_that_reaches_into_the_next_page_straddles() {
    let at = |kind, address| {
        let mut fault = fault(context(0, 0, 1), 8 * MS);
        fault.context.device.kind = kind;
        fault.entry = fault.entry.with_fault_addr(address);
        Event::Fault(fault)
    };
    assert_eq!(found(&[at(DeviceKind::Iax, RECORD + 0xfe0)]), [(FindingKind::RecordsStraddle, 1)]);
    assert_eq!(found(&[at(DeviceKind::Iax, RECORD + 0xfc0)]), [], "its last byte is the page's");
    assert_eq!(found(&[at(DeviceKind::Dsa, RECORD + 0xfe0)]), []);
    assert_eq!(found(&[at(DeviceKind::Unknown, RECORD + 0xfe0)]), [], "it may be a DSA");
    assert_eq!(found(&[at(DeviceKind::Dsa, RECORD + 0xfe1)]), [(FindingKind::RecordsStraddle, 1)]);
}

/// The fault of a file whose service starts, and ends, at these times.
fn served(file: Context, started_ns: u64, at_ns: u64) -> Event {
    let mut fault = fault(file, at_ns);
    fault.times.started_ns = std::num::NonZeroU64::new(started_ns);
    Event::Fault(fault)
}

#[test]
fn a_service_that_starts_after_the_close_is_for_nobody() {
    let file = context(0, 0, 1);
    // The close ends at 10 ms.
    let closed = [open(file, 0, 1), release(file, 0, 0, 0)];
    let then = |event| found(&[&closed[..], &[event]].concat());
    assert_eq!(then(served(file, 11 * MS, 21 * MS)), [(FindingKind::ProcessGone, 1)]);
    assert_eq!(then(served(file, 9 * MS, 21 * MS)), [], "it started before, and was told of late");
    // Another file of the process is open.
    let two = [open(file, 0, 1), open(file, 1, 2), release(file, 1, 0, 0), served(file, 11 * MS, 21 * MS)];
    assert_eq!(found(&two), []);
    // How many files it had is not known.
    assert_eq!(found(&[release(file, 0, 0, 0), served(file, 11 * MS, 21 * MS)]), []);
}

#[test]
fn a_pasid_of_a_closed_file_is_of_nobody() {
    let file = context(0, 0, 1);
    let unknown = Context { opened_ns: None, ..file };
    let closed = [open(file, 0, 1), release(file, 0, 0, 0)];
    let gone =
        [&closed[..], &[served(unknown, 30 * MS, 30 * MS), served(unknown, 31 * MS, 31 * MS)]].concat();
    let finding = model(&gone).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.count), (FindingKind::ProcessGone, 1));
    assert!(
        finding.evidence[0].words.contains("was of redis (4242) on wq0.0"),
        "{}",
        finding.evidence[0].words
    );
    let other = Context { pasid: 2, ..unknown };
    assert_eq!(found(&[&closed[..], &[served(other, 30 * MS, 30 * MS)]].concat()), []);
    // Open still, and its time of opening not told with this fault.
    assert_eq!(found(&[open(file, 0, 1), served(unknown, 30 * MS, 30 * MS)]), []);
}

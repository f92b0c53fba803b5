use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;

fn header(kind: u16, cpu: u16, lost: u32) -> wire::RecordHeader {
    wire::RecordHeader { kind, cpu, lost, time_ns: 1_000 }
}

fn fault_record(header: wire::RecordHeader) -> wire::FaultRecord {
    let mut record = wire::FaultRecord::read_from_bytes(&[0; size_of::<wire::FaultRecord>()]).unwrap();
    record.header = header;
    record
}

fn interrupt(cpu: u16, lost: u32) -> Vec<u8> {
    let mut record =
        wire::InterruptRecord::read_from_bytes(&[0; size_of::<wire::InterruptRecord>()]).unwrap();
    record.header = header(kind::INTERRUPT, cpu, lost);
    record.as_bytes().to_vec()
}

fn events(decoder: &mut RingDecoder, bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    let _ = decoder.push(bytes, |event| events.push(event));
    events
}

#[test]
fn losses_are_placed_before_the_record_that_tells_of_them() {
    let mut decoder = RingDecoder::new(&[]);
    let holes = |events: &[Event]| -> Vec<(u16, u64)> {
        events
            .iter()
            .filter_map(|event| match event {
                Event::Hole(Hole { what: HoleKind::RingLost { cpu }, count, .. }) => Some((*cpu, *count)),
                _ => None,
            })
            .collect()
    };
    assert_eq!(holes(&events(&mut decoder, &interrupt(0, 0))), []);
    let three_lost = events(&mut decoder, &interrupt(1, 3));
    assert_eq!(holes(&three_lost), [(1, 3)]);
    assert!(matches!(three_lost.as_slice(), [Event::Hole(_), Event::Interrupt(_)]));
    assert_eq!(holes(&events(&mut decoder, &interrupt(1, 3))), []);
    // One that was interrupted when it had read an older number.
    assert_eq!(holes(&events(&mut decoder, &interrupt(1, 2))), []);
    assert_eq!(holes(&events(&mut decoder, &interrupt(1, 4))), [(1, 1)]);
    // The counter wraps.
    const HALF: u32 = u32::MAX / 2;
    assert_eq!(holes(&events(&mut decoder, &interrupt(0, HALF))), [(0, u64::from(HALF))]);
    assert_eq!(holes(&events(&mut decoder, &interrupt(0, 2 * HALF))), [(0, u64::from(HALF))]);
    assert_eq!(holes(&events(&mut decoder, &interrupt(0, 1))), [(0, 3)]);
    assert_eq!(decoder.received().interrupt, 8);
}

#[test]
fn the_outcome_follows_what_was_seen() {
    let seen = |start, end, asked, done, marks| {
        let mut record = fault_record(header(kind::FAULT, 0, 0));
        (record.copy_start_ns, record.copy_end_ns) = (start, end);
        (record.copy_asked, record.copy_done, record.marks) = (asked, done, marks);
        fault(&record).copy
    };
    assert_eq!(seen(5, 6, 32, 32, 0), CopyOutcome::Delivered { bytes: 32 });
    assert_eq!(seen(5, 6, 32, 31, 0), CopyOutcome::Short { asked: 32, done: 31 });
    assert_eq!(seen(0, 0, 0, 0, 0), CopyOutcome::NotCopied);
    assert_eq!(seen(0, 0, 0, 0, mark::COPY_UNOBSERVED), CopyOutcome::Unobserved);
    assert_eq!(seen(0, 0, 0, 0, mark::END_MISSING), CopyOutcome::Unobserved);
    assert_eq!(seen(5, 0, 32, 0, mark::END_MISSING), CopyOutcome::Unobserved);
}

#[test]
fn what_was_not_observed_is_not_zero() {
    let fault = fault(&fault_record(header(kind::FAULT, 0, 0)));
    assert_eq!((fault.tgid, fault.queue_cpu, fault.copy_addr), (None, None, None));
    assert_eq!(fault.times, StageTimes::default());
    assert_eq!(fault.context.opened_ns, None);
}

#[test]
fn the_kind_of_a_device_is_learned_or_unknown() {
    let mut open = wire::OpenRecord::read_from_bytes(&[0; size_of::<wire::OpenRecord>()]).unwrap();
    open.header = header(kind::OPEN, 0, 0);
    open.context.device = 1;
    let kind_of_open = |decoder: &mut RingDecoder| match events(decoder, open.as_bytes()).pop() {
        Some(Event::Open(open)) => open.context.device.kind,
        other => panic!("{other:?}"),
    };
    let mut decoder = RingDecoder::new(&[DeviceId::new(DeviceKind::Iax, 0)]);
    assert_eq!(kind_of_open(&mut decoder), DeviceKind::Unknown);
    let mut record = fault_record(header(kind::FAULT, 0, 0));
    (record.context.device, record.device_type) = (1, wire::device_type::IAX);
    events(&mut decoder, record.as_bytes());
    assert_eq!(kind_of_open(&mut decoder), DeviceKind::Iax);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0u16..10, size in prop::sample::select(vec![15usize, 16, 40, 64, 72, 80, 160, 208, 280, 299])) {
        let mut decoder = RingDecoder::new(&[]);
        let _ = decoder.push(&bytes, |_| {});
        // And with a plausible kind and length, so that the later checks are reached.
        let mut bytes = bytes;
        bytes.resize(size, 0x5a);
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        let mut count = 0;
        let result = decoder.push(&bytes, |_| count += 1);
        let fits = matches!((kind, size), (1, 280) | (2 | 3, 72) | (4, 80) | (5, 64 | 160) | (6 | 8, 40) | (7, 208));
        prop_assert!(fits || result.is_err());
        prop_assert!(result.is_ok() || count > 0, "an undecodable record leaves a hole");
        decoder.finish(u64::MAX, |_| {});
    }
}

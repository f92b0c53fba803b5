//! Whatever an event is, it reads back as it was.

use dsascope_core::event::{Comm, Element, How, Origin, Seen};
use proptest::prelude::*;

use super::*;

fn time() -> impl Strategy<Value = Option<NonZeroU64>> {
    prop_oneof![Just(0), 1u64..10_000, any::<u64>()].prop_map(NonZeroU64::new)
}

/// Mostly few different ones, now and then anything.
fn record() -> impl Strategy<Value = [u8; 64]> {
    prop_oneof![
        Just([0; 64]),
        Just([1; 64]),
        any::<[u8; 32]>().prop_map(|half| {
            let mut all = [0; 64];
            all[..32].copy_from_slice(&half);
            all
        })
    ]
}

fn device() -> impl Strategy<Value = DeviceId> {
    let kind = prop_oneof![Just(DeviceKind::Dsa), Just(DeviceKind::Iax), Just(DeviceKind::Unknown)];
    (kind, any::<u16>()).prop_map(|(kind, id)| DeviceId::new(kind, id))
}

fn context() -> impl Strategy<Value = Context> {
    (device(), 0u16..3, 0u32..4, time()).prop_map(|(device, wq, pasid, opened_ns)| Context {
        device,
        wq,
        pasid,
        opened_ns,
    })
}

fn copy() -> impl Strategy<Value = CopyOutcome> {
    prop_oneof![
        any::<u32>().prop_map(|bytes| CopyOutcome::Delivered { bytes }),
        any::<(u32, u32)>().prop_map(|(asked, done)| CopyOutcome::Short { asked, done }),
        Just(CopyOutcome::NotCopied),
        Just(CopyOutcome::Unobserved),
    ]
}

prop_compose! {
    fn fault()(
        at_ns: u64, cpu: u16, context in context(), tgid: Option<u32>, worker: u32, queue_cpu: Option<u16>,
        times in prop::array::uniform6(time()), copy in copy(), copy_addr: Option<u64>,
        qwords: [u64; 4], logged in record(), delivered in record(), counted: (u8, u8), marks: [bool; 5],
    ) -> Fault {
        let [interrupt_ns, queued_ns, started_ns, copy_start_ns, copy_end_ns, done_ns] = times;
        let [end_missing, queue_missing, copy_unobserved, read_failed, outcome_inferred] = marks;
        Fault {
            at_ns, cpu, context, tgid, worker, queue_cpu,
            times: StageTimes { interrupt_ns, queued_ns, started_ns, copy_start_ns, copy_end_ns, done_ns },
            copy, copy_addr, entry: EntryHeader { qwords }, logged, delivered,
            counted_faults: counted.0, counted_failures: counted.1,
            marks: Marks { end_missing, queue_missing, copy_unobserved, read_failed, outcome_inferred },
            origin: None,
        }
    }
}

prop_compose! {
    fn origin()(
        submitted_ns: u64, seen_ns in time(), tid in 0u32..4, comm: [u8; 16], how in 0..How::ALL.len(), operation: u8,
        bytes: Option<u32>, instruction in time(), stack: Option<u32>, element: Option<(u64, u32)>,
    ) -> Origin {
        Origin {
            submitted_ns, seen_ns, tid, comm: Comm(comm), how: How::ALL[how], operation, bytes, instruction, stack,
            element: element.map(|(list, index)| Element { list, index }),
        }
    }
}

prop_compose! {
    fn seen()(
        at_ns: u64, tgid: u32, tid: u32, record: u64, status: u8, submitted_ns in time(),
        context in prop::option::of(context()), delivered_ns in time(),
    ) -> Seen {
        Seen { at_ns, tgid, tid, record, status, submitted_ns, context, delivered_ns }
    }
}

/// Any event that has columns.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        // Boxed: the tree of a fault's values is large, and a test's stack is not.
        3 => fault().prop_map(Event::Fault).boxed(),
        2 => (fault().boxed(), origin().boxed())
            .prop_map(|(fault, origin)| Event::Fault(Fault { origin: Some(origin), ..fault }))
            .boxed(),
        2 => seen().prop_map(Event::Seen).boxed(),
        2 => (any::<(u64, u16, u64, u64, u32)>(), device(), any::<Option<[u64; 4]>>()).prop_map(
            |((at_ns, cpu, start_ns, end_ns, entries), device, swerror)| {
                Event::Interrupt(Interrupt { at_ns, cpu, device, start_ns, end_ns, entries, swerror })
            }
        ),
        1 => (any::<(u64, u16, Option<u32>, u16, u8)>(), device(), any::<Option<(u64, u32, u64, bool)>>()).prop_map(
            |((at_ns, cpu, pasid, group, code), device, asked)| {
                let request = asked.map(|(at_ns, pages, address, write)| Asked { at_ns, pages, address, write });
                Event::PageRequest(PageRequest { at_ns, cpu, device, pasid, group, code, request })
            }
        ),
        1 => any::<u64>().prop_map(|now_ns| Event::Tick { now_ns }),
    ]
}

proptest! {
    #[test]
    fn events_read_back(events in prop::collection::vec(event(), 0..60)) {
        let mut encoder = Encoder::new();
        let mut decoder = Decoder::default();
        // Twice: a block needs nothing of the one before it.
        for events in [&events[..], &events[..events.len() / 2]] {
            for event in events {
                encoder.push(event).unwrap();
            }
            let mut payload = Vec::new();
            encoder.take(&mut payload);
            decoder.load(&mut payload, VERSION, events.len() as u32).unwrap();
            for event in events {
                prop_assert_eq!(decoder.advance(), Ok(true));
                prop_assert_eq!(decoder.event(), event);
            }
            prop_assert_eq!(decoder.advance(), Ok(false));
        }
    }

    #[test]
    fn any_payload_gives_events_or_an_error(
        mut payload in prop::collection::vec(any::<u8>(), 0..600), version in 1..=VERSION, events in 0u32..40,
    ) {
        let mut decoder = Decoder::default();
        if decoder.load(&mut payload, version, events).is_ok() {
            while decoder.advance() == Ok(true) {}
        }
    }

    #[test]
    fn any_columns_give_events_or_an_error(
        columns in prop::collection::vec(prop::collection::vec(prop_oneof![3 => 0u64..4, 1 => any::<u64>(), 1 => Just(u64::MAX)], 0..8), NAMES.len()),
        version in 1..=VERSION,
    ) {
        let mut writing = Writing::new(NAMES.len());
        for (number, column) in columns.iter().enumerate() {
            column.iter().for_each(|value| writing.value(number, &mut value.clone()));
        }
        let mut payload = Vec::new();
        writing.take(&mut payload);
        let mut decoder = Decoder::default();
        if decoder.load(&mut payload, version, 8).is_ok() {
            while decoder.advance() == Ok(true) {}
        }
    }

    #[test]
    fn a_payload_with_changed_bytes_gives_events_or_an_error(
        events in prop::collection::vec(event(), 1..20),
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8),
    ) {
        let mut encoder = Encoder::new();
        events.iter().for_each(|event| encoder.push(event).unwrap());
        let mut payload = Vec::new();
        encoder.take(&mut payload);
        for (place, byte) in changes {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        let mut decoder = Decoder::default();
        if decoder.load(&mut payload, VERSION, events.len() as u32).is_ok() {
            while decoder.advance() == Ok(true) {}
        }
    }
}

/// Widths of the columns of a payload, in the order of the format.
fn widths(mut payload: &[u8]) -> Vec<usize> {
    let mut widths = Vec::new();
    for _ in NAMES {
        let (head, rest) = payload.split_at(5);
        let count = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        widths.push(usize::from(head[4]));
        payload = &rest[count * usize::from(head[4])..];
    }
    widths
}

#[test]
fn a_backlog_of_faults_is_told_in_small_distances() {
    // Queued together, served long after and one after the other: the waits are long, and each is foretold.
    let (start, begin) = (1_000_000_000, 1_500_000_000);
    let mut encoder = Encoder::new();
    encoder.push(&Event::Tick { now_ns: start }).unwrap();
    for number in 0..100 {
        let at = |ns| NonZeroU64::new(begin + 500 * number + ns);
        let times = StageTimes {
            interrupt_ns: NonZeroU64::new(start + 100),
            queued_ns: NonZeroU64::new(start + 100 * (number + 2)),
            started_ns: at(100),
            copy_start_ns: at(200),
            copy_end_ns: at(300),
            done_ns: at(400),
        };
        encoder.push(&Event::Fault(Fault { at_ns: begin + 500 * number + 400, times, ..BLANK })).unwrap();
    }
    let mut payload = Vec::new();
    encoder.take(&mut payload);
    let widths = widths(&payload);
    let width = |column: Column| widths[column as usize];
    assert_eq!([Column::Queued, Column::CopyStart, Column::CopyEnd, Column::FaultAt].map(width), [1; 4]);
    // One fault of all waited for no other.
    assert_eq!((width(Column::StartAt), width(Column::Done), width(Column::Started)), (1, 0, 4));
}

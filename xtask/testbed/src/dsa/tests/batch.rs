//! Batches against the rows of idxd-facts sections 1.11 and 6.3.

use dsascope_common::hw::completion::{DsaCompletion, status};
use dsascope_common::hw::descriptor::{flags, opcode};
use dsascope_common::hw::event_log::EntryHeader;
use dsascope_common::hw::regs::command as c;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::truth::{BlockCause, Event, Told};

const P: Option<u32> = Some(PASID);
/// Pages that are there: the batch's record, elements' records, descriptor lists.
const RECORD: u64 = 0x8000;
const RECORDS: u64 = 0x9000;
const LIST: u64 = 0x1_0000;
/// A page that is not.
const ABSENT: u64 = 0x40_0000;

fn bench(identifiers: u16) -> Bench {
    let bench = Bench::with(DeviceConfig { batch_identifiers: identifiers, ..DeviceConfig::default() });
    bench.start(64);
    [RECORD, RECORDS, LIST].iter().for_each(|page| bench.memory.map(P, *page, true));
    bench
}

/// A noop whose record faults or does not.
fn noop(index: usize, faults: bool) -> Descriptor {
    let page = if faults { ABSENT } else { RECORDS };
    descriptor(opcode::NOOP, page + index as u64 * 32)
}

fn fenced(descriptor: Descriptor) -> Descriptor {
    descriptor.with(descriptor.opcode(), descriptor.flags() | flags::FENCE)
}

fn failing(index: usize) -> Descriptor {
    descriptor(opcode::BATCH, RECORDS + index as u64 * 32)
}

fn batch_of(bench: &Bench, elements: &[Descriptor]) -> Descriptor {
    for (i, element) in elements.iter().enumerate() {
        bench.memory.poke(P, LIST + i as u64 * 64, element.as_bytes());
    }
    let count = elements.len() as u32;
    Descriptor { source: LIST, transfer_size: count, ..descriptor(opcode::BATCH, RECORD) }
}

fn run(bench: &Bench, elements: &[Descriptor]) {
    bench.memory.poke(P, RECORD, &[0; 32]);
    bench.execute(batch_of(bench, elements));
}

fn record(bench: &Bench) -> (u8, u8, u32) {
    let record = DsaCompletion::read_from_bytes(&bench.memory.peek(P, RECORD, 32)).unwrap();
    (record.status, record.result, record.bytes_completed)
}

/// Header and record of all entries in the log.
fn entries(bench: &Bench) -> Vec<(EntryHeader, DsaCompletion)> {
    let (head, tail) = bench.head_tail();
    let entry = |index| {
        let bytes = bench.memory.peek(None, LOG + index * 64, 64);
        let header = EntryHeader::read_from_bytes(&bytes[..32]).unwrap();
        (header, DsaCompletion::read_from_bytes(&bytes[32..]).unwrap())
    };
    (head..tail).map(entry).collect()
}

/// (error, batch, batch index, first error) of all entries.
fn shape(bench: &Bench) -> Vec<(u8, bool, u16, bool)> {
    let of = |(h, _): (EntryHeader, _)| (h.error(), h.batch(), h.batch_idx(), h.first_err_in_batch());
    entries(bench).into_iter().map(of).collect()
}

#[test]
fn without_faults_the_device_writes_all_records() {
    let bench = bench(256);
    run(&bench, &[noop(0, false), noop(1, false), noop(2, false)]);
    assert_eq!((record(&bench), bench.head_tail()), ((1, 0, 3), (0, 0)));
    run(&bench, &[noop(0, false), failing(1), noop(2, false)]);
    assert_eq!((record(&bench), bench.head_tail()), ((status::BATCH_FAIL, 1, 3), (0, 0)));
    assert_eq!(bench.memory.peek(P, RECORDS + 32, 1), [status::BAD_OPCODE], "no batch in a batch");
    run(&bench, &[noop(0, false), descriptor(opcode::DRAIN, RECORDS + 32)]);
    assert_eq!(bench.memory.peek(P, RECORDS + 32, 1), [status::BAD_OPCODE], "and no drain");
}

#[test]
fn the_batch_record_follows_the_elements_entries() {
    let bench = bench(256);
    run(&bench, &[noop(0, false), noop(1, true), noop(2, true), noop(3, false)]);
    let (cra, evl) = (status::CRA_XLAT, status::BATCH_EVL_ERR);
    assert_eq!(shape(&bench), [(cra, true, 1, true), (cra, true, 2, false), (evl, false, 0, false)]);
    let (header, image) = entries(&bench)[2];
    assert_eq!((header.fault_addr(), header.batch_id(), header.operation()), (RECORD, 0, opcode::BATCH));
    assert!(header.rcr() && !header.rci() && header.fault_rw());
    assert_eq!((image.status, image.result, image.bytes_completed), (1, 0, 4), "the driver makes 5 of it");
    assert_eq!(record(&bench), (0, 0, 0), "left to the driver");
    // a record of the batch that nobody asked for is told all the same: the driver keeps a flag by identifier
    let silent = batch_of(&bench, &[noop(0, true), noop(1, false)]).with(opcode::BATCH, flags::CRAV);
    bench.execute(silent);
    let (header, _) = entries(&bench)[4];
    assert_eq!((header.error(), header.rcr(), header.batch_id()), (evl, false, 1));
}

#[test]
fn first_error_is_the_first_faulted_record_of_its_batch() {
    let bench = bench(256);
    let untold = descriptor(opcode::BATCH, 0).with(opcode::BATCH, 0);
    run(&bench, &[untold, noop(1, true), noop(2, true)]);
    let (bad, cra, evl) = (status::BAD_OPCODE, status::CRA_XLAT, status::BATCH_EVL_ERR);
    assert_eq!(
        shape(&bench),
        [(bad, true, 0, false), (cra, true, 1, true), (cra, true, 2, false), (evl, false, 0, false)]
    );
    assert_eq!(entries(&bench)[3].1.status, status::BATCH_FAIL, "an element had failed");
    run(&bench, &[noop(0, true), noop(1, false)]);
    assert_eq!(shape(&bench)[4..], [(cra, true, 0, true), (evl, false, 0, false)]);
    assert!(entries(&bench)[4..].iter().all(|(h, _)| h.batch_id() == 1));
}

#[test]
fn a_fence_stops_behind_a_failure_or_a_faulted_record() {
    let bench = bench(256);
    run(&bench, &[noop(0, false), fenced(noop(1, false)), noop(2, false)]);
    assert_eq!(record(&bench), (1, 0, 3), "nothing failed");
    run(&bench, &[noop(0, false), failing(1), noop(2, false), fenced(noop(3, false))]);
    assert_eq!((record(&bench), bench.head_tail()), ((status::BATCH_FAIL, 1, 3), (0, 0)));
    let before = bench.counters().completion_records;
    run(&bench, &[noop(0, true), noop(1, false), fenced(noop(2, false)), noop(3, false)]);
    assert_eq!(bench.counters().completion_records, before + 1, "element 1 only");
    let (header, image) = entries(&bench)[1];
    assert_eq!(header.error(), status::BATCH_EVL_ERR);
    assert_eq!((image.status, image.result, image.bytes_completed), (status::BATCH_FAIL, 1, 2));
}

#[test]
fn a_fault_of_the_list_tells_how_far_it_was_read() {
    let bench = bench(256);
    let list = LIST + 62 * 64;
    for i in 0..2 {
        bench.memory.poke(P, list + i * 64, noop(i as usize, false).as_bytes());
    }
    let batch = |cr| Descriptor { source: list, transfer_size: 8, ..descriptor(opcode::BATCH, cr) };
    bench.execute(batch(RECORD));
    let seen = DsaCompletion::read_from_bytes(&bench.memory.peek(P, RECORD, 32)).unwrap();
    assert_eq!((seen.status, seen.result, seen.bytes_completed), (status::BATCH_PAGE_FAULT, 0, 2));
    assert_eq!(seen.fault_addr, LIST + PAGE);
    // and the same when an element's record had faulted: 6 stays, the driver adds the result
    bench.memory.poke(P, list, noop(0, true).as_bytes());
    bench.execute(batch(RECORD));
    assert_eq!(shape(&bench)[1], (status::BATCH_EVL_ERR, false, 0, false));
    let image = entries(&bench)[1].1;
    assert_eq!((image.status, image.bytes_completed), (status::BATCH_PAGE_FAULT, 2));
    bench.execute(Descriptor { source: ABSENT, ..batch(RECORD) });
    assert_eq!(record(&bench), (status::BATCH_PAGE_FAULT, 0, 0));
}

#[test]
fn the_batch_record_itself_may_fault() {
    let bench = bench(256);
    let batch = batch_of(&bench, &[noop(0, false), noop(1, false)]);
    bench.execute(Descriptor { completion_addr: ABSENT, ..batch });
    assert_eq!(shape(&bench), [(status::CRA_XLAT, false, 0, false)]);
    let ends = bench.truth().into_iter().filter_map(|l| match l.event {
        Event::BatchEnd { told, status, .. } => Some((told, status)),
        _ => None,
    });
    assert!(ends.eq([(Told::LogRecord, 1)]));
}

#[test]
fn without_an_event_log_swerror_tells_and_the_record_is_written() {
    let bench = Bench::new(Kind::Dsa);
    bench.group(0, 1, 1);
    bench.wq(0, 16, dedicated());
    bench.command(c::ENABLE_DEVICE, 0);
    bench.command(c::ENABLE_WQ, 0);
    [RECORD, LIST].iter().for_each(|page| bench.memory.map(P, *page, true));
    run(&bench, &[noop(0, true), noop(1, true)]);
    assert_eq!(record(&bench), (1, 0, 2));
    let swerror = bench.read64(regs::SWERROR);
    assert_eq!((swerror & 3, swerror >> 4 & 1, swerror >> 8 & 0xff), (3, 1, 0x1a));
}

/// (identifier, generation) in the order of their events, begin true.
fn identifiers(bench: &Bench) -> Vec<(bool, u8, u64)> {
    let of = |line: Line| match line.event {
        Event::BatchBegin { batch_id, generation, .. } => Some((true, batch_id, generation)),
        Event::BatchEnd { batch_id, generation, .. } => Some((false, batch_id, generation)),
        _ => None,
    };
    bench.truth().into_iter().filter_map(of).collect()
}

#[test]
fn identifiers_come_round_with_a_new_generation() {
    let bench = bench(3);
    for _ in 0..5 {
        run(&bench, &[noop(0, false), noop(1, false)]);
    }
    let begun: Vec<_> = identifiers(&bench).into_iter().filter(|(begin, ..)| *begin).collect();
    assert_eq!(begun, [(true, 0, 0), (true, 1, 0), (true, 2, 0), (true, 0, 1), (true, 1, 1)]);
    let elements = bench.truth().into_iter().filter_map(|l| match l.event {
        Event::Descriptor { batch_index: Some(1), batch_id, batch_generation, .. } => {
            batch_id.zip(batch_generation)
        }
        _ => None,
    });
    assert!(elements.eq([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)]));
    let all = self::bench(256);
    (0..257).for_each(|_| run(&all, &[noop(0, false), noop(1, false)]));
    assert_eq!(identifiers(&all)[2 * 255..], [(true, 255, 0), (false, 255, 0), (true, 0, 1), (false, 0, 1)]);
}

#[test]
fn an_engine_waits_for_an_identifier() {
    let bench = bench(1);
    for i in 0..63 {
        bench.execute(descriptor(opcode::NOOP, ABSENT + i * 32));
    }
    // engine 0 holds the only identifier and waits for the log
    bench.submit(0, batch_of(&bench, &[noop(0, true), noop(1, false)]));
    bench.submit(0, batch_of(&bench, &[noop(0, true), noop(1, false)]));
    let step = |engine: usize| {
        let device = Arc::clone(&bench.device);
        let thread = std::thread::spawn(move || device.step(engine));
        while bench.device.state().engines[engine].current.is_none() {
            std::thread::yield_now();
        }
        thread
    };
    let first = step(0);
    while bench.counters().batches == 0 {
        std::thread::yield_now();
    }
    let second = step(1);
    bench.write32(regs::EVLSTATUS, 8);
    assert!(first.join().unwrap() && second.join().unwrap());
    assert_eq!(identifiers(&bench), [(true, 0, 0), (false, 0, 0), (true, 0, 1), (false, 0, 1)]);
    let causes = bench.truth().into_iter().filter_map(|l| match l.event {
        Event::EngineBlocked { engine, cause, .. } => Some((engine, cause)),
        _ => None,
    });
    let causes: Vec<_> = causes.collect();
    assert!(causes.contains(&(0, BlockCause::EventLogFull)), "{causes:?}");
    // A batch that a command aborts while it waits for its identifier
    let waiting = self::bench(1);
    let taken = waiting.device.state().identifiers.take().is_some();
    waiting.submit(0, batch_of(&waiting, &[noop(0, false), noop(1, false)]));
    let device = Arc::clone(&waiting.device);
    let engine = std::thread::spawn(move || device.step(0));
    while waiting.device.state().engines[0].current.is_none() {
        std::thread::yield_now();
    }
    waiting.command(c::ABORT_WQ, 1);
    assert!(engine.join().unwrap());
    assert_eq!((taken, waiting.counters().batches, waiting.counters().dropped), (true, 0, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// What software may conclude from the log alone: see idxd-facts section 8.
    #[test]
    fn entries_of_a_batch_stand_in_order(
        batches in proptest::collection::vec(proptest::collection::vec((any::<bool>(), any::<bool>()), 2..12), 1..8),
        identifiers in 1u16..5) {
        let bench = bench(identifiers);
        let mut at = 0;
        for (number, shape) in batches.iter().enumerate() {
            let elements: Vec<_> = shape.iter().enumerate().map(|(i, (faults, fence))| {
                let element = noop(i, *faults);
                if *fence { fenced(element) } else { element }
            }).collect();
            run(&bench, &elements);
            let first = shape.iter().position(|(faults, _)| *faults);
            let stop = shape.iter().enumerate().position(|(i, (_, fence))| *fence && first.is_some_and(|f| f < i));
            let done = stop.unwrap_or(shape.len());
            let faults: Vec<_> = (0..done).filter(|i| shape[*i].0).collect();
            let size = 64;
            let (_, tail) = bench.head_tail();
            let mut expected: Vec<_> = faults.iter().map(|i| (0x1a, *i as u16, Some(*i) == first)).collect();
            if !faults.is_empty() {
                expected.push((0x27, 0, false));
            }
            let mut found = Vec::new();
            while at != tail {
                let bytes = bench.memory.peek(None, LOG + at * 64, 64);
                let h = EntryHeader::read_from_bytes(&bytes[..32]).unwrap();
                prop_assert_eq!(u16::from(h.batch_id()), number as u16 % identifiers);
                found.push((h.error(), h.batch_idx(), h.first_err_in_batch()));
                if h.error() == 0x27 {
                    let status = if stop.is_some() { status::BATCH_FAIL } else { status::SUCCESS };
                    prop_assert_eq!((bytes[32], u32::from(bytes[36])), (status, done as u32));
                }
                at = (at + 1) % size;
            }
            prop_assert_eq!(found, expected);
            bench.write32(regs::EVLSTATUS, at as u32);
        }
    }
}

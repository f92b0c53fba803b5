//! The interval log, read with the crate's own reader, holds what the model counted. Another implementation reads it in
//! `cargo xtask test`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dsascope_core::event::{Comm, Event};
use dsascope_core::hist::{DIGITS, HIGHEST_NS};
use dsascope_core::stages::Stage;
use dsascope_export::hlog::{FILES, Hlog, INTERVAL_NS};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use proptest::prelude::*;
use support::faults::fault;
use support::{Memory, feed, script};

struct Log {
    text: String,
    base_ms: u128,
    /// Sums by tag.
    tags: BTreeMap<String, Histogram<u64>>,
    /// Starts and lengths in ms.
    intervals: Vec<(u128, u128)>,
}

fn read(bytes: Vec<u8>) -> Log {
    let text = String::from_utf8(bytes).unwrap();
    let mut log = Log { text: String::new(), base_ms: 0, tags: BTreeMap::new(), intervals: Vec::new() };
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        match entry.unwrap() {
            LogEntry::StartTime(_) => {}
            LogEntry::BaseTime(time) => log.base_ms = time.as_millis(),
            LogEntry::Interval(interval) => {
                let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
                let part: Histogram<u64> = Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                assert!(!part.is_empty());
                let tag = interval.tag().unwrap().as_str().to_owned();
                let whole = log
                    .tags
                    .entry(tag)
                    .or_insert_with(|| Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS).unwrap());
                whole.add(part).unwrap();
                log.intervals.push((interval.start_timestamp().as_millis(), interval.duration().as_millis()));
            }
        }
    }
    log.text = text;
    log
}

fn of_stage(log: &Log, stage: Stage) -> Histogram<u64> {
    let prefix = format!("stage={};", stage.name());
    let mut sum = Histogram::new_with_bounds(1, HIGHEST_NS, DIGITS).unwrap();
    for (_, histogram) in log.tags.iter().filter(|(tag, _)| tag.starts_with(&prefix)) {
        sum.add(histogram).unwrap();
    }
    sum
}

#[test]
fn every_tag_holds_what_the_model_counted() {
    let memory = Memory::default();
    let events = script::lossy(3, 5);
    let model = feed(&mut Hlog::new(memory.output(), INTERVAL_NS), &events).unwrap();
    let log = read(memory.bytes());
    for stage in Stage::ALL {
        let (ours, all) = (model.latency().summary_now(stage), of_stage(&log, stage));
        assert_eq!(all.len(), ours.map_or(0, |ours| ours.count));
        let Some(ours) = ours else {
            assert!(stage.is_of_program(), "nobody follows submissions here, all else is seen");
            continue;
        };
        for (quantile, want) in [(0.5, ours.p50_ns), (0.9, ours.p90_ns), (0.99, ours.p99_ns)] {
            assert_eq!(all.value_at_quantile(quantile).min(ours.max_ns), want, "{stage:?} {quantile}");
        }
    }
    for process in model.processes() {
        let tag = format!(
            "stage=service;wq={};pid={};pasid={};comm={}",
            process.context.wq_id(),
            process.tgid.unwrap(),
            process.context.pasid,
            process.comm.unwrap()
        );
        let want = process.latency().unwrap().summary_now(Stage::Service).unwrap();
        assert_eq!(log.tags[&tag].len(), want.count, "{tag}");
    }
    assert!(log.text.contains("#hole in the interval from 3.000 s: ring_lost 5\n"), "{}", log.text);
    let books = log.text.lines().find(|line| line.starts_with("#ledger fault:")).unwrap();
    assert!(books.contains(", lost 5, "), "{books}");
    assert!(log.text.contains("#bucket error: 0.1 %; 0 values above"));
    assert!(log.text.ends_with("#end: 5 records lost\n"));
}

#[test]
fn intervals_lie_on_a_grid_from_the_start_of_tracing() {
    let memory = Memory::default();
    let mut events = script::busy(3);
    if let Event::Session(session) = &mut events[0] {
        session.wall_at_zero_ns = 1_800_000_000_123_456_789;
    }
    let model = feed(&mut Hlog::new(memory.output(), 250_000_000), &events).unwrap();
    let log = read(memory.bytes());
    let session = model.session().unwrap();
    let started = i128::from(session.wall_at_zero_ns) + i128::from(session.started_ns);
    assert_eq!(log.base_ms as i128, started / 1_000_000);
    assert!(log.intervals.iter().all(|(start, length)| start % 250 == 0 && *length == 250));
    let starts = log.intervals.iter().map(|(start, _)| *start);
    assert!(starts.clone().is_sorted());
    assert_eq!(starts.max(), Some(3000));
}

#[test]
fn a_command_cannot_break_a_tag() {
    let memory = Memory::default();
    let mut events = script::busy(1);
    for event in &mut events {
        if let Event::Open(open) = event {
            open.comm = Comm::new("a,b c;d=e%\u{e4}");
        }
    }
    feed(&mut Hlog::new(memory.output(), INTERVAL_NS), &events).unwrap();
    let log = read(memory.bytes());
    assert!(
        log.tags.keys().all(|tag| tag.ends_with(";comm=a%2Cb%20c%3Bd%3De%25%C3%A4")),
        "{:?}",
        log.tags.keys()
    );
}

#[test]
fn too_many_processes_share_a_tag_and_lose_nothing() {
    let memory = Memory::default();
    let mut events = script::busy(3);
    let mut number = 0;
    for event in &mut events {
        if let Event::Fault(fault) = event {
            number += 1;
            fault.context.pasid = 100 + number % (3 * FILES as u32);
            fault.tgid = Some(fault.context.pasid);
        }
    }
    let model = feed(&mut Hlog::new(memory.output(), INTERVAL_NS), &events).unwrap();
    let log = read(memory.bytes());
    assert!(log.tags.contains_key("stage=copy;wq=wq0.0;pid=other"));
    assert_eq!(of_stage(&log, Stage::Copy).len(), model.latency().summary_now(Stage::Copy).unwrap().count);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn no_value_is_lost_and_none_moves(
        mut faults in prop::collection::vec(fault(), 1..60),
        interval_ns in 0..2 * INTERVAL_NS,
    ) {
        let memory = Memory::default();
        faults.iter_mut().for_each(|fault| fault.at_ns = script::START_NS + fault.at_ns % (10 * INTERVAL_NS));
        let events: Vec<Event> = [Event::Session(Box::new(script::session()))]
            .into_iter()
            .chain(faults.iter().copied().map(Event::Fault))
            .collect();
        feed(&mut Hlog::new(memory.output(), interval_ns), &events).unwrap();
        let log = read(memory.bytes());
        for stage in Stage::ALL {
            let mut want = Histogram::<u64>::new_with_bounds(1, HIGHEST_NS, DIGITS).unwrap();
            for ns in faults.iter().filter_map(|fault| fault.durations().get(stage)) {
                want.record(ns.min(HIGHEST_NS)).unwrap();
            }
            prop_assert!(of_stage(&log, stage) == want, "{stage:?}");
        }
    }
}

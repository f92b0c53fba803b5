//! Samples and encodings for Prometheus: all of the catalogue, the same in every encoding, and counters that never go backwards.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use dsascope_core::event::{Comm, Event, Fault, Filtering, Open, ProgramStats, StageTimes};
use dsascope_core::metrics::{self, CATALOGUE, Metric, MetricKind, OTHER};
use dsascope_core::model::Model;
use dsascope_export::prometheus::{Distribution, Encoding, Gatherer, Own, QUIET_NS, Scrape, Value};
use proptest::prelude::*;
use support::script;

const OWN: Own<'_> = Own { version: "9.9.9", cpu_seconds: Some(0.25), memory_bytes: Some(20 << 20) };

fn model(events: &[Event]) -> Model {
    let mut model = Model::default();
    events.iter().for_each(|event| model.update(event));
    model
}

fn gather(events: &[Event]) -> Arc<Scrape> {
    Gatherer::new(20).gather(&model(events), &OWN)
}

fn count(scrape: &Scrape, metric: &Metric, labels: &[&str]) -> Option<u64> {
    match scrape.get(metric, labels)? {
        Value::Count(count) => Some(*count),
        other => panic!("{}: {other:?}", metric.name),
    }
}

/// Everything that there is to know.
fn everything() -> Vec<Event> {
    let mut events = script::page_requests();
    for event in &mut events {
        if let Event::Session(session) = event {
            session.filter = Some(Filtering { expression: "pid == 1388".into(), left_out: 3 });
        }
        if let Event::Snapshot(snapshot) = event {
            snapshot.ledger.holes.insert("end_missing".into(), 0);
            for hook in dsascope_core::event::Hook::ALL {
                snapshot.ledger.hits.insert(hook.name().replace(' ', "_"), 5);
            }
            let (runs, run_ns, missed) = (Some(3), Some(900), Some(0));
            let name = "service_start".to_owned();
            snapshot.programs.push(ProgramStats { name, runs, run_ns, missed, ..ProgramStats::default() });
        }
    }
    events
}

#[test]
fn every_metric_has_samples_of_its_kind() {
    let scrape = gather(&everything());
    let told: Vec<&str> = scrape.families().map(|family| family.metric.name).collect();
    let all: Vec<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    assert_eq!(told, all);
    for family in scrape.families() {
        for (labels, value) in &family.samples {
            let is_histogram = matches!(value, Value::Histogram(_));
            assert_eq!(is_histogram, family.metric.kind == MetricKind::Histogram, "{}", family.metric.name);
            assert_eq!(labels.len(), family.metric.labels.len());
        }
    }
}

#[test]
fn what_is_not_known_has_no_sample() {
    let scrape = Gatherer::new(20).gather(&Model::default(), &Own { version: "1", ..Own::default() });
    assert_eq!(scrape.get(&metrics::BALANCED, &[]), None);
    assert_eq!(scrape.get(&metrics::RECORDS_LOST, &["fault"]), None);
    assert_eq!(scrape.get(&metrics::OWN_CPU_SECONDS, &[]), None);
    assert_eq!(count(&scrape, &metrics::LOST, &["ring"]), Some(0));
    // The script's finding needs hooks that are not attached there.
    let failing = gather(&script::failing());
    let missing = count(&failing, &metrics::PROBE_REQUIRED_MISSING, &[]);
    assert!(missing.is_some_and(|missing| missing > 0), "{missing:?}");
    assert_eq!(failing.get(&metrics::PAGE_REQUESTS, &[]), None);
}

#[test]
fn figures_are_the_models() {
    let model = model(&everything());
    let scrape = Gatherer::new(20).gather(&model, &OWN);
    let redis = ["dsa0", "wq0.0", "3", "1201", "redis-server"];
    let row = model.processes().find(|row| row.tgid == Some(1201)).unwrap();
    assert_eq!(count(&scrape, &metrics::PROCESS_FAULTS, &redis), Some(row.faults()));
    assert_eq!(count(&scrape, &metrics::PROCESS_FAULTS, &["dsa0", "wq0.0", OTHER, OTHER, OTHER]), Some(0));
    let failed: u64 =
        ["wq0.0", "wq0.1"].map(|wq| count(&scrape, &metrics::FAILED, &["dsa0", wq]).unwrap()).iter().sum();
    assert_eq!(failed, model.failures());
    let faults = count(&scrape, &metrics::FAULTS, &["iax1", "wq1.0"]).unwrap();
    match scrape.get(&metrics::STAGE_SECONDS, &["iax1", "wq1.0", "service"]).unwrap() {
        Value::Histogram(whole) => assert_eq!(whole.count(), faults),
        other => panic!("{other:?}"),
    }
    assert_eq!(count(&scrape, &metrics::PAGE_REQUESTS, &[]), Some(40));
    assert_eq!(count(&scrape, &metrics::PAGE_REQUESTS_REFUSED, &[]), Some(1));
    assert_eq!(count(&scrape, &metrics::PROGRAM_RUNS, &["service_start"]), Some(3));
}

/// Reads a line of either text format: name, labels, value.
fn parse(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let name_end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inner.split_once("=\"").unwrap();
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().unwrap() {
                    (_, '\\') => value.push(match chars.next().unwrap().1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        c => panic!("escape of {c:?}"),
                    }),
                    (at, '"') => break at,
                    (_, c) => value.push(c),
                }
            };
            assert_eq!(labels.insert(label.to_owned(), value), None, "{label} twice: {line}");
            inner = &after[end + 1..];
            match inner.strip_prefix(',') {
                Some(more) => inner = more,
                None => break,
            }
        }
        rest = inner.strip_prefix('}').unwrap();
    }
    let value = rest.strip_prefix(' ').unwrap();
    (name.to_owned(), labels, value.parse().unwrap())
}

/// What a reader of the text must find.
fn expected(scrape: &Scrape) -> Vec<(String, BTreeMap<String, String>, f64)> {
    let mut all = Vec::new();
    for family in scrape.families() {
        let name = family.metric.name;
        for (values, value) in &family.samples {
            let names = family.metric.labels.iter().map(|&label| label.to_owned());
            let labels: BTreeMap<_, _> = names.zip(values.iter().cloned()).collect();
            match value {
                Value::Count(count) => all.push((name.to_owned(), labels, *count as f64)),
                Value::Float(float) => all.push((name.to_owned(), labels, *float)),
                Value::Histogram(whole) => {
                    for (bound_ns, count) in whole.cumulative() {
                        let mut labels = labels.clone();
                        let bound = bound_ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e9);
                        labels.insert("le".into(), format!("{bound:?}"));
                        all.push((format!("{name}_bucket"), labels, count as f64));
                    }
                    all.push((format!("{name}_sum"), labels.clone(), whole.sum_seconds()));
                    all.push((format!("{name}_count"), labels, whole.count() as f64));
                }
            }
        }
    }
    all
}

#[test]
fn text_reads_back_as_it_was() {
    let scrape = gather(&everything());
    for encoding in [Encoding::Text, Encoding::OpenMetrics] {
        let text = String::from_utf8(scrape.encode(encoding)).unwrap();
        let mut read: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(parse).collect();
        for (_, labels, _) in &mut read {
            if let Some(bound) = labels.get_mut("le") {
                *bound = format!("{:?}", bound.parse::<f64>().unwrap());
            }
        }
        assert_eq!(read, expected(&scrape), "{encoding:?}");
        assert_eq!(read.len(), scrape.series(), "{encoding:?}");
        assert_eq!(text.ends_with("# EOF\n"), encoding == Encoding::OpenMetrics);
        let types = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(types, scrape.families().count());
        let counter = match encoding {
            Encoding::OpenMetrics => "# TYPE dsascope_faults counter\n",
            _ => "# TYPE dsascope_faults_total counter\n",
        };
        assert!(text.contains(counter));
    }
}

fn of_process(at_ns: u64, tgid: u32, pasid: u32, comm: &str) -> Vec<Event> {
    static FAULT: LazyLock<Fault> = LazyLock::new(|| {
        let mut faults = script::busy(1).into_iter().filter_map(|event| match event {
            Event::Fault(fault) => Some(fault),
            _ => None,
        });
        faults.next().expect("the script has faults")
    });
    let fault = *FAULT;
    let mut context = fault.context;
    context.pasid = pasid;
    context.opened_ns = std::num::NonZeroU64::new(u64::from(pasid) + 1);
    let open = Open {
        at_ns,
        context,
        tgid,
        tid: tgid,
        cgroup: None,
        cgroup_path: None,
        comm: Comm::new(comm),
        file: pasid,
        files: 1,
        existing: false,
    };
    // One stage, because reading all of them takes a while without optimisation.
    let times = StageTimes {
        started_ns: fault.times.started_ns,
        done_ns: fault.times.done_ns,
        ..StageTimes::default()
    };
    vec![Event::Open(open), Event::Fault(Fault { at_ns, context, tgid: Some(tgid), times, ..fault })]
}

#[test]
fn a_hostile_name_stays_in_its_label() {
    let mut events = vec![Event::Session(Box::new(script::session()))];
    events.extend(of_process(script::START_NS, 666, 9, "x\"} 7\\\n# EOF"));
    let scrape = gather(&events);
    let text = String::from_utf8(scrape.encode(Encoding::OpenMetrics)).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("pid=\"666\"")).map(parse).collect();
    let comms: Vec<&str> = lines.iter().map(|(_, labels, _)| labels["comm"].as_str()).collect();
    // A control character was replaced where the name came in.
    assert_eq!(comms, ["x\"} 7\\\u{fffd}# EOF"; 2]);
    assert_eq!(text.matches("\n# EOF").count(), 1);
}

/// Reads protobuf by the format's rules alone: fields of a message by number.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => {
                let (double, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Double(f64::from_le_bytes(double.try_into().unwrap()))
            }
            2 => Field::Bytes(delimited(&mut bytes)),
            wire => panic!("wire type {wire}"),
        };
        all.push((key >> 3, field));
    }
    all
}

#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Varint(u64),
    Double(f64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

const fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn delimited<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let length = usize::try_from(varint(bytes)).unwrap();
    let (message, rest) = bytes.split_at(length);
    *bytes = rest;
    message
}

fn one<'a>(fields: &[(u64, Field<'a>)], number: u64) -> Option<Field<'a>> {
    fields.iter().find(|(found, _)| *found == number).map(|(_, field)| *field)
}

fn many<'a>(fields: &[(u64, Field<'a>)], number: u64) -> Vec<&'a [u8]> {
    let of = fields.iter().filter(|(found, _)| *found == number);
    of.map(|(_, field)| if let Field::Bytes(bytes) = field { *bytes } else { panic!("{field:?}") }).collect()
}

fn text(field: Option<Field<'_>>) -> String {
    match field {
        Some(Field::Bytes(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn double(field: Option<Field<'_>>) -> f64 {
    if let Some(Field::Double(double)) = field { double } else { panic!("{field:?}") }
}

fn integer(field: Option<Field<'_>>) -> u64 {
    if let Some(Field::Varint(integer)) = field { integer } else { panic!("{field:?}") }
}

/// Field numbers as Prometheus' metrics.proto has them.
#[test]
fn protobuf_reads_back_as_it_was() {
    let scrape = gather(&everything());
    let encoded = scrape.encode(Encoding::Protobuf);
    let mut bytes = encoded.as_slice();
    for family in scrape.families() {
        let message = fields(delimited(&mut bytes));
        assert_eq!(text(one(&message, 1)), family.metric.name);
        assert_eq!(text(one(&message, 2)), family.metric.help);
        let (kind, number) = match family.metric.kind {
            MetricKind::Counter => (0, 3),
            MetricKind::Gauge => (1, 2),
            MetricKind::Histogram => (4, 7),
        };
        assert_eq!(integer(one(&message, 3)), kind);
        let samples = many(&message, 4);
        assert_eq!(samples.len(), family.samples.len());
        for (sample, (values, value)) in samples.iter().zip(&family.samples) {
            let sample = fields(sample);
            let pairs = many(&sample, 1).into_iter().map(fields);
            let pairs: Vec<_> = pairs.map(|pair| (text(one(&pair, 1)), text(one(&pair, 2)))).collect();
            let labels = family.metric.labels.iter().map(|&label| label.to_owned());
            assert_eq!(pairs, labels.zip(values.iter().cloned()).collect::<Vec<_>>());
            let inner = many(&sample, number);
            assert_eq!(inner.len(), 1, "{}", family.metric.name);
            let inner = fields(inner[0]);
            match value {
                Value::Count(count) => assert_eq!(double(one(&inner, 1)), *count as f64),
                Value::Float(float) => assert_eq!(double(one(&inner, 1)), *float),
                Value::Histogram(whole) => histogram(&inner, whole),
            }
        }
    }
    assert!(bytes.is_empty());
}

fn histogram(message: &[(u64, Field<'_>)], whole: &Distribution) {
    assert_eq!(integer(one(message, 1)), whole.count());
    assert_eq!(double(one(message, 2)), whole.sum_seconds());
    let classic = many(message, 3).into_iter().map(fields);
    let classic: Vec<_> = classic.map(|bucket| (double(one(&bucket, 2)), integer(one(&bucket, 1)))).collect();
    let bound = |ns: Option<u64>| ns.map_or(f64::INFINITY, |ns| ns as f64 / 1e9);
    assert_eq!(classic, whole.cumulative().map(|(ns, count)| (bound(ns), count)).collect::<Vec<_>>());
    assert_eq!(zigzag(integer(one(message, 5))), 3);
    assert_eq!(double(one(message, 6)), 1e-9);
    let zero = integer(one(message, 7));
    let deltas = many(message, 13).concat();
    let mut deltas = deltas.as_slice();
    let (mut bucket, mut count, mut native) = (0, 0, Vec::new());
    for span in many(message, 12) {
        let span = fields(span);
        bucket += zigzag(integer(one(&span, 1)));
        for _ in 0..integer(one(&span, 2)) {
            count += zigzag(varint(&mut deltas));
            native.push((i32::try_from(bucket).unwrap(), u64::try_from(count).unwrap()));
            bucket += 1;
        }
    }
    assert!(deltas.is_empty());
    assert_eq!(native, whole.native().collect::<Vec<_>>());
    assert_eq!(zero + native.iter().map(|(_, count)| count).sum::<u64>(), whole.count());
}

fn processes(scrape: &Scrape) -> BTreeMap<Vec<String>, u64> {
    let families = scrape.families().filter(|family| family.metric.name == metrics::PROCESS_FAULTS.name);
    let samples = families.flat_map(|family| &family.samples);
    let number = |value: &Value| if let Value::Count(count) = value { *count } else { panic!("{value:?}") };
    samples.map(|(labels, value)| (labels.clone(), number(value))).collect()
}

#[test]
fn the_top_keep_their_places_until_they_are_silent() {
    let mut gatherer = Gatherer::new(2);
    let mut model = Model::default();
    let mut at_ns = script::START_NS;
    let mut turn = |model: &mut Model, faults: &[(u32, u32)], pass_ns: u64| {
        for &(pasid, times) in faults {
            let events = of_process(at_ns, 1000 + pasid, pasid, "p");
            model.update(&events[0]);
            (0..times).for_each(|_| model.update(&events[1]));
        }
        at_ns += pass_ns;
        model.update(&Event::Tick { now_ns: at_ns });
        let all = processes(&gatherer.gather(model, &OWN)).into_iter();
        all.map(|(labels, count)| (labels[2].clone(), count)).collect::<BTreeMap<_, _>>()
    };
    let is = |told: &BTreeMap<String, u64>, want: &[(&str, u64)]| {
        let want: BTreeMap<_, _> = want.iter().map(|(who, count)| ((*who).to_owned(), *count)).collect();
        assert_eq!(*told, want);
    };
    is(&turn(&mut model, &[(1, 5), (2, 9), (3, 7)], 1), &[("2", 9), ("3", 7), (OTHER, 5)]);
    // The rank changes; the places do not.
    is(&turn(&mut model, &[(1, 50), (2, 1)], QUIET_NS / 2), &[("2", 10), ("3", 7), (OTHER, 55)]);
    is(&turn(&mut model, &[(2, 1)], QUIET_NS / 2 - 1), &[("2", 11), ("3", 7), (OTHER, 55)]);
    // 3 has been silent for long enough; 1 is counted by name from now on, and 3 is not counted twice.
    is(&turn(&mut model, &[(1, 4), (2, 1)], 1), &[("1", 4), ("2", 12), (OTHER, 55)]);
    is(&turn(&mut model, &[(3, 2)], 1), &[("1", 4), ("2", 12), (OTHER, 57)]);
}

proptest! {
    // Each takes dozens of readings of all histograms.
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn counters_never_go_backwards_and_nothing_is_counted_twice(
        turns in prop::collection::vec((prop::collection::vec((1u32..9, 1u32..5), 0..6), 1u64..QUIET_NS), 1..12),
        top in 0usize..4,
    ) {
        let mut gatherer = Gatherer::new(top);
        let mut model = Model::default();
        let (mut at_ns, mut total) = (script::START_NS, 0);
        let (mut before, mut sum) = (BTreeMap::new(), 0);
        for (faults, pass_ns) in turns {
            for (pasid, times) in faults {
                let events = of_process(at_ns, 1000 + pasid, pasid, "p");
                model.update(&events[0]);
                (0..times).for_each(|_| model.update(&events[1]));
                total += u64::from(times);
            }
            at_ns += pass_ns;
            model.update(&Event::Tick { now_ns: at_ns });
            let scrape = gatherer.gather(&model, &OWN);
            let now = processes(&scrape);
            prop_assert!(now.len() <= top + 1);
            // What a scraper adds up: each series' increase, from 0 for a new one.
            for (labels, count) in &now {
                let from = before.get(labels).copied().unwrap_or(0);
                prop_assert!(*count >= from, "{labels:?}: {count} after {from}");
                sum += count - from;
            }
            prop_assert_eq!(sum, total);
            let wqs = scrape.families().filter(|family| family.metric.name == metrics::FAULTS.name);
            let wqs = wqs.flat_map(|family| family.samples.values());
            let of = |value: &Value| if let Value::Count(count) = value { *count } else { 0 };
            prop_assert_eq!(wqs.map(of).sum::<u64>(), total);
            before = now;
        }
    }
}

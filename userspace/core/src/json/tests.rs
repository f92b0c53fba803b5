use std::num::NonZeroU64;

use super::*;
use crate::driver::{Command, DeviceState};
use crate::event::{Asked, ByKind, CopyOutcome, DeviceInfo, KernelLedger, Snapshot, WqInfo};
use crate::model::Limits;
use crate::probe::{Hook, Verdict, VerdictState};
use crate::testing;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/dsascope-v1.schema.json");

#[test]
fn the_committed_schema_is_the_generated_one() {
    let generated = schema().unwrap();
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(SCHEMA, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(SCHEMA).unwrap_or_default();
    assert!(committed == generated, "run `UPDATE_SCHEMA=1 cargo test -p dsascope-core` and commit {SCHEMA}");
}

fn events() -> Vec<Event> {
    let context = testing::context(0, 1, 5);
    let at = NonZeroU64::new;
    let verdict = |hook, state| Verdict { hook, required: true, state, hits: None, attach_ns: Some(5) };
    vec![
        Event::Session(Box::new(SessionInfo {
            host: "h".into(),
            kernel: "7.3.4".into(),
            devices: vec![DeviceInfo {
                device: context.device,
                state: "enabled".into(),
                version: Some(0x200),
                gen_cap: Some(u64::MAX),
                event_log_size: Some(64),
                pasid_enabled: Some(true),
                numa_node: Some(-1),
                wqs: vec![WqInfo { wq: 1, prs_disable: Some(true), ..WqInfo::default() }],
            }],
            verdicts: vec![verdict(Hook::Queued, VerdictState::Attached { by: "tp_btf".into() })],
            wall_at_zero_ns: -1,
            ..SessionInfo::default()
        })),
        Event::Open(Open {
            at_ns: 1_000,
            context,
            tgid: 4242,
            tid: 4243,
            cgroup: Some(u64::MAX),
            cgroup_path: Some("/user.slice".into()),
            comm: Comm::new("redis"),
            file: 0,
            files: 1,
            existing: false,
        }),
        Event::Fault(testing::fault(context, 50_000)),
        Event::Interrupt(Interrupt {
            at_ns: 50_500,
            cpu: 0,
            device: context.device,
            start_ns: 49_000,
            end_ns: 50_400,
            entries: 1,
            swerror: Some([0x0000_0703_0001_100d, 2, 3, 0]),
        }),
        Event::Driver(DriverEvent {
            at_ns: 50_800,
            cpu: 2,
            device: context.device,
            tgid: 77,
            tid: 78,
            comm: Comm::new("accel-config"),
            what: Happening::Command(Command {
                command_code: 6,
                operand: 1,
                status_code: 0,
                start_ns: 50_600,
                wq: Some(1),
                during: None,
                enabled: Some(WqConfig {
                    type_: "user".into(),
                    mode: "dedicated".into(),
                    size: 16,
                    threshold: 0,
                    priority: 10,
                    block_on_fault: false,
                    prs_disable: true,
                    ats_disable: false,
                }),
            }),
        }),
        Event::Driver(DriverEvent {
            at_ns: 50_900,
            cpu: 2,
            device: context.device,
            tgid: 9,
            tid: 9,
            comm: Comm::new("kworker/2:1"),
            what: Happening::Reset { start_ns: at(50_850), state: Some(DeviceState::Enabled) },
        }),
        Event::Driver(DriverEvent {
            at_ns: 50_950,
            cpu: 2,
            device: context.device,
            tgid: 9,
            tid: 9,
            comm: Comm::new("irq/9-idxd-mi"),
            what: Happening::Warning { text: "Failed to service fault work.".into() },
        }),
        Event::PageRequest(PageRequest {
            at_ns: 50_900,
            cpu: 2,
            device: context.device,
            pasid: Some(5),
            group: 17,
            code: 0,
            request: Some(Asked { at_ns: 50_600, pages: 1, address: 0x7f00_0000_1000, write: true }),
        }),
        Event::Hole(Hole { at_ns: 51_000, what: HoleKind::RingLost { cpu: 3 }, count: 2 }),
        Event::Release(Release {
            at_ns: 60_000,
            context,
            start_ns: at(59_000),
            drain_ns: None,
            end_ns: at(60_000),
            counter_faults: 1,
            counter_failures: 0,
            file: 0,
            skipped: 0,
        }),
    ]
}

fn totals() -> ContextTotals {
    ContextTotals {
        context: testing::context(0, 1, 5),
        tgid: Some(4242),
        comm: Comm::new("redis"),
        cgroup: Some(9),
        closed: true,
        queued: 3,
        served: 3,
        delivered: 3,
        failed: 0,
        not_copied: 0,
        unobserved: 0,
        skipped: 0,
        cr_faults: 3,
        batch_faults: 0,
        drains: 0,
        counter_faults: 3,
        counter_failures: 0,
        driver_faults: Some(3),
        driver_failures: Some(0),
        records_lost: 2,
        service_ns_sum: 840,
        service_ns_max: 280,
        opened_files: 1,
    }
}

fn snapshot(totals: ContextTotals) -> Event {
    let count = |fault| ByKind { fault, ..ByKind::default() };
    Event::Snapshot(Box::new(Snapshot {
        at_ns: 70_000,
        quiesced: true,
        totals: vec![totals],
        ledger: KernelLedger { seen: count(3), sent: count(1), lost: count(2), ..KernelLedger::default() },
        received: count(1),
        ..Snapshot::default()
    }))
}

fn fed(totals: ContextTotals) -> Model {
    let mut model = Model::new(Limits::default());
    events().iter().chain([&snapshot(totals)]).for_each(|event| model.update(event));
    model
}

fn last(model: &Model) -> SummaryLine {
    match summary(model).body {
        Body::Summary(line) => *line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_line_reads_back_as_its_event() {
    let mut model = Model::new(Limits::default());
    for event in events() {
        model.update(&event);
        let line = Line::of(&event, &model).unwrap();
        let text = line.to_text().unwrap();
        assert!(!text.contains('\n'));
        let back = Line::parse(&text).unwrap();
        assert_eq!(back, line);
        assert_eq!(back.into_event(), Some(event));
    }
    assert_eq!(Line::of(&Event::Tick { now_ns: 1 }, &model), None);
}

#[test]
fn lines_look_as_documented() {
    let mut model = fed(totals());
    let mut text = String::new();
    for event in events() {
        text += &Line::of(&event, &model).unwrap().to_text().unwrap();
        text.push('\n');
    }
    for line in [stat(&mut model), summary(&model)] {
        let line_text = line.to_text().unwrap();
        assert_eq!(Line::parse(&line_text).unwrap(), line);
        text += &line_text;
        text.push('\n');
    }
    insta::assert_snapshot!("lines", text);
}

#[test]
fn another_version_is_refused() {
    let text = r#"{"v":2,"kind":"hole","at_ns":1,"hole":"end_missing","count":1}"#;
    assert!(Line::parse(text).is_err());
    assert!(Line::parse(&text.replace("\"v\":2", "\"v\":1")).is_ok());
}

#[test]
fn totals_stay_exact_when_records_are_lost() {
    let line = last(&fed(totals()));
    assert_eq!((line.exact, line.complete), (true, false), "{:?}", line.reasons);
    assert_eq!((line.contexts[0].records_received, line.contexts[0].totals.records_lost), (Some(1), 2));
    assert_eq!(line.balance, Balance::Balanced);
}

#[test]
fn every_disagreement_is_a_reason() {
    type Break = fn(&mut ContextTotals);
    let broken: [(&str, Break); 4] = [
        ("the driver counted 4 faults", |t| t.driver_faults = Some(4)),
        ("the driver counted 1 failures", |t| t.driver_failures = Some(1)),
        ("2 with an outcome", |t| t.delivered = 2),
        ("1 received and 1 lost", |t| t.records_lost = 1),
    ];
    for (words, breaks) in broken {
        let mut totals = totals();
        breaks(&mut totals);
        let line = last(&fed(totals));
        assert!(!line.exact);
        assert!(line.reasons.len() == 1 && line.reasons[0].contains(words), "{words}: {:?}", line.reasons);
    }
    let mut model = Model::new(Limits::default());
    assert_eq!(last(&model).reasons, ["the kernel's totals were never read"]);
    if let Event::Snapshot(mut snapshot) = snapshot(totals()) {
        snapshot.quiesced = false;
        snapshot.ledger.holes.insert("totals_full".into(), 7);
        model.update(&Event::Snapshot(snapshot));
    }
    assert_eq!(last(&model).reasons.len(), 3, "{:?}", last(&model).reasons);
}

#[test]
fn skipped_runs_matter_where_totals_come_from_them() {
    let exact = |hook| {
        let mut model = fed(totals());
        let Event::Snapshot(mut last_snapshot) = snapshot(totals()) else { panic!("no snapshot") };
        last_snapshot.programs = vec![ProgramStats {
            name: "skipped".into(),
            hook: Some(hook),
            runs: None,
            run_ns: None,
            missed: Some(1),
            verified_instructions: None,
        }];
        model.update(&Event::Snapshot(last_snapshot));
        last(&model).exact
    };
    // What a missed hand-over or end of a copy leaves behind stands at its fault.
    for hook in Hook::ALL.iter().copied() {
        let matters = hook.is_of_faults() && !matches!(hook, Hook::Queued | Hook::CopyEnd);
        assert_eq!(exact(hook), !matters, "{hook:?}");
    }
}

#[test]
fn an_interval_tells_of_itself_alone() {
    let mut model = fed(totals());
    let context = testing::context(0, 1, 5);
    let interval = |model: &mut Model| match stat(model).body {
        Body::Stat(line) => *line,
        other => panic!("{other:?}"),
    };
    assert_eq!(interval(&mut model).faults, 1);
    let mut fault = testing::fault(context, 80_000);
    fault.copy = CopyOutcome::Short { asked: 32, done: 0 };
    model.update(&Event::Fault(fault));
    let line = interval(&mut model);
    assert_eq!(
        (line.faults, line.failed, line.interval_ns, line.faults_per_s),
        (1, 1, 10_000, Some(100_000.0))
    );
    assert_eq!((line.processes[0].faults, line.processes[0].failed), (1, 1));
    assert_eq!(line.latency.iter().find(|l| l.stage == Stage::Service).unwrap().summary.p50_ns, 280);
    assert_eq!(interval(&mut model).processes, []);
}

#[test]
fn batch_and_decode_lines_read_back() {
    use crate::decode::text::{Decoder, Format};
    let mut model = Model::new(Limits::default());
    let mut fault = testing::fault(testing::context(0, 1, 5), 50_000);
    fault.entry = fault.entry.with_batch(true).with_batch_id(7).with_first_err_in_batch(true);
    model.update(&Event::Fault(fault));
    fault.entry = fault.entry.with_error(0x27);
    model.update(&Event::Fault(fault));
    let batch = &model.batches().just_ended()[0];
    let mut lines = vec![Line::from(Body::Batch(Box::new(BatchLine::new(batch, &model))))];
    let mut decoder = Decoder::new(Format::Dump);
    let dump =
        ["Event Log head 0 tail 1 interrupt pending 0", "Event Log entry 0 (real index 0) processed: 0"];
    for (line, text) in dump.iter().chain(&["entry[0] = 0x50003001a0c"]).enumerate() {
        decoder.line(line as u64 + 1, text, &mut |item| lines.push(item.into()));
    }
    decoder.finish(&mut |item| lines.push(item.into()));
    assert_eq!(lines.len(), 4);
    for line in lines {
        let text = line.to_text().unwrap();
        let read = Line::parse(&text).unwrap();
        assert_eq!(read.to_text().unwrap(), text);
        assert!(read.into_event().is_none());
    }
}

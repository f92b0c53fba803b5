use std::collections::HashMap;

use dsascope_common::wire::{ContextKey, FaultRecord, RecordHeader, kind};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::event::{
    ByKind, Comm, Context, ContextTotals, CopyOutcome, DeviceId, DeviceKind, KernelLedger, ProgramStats,
};
use crate::json::{Body, summary};
use crate::record::RingDecoder;
use crate::testing::{context, fault};

const SECOND: u64 = 1_000_000_000;

fn small() -> Limits {
    Limits {
        processes: 4,
        histograms: 2,
        recent_faults: 8,
        recent_holes: 4,
        recent_releases: 2,
        recent_driver_events: 2,
    }
}

fn open(context: Context, at_ns: u64, files: u32) -> Event {
    Event::Open(Open {
        at_ns,
        context,
        tgid: 4242,
        tid: 4242,
        cgroup: Some(7),
        cgroup_path: None,
        comm: Comm::new("redis"),
        file: 0,
        files,
        existing: false,
    })
}

fn release(context: Context, at_ns: u64) -> Event {
    Event::Release(Release {
        at_ns,
        context,
        start_ns: None,
        drain_ns: None,
        end_ns: None,
        counter_faults: 0,
        counter_failures: 0,
        file: 0,
        skipped: 0,
    })
}

#[test]
fn an_empty_model_knows_nothing_and_shows_no_zero_for_it() {
    let header = Model::default().header();
    assert_eq!(
        (header.faults_per_s, header.failures_per_s, header.interrupts_per_s, header.uptime_ns),
        (None, None, None, None)
    );
    assert_eq!((header.pending, header.service, header.driver), (None, None, None));
    assert_eq!(header.balance, Balance::Unknown);
}

#[test]
fn a_fault_reaches_every_table() {
    let mut model = Model::default();
    let place = context(0, 3, 9);
    model.update(&open(place, SECOND, 1));
    let mut failed = fault(place, 2 * SECOND);
    failed.copy = CopyOutcome::Short { asked: 32, done: 3 };
    for event in [Event::Fault(fault(place, 2 * SECOND)), Event::Fault(failed)] {
        model.update(&event);
    }
    model.update(&Event::Tick { now_ns: 3 * SECOND });
    model.refresh();
    let row = model.process(place.key()).unwrap();
    assert_eq!(
        (row.tgid, row.comm, row.faults(), row.failures()),
        (Some(4242), Some(Comm::new("redis")), 2, 1)
    );
    assert_eq!(row.counts.by_operation, BTreeMap::from([(3, 2)]));
    assert_eq!(row.summary(Stage::Copy).unwrap().max_ns, 80);
    assert_eq!(model.process_rate(row), Some(1.0));
    assert_eq!(model.wq(place.wq_id()).map(Wq::faults), Some(2));
    assert_eq!(model.device(0).map(Device::failures), Some(1));
    assert_eq!(model.wq_latency(place.wq_id()).summary(Stage::Service).unwrap().count, 2);
    let header = model.header();
    assert_eq!((header.faults, header.failures, header.faults_per_s), (2, 1, Some(1.0)));
    assert_eq!(model.fault_number(1), Some(&failed));
    assert_eq!(model.recent_numbers(), 0..2);
}

#[test]
fn a_fault_without_an_end_is_no_served_fault() {
    let mut model = Model::default();
    let mut unfinished = fault(context(0, 0, 1), SECOND);
    unfinished.marks.end_missing = true;
    unfinished.times.done_ns = None;
    unfinished.copy = CopyOutcome::Unobserved;
    model.update(&Event::Fault(unfinished));
    assert_eq!((model.faults(), model.counts().unfinished), (0, 1));
    model.refresh();
    assert_eq!(model.latency().summary(Stage::Service), None);
}

#[test]
fn two_users_of_one_pasid_are_two_rows() {
    let mut model = Model::default();
    let first = context(0, 0, 1);
    let second = Context { opened_ns: std::num::NonZeroU64::new(5_000), ..first };
    for event in [
        open(first, 1_000, 1),
        Event::Fault(fault(first, 2_000)),
        release(first, 4_000),
        open(second, 5_000, 1),
        Event::Fault(fault(second, 6_000)),
    ] {
        model.update(&event);
    }
    let rows: Vec<_> = [first, second].iter().map(|c| model.process(c.key()).unwrap()).collect();
    assert_eq!((rows[0].faults(), rows[0].closed), (1, true));
    assert_eq!((rows[1].faults(), rows[1].closed), (1, false));
}

#[test]
fn closing_one_of_two_files_does_not_close_the_row() {
    let mut model = Model::default();
    let place = context(0, 0, 1);
    [open(place, 1_000, 1), open(place, 1_100, 2), release(place, 2_000)]
        .iter()
        .for_each(|e| model.update(e));
    assert!(!model.process(place.key()).unwrap().closed);
    model.update(&release(place, 3_000));
    assert!(model.process(place.key()).unwrap().closed);
}

#[test]
fn verdicts_carry_the_hits_of_the_last_snapshot() {
    use crate::probe::{Hook, VerdictState};
    let mut model = Model::default();
    let verdict = |hook, state| Verdict { hook, required: true, state, hits: None, attach_ns: None };
    let verdicts = vec![
        verdict(Hook::Queued, VerdictState::Attached { by: "tp_btf".into() }),
        verdict(Hook::CopyEnd, VerdictState::Refused { why: "no".into() }),
    ];
    model.update(&Event::Session(Box::new(SessionInfo { verdicts, ..SessionInfo::default() })));
    assert_eq!(model.verdicts()[0].hits, None);
    let hits = [("queued".to_owned(), 7), ("copy_end".to_owned(), 0)].into();
    let ledger = KernelLedger { hits, ..KernelLedger::default() };
    model.update(&Event::Snapshot(Box::new(Snapshot {
        ledger,
        programs: vec![ProgramStats::default()],
        ..Snapshot::default()
    })));
    // What is not attached has no hits, not 0.
    assert_eq!(model.verdicts().iter().map(|v| v.hits).collect::<Vec<_>>(), [Some(7), None]);
}

/// A process faults on a CPU; its record may find the ring full.
#[derive(Clone, Copy, Debug)]
struct Act {
    cpu: u16,
    process: u32,
    failed: bool,
    lost: bool,
    closes: bool,
}

fn act() -> impl Strategy<Value = Act> {
    (0u16..4, 0u32..7, any::<bool>(), 0u8..10, 0u8..20).prop_map(|(cpu, process, failed, lost, closes)| Act {
        cpu,
        process,
        failed,
        lost: lost < 3,
        closes: closes == 0,
    })
}

fn wire_fault(act: Act, at_ns: u64, lost: u32) -> FaultRecord {
    let mut record = FaultRecord::read_from_bytes(&[0; size_of::<FaultRecord>()]).unwrap();
    record.header = RecordHeader { kind: kind::FAULT, cpu: act.cpu, lost, time_ns: at_ns };
    record.context = ContextKey { opened_ns: 1, pasid: act.process, device: (act.process % 2) as u16, wq: 0 };
    record.started_ns = at_ns - 50;
    record.copy_start_ns = at_ns - 40;
    record.copy_end_ns = at_ns - 10;
    record.done_ns = at_ns;
    record.copy_asked = 32;
    record.copy_done = if act.failed { 5 } else { 32 };
    record
}

proptest! {
    #[test]
    fn the_books_balance_under_any_interleaving(acts in prop::collection::vec(act(), 0..300), limits in prop::sample::select(vec![small(), Limits::default()])) {
        let mut model = Model::new(limits);
        let mut decoder = RingDecoder::new(&[]);
        let mut lost_by_cpu: HashMap<u16, u32> = HashMap::new();
        let mut totals: BTreeMap<u32, ContextTotals> = BTreeMap::new();
        let (mut seen, mut sent, mut lost) = (0, 0, 0);
        let mut now = SECOND;
        for act in acts {
            now += 1_000_000;
            let lost_here = lost_by_cpu.entry(act.cpu).or_default();
            let record = wire_fault(act, now, *lost_here);
            let total = totals.entry(act.process).or_insert_with(|| {
                let bytes = [0; size_of::<dsascope_common::wire::Totals>()];
                let zero = dsascope_common::wire::Totals::read_from_bytes(&bytes).unwrap();
                ContextTotals::from_wire(record.context, &zero, DeviceKind::Dsa)
            });
            total.queued += 1;
            total.served += 1;
            *if act.failed { &mut total.failed } else { &mut total.delivered } += 1;
            seen += 1;
            if act.lost {
                lost += 1;
                *lost_here += 1;
                total.records_lost += 1;
            } else {
                sent += 1;
                decoder.push(record.as_bytes(), |event| model.update(&event)).unwrap();
            }
            if act.closes {
                model.update(&release(total.context, now));
            }
        }
        let count = |fault| ByKind { fault, ..ByKind::default() };
        model.update(&Event::Snapshot(Box::new(Snapshot {
            at_ns: now,
            quiesced: true,
            totals: totals.values().cloned().collect(),
            ledger: KernelLedger { seen: count(seen), sent: count(sent), lost: count(lost), ..KernelLedger::default() },
            received: decoder.received(),
            ..Snapshot::default()
        })));

        prop_assert!(seen == 0 || model.ledger().balance() == Balance::Balanced);
        prop_assert_eq!(model.faults(), seen);
        prop_assert_eq!(model.counts().faults + lost, seen);
        prop_assert!(model.ledger().ring_lost_placed <= lost);
        prop_assert_eq!(model.ledger().lost(), lost);
        // Nothing is counted twice or dropped between the tables.
        let rows: u64 = model.processes().chain([model.other()]).map(|p| p.counts.faults).sum();
        prop_assert_eq!(rows, sent);
        prop_assert_eq!(model.wqs().map(Wq::faults).sum::<u64>(), seen);
        prop_assert_eq!(model.devices().map(Device::failures).sum::<u64>(), totals.values().map(|t| t.failed).sum::<u64>());
        // Histograms too, wherever they went.
        let ids: Vec<_> = model.wqs().map(|wq| wq.id).collect();
        let timed: u64 = ids.into_iter().filter_map(|id| Some(model.wq_latency(id).get(Stage::Service)?.count())).sum();
        prop_assert_eq!(timed, sent);
        // Bounds hold.
        prop_assert!(model.processes().len() <= limits.processes);
        prop_assert!(model.processes().filter(|p| p.latency().is_some()).count() <= limits.histograms);
        prop_assert!(model.recent_faults().len() <= limits.recent_faults && model.recent_holes().len() <= limits.recent_holes);
        let Body::Summary(line) = summary(&model).body else { panic!("no summary") };
        prop_assert!(line.exact, "{:?}", line.reasons);
        prop_assert_eq!(line.complete, lost == 0);
    }
}

#[test]
fn a_full_table_of_open_files_collects_the_rest() {
    let mut model = Model::new(small());
    for pasid in 0..10 {
        let mut sample = fault(context(0, 0, pasid), SECOND + u64::from(pasid));
        sample.context.device = DeviceId::new(DeviceKind::Dsa, 0);
        model.update(&Event::Fault(sample));
    }
    assert_eq!((model.processes().len(), model.other().counts.faults), (4, 6));
    assert_eq!(model.faults(), 10);
    // A file that is closed then gives way, though none could before.
    let closed = Context { device: DeviceId::new(DeviceKind::Dsa, 0), ..context(0, 0, 1) };
    let gone = closed.key();
    model.update(&release(closed, SECOND + 20));
    let newcomer = fault(context(0, 0, 99), 2 * SECOND);
    let key = newcomer.context.key();
    model.update(&Event::Fault(newcomer));
    assert!(model.process(key).is_some() && model.process(gone).is_none());
    assert_eq!((model.processes().len(), model.other().counts.faults, model.faults()), (4, 7, 11));
}

use super::*;
use crate::driver::HaltAnswer;
use crate::event::{Comm, Event, Hole, HoleKind, Open, SessionInfo};
use crate::findings::threshold::HOLD_NS;
use crate::probe::{Hook, Verdict, VerdictState};
use crate::testing::{context, fault};

mod devices;
mod history;
mod memory;
mod own;
mod storm;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

fn open(context: Context, file: u32, files: u32) -> Event {
    Event::Open(Open {
        at_ns: 1_000,
        context,
        tgid: 4242,
        tid: 4242,
        cgroup: None,
        cgroup_path: None,
        comm: Comm::new("redis"),
        file,
        files,
        existing: false,
    })
}

fn release(context: Context, file: u32, held_ns: u64, skipped: u32) -> Event {
    let at = std::num::NonZeroU64::new;
    Event::Release(Release {
        at_ns: 20 * MS,
        context,
        start_ns: at(9 * MS),
        drain_ns: at(10 * MS),
        end_ns: at(10 * MS + held_ns),
        counter_faults: 0,
        counter_failures: 0,
        file,
        skipped,
    })
}

fn not_copied(at_ns: u64) -> Event {
    let mut fault = fault(context(0, 0, 1), at_ns);
    fault.copy = CopyOutcome::Short { asked: 32, done: 0 };
    fault.counted_failures = 1;
    Event::Fault(fault)
}

fn driver(what: Happening) -> Event {
    let device = context(0, 0, 1).device;
    Event::Driver(DriverEvent { at_ns: 5, cpu: 0, device, tgid: 1, tid: 1, comm: Comm::new("x"), what })
}

fn warning(text: &str) -> Event {
    driver(Happening::Warning { text: text.into() })
}

fn interrupt(swerror: Option<[u64; 4]>) -> Event {
    let device = context(0, 0, 1).device;
    Event::Interrupt(Interrupt { at_ns: 9, cpu: 0, device, start_ns: 5, end_ns: 9, entries: 0, swerror })
}

fn model(events: &[Event]) -> Model {
    let mut model = Model::default();
    events.iter().for_each(|event| model.update(event));
    model
}

/// Kinds and counts.
fn found(events: &[Event]) -> Vec<(FindingKind, u64)> {
    model(events).findings().iter().map(|f| (f.finding, f.count)).collect()
}

#[test]
fn an_ordinary_session_finds_nothing() {
    let file = context(0, 0, 1);
    let mut failed = fault(file, 3 * MS);
    failed.copy = CopyOutcome::Short { asked: 32, done: 0 };
    let events = [
        open(file, 0, 1),
        Event::Fault(fault(file, 2 * MS)),
        Event::Fault(failed),
        interrupt(Some([0x100d, 0, 0, 0])),
        interrupt(None),
        warning("No user context"),
        release(file, 0, HOLD_NS - 1, 3),
    ];
    assert_eq!(found(&events), []);
}

#[test]
fn faults_after_the_first_file_is_closed_reach_no_one() {
    let file = context(0, 0, 1);
    let opens = [open(file, 4, 1), open(file, 5, 2)];
    let closed = [&opens[..], &[release(file, 4, 0, 2), not_copied(30 * MS)]].concat();
    assert_eq!(found(&closed), [(FindingKind::DeliveredToNoOne, 3)]);
    let finding = &model(&closed).findings()[0];
    assert_eq!(
        finding.evidence.iter().map(Evidence::place).collect::<Vec<_>>(),
        ["wq0.0 PASID 1", "wq0.0 PASID 1"]
    );

    // The second file closed first changes nothing; nor does a failure before, or after a third open.
    assert_eq!(found(&[&opens[..], &[release(file, 5, 0, 2), not_copied(30 * MS)]].concat()), []);
    assert_eq!(found(&[&opens[..], &[not_copied(5 * MS), release(file, 4, 0, 0)]].concat()), []);
    let again = [&opens[..], &[release(file, 4, 0, 0), open(file, 6, 2), not_copied(30 * MS)]].concat();
    assert_eq!(found(&again), []);
    // A copy that got somewhere found its file.
    let mut partly = fault(file, 30 * MS);
    partly.copy = CopyOutcome::Short { asked: 32, done: 3 };
    assert_eq!(found(&[&opens[..], &[release(file, 4, 0, 0), Event::Fault(partly)]].concat()), []);
}

#[test]
fn which_file_was_first_is_not_guessed() {
    let file = context(0, 0, 1);
    let existing = |number, files| match open(file, number, files) {
        Event::Open(open) => Event::Open(Open { existing: true, ..open }),
        other => other,
    };
    let events = [existing(4, 1), existing(5, 2), release(file, 4, 0, 0), not_copied(30 * MS)];
    assert_eq!(found(&events), []);
}

#[test]
fn a_batch_record_that_nobody_asked_for_leaks() {
    let mut silent = fault(context(0, 0, 1), MS);
    silent.entry = silent.entry.with_error(0x27).with_rcr(false);
    silent.copy = CopyOutcome::NotCopied;
    let events = [Event::Fault(silent), Event::Fault(silent)];
    let leaked = model(&events).findings().swap_remove(0);
    assert_eq!((leaked.finding, leaked.count), (FindingKind::FaultObjectLeaked, 2));
    assert!(leaked.sentence.contains("224 bytes"), "{}", leaked.sentence);
    silent.copy = CopyOutcome::Unobserved;
    assert_eq!(found(&[Event::Fault(silent)]), [], "not observed is not leaked");
}

#[test]
fn closes_are_told_from_ten_milliseconds_on() {
    let (file, other) = (context(0, 0, 1), context(0, 0, 2));
    let closes =
        [open(file, 0, 1), release(file, 0, HOLD_NS, 0), open(file, 0, 1), release(file, 0, 17 * MS, 0)];
    // Anyone's fault on this WQ, served while the close waited.
    let waited_for = |context, at_ns| [&[Event::Fault(fault(context, at_ns))], &closes[..]].concat();
    let held = model(&waited_for(other, 12 * MS)).findings().swap_remove(0);
    assert_eq!((held.finding, held.count), (FindingKind::CloseHeldLog, 2));
    assert!(held.sentence.contains("17.0 ms at most, 27.0 ms in all"), "{}", held.sentence);
    // Nothing was queued: the close was put off by the machine, and nobody by the close.
    assert_eq!(found(&closes), []);
    assert_eq!(found(&waited_for(other, 9 * MS)), []);
    assert_eq!(found(&waited_for(context(0, 1, 2), 12 * MS)), []);
    // Where faults were lost, none seen is not none.
    let lost = Event::Hole(Hole { at_ns: 5, what: HoleKind::RingLost { cpu: 0 }, count: 1 });
    let found_after_loss = found(&[&[lost], &closes[..]].concat());
    assert!(found_after_loss.contains(&(FindingKind::CloseHeldLog, 2)), "{found_after_loss:?}");
}

#[test]
fn errors_are_counted_by_the_drivers_lines_of_which_some_are_missing() {
    let line = warning("Device error 0x1b operation: 0x3 fault addr: 0x7f0000001001");
    let errors = model(&[line.clone(), line]).findings().swap_remove(0);
    assert_eq!((errors.finding, errors.count, errors.at_least), (FindingKind::ErrorsNotServed, 2, true));
    assert!(errors.evidence[0].words.contains("0x1b"));
}

#[test]
fn the_driver_says_what_it_drops_and_when_the_device_stops() {
    let events = [
        warning("Failed to service fault work."),
        warning("Failed to service fault work."),
        driver(Happening::Halt { answer: HaltAnswer::Nothing }),
        interrupt(Some([0x100f, 0, 0, 0])),
    ];
    let expected = [
        (FindingKind::ServiceAllocationFailed, 2),
        (FindingKind::ErrorsDropped, 1),
        (FindingKind::DeviceHalted, 1),
    ];
    assert_eq!(found(&events), expected);
}

#[test]
fn evidence_is_bounded_and_loss_makes_counts_lower_bounds() {
    let mut events = vec![warning("Failed to service fault work."); 9];
    events.push(warning("Failed to service fault work. Again"));
    events.push(Event::Hole(Hole { at_ns: 50, what: HoleKind::RingLost { cpu: 0 }, count: 1 }));
    let findings = model(&events).findings();
    assert_eq!((findings[0].count, findings[0].at_least, findings[0].evidence.len()), (10, true, EVIDENCE));
    assert!(findings[0].evidence[3].words.ends_with("Again"), "the last is the newest");
}

#[test]
fn a_finding_without_its_hooks_is_told_to_be_unobserved() {
    let all = Hook::ALL.iter().map(|&hook| {
        let state = match hook {
            Hook::Warning => VerdictState::Refused { why: "no".into() },
            _ => VerdictState::Attached { by: "kprobe".into() },
        };
        Verdict { hook, required: false, state, hits: None, attach_ns: None }
    });
    let info = SessionInfo { verdicts: all.collect(), ..SessionInfo::default() };
    let model = model(&[Event::Session(Box::new(info))]);
    assert_eq!(
        model.findings_unobserved(),
        [FindingKind::ServiceAllocationFailed, FindingKind::ErrorsNotServed]
    );
}

#[test]
fn each_finding_is_documented() {
    let document = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/findings.md"));
    for kind in FindingKind::ALL {
        let row =
            format!("| {} | `{}` |", kind.name(), serde_json::to_value(kind).unwrap().as_str().unwrap());
        assert!(document.contains(&row), "no row {row:?}");
        let heading = kind.name();
        assert!(document.contains(&format!("\n### {heading}\n\n")), "no section {heading:?}");
        assert!(!kind.advice().is_empty());
    }
}

#[test]
fn moved_failures_come_from_the_batches() {
    let first = |wq, pasid, at_ns, short: bool| {
        let mut element = fault(context(0, wq, pasid), at_ns);
        element.entry = element.entry.with_batch(true).with_batch_id(7).with_first_err_in_batch(true);
        if short {
            element.copy = CopyOutcome::Short { asked: 32, done: 0 };
            element.counted_failures = 1;
        }
        Event::Fault(element)
    };
    let record = |wq, pasid, at_ns, patched: bool| {
        let mut own = fault(context(0, wq, pasid), at_ns);
        own.entry = own.entry.with_error(0x27).with_batch_id(7);
        if patched {
            (own.delivered[0], own.delivered[1]) = (0x05, 1);
        }
        Event::Fault(own)
    };
    let moved = [first(0, 1, MS, true), first(1, 2, 2 * MS, false), record(1, 2, 3 * MS, true)];
    let finding = model(&moved).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.count, finding.evidence.len()), (FindingKind::FailureMoved, 1, 1));
    assert_eq!(finding.evidence[0].place(), "wq0.1 PASID 2");
    assert_eq!(found(&[first(1, 2, 2 * MS, false), record(1, 2, 3 * MS, false)]), []);
}

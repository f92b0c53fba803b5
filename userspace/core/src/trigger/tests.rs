use super::*;
use crate::event::{CopyOutcome, Hole, HoleKind};
use crate::testing::{context, fault};

const SECOND: u64 = 1_000_000_000;
const START: u64 = 100 * SECOND;

/// Seconds (in quarters) at which `text` fires, over a stream with so many faults in each second, of which every `fails`th fails.
fn fires(text: &str, rates: &[u64], fails: u64) -> Vec<u64> {
    let mut trigger: Trigger = text.parse().unwrap();
    let mut model = Model::default();
    let mut fired = Vec::new();
    let mut tell = |event: Event| {
        model.update(&event);
        fired.extend(trigger.update(&model, &event).map(|fired| (fired.at_ns - START) * 4 / SECOND));
    };
    tell(Event::Tick { now_ns: START });
    for (second, &rate) in rates.iter().enumerate() {
        let begin = START + second as u64 * SECOND;
        for quarter in 0..4 {
            let begin = begin + quarter * SECOND / 4;
            for number in 0..rate / 4 {
                let mut fault = fault(context(0, 1, 5), begin + 1 + number * (SECOND / 4) / (rate / 4));
                if fails > 0 && number % fails == 0 {
                    fault.copy = CopyOutcome::Short { asked: 32, done: 0 };
                }
                tell(Event::Fault(fault));
            }
            tell(Event::Tick { now_ns: begin + SECOND / 4 });
        }
    }
    fired
}

#[test]
fn a_storm_fires_once_and_again_after_it_was_over() {
    let rates = [40, 40, 4000, 4000, 4000, 4000, 40, 40, 40, 4000, 4000, 4000];
    let fired = fires("faults/s > 1000", &rates, 0);
    assert_eq!(fired.len(), 2, "{fired:?}");
    assert!((9..=12).contains(&fired[0]) && (37..=40).contains(&fired[1]), "{fired:?}");
    let fired = fires("faults/s > 1000 for 2s", &rates, 0);
    assert_eq!(fired.len(), 2, "{fired:?}");
    assert!((17..=20).contains(&fired[0]), "{fired:?}");
    assert_eq!(fires("faults/s > 1000 for 10s", &rates, 0), Vec::<u64>::new());
    assert_eq!(fires("faults/s > 9000", &rates, 0), Vec::<u64>::new());
}

#[test]
fn failures_by_their_share() {
    assert_eq!(fires("failure-ratio", &[400; 6], 0), Vec::<u64>::new());
    assert_eq!(fires("failure-ratio", &[400; 6], 50).len(), 1);
    assert_eq!(fires("failure-ratio > 5%", &[400; 6], 50), Vec::<u64>::new());
    assert_eq!(fires("failures/s >= 4", &[400; 6], 50).len(), 1);
}

#[test]
fn one_slow_fault_fires() {
    // Copies of 80 ns.
    assert_eq!(fires("copy > 1us", &[40], 0), Vec::<u64>::new());
    assert_eq!(fires("copy >= 80ns", &[40], 0).len(), 40);
}

/// Seconds at which `text` fires over a fault each 10 ms, whose copies take so long in each second.
fn fires_of_copies(text: &str, copies_ns: &[u64]) -> Vec<u64> {
    let mut trigger: Trigger = text.parse().unwrap();
    let mut model = Model::default();
    let mut fired = Vec::new();
    for number in 0..copies_ns.len() as u64 * 100 {
        let at_ns = START + number * SECOND / 100;
        let mut fault = fault(context(0, 1, 5), at_ns);
        let copy_ns = copies_ns[number as usize / 100];
        // One in twenty is slow, whatever the second.
        let copy_ns = if number % 20 == 10 { 10_000_000 } else { copy_ns };
        let end_ns = fault.times.copy_end_ns.unwrap().get();
        fault.times.copy_start_ns = std::num::NonZeroU64::new(end_ns - copy_ns);
        for event in [Event::Fault(fault), Event::Tick { now_ns: at_ns }] {
            model.update(&event);
            fired.extend(trigger.update(&model, &event).map(|fired| (fired.at_ns - START) / SECOND));
        }
    }
    fired
}

#[test]
fn a_percentile_fires_once_and_again_after_it_was_over() {
    let (fast, slow) = (1_000, 2_000_000);
    let copies = [fast, fast, slow, slow, slow, fast, fast, fast, slow, slow, slow];
    assert_eq!(fires_of_copies("copy.p50 > 1ms", &copies), [2, 8]);
    assert_eq!(fires_of_copies("copy.p50 > 1ms for 1s", &copies), [3, 9]);
    assert_eq!(fires_of_copies("copy.p50 > 1ms for 20s", &copies), [0; 0]);
    assert_eq!(fires_of_copies("copy.p50 > 3ms", &copies), [0; 0]);
    // The slow ones are always there for a high percentile, and so are the fast ones for the rest.
    assert_eq!(fires_of_copies("copy.p99 > 3ms", &copies), [0]);
    assert_eq!(fires_of_copies("copy.max > 10ms", &copies), [0; 0]);
    assert_eq!(fires_of_copies("interrupt.p99 > 1ms", &copies), [0; 0]);
}

#[test]
fn without_faults_no_percentile_holds() {
    let mut trigger: Trigger = "copy.p99 < 1s".parse().unwrap();
    let model = Model::default();
    for second in 0..10 {
        assert_eq!(trigger.update(&model, &Event::Tick { now_ns: START + second * SECOND }), None);
    }
}

#[test]
fn each_loss_fires() {
    let mut trigger: Trigger = "loss".parse().unwrap();
    let mut model = Model::default();
    for (count, fires) in [(3, true), (2, true)] {
        let hole = Event::Hole(Hole { at_ns: 5, what: HoleKind::RingLost { cpu: 0 }, count });
        model.update(&hole);
        assert_eq!(trigger.update(&model, &hole).is_some(), fires);
    }
    let quiet = Event::Hole(Hole { at_ns: 5, what: HoleKind::EndMissing, count: 1 });
    model.update(&quiet);
    assert_eq!(trigger.update(&model, &quiet), None);
}

#[test]
fn what_cannot_be_a_trigger_is_pointed_at() {
    for (text, at, what) in [
        ("", 0, "a metric is missing"),
        ("faulst/s > 3", 0, "no such metric"),
        ("faults/s", 8, "expected one of"),
        ("faults/s > ", 11, "expected a number"),
        ("faults/s > 3%", 11, "expected a number"),
        ("copy > 3", 7, "expected a time"),
        ("copy.p99 > 3%", 11, "expected a time"),
        ("copy.p98 > 3ms", 0, "no such metric"),
        ("failure-ratio > 3", 16, "expected a share"),
        ("faults/s > 3 during 2s", 13, "expected `for`"),
        ("faults/s > 3 for 2", 17, "expected a time"),
        ("copy > 1ms for 2s", 15, "no time"),
        ("faults/s > 3 for 2s or so", 20, "nothing more"),
        ("loss > 3", 0, "stands alone"),
    ] {
        let error = text.parse::<Trigger>().unwrap_err();
        assert!(error.what.contains(what) && error.at == at, "{error}");
    }
}

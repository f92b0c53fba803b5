use super::*;
use crate::event::{CopyOutcome, Event, Filtering, SessionInfo};
use crate::model::Model;
use crate::testing::{context, fault};
use proptest::prelude::*;

/// A run of faults whose copies take so long.
fn run(copies_ns: impl IntoIterator<Item = u64>, by: By) -> Run {
    let mut model = Model::default();
    let mut collector = Collector::new(by);
    let mut tell = |event: Event| {
        model.update(&event);
        collector.event(&model, &event);
    };
    tell(Event::Session(Box::new(SessionInfo { started_ns: 1_000_000_000, ..SessionInfo::default() })));
    for (number, copy_ns) in copies_ns.into_iter().enumerate() {
        let mut fault = fault(context(0, number as u16 % 2, 5), 2_000_000_000 + number as u64 * 1000);
        fault.times.copy_start_ns =
            std::num::NonZeroU64::new(fault.times.copy_end_ns.unwrap().get() - copy_ns);
        if number % 100 == 0 {
            fault.copy = CopyOutcome::Short { asked: 32, done: 0 };
        }
        tell(Event::Fault(fault));
    }
    collector.finish(&model)
}

/// Evenly spread around `middle_ns`, in no order.
fn spread(middle_ns: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |number| {
        let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        middle_ns / 2 + (mixed >> 20) % middle_ns
    })
}

fn copy<'a>(comparison: &'a Comparison, group: &str) -> &'a StageChange {
    let group = comparison.groups.iter().find(|other| other.group == group).unwrap();
    group.stages.iter().find(|stage| stage.stage == Stage::Copy).unwrap()
}

#[test]
fn a_run_is_like_itself() {
    let a = run(spread(10_000, 5000), By::WorkQueue);
    let comparison = compare(&a, &a.clone());
    assert_eq!(comparison.differences, []);
    assert_eq!(
        comparison.groups.iter().map(|g| g.group.as_str()).collect::<Vec<_>>(),
        ["all", "wq0.0", "wq0.1"]
    );
    let stage = copy(&comparison, "all");
    assert!((stage.slower.unwrap() - 0.5).abs() < 1e-9 && !stage.shifted);
    for change in &stage.changes {
        assert_eq!((change.delta_ns, change.ratio), (Some(0), Some(1.0)));
        assert_ne!(change.certain, Some(true));
    }
}

#[test]
fn a_run_that_goes_on_differs_as_one_that_is_over() {
    let a = run(spread(10_000, 100), By::Process);
    let mut model = Model::default();
    let mut collector = Collector::new(By::Process);
    let session = SessionInfo {
        started_ns: 1_000_000_000,
        kernel: "7.3.4".into(),
        filter: Some(Filtering { expression: "copy > 1us".into(), left_out: 7 }),
        ..SessionInfo::default()
    };
    assert_eq!(a.differences_to(&model), [], "nothing is known yet");
    let mut unobserved = fault(context(0, 0, 5), 2_000_000_000);
    unobserved.copy = CopyOutcome::Unobserved;
    for event in [Event::Session(Box::new(session)), Event::Fault(unobserved)] {
        model.update(&event);
        collector.event(&model, &event);
    }
    let differences = a.differences_to(&model);
    assert_eq!(process_group(&model, unobserved.context.key()), "? wq0.0");
    let b = collector.finish(&model);
    assert_eq!(differences, compare(&a, &b).differences);
    let refused = differences.iter().filter(|d| d.severity == Severity::Refuse);
    assert_eq!(refused.map(|d| d.what.as_str()).collect::<Vec<_>>(), ["filter", "copies not observed"]);
    assert!(b.latency("? wq0.0").is_some_and(|latency| latency.summary(Stage::Service).is_some()));
}

#[test]
fn runs_of_other_faults_are_not_compared() {
    let a = run(spread(10_000, 100), By::Stage);
    let mut b = a.clone();
    b.session.filter = Some(Filtering { expression: "copy > 1us".into(), left_out: 7 });
    let comparison = compare(&a, &b);
    let [difference] = &comparison.differences[..] else { panic!("{:?}", comparison.differences) };
    assert_eq!((difference.what.as_str(), difference.severity), ("filter", Severity::Refuse));
    assert_eq!((difference.a.as_str(), difference.b.as_str()), ("none", "copy > 1us"));
    let mut more = b.clone();
    more.session.filter = Some(Filtering { left_out: 9, ..b.session.filter.clone().unwrap() });
    assert_eq!(
        compare(&b, &more).differences,
        [],
        "how many do not fit is no difference in what was asked for"
    );
}

#[test]
fn a_slower_run_is_found_and_by_how_much() {
    let a = run(spread(10_000, 5000), By::Stage);
    let b = run(spread(13_000, 5000), By::Stage);
    let comparison = compare(&a, &b);
    let stage = copy(&comparison, "all");
    assert!(stage.shifted && stage.slower.unwrap() > 0.6, "{stage:?}");
    let p50 = &stage.changes[0];
    assert!((p50.ratio.unwrap() - 1.3).abs() < 0.03 && p50.certain == Some(true), "{p50:?}");
    assert_eq!(comparison.groups[0].failures_a, 50);
    // The other way round it is faster.
    let back = compare(&b, &a);
    assert!(copy(&back, "all").slower.unwrap() < 0.4);
}

#[test]
fn few_faults_are_not_certain() {
    let a = run(spread(10_000, 12), By::Stage);
    let b = run(spread(12_000, 12), By::Stage);
    let comparison = compare(&a, &b);
    let certain = |change: &&Change| change.certain == Some(true);
    assert_eq!(copy(&comparison, "all").changes.iter().find(certain), None);
}

#[test]
fn conditions_hold_only_where_the_change_is_certain() {
    let check = |text: &str, comparison: &Comparison| text.parse::<Condition>().unwrap().check(comparison);
    let many = compare(&run(spread(10_000, 5000), By::Stage), &run(spread(13_000, 5000), By::Stage));
    let holds = |verdict| matches!(verdict, Verdict::Holds { .. });
    assert!(holds(check("copy.p50 > 1.2x", &many)));
    assert!(holds(check("copy.p50 > 20%", &many)));
    assert!(holds(check("copy.p99 > 10us", &many)));
    assert!(holds(check("failures >= 50", &many)));
    assert_eq!(check("copy.p50 > 1.5x", &many), Verdict::No);
    assert_eq!(check("loss > 0", &many), Verdict::No);
    assert_eq!(
        check("interrupt.p50 > 1.5x", &compare(&run([], By::Stage), &run([], By::Stage))),
        Verdict::Unknown
    );
    let few = compare(&run(spread(10_000, 12), By::Stage), &run(spread(13_000, 12), By::Stage));
    for text in ["copy.p50 > 1.1x", "copy.p99 > 1.1x", "copy.mean > 10%", "copy.p99.9 > 1.01x"] {
        assert!(matches!(check(text, &few), Verdict::Uncertain { .. } | Verdict::No), "{text}");
    }
    assert!(matches!(check("copy.p99 > 1.1x", &few), Verdict::Uncertain { .. }));
    // A budget is said plainly.
    assert!(holds(check("copy.p99 > 10us", &few)));
    assert!(holds(check("copy.mean > 20%", &many)));
}

#[test]
fn counts_hold_only_where_they_differ_by_more_than_chance() {
    let counts = |a: u64, b: u64, failures: [u64; 2]| {
        let mut comparison = compare(&run([], By::Stage), &run([], By::Stage));
        let all = &mut comparison.groups[0];
        (all.faults_a, all.faults_b, [all.failures_a, all.failures_b]) = (a, b, failures);
        (all.faults_per_s_a, all.faults_per_s_b) = (Some(a as f64 / 10.0), Some(b as f64 / 20.0));
        comparison
    };
    let check = |text: &str, comparison: &Comparison| text.parse::<Condition>().unwrap().check(comparison);
    let holds = |verdict| matches!(verdict, Verdict::Holds { .. });
    assert!(holds(check("faults > 1.2x", &counts(1000, 1300, [0, 0]))));
    assert!(matches!(check("faults > 1.2x", &counts(20, 26, [0, 0])), Verdict::Uncertain { .. }));
    assert!(holds(check("faults/s < 0.9x", &counts(1000, 1300, [0, 0]))));
    assert!(matches!(check("faults/s < 0.9x", &counts(20, 26, [0, 0])), Verdict::Uncertain { .. }));
    assert_eq!(check("failures > 1.2x", &counts(1000, 1000, [0, 0])), Verdict::No);
    assert_eq!(
        check("failures > 1.2x", &counts(1000, 1000, [0, 9])),
        Verdict::Holds { found: "9 after none".into() }
    );
    assert!(matches!(check("failures > 1.2x", &counts(1000, 1000, [0, 1])), Verdict::Uncertain { .. }));
    assert!(holds(check("failures > 0", &counts(1000, 1000, [0, 1]))));
}

#[test]
fn a_range_that_has_no_end_on_the_far_side_is_told_apart_all_the_same() {
    // Too few values for the upper end of either p99, but the lower one of B is above all of A.
    let latency = |from: u64, count: u64| {
        let mut latency = Latency::default();
        (0..count).for_each(|number| latency.record(from + number));
        latency
    };
    let (a, b) = (latency(1000, 2000), latency(100_000, 100));
    let certain = |a, b| Change::new(Figure::P99, Some(a), Some(b)).certain;
    assert_eq!((certain(&a, &b), certain(&b, &a)), (Some(true), Some(true)));
    let short = latency(1000, 100);
    assert_eq!(certain(&short, &b), None);
}

#[test]
fn what_was_not_observed_is_not_compared() {
    let a = run(spread(10_000, 10), By::Stage);
    let mut b = a.clone();
    b.groups.get_mut(ALL).unwrap().unobserved = 10;
    b.holes = 2;
    let found: Vec<_> =
        compare(&a, &b).differences.into_iter().map(|d| (d.what, d.a, d.b, d.severity)).collect();
    let own = |words: [&str; 3], severity| {
        let [what, a, b] = words.map(str::to_owned);
        (what, a, b, severity)
    };
    assert_eq!(
        found,
        [
            own(["copies not observed", "0 of 10", "10 of 10"], Severity::Refuse),
            own(["holes in the stream", "0", "2"], Severity::Warn)
        ]
    );
}

#[test]
fn a_probe_of_faults_that_only_the_second_run_had_is_refused() {
    let a = run(spread(10_000, 10), By::Stage);
    let mut b = a.clone();
    b.session.verdicts.push(crate::probe::Verdict {
        hook: crate::probe::Hook::CopyEnd,
        required: false,
        state: crate::probe::VerdictState::Attached { by: "kprobe".into() },
        hits: None,
        attach_ns: None,
    });
    let differences = compare(&a, &b).differences;
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert_eq!((differences[0].a.as_str(), differences[0].severity), ("not there", Severity::Refuse));
}

#[test]
fn what_cannot_be_a_condition_is_pointed_at() {
    for (text, at) in
        [("copy", 0), ("copy.p98 > 1x", 0), ("copy.p99 = 3x", 9), ("copy.p99 > 3", 11), ("loss > 3ms", 7)]
    {
        let error = text.parse::<Condition>().unwrap_err();
        assert_eq!(error.at, at, "{error}");
    }
}

#[test]
fn what_makes_runs_different_is_named() {
    let a = run(spread(10_000, 10), By::Stage);
    let mut b = a.clone();
    b.session.kernel = "6.12".into();
    b.lost = 3;
    let comparison = compare(&a, &b);
    let named: Vec<_> = comparison.differences.iter().map(|d| (d.what.as_str(), d.severity)).collect();
    assert_eq!(named, [("kernel", Severity::Warn), ("events lost", Severity::Warn)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    /// The ranges of percentiles and mean cover the true ones in 95 of 100 samples, or close to that, whatever the count.
    #[test]
    fn ranges_cover_what_they_should(seed: u64, count in 700_u64..1500) {
        let figures = [(Figure::P50, 500_000.0), (Figure::P90, 900_000.0), (Figure::P99, 990_000.0), (Figure::Mean, 500_000.0)];
        let mut covered = [0_u32; 4];
        for sample in 0..100_u64 {
            let mut state = seed ^ (sample << 32) | 1;
            let mut latency = Latency::default();
            for _ in 0..count {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                latency.record(1000 + (state >> 20) % 1_000_000);
            }
            for ((figure, truth), covered) in figures.iter().zip(&mut covered) {
                let estimate = Estimate::of(&latency, *figure).unwrap();
                let within = |low: u64, high: u64| (low..=high).contains(&(1000 + *truth as u64));
                *covered += u32::from(within(estimate.low_ns.unwrap(), estimate.high_ns.unwrap()));
            }
        }
        prop_assert!(covered.iter().all(|&covered| covered >= 86), "{:?} of 100", covered);
    }
}

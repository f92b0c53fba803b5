//! Storms, and what their pages say.

use super::super::storm::Change;
use super::*;
use crate::findings::threshold::{STORM_ALONE_TIMES, STORM_PER_S};

const RECORDS: u64 = 0x7f00_0000_0000;

pub(super) fn begin() -> Vec<Event> {
    let session = SessionInfo { started_ns: SECOND, ..SessionInfo::default() };
    vec![Event::Session(Box::new(session)), open(context(0, 0, 1), 0, 1)]
}

/// Faults of one file from a second on, for some seconds, each on the page that `page` says.
fn faults(file: Context, from_s: u64, seconds: u64, per_s: u64, page: impl Fn(u64) -> u64) -> Vec<Event> {
    let one = |n: u64| {
        let mut one = fault(file, from_s * SECOND + n * SECOND / per_s);
        one.entry = one.entry.with_fault_addr(RECORDS + page(n) * 4096);
        Event::Fault(one)
    };
    let end = Event::Tick { now_ns: (from_s + seconds) * SECOND };
    (0..seconds * per_s).map(one).chain([end]).collect()
}

/// On so few pages, so fast, that nothing can be said of them.
pub(super) fn storm(from_s: u64, seconds: u64, per_s: u64) -> Vec<Event> {
    faults(context(0, 0, 1), from_s, seconds, per_s, |n| n % 4)
}

#[test]
fn a_rate_that_becomes_five_times_what_it_was_is_a_storm() {
    let grown = |before, per_s| [begin(), storm(1, 8, before), storm(9, 4, per_s)].concat();
    let model = model(&grown(200, 1_000));
    let finding = &model.findings()[0];
    assert_eq!(
        (finding.finding, finding.count, finding.confidence),
        (FindingKind::Storm, 1, Confidence::Certain)
    );
    assert_eq!(
        finding.sentence,
        "redis (4242) on wq0.0 had up to 1000 faults a second, where there were 200 before"
    );
    assert_eq!(finding.document, "docs/findings.md#storm");
    let words = &finding.evidence[0].words;
    assert!(words.ends_with("; the last 512 on 4 pages, most (128) on 0x7f0000003000"), "{words}");
    assert_eq!(
        (finding.evidence[0].place().as_str(), finding.evidence[0].at_ns),
        ("wq0.0 PASID 1", 9 * SECOND)
    );

    assert_eq!(found(&grown(200, 990)), [], "less than five times");
    assert_eq!(found(&grown(10, STORM_PER_S - 10)), [], "too few for a storm");
    assert_eq!(found(&grown(10, STORM_PER_S)), [(FindingKind::Storm, 1)]);
}

#[test]
fn a_session_may_have_a_rate_of_its_own() {
    let with = |storm_per_s, before, per_s| {
        let session = SessionInfo { started_ns: SECOND, storm_per_s, ..SessionInfo::default() };
        let session = vec![Event::Session(Box::new(session))];
        // What their pages say is another finding.
        let found = found(&[begin(), session, storm(1, 8, before), storm(9, 4, per_s)].concat());
        found.first() == Some(&(FindingKind::Storm, 1))
    };
    assert!(with(Some(50), 5, 50) && !with(Some(50), 5, 40));
    assert!(!with(Some(50), 50, 100), "not five times as many");
    assert!(with(None, 5, 1_000) && !with(Some(2_000), 5, 1_000));
}

#[test]
fn a_steady_rate_is_a_storm_only_when_it_is_very_high_and_then_only_possible() {
    let steady = |per_s| [begin(), storm(1, 5, per_s)].concat();
    assert_eq!(found(&steady(2_000)), []);
    let finding = model(&steady(STORM_PER_S * STORM_ALONE_TIMES)).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.confidence), (FindingKind::Storm, Confidence::Possible));
    let words = &finding.evidence[0].words;
    assert!(words.contains("an unknown number before"), "{words}");
}

#[test]
fn a_storm_that_comes_again_is_another_one() {
    let twice = [begin(), storm(5, 4, 800), storm(20, 4, 900)].concat();
    let finding = model(&twice).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.count, finding.evidence.len()), (FindingKind::Storm, 2, 2));
    assert!(finding.sentence.ends_with("(and 1 file more)"), "{}", finding.sentence);
}

#[test]
fn a_capture_that_begins_in_a_storm_does_not_say_what_was_before() {
    let hole = Event::Hole(Hole { at_ns: 60 * SECOND, what: HoleKind::CaptureBegins, count: 9 });
    let late = [begin(), vec![hole], storm(60, 5, 2_000)].concat();
    assert_eq!(found(&late), []);
    assert_eq!(found(&[begin(), storm(60, 5, 2_000)].concat()), [(FindingKind::Storm, 1)]);
}

#[test]
fn storms_that_are_followed_at_once_are_bounded() {
    let mut events: Vec<Event> = begin();
    let mut all: Vec<Event> =
        (0..20).flat_map(|pasid| faults(context(0, 0, 1 + pasid), 6, 3, STORM_PER_S, |n| n % 4)).collect();
    all.sort_by_key(Event::at_ns);
    events.extend(all);
    let finding = model(&events).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.count, finding.evidence.len()), (FindingKind::Storm, 16, EVIDENCE));
}

#[test]
fn pages_that_were_there_are_given_back() {
    let on = |page: fn(u64) -> u64| found(&[begin(), faults(context(0, 0, 1), 6, 4, 1_000, page)].concat());
    // Each page again after 32 ms.
    assert_eq!(on(|n| n % 32), [(FindingKind::Storm, 1), (FindingKind::RecordsGivenBack, 1)]);
    // Again after 8 ms: the entry may have been in the log before the page was brought in.
    assert_eq!(on(|n| n % 8), [(FindingKind::Storm, 1)]);
    // One of six again.
    assert_eq!(on(|n| if n % 6 == 0 { 0 } else { n }), [(FindingKind::Storm, 1)]);
}

#[test]
fn entries_that_could_not_be_read_have_no_page() {
    let mut events = [begin(), storm(6, 4, 1_000)].concat();
    for event in &mut events {
        if let Event::Fault(fault) = event {
            fault.entry = Default::default();
        }
    }
    let finding = model(&events).findings().swap_remove(0);
    let words = &finding.evidence[0].words;
    assert!(words.ends_with("up to 1000 faults a second, 0 before"), "{words}");
}

#[test]
fn what_was_never_delivered_was_not_given_back() {
    let mut events = [begin(), faults(context(0, 0, 1), 6, 4, 1_000, |n| n % 32)].concat();
    for event in &mut events {
        if let Event::Fault(fault) = event {
            fault.copy = CopyOutcome::NotCopied;
        }
    }
    assert_eq!(found(&events), [(FindingKind::Storm, 1)]);
}

#[test]
fn a_fresh_page_each_time_was_never_touched() {
    let finding = |page: fn(u64) -> u64| {
        let model = model(&[begin(), faults(context(0, 0, 1), 6, 4, 1_000, page)].concat());
        model.findings().into_iter().find(|finding| finding.finding == FindingKind::RecordsNeverTouched)
    };
    let fresh = finding(|n| n).expect("found");
    assert!(fresh.sentence.contains("512 pages in the last 512 faults"), "{}", fresh.sentence);
    assert_eq!((fresh.confidence, fresh.count), (Confidence::Likely, 1));
    // Eight of ten.
    assert!(finding(|n| if n % 5 == 0 { n + 1 } else { n }).is_none());
}

#[test]
fn the_median_of_what_was_before() {
    let mut rate = Rate::default();
    // Two seconds each: 10, 30, 20, and then 100 a second.
    for (window, per_s) in [10, 30, 20, 100].into_iter().enumerate() {
        rate.add((window as u64 * 2 + 1) * SECOND, per_s * 2);
    }
    let change =
        |now_s| Change::of(&rate, now_s * SECOND, 0).map(|change| (change.per_s, change.before_per_s));
    assert_eq!(change(1), None, "no window has passed");
    assert_eq!(change(2), Some((10, None)));
    assert_eq!(change(6), Some((20, Some(30))), "the upper one of two");
    assert_eq!(change(8), Some((100, Some(20))));
}

#[test]
fn a_share_of_failures_must_be_sure() {
    let mixed = |failures: u64, faults: u64| {
        let one = |n: u64| {
            let mut one = fault(context(0, 0, 1), (2 + n) * SECOND);
            if n < failures {
                one.copy = CopyOutcome::Short { asked: 32, done: 0 };
            }
            one
        };
        // Failures last, so that the share is highest at the end.
        begin().into_iter().chain((0..faults).rev().map(|n| Event::Fault(one(n)))).collect::<Vec<_>>()
    };
    assert_eq!(found(&mixed(10, 50)), [(FindingKind::FailureRatioHigh, 1)]);
    assert_eq!(found(&mixed(9, 50)), [], "it may be chance");
    assert_eq!(found(&mixed(49, 49)), [], "too few");
    let finding = model(&mixed(40, 100)).findings().swap_remove(0);
    assert_eq!(finding.sentence, "40 of 100 records of redis (4242) on wq0.0 were not delivered (40.0 %)");
    assert_eq!(finding.evidence.len(), 1);
}

/// Times come from captures, and those from anybody.
#[test]
fn the_end_of_time_is_a_time() {
    let last = |ns| Event::Tick { now_ns: u64::MAX - ns };
    let events = [begin(), vec![last(3 * SECOND), Event::Fault(fault(context(0, 0, 1), u64::MAX)), last(0)]];
    assert_eq!(found(&events.concat()), []);
}

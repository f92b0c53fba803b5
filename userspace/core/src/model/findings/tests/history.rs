//! When findings begin, go on and are over, from the events alone.

use super::storm::{begin, storm};
use super::*;
use crate::findings::threshold::OVER_NS;

fn tick(second: u64) -> Vec<Event> {
    vec![Event::Tick { now_ns: second * SECOND }]
}

fn turns(model: &Model) -> Vec<(u64, FindingKind, Option<u64>)> {
    model.finding_turns().map(|turn| (turn.at_ns, turn.finding, turn.over_since_ns)).collect()
}

fn span(model: &Model, kind: FindingKind) -> (u64, u64, u64, bool) {
    let finding = model.findings().into_iter().find(|finding| finding.finding == kind).expect("it was found");
    (finding.first_ns, finding.last_ns, finding.begun, finding.over)
}

#[test]
fn a_storm_goes_on_is_over_and_comes_again() {
    let once = [begin(), storm(5, 4, 800), tick(13)].concat();
    assert_eq!(span(&model(&once), FindingKind::Storm), (5 * SECOND, 9 * SECOND, 1, false));
    let over = [once, tick(30)].concat();
    assert_eq!(span(&model(&over), FindingKind::Storm), (5 * SECOND, 9 * SECOND, 1, true));
    let again = model(&[over, storm(40, 4, 900)].concat());
    assert_eq!(span(&again, FindingKind::Storm), (5 * SECOND, 44 * SECOND, 2, false));
    let end_ns = 9 * SECOND + OVER_NS;
    assert_eq!(
        turns(&again),
        [
            (5 * SECOND, FindingKind::Storm, None),
            (end_ns, FindingKind::Storm, Some(9 * SECOND)),
            (40 * SECOND, FindingKind::Storm, None),
        ]
    );
}

#[test]
fn what_an_event_shows_is_seen_at_its_time() {
    let events = [begin(), vec![driver(Happening::Halt { answer: HaltAnswer::FunctionLevelReset })]].concat();
    let at_ns = events[2].at_ns();
    assert_eq!(span(&model(&events), FindingKind::DeviceHalted), (at_ns, at_ns, 1, false));
    let later = model(&[events, tick(20)].concat());
    assert_eq!(span(&later, FindingKind::DeviceHalted), (at_ns, at_ns, 1, true));
}

#[test]
fn a_file_that_goes_on_failing_is_not_over() {
    let failing =
        |second: u64| (0..60).map(move |n| not_copied(second * SECOND + n * MS)).collect::<Vec<_>>();
    let until = |second| [begin(), failing(2), failing(11), failing(20), tick(second)].concat();
    let last_ns = 20 * SECOND + 59 * MS;
    let (first_ns, seen_ns, begun, over) = span(&model(&until(25)), FindingKind::FailureRatioHigh);
    assert_eq!((first_ns / SECOND, seen_ns, begun, over), (2, last_ns, 1, false));
    assert!(span(&model(&until(31)), FindingKind::FailureRatioHigh).3);
}

#[test]
fn what_was_lost_is_seen_at_its_hole() {
    let hole = |at_ns| Event::Hole(Hole { at_ns, what: HoleKind::RingLost { cpu: 1 }, count: 3 });
    let lost = [begin(), vec![hole(3 * SECOND + MS)], tick(5), vec![hole(7 * SECOND)], tick(8)].concat();
    assert_eq!(span(&model(&lost), FindingKind::OwnLoss), (3 * SECOND + MS, 7 * SECOND, 1, false));
}

#[test]
fn a_calm_session_has_no_history() {
    let calm = [begin(), storm(5, 30, 20), tick(60)].concat();
    let calm = model(&calm);
    assert_eq!((calm.findings(), turns(&calm)), (vec![], vec![]));
}

use proptest::prelude::*;

use super::*;
use crate::event::DeviceKind;

const LAST: u64 = 1 << 2;

fn origin(at_ns: u64) -> Origin {
    Origin { at_ns, cpu: 0, device: DeviceId::new(DeviceKind::Dsa, 0) }
}

fn request(group: u16, page: u64, last: bool) -> Request {
    let last = if last { LAST } else { 0 };
    Request { qwords: [1 | 1 << 8 | 7 << 32, page << 12 | u64::from(group) << 3 | last | 1] }
}

fn response(group: u16) -> Response {
    Response { qwords: [Response::TYPE | 1 << 4 | 7 << 32, u64::from(group) << 3] }
}

/// A joiner and what it has said.
#[derive(Default)]
struct Joined {
    joiner: PageRequestJoiner,
    events: Vec<Event>,
}

impl Joined {
    fn request(&mut self, at_ns: u64, group: u16, page: u64, last: bool) {
        self.joiner.request(origin(at_ns), &request(group, page, last), &mut |event| self.events.push(event));
    }

    fn response(&mut self, at_ns: u64, group: u16) {
        self.joiner.response(origin(at_ns), &response(group), &mut |event| self.events.push(event));
    }

    fn finish(&mut self) {
        self.joiner.finish(u64::MAX, &mut |event| self.events.push(event));
    }

    /// Latencies of the responses, in order.
    fn latencies(&self) -> Vec<Option<u64>> {
        let of = |event: &Event| match event {
            Event::PageRequest(request) => Some(request.service_ns()),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    fn holes(&self, what: HoleKind) -> usize {
        self.events.iter().filter(|e| matches!(e, Event::Hole(hole) if hole.what == what)).count()
    }
}

#[test]
fn a_response_has_the_latency_of_its_group() {
    let mut joined = Joined::default();
    joined.request(1_000, 3, 0x7f, false);
    joined.request(1_500, 3, 0x80, true);
    joined.request(1_600, 4, 0x90, true);
    joined.response(4_000, 4);
    joined.response(5_000, 3);
    joined.finish();
    assert_eq!(joined.latencies(), [Some(2_400), Some(3_500)]);
    let Event::PageRequest(second) = joined.events[1] else { panic!("{:?}", joined.events) };
    assert_eq!(second.pasid, Some(7));
    assert_eq!(second.request, Some(Asked { at_ns: 1_500, pages: 2, address: 0x7f000, write: false }));
    assert_eq!(joined.events.len(), 2);
}

#[test]
fn a_response_that_overtakes_its_request_has_no_latency_and_spoils_no_other() {
    let mut joined = Joined::default();
    joined.response(4_000, 3);
    joined.request(4_100, 3, 1, true);
    joined.request(9_000, 3, 2, true);
    joined.response(9_900, 3);
    joined.finish();
    assert_eq!(joined.latencies(), [None, Some(900)]);
    assert_eq!(joined.events.len(), 2, "{:?}", joined.events);
}

#[test]
fn the_last_of_several_requests_may_be_overtaken() {
    let mut joined = Joined::default();
    joined.request(1_000, 3, 1, false);
    joined.response(4_000, 3);
    joined.request(4_100, 3, 2, true);
    joined.finish();
    assert_eq!(joined.latencies(), [None]);
    assert_eq!(joined.events.len(), 1);
}

#[test]
fn a_response_to_what_was_asked_before_spoils_others_until_a_pause() {
    let mut joined = Joined::default();
    joined.response(1_000, 3);
    joined.request(2_000, 3, 1, true);
    joined.response(2_500, 3);
    joined.request(3_000, 3, 1, true);
    joined.response(3_700, 3);
    let later = 3_700 + OVERTAKES_NS;
    joined.request(later, 3, 1, true);
    joined.response(later + 700, 3);
    joined.finish();
    assert_eq!(joined.latencies(), [None, None, None, Some(700)]);
    assert_eq!(joined.events.len(), 4);
}

#[test]
fn or_until_two_responses_in_a_row_tell() {
    let mut joined = Joined::default();
    joined.response(1_000, 3);
    joined.request(2_000, 3, 1, true);
    joined.response(2_500, 3);
    joined.response(3_000, 3);
    joined.request(3_700, 3, 1, true);
    joined.request(4_000, 3, 1, true);
    joined.response(4_200, 3);
    joined.finish();
    assert_eq!(joined.latencies(), [None, None, None, Some(200)]);
    assert_eq!(joined.events.len(), 4);
}

#[test]
fn a_very_late_request_is_no_missing_response() {
    let mut joined = Joined::default();
    joined.request(100, 3, 1, true);
    joined.response(200, 3);
    joined.response(1_000, 3);
    let late = 1_000 + 3 * OVERTAKES_NS;
    joined.request(late, 3, 1, true);
    joined.request(late + 500, 3, 1, true);
    joined.response(late + 700, 3);
    joined.finish();
    assert_eq!(joined.latencies(), [Some(100), None, Some(200)]);
    assert_eq!(joined.events.len(), 3);
}

#[test]
fn what_is_never_answered_is_a_hole() {
    let mut joined = Joined::default();
    joined.request(1_000, 3, 1, true);
    joined.request(2_000, 3, 1, true);
    assert_eq!(joined.holes(HoleKind::ResponseMissing), 1);
    let out = &mut |event| joined.events.push(event);
    joined.joiner.expire(2_000 + DEADLINE_NS, out);
    joined.joiner.expire(2_001 + DEADLINE_NS, out);
    assert_eq!(joined.holes(HoleKind::ResponseMissing), 2);
    joined.request(3_000, 5, 1, false);
    joined.finish();
    assert_eq!(joined.holes(HoleKind::ResponseMissing), 3);
    assert_eq!(joined.events.len(), 3);
}

#[test]
fn a_loss_takes_the_latency_of_all_that_wait() {
    let mut joined = Joined::default();
    joined.request(1_000, 3, 1, true);
    joined.joiner.lost(1_500);
    joined.response(2_000, 3);
    // The lost record may have been the response to this one.
    joined.request(3_000, 3, 1, true);
    joined.response(3_300, 3);
    let later = 3_300 + OVERTAKES_NS;
    joined.request(later, 3, 1, true);
    joined.response(later + 300, 3);
    assert_eq!(joined.latencies(), [None, None, Some(300)]);
    joined.request(later + 400, 3, 1, true);
    joined.joiner.lost(later + 450);
    joined.request(later + 500, 3, 1, true);
    joined.response(later + 600, 3);
    joined.finish();
    assert_eq!(joined.latencies().last(), Some(&None));
    assert_eq!(joined.holes(HoleKind::ResponseMissing), 0, "the loss is counted already");
}

#[test]
fn the_table_is_bounded() {
    let mut joined = Joined { joiner: PageRequestJoiner::new(2), ..Joined::default() };
    for group in 0..5 {
        joined.request(1_000 + u64::from(group), group, 1, true);
    }
    assert_eq!(joined.holes(HoleKind::Evicted), 3);
    joined.response(2_000, 4);
    assert_eq!(joined.latencies(), [Some(996)]);
}

/// What happens to one group, in time: its requests, and its response somewhere from before the last of them.
#[derive(Clone, Debug)]
struct Round {
    pages: u64,
    overtakes: bool,
    requests_lost: bool,
    response_lost: bool,
}

fn round(losses: bool) -> impl Strategy<Value = Round> {
    let lost = move || prop::bool::weighted(if losses { 0.2 } else { 0.0 });
    (1u64..4, any::<bool>(), lost(), lost()).prop_map(|(pages, overtakes, requests_lost, response_lost)| {
        Round { pages, overtakes, requests_lost, response_lost }
    })
}

/// (when, group, what) of several groups, each with one round after the other, merged by `picks`.
#[derive(Clone, Copy, Debug)]
enum Step {
    Request { page: u64, last: bool, lost: bool },
    Response { page: u64, lost: bool, latency_ns: Option<u64> },
}

fn steps(rounds: &[Vec<Round>], picks: &[usize], pauses: bool) -> Vec<(u64, u16, Step)> {
    let mut queues: Vec<std::collections::VecDeque<Step>> = rounds
        .iter()
        .enumerate()
        .map(|(group, rounds)| {
            let mut steps = std::collections::VecDeque::new();
            for (number, round) in rounds.iter().enumerate() {
                // The page names the round, so that a wrong match shows.
                let page = (group * 1_000 + number) as u64;
                let request = |last| Step::Request { page, last, lost: round.requests_lost };
                steps.extend((1..round.pages).map(|_| request(false)));
                let response = Step::Response { page, lost: round.response_lost, latency_ns: None };
                let mut both = [request(true), response];
                if round.overtakes {
                    both.reverse();
                }
                steps.extend(both);
            }
            steps
        })
        .collect();
    let mut all: Vec<(u64, u16, Step)> = Vec::new();
    let mut at_ns = 1_000;
    let mut picks = picks.iter().cycle();
    while queues.iter().any(|queue| !queue.is_empty()) {
        let full: Vec<usize> = (0..queues.len()).filter(|&i| !queues[i].is_empty()).collect();
        let group = full[picks.next().unwrap() % full.len()];
        // Now and then so long that a loss is forgotten; not while a request is told late.
        let late = |queue: &std::collections::VecDeque<Step>| {
            let told = |page| {
                all.iter().any(|(.., step)| matches!(step, Step::Response { page: p, .. } if *p == page))
            };
            matches!(queue.front(), Some(Step::Request { page, .. }) if told(*page))
        };
        let pause = pauses && all.len().is_multiple_of(7) && !queues.iter().any(late);
        at_ns += if pause { OVERTAKES_NS } else { 100 };
        if let Some(step) = queues[group].pop_front() {
            all.push((at_ns, group as u16, step));
        }
    }
    // The true latencies: from the last request of the same round, where that came first.
    for index in 0..all.len() {
        let (before, here) = all.split_at_mut(index);
        if let (at_ns, _, Step::Response { page, latency_ns, .. }) = &mut here[0] {
            let asked = before.iter().find(
                |(_, _, step)| matches!(step, Step::Request { page: asked, last: true, .. } if asked == page),
            );
            *latency_ns = asked.map(|(asked_ns, ..)| *at_ns - asked_ns);
        }
    }
    all
}

proptest! {
    /// Whatever the interleaving and whoever comes first: every response is told once, and with its own latency, or none where it
    /// overtook its request.
    #[test]
    fn interleavings_give_true_latencies(
        rounds in prop::collection::vec(prop::collection::vec(round(false), 0..8), 1..5),
        picks in prop::collection::vec(0usize..16, 1..40),
    ) {
        let mut joined = Joined::default();
        let mut expected = Vec::new();
        for (at_ns, group, step) in steps(&rounds, &picks, false) {
            match step {
                Step::Request { page, last, .. } => joined.request(at_ns, group, page, last),
                Step::Response { latency_ns, .. } => {
                    joined.response(at_ns, group);
                    expected.push(latency_ns);
                }
            }
        }
        joined.finish();
        prop_assert_eq!(joined.latencies(), expected);
        prop_assert_eq!(joined.events.len(), rounds.iter().map(Vec::len).sum::<usize>());
    }

    /// With losses that the next record tells of, a latency is true or not there.
    #[test]
    fn losses_never_make_a_latency(
        rounds in prop::collection::vec(prop::collection::vec(round(true), 0..8), 1..5),
        picks in prop::collection::vec(0usize..16, 1..40),
    ) {
        let mut joined = Joined::default();
        let mut lost_before = false;
        for (at_ns, group, step) in steps(&rounds, &picks, true) {
            let (Step::Request { lost, .. } | Step::Response { lost, .. }) = step;
            if lost {
                lost_before = true;
                continue;
            }
            if std::mem::take(&mut lost_before) {
                joined.joiner.lost(at_ns);
            }
            match step {
                Step::Request { page, last, .. } => joined.request(at_ns, group, page, last),
                Step::Response { latency_ns, .. } => {
                    joined.response(at_ns, group);
                    let told = joined.latencies().pop().flatten();
                    prop_assert!(told.is_none() || told == latency_ns, "{told:?}, true {latency_ns:?}");
                }
            }
        }
    }
}

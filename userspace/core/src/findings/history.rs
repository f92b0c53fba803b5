//! When each kind of finding began, when it was last seen, and since when it is over.
//!
//! Pure: time comes with each call, so that a replayed capture has the same history. Bounded: a span a kind, and the last [`TURNS`] turns.
//! Refuses: finding anything; the model tells what it saw.

use std::collections::{BTreeMap, VecDeque};

use super::{FindingKind, threshold};

/// Beginnings and ends that are kept.
pub const TURNS: usize = 64;

/// From when to when a kind was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first_ns: u64,
    pub last_ns: u64,
    /// How often it began: more than once when it had been over in between.
    pub begun: u64,
    /// It was not seen for [`threshold::OVER_NS`].
    pub over: bool,
}

/// A finding began, or was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub at_ns: u64,
    pub finding: FindingKind,
    /// When it was last seen; `None`: it began.
    pub over_since_ns: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct History {
    spans: BTreeMap<FindingKind, Span>,
    turns: VecDeque<Turn>,
}

impl History {
    /// It was seen then.
    pub fn seen(&mut self, finding: FindingKind, at_ns: u64) {
        let Some(span) = self.spans.get_mut(&finding) else {
            self.spans.insert(finding, Span { first_ns: at_ns, last_ns: at_ns, begun: 1, over: false });
            return self.turn(Turn { at_ns, finding, over_since_ns: None });
        };
        let (last_ns, was_over) = (span.last_ns, span.over);
        span.last_ns = last_ns.max(at_ns);
        span.first_ns = span.first_ns.min(at_ns);
        if was_over || is_over(last_ns, at_ns) {
            (span.over, span.begun) = (false, span.begun + 1);
            if !was_over {
                self.turn(over(finding, last_ns));
            }
            self.turn(Turn { at_ns, finding, over_since_ns: None });
        }
    }

    /// Time has passed: what was not seen for long is over.
    pub fn pass(&mut self, now_ns: u64) {
        let ended: Vec<_> = self
            .spans
            .iter_mut()
            .filter(|(_, span)| !span.over && is_over(span.last_ns, now_ns))
            .map(|(finding, span)| {
                span.over = true;
                over(*finding, span.last_ns)
            })
            .collect();
        ended.into_iter().for_each(|turn| self.turn(turn));
    }

    /// It turned out not to be one.
    pub fn forget(&mut self, finding: FindingKind) {
        if self.spans.remove(&finding).is_some() {
            self.turns.retain(|turn| turn.finding != finding);
        }
    }

    #[must_use]
    pub fn span(&self, finding: FindingKind) -> Option<Span> {
        self.spans.get(&finding).copied()
    }

    /// Oldest first.
    pub fn turns(&self) -> impl DoubleEndedIterator<Item = &Turn> + ExactSizeIterator {
        self.turns.iter()
    }

    /// In the order of time: a storm is told of when it has lasted for a while.
    fn turn(&mut self, turn: Turn) {
        let at = self.turns.iter().rposition(|other| other.at_ns <= turn.at_ns).map_or(0, |at| at + 1);
        self.turns.insert(at, turn);
        if self.turns.len() > TURNS {
            self.turns.pop_front();
        }
    }
}

const fn is_over(last_ns: u64, now_ns: u64) -> bool {
    now_ns > last_ns.saturating_add(threshold::OVER_NS)
}

const fn over(finding: FindingKind, last_ns: u64) -> Turn {
    Turn { at_ns: last_ns.saturating_add(threshold::OVER_NS), finding, over_since_ns: Some(last_ns) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use FindingKind::{EventLogFull, Storm};

    const SECOND: u64 = 1_000_000_000;

    fn told(history: &History) -> Vec<(u64, FindingKind, Option<u64>)> {
        let seconds = |ns: u64| ns / SECOND;
        history
            .turns()
            .map(|turn| (seconds(turn.at_ns), turn.finding, turn.over_since_ns.map(seconds)))
            .collect()
    }

    #[test]
    fn what_is_not_seen_for_long_is_over_and_may_begin_again() {
        let over_after = threshold::OVER_NS / SECOND;
        let mut history = History::default();
        history.seen(EventLogFull, 5 * SECOND);
        history.seen(Storm, 7 * SECOND);
        // Told of late: it began before.
        history.seen(Storm, 4 * SECOND);
        history.pass(5 * SECOND + threshold::OVER_NS);
        assert!(!history.span(EventLogFull).unwrap().over, "not yet");
        history.pass(6 * SECOND + threshold::OVER_NS);
        assert!(history.span(EventLogFull).unwrap().over && !history.span(Storm).unwrap().over);
        history.seen(EventLogFull, 40 * SECOND);
        assert_eq!(
            history.span(EventLogFull),
            Some(Span { first_ns: 5 * SECOND, last_ns: 40 * SECOND, begun: 2, over: false })
        );
        // Nobody looked in between.
        history.seen(Storm, 41 * SECOND);
        assert_eq!(
            told(&history),
            [
                (5, EventLogFull, None),
                (7, Storm, None),
                (5 + over_after, EventLogFull, Some(5)),
                (7 + over_after, Storm, Some(7)),
                (40, EventLogFull, None),
                (41, Storm, None),
            ]
        );
        history.forget(Storm);
        assert_eq!((history.span(Storm), history.turns().len()), (None, 3));
    }

    proptest! {
        /// Looking more often changes nothing but when it is known.
        #[test]
        fn the_history_does_not_depend_on_how_often_it_is_looked_at(
            steps in prop::collection::vec((0..25u64, prop::bool::ANY, 0..3u64), 1..60)
        ) {
            let (mut often, mut seldom) = (History::default(), History::default());
            let mut now_ns = 0;
            for (seconds, is_storm, looks) in steps {
                let finding = if is_storm { Storm } else { EventLogFull };
                for look in 1..=looks {
                    often.pass(now_ns + seconds * SECOND * look / (looks + 1));
                }
                now_ns += seconds * SECOND;
                often.pass(now_ns);
                often.seen(finding, now_ns);
                seldom.seen(finding, now_ns);
                prop_assert!(often.turns().len() <= TURNS);
            }
            often.pass(now_ns + 100 * SECOND);
            seldom.pass(now_ns + 100 * SECOND);
            prop_assert_eq!(often.span(Storm), seldom.span(Storm));
            let sorted = |history: &History| {
                let mut turns: Vec<_> = told(history);
                turns.sort();
                turns
            };
            if sorted(&often).len() < TURNS {
                prop_assert_eq!(sorted(&often), sorted(&seldom));
            }
            prop_assert!(often.turns().zip(often.turns().skip(1)).all(|(a, b)| a.at_ns <= b.at_ns));
        }
    }
}

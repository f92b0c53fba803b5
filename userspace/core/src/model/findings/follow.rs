//! Tells the history what goes on. What an event shows it is told of at once; what only rates, totals or the configuration show is asked once
//! in [`FOLLOW_NS`] of the stream's time, in counts alone: sentences and evidence are made when they are wanted.

use super::{Findings, Tally, storm};
use crate::findings::FindingKind;
use crate::findings::history::{Span, Turn};
use crate::model::Model;

const FOLLOW_NS: u64 = 1_000_000_000;

/// What was counted when it was last asked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Followed {
    at_ns: u64,
    next_ns: u64,
    moved: u64,
    lost: u64,
}

impl Findings {
    /// Storms, from when they began; `now_ns` for what goes on.
    fn follow_storms(&mut self, now_ns: u64) {
        let (storms, history) = (&self.storms, &mut self.history);
        for began_ns in storms.begun_ns() {
            if history.span(FindingKind::Storm).is_none_or(|span| span.last_ns < began_ns) {
                history.seen(FindingKind::Storm, began_ns);
            }
        }
        let storm::Going { any, given_back, fresh } = storms.going();
        let going = [
            (FindingKind::Storm, any),
            (FindingKind::RecordsGivenBack, given_back),
            (FindingKind::RecordsNeverTouched, fresh),
        ];
        for (finding, _) in going.into_iter().filter(|(_, goes_on)| *goes_on) {
            history.seen(finding, now_ns);
        }
    }
}

impl Model {
    /// Once in a bucket of the rates.
    pub(super) fn follow(&mut self) {
        let now_ns = self.now_ns;
        if now_ns < self.findings.followed.next_ns {
            return;
        }
        let totals = self.batches.totals();
        let moved = totals.patched_without_failure + totals.failure_not_patched;
        let lost = self.ledger.lost();
        let before = self.findings.followed;
        self.findings.followed = Followed {
            at_ns: now_ns,
            next_ns: (now_ns / FOLLOW_NS + 1).saturating_mul(FOLLOW_NS),
            moved,
            lost,
        };
        self.findings.follow_storms(now_ns);
        if moved > before.moved {
            let last = self.batches.ended().rev().find(|batch| batch.finding.is_some());
            let at_ns = last.map_or(now_ns, |batch| batch.last_ns);
            self.findings.history.seen(FindingKind::FailureMoved, at_ns);
        }
        // Of a hole it was told at once.
        let is_told =
            self.findings.history.span(FindingKind::OwnLoss).is_some_and(|span| span.last_ns >= before.at_ns);
        let has_stalls = self.page_requests.stalls().next().is_some() && self.stalls().amount.count > 0;
        let holds = [
            (FindingKind::OwnLoss, lost > before.lost && !is_told),
            (FindingKind::EventLogSmall, self.has_small_event_log()),
            (FindingKind::PageRequestsStall, has_stalls),
            (FindingKind::BlockOnFaultAlone, self.has_block_on_fault_alone()),
            (FindingKind::SvaOff, self.sva_off().amount.count > 0),
            (FindingKind::OwnCostHigh, self.own_cost().amount.count > 0),
        ];
        for (finding, _) in holds.into_iter().filter(|(_, holds)| *holds) {
            self.findings.history.seen(finding, now_ns);
        }
        // An element that arrived late took it back.
        if moved == 0 {
            self.findings.history.forget(FindingKind::FailureMoved);
        }
        self.findings.history.pass(now_ns);
    }

    /// When a finding that there is was seen. Between two looks the history may not know it yet: then it is of now.
    pub(super) fn span(&self, finding: FindingKind, tally: &Tally) -> Span {
        let [first_ns, last_ns] = [tally.evidence.front(), tally.evidence.back()]
            .map(|evidence| evidence.map_or(self.now_ns, |evidence| evidence.at_ns));
        let span = self.findings.history.span(finding);
        span.unwrap_or(Span { first_ns, last_ns, begun: 1, over: false })
    }

    /// The last beginnings and ends of findings, oldest first.
    pub fn finding_turns(&self) -> impl DoubleEndedIterator<Item = &Turn> + ExactSizeIterator {
        self.findings.history.turns()
    }
}

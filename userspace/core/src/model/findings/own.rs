//! What dsascope does itself: what it lost, and what it costs.

use super::{Findings, Tally};
use crate::event::{Hole, HoleKind};
use crate::findings::{Amount, Evidence, FindingKind, threshold};
use crate::model::Model;

fn is_loss(kind: HoleKind) -> bool {
    matches!(kind, HoleKind::RingLost { .. } | HoleKind::ChannelFull)
        || kind.is_of_capture() && kind != HoleKind::CaptureBegins
}

impl Findings {
    pub(in crate::model) fn hole(&mut self, hole: &Hole) {
        if is_loss(hole.what) {
            self.history.seen(FindingKind::OwnLoss, hole.at_ns);
        }
    }
}

impl Model {
    pub(super) fn own_loss(&self) -> Tally {
        let mut tally =
            Tally { amount: Amount { count: self.ledger.lost(), ..Amount::default() }, ..Tally::default() };
        for hole in self.recent_holes.iter().rev().filter(|hole| is_loss(hole.what)).take(super::EVIDENCE) {
            let words = format!("{}: {}", hole.what.name(), hole.count);
            tally.evidence.push_front(of_dsascope(hole.at_ns, words));
        }
        tally
    }

    /// Run time of the programs, where the kernel measures it (kernel.bpf_stats_enabled).
    pub(super) fn own_cost(&self) -> Tally {
        let mut tally = Tally::default();
        let (Some(session), Some(snapshot)) = (&self.session, &self.snapshot) else { return tally };
        let over_ns = snapshot.at_ns.saturating_sub(session.started_ns);
        let run_ns: u64 =
            snapshot.programs.iter().filter_map(|program| program.run_ns).fold(0, u64::saturating_add);
        let permille = run_ns.saturating_mul(1000) / over_ns.max(1);
        if over_ns < threshold::OWN_COST_OVER_NS || permille < threshold::OWN_COST_PERMILLE {
            return tally;
        }
        tally.amount = Amount { count: 1, sum: permille, most: permille };
        let mut programs: Vec<_> =
            snapshot.programs.iter().filter_map(|p| Some((p.run_ns?, p.runs, &p.name))).collect();
        programs.sort_unstable();
        for (run_ns, runs, name) in programs.into_iter().rev().take(super::EVIDENCE) {
            let of = runs.map_or_else(String::new, |runs| format!(" in {runs} runs"));
            let words = format!("{name}: {:.1} ms{of}", run_ns as f64 / 1e6);
            tally.evidence.push_front(of_dsascope(snapshot.at_ns, words));
        }
        tally
    }
}

fn of_dsascope(at_ns: u64, words: String) -> Evidence {
    Evidence { at_ns, device: None, wq: None, pasid: None, words }
}

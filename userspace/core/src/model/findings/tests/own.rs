//! dsascope's own loss and cost.

use super::*;
use crate::event::{ProgramStats, Snapshot};
use crate::findings::threshold::{OWN_COST_OVER_NS, OWN_COST_PERMILLE};

#[test]
fn what_is_lost_is_told() {
    let hole = |what| Event::Hole(Hole { at_ns: 50, what, count: 3 });
    let finding = model(&[hole(HoleKind::RingLost { cpu: 1 })]).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.count, finding.at_least), (FindingKind::OwnLoss, 3, true));
    assert_eq!(
        (finding.evidence[0].place(), finding.evidence[0].words.as_str()),
        ("dsascope".into(), "ring lost: 3")
    );
    assert_eq!(found(&[hole(HoleKind::ChannelFull)]), [(FindingKind::OwnLoss, 3)]);
    assert_eq!(found(&[hole(HoleKind::StartMissing)]), [], "a stage that was not seen is no lost record");
    assert_eq!(found(&[hole(HoleKind::CaptureBegins)]), [], "what a flight recorder forgets is not lost");
}

/// After so long, one program has run for so long.
fn ran(over_ns: u64, run_ns: Option<u64>) -> Vec<Event> {
    let session = SessionInfo { started_ns: SECOND, ..SessionInfo::default() };
    let program = ProgramStats {
        name: "service_end".into(),
        runs: run_ns.map(|_| 7),
        run_ns,
        ..ProgramStats::default()
    };
    let snapshot = Snapshot { at_ns: SECOND + over_ns, programs: vec![program], ..Snapshot::default() };
    vec![Event::Session(Box::new(session)), Event::Snapshot(Box::new(snapshot))]
}

#[test]
fn programs_that_take_a_tenth_of_a_cpu_are_told() {
    let share = OWN_COST_OVER_NS * OWN_COST_PERMILLE / 1000;
    let finding = model(&ran(OWN_COST_OVER_NS, Some(share))).findings().swap_remove(0);
    assert_eq!((finding.finding, finding.count), (FindingKind::OwnCostHigh, 1));
    assert_eq!(finding.sentence, "dsascope's programs take 10.0 % of a CPU");
    assert_eq!(finding.evidence[0].words, "service_end: 200.0 ms in 7 runs");
    assert_eq!(found(&ran(OWN_COST_OVER_NS, Some(share - 1))), []);
    assert_eq!(found(&ran(OWN_COST_OVER_NS - 1, Some(share))), [], "not long enough");
    assert_eq!(found(&ran(OWN_COST_OVER_NS, None)), [], "not measured");
}

//! What dsascope must find, may find, and may not.

use std::collections::BTreeSet;

use dsascope_core::findings::{Confidence, Finding, FindingKind};
use dsascope_guest::scenario::Findings;

use super::*;

fn expected(must: &[FindingKind], may: &[FindingKind]) -> Findings {
    let [must, may] = [must, may].map(|kinds| kinds.iter().copied().collect());
    Findings { must, may, ..Findings::default() }
}

fn finds(books: &mut Books, kind: FindingKind) {
    traced(books).summary.findings.push(Finding {
        finding: kind,
        count: 1,
        at_least: false,
        first_ns: 1,
        last_ns: 1,
        begun: 1,
        over: false,
        confidence: Confidence::Certain,
        sentence: "what was seen".into(),
        advice: String::new(),
        document: String::new(),
        evidence: Vec::new(),
    });
}

#[test]
fn what_a_scenario_says_must_be_found_and_nothing_else() {
    use FindingKind::{EventLogSmall, OwnCostHigh, Storm};

    let rules = |must: &[FindingKind], may: &[FindingKind], finding: &[FindingKind]| {
        let expected = expected(must, may);
        found(move |books| {
            books.findings = Some(expected);
            finding.iter().for_each(|kind| finds(books, *kind));
        })
    };
    assert_eq!(rules(&[], &[], &[]), []);
    assert_eq!(rules(&[Storm], &[EventLogSmall], &[Storm]), []);
    assert_eq!(rules(&[Storm], &[EventLogSmall], &[Storm, EventLogSmall]), []);
    assert_eq!(rules(&[Storm], &[], &[]), [Rule::Findings], "not found");
    assert_eq!(rules(&[], &[], &[Storm]), [Rule::Findings], "nothing may be found of a calm one");
    assert_eq!(rules(&[], &[], &[OwnCostHigh]), [], "of an emulated machine it says nothing");
    assert_eq!(found(|books| finds(books, Storm)), [], "a scenario that says nothing of findings");
}

#[test]
fn one_of_several_is_enough_and_none_is_not() {
    use FindingKind::{EventLogFull, EventLogSmall, Storm};

    let rules = |kinds: &[FindingKind]| {
        found(|books| {
            let one_of = BTreeSet::from([EventLogFull, EventLogSmall]);
            books.findings = Some(Findings { one_of, ..Findings::default() });
            kinds.iter().for_each(|kind| finds(books, *kind));
        })
    };
    assert_eq!(rules(&[EventLogSmall]), []);
    assert_eq!(rules(&[EventLogSmall, EventLogFull]), []);
    assert_eq!(rules(&[]), [Rule::Findings]);
    assert_eq!(rules(&[EventLogFull, Storm]), [Rule::Findings]);
}

#[test]
fn what_cannot_be_seen_need_not_be_found() {
    let rules = found(|books| {
        books.findings = Some(expected(&[FindingKind::Storm], &[]));
        traced(books).summary.findings_unobserved.push(FindingKind::Storm);
    });
    assert_eq!(rules, []);
}

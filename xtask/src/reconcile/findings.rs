//! What dsascope found against what its scenario says is to be found.
//!
//! Refuses: how often and in what words; that is `dsascope_core::findings`' own to test.

use std::collections::BTreeSet;

use dsascope_core::findings::{Finding, FindingKind};
use dsascope_guest::scenario::Findings;

use super::books::Account;
use super::compare::{Difference, Rule};

/// In the testbed's guest an instruction of a program takes many times what it takes elsewhere, so whether it costs too much says nothing.
const OF_THE_MACHINE: FindingKind = FindingKind::OwnCostHigh;

pub(super) fn compare(expected: Option<&Findings>, account: &Account) -> Vec<Difference> {
    let Some(Findings { must, one_of, may }) = expected else { return Vec::new() };
    let found: BTreeSet<_> = account.summary.findings.iter().map(|finding| finding.finding).collect();
    let unobserved: BTreeSet<_> = account.summary.findings_unobserved.iter().copied().collect();
    let absent = must.iter().filter(|kind| !found.contains(kind) && !unobserved.contains(kind));
    let wrong = |finding: &&Finding| {
        let kind = finding.finding;
        kind != OF_THE_MACHINE && ![must, one_of, may].iter().any(|some| some.contains(&kind))
    };
    let absent = absent.map(|kind| format!("dsascope did not find: {}", kind.name()));
    let surplus = account.summary.findings.iter().filter(wrong);
    let surplus = surplus.map(|found| format!("dsascope found {}: {}", found.finding.name(), found.sentence));
    let none = !one_of.is_empty() && one_of.is_disjoint(&found) && one_of.is_disjoint(&unobserved);
    let none = none.then(|| format!("dsascope found none of {}", names(one_of)));
    absent.chain(none).chain(surplus).map(|text| Difference { rule: Rule::Findings, text }).collect()
}

fn names(kinds: &BTreeSet<FindingKind>) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ")
}

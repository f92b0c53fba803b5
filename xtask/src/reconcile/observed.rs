//! How dsascope was attached in a run and what that cost, from its own first and last line.
//!
//! Refuses: judging; figures alone.

use anyhow::Result;
use dsascope_core::event::Hook;
use dsascope_core::json::SummaryLine;
use serde::{Deserialize, Serialize};

use super::books::Account;
use crate::cost::figures::Bpf;
use crate::progress::say;

/// One run's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Every hook, in order.
    pub hooks: Vec<Attachment>,
    pub attach_ms: f64,
    /// Time in BPF programs; none without a fault or without kernel.bpf_stats_enabled.
    pub ns_per_fault: Option<f64>,
    /// Runs that the kernel skipped.
    pub runs_skipped: u64,
}

/// One hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub hook: Hook,
    /// The attach type; none: not attached.
    pub by: Option<String>,
    /// That the verifier walked.
    pub verified_instructions: Option<u32>,
}

impl Observed {
    pub(super) fn of(account: &Account) -> Self {
        let programs = &account.summary.programs;
        let hooks = account.session.verdicts.iter().map(|verdict| Attachment {
            hook: verdict.hook,
            by: verdict.state.attached().then(|| verdict.state.detail().to_owned()),
            verified_instructions: programs
                .iter()
                .find(|program| program.hook == Some(verdict.hook))
                .and_then(|program| program.verified_instructions),
        });
        Self {
            hooks: hooks.collect(),
            attach_ms: account.session.attach_ns as f64 / 1e6,
            ns_per_fault: Bpf::of(&account.summary)
                .filter(|bpf| !bpf.programs.is_empty())
                .map(|bpf| bpf.ns_per_fault),
            runs_skipped: runs_skipped(&account.summary),
        }
    }
}

/// Runs of dsascope's programs that the kernel skipped, as dsascope says: a task came to where another one had been put aside. On a busy host
/// an emulated CPU may stand still within a program for as long as that takes.
pub fn runs_skipped(summary: &SummaryLine) -> u64 {
    summary.programs.iter().filter_map(|program| program.missed).sum()
}

/// Runs something, and once more where it comes out worse for runs that the kernel skipped; `skipped` tells how many those were. What such a
/// run lacks it says itself; what it would be without is seen by another one.
pub fn at_most_twice<T>(
    what: &str,
    skipped: impl Fn(&T) -> u64,
    mut run: impl FnMut() -> Result<T>,
) -> Result<T> {
    let first = run()?;
    match skipped(&first) {
        0 => Ok(first),
        skipped => {
            say(format!(
                "{what}: the kernel skipped {skipped} runs of dsascope's programs, as it says; once more"
            ));
            run()
        }
    }
}

/// The hooks that are not attached, by name; empty when all are.
pub fn unseen(hooks: &[Attachment]) -> String {
    let unseen = hooks.iter().filter(|hook| hook.by.is_none()).map(|hook| hook.hook.name());
    unseen.collect::<Vec<_>>().join(", ")
}

//! `dsascope doctor`: what the host offers, what stands in the way, and a fix for each.
//!
//! Pure: [`Facts`] in, [`Check`]s and text out. Looking at the host is the probe crate's.

mod checks;
mod render;

pub(crate) use dsascope_core::json::doctor::HostFacts as Facts;
use dsascope_core::json::doctor::{CheckVerdict as Verdict, HostCheck};

use crate::exit::Code;

pub(crate) use checks::checks;
pub(crate) use render::{json, text};

/// As the table has it.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Warn => "warn",
        Verdict::Bad => "bad",
    }
}

/// A judgement, and with what code tracing would end because of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub said: HostCheck,
    pub code: Code,
}

/// The code of the first check that stands in the way.
pub(crate) fn code(checks: &[Check]) -> Code {
    checks.iter().find(|check| check.said.verdict == Verdict::Bad).map_or(Code::Ok, |check| check.code)
}

//! The report as an aligned table and as one JSON object.

use std::fmt::Write;

use serde_json::json;

use super::{Check, Facts, Verdict, code};

/// Version of the JSON object's format; within it fields are only added.
const VERSION: u32 = 1;

pub(crate) fn text(facts: &Facts, checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut out = format!("{}  {}  {}\n\n", facts.host, facts.kernel, facts.machine);
    for check in checks {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:4}  {:width$}  {}", check.verdict.name(), check.name, check.found);
        if let Some(fix) = &check.fix {
            let _ = writeln!(out, "      {:width$}  fix: {fix}", "");
        }
    }
    let of = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    let (warnings, bad) = (of(Verdict::Warn), of(Verdict::Bad));
    let verdict = match (bad, warnings) {
        (0, 0) => "dsascope can trace this host.".into(),
        (0, _) => format!("dsascope can trace this host; {warnings} to look at."),
        _ => format!("{bad} in the way, {warnings} more to look at."),
    };
    let _ = writeln!(out, "\n{verdict}");
    out
}

pub(crate) fn json(facts: &Facts, checks: &[Check]) -> String {
    let object = json!({
        "v": VERSION,
        "kind": "doctor",
        "facts": facts,
        "checks": checks,
        "exit_code": code(checks) as u8,
    });
    format!("{object:#}\n")
}

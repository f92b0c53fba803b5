//! The report as an aligned table and as one JSON object.

use std::fmt::Write;

use dsascope_core::json::doctor::DoctorReport;
use dsascope_core::json::{Body, Line};

use super::{Check, Facts, Verdict, code, word};

pub(crate) fn text(facts: &Facts, checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.said.name.len()).max().unwrap_or(0);
    let mut out = format!("{}  {}  {}\n\n", facts.host, facts.kernel, facts.machine);
    for check in checks.iter().map(|check| &check.said) {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:4}  {:width$}  {}", word(check.verdict), check.name, check.found);
        if let Some(fix) = &check.fix {
            let _ = writeln!(out, "      {:width$}  fix: {fix}", "");
        }
    }
    let of = |verdict| checks.iter().filter(|check| check.said.verdict == verdict).count();
    let (warnings, bad) = (of(Verdict::Warn), of(Verdict::Bad));
    let verdict = match (bad, warnings) {
        (0, 0) => "dsascope can trace this host.".into(),
        (0, _) => format!("dsascope can trace this host; {warnings} to look at."),
        _ => format!("{bad} in the way, {warnings} more to look at."),
    };
    let _ = writeln!(out, "\n{verdict}");
    out
}

pub(crate) fn json(facts: &Facts, checks: &[Check]) -> serde_json::Result<String> {
    let report = DoctorReport {
        facts: facts.clone(),
        checks: checks.iter().map(|check| check.said.clone()).collect(),
        exit_code: code(checks) as u8,
    };
    Ok(serde_json::to_string_pretty(&Line::from(Body::Doctor(Box::new(report))))? + "\n")
}

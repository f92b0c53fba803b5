//! What went wrong without anybody being told, and what the driver last did to devices.

use dsascope_core::model::Model;
use ratatui::text::{Line, Span};

use super::devices::is_trouble;
use super::help::wrap;
use crate::format::moment;
use crate::theme::Theme;
use crate::words;

pub(super) fn lines(theme: &Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let started_ns = model.session().map_or(0, |session| session.started_ns);
    let at = |ns: u64| moment(ns.saturating_sub(started_ns));
    let room = usize::from(width).saturating_sub(4).max(20);
    let mut lines = Vec::new();
    let mut text = |text: &str, style| {
        let parts = wrap(text, room).into_iter();
        lines.extend(parts.map(|part| Line::from(vec![Span::raw("  "), Span::styled(part, style)])));
    };
    let findings = model.findings();
    for finding in &findings {
        let more = if finding.at_least { " (or more)" } else { "" };
        text(&format!("{}: {}{more}", finding.finding.name(), finding.sentence), theme.bad());
        for evidence in finding.evidence.iter().rev() {
            text(&format!("{} {}: {}", at(evidence.at_ns), evidence.place(), evidence.words), theme.text());
        }
        text(&format!("to do: {}", finding.advice), theme.dim());
        text(&format!("{}; see {}", finding.confidence.word(), finding.document), theme.dim());
        text("", theme.text());
    }
    if findings.is_empty() {
        text("nothing found", theme.dim());
    }
    let unobserved: Vec<_> = model.findings_unobserved().iter().map(|kind| kind.name()).collect();
    if !unobserved.is_empty() {
        text(&format!("not observed here: {}", unobserved.join(", ")), theme.warn());
    }
    text("", theme.text());
    text("What the driver did to devices, newest first", theme.title(true));
    for event in model.recent_driver_events().rev().filter(|event| !event.is_routine()) {
        let style = if is_trouble(event) { theme.warn() } else { theme.text() };
        text(&format!("{} {}", at(event.at_ns), words::driver(theme, event, None)), style);
    }
    lines
}

//! What went wrong without anybody being told, and what the driver last did to devices.

use dsascope_core::findings::Finding;
use dsascope_core::model::Model;
use ratatui::text::{Line, Span};

use super::devices::history;
use super::text::Text;
use crate::app::App;
use crate::format::{fit, moment};
use crate::theme::Theme;

/// The first finding in a line, with how many there are: what somebody who has just come must know.
pub(super) fn first(app: &App, width: u16) -> Line<'static> {
    let theme = app.theme();
    let findings = app.shown().findings();
    // What is over may wait.
    let Some(finding) = findings.iter().find(|finding| !finding.over).or(findings.first()) else {
        // Who cannot see finds nothing.
        let blind = app.model().session().is_some_and(|session| session.missing_required().next().is_some());
        return match blind {
            true => Line::styled(
                "nothing can be found: a probe that is needed is missing, 0 shows why",
                theme.warn(),
            ),
            false => Line::styled("nothing found to be wrong", theme.dim()),
        };
    };
    let all = match findings.len() {
        1 => "9 shows it ".to_owned(),
        all => format!("9 shows all {all} "),
    };
    let room = usize::from(width).saturating_sub(all.len());
    let sentence =
        fit(&format!("! {}: {}", finding.finding.name(), finding.sentence), room.saturating_sub(1));
    Line::from(vec![Span::styled(format!("{sentence:room$}"), theme.bad()), Span::styled(all, theme.key())])
}

/// Since when, until when, how often, and whether it goes on.
fn when(finding: &Finding, at: &impl Fn(u64) -> String) -> String {
    let Finding { first_ns, last_ns, begun, over, .. } = finding;
    let (first, last) = (at(*first_ns), at(*last_ns));
    let again = if *begun > 1 { format!(", began {begun} times") } else { String::new() };
    let end = if *over { "OVER" } else { "going on" };
    if first == last {
        return format!("{end}: seen at {first}{again}");
    }
    format!("{end}: first seen at {first}, last at {last}{again}")
}

pub(super) fn lines(theme: &Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let started_ns = model.session().map_or(0, |session| session.started_ns);
    let at = |ns: u64| moment(ns.saturating_sub(started_ns));
    let mut text = Text::new(theme, width.saturating_sub(2));
    let mut findings = model.findings();
    findings.sort_by_key(|finding| finding.over);
    for finding in &findings {
        let more = if finding.at_least { " (or more)" } else { "" };
        let style = if finding.over { theme.warn() } else { theme.bad() };
        text.sentence(&format!("{}: {}{more}", finding.finding.name(), finding.sentence), style);
        text.sentence(&when(finding, &at), if finding.over { theme.dim() } else { theme.strong() });
        for evidence in finding.evidence.iter().rev() {
            let (at, place) = (at(evidence.at_ns), evidence.place());
            text.sentence(&format!("{at} {place}: {}", evidence.words), theme.text());
        }
        text.sentence(&format!("to do: {}", finding.advice), theme.dim());
        text.sentence(&format!("{}; see {}", finding.confidence.word(), finding.document), theme.dim());
        text.sentence("", theme.text());
    }
    if findings.is_empty() {
        text.sentence("nothing found", theme.dim());
    }
    let unobserved: Vec<_> = model.findings_unobserved().iter().map(|kind| kind.name()).collect();
    if !unobserved.is_empty() {
        text.sentence(&format!("not observed here: {}", unobserved.join(", ")), theme.warn());
    }
    let turns = model.finding_turns();
    if turns.len() > 0 {
        text.sentence("", theme.text());
        text.sentence("When findings began and were over, newest first", theme.title(true));
        for turn in turns.rev() {
            let (time, name) = (at(turn.at_ns), turn.finding.name());
            let (words, style) = match turn.over_since_ns {
                None => ("began".into(), theme.text()),
                Some(ns) => (format!("over, last seen at {}", at(ns)), theme.dim()),
            };
            text.sentence(&format!("{time} {name}: {words}"), style);
        }
    }
    text.sentence("", theme.text());
    text.sentence("What the driver did to devices, newest first", theme.title(true));
    history(&mut text, theme, model, |event| !event.is_routine());
    text.lines
}

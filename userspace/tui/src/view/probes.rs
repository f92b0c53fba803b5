//! How each hook is attached, what it cost, and whether the books agree.

use dsascope_core::event::ByKind;
use dsascope_core::ledger::Balance;
use dsascope_core::model::Model;
use dsascope_core::probe::{Verdict, VerdictState};
use ratatui::text::Line;

use super::table::{Column, line_of, widths};
use super::text::Text;
use crate::format::{count, duration, optional_duration};
use crate::theme::Theme;

const HOOKS: [Column; 6] = [
    Column::left("HOOK", 20),
    Column::left("ATTACHED BY", 18),
    Column::right("HITS", 6),
    Column::right("NS/RUN", 7),
    Column::right("MISSED", 6),
    Column::left("FOR", 20).growing(6, 80),
];

const BOOKS: [Column; 5] = [
    Column::left("RECORDS", 20),
    Column::right("SEEN", 8),
    Column::right("SENT", 8),
    Column::right("LOST", 8),
    Column::right("RECEIVED", 8),
];

pub(super) fn lines(theme: &Theme, model: &Model, width: u16) -> Vec<Line<'static>> {
    let mut text = Text::new(theme, width);
    text.title("Hooks");
    let layout = widths(&HOOKS, width);
    text.lines.push(line_of(&HOOKS, &layout, &HOOKS.map(|column| (column.title, theme.columns()))));
    for verdict in model.verdicts() {
        text.lines.push(line_of(&HOOKS, &layout, &hook(theme, model, verdict)));
    }
    let has_time =
        model.snapshot().is_some_and(|s| s.programs.iter().any(|program| program.run_ns.is_some()));
    if !has_time {
        text.sentence("NS/RUN needs kernel.bpf_stats_enabled, which itself costs time.", theme.dim());
    }
    if let Some(submitters) = model.session().and_then(|session| session.submitters.as_ref()) {
        text.title("Submissions");
        text.field("cost each", &optional_duration(theme, submitters.cost_ns), theme.text());
        for file in &submitters.files {
            let style = if file.is_incomplete() { theme.warn() } else { theme.text() };
            text.field(&format!("{} sites", file.attached()), &file.file, style);
            file.unprobeable.iter().chain(&file.problem).for_each(|why| text.field("", why, theme.warn()));
        }
    }
    books(&mut text, theme, model, width);
    text.lines
}

fn hook(theme: &Theme, model: &Model, verdict: &Verdict) -> [(String, ratatui::style::Style); 6] {
    let by = match &verdict.state {
        VerdictState::Attached { by } => (by.clone(), theme.text()),
        VerdictState::NotWanted => ("not wanted".into(), theme.dim()),
        state if verdict.required => (state.name().to_uppercase(), theme.bad()),
        state => (state.name().to_owned(), theme.warn()),
    };
    let programs = || {
        let all = model.snapshot().into_iter().flat_map(|snapshot| &snapshot.programs);
        all.filter(|program| program.hook == Some(verdict.hook))
    };
    let sum =
        |of: fn(&dsascope_core::event::ProgramStats) -> Option<u64>| programs().filter_map(of).sum::<u64>();
    let (runs, run_ns, missed) = (sum(|p| p.runs), sum(|p| p.run_ns), sum(|p| p.missed));
    let cost = run_ns.checked_div(runs).filter(|_| run_ns > 0);
    let reason = match &verdict.state {
        VerdictState::NotOnThisKernel { why }
        | VerdictState::Refused { why }
        | VerdictState::Broken { why } => why,
        _ => verdict.hook.intent(),
    };
    let missed_style = if missed > 0 { theme.bad() } else { theme.text() };
    [
        (verdict.hook.name().to_owned(), theme.text()),
        by,
        (verdict.hits.map_or_else(|| "-".into(), count), theme.text()),
        (cost.map_or_else(|| "-".into(), |ns| ns.to_string()), theme.text()),
        (count(missed), missed_style),
        (reason.to_owned(), theme.dim()),
    ]
}

/// Every record: seen by the programs, sent into the ring or lost, received here.
fn books(text: &mut Text<'_>, theme: &Theme, model: &Model, width: u16) {
    let ledger = model.ledger();
    let (verdict, style) = match ledger.balance() {
        Balance::Unknown => ("no figures yet".into(), theme.dim()),
        Balance::Balanced => ("balanced: seen = sent + lost, received = sent".into(), theme.good()),
        Balance::InFlight { records } => {
            (format!("as far as one can say while tracing: {records} records on their way"), theme.good())
        }
        Balance::Unbalanced { .. } => ("THEY DISAGREE: a defect of dsascope".into(), theme.bad()),
    };
    text.title("Books");
    text.sentence(&verdict, style);
    let layout = widths(&BOOKS, width);
    text.lines.push(line_of(&BOOKS, &layout, &BOOKS.map(|column| (column.title, theme.columns()))));
    let kernel = &ledger.kernel;
    for kind in ByKind::KINDS {
        let [seen, sent, lost, received] =
            [&kernel.seen, &kernel.sent, &kernel.lost, &ledger.received].map(|by_kind| by_kind.get(kind));
        let name = dsascope_common::wire::kind::NAMES.get(usize::from(kind)).copied().unwrap_or_default();
        let style = if lost > 0 { theme.bad() } else { theme.text() };
        let cells = [
            (name.replace('_', " "), theme.text()),
            (count(seen), theme.text()),
            (count(sent), theme.text()),
            (count(lost), style),
            (count(received), theme.text()),
        ];
        text.lines.push(line_of(&BOOKS, &layout, &cells));
    }
    let ring = model.session().map_or(0, |session| session.ring_bytes);
    let used = model.snapshot().and_then(|snapshot| snapshot.ring_used_bytes);
    let used = used.map_or_else(|| "-".into(), |bytes| format!("{} KiB", bytes >> 10));
    text.field("ring", &format!("{used} unread of {} KiB", ring >> 10), theme.text());
    let others = [
        ("undecodable", ledger.undecodable),
        ("dropped by dsascope", ledger.channel_lost),
        ("missing in capture", ledger.capture_lost),
    ];
    for (name, n) in others.into_iter().filter(|(_, n)| *n > 0) {
        text.field(name, &count(n), theme.bad());
    }
    let holes: Vec<String> =
        model.holes().iter().map(|(what, n)| format!("{} {}", count(*n), what.name())).collect();
    if !holes.is_empty() {
        text.field("holes", &holes.join(", "), theme.warn());
    }
    if let Some(session) = model.session() {
        let attached = format!("{} for all, on {} CPUs", duration(theme, session.attach_ns), session.cpus);
        text.field("attaching took", &attached, theme.text());
    }
}

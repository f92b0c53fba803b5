//! Host, kernel and devices; rates; totals and loss; probes. A row each.

use dsascope_core::event::{SessionInfo, SubmitterFile, VerdictState};
use dsascope_core::ledger::Balance;
use dsascope_core::model::EventLogAdvice;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::App;
use crate::format::{count, duration, elapsed, optional_duration, rate};
use crate::replay::Replay;
use crate::view::cut;

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let lines = [host(app, area.width), rates(app, area.width), loss(app), probes(app)];
    for (row, line) in lines.into_iter().enumerate().take(usize::from(area.height)) {
        let line = cut(line, usize::from(area.width));
        frame.render_widget(line, Rect { y: area.y + row as u16, height: 1, ..area });
    }
}

fn host(app: &App, width: u16) -> Line<'static> {
    let theme = app.theme();
    let mut line = Line::from(Span::styled("dsascope", theme.strong()));
    let Some(session) = app.model().session() else {
        line.push_span(Span::styled("  attaching", theme.dim()));
        return line;
    };
    line.push_span(Span::raw(format!("  {}  {}  ", session.host, session.kernel)));
    devices(app, session, width, &mut line);
    let mut end = Vec::new();
    if app.is_frozen() {
        end.push(Span::styled("FROZEN ", theme.warn()));
    }
    match (app.replay(), app.header().uptime_ns) {
        (Some(replay), _) => end.extend(place(app, replay, width)),
        (None, Some(uptime)) => end.push(Span::raw(elapsed(uptime))),
        (None, None) => {}
    }
    push_right(line, end, width)
}

/// Which capture, where in it, how fast: `storm.dsc 00:00:03/00:00:12 2x`.
fn place(app: &App, replay: &Replay, width: u16) -> Vec<Span<'static>> {
    let theme = app.theme();
    let (word, style) = match (replay.seeking, replay.paused, replay.speed) {
        (true, _, _) => ("seeking".into(), theme.warn()),
        (_, true, _) => ("PAUSED".into(), theme.warn()),
        (.., Some(speed)) => (format!("{speed}x"), theme.strong()),
        (.., None) => ("max".into(), theme.strong()),
    };
    let name = if width >= 100 { format!("{} ", replay.name) } else { String::new() };
    let at = format!("{}/{} ", elapsed(replay.at_ns), elapsed(replay.end_ns));
    vec![Span::styled(name, theme.dim()), Span::raw(at), Span::styled(word, style)]
}

/// From here on there is room for more than what must be known.
const ROOMY: u16 = 150;

/// Each device with its log: `dsa0 log 6/64` is deepest seen and size.
fn devices(app: &App, session: &SessionInfo, width: u16, line: &mut Line<'static>) {
    let theme = app.theme();
    if session.devices.is_empty() {
        line.push_span(Span::styled("no device", theme.dim()));
    }
    for (index, info) in session.devices.iter().enumerate() {
        let comma = if index > 0 { ", " } else { "" };
        let Some(size) = info.event_log_size else {
            line.push_span(Span::styled(format!("{comma}{} no event log", info.device), theme.dim()));
            continue;
        };
        let advice = app.model().device(info.device.id).map(|device| app.model().event_log(device));
        let deepest = advice.as_ref().and_then(|advice| advice.high_water);
        let deepest = deepest.map_or_else(String::new, |depth| format!("{depth}/"));
        line.push_span(Span::styled(format!("{comma}{} log {deepest}{size}", info.device), theme.dim()));
        if let Some(advice) = advice {
            advise(app, &advice, width, line);
        }
    }
}

fn advise(app: &App, advice: &EventLogAdvice, width: u16, line: &mut Line<'static>) {
    let theme = app.theme();
    if let (true, Some(advised)) = (advice.is_small(), advice.advised_size) {
        let full = if advice.was_full { "was FULL" } else { "small" };
        line.push_span(Span::styled(format!(" {full}, better {advised}"), theme.warn()));
    }
    if let (true, Some(ns)) = (width >= ROOMY, advice.time_to_full_ns) {
        line.push_span(Span::styled(format!(" (full in {} unread)", duration(theme, ns)), theme.dim()));
    }
}

/// Puts `end` at the right edge; the line gives way when both do not fit.
fn push_right(line: Line<'static>, end: Vec<Span<'static>>, width: u16) -> Line<'static> {
    let end_width: usize = end.iter().map(Span::width).sum();
    let room = usize::from(width).saturating_sub(end_width + 1);
    let mut line = cut(line, room);
    let fill = usize::from(width).saturating_sub(line.width() + end_width);
    line.push_span(Span::raw(" ".repeat(fill)));
    line.spans.extend(end);
    line
}

/// Label and value, the next beside the last for as long as they fit whole.
fn rates(app: &App, width: u16) -> Line<'static> {
    let theme = app.theme();
    let header = app.header();
    let show = |value: Option<f64>| value.map_or_else(|| "-".into(), rate);
    let per_interrupt = match (header.faults_per_s, header.interrupts_per_s) {
        (Some(faults), Some(interrupts)) if interrupts > 0.0 => rate(faults / interrupts),
        _ => "-".into(),
    };
    let failing = header.failures_per_s.is_some_and(|rate| rate > 0.0);
    let p99 = header.service.as_ref().map(|summary| summary.p99_ns);
    let items = [
        ("faults/s", show(header.faults_per_s), false),
        ("failures/s", show(header.failures_per_s), failing),
        ("interrupts/s", show(header.interrupts_per_s), false),
        ("entries/interrupt", per_interrupt, false),
        ("service p99", optional_duration(theme, p99), false),
        ("waiting", header.pending.map_or_else(|| "-".into(), count), false),
    ];
    let mut line = Line::default();
    for (label, value, bad) in items {
        let style = if bad { theme.bad() } else { theme.strong() };
        if line.width() + label.len() + 1 + value.chars().count() > usize::from(width) {
            break;
        }
        line.push_span(Span::styled(format!("{label} "), theme.dim()));
        line.push_span(Span::styled(format!("{value:<6} "), style));
    }
    line
}

/// Totals, and whether they are whole: loss by what was lost, in words and counts.
fn loss(app: &App) -> Line<'static> {
    let theme = app.theme();
    let header = app.header();
    let label = |text: &'static str| Span::styled(text, theme.dim());
    let mut line = Line::from(vec![
        label("total "),
        Span::raw(format!("{} faults", count(header.faults))),
        label(", "),
        Span::styled(
            format!("{} failed", count(header.failures)),
            if header.failures > 0 { theme.bad() } else { theme.text() },
        ),
        label("   events "),
    ]);
    if header.records_lost == 0 && header.holes == 0 {
        line.push_span(Span::styled("exact", theme.good()));
        line.push_span(label(" (nothing lost)"));
    } else if header.records_lost > 0 {
        line.push_span(Span::styled(format!("LOST {}", lost_by_kind(app)), theme.bad()));
        line.push_span(Span::raw("; totals exact"));
    } else {
        line.push_span(Span::styled(format!("{} holes", header.holes), theme.warn()));
        line.push_span(label(" (stages not seen), nothing lost"));
    }
    if let Some(filter) = app.model().filtering() {
        line.push_span(Span::styled(format!("  FILTERED, {} left out", filter.left_out), theme.warn()));
    }
    let found = app.model().findings().len();
    if found > 0 {
        let findings = if found == 1 { "finding" } else { "findings" };
        line.push_span(Span::styled(format!("  {found} {findings} (f)"), theme.bad()));
    }
    if let Balance::Unbalanced { differences } = &header.balance {
        let kinds: Vec<_> = differences.iter().map(|difference| difference.record.as_str()).collect();
        line.push_span(Span::styled(format!("  BOOKS DISAGREE: {}", kinds.join(", ")), theme.bad()));
    }
    line
}

fn lost_by_kind(app: &App) -> String {
    let lost = &app.model().ledger().kernel.lost;
    let kinds = [
        (lost.fault, "faults"),
        (lost.interrupt, "interrupts"),
        (lost.open, "opens"),
        (lost.release, "closes"),
        (lost.stage, "stages"),
        (lost.driver, "driver events"),
    ];
    let words: Vec<_> = kinds.iter().filter(|(n, _)| *n > 0).map(|(n, kind)| format!("{n} {kind}")).collect();
    if words.is_empty() { app.header().records_lost.to_string() } else { words.join(", ") }
}

/// The failing ones first, by name; then attach types with their counts. The help gives each verdict in full.
fn probes(app: &App) -> Line<'static> {
    let theme = app.theme();
    let Some(session) = app.model().session() else { return Line::default() };
    let wanted = session.verdicts.iter().filter(|v| v.state != VerdictState::NotWanted);
    let (attached, missing): (Vec<_>, Vec<_>) = wanted.partition(|verdict| verdict.state.attached());
    let mut line = Line::from(Span::styled("probes ", theme.dim()));
    let total = attached.len() + missing.len();
    if missing.is_empty() {
        line.push_span(Span::styled(format!("all {total}"), theme.good()));
    } else {
        line.push_span(Span::styled(format!("{} of {total}", attached.len()), theme.warn()));
    }
    for verdict in missing {
        let style = if verdict.required { theme.bad() } else { theme.warn() };
        let need = if verdict.required { "REQUIRED " } else { "" };
        line.push_span(Span::styled(
            format!("  {need}{} {}", verdict.hook.name(), verdict.state.name()),
            style,
        ));
    }
    let mut by: Vec<(&str, usize)> = Vec::new();
    for verdict in &attached {
        let name = verdict.state.detail();
        match by.iter_mut().find(|(known, _)| *known == name) {
            Some((_, n)) => *n += 1,
            None => by.push((name, 1)),
        }
    }
    by.sort_by_key(|(name, n)| (std::cmp::Reverse(*n), *name));
    let by: Vec<_> = by.iter().map(|(name, n)| format!("{n} {name}")).collect();
    if let Some(submitters) = &session.submitters {
        let sites: usize = submitters.files.iter().map(SubmitterFile::attached).sum();
        let cost = optional_duration(theme, submitters.cost_ns);
        let missed = submitters.files.iter().any(SubmitterFile::is_incomplete);
        let style = if sites == 0 || missed { theme.warn() } else { theme.good() };
        let places = if sites == 1 { "1 site".into() } else { format!("{sites} sites") };
        line.push_span(Span::styled(format!("  submissions at {places}, {cost} each"), style));
    }
    // The least important last: a narrow screen cuts it.
    line.push_span(Span::styled(
        format!("  in {}  {}", duration(theme, session.attach_ns), by.join(", ")),
        theme.dim(),
    ));
    line
}

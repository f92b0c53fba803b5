//! The table of recent faults, newest first.

use dsascope_core::event::CopyOutcome;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::table::{Column, draw_row, draw_sign, lines_of, widths};
use crate::app::{App, Focus};
use crate::faults::Entry;
use crate::format::{moment, optional_duration};
use crate::words;

pub(super) const COLUMNS: [Column; 9] = [
    Column::right("TIME", 10).growing(1, 12),
    Column::right("PID", 7),
    Column::left("COMMAND", 10).growing(2, 15),
    Column::left("WQ", 5).growing(1, 7),
    Column::left("OPERATION", 9).growing(1, 18),
    Column::left("OUTCOME", 10),
    Column::right("SERVICE", 7),
    Column::left("ADDRESS", 14).growing(1, 18),
    // Last: a narrow terminal has no place for the sentence.
    Column::left("WHAT HAPPENED", 13).growing(12, 90),
];

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme();
    let focused = app.focus() == Focus::Faults;
    super::draw_rule(theme, frame, area, &title(app), &note(app), focused);
    if area.height < 2 {
        return;
    }
    let widths = widths(&COLUMNS, area.width);
    let titles: Vec<_> = COLUMNS.iter().map(|column| (column.title, theme.columns())).collect();
    let line = |row: u16| Rect { y: area.y + row, height: 1, ..area };
    draw_row(frame, line(1), &COLUMNS, &widths, &titles, Style::new());
    let cursor = app.fault_row();
    let visible =
        app.entries().iter().enumerate().skip(app.first_fault()).take(crate::layout::table_rows(area));
    for (place, (index, entry)) in visible.enumerate() {
        let chosen = cursor == Some(index) && (focused || !app.follows());
        let style = if chosen { theme.selected(focused) } else { theme.text() };
        draw_row(frame, line(2 + place as u16), &COLUMNS, &widths, &cells(app, entry), style);
        if app.marks().has_fault(entry) {
            draw_sign(frame, line(2 + place as u16), widths[0], theme.mark());
        }
    }
    if app.entries().is_empty() && area.height > 2 {
        let text = if app.shown().recent_numbers().end > 0 {
            "no recent fault fits the choice".into()
        } else if app.replay().is_some() {
            format!("no fault yet ({} goes on to the next)", app.keys().shown("n"))
        } else {
            "no fault yet".into()
        };
        frame.render_widget(Line::styled(format!("  {text}"), theme.dim()), line(2));
    }
}

/// Rows as lines.
pub(super) fn lines(app: &App, rows: &[usize], width: u16) -> Vec<Line<'static>> {
    let rows = rows.iter().filter_map(|&row| app.entries().get(row));
    lines_of(&COLUMNS, &widths(&COLUMNS, width), rows.map(|entry| cells(app, entry)))
}

fn title(app: &App) -> String {
    let Some(key) = app.only() else { return "recent faults".into() };
    let process = app.shown().process(key);
    let name = process.and_then(|p| p.comm).map(|comm| comm.to_string()).unwrap_or_default();
    let pid = process.and_then(|p| p.tgid).map_or_else(|| "?".into(), |tgid| tgid.to_string());
    format!("recent faults of {name} {pid} on {} (Esc: all)", key.wq_id())
}

fn note(app: &App) -> String {
    match (app.entries().len(), app.fault_row()) {
        (0, _) | (_, None) => String::new(),
        (_, Some(_)) if app.follows() => "newest first".into(),
        (len, Some(row)) => format!("{} of {len}; Esc follows the newest", row + 1),
    }
}

fn cells(app: &App, entry: &Entry) -> Vec<(String, Style)> {
    let theme = app.theme();
    let fault = &entry.fault;
    let started_ns = app.model().session().map_or(0, |session| session.started_ns);
    let outcome = match fault.copy {
        CopyOutcome::Delivered { .. } => theme.text(),
        CopyOutcome::Short { .. } => theme.bad(),
        CopyOutcome::NotCopied | CopyOutcome::Unobserved => theme.warn(),
    };
    let durations = fault.durations();
    let address = fault.copy_addr.unwrap_or_else(|| fault.entry.fault_addr());
    vec![
        (moment(fault.at_ns.saturating_sub(started_ns)), theme.text()),
        (fault.tgid.map_or_else(|| "?".into(), |tgid| tgid.to_string()), theme.text()),
        (entry.command.clone(), theme.text()),
        (fault.context.wq_id().to_string(), theme.text()),
        (words::operation(fault), theme.text()),
        (words::outcome(fault).into(), outcome),
        (optional_duration(theme, durations.service), theme.text()),
        (format!("{address:#x}"), theme.text()),
        (words::happened(fault), theme.dim()),
    ]
}

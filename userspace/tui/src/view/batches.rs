//! The table of batches, in the place of recent faults: each use of an identifier with its elements and its own record.

use dsascope_core::model::Batch;
use dsascope_core::model::batch::BatchState;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::table::{Column, draw_row, draw_sign, lines_of, widths};
use crate::app::{App, Focus};
use crate::format::{count, moment};
use crate::words;

pub(super) const COLUMNS: [Column; 8] = [
    Column::right("TIME", 10).growing(1, 12),
    Column::left("WQ", 5).growing(1, 7),
    Column::right("ID", 3),
    Column::right("USE", 4).growing(1, 6),
    Column::left("STATE", 12),
    Column::left("ELEMENTS", 8).growing(4, 40),
    Column::left("WHAT HAPPENED", 10).growing(8, 110),
    // Last: a narrow terminal has no place for it.
    Column::left("COMMAND", 10).growing(1, 15),
];

pub(super) fn draw(app: &App, batches: &[Batch], frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme();
    let focused = app.focus() == Focus::Faults;
    super::draw_rule(theme, frame, area, "batches (b: recent faults)", &note(app), focused);
    if area.height < 2 {
        return;
    }
    let widths = widths(&COLUMNS, area.width);
    let titles: Vec<_> = COLUMNS.iter().map(|column| (column.title, theme.columns())).collect();
    let line = |row: u16| Rect { y: area.y + row, height: 1, ..area };
    draw_row(frame, line(1), &COLUMNS, &widths, &titles, Style::new());
    let rows = crate::layout::table_rows(area);
    for (place, batch) in batches.iter().skip(app.first_batch()).take(rows).enumerate() {
        let chosen = app.first_batch() + place == app.batch_row() && (focused || app.batch_chosen());
        let style = if chosen { theme.selected(focused) } else { theme.text() };
        draw_row(frame, line(2 + place as u16), &COLUMNS, &widths, &cells(app, batch), style);
        if app.marks().has_batch(batch) {
            draw_sign(frame, line(2 + place as u16), widths[0], theme.mark());
        }
    }
    if batches.is_empty() && area.height > 2 {
        let text = "  no batch with a fault, or none that fits the choice";
        frame.render_widget(
            Line::styled(crate::format::fit(text, usize::from(area.width)), theme.dim()),
            line(2),
        );
    }
}

/// Rows as lines.
pub(super) fn lines(app: &App, batches: &[Batch], rows: &[usize], width: u16) -> Vec<Line<'static>> {
    let rows = rows.iter().filter_map(|&row| batches.get(row));
    lines_of(&COLUMNS, &widths(&COLUMNS, width), rows.map(|batch| cells(app, batch)))
}

/// Totals: what is in doubt or wrong before what is not.
fn note(app: &App) -> String {
    let batches = app.shown().batches();
    let totals = batches.totals();
    let moved = totals.patched_without_failure + totals.failure_not_patched;
    let unfinished = totals.reused + totals.interrupted + totals.closed + totals.evicted;
    let mut words = vec![format!("{} open, {} finished", batches.open().count(), count(totals.finished))];
    if unfinished > 0 {
        words.push(format!("{} without end", count(unfinished)));
    }
    if moved > 0 {
        words.push(format!("{} MOVED", count(moved)));
    }
    words.join(", ")
}

fn cells(app: &App, batch: &Batch) -> Vec<(String, Style)> {
    let theme = app.theme();
    let started_ns = app.model().session().map_or(0, |session| session.started_ns);
    let state = match batch.state {
        BatchState::Open => theme.good(),
        BatchState::Finished if batch.doubts.is_empty() => theme.text(),
        _ => theme.warn(),
    };
    let lost = batch.record.is_some_and(|record| record.copy.has_failed());
    let (happened, style) = match &batch.finding {
        Some(finding) => (words::moved(finding.finding).into(), theme.bad()),
        None if batch.record.is_none() => (String::new(), theme.dim()),
        None => (words::batch_record(batch), if lost { theme.bad() } else { theme.dim() }),
    };
    let happened = [happened.as_str()].into_iter().filter(|text| !text.is_empty());
    let happened =
        happened.chain(batch.doubts.iter().map(|doubt| doubt.words())).collect::<Vec<_>>().join("; ");
    let failed = if batch.elements_failed > 0 { theme.bad() } else { theme.text() };
    let comm = app.shown().process(batch.context.key()).and_then(|process| process.comm);
    vec![
        (moment(batch.last_ns.saturating_sub(started_ns)), theme.text()),
        (batch.context.wq_id().to_string(), theme.text()),
        (batch.id.to_string(), theme.text()),
        (count(batch.generation), theme.text()),
        (batch.state.name().into(), state),
        (words::elements(batch), failed),
        (happened, style),
        (comm.map(|comm| comm.to_string()).unwrap_or_default(), theme.text()),
    ]
}

//! Drawing: each panel a file, each a function of the [`App`] that changes nothing.

mod addresses;
mod batch;
mod batches;
mod compared;
mod detail;
mod devices;
mod event_log;
mod faults;
mod findings;
mod footer;
mod header;
mod heat;
mod help;
mod latency;
mod probes;
mod processes;
mod table;
mod tabs;
mod text;
mod timeline;

use dsascope_core::event::Fault;
use dsascope_core::model::{Batch, Submissions};
use dsascope_core::probe::Verdict;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Clear;

use crate::app::{App, Focus, Overlay};
use crate::format::fit;
use crate::layout::{self, MIN_HEIGHT, MIN_WIDTH, Panels, Screen};
use crate::remap::Remap;
use crate::rows;
use crate::theme::Theme;
use crate::views::{Shape, View};

/// Lines that are copied at once: terminals refuse much more than their text.
const MOST_COPIED: usize = 500;

/// Draws the whole screen.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let area = frame.area();
    let panels = match layout::screen(area.width, area.height, app.view().shape()) {
        Screen::TooSmall => return too_small(app.theme(), frame),
        Screen::Panels(panels) => panels,
    };
    header::draw(app, frame, panels.header);
    footer::draw(app, frame, panels.footer);
    tabs::draw(app, frame, panels.tabs);
    let body = panels.body;
    match app.overlay() {
        Some(Overlay::Help { scroll }) => {
            let lines = help::lines(app.theme(), app.view(), app.keys(), app.model().verdicts(), body.width);
            overlay(app.theme(), frame, body, "help", &lines, *scroll);
        }
        Some(Overlay::Detail { fault, scroll }) => {
            overlay(app.theme(), frame, body, "fault", &fault_lines(app, fault, body.width), *scroll);
        }
        Some(Overlay::Batch { batch, scroll }) => {
            overlay(app.theme(), frame, body, "batch", &batch_lines(app, batch, below_rule(body)), *scroll);
        }
        None => draw_view(app, frame, &panels),
    }
}

fn draw_view(app: &App, frame: &mut Frame<'_>, panels: &Panels) {
    match app.view().shape() {
        Shape::Lines => {
            let lines = lines(app, panels.body.width);
            overlay(app.theme(), frame, panels.body, &app.view().name().to_lowercase(), &lines, app.scroll());
        }
        Shape::Latency => {
            let (upper, lower) = heat::split(panels.latency);
            match app.baseline() {
                Some(baseline) => compared::draw(app, baseline, frame, upper),
                None => latency::draw(app, frame, upper),
            }
            heat::draw(app, frame, lower);
        }
        Shape::Overview | Shape::Processes | Shape::Table => {
            if !panels.found.is_empty() {
                frame.render_widget(findings::first(app, panels.found.width), panels.found);
            }
            if !panels.processes.is_empty() {
                processes::draw(app, frame, panels.processes);
            }
            match app.batches() {
                _ if panels.faults.is_empty() => {}
                Some(batches) => batches::draw(app, batches, frame, panels.faults),
                None => faults::draw(app, frame, panels.faults),
            }
            if !panels.latency.is_empty() {
                latency::draw(app, frame, panels.latency);
            }
            if !panels.detail.is_empty() {
                draw_selected(app, frame, panels.detail);
            }
        }
    }
}

/// What the cursor of a table is on, beside the table.
fn draw_selected(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let (title, lines) = selected_lines(app, below_rule(area));
    overlay(app.theme(), frame, area, title, &lines, 0);
}

/// The fault or the batch under the cursor; nothing when there is none.
fn selected_lines(app: &App, (width, rows): (u16, usize)) -> (&'static str, Vec<Line<'static>>) {
    let fault = || app.entries().get(app.fault_row()?);
    let (title, lines) = match app.batches() {
        Some(batches) => {
            ("batch", batches.get(app.batch_row()).map(|batch| batch_lines(app, batch, (width, rows))))
        }
        None => ("fault", fault().map(|entry| fault_lines(app, &entry.fault, width))),
    };
    (title, lines.unwrap_or_default())
}

fn fault_lines(app: &App, fault: &Fault, width: u16) -> Vec<Line<'static>> {
    let process = app.shown().process(fault.context.key());
    detail::lines(app.theme(), fault, process, app.shown().submissions(), width)
}

/// Columns and rows of an area below its title.
fn below_rule(area: Rect) -> (u16, usize) {
    (area.width, usize::from(area.height.saturating_sub(1)))
}

fn batch_lines(app: &App, batch: &Batch, room: (u16, usize)) -> Vec<Line<'static>> {
    let started_ns = app.model().session().map_or(0, |session| session.started_ns);
    batch::lines(app.theme(), batch, started_ns, room)
}

/// The lines of a view that is made of them.
fn lines(app: &App, width: u16) -> Vec<Line<'static>> {
    let (theme, model) = (app.theme(), app.shown());
    match app.view() {
        View::EventLog => event_log::lines(theme, model, width),
        View::Addresses => addresses::lines(theme, model, width),
        View::Devices => devices::lines(theme, model, width),
        View::Findings => findings::lines(theme, model, width),
        View::Probes => probes::lines(theme, model, width),
        _ => Vec::new(),
    }
}

/// What is open, or marked, or selected, as text: at most [`MOST_COPIED`] lines.
#[must_use]
pub fn text(app: &App) -> String {
    const WIDTH: u16 = 120;
    // Sentences are whole.
    const ROW_WIDTH: u16 = 220;
    let marked = app.marked();
    let lines = match (app.overlay(), app.view().shape(), app.focus()) {
        (Some(Overlay::Detail { fault, .. }), ..) => fault_lines(app, fault, WIDTH),
        (Some(Overlay::Batch { batch, .. }), ..) => batch_lines(app, batch, (WIDTH, MOST_COPIED)),
        (Some(Overlay::Help { .. }), ..) => {
            help::lines(app.theme(), app.view(), app.keys(), app.model().verdicts(), WIDTH)
        }
        (None, Shape::Lines, _) => lines(app, WIDTH),
        (None, Shape::Latency, _) => compared::lines(app, WIDTH),
        (None, _, Focus::Processes) => processes::lines(app, &marked, WIDTH),
        (None, _, Focus::Faults) if marked.is_empty() => selected_lines(app, (WIDTH, MOST_COPIED)).1,
        (None, _, Focus::Faults) => match app.batches() {
            Some(batches) => batches::lines(app, batches, &marked, ROW_WIDTH),
            None => faults::lines(app, &marked, ROW_WIDTH),
        },
    };
    let lines = lines.iter().take(MOST_COPIED).map(|line| line.to_string().trim_end().to_owned() + "\n");
    lines.collect()
}

/// The view whose name is in this column of the line of names.
pub(crate) fn tab_at(width: u16, column: u16) -> Option<View> {
    tabs::at(width, column)
}

/// What a column of the process table orders by.
pub(crate) fn process_column_at(app: &App, width: u16, column: u16) -> Option<rows::Column> {
    let index = table::column_at(&processes::columns(app), width, column)?;
    rows::Column::ALL.get(index).copied()
}

/// How many those are.
pub(crate) fn lines_height(app: &App, width: u16) -> usize {
    lines(app, width).len()
}

fn too_small(theme: &Theme, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let text =
        format!("{}x{} is too small: need {MIN_WIDTH}x{MIN_HEIGHT} (q quits)", area.width, area.height);
    let row = Rect { y: area.y + area.height / 2, height: 1, ..area };
    frame.render_widget(Line::styled(text, theme.warn()), row);
}

/// Lines that may be more than fit, with a title that says where one is.
fn overlay(theme: &Theme, frame: &mut Frame<'_>, area: Rect, title: &str, lines: &[Line<'_>], scroll: usize) {
    frame.render_widget(Clear, area);
    let rows = usize::from(area.height.saturating_sub(1));
    let first = scroll.min(lines.len().saturating_sub(rows));
    let last = (first + rows).min(lines.len());
    let place = if lines.len() > rows {
        format!("lines {}-{last} of {}", first + 1, lines.len())
    } else {
        String::new()
    };
    draw_rule(theme, frame, area, title, &place, true);
    for (row, line) in lines[first..last].iter().enumerate() {
        frame.render_widget(line, Rect::new(area.x, area.y + 1 + row as u16, area.width, 1));
    }
}

/// The line cut to `room` columns; cut text ends in `~`.
fn cut(line: Line<'static>, room: usize) -> Line<'static> {
    let mut short = Line::default();
    for span in line.spans {
        let left = room - short.width();
        if span.width() > left {
            short.push_span(Span::styled(fit(&span.content, left), span.style));
            break;
        }
        short.push_span(span);
    }
    short
}

/// Lines of the help at this width.
pub(crate) fn help_height(view: View, keys: &Remap, verdicts: &[Verdict], width: u16) -> usize {
    help::lines(&Theme::PLAIN, view, keys, verdicts, width).len()
}

/// Lines of a fault's detail at this width.
pub(crate) fn detail_height(theme: &Theme, fault: &Fault, submissions: &Submissions, width: u16) -> usize {
    detail::lines(theme, fault, None, submissions, width).len()
}

/// Lines of a batch's detail at this width, where so many rows are shown.
pub(crate) fn batch_height(theme: &Theme, batch: &Batch, width: u16, rows: usize) -> usize {
    batch::lines(theme, batch, 0, (width, rows)).len()
}

/// A panel's first row: `── title ───────── note ──`.
fn draw_rule(theme: &Theme, frame: &mut Frame<'_>, area: Rect, title: &str, note: &str, focused: bool) {
    if area.is_empty() {
        return;
    }
    let width = usize::from(area.width);
    let mark = if focused { ">" } else { theme.rule() };
    let title = fit(title, width.saturating_sub(4));
    let used = 4 + title.chars().count();
    let note_room = width.saturating_sub(used + 3);
    let note = fit(note, note_room);
    let note_width = if note.is_empty() { 0 } else { note.chars().count() + 3 };
    let mut spans = vec![
        Span::styled(theme.rule(), theme.dim()),
        Span::styled(mark, theme.title(focused)),
        Span::raw(" "),
        Span::styled(title, theme.title(focused)),
        Span::raw(" "),
        Span::styled(theme.rule().repeat(width.saturating_sub(used + note_width)), theme.dim()),
    ];
    if !note.is_empty() {
        spans.push(Span::raw(format!(" {note} ")));
        spans.push(Span::styled(theme.rule(), theme.dim()));
    }
    frame.render_widget(Line::from(spans), Rect { height: 1, ..area });
}

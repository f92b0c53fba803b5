//! The process table: a row for each open file of a process on a WQ, below a row for all of them.

use dsascope_core::hist::Summary;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::table::{Column, draw_row, draw_sign, lines_of, widths};
use crate::app::{App, Focus};
use crate::format::{count, fit, fit_end, optional_duration, rate};
use crate::rows::{Row, failure_ratio};

/// In the order of [`crate::rows::Column`].
pub(super) const COLUMNS: [Column; 14] = [
    Column::right("PID", 7),
    Column::left("COMMAND", 12).growing(1, 15),
    Column::left("CGROUP", 7).growing(6, 60),
    Column::right("PASID", 5).growing(1, 7),
    Column::left("WQ", 5).growing(1, 7),
    Column::right("/s", 4).growing(1, 6),
    Column::right("FAULTS", 6).growing(1, 8),
    Column::right("FAIL", 4).growing(1, 6),
    Column::right("P50", 6).growing(1, 7),
    Column::right("P99", 6).growing(1, 7),
    Column::right("MAX", 6).growing(1, 7),
    // Last: a narrow terminal has no place for them.
    Column::right("SUBM/s", 6),
    Column::right("FAIL%", 5),
    Column::left("TREND", TREND as u16),
];

const SUBMISSIONS: usize = 11;

/// Those that there is something for: nobody counts submissions where they are not followed.
pub(super) fn columns(app: &App) -> [Column; COLUMNS.len()] {
    let mut columns = COLUMNS;
    if !app.shown().submissions().are_traced() {
        columns[SUBMISSIONS] = columns[SUBMISSIONS].hidden();
    }
    columns
}

/// Seconds of faults that the trend shows, a cell each.
const TREND: usize = 12;
const SECOND_NS: u64 = 1_000_000_000;

const CGROUP: usize = 2;

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme();
    let focused = app.focus() == Focus::Processes;
    let title = format!("processes: p50, p99, max of the {} time", app.stage().name());
    super::draw_rule(theme, frame, area, &title, &note(app), focused);
    let columns = columns(app);
    let widths = widths(&columns, area.width);
    let sort = app.sort();
    let titles: Vec<(String, Style)> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            if index != sort.column.index() {
                return (column.title.into(), theme.columns());
            }
            let mark = theme.order(sort.descending);
            let text = if column.right {
                format!("{mark}{}", column.title)
            } else {
                format!("{}{mark}", column.title)
            };
            (text, theme.title(true))
        })
        .collect();
    if area.height < 2 {
        return;
    }
    let line = |row: u16| Rect { y: area.y + row, height: 1, ..area };
    draw_row(frame, line(1), &columns, &widths, &titles, Style::new());
    let visible = crate::layout::table_rows(area);
    if app.rows().is_empty() && visible > 1 {
        let text = format!("  {}", nothing(app));
        frame.render_widget(Line::styled(fit(&text, usize::from(area.width)), theme.dim()), line(3));
    }
    for place in 0..visible {
        let index = app.first_row() + place;
        let cells = match index.checked_sub(1) {
            None => all(app),
            Some(index) => match app.rows().get(index) {
                Some(row) => cells(app, row, widths[CGROUP]),
                None => break,
            },
        };
        let style = if index == app.process_row() { theme.selected(focused) } else { theme.text() };
        draw_row(frame, line(2 + place as u16), &columns, &widths, &cells, style);
        let row = index.checked_sub(1).and_then(|index| app.rows().get(index));
        if row.is_some_and(|row| app.marks().has_process(row.key)) {
            draw_sign(frame, line(2 + place as u16), widths[0], theme.mark());
        }
    }
}

/// The whole table as lines, or the marked rows of it.
pub(super) fn lines(app: &App, marked: &[usize], width: u16) -> Vec<Line<'static>> {
    let columns = columns(app);
    let widths = widths(&columns, width);
    let row = |row: &Row| cells(app, row, widths[CGROUP]);
    match marked {
        [] => {
            let rows = std::iter::once(all(app)).chain(app.rows().iter().map(row));
            lines_of(&columns, &widths, rows)
        }
        _ => lines_of(&columns, &widths, marked.iter().filter_map(|&at| app.rows().get(at)).map(row)),
    }
}

/// Why the table is empty.
fn nothing(app: &App) -> String {
    let no_device = app.model().session().is_some_and(|session| session.devices.is_empty());
    if app.shown().processes().len() > 0 {
        "no process fits the filter (Esc clears it)".into()
    } else if app.replay().is_some() {
        format!("no process yet in this capture ({} goes on to its next fault)", app.keys().shown("n"))
    } else if no_device {
        "no DSA or IAA device here: `dsascope doctor` says what to do".into()
    } else {
        "no process has a work queue open".into()
    }
}

/// A path that is too long by its last part, which says most.
fn cgroup(path: &str, width: usize) -> String {
    if path.chars().count() <= width {
        return path.to_owned();
    }
    let last = path.rsplit('/').next().unwrap_or(path);
    if last.chars().count() <= width { fit_end(path, width) } else { fit(last, width) }
}

fn note(app: &App) -> String {
    let shown = app.rows().len();
    let filter = match app.filter().text() {
        "" => String::new(),
        text => format!("filter \"{text}\": "),
    };
    match shown {
        0 => format!("{filter}none"),
        1 => format!("{filter}1 row"),
        _ => format!("{filter}{shown} rows"),
    }
}

fn all(app: &App) -> Vec<(String, Style)> {
    let header = app.header();
    let theme = app.theme();
    let mut cells: Vec<(String, Style)> =
        ["", "all", "", "", ""].into_iter().map(|text| (text.into(), theme.strong())).collect();
    let summary = app.shown().latency_shown().summary(app.stage());
    numbers(app, &mut cells, header.faults_per_s, header.faults, header.failures, summary.as_ref());
    cells.push((optional_rate(app.shown().submissions().all_per_second()), theme.text()));
    let ratio = failure_ratio(header.failures, header.faults);
    last(app, &mut cells, ratio, &app.shown().fault_history(SECOND_NS, TREND));
    cells
}

fn cells(app: &App, row: &Row, cgroup_width: u16) -> Vec<(String, Style)> {
    let theme = app.theme();
    let plain = if row.closed { theme.dim() } else { theme.text() };
    let command = if row.closed { format!("{} (closed)", row.command) } else { row.command.clone() };
    let mut cells = vec![
        (row.tgid.map_or_else(|| "?".into(), |tgid| tgid.to_string()), plain),
        (command, plain),
        (cgroup(&row.cgroup, usize::from(cgroup_width)), theme.dim()),
        (row.key.pasid.to_string(), plain),
        (row.wq().to_string(), plain),
    ];
    numbers(app, &mut cells, row.faults_per_s, row.faults, row.failures, row.latency.as_ref());
    cells.push((optional_rate(row.submissions_per_s), plain));
    let process = app.shown().process(row.key);
    let trend = process.map(|process| app.shown().process_history(process, SECOND_NS, TREND));
    last(app, &mut cells, row.failure_ratio(), &trend.unwrap_or_default());
    cells
}

fn optional_rate(per_s: Option<f64>) -> String {
    per_s.map_or_else(|| "-".into(), rate)
}

/// How much fails, and how the rate goes.
fn last(app: &App, cells: &mut Vec<(String, Style)>, ratio: f64, trend: &[u64]) {
    let theme = app.theme();
    let share = if ratio > 0.0 { format!("{:.1}", ratio * 100.0) } else { "0".into() };
    cells.push((share, if ratio > 0.0 { theme.bad() } else { theme.text() }));
    cells.push((theme.sparkline(trend), theme.bar()));
}

fn numbers(
    app: &App,
    cells: &mut Vec<(String, Style)>,
    per_s: Option<f64>,
    faults: u64,
    failures: u64,
    latency: Option<&Summary>,
) {
    let theme = app.theme();
    let time = |ns: Option<u64>| (optional_duration(theme, ns), theme.text());
    cells.extend([
        (optional_rate(per_s), theme.text()),
        (count(faults), theme.text()),
        (count(failures), if failures > 0 { theme.bad() } else { theme.text() }),
        time(latency.map(|s| s.p50_ns)),
        time(latency.map(|s| s.p99_ns)),
        time(latency.map(|s| s.max_ns)),
    ]);
}

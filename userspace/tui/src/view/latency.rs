//! Latency of the selected row: a histogram of the chosen stage on a logarithmic axis, and the figures of every stage.

use dsascope_core::hist::{Bar, BarPair, Latency, StageHistograms, Summary};
use dsascope_core::model::Process;
use dsascope_core::stages::Stage;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::compared;
use crate::app::App;
use crate::format::{count, duration};
use crate::theme::Theme;

/// Columns of the figures beside the histogram.
pub(super) const FIGURES_WIDTH: u16 = 45;
/// Equal steps of the logarithm for each factor of ten.
pub(super) const BARS_PER_DECADE: u32 = 10;

/// Names of the columns of [`row`].
pub(super) const TITLES: &str = "              P50    P90    P99  P99.9    MAX";

/// Whose latency is shown, by name; `None` for histograms: it has none of its own.
pub(super) fn subject(app: &App) -> (String, Option<&StageHistograms>, Option<&Process>) {
    let process = app.selected().and_then(|key| app.shown().process(key));
    match process {
        Some(process) => {
            let comm = process.comm.map(|comm| comm.to_string()).unwrap_or_default();
            let pid = process.tgid.map_or_else(|| "?".into(), |tgid| tgid.to_string());
            (format!("{comm} {pid} on {}", process.context.wq_id()), process.latency(), Some(process))
        }
        None => ("all".into(), Some(app.shown().latency_shown()), None),
    }
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme();
    let (name, histograms, process) = subject(app);
    let title = format!("latency of {name}: {} time", app.stage().name());
    super::draw_rule(theme, frame, area, &title, "", false);
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let page_requests = process
        .and_then(|process| app.shown().page_requests().of(process.context.pasid, process.tgid))
        .and_then(|totals| totals.latency);
    let no_faults = StageHistograms::default();
    let Some(histograms) = histograms.or(page_requests.map(|_| &no_faults)) else {
        return draw_note(
            app,
            frame,
            body,
            "no histogram of its own: no fault yet, or counted under \"all\" alone",
        );
    };
    let left = Rect { width: area.width.saturating_sub(FIGURES_WIDTH + 2), ..body };
    let right = Rect { x: left.right() + 2, width: area.width.saturating_sub(left.width + 2), ..body };
    match histograms.get(app.stage()) {
        Some(latency) => draw_bars(app, frame, left, &alone(latency)),
        None => draw_note(app, frame, left, "nothing measured"),
    }
    draw_figures(app, frame, right, histograms, page_requests);
}

/// Bars without others to hold them against.
fn alone(latency: &Latency) -> Vec<BarPair> {
    let pair = |Bar { from_ns, to_ns, count }| BarPair { from_ns, to_ns, counts: [count, 0] };
    latency.bars(BARS_PER_DECADE).into_iter().map(pair).collect()
}

pub(super) fn draw_note(app: &App, frame: &mut Frame<'_>, area: Rect, text: &'static str) {
    let text = crate::format::fit(text, usize::from(area.width).saturating_sub(2));
    frame.render_widget(
        Line::styled(format!("  {text}"), app.theme().dim()),
        Rect { height: area.height.min(1), ..area },
    );
}

/// Bars as columns, with the largest count at the left and the range below. The second of each pair is a mark where its bar would end, each of
/// the two to its own largest.
pub(super) fn draw_bars(app: &App, frame: &mut Frame<'_>, area: Rect, bars: &[BarPair]) {
    let theme = app.theme();
    let rows = area.height.saturating_sub(1);
    let room = usize::from(area.width.saturating_sub(7));
    let (Some(first), Some(last)) = (bars.first(), bars.last()) else { return };
    if rows == 0 || room == 0 {
        return;
    }
    let bars = joined(bars, room);
    let cells = (room / bars.len()).clamp(1, 4);
    let most = [0, 1].map(|side| bars.iter().map(|bar| bar.counts[side]).max().unwrap_or(0).max(1));
    for row in 0..rows {
        let label = match row {
            0 => count(most[0]),
            _ if row + 1 == rows => "0".into(),
            _ => String::new(),
        };
        let mut line = Line::from(Span::styled(format!("{label:>5} "), theme.dim()));
        let below = u64::from(rows - 1 - row) * 8;
        for bar in &bars {
            let [now, other] = [0, 1].map(|side| eighths(bar.counts[side], most[side], rows, below));
            let is_end = other > 0 && eighths(bar.counts[1], most[1], rows, below + 8) == 0;
            let (cell, style) =
                if is_end { (compared::MARK, theme.mark()) } else { (theme.column_cell(now), theme.bar()) };
            line.push_span(Span::styled(cell.repeat(cells), style));
        }
        frame.render_widget(line, Rect { y: area.y + row, height: 1, ..area });
    }
    let (from, to) = (duration(theme, first.from_ns), duration(theme, last.to_ns));
    let width = cells * bars.len();
    let fill = width.saturating_sub(from.chars().count() + to.chars().count()).max(1);
    let axis = format!("      {from}{}{to}", theme.rule().repeat(fill));
    frame.render_widget(Line::styled(axis, theme.dim()), Rect { y: area.y + rows, height: 1, ..area });
}

/// How full the cell above `below` eighths is. A bar that holds anything shows at least one eighth.
fn eighths(count: u64, most: u64, rows: u16, below: u64) -> usize {
    if count == 0 {
        return 0;
    }
    let full = (count as f64 / most as f64 * f64::from(rows) * 8.0).round() as u64;
    usize::try_from(full.max(1).saturating_sub(below).min(8)).unwrap_or(8)
}

/// Neighbours put together until no more than `room` bars are left.
fn joined(bars: &[BarPair], room: usize) -> Vec<BarPair> {
    let group = bars.len().div_ceil(room).max(1);
    let join = |bars: &[BarPair]| BarPair {
        from_ns: bars.first().map_or(0, |bar| bar.from_ns),
        to_ns: bars.last().map_or(0, |bar| bar.to_ns),
        counts: [0, 1].map(|side| bars.iter().map(|bar| bar.counts[side]).sum()),
    };
    bars.chunks(group).map(join).collect()
}

/// p50, p90, p99, p99.9 and max of each stage; the chosen one is marked. The stages of the whole come last, where there is room, and
/// below them what the process' page requests took, the other way of bringing a page in.
fn draw_figures(
    app: &App,
    frame: &mut Frame<'_>,
    area: Rect,
    histograms: &StageHistograms,
    page_requests: Option<Summary>,
) {
    let theme = app.theme();
    let mut lines = vec![Line::styled(TITLES, theme.columns())];
    // With little room the chosen stage comes first.
    let room = usize::from(area.height.saturating_sub(1 + u16::from(page_requests.is_some())));
    let are_followed = app.shown().submissions().are_traced();
    let shown = |stage: &Stage| are_followed || !stage.is_of_program() || *stage == app.stage();
    let mut stages: Vec<Stage> = Stage::ALL.into_iter().filter(shown).collect();
    if room < stages.len() {
        let chosen = stages.iter().position(|stage| *stage == app.stage()).unwrap_or(0);
        stages.rotate_left(chosen);
    }
    for stage in stages.into_iter().take(room) {
        let chosen = stage == app.stage();
        let mark = if chosen { "*" } else { " " };
        let style = if chosen { theme.title(true) } else { theme.text() };
        lines.push(Line::styled(figures(theme, mark, stage.name(), histograms.summary(stage)), style));
    }
    if page_requests.is_some() {
        lines.push(Line::styled(figures(theme, " ", "page req", page_requests), theme.text()));
    }
    for (row, line) in lines.into_iter().enumerate().take(usize::from(area.height)) {
        frame.render_widget(line, Rect { y: area.y + row as u16, height: 1, ..area });
    }
}

pub(super) fn figures(theme: &Theme, mark: &str, name: &str, summary: Option<Summary>) -> String {
    let figures = match summary {
        Some(s) => [s.p50_ns, s.p90_ns, s.p99_ns, s.p999_ns, s.max_ns].map(|ns| duration(theme, ns)),
        None => ["-", "-", "-", "-", "-"].map(String::from),
    };
    row(mark, name, &figures)
}

/// A mark, a name and five cells, below [`TITLES`].
pub(super) fn row(mark: &str, name: &str, cells: &[String; 5]) -> String {
    let [p50, p90, p99, p999, max] = cells;
    format!("{mark}{name:9} {p50:>6} {p90:>6} {p99:>6} {p999:>6} {max:>6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_bar_fills_all_rows_and_the_smallest_still_shows() {
        for rows in 1..20 {
            for row in 0..rows {
                assert_eq!(eighths(1000, 1000, rows, u64::from(row) * 8), 8);
            }
            assert_eq!(eighths(1, 1_000_000, rows, 0), 1);
            assert_eq!(eighths(0, 1_000_000, rows, 0), 0);
        }
    }

    #[test]
    fn joining_keeps_every_count() {
        let bars: Vec<_> =
            (0..25).map(|n| BarPair { from_ns: n, to_ns: n + 1, counts: [n, 25 - n] }).collect();
        for room in 1..30 {
            let joined = joined(&bars, room);
            assert!(joined.len() <= room);
            let sums = [0, 1].map(|side| joined.iter().map(|bar| bar.counts[side]).sum::<u64>());
            assert_eq!(sums, [300, 325]);
            assert_eq!((joined[0].from_ns, joined[joined.len() - 1].to_ns), (0, 25));
        }
    }
}

//! A map of time and latency: columns are spans of time, rows steps of what the driver added; the darker the more faults.

use dsascope_core::report::{Column, Map, ROWS_A_DECADE, row_ns};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::App;
use crate::format::{count, duration};
use crate::theme::Theme;

/// Least height of the map with its axis.
const LEAST: u16 = 6;
/// Columns of the axis at the left.
const AXIS: usize = 8;

/// Histogram and figures above, the map below; without room for the map, all is above.
pub(super) fn split(area: Rect) -> (Rect, Rect) {
    let upper = (area.height / 2).clamp(8, 18).min(area.height);
    let lower = if area.height - upper < LEAST { 0 } else { area.height - upper };
    let upper = Rect { height: area.height - lower, ..area };
    (upper, Rect { y: upper.bottom(), height: lower, ..area })
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    if area.is_empty() {
        return;
    }
    let (theme, map) = (app.theme(), app.map());
    let title = format!("{} time of all faults, by when they came", Map::STAGE.name());
    super::draw_rule(theme, frame, area, &title, "", false);
    let room = (usize::from(area.width).saturating_sub(AXIS), usize::from(area.height.saturating_sub(1)));
    for (row, line) in lines(theme, map, room).into_iter().enumerate().take(room.1) {
        frame.render_widget(line, Rect { y: area.y + 1 + row as u16, height: 1, ..area });
    }
}

/// At most `room` columns beside the axis and rows, the last of them for the time.
fn lines(theme: &Theme, map: &Map, (columns, rows): (usize, usize)) -> Vec<Line<'static>> {
    let Some((first, last)) = map.used_rows().filter(|_| columns > 0 && rows > 2) else {
        return vec![Line::styled("  no fault yet", theme.dim())];
    };
    // Neighbours are put together until both ways fit.
    let join = map.columns().len().div_ceil(columns).max(1);
    let step = (last - first + 1).div_ceil(rows - 2).max(1);
    let cells = (columns / map.columns().len().div_ceil(join)).clamp(1, 3);
    let groups: Vec<&[Column]> = map.columns().chunks(join).collect();
    let sum = |group: &[Column], from: usize| -> u64 {
        group
            .iter()
            .flat_map(|column| &column.rows[from..(from + step).min(last + 1)])
            .map(|n| u64::from(*n))
            .sum()
    };
    let starts: Vec<usize> = (first..=last).step_by(step).collect();
    let most = starts.iter().flat_map(|from| groups.iter().map(|group| sum(group, *from))).max().unwrap_or(0);
    let mut lines = Vec::new();
    for &from in starts.iter().rev() {
        // The decades have a label, and the lowest row.
        let is_decade = (from..from + step).any(|row| row % ROWS_A_DECADE == 0);
        let label = if is_decade || from == first { duration(theme, row_ns(from)) } else { String::new() };
        let text: String =
            groups.iter().map(|group| theme.shade(sum(group, from), most).repeat(cells)).collect();
        lines.push(Line::from(vec![
            Span::styled(format!("{label:>6} "), theme.dim()),
            Span::styled(text, theme.bar()),
        ]));
    }
    let marks: String = groups
        .iter()
        .map(|group| {
            let (failed, holes) =
                group.iter().fold((0, 0), |(f, h), column| (f + u64::from(column.failed), h + column.holes));
            let mark = if failed > 0 {
                "X"
            } else if holes > 0 {
                "!"
            } else {
                " "
            };
            mark.repeat(cells)
        })
        .collect();
    lines.push(Line::from(vec![Span::styled("failed ", theme.dim()), Span::styled(marks, theme.bad())]));
    let column_ns = map.column_ns().saturating_mul(join as u64);
    let axis = format!(
        "       from the beginning, {} a column; darkest: {} faults; X: copies failed, !: something was lost",
        duration(theme, column_ns),
        count(most)
    );
    lines.push(Line::styled(axis, theme.dim()));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_faults_it_says_so() {
        let lines = lines(&Theme::PLAIN, &Map::default(), (60, 10));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].to_string(), "  no fault yet");
    }

    #[test]
    fn it_never_takes_more_than_its_room() {
        for height in 0..60 {
            let (upper, lower) = split(Rect::new(0, 5, 80, height));
            assert_eq!(upper.height + lower.height, height);
            assert!(lower.is_empty() || lower.height >= LEAST);
        }
    }
}

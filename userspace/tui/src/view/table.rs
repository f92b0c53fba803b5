//! Columns of text: widths by arithmetic, cells cut to fit, numbers to the right.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::format::fit;

#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    pub title: &'static str,
    /// Least width.
    pub width: u16,
    /// Share of what is left over; 0 keeps the width.
    pub grow: u16,
    /// Never wider than this.
    pub most: u16,
    pub right: bool,
}

impl Column {
    pub(super) const fn left(title: &'static str, width: u16) -> Self {
        Self { title, width, grow: 0, most: width, right: false }
    }

    pub(super) const fn right(title: &'static str, width: u16) -> Self {
        Self { title, width, grow: 0, most: width, right: true }
    }

    /// Without a place.
    pub(super) const fn hidden(mut self) -> Self {
        (self.width, self.grow) = (0, 0);
        self
    }

    pub(super) const fn growing(mut self, grow: u16, most: u16) -> Self {
        self.grow = grow;
        self.most = most;
        self
    }
}

/// Width of each column in `room`, one blank between two; 0 for a column that has no place.
pub(super) fn widths(columns: &[Column], room: u16) -> Vec<u16> {
    let mut widths: Vec<u16> = Vec::with_capacity(columns.len());
    let mut used = 0;
    for column in columns {
        let gap = u16::from(!widths.is_empty());
        let fits = column.width > 0 && used + gap + column.width <= room;
        widths.push(if fits { column.width } else { 0 });
        used += if fits { gap + column.width } else { 0 };
    }
    let mut left = room - used.min(room);
    let mut shares: u16 = columns.iter().map(|column| column.grow).sum();
    for (width, column) in widths.iter_mut().zip(columns) {
        if column.grow == 0 || shares == 0 || *width == 0 {
            continue;
        }
        let extra = (left * column.grow / shares).min(column.most.saturating_sub(column.width));
        *width += extra;
        left -= extra;
        shares -= column.grow;
    }
    widths
}

/// Which column lies there, the blank before it included.
pub(super) fn column_at(columns: &[Column], room: u16, at: u16) -> Option<usize> {
    let mut end = 0;
    widths(columns, room).into_iter().position(|width| {
        if width == 0 {
            return false;
        }
        end += width + u16::from(end > 0);
        at < end
    })
}

/// One row of cells, each with its style.
pub(super) fn line_of<S: AsRef<str>>(
    columns: &[Column],
    widths: &[u16],
    cells: &[(S, Style)],
) -> Line<'static> {
    let mut line = Line::default();
    for ((column, width), (text, style)) in columns.iter().zip(widths).zip(cells) {
        if *width == 0 {
            continue;
        }
        if line.width() > 0 {
            line.push_span(Span::raw(" "));
        }
        let width = usize::from(*width);
        let text = fit(text.as_ref(), width);
        let text = if column.right { format!("{text:>width$}") } else { format!("{text:width$}") };
        line.push_span(Span::styled(text, *style));
    }
    line
}

/// The same over the whole width of an area.
pub(super) fn draw_row<S: AsRef<str>>(
    frame: &mut Frame<'_>,
    area: Rect,
    columns: &[Column],
    widths: &[u16],
    cells: &[(S, Style)],
    row: Style,
) {
    let mut line = line_of(columns, widths, cells).style(row);
    let fill = usize::from(area.width).saturating_sub(line.width());
    line.push_span(Span::raw(" ".repeat(fill)));
    frame.render_widget(line, Rect { height: 1, ..area });
}

/// What a marked row has before its first cell, or behind it where that is full.
const SIGN: &str = "*";

/// Marks the row that was drawn in this area.
pub(super) fn draw_sign(frame: &mut Frame<'_>, area: Rect, first_width: u16, style: Style) {
    let buffer = frame.buffer_mut();
    let has_room = buffer.cell((area.x, area.y)).is_some_and(|cell| cell.symbol() == " ");
    let x = if has_room { area.x } else { area.x + first_width };
    if let Some(cell) = buffer.cell_mut((x, area.y)) {
        cell.set_symbol(SIGN).set_style(style);
    }
}

/// Names of columns and rows as text.
pub(super) fn lines_of(
    columns: &[Column],
    widths: &[u16],
    rows: impl IntoIterator<Item = Vec<(String, Style)>>,
) -> Vec<Line<'static>> {
    let titles: Vec<_> = columns.iter().map(|column| (column.title, Style::new())).collect();
    let rows = rows.into_iter().map(|cells| line_of(columns, widths, &cells));
    std::iter::once(line_of(columns, widths, &titles)).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_share_what_is_left() {
        let columns = [
            Column::left("a", 4).growing(1, 10),
            Column::right("b", 5),
            Column::left("c", 3).growing(3, 100),
        ];
        assert_eq!(widths(&columns, 14), [4, 5, 3]);
        assert_eq!(widths(&columns, 22), [6, 5, 9]);
        assert_eq!(widths(&columns, 114), [10, 5, 97]);
        assert_eq!(widths(&columns, 11), [4, 5, 0]);
        let at = |at| column_at(&columns, 14, at);
        assert_eq!([0, 3, 4, 9, 10, 13, 14].map(at), [0, 0, 1, 1, 2, 2, 9].map(|n| (n < 9).then_some(n)));
        assert_eq!(column_at(&columns, 11, 10), None);
    }
}

//! The mouse, where it is natural: the wheel scrolls what is below it, a click opens a view, chooses a row or orders by a column, and a click on
//! the chosen row opens it. Refuses: drags and movement; the terminal's own selection has those (Shift).

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::{Position, Rect};

use super::{App, Focus};
use crate::layout::{self, Panels};
use crate::rows::Sort;
use crate::view;
use crate::views::{Shape, View};

/// Rows that one step of the wheel moves by.
const WHEEL: isize = 3;

/// Where in a table a click lies.
enum Spot {
    Title,
    /// Names of the columns.
    Columns,
    /// Among those that are shown.
    Row(usize),
}

impl Spot {
    fn of(panel: Rect, at: Position) -> Self {
        match at.y - panel.y {
            0 => Self::Title,
            1 => Self::Columns,
            row => Self::Row(usize::from(row - 2)),
        }
    }
}

impl App {
    /// True: something changed.
    pub(super) fn mouse(&mut self, event: MouseEvent) -> bool {
        let Some(panels) = self.panels() else { return false };
        let at = Position::new(event.column, event.row);
        match event.kind {
            MouseEventKind::ScrollUp => self.wheel(&panels, at, -WHEEL),
            MouseEventKind::ScrollDown => self.wheel(&panels, at, WHEEL),
            MouseEventKind::Down(MouseButton::Left) => self.click(&panels, at),
            _ => false,
        }
    }

    fn table_at(&self, panels: &Panels, at: Position) -> Option<(Focus, Rect)> {
        if self.overlay.is_some() || !self.view.shape().has_tables() {
            return None;
        }
        let tables = [(Focus::Processes, panels.processes), (Focus::Faults, panels.faults)];
        tables.into_iter().find(|(_, panel)| panel.contains(at))
    }

    fn wheel(&mut self, panels: &Panels, at: Position, steps: isize) -> bool {
        if self.overlay.is_some() || self.view.shape() == Shape::Lines {
            self.go(steps);
            return true;
        }
        let Some((table, panel)) = self.table_at(panels, at) else { return false };
        let height = layout::table_rows(panel);
        match (table, &mut self.batches) {
            (Focus::Processes, _) => {
                let row = self.process_row();
                let row = scrolled(&mut self.first_row, row, steps, height, self.rows.len() + 1);
                self.choose_process(row);
            }
            (Focus::Faults, Some(table)) => {
                let row = table.row();
                let row = scrolled(&mut table.first, row, steps, height, table.rows.len());
                table.choose(row);
            }
            (Focus::Faults, None) => self.pick.wheel(&self.entries, steps, height),
        }
        true
    }

    fn click(&mut self, panels: &Panels, at: Position) -> bool {
        if self.editing {
            // What is wrong stays to be put right.
            if self.filter.error().is_some() {
                return false;
            }
            self.editing = false;
        }
        if panels.tabs.contains(at) {
            let Some(view) = view::tab_at(panels.tabs.width, at.x) else { return false };
            self.go_to(view);
            return true;
        }
        if self.overlay.is_none() && panels.found.contains(at) {
            self.go_to(View::Findings);
            return true;
        }
        let Some((table, panel)) = self.table_at(panels, at) else { return false };
        let was_focused = self.focus == table;
        self.focus = table;
        match Spot::of(panel, at) {
            Spot::Title => {}
            Spot::Columns if table == Focus::Processes => {
                if let Some(column) = view::process_column_at(self, panel.width, at.x - panel.x) {
                    let is_same = self.sort.column == column;
                    let turned = Sort { descending: !self.sort.descending, ..self.sort };
                    self.sort = if is_same { turned } else { Sort::by(column) };
                }
            }
            Spot::Columns => {}
            Spot::Row(row) => self.click_row(row, was_focused),
        }
        true
    }

    /// `row`: from the first that is shown of the table one is in. A click on the chosen row opens it.
    fn click_row(&mut self, row: usize, was_focused: bool) {
        let (first, rows, chosen) = match &self.batches {
            _ if self.focus == Focus::Processes => {
                (self.first_row, self.rows.len() + 1, Some(self.process_row()))
            }
            Some(table) => (table.first, table.rows.len(), Some(table.row())),
            None => (self.pick.first(), self.entries.len(), self.pick.row(&self.entries)),
        };
        let row = first + row;
        if row >= rows {
            return;
        }
        self.hold(row);
        if was_focused && chosen == Some(row) {
            self.open();
        }
    }
}

/// Moves the first row that is shown, and gives the row for the cursor: where it was, as far as that is still to be seen.
pub(crate) fn scrolled(first: &mut usize, row: usize, steps: isize, height: usize, total: usize) -> usize {
    *first = first.saturating_add_signed(steps).min(total.saturating_sub(height));
    row.clamp(*first, *first + height.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_stays_where_it_is_to_be_seen() {
        let mut first = 0;
        assert_eq!(scrolled(&mut first, 1, 3, 5, 20), 3);
        assert_eq!((first, scrolled(&mut first, 6, -1, 5, 20)), (3, 6));
        assert_eq!((first, scrolled(&mut first, 6, 100, 5, 20)), (2, 15));
        assert_eq!((first, scrolled(&mut first, 15, -100, 5, 20)), (15, 4));
        let mut first = 0;
        assert_eq!((scrolled(&mut first, 2, 3, 5, 3), first), (2, 0));
        assert_eq!((scrolled(&mut first, 0, 3, 0, 0), first), (0, 0));
    }
}

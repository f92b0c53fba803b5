//! Lines of a view that scrolls: titles, wrapped sentences, and fields of a name and a value.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::help::wrap;
use crate::theme::Theme;

/// Columns of a field's name.
const NAME: usize = 20;

#[derive(Debug)]
pub(super) struct Text<'a> {
    theme: &'a Theme,
    room: usize,
    pub lines: Vec<Line<'static>>,
}

impl<'a> Text<'a> {
    pub(super) fn new(theme: &'a Theme, width: u16) -> Self {
        Self { theme, room: usize::from(width).saturating_sub(2).max(20), lines: Vec::new() }
    }

    /// A title, with a blank line before it unless it is the first.
    pub(super) fn title(&mut self, title: impl Into<String>) {
        if !self.lines.is_empty() {
            self.lines.push(Line::default());
        }
        self.lines.push(Line::styled(title.into(), self.theme.title(true)));
    }

    pub(super) fn sentence(&mut self, text: &str, style: Style) {
        let parts = wrap(text, self.room).into_iter();
        self.lines.extend(parts.map(|part| Line::from(vec![Span::raw("  "), Span::styled(part, style)])));
    }

    /// A name and what it is, wrapped beside it.
    pub(super) fn field(&mut self, name: &str, value: &str, style: Style) {
        for (index, part) in wrap(value, self.room.saturating_sub(NAME + 1).max(20)).into_iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            self.lines.push(Line::from(vec![
                Span::styled(format!("  {name:NAME$} "), self.theme.dim()),
                Span::styled(part, style),
            ]));
        }
    }
}

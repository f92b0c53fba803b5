//! The names of the views with their digits, the one that is open marked.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::App;
use crate::views::View;

/// Columns of a name beside it: its digit, its mark, a blank.
const BESIDE: usize = 3;

/// Whole names where they have room.
fn names(width: u16) -> fn(View) -> &'static str {
    let used: usize = View::ALL.iter().map(|view| view.name().len() + BESIDE).sum();
    if used <= usize::from(width) { View::name } else { View::short }
}

/// Whose name is in this column.
pub(super) fn at(width: u16, column: u16) -> Option<View> {
    let name = names(width);
    let mut end = 0;
    View::ALL.into_iter().find(|view| {
        end += name(*view).len() + BESIDE;
        usize::from(column) < end
    })
}

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme();
    let name = names(area.width);
    let mut line = Line::default();
    for view in View::ALL {
        let open = view == app.view();
        let style = if open { theme.selected(true) } else { theme.dim() };
        // The mark stands for the style where there is none.
        let mark = if open { ">" } else { " " };
        line.push_span(Span::styled(view.digit().to_string(), theme.key()));
        line.push_span(Span::styled(format!("{mark}{}", name(view)), style));
        line.push_span(Span::raw(" "));
    }
    frame.render_widget(super::cut(line, usize::from(area.width)), area);
}

//! The names of the views with their digits, the one that is open marked.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::App;
use crate::views::View;

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme();
    let width =
        |name: fn(View) -> &'static str| View::ALL.iter().map(|view| name(*view).len() + 3).sum::<usize>();
    let name = if width(View::name) <= usize::from(area.width) { View::name } else { View::short };
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

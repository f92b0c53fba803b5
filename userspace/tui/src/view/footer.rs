//! The last line: the filter being typed, or the keys of this mode, as many as fit.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::App;
use crate::keymap::{self, Mode};

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme();
    let mut line = Line::default();
    if app.mode() == Mode::Filter {
        let cursor = Span::styled(" ", theme.selected(true));
        line.extend([
            Span::styled("/", theme.key()),
            Span::raw(app.filter().to_owned()),
            cursor,
            Span::raw("   "),
        ]);
    }
    if let Some(notice) = app.notice() {
        line.push_span(Span::styled(format!("{notice}  "), theme.warn()));
    }
    let mut room = usize::from(area.width).saturating_sub(line.width());
    for binding in keymap::bindings(app.mode(), app.askable()).filter(|binding| !binding.short.is_empty()) {
        let width = binding.keys.len() + 1 + binding.short.len() + 2;
        if width > room + 2 {
            break;
        }
        room = room.saturating_sub(width);
        line.push_span(Span::styled(binding.keys, theme.key()));
        line.push_span(Span::styled(format!(" {}  ", binding.short), theme.dim()));
    }
    frame.render_widget(line, area);
}

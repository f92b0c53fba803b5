//! The last line: the filter being typed, with what fits next or what is wrong; or the keys of this mode, as many as fit.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::App;
use crate::format::fit_end;
use crate::keymap::{self, Mode};

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let theme = app.theme();
    let mut line = Line::default();
    if app.mode() == Mode::Filter {
        line = filter(app, area.width);
    }
    if let Some(notice) = app.notice() {
        line.push_span(Span::styled(format!("{notice}  "), theme.warn()));
    }
    let mut room = usize::from(area.width).saturating_sub(line.width());
    for binding in keymap::bindings(app.mode(), app.askable()).filter(|binding| !binding.short.is_empty()) {
        let keys = app.keys().shown(binding.keys);
        let width = keys.chars().count() + 1 + binding.short.len() + 2;
        if width > room + 2 {
            break;
        }
        room = room.saturating_sub(width);
        line.push_span(Span::styled(keys, theme.key()));
        line.push_span(Span::styled(format!(" {}  ", binding.short), theme.dim()));
    }
    frame.render_widget(line, area);
}

/// Columns beside the text that is typed.
const BESIDE: usize = 30;

/// The text, its end at least; what is wrong stands out, and is said behind it.
fn filter(app: &App, width: u16) -> Line<'static> {
    let theme = app.theme();
    let search = app.filter();
    let room = usize::from(width).saturating_sub(BESIDE).max(10);
    let text = fit_end(search.text(), search.text().chars().count().min(room));
    let completions = search.completions();
    // Where the text ends, nothing is wrong yet that could not be put right.
    let error = search.error().filter(|error| error.at < search.text().trim_end().chars().count());
    let right = error.map_or(usize::MAX, |error| {
        error.at.saturating_sub(search.text().chars().count() - text.chars().count())
    });
    let split = text.char_indices().nth(right).map_or(text.len(), |(at, _)| at);
    let mut line = Line::from(vec![
        Span::styled("/", theme.key()),
        Span::raw(text[..split].to_owned()),
        Span::styled(text[split..].to_owned(), theme.warn()),
        Span::styled(" ", theme.selected(true)),
        Span::raw("  "),
    ]);
    if let Some(error) = error.filter(|_| completions.is_empty()) {
        line.push_span(Span::styled(format!("at {}: {}  ", error.at + 1, error.what), theme.warn()));
    } else if !search.text().is_empty() {
        let mut left = usize::from(width).saturating_sub(line.width() + 26);
        for completion in &completions {
            let Some(rest) = left.checked_sub(completion.text.len() + 1) else { break };
            left = rest;
            line.push_span(Span::styled(format!("{} ", completion.text), theme.dim()));
        }
        line.push_span(Span::raw(" "));
    }
    line
}

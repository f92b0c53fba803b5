//! The view without a terminal: keys in, the screen as text out.

#![allow(dead_code, reason = "not every test uses all of it")]

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use dsascope_core::event::Event;
use dsascope_tui::theme::{Colours, Glyphs};
use dsascope_tui::{Actions, App, Input, Theme, View, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

pub(crate) const UNICODE: Theme = Theme { colours: Colours::Ansi16, glyphs: Glyphs::Unicode };
pub(crate) const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

pub(crate) fn app(theme: Theme, (width, height): (u16, u16), events: Vec<Event>) -> App {
    fed(App::new(theme, width, height, ""), events)
}

pub(crate) fn fed(mut app: App, events: Vec<Event>) -> App {
    for event in events {
        let _ = app.event(&event);
    }
    app
}

pub(crate) fn key(app: &mut App, code: KeyCode) -> Actions {
    app.update(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

pub(crate) fn press(app: &mut App, codes: impl IntoIterator<Item = KeyCode>) {
    for code in codes {
        let _ = key(app, code);
    }
}

pub(crate) fn type_text(app: &mut App, text: &str) {
    press(app, text.chars().map(KeyCode::Char));
}

pub(crate) fn screen(app: &App, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test backend");
    terminal.draw(|frame| view::draw(app, frame)).expect("a test backend");
    let lines = terminal.backend().to_string();
    lines.lines().map(|line| line.trim_matches('"').trim_end()).collect::<Vec<_>>().join("\n")
}

pub(crate) fn open(app: &mut App, view: View) {
    press(app, [KeyCode::Char(view.digit())]);
    assert_eq!(app.view(), view);
}

//! Whatever is pressed in whatever order, at whatever size: the view draws, its cursors are in range, and only quitting quits.

mod support;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use dsascope_core::event::Event;
use dsascope_tui::{App, Input, Theme, view};
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use support::script;

#[derive(Clone, Debug)]
enum Step {
    Key(KeyCode),
    Mouse(MouseEventKind, u16, u16),
    Size(u16, u16),
    /// So many of the scripted events.
    Events(usize),
    Tick(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let keys = "?/sS<>tTbf jkgGxm'w1234567890.".chars().map(KeyCode::Char).chain([
        KeyCode::Tab,
        KeyCode::BackTab,
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Up,
        KeyCode::Down,
        KeyCode::PageUp,
        KeyCode::PageDown,
        KeyCode::Home,
        KeyCode::End,
        KeyCode::Backspace,
    ]);
    prop_oneof![
        6 => proptest::sample::select(keys.collect::<Vec<_>>()).prop_map(Step::Key),
        4 => (proptest::sample::select(vec![
            MouseEventKind::Down(MouseButton::Left),
            MouseEventKind::ScrollUp,
            MouseEventKind::ScrollDown,
        ]), 0..230u16, 0..70u16).prop_map(|(kind, column, row)| Step::Mouse(kind, column, row)),
        1 => (1..230u16, 1..70u16).prop_map(|(width, height)| Step::Size(width, height)),
        2 => (1..60usize).prop_map(Step::Events),
        2 => (0..3_000u64).prop_map(Step::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn draws_after_every_step(steps in proptest::collection::vec(step(), 1..40)) {
        let mut events = script::lossy(2, 9).into_iter();
        let mut now_ns = script::START_NS;
        let mut app = App::new(Theme::PLAIN, 80, 24, "");
        let (mut width, mut height) = (80, 24);
        for step in steps {
            match step {
                Step::Key(code) => {
                    let actions = app.update(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)));
                    prop_assert!(!actions.quit);
                }
                Step::Mouse(kind, column, row) => {
                    let modifiers = KeyModifiers::NONE;
                    let actions = app.update(Input::Mouse(MouseEvent { kind, column, row, modifiers }));
                    prop_assert!(!actions.quit);
                }
                Step::Size(columns, rows) => {
                    (width, height) = (columns, rows);
                    let _ = app.update(Input::Resize { width, height });
                }
                Step::Events(count) => {
                    for event in events.by_ref().take(count) {
                        let _ = app.event(&event);
                    }
                }
                Step::Tick(ms) => {
                    now_ns += ms * 1_000_000;
                    let _ = app.event(&Event::Tick { now_ns });
                }
            }
            prop_assert!(app.process_row() <= app.rows().len());
            prop_assert!(app.batches().is_none_or(|rows| rows.is_empty() || app.batch_row() < rows.len()));
            prop_assert!(app.fault_row().is_none_or(|row| row < app.entries().len()));
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a test backend");
            terminal.draw(|frame| view::draw(&app, frame)).expect("a test backend");
        }
    }
}

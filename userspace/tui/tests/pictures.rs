//! Screens with their styles. `cargo xtask screens` draws the pictures of docs/screens from these snapshots.
//!
//! Format: the lines of the screen, a line `styles`, then one line for each run of cells that are not plain text:
//! row, column, cells, then colour and modifiers in ratatui's names. Rows and columns count from 0.

mod support;

use std::fmt::Write as _;

use crossterm::event::KeyCode;
use dsascope_core::event::Event;
use dsascope_tui::{App, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::Color;
use support::script;
use support::view::press;

const SIZE: (u16, u16) = (120, 40);

fn app(events: Vec<Event>) -> App {
    support::view::app(support::view::UNICODE, SIZE, events)
}

fn style(cell: &Cell) -> String {
    assert_eq!(cell.bg, Color::Reset, "the theme sets no background");
    let mut words = Vec::new();
    if cell.fg != Color::Reset {
        words.push(cell.fg.to_string());
    }
    words.extend(cell.modifier.iter_names().map(|(name, _)| name.to_owned()));
    words.join(" ")
}

fn picture(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let (mut lines, mut styles) = (String::new(), String::new());
    for (row, cells) in buffer.content.chunks(width).enumerate() {
        let line: String = cells.iter().map(Cell::symbol).collect();
        assert_eq!(line.chars().count(), width, "one character a cell");
        let _ = writeln!(lines, "{}", line.trim_end());
        let mut column = 0;
        for run in cells.chunk_by(|a, b| style(a) == style(b)) {
            let style = style(&run[0]);
            if !style.is_empty() {
                let _ = writeln!(styles, "{row} {column} {} {style}", run.len());
            }
            column += run.len();
        }
    }
    format!("{lines}styles\n{styles}")
}

fn draw(app: &App) -> String {
    let mut terminal = Terminal::new(TestBackend::new(SIZE.0, SIZE.1)).expect("a test backend");
    terminal.draw(|frame| view::draw(app, frame)).expect("a test backend");
    picture(terminal.backend().buffer())
}

#[test]
fn live() {
    insta::assert_snapshot!(draw(&app(script::busy(10))));
}

#[test]
fn loss() {
    insta::assert_snapshot!(draw(&app(script::lossy(10, 1234))));
}

#[test]
fn fault() {
    let mut app = app(script::busy(10));
    // To the recent faults, two down to the one that failed, and into it.
    press(&mut app, [KeyCode::Tab, KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
    insta::assert_snapshot!(draw(&app));
}

#[test]
fn latency() {
    let mut app = app(script::busy(60));
    press(&mut app, [KeyCode::Char('5')]);
    insta::assert_snapshot!(draw(&app));
}

#[test]
fn event_log() {
    let mut app = app(script::trouble());
    press(&mut app, [KeyCode::Char('6')]);
    insta::assert_snapshot!(draw(&app));
}

#[test]
fn addresses() {
    let mut app = app(script::submitted());
    press(&mut app, [KeyCode::Char('7')]);
    insta::assert_snapshot!(draw(&app));
}

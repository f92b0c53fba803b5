//! Keys become commands here, before any panel sees them. Owns the one table of bindings, which the footer and the help draw from.
//!
//! Refuses: state. What a key means depends on the [`Mode`] alone.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::replay::Ask;
use crate::views::View;

/// What the keyboard speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Panels.
    Normal,
    /// The line after `/`.
    Filter,
    /// Help or a fault's detail.
    Overlay,
    /// A view of lines: nothing in it can be selected.
    Lines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Quit,
    Help,
    View(View),
    Freeze,
    FocusNext,
    FocusPrevious,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Open,
    /// Closes the overlay, else clears the filter.
    Back,
    SortNext,
    SortPrevious,
    SortReverse,
    StageNext,
    StagePrevious,
    /// The next failure in the table one is in.
    NextFailed,
    /// The fault that took longest.
    Worst,
    /// Marks the selected row, or takes its mark away.
    Mark,
    /// The next marked row.
    NextMarked,
    /// Batches in place of recent faults, and back.
    Batches,
    FilterEdit,
    FilterType(char),
    FilterErase,
    FilterComplete,
    FilterAccept,
    FilterClear,
    /// Of a capture, of the flight recorder, or of the terminal.
    Ask(Ask),
}

/// One row of the help: keys as written, what they do.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    pub keys: &'static str,
    /// For the footer; empty when it has no place there.
    pub short: &'static str,
    pub long: &'static str,
}

const fn binding(keys: &'static str, short: &'static str, long: &'static str) -> Binding {
    Binding { keys, short, long }
}

/// In the order of the footer: most needed first, since a narrow one is cut at the right.
pub const NORMAL: &[Binding] = &[
    binding("q", "quit", "quit (also Ctrl-C)"),
    binding("?", "help", "this help"),
    binding("Tab", "focus", "go to the next panel (Shift-Tab: previous)"),
    binding("Enter", "detail", "decode the selected fault or batch; in processes: go to its faults"),
    binding(
        "/",
        "filter",
        "look for words, or filter: copy > 50us and wq == wq0.1 (docs/filter.md); Esc clears",
    ),
    binding("s S", "sort", "sort by the next column / turn the order (< > choose the column)"),
    binding("t", "stage", "choose the stage shown in p50, p99 and max (T: back)"),
    binding("1-9 0", "view", "open a view by its number: their names stand below the header"),
    binding("x", "failed", "go to the next row that failed: a process, a fault, or a batch"),
    binding("w", "worst", "decode the fault that took longest (of a capture: go there)"),
    binding(
        "y",
        "copy",
        "copy what is open, marked or selected as text to the terminal's clipboard (OSC 52)",
    ),
    binding("b", "batches", "show batches in place of recent faults, and back"),
    binding("f", "findings", "what was found to be wrong (also 9), and back"),
    binding(
        "m '",
        "mark",
        "mark the selected row with *, or unmark it (64 in a table at most) / go to the next marked one",
    ),
    binding("Space", "freeze", "hold the screen still; events are still counted"),
    binding("Up Down", "", "select a row (also k j, PgUp PgDn, Home End)"),
    binding(
        "Mouse",
        "",
        "click: open a view, choose a row, open the chosen one, order by a column; wheel: scroll (Shift leaves it to the terminal)",
    ),
    binding("Esc", "", "close what is open; go back to following the newest fault; clear the filter"),
];

/// Beside these, when a capture is played.
pub const REPLAY: &[Binding] = &[
    binding("p", "pause", "hold the capture, or go on"),
    binding("[ ]", "speed", "slower, faster: 0.1x to 1000x and as fast as it can be read"),
    binding("n N", "step", "go on to the next fault / to the end of the next batch, and hold there"),
    binding("Left Right", "seek", "10 s back or on"),
    binding("w", "worst", "go to the fault with the longest service, and decode it"),
    binding("^ $", "", "to the beginning, to the end"),
];

/// Beside the normal ones, when a flight recorder runs.
pub const RECORDER: &[Binding] =
    &[binding("e", "save", "save what the flight recorder holds, and what follows, to a capture")];

pub const FILTER: &[Binding] =
    &[binding("Enter", "keep", ""), binding("Tab", "complete", ""), binding("Esc", "clear", "")];

pub const LINES: &[Binding] = &[
    binding("q", "quit", ""),
    binding("?", "help", ""),
    binding("1-9 0", "view", ""),
    binding("Esc", "overview", ""),
    binding("Up Down", "scroll", ""),
    binding("PgUp PgDn", "page", ""),
    binding("Space", "freeze", ""),
];

pub const OVERLAY: &[Binding] = &[
    binding("Esc", "close", ""),
    binding("Up Down", "scroll", ""),
    binding("PgUp PgDn", "page", ""),
    binding("q", "quit", ""),
];

/// What the runner can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Askable {
    /// A capture is played.
    pub replay: bool,
    /// A flight recorder runs.
    pub recorder: bool,
}

impl Askable {
    /// Bindings that are there because of it.
    pub fn bindings(self) -> impl Iterator<Item = &'static Binding> {
        let replay = if self.replay { REPLAY } else { &[] };
        let recorder = if self.recorder { RECORDER } else { &[] };
        replay.iter().chain(recorder)
    }

    fn ask(self, code: KeyCode) -> Option<Ask> {
        let ask = match code {
            KeyCode::Char('y') => return Some(Ask::Copy),
            KeyCode::Char('e') => return self.recorder.then_some(Ask::Save),
            KeyCode::Char('p') => Ask::Pause,
            KeyCode::Char('[') => Ask::Slower,
            KeyCode::Char(']') => Ask::Faster,
            KeyCode::Char('n') => Ask::NextFault,
            KeyCode::Char('N') => Ask::NextBatch,
            KeyCode::Left => Ask::Seek(-10),
            KeyCode::Right => Ask::Seek(10),
            KeyCode::Char('w') => Ask::Worst,
            KeyCode::Char('^') => Ask::Start,
            KeyCode::Char('$') => Ask::End,
            _ => return None,
        };
        self.replay.then_some(ask)
    }
}

/// Those of the mode; first what is there because a capture is played.
pub fn bindings(mode: Mode, askable: Askable) -> impl Iterator<Item = &'static Binding> {
    let (own, askable) = match mode {
        Mode::Normal => (NORMAL, askable),
        Mode::Filter => (FILTER, Askable::default()),
        Mode::Overlay => (OVERLAY, askable),
        Mode::Lines => (LINES, askable),
    };
    let (first, rest) = own.split_at(own.len().min(2));
    first.iter().chain(askable.bindings()).chain(rest)
}

/// The command of a key, if it has one in this mode.
pub fn command(key: KeyEvent, mode: Mode, askable: Askable) -> Option<Command> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Command::Quit),
            KeyCode::Char('u') if mode == Mode::Filter => Some(Command::FilterClear),
            _ => None,
        };
    }
    if key.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER | KeyModifiers::META) {
        return None;
    }
    if mode == Mode::Filter {
        return match key.code {
            KeyCode::Enter => Some(Command::FilterAccept),
            KeyCode::Esc => Some(Command::FilterClear),
            KeyCode::Backspace => Some(Command::FilterErase),
            KeyCode::Tab => Some(Command::FilterComplete),
            KeyCode::Char(c) => Some(Command::FilterType(c)),
            _ => None,
        };
    }
    if let Some(ask) = askable.ask(key.code) {
        return Some(Command::Ask(ask));
    }
    if let KeyCode::Char(digit) = key.code
        && let Some(view) = View::of_digit(digit)
    {
        return Some(Command::View(view));
    }
    let moves = match key.code {
        KeyCode::Char('q') => Some(Command::Quit),
        KeyCode::Char('?') => Some(Command::Help),
        KeyCode::Esc => Some(Command::Back),
        KeyCode::Up | KeyCode::Char('k') => Some(Command::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Command::Down),
        KeyCode::PageUp => Some(Command::PageUp),
        KeyCode::PageDown => Some(Command::PageDown),
        KeyCode::Home | KeyCode::Char('g') => Some(Command::First),
        KeyCode::End | KeyCode::Char('G') => Some(Command::Last),
        _ => None,
    };
    if moves.is_some() || mode == Mode::Overlay {
        return moves.or(match key.code {
            KeyCode::Enter => Some(Command::Back),
            KeyCode::Char(' ') => Some(Command::PageDown),
            KeyCode::Char('f') => Some(Command::View(View::Findings)),
            _ => None,
        });
    }
    match key.code {
        KeyCode::Char(' ') => Some(Command::Freeze),
        KeyCode::Tab => Some(Command::FocusNext),
        KeyCode::BackTab => Some(Command::FocusPrevious),
        KeyCode::Enter => Some(Command::Open),
        KeyCode::Char('/') => Some(Command::FilterEdit),
        KeyCode::Char('s' | '>') => Some(Command::SortNext),
        KeyCode::Char('<') => Some(Command::SortPrevious),
        KeyCode::Char('S') => Some(Command::SortReverse),
        KeyCode::Char('t') => Some(Command::StageNext),
        KeyCode::Char('T') => Some(Command::StagePrevious),
        KeyCode::Char('b') => Some(Command::Batches),
        KeyCode::Char('x') => Some(Command::NextFailed),
        KeyCode::Char('w') => Some(Command::Worst),
        KeyCode::Char('m') => Some(Command::Mark),
        KeyCode::Char('\'') => Some(Command::NextMarked),
        KeyCode::Char('f') => Some(Command::View(View::Findings)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    #[test]
    fn letters_are_text_while_filtering() {
        assert_eq!(
            command(press(KeyCode::Char('q')), Mode::Filter, Askable::default()),
            Some(Command::FilterType('q'))
        );
        assert_eq!(command(press(KeyCode::Char('q')), Mode::Normal, Askable::default()), Some(Command::Quit));
    }

    #[test]
    fn control_c_quits_everywhere() {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        for mode in [Mode::Normal, Mode::Filter, Mode::Overlay, Mode::Lines] {
            assert_eq!(command(key, mode, Askable::default()), Some(Command::Quit));
        }
    }

    #[test]
    fn releases_do_nothing() {
        let key = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(command(key, Mode::Normal, Askable::default()), None);
    }
}

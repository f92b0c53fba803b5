//! The live view in a storm, for benches: 200x60, 10,000 processes, and the faults of a twentieth of a second between two frames.

#[path = "../../../core/benches/storm/mod.rs"]
mod storm;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use dsascope_core::event::Event;
use dsascope_tui::theme::{Colours, Glyphs};
use dsascope_tui::{App, Input, Theme, View, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use storm::{BLOCK, Storm, Stream};

const SIZE: (u16, u16) = (200, 60);
const PROCESSES: u32 = 10_000;
/// Blocks of faults between two frames: 5,000 faults.
const BLOCKS: u64 = 5_000 / BLOCK + 1;

pub(crate) struct Live {
    pub(crate) app: App,
    pub(crate) stream: Stream,
    now_ns: u64,
    terminal: Terminal<TestBackend>,
}

impl Live {
    pub(crate) fn new(view: View) -> Self {
        let theme = Theme { colours: Colours::Ansi16, glyphs: Glyphs::Unicode };
        let (stream, opens) =
            Stream::new(Storm { processes: PROCESSES, faults_an_interrupt: 16, batches: true });
        let app = App::new(theme, SIZE.0, SIZE.1, "");
        let terminal = Terminal::new(TestBackend::new(SIZE.0, SIZE.1)).expect("a test backend");
        let mut live = Self { app, stream, now_ns: 0, terminal };
        opens.into_iter().for_each(|event| live.take(event));
        (0..200).for_each(|_| live.storm());
        let key = KeyEvent::new(KeyCode::Char(view.digit()), KeyModifiers::NONE);
        let _ = live.app.update(Input::Key(key));
        live
    }

    fn take(&mut self, event: Event) {
        self.now_ns = self.now_ns.max(event.at_ns());
        let _ = self.app.event(&event);
    }

    /// The faults between two frames.
    pub(crate) fn storm(&mut self) {
        for _ in 0..BLOCKS {
            for event in self.stream.block() {
                if !matches!(event, Event::Tick { .. }) {
                    self.take(event);
                }
            }
        }
    }

    pub(crate) fn tick(&mut self) -> bool {
        let tick = Event::Tick { now_ns: self.now_ns };
        self.app.event(&tick).redraw
    }

    pub(crate) fn draw(&mut self) {
        self.terminal.draw(|frame| view::draw(&self.app, frame)).expect("a test backend");
    }
}

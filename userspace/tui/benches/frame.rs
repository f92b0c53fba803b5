//! What a frame of the live view takes during a storm, at 200x60: `cargo bench -p dsascope-tui`.
//!
//! A frame is two things: the tick, which derives what is shown from the model, and the drawing. Each is measured after the faults of a
//! twentieth of a second at 100,000 a second, and in each view.

#[path = "../../core/benches/storm/mod.rs"]
mod storm;

use std::cell::RefCell;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use divan::Bencher;
use dsascope_core::compare::{By, Collector};
use dsascope_core::event::Event;
use dsascope_core::model::Model;
use dsascope_tui::theme::{Colours, Glyphs};
use dsascope_tui::{App, Baseline, Input, Theme, View, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use storm::{BLOCK, Storm, Stream};

const SIZE: (u16, u16) = (200, 60);
const PROCESSES: u32 = 10_000;
/// Blocks of faults between two frames: 5,000 faults.
const BLOCKS: u64 = 5_000 / BLOCK + 1;

struct Live {
    app: App,
    stream: Stream,
    now_ns: u64,
    terminal: Terminal<TestBackend>,
}

impl Live {
    fn new(view: View) -> Self {
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
    fn storm(&mut self) {
        for _ in 0..BLOCKS {
            for event in self.stream.block() {
                if !matches!(event, Event::Tick { .. }) {
                    self.take(event);
                }
            }
        }
    }

    fn tick(&mut self) -> bool {
        let tick = Event::Tick { now_ns: self.now_ns };
        self.app.event(&tick).redraw
    }

    fn draw(&mut self) {
        self.terminal.draw(|frame| view::draw(&self.app, frame)).expect("a test backend");
    }
}

#[divan::bench(args = View::ALL, sample_count = 100, sample_size = 1)]
fn tick(bencher: Bencher<'_, '_>, view: View) {
    let live = RefCell::new(Live::new(view));
    bencher.with_inputs(|| live.borrow_mut().storm()).bench_local_values(|()| live.borrow_mut().tick());
}

#[divan::bench(args = View::ALL, sample_count = 100, sample_size = 1)]
fn draw(bencher: Bencher<'_, '_>, view: View) {
    let live = RefCell::new(Live::new(view));
    let next = || {
        live.borrow_mut().storm();
        live.borrow_mut().tick();
    };
    bencher.with_inputs(next).bench_local_values(|()| live.borrow_mut().draw());
}

/// The latency view beside a baseline that has every process's latencies.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn draw_against_a_baseline(bencher: Bencher<'_, '_>) {
    let mut live = Live::new(View::Latency);
    let mut model = Model::default();
    let mut collector = Collector::new(By::Process);
    for event in (0..20).flat_map(|_| live.stream.block()) {
        model.update(&event);
        collector.event(&model, &event);
    }
    live.app = live.app.against(Some(Baseline::new("before.dsc".into(), collector.finish(&model), false)));
    let live = RefCell::new(live);
    let next = || {
        live.borrow_mut().storm();
        live.borrow_mut().tick();
    };
    bencher.with_inputs(next).bench_local_values(|()| live.borrow_mut().draw());
}

fn main() {
    divan::main();
}

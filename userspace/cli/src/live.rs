//! `dsascope live`: keys, signals, events and time go into the view's updater in one order; what it asks for is done.

use std::io::{BufWriter, Stdout, stdout};
use std::time::Duration;

use anyhow::{Context, Result};
use crossterm::event::EventStream;
use dsascope_capture::Recorder;
use dsascope_core::event::Event;
use dsascope_tui::{Actions, App, Input, Theme, layout, theme::Glyphs, view};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt;

use crate::config::Selection;
use crate::exit::Failure;
use crate::feed::{Feed, Pace};
use crate::flags::Live;
use crate::notice;
use crate::signals::{Asked, Signals, stop};
use crate::source::{Next, Source};
use crate::terminal::{self, Guard};
use crate::text;

/// Time between two frames at least: 20 a second.
const FRAME: Duration = Duration::from_millis(50);
/// A frame is written at once.
const FRAME_BYTES: usize = 1 << 16;

type Screen = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// Whether there is a terminal for it; to be asked before attaching.
pub(crate) fn check() -> Result<(), Failure> {
    terminal::check(layout::fits, (layout::MIN_WIDTH, layout::MIN_HEIGHT))
}

/// Runs until it is told to quit. Returns the line that says what was seen.
pub(crate) async fn run<S: Source>(source: S, recorder: Option<Recorder>, flags: &Live) -> Result<String> {
    let mut feed = Feed::new(source, Pace::default(), recorder);
    let (width, height) = crossterm::terminal::size().unwrap_or((0, 0));
    let mut app = App::new(theme(flags.ascii), width, height, &flags.filter);
    // Before the thread that reads keys starts, so that a signal at any moment finds its handler.
    let mut signals = Signals::with_suspend().context("watch signals")?;
    let mut guard = Guard::enter().context("take the terminal")?;
    let mut screen = new_screen()?;
    let mut keys = EventStream::new();
    let mut batch = Vec::new();
    let mut ended = false;
    let mut asked = Actions { redraw: true, quit: false };
    let mut drawn = Instant::now() - FRAME;
    while !asked.quit {
        if asked.redraw && drawn.elapsed() >= FRAME {
            screen.draw(|frame| view::draw(&app, frame)).context("draw")?;
            drawn = Instant::now();
            asked.redraw = false;
        }
        let mut inputs = Vec::new();
        tokio::select! {
            biased;
            signal = signals.next() => match signal {
                Asked::End(_) => asked.quit = true,
                Asked::Save => feed.save("SIGUSR1"),
                Asked::Suspend => {
                    drop(guard);
                    stop();
                    guard = Guard::enter().context("take the terminal again")?;
                    // Not Terminal::clear, which asks the terminal for its cursor and so waits for the reader of keys.
                    screen = new_screen()?;
                    asked.redraw = true;
                }
            },
            key = keys.next() => match key {
                Some(key) => inputs.extend(input(key.context("read a key")?)),
                // The terminal is gone.
                None => asked.quit = true,
            },
            () = sleep_until(drawn + FRAME), if asked.redraw => {}
            next = feed.next(&mut batch), if !ended => {
                ended = next? == Next::End;
                inputs.extend(batch.drain(..).map(event_input));
            }
        }
        for input in inputs {
            let Actions { redraw, quit } = app.update(input);
            asked.redraw |= redraw;
            asked.quit |= quit;
        }
    }
    drop(screen);
    drop(guard);
    let finished = feed.finish(&mut batch);
    for event in batch {
        let _ = app.update(event_input(event));
    }
    notice::print(&mut feed.notices());
    finished?;
    notice::damage(&feed.source().damage());
    Ok(text::summary(app.model(), &Selection::default()))
}

fn new_screen() -> Result<Screen> {
    let backend = CrosstermBackend::new(BufWriter::with_capacity(FRAME_BYTES, stdout()));
    Terminal::new(backend).context("set the screen up")
}

/// A terminal's event as the view takes it; focus, mouse and paste mean nothing to it.
fn input(event: crossterm::event::Event) -> Option<Input> {
    match event {
        crossterm::event::Event::Key(key) => Some(Input::Key(key)),
        crossterm::event::Event::Resize(width, height) => Some(Input::Resize { width, height }),
        _ => None,
    }
}

fn event_input(event: Event) -> Input {
    Input::Event(Box::new(event))
}

fn theme(ascii: bool) -> Theme {
    let get = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = get("LC_ALL").or_else(|| get("LC_CTYPE")).or_else(|| get("LANG"));
    let theme = Theme::from_env(get("NO_COLOR").as_deref(), get("TERM").as_deref(), locale.as_deref());
    if ascii { Theme { glyphs: Glyphs::Ascii, ..theme } } else { theme }
}

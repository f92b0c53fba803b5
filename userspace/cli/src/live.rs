//! `dsascope live`: keys, signals, events and time go into the view's updater in one order; what it asks for is done.

use std::io::{BufWriter, Stdout, stdout};
use std::time::Duration;

use anyhow::{Context, Result};
use crossterm::clipboard::CopyToClipboard;
use crossterm::event::EventStream;
use dsascope_core::event::Event;
use dsascope_tui::{Actions, App, Ask, Baseline, Input, Theme, layout, theme::Glyphs, view};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_stream::StreamExt;

use crate::config::Selection;
use crate::exit::Failure;
use crate::feed::{Feed, Pace};
use crate::flags::Live;
use crate::lines::Beside;
use crate::notice;
use crate::replay::{Replay, Speed};
use crate::settings::Settings;
use crate::signals::{Asked, Signals, stop};
use crate::source::{Next, Source};
use crate::terminal::{self, Guard};
use crate::text;

/// Time between two frames at least: 20 a second.
const FRAME: Duration = Duration::from_millis(50);
/// Keys that wait for the view at most; later ones wait in the terminal.
const KEYS: usize = 64;
/// A frame is written at once.
const FRAME_BYTES: usize = 1 << 16;

type Screen = Terminal<CrosstermBackend<BufWriter<Stdout>>>;

/// Whether there is a terminal for it; to be asked before attaching.
pub(crate) fn check() -> Result<(), Failure> {
    terminal::check(layout::fits, (layout::MIN_WIDTH, layout::MIN_HEIGHT))
}

/// What the view begins with.
pub(crate) struct Begin<'a> {
    pub flags: &'a Live,
    pub settings: Settings,
    pub baseline: Option<Baseline>,
}

/// Runs until it is told to quit. Returns the line that says what was seen.
pub(crate) async fn run<S: Source>(source: S, beside: Beside, begin: Begin<'_>) -> Result<String> {
    let Begin { flags, settings, baseline } = begin;
    let Beside { sieve, recorder, mut watch, .. } = beside;
    let can_save = flags.reading.save.is_none() && recorder.is_some();
    let mut feed = Feed::new(source, Pace::default(), sieve, recorder);
    let (width, height) = crossterm::terminal::size().unwrap_or((0, 0));
    let filter = if flags.filter.is_empty() { &settings.filter } else { &flags.filter };
    let mouse = !(settings.no_mouse || flags.no_mouse);
    let theme = theme(flags.ascii || settings.ascii);
    let mut app = App::new(theme, width, height, filter)
        .configured(settings.view, settings.stage, settings.keys)
        .against(baseline);
    if can_save {
        let _ = app.update(Input::Recorder);
    }
    // Before the thread that reads keys starts, so that a signal at any moment finds its handler.
    let mut signals = Signals::with_suspend().context("watch signals")?;
    let mut guard = Guard::enter(mouse).context("take the terminal")?;
    let mut screen = new_screen()?;
    let mut keys = keys();
    let mut batch = Vec::new();
    let mut ended = false;
    // On the way to the fault with the longest service.
    let mut show_worst = false;
    let mut asked = Actions { redraw: true, ..Actions::default() };
    let mut due = Instant::now() + FRAME;
    let mut answering = true;
    while !asked.quit {
        // The answer to a key does not wait: it is drawn ahead of its time, once, and the frame after it comes so much later.
        let next_frame = if answering { due - FRAME } else { due };
        if asked.redraw && Instant::now() >= next_frame {
            screen.draw(|frame| view::draw(&app, frame)).context("draw")?;
            due = due.max(Instant::now()) + FRAME;
            asked.redraw = false;
            answering = false;
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
                    guard = Guard::enter(mouse).context("take the terminal again")?;
                    // Not Terminal::clear, which asks the terminal for its cursor and so waits for the reader of keys.
                    screen = new_screen()?;
                    asked.redraw = true;
                }
            },
            key = keys.recv() => match key {
                Some(key) => {
                    inputs.extend(input(key.context("read a key")?));
                    answering = true;
                }
                // The terminal is gone.
                None => asked.quit = true,
            },
            () = sleep_until(next_frame), if asked.redraw => {}
            next = feed.next(&mut batch), if !ended => {
                ended = next? == Next::End;
            }
        }
        for event in batch.drain(..) {
            asked.redraw |= app.event(&event).redraw;
            if watch.is_needed() {
                watch.update(app.model(), &event);
            }
        }
        for notice in feed.notices() {
            watch.noticed(&notice);
            inputs.push(Input::Notice(notice::text(&notice)));
        }
        inputs.extend(feed.source().player().map(|player| Input::Replay(Box::new(place(player)))));
        for input in inputs {
            let Actions { redraw, quit, ask } = app.update(input);
            asked.redraw |= redraw;
            asked.quit |= quit;
            if ask == Some(Ask::Save) {
                feed.save("a key in the live view");
            } else if ask == Some(Ask::Copy) {
                let notice = copy(&view::text(&app))?;
                asked.redraw |= app.update(Input::Notice(notice)).redraw;
            } else if let (Some(ask), Some(player)) = (ask, feed.source().player()) {
                show_worst = play(ask, player, &mut app)?;
                asked.redraw = true;
            }
        }
        if let Some(why) = watch.reason() {
            feed.save(&why);
        }
        if let Some(player) = feed.source().player() {
            ended = player.is_ended();
            if show_worst && !player.is_seeking() {
                show_worst = false;
                asked.redraw |= app.update(Input::ShowNewest).redraw;
            }
        }
    }
    drop(screen);
    drop(guard);
    let finished = feed.finish(&mut batch);
    for event in &batch {
        let _ = app.event(event);
    }
    notice::print(&mut feed.notices());
    finished?;
    notice::damage(&feed.source().damage());
    Ok(text::summary(app.model(), &Selection::default()))
}

/// What comes from the terminal; ends with it. Read by a task of its own: the stream spins for the lock of the thread that waits for keys each time
/// it is looked at, and the view's loop would look with every batch of events.
fn keys() -> mpsc::Receiver<std::io::Result<crossterm::event::Event>> {
    let (sender, receiver) = mpsc::channel(KEYS);
    // Here, not in the task, which begins later: a change of size is told to whoever listens then.
    let mut stream = EventStream::new();
    tokio::spawn(async move {
        while let Some(event) = stream.next().await {
            if sender.send(event).await.is_err() {
                break;
            }
        }
    });
    receiver
}

/// Gives text to the terminal's clipboard, which a terminal may refuse without a word.
fn copy(text: &str) -> Result<String> {
    let mut out = stdout();
    crossterm::execute!(out, CopyToClipboard::to_clipboard_from(text)).context("copy")?;
    Ok(format!("{} lines given to the terminal's clipboard", text.lines().count()))
}

/// Does what was asked of a capture. True: when it is where it is going, the newest fault is to be shown.
fn play(ask: Ask, player: &mut Replay, app: &mut App) -> Result<bool> {
    let speed = match player.speed() {
        Speed::Times(times) => Some(times),
        Speed::Max => None,
    };
    let seek = |player: &mut Replay, app: &mut App, at_ns: u64| {
        if player.seek(at_ns) {
            let _ = app.update(Input::Restart);
        }
    };
    match ask {
        Ask::Pause => {
            let paused = !player.is_paused();
            player.pause(paused);
        }
        Ask::Slower | Ask::Faster => {
            player.set_speed(ask.speed(speed).map_or(Speed::Max, Speed::Times));
        }
        Ask::NextFault | Ask::NextBatch => {
            player.pause(true);
            while let Some(event) = player.step()? {
                let is_fault = matches!(event, Event::Fault(_));
                let _ = app.event(&event);
                let reached = match ask {
                    Ask::NextFault => is_fault,
                    _ => !app.model().batches().just_ended().is_empty(),
                };
                if reached {
                    break;
                }
            }
        }
        Ask::Seek(seconds) => {
            let step_ns = u64::from(seconds.unsigned_abs()) * 1_000_000_000;
            let now_ns = player.now_ns();
            let at_ns = if seconds < 0 { now_ns.saturating_sub(step_ns) } else { now_ns + step_ns };
            let at_ns = at_ns.clamp(player.started_ns(), player.end_ns().max(player.started_ns()));
            seek(player, app, at_ns);
        }
        Ask::Start => seek(player, app, player.started_ns()),
        Ask::End => seek(player, app, u64::MAX),
        Ask::Worst => {
            if let Some(at_ns) = player.worst()? {
                player.pause(true);
                seek(player, app, at_ns);
                return Ok(true);
            }
        }
        Ask::Save | Ask::Copy => {}
    }
    Ok(false)
}

fn place(player: &Replay) -> dsascope_tui::Replay {
    let since = |at_ns: u64| at_ns.saturating_sub(player.started_ns());
    dsascope_tui::Replay {
        name: player.name(),
        at_ns: since(player.now_ns()),
        end_ns: since(player.end_ns()),
        speed: match player.speed() {
            Speed::Times(times) => Some(times),
            Speed::Max => None,
        },
        paused: player.is_paused(),
        seeking: player.is_seeking(),
    }
}

fn new_screen() -> Result<Screen> {
    let backend = CrosstermBackend::new(BufWriter::with_capacity(FRAME_BYTES, stdout()));
    Terminal::new(backend).context("set the screen up")
}

/// A terminal's event as the view takes it; focus and paste mean nothing to it.
fn input(event: crossterm::event::Event) -> Option<Input> {
    match event {
        crossterm::event::Event::Key(key) => Some(Input::Key(key)),
        crossterm::event::Event::Mouse(mouse) => Some(Input::Mouse(mouse)),
        crossterm::event::Event::Resize(width, height) => Some(Input::Resize { width, height }),
        _ => None,
    }
}

fn theme(ascii: bool) -> Theme {
    let get = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let locale = get("LC_ALL").or_else(|| get("LC_CTYPE")).or_else(|| get("LANG"));
    let theme = Theme::from_env(get("NO_COLOR").as_deref(), get("TERM").as_deref(), locale.as_deref());
    if ascii { Theme { glyphs: Glyphs::Ascii, ..theme } } else { theme }
}

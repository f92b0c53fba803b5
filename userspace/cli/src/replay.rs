//! A capture as a [`Source`]: as fast as it is asked for lines, at a speed of choice for the live view.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use dsascope_capture::{Capture, ReadError};
use dsascope_core::event::Event;
use tokio::time::{Duration, Instant};

use crate::exit::{Code, Failure};
use crate::source::{Next, Source};

/// Events handed over at once at most: few enough to stay in the processor's cache.
const BATCH: usize = 512;

/// Time between two batches at least, at a speed of choice: a fraction of a frame.
const TURN: Duration = Duration::from_millis(5);

/// How fast the stream's time passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// As fast as it can be read.
    Max,
    /// So many seconds of the stream a second.
    Times(f64),
}

#[derive(Debug)]
pub(crate) struct Replay {
    path: PathBuf,
    capture: Capture<BufReader<File>>,
    /// Time of the first and the last event: asked for with each batch, and found by looking at every block.
    span_ns: Option<(u64, u64)>,
    speed: Speed,
    /// The stream's time then, and when that was.
    anchor: Option<(u64, Instant)>,
    /// Read, and not yet due.
    held: Option<Event>,
    now_ns: u64,
    ended: bool,
    paused: bool,
    /// Where to go as fast as can be.
    target_ns: Option<u64>,
}

impl Replay {
    pub(crate) fn open(path: &Path, speed: Speed) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display, next: &str| {
            Failure::new(Code::BadInput, format!("{}: {error}", path.display()), next)
        };
        let file = File::open(path)
            .map_err(|error| failed(&error, "name a capture that `dsascope record` wrote"))?;
        let capture = Capture::open(BufReader::new(file)).map_err(|error| {
            let next = match error {
                ReadError::Newer { .. } => "read it with the dsascope that wrote it, or a newer one",
                ReadError::Io { .. } => "look at the disk",
                _ => "name a capture that `dsascope record` wrote, or JSON Lines of `dsascope trace --json`",
            };
            failed(&error, next)
        })?;
        let now_ns = capture.meta().session.started_ns;
        Ok(Self {
            path: path.into(),
            span_ns: capture.span_ns(),
            capture,
            speed,
            anchor: None,
            held: None,
            now_ns,
            ended: false,
            paused: false,
            target_ns: None,
        })
    }

    /// Whether `path` begins as a capture does; what cannot be read is left to whoever opens it.
    pub(crate) fn is_capture(path: &Path) -> bool {
        let mut start = [0; 1];
        // JSON Lines begin with a brace or white space. A capture with a damaged beginning is one all the same.
        File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok()
            && !(start[0] == b'{' || start[0].is_ascii_whitespace())
    }

    /// The next event, whenever it is due.
    pub(crate) fn step(&mut self) -> Result<Option<Event>> {
        let event = match self.held.take() {
            None => self.capture.next_event()?.cloned(),
            held => held,
        };
        self.now_ns = self.now_ns.max(event.as_ref().map_or(0, Event::at_ns));
        self.ended = event.is_none();
        self.anchor = None;
        Ok(event)
    }

    pub(crate) fn pause(&mut self, paused: bool) {
        (self.paused, self.anchor) = (paused, None);
    }

    pub(crate) fn set_speed(&mut self, speed: Speed) {
        (self.speed, self.anchor) = (speed, None);
    }

    /// Goes to `at_ns` of the stream. True: from the beginning again, so that what was told so far is to be forgotten.
    pub(crate) fn seek(&mut self, at_ns: u64) -> bool {
        let back = at_ns < self.now_ns;
        if back {
            self.capture.rewind();
            self.held = None;
            self.now_ns = self.started_ns();
            self.ended = false;
        }
        (self.target_ns, self.anchor) = (Some(at_ns), None);
        back
    }

    /// When the fault with the longest service was told, as far as blocks can be read.
    pub(crate) fn worst(&mut self) -> Result<Option<u64>> {
        Ok(self.capture.worst()?)
    }

    pub(crate) const fn speed(&self) -> Speed {
        self.speed
    }

    pub(crate) const fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) const fn is_seeking(&self) -> bool {
        self.target_ns.is_some()
    }

    pub(crate) const fn is_ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn started_ns(&self) -> u64 {
        self.capture.meta().session.started_ns
    }

    /// Time of the last event.
    pub(crate) fn end_ns(&self) -> u64 {
        self.span_ns.map_or_else(|| self.started_ns(), |(_, last_ns)| last_ns)
    }

    /// The file's name, without its directory.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Appends events until there are `most`, or the next one is later than `until_ns`.
    fn read(&mut self, out: &mut Vec<Event>, most: usize, until_ns: u64) -> Result<Next> {
        if let Some(event) = self.held.take_if(|event| event.at_ns() <= until_ns) {
            self.now_ns = self.now_ns.max(event.at_ns());
            out.push(event);
        }
        while self.held.is_none() && out.len() < most {
            let Some(event) = self.capture.next_event()? else {
                self.ended = true;
                return Ok(Next::End);
            };
            let at_ns = event.at_ns();
            if at_ns > until_ns {
                self.held = Some(event.clone());
            } else {
                self.now_ns = self.now_ns.max(at_ns);
                // Cloned where it is to lie.
                out.extend_from_slice(std::slice::from_ref(event));
            }
        }
        Ok(Next::More)
    }

    /// Until when of the stream events are due by now; of those that are not, how long until they are.
    fn due(&mut self) -> (u64, impl Fn(u64) -> Duration + use<>) {
        let (now_ns, now) = (self.now_ns, Instant::now());
        let (from_ns, then) = *self.anchor.get_or_insert((now_ns, now));
        let speed = match self.speed {
            Speed::Times(speed) => speed,
            Speed::Max => f64::INFINITY,
        };
        let elapsed_ns = (now - then).as_nanos() as f64 * speed;
        let until_ns = from_ns.saturating_add(elapsed_ns as u64);
        (until_ns, move |at_ns| Duration::from_nanos((at_ns.saturating_sub(until_ns) as f64 / speed) as u64))
    }
}

impl Source for Replay {
    async fn next_batch(&mut self, out: &mut Vec<Event>) -> Result<Next> {
        if self.ended || (self.paused && !self.is_seeking()) {
            // Until something else is asked for, nothing happens.
            std::future::pending::<()>().await;
        }
        if self.speed == Speed::Max || self.is_seeking() {
            // Keys and signals get their turn between batches.
            tokio::task::yield_now().await;
        }
        let most = out.len() + BATCH;
        if let Some(target_ns) = self.target_ns {
            let next = self.read(out, most, target_ns)?;
            if self.held.is_some() || next == Next::End {
                self.target_ns = None;
            }
            return Ok(next);
        }
        if self.speed == Speed::Max {
            return self.read(out, most, u64::MAX);
        }
        let (until_ns, wait) = self.due();
        let from = out.len();
        let next = self.read(out, most, until_ns)?;
        if let (true, Some(event)) = (out.len() == from, &self.held) {
            tokio::time::sleep(wait(event.at_ns()).max(TURN)).await;
        }
        Ok(next)
    }

    fn is_recorded(&self) -> bool {
        true
    }

    fn player(&mut self) -> Option<&mut Replay> {
        Some(self)
    }

    fn finish(&mut self, _out: &mut Vec<Event>) -> Result<()> {
        self.ended = true;
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn progress(&self) -> Option<f64> {
        let (first_ns, last_ns) = self.span_ns?;
        let span_ns = last_ns.checked_sub(first_ns).filter(|&ns| ns > 0)?;
        Some((self.now_ns.saturating_sub(first_ns) as f64 / span_ns as f64).min(1.0))
    }

    fn damage(&self) -> Vec<String> {
        self.capture.damage().iter().map(|damage| format!("{}: {damage}", self.path.display())).collect()
    }
}

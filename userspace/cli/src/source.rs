//! Where events come from. The commands know nothing but [`Source`]: the kernel, a capture, and a file of JSON Lines all are one.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use dsascope_core::event::{Event, Snapshot};
use dsascope_core::json::Line;

use crate::exit::{Code, Failure};
use crate::replay::Replay;

/// Events handed over at once at most, so that keys and drawing get their turn.
pub(crate) const BATCH: usize = 4096;
/// One line of a file of events; a snapshot of some ten thousand contexts fits.
const LINE_BYTES: u64 = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    More,
    /// No event will follow.
    End,
}

/// One ordered stream of events. The first is an [`Event::Session`].
#[allow(async_fn_in_trait, reason = "one thread: nobody needs the futures to be Send")]
pub(crate) trait Source {
    /// Waits for events and appends at most [`BATCH`] of them to `out`; may append none (a timer that looks at a ring below its
    /// wake-up mark). Cancel-safe: dropping the future loses nothing.
    async fn next_batch(&mut self, out: &mut Vec<Event>) -> Result<Next>;

    /// The counters kept beside the stream; `None` when they come in the stream.
    fn snapshot(&mut self) -> Result<Option<Snapshot>> {
        Ok(None)
    }

    /// Stops observing, and appends what was still on its way, the last snapshot included.
    fn finish(&mut self, out: &mut Vec<Event>) -> Result<()>;

    /// Now, in the stream's time.
    fn now_ns(&self) -> u64;

    /// The stream has its own ticks and totals, and happened some time else.
    fn is_recorded(&self) -> bool;

    /// Where it can be played faster, slower and from another place.
    fn player(&mut self) -> Option<&mut Replay> {
        None
    }

    /// How much of what was recorded has been read, from 0 to 1.
    fn progress(&self) -> Option<f64> {
        None
    }

    /// What could not be read of what was recorded, a line each.
    fn damage(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A file of events, one JSON object a line, also as `trace --json` writes them: a session again, without its host. As fast as it is asked, and then still: its
/// time is that of its last event.
#[derive(Debug)]
pub(crate) struct EventFile {
    path: PathBuf,
    lines: BufReader<File>,
    line: u64,
    now_ns: u64,
    ended: bool,
}

impl EventFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| {
            let next =
                "name a capture that `dsascope record` wrote, or JSON Lines of `dsascope trace --json`";
            Failure::new(Code::BadInput, format!("open {}: {error}", path.display()), next)
        })?;
        Ok(Self { path: path.into(), lines: BufReader::new(file), line: 0, now_ns: 0, ended: false })
    }

    /// The next event, or `None` at the end.
    fn read(&mut self) -> Result<Option<Event>> {
        use std::io::Read;
        loop {
            let mut text = String::new();
            self.line += 1;
            let place = || format!("{}:{}", self.path.display(), self.line);
            let bytes = (&mut self.lines).take(LINE_BYTES).read_line(&mut text).with_context(place)?;
            if bytes == 0 {
                return Ok(None);
            }
            if bytes as u64 == LINE_BYTES {
                bail!("{}: line longer than {LINE_BYTES} bytes", place());
            }
            if text.trim().is_empty() {
                continue;
            }
            let event = match serde_json::from_str::<Event>(&text) {
                Ok(event) => event,
                // What `trace --json` writes beside events: its summary.
                Err(_) if Line::parse(&text).is_ok_and(|line| line.into_event().is_none()) => continue,
                Err(error) => return Err(error).with_context(place),
            };
            self.now_ns = self.now_ns.max(event.at_ns());
            return Ok(Some(event));
        }
    }
}

impl Source for EventFile {
    async fn next_batch(&mut self, out: &mut Vec<Event>) -> Result<Next> {
        if self.ended {
            // The end was told: nothing happens any more.
            std::future::pending::<()>().await;
        }
        for _ in 0..BATCH {
            match self.read()? {
                Some(event) => out.push(event),
                None => {
                    self.ended = true;
                    // Text has no ticks; what waits for one is told now.
                    out.push(Event::Tick { now_ns: self.now_ns });
                    return Ok(Next::End);
                }
            }
        }
        Ok(Next::More)
    }

    fn finish(&mut self, _out: &mut Vec<Event>) -> Result<()> {
        self.ended = true;
        Ok(())
    }

    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    fn is_recorded(&self) -> bool {
        true
    }
}

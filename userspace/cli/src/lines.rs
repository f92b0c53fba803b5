//! The runner of commands that print lines: stat and trace. Events, signals, intervals and a deadline in one order.

use std::io::{self, BufWriter, Write, stdout};
use std::time::Duration;

use anyhow::{Context, Result};
use dsascope_core::event::Event;
use dsascope_core::model::Model;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use crate::exit::Code;
use crate::signals::Signals;
use crate::source::{Next, Source};

/// Time between readings of the kernel's totals, where nothing is printed for them.
pub(crate) const SNAPSHOT: Duration = Duration::from_secs(1);

/// What a command prints. The model has seen each event before the command is told of it.
pub(crate) trait Printer {
    fn event(&mut self, model: &Model, event: &Event, out: &mut dyn Write) -> io::Result<()>;
    /// An interval is over.
    fn interval(&mut self, model: &mut Model, out: &mut dyn Write) -> io::Result<()>;
    /// The run is over; the last snapshot is in the model. `until_ns`: when tracing was told to end; detaching came after it.
    fn end(&mut self, model: &mut Model, until_ns: u64, out: &mut dyn Write) -> io::Result<()>;
}

/// How long to run and how often to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub interval: Duration,
    pub duration: Option<Duration>,
}

/// Prints until the source ends, the time is over, a signal asks to end, or nobody reads any more.
pub(crate) async fn run<S: Source>(mut source: S, pace: Pace, mut printer: impl Printer) -> Result<Code> {
    let mut signals = Signals::new().context("watch signals")?;
    let mut model = Model::default();
    let mut out = BufWriter::new(stdout().lock());
    let mut batch = Vec::new();
    let start = Instant::now();
    let mut every = interval_at(start + pace.interval, pace.interval);
    every.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let deadline = pace.duration.and_then(|duration| start.checked_add(duration));
    loop {
        let mut done = Ok(());
        let mut over = false;
        tokio::select! {
            biased;
            _ = signals.next() => over = true,
            () = until(deadline) => over = true,
            _ = every.tick() => {
                if let Some(snapshot) = source.snapshot()? {
                    model.update(&Event::Snapshot(Box::new(snapshot)));
                }
                model.update(&Event::Tick { now_ns: source.now_ns() });
                done = printer.interval(&mut model, &mut out);
            }
            next = source.next_batch(&mut batch) => {
                over = next? == Next::End;
                done = tell(&mut model, &mut batch, &mut printer, &mut out);
            }
        }
        match done.and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => over = true,
            other => other.context("write to stdout")?,
        }
        if over {
            break;
        }
    }
    let until_ns = source.now_ns();
    source.finish(&mut batch)?;
    let told = tell(&mut model, &mut batch, &mut printer, &mut out)
        .and_then(|()| printer.end(&mut model, until_ns, &mut out))
        .and_then(|()| out.flush());
    match told {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("write to stdout")?,
        _ => {}
    }
    Ok(if model.ledger().lost() > 0 { Code::Loss } else { Code::Ok })
}

fn tell(
    model: &mut Model,
    batch: &mut Vec<Event>,
    printer: &mut impl Printer,
    out: &mut dyn Write,
) -> io::Result<()> {
    for event in batch.drain(..) {
        model.update(&event);
        printer.event(model, &event, out)?;
    }
    Ok(())
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

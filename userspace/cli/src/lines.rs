//! The runner of commands without a screen: the stream is folded into a model, and each event is told, with intervals and the end at ticks of
//! the stream.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write, stdout};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result};
use dsascope_capture::{Notice, Recorder};
use dsascope_core::event::Event;
use dsascope_core::filter::Sieve;
use dsascope_core::model::{Limits, Model};
use tokio::process::Child;

use crate::exit::Code;
use crate::feed::{Feed, Pace};
use crate::notice;
use crate::progress::Bar;
use crate::record::Watch;
use crate::signals::{Asked, Signals};
use crate::source::{Next, Source};
use crate::units::ns;

const STDOUT: &str = "write to stdout";
/// Lines are written in pieces of this size, and whenever no event follows at once.
const OUT_BYTES: usize = 1 << 16;

/// What a command does with the stream. The model has seen each event before the command is told of it.
pub(crate) trait Consumer {
    fn event(&mut self, model: &Model, event: &Event) -> Result<()>;
    /// An interval is over.
    fn interval(&mut self, _model: &mut Model) -> Result<()> {
        Ok(())
    }
    /// No event follows at once: what was written should be seen.
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
    /// The run is over; the last snapshot is in the model. `until_ns`: when tracing was told to end; detaching came after it.
    fn end(&mut self, model: &mut Model, until_ns: u64) -> Result<()>;
    /// What was recorded has been told to its end. True: it goes on answering for it until a signal comes.
    fn stays(&mut self, _model: &mut Model) -> Result<bool> {
        Ok(false)
    }
    /// Asked after each batch of events: enough was seen.
    fn is_done(&mut self) -> bool {
        false
    }
    /// Lines come on the terminal as it runs, so that nothing else should be written there.
    fn is_on_terminal(&self) -> bool;
    /// What is to be said beside the output.
    fn notices(&mut self, notices: &mut dyn Iterator<Item = Notice>) {
        notice::print(notices);
    }
}

/// A command that writes lines.
pub(crate) trait Printer {
    fn event(&mut self, model: &Model, event: &Event, out: &mut dyn Write) -> io::Result<()>;
    fn interval(&mut self, _model: &mut Model, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self, model: &mut Model, until_ns: u64, out: &mut dyn Write) -> io::Result<()>;
}

/// A printer with stdout.
#[derive(Debug)]
pub(crate) struct Printing<P> {
    printer: P,
    out: BufWriter<Stdout>,
}

impl<P> Printing<P> {
    pub(crate) fn new(printer: P) -> Self {
        Self { printer, out: BufWriter::with_capacity(OUT_BYTES, stdout()) }
    }
}

impl<P: Printer> Consumer for Printing<P> {
    fn event(&mut self, model: &Model, event: &Event) -> Result<()> {
        self.printer.event(model, event, &mut self.out).context(STDOUT)
    }

    fn interval(&mut self, model: &mut Model) -> Result<()> {
        self.printer.interval(model, &mut self.out).context(STDOUT)
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().context(STDOUT)
    }

    fn end(&mut self, model: &mut Model, until_ns: u64) -> Result<()> {
        self.printer.end(model, until_ns, &mut self.out).context(STDOUT)
    }

    fn is_on_terminal(&self) -> bool {
        stdout().is_terminal()
    }
}

/// What a recorded run told after its deadline: the last tick and what was on its way. Less than the time between two ticks.
const LAST_WORDS_NS: u64 = 200_000_000;

/// The stream's own clock: intervals and the end.
struct Clock {
    pace: Pace,
    /// A capture may go on beyond the deadline, and may have been made with the same one.
    recorded: bool,
    /// When the next interval ends, once the session is known.
    interval_ns: Option<u64>,
    deadline_ns: Option<u64>,
    last_tick_ns: Option<u64>,
}

impl Clock {
    fn begin(&mut self, started_ns: u64) {
        let after = |time: Duration| started_ns.saturating_add(ns(time));
        self.interval_ns = self.pace.interval.map(after);
        self.deadline_ns = self.pace.duration.map(after);
    }

    fn is_over(&self, now_ns: u64) -> bool {
        let grace_ns = if self.recorded { LAST_WORDS_NS } else { 0 };
        self.deadline_ns.is_some_and(|deadline_ns| now_ns >= deadline_ns.saturating_add(grace_ns))
    }

    /// Whether an interval is over at this tick.
    fn tick(&mut self, now_ns: u64) -> bool {
        self.last_tick_ns = Some(now_ns);
        let Some(end_ns) = self.interval_ns.filter(|&end_ns| now_ns >= end_ns) else { return false };
        let step_ns = self.pace.interval.map_or(1, ns).max(1);
        let missed = (now_ns - end_ns) / step_ns;
        self.interval_ns = Some(end_ns.saturating_add(step_ns.saturating_mul(missed + 1)));
        true
    }
}

/// What goes on beside a run.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Before all else: what it leaves out, nobody sees.
    pub sieve: Option<Sieve>,
    pub recorder: Option<Recorder>,
    pub watch: Watch,
    /// Run with it: it ends when that does.
    pub command: Option<Child>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub code: Code,
    /// Of the command that was run beside it.
    pub command: Option<ExitStatus>,
}

/// Runs until the source ends, the time is over, the command has ended, a signal asks to end, the consumer is done, or nobody reads any
/// more. A command that is left is told of the signal and waited for.
pub(crate) async fn run<S: Source>(
    source: S,
    beside: Beside,
    pace: Pace,
    mut consumer: impl Consumer,
) -> Result<Ended> {
    let mut signals = Signals::new().context("watch signals")?;
    let Beside { sieve, recorder, mut watch, mut command } = beside;
    let mut feed = Feed::new(source, pace, sieve, recorder);
    let mut model = Model::new(Limits::without_faults());
    let recorded = feed.source().is_recorded();
    let mut clock = Clock { pace, recorded, interval_ns: None, deadline_ns: None, last_tick_ns: None };
    let mut bar = Bar::new(!consumer.is_on_terminal());
    let mut batch = Vec::new();
    let mut status = None;
    loop {
        let mut over = false;
        let mut at_end = false;
        tokio::select! {
            biased;
            asked = signals.next() => match asked {
                Asked::End(signal) => {
                    over = true;
                    tell_of(signal, command.as_ref());
                }
                Asked::Save => feed.save("SIGUSR1"),
                Asked::Suspend => {}
            },
            ended = ended(&mut command) => {
                over = true;
                command = None;
                status = Some(ended.context("wait for the command")?);
            }
            next = feed.next(&mut batch) => at_end = next? == Next::End,
        }
        let told = tell(&mut model, &mut clock, &mut batch, &mut consumer, &mut watch);
        if let Some(why) = watch.reason() {
            feed.save(&why);
        }
        match told.and_then(|over| consumer.flush().map(|()| over)) {
            Ok(at_deadline) => over |= at_deadline,
            Err(error) if is_broken_pipe(&error) => over = true,
            Err(error) => return Err(error),
        }
        over |= at_end && !consumer.stays(&mut model)?;
        consumer.notices(&mut feed.notices().inspect(|notice| watch.noticed(notice)));
        bar.show(feed.source().progress());
        if over || consumer.is_done() {
            break;
        }
    }
    drop(bar);
    let finished = feed.finish(&mut batch);
    let told = tell(&mut model, &mut clock, &mut batch, &mut consumer, &mut watch).and_then(|_| {
        let until_ns = clock.last_tick_ns.unwrap_or_else(|| model.now_ns());
        consumer.end(&mut model, until_ns)?;
        consumer.flush()
    });
    match told {
        Err(error) if !is_broken_pipe(&error) => return Err(error),
        _ => {}
    }
    consumer.notices(&mut feed.notices().inspect(|notice| watch.noticed(notice)));
    finished?;
    let damaged = notice::damage(&feed.source().damage());
    let code = match model.ledger().lost().saturating_add(feed.unwritten()) {
        _ if damaged => Code::BadInput,
        0 => Code::Ok,
        _ => Code::Loss,
    };
    if let Some(command) = &mut command {
        status = Some(command.wait().await.context("wait for the command")?);
    }
    Ok(Ended { code, command: status })
}

async fn ended(command: &mut Option<Child>) -> io::Result<ExitStatus> {
    match command {
        Some(command) => command.wait().await,
        None => std::future::pending().await,
    }
}

/// A signal that ends this process is meant for the command as well. A terminal's SIGINT and SIGQUIT have reached it already.
fn tell_of(signal: i32, command: Option<&Child>) {
    let pid = command.and_then(Child::id).and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.filter(|_| !matches!(signal, libc::SIGINT | libc::SIGQUIT)) {
        // SAFETY: kill(2) with a child that was not waited for, so that the number is still its own.
        unsafe { libc::kill(pid, signal) };
    }
}

/// True when the time is over; events behind that tick are not told.
fn tell(
    model: &mut Model,
    clock: &mut Clock,
    batch: &mut Vec<Event>,
    consumer: &mut impl Consumer,
    watch: &mut Watch,
) -> Result<bool> {
    let told = tell_each(model, clock, batch, consumer, watch);
    batch.clear();
    told
}

fn tell_each(
    model: &mut Model,
    clock: &mut Clock,
    batch: &[Event],
    consumer: &mut impl Consumer,
    watch: &mut Watch,
) -> Result<bool> {
    let mut over = false;
    for event in batch {
        if let &Event::Tick { now_ns } = event {
            over |= clock.is_over(now_ns);
            if over && clock.recorded {
                break;
            }
        }
        model.update(event);
        watch.update(model, event);
        consumer.event(model, event)?;
        match event {
            Event::Session(session) if clock.last_tick_ns.is_none() => clock.begin(session.started_ns),
            &Event::Tick { now_ns } if clock.tick(now_ns) => consumer.interval(model)?,
            _ => {}
        }
    }
    Ok(over)
}

/// Whoever read the output has gone: no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

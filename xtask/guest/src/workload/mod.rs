//! One process of a scenario: opens its WQ, submits as told, reports, ends.
//!
//! Owns: the talk with the run (see [`Order`] and [`Results`]) and the rounds. Refuses: knowing of other processes.

mod files;
mod submitter;

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use dsascope_guest::{
    report::{FileCounters, ProcessReport},
    scenario::{self, DeviceKind, Exit, Process},
};
use dsascope_submit::{Error, Submission, Work, WorkQueue};
use nix::sys::prctl;
use serde::{Deserialize, Serialize};

use self::{files::OpenFile, submitter::Round};

/// What a process says when its WQ is open and its memory prepared.
pub(crate) const READY: &str = "ready";

/// How long a shared WQ may be full in one go.
const PATIENCE: Duration = Duration::from_secs(15);
/// Before a full shared WQ is tried again.
const PAUSE: Duration = Duration::from_micros(50);
/// ENQCMDs in a row before a process pauses, as in Intel's accel-config tests.
const ENQCMD_ATTEMPTS: u32 = 3;

/// The first line that a process reads. The second is `go`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) process: Process,
    pub(crate) work_queue: scenario::WorkQueue,
    pub(crate) kind: DeviceKind,
    pub(crate) submission: scenario::Submission,
    /// /dev/dsa/wqN.M
    pub(crate) node: PathBuf,
    /// wqN.M
    pub(crate) name: String,
    pub(crate) forever: bool,
}

/// The last line that a process writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) report: ProcessReport,
    pub(crate) files: Vec<FileCounters>,
}

impl Results {
    /// Of a process that said nothing.
    pub(crate) fn none(process: &Process, pid: u32) -> Self {
        let mut results = Self::empty(process, pid);
        results.report.error = Some("it ended without a report".into());
        results
    }

    fn empty(process: &Process, pid: u32) -> Self {
        let report = ProcessReport {
            process: process.name.clone(),
            pid,
            device: process.device.clone(),
            work_queue: process.work_queue,
            ..ProcessReport::default()
        };
        Self { report, files: Vec::new() }
    }

    fn say(&self) -> anyhow::Result<()> {
        say(&serde_json::to_string(self)?)
    }
}

pub(crate) fn run() -> anyhow::Result<i32> {
    let order: Order = serde_json::from_str(&hear()?).context("reading the order")?;
    let mut results = Results::empty(&order.process, std::process::id());
    if let Err(error) = work(&order, &mut results) {
        results.report.error = Some(format!("{error:#}"));
        results.say()?;
        return Ok(1);
    }
    results.say()?;
    Ok(0)
}

fn work(order: &Order, results: &mut Results) -> anyhow::Result<()> {
    let process = &order.process;
    // Ends with the run, whatever happens to that; and is named before it opens the WQ, as tracers look then.
    prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("tying this process to the run")?;
    let name = std::ffi::CString::new(process.name.as_str()).context("naming this process")?;
    prctl::set_name(&name).context("naming this process")?;
    // Sleeps between two looks at a record end when asked, not 50 µs later.
    prctl::set_timerslack(1).context("setting the timer slack")?;
    let jobs = process.jobs();
    for round in 0..process.repeat {
        let queue = WorkQueue::open_for(&order.node, way(order.submission))?;
        let file = OpenFile::of_this_thread(order.kind, &order.name)?;
        if let Some(after) = process.close_first_after {
            return with_two_files(order, after, (queue, file), results);
        }
        let submitter = Round::prepare(&queue, &file, order, &jobs)?;
        if round == 0 {
            begin(order)?;
        }
        submitter.run()?;
        let burst = submitter.leave(&mut results.report)?;
        results.files.push(file.counters(process, process.exit == Exit::Clean)?);
        if process.exit == Exit::Pending {
            results.say()?;
            burst.submit_and_exit();
        }
    }
    Ok(())
}

/// Waits for the run's word.
fn begin(order: &Order) -> anyhow::Result<()> {
    say(READY)?;
    let line = hear()?;
    if line != "go" {
        bail!("the run said {line:?} in place of go");
    }
    if order.forever {
        // The run closes the pipe when it wants an end.
        thread::spawn(|| {
            while hear().is_ok() {}
            submitter::STOP.store(true, Ordering::Relaxed);
        });
    }
    thread::sleep(Duration::from_millis(order.process.start_delay_ms.into()));
    Ok(())
}

/// Opens the WQ again and submits through that file; after `after` descriptors closes the first, which the driver delivers to, and submits
/// the others.
fn with_two_files(
    order: &Order,
    after: u32,
    (first, first_file): (WorkQueue, OpenFile),
    results: &mut Results,
) -> anyhow::Result<()> {
    let queue = WorkQueue::open_for(&order.node, way(order.submission))?;
    let second_file = OpenFile::of_this_thread_but(order.kind, &order.name, &first_file)?;
    let part = |count, close_first_after| {
        let process = Process { count, close_first_after, ..order.process.clone() };
        Order { process, ..order.clone() }
    };
    let before = part(after, None);
    let jobs = order.process.jobs();
    let round = Round::prepare(&queue, &first_file, &before, &jobs)?;
    begin(order)?;
    round.run()?;
    let _ = round.leave(&mut results.report)?;
    results.files.push(first_file.counters(&order.process, true)?);
    drop(first);
    let behind = part(order.process.count - after, Some(after));
    let round = Round::prepare(&queue, &second_file, &behind, &jobs)?;
    round.run()?;
    let _ = round.leave(&mut results.report)?;
    results.files.push(second_file.counters(&order.process, true)?);
    Ok(())
}

const fn way(submission: scenario::Submission) -> Submission {
    match submission {
        scenario::Submission::Store => Submission::PlainStores,
        scenario::Submission::Movdir64b => Submission::Movdir64b,
        scenario::Submission::Enqcmd => Submission::Enqcmd { attempts: ENQCMD_ATTEMPTS },
        scenario::Submission::Write => Submission::Write,
    }
}

/// Submits, to a shared WQ that is full again and again, as others take its entries too.
fn offer(queue: &WorkQueue, work: &Work) -> Result<(), Error> {
    until_accepted(|| match queue.submit(work) {
        Err(Error::Full { .. }) => Ok(false),
        result => result.map(|()| true),
    })
}

fn until_accepted(mut offer: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    let begin = Instant::now();
    while !offer()? {
        if begin.elapsed() >= PATIENCE {
            let problem = format!("the WQ was full for {PATIENCE:?}");
            return Err(Error::Invalid { operation: "submitting", problem });
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// A line of the run; an error when it has gone.
fn hear() -> anyhow::Result<String> {
    let mut line = String::new();
    let bytes = io::stdin().read_line(&mut line).context("reading from the run")?;
    ensure!(bytes > 0, "the run has gone");
    Ok(line.trim_end().to_owned())
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("reporting to the run")
}

/// Locks whatever happened to another holder: counts stay counts.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

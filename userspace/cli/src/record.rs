//! `dsascope record`: the stream goes to a capture, and a line tells how far it is.

use std::io::{IsTerminal, Write, stderr};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use dsascope_capture::{Mode, Notice, Plan};
use dsascope_core::event::Event;
use dsascope_core::model::Model;
use dsascope_core::trigger::Trigger;
use dsascope_tui::Theme;
use dsascope_tui::format::optional_duration;
use tokio::process::{Child, Command};

use crate::config::Selection;
use crate::exit::{Code, Failure};
use crate::flags::{Flight, Record};
use crate::lines::Consumer;
use crate::text;
use crate::units::ns;

/// Time between two lines of progress.
pub(crate) const PROGRESS: Duration = Duration::from_secs(1);
/// What the flight recorder keeps at most when only a time is given.
const RING_BYTES: u64 = 64 << 20;
/// What the live view keeps, for whoever sees something and wants it saved.
const LIVE_RING_BYTES: u64 = 8 << 20;
/// A file smaller than this holds nothing but its header.
const LEAST_FILE_BYTES: u64 = 64 << 10;

/// The flight recorder, when it is asked for.
pub(crate) fn flight(flags: &Flight, keep: Option<u32>) -> Result<Option<Mode>, Failure> {
    if flags.ring.is_none() && flags.last.is_none() && flags.on.is_empty() {
        return match &flags.run {
            None => Ok(None),
            Some(_) => {
                let next = "add --ring, --last or --on for the flight recorder";
                Err(Failure::new(Code::Usage, "--run has nothing to wait for", next))
            }
        };
    }
    let ring_bytes = flags.ring.unwrap_or(RING_BYTES);
    enough(ring_bytes)?;
    Ok(Some(Mode::Flight { ring_bytes, last_ns: flags.last.map(ns), after_ns: ns(flags.after), keep }))
}

/// The flight recorder that the live view has unless it is told of another: small, and saved where it runs.
pub(crate) fn beside_live(flags: &Flight) -> Result<(Plan, bool), Failure> {
    let asked = flight(flags, None)?;
    let wanted = asked.is_some();
    let after_ns = ns(flags.after);
    let small = Mode::Flight { ring_bytes: LIVE_RING_BYTES, last_ns: None, after_ns, keep: None };
    let mode = asked.unwrap_or(small);
    Ok((Plan { path: "dsascope.dsc".into(), replace: false, command: Vec::new(), mode }, wanted))
}

fn enough(bytes: u64) -> Result<(), Failure> {
    if bytes >= LEAST_FILE_BYTES {
        return Ok(());
    }
    let what = format!("{bytes} bytes are too few for a capture");
    Err(Failure::new(Code::Usage, what, "give --max-size or --ring 64KiB or more"))
}

pub(crate) fn plan(flags: &Record) -> Result<Plan, Failure> {
    flags.max_size.map_or(Ok(()), enough)?;
    let mode = if let Some(mode) = flight(&flags.flight, flags.keep)? {
        mode
    } else if flags.keep.is_some() && flags.max_size.is_none() {
        return Err(Failure::new(
            Code::Usage,
            "--keep says how many files to keep, and nothing says when one is full",
            "add --max-size, or --ring or --last for the flight recorder",
        ));
    } else {
        Mode::All { max_bytes: flags.max_size, keep: flags.keep }
    };
    Ok(Plan { path: flags.output.clone(), replace: flags.force, command: flags.command.clone(), mode })
}

/// Looks whether the flight recorder has to save, and does what is to be done with what it saved.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    triggers: Vec<Trigger>,
    run: Option<String>,
    /// The first trigger that fired since the last look.
    reason: Option<String>,
    /// Why the capture that is being saved is.
    why: String,
}

impl Watch {
    pub(crate) fn new(flags: &Flight) -> Self {
        Self { triggers: flags.on.clone(), run: flags.run.clone(), ..Self::default() }
    }

    /// Events have to be shown to it.
    pub(crate) fn is_needed(&self) -> bool {
        !self.triggers.is_empty()
    }

    /// To be told of every event, after the model.
    pub(crate) fn update(&mut self, model: &Model, event: &Event) {
        for trigger in &mut self.triggers {
            if let Some(fired) = trigger.update(model, event) {
                self.reason.get_or_insert(fired.what);
            }
        }
    }

    /// Why to save now, if there is a reason; told once.
    pub(crate) fn reason(&mut self) -> Option<String> {
        self.reason.take()
    }

    /// Runs the command for a capture that is whole. What it has to say goes where ours does.
    pub(crate) fn noticed(&mut self, notice: &Notice) {
        match notice {
            Notice::Saving { why, .. } => self.why.clone_from(why),
            Notice::Saved { path, .. } => {
                let Some(run) = &self.run else { return };
                let started = Command::new("sh")
                    .args(["-c", run])
                    .env("DSASCOPE_CAPTURE", path)
                    .env("DSASCOPE_TRIGGER", &self.why)
                    .stdin(Stdio::null())
                    .spawn();
                if let Err(error) = started {
                    eprintln!("dsascope: run {run}: {error}");
                }
            }
            _ => {}
        }
    }
}

/// Starts the command, with the privileges that dsascope is about to give up: it is the user's, not ours.
pub(crate) fn spawn(words: &[String]) -> Result<Option<Child>, Failure> {
    let Some((program, arguments)) = words.split_first() else { return Ok(None) };
    Command::new(program).args(arguments).stdin(Stdio::inherit()).spawn().map(Some).map_err(|error| {
        Failure::new(
            Code::Failure,
            format!("run {program}: {error}"),
            "give a command that can be run after `--`",
        )
    })
}

/// The command's exit code as a shell gives it.
pub(crate) fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Shows how far the recording is, on a terminal; and at the end what was seen.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: stderr().is_terminal(), shown: false }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}

impl Consumer for Progress {
    fn event(&mut self, _model: &Model, event: &Event) -> Result<()> {
        if let Event::Session(session) = event {
            eprintln!("{}", text::session(session));
        }
        Ok(())
    }

    fn interval(&mut self, model: &mut Model) -> Result<()> {
        if self.terminal {
            let header = model.header();
            let time = optional_duration(&Theme::PLAIN, header.uptime_ns);
            let lost = model.ledger().lost();
            eprint!(
                "\r\x1b[Krecording: {time}, {} faults, {} failed, {lost} lost",
                header.faults, header.failures
            );
            stderr().flush().context("write to stderr")?;
            self.shown = true;
        }
        Ok(())
    }

    fn is_on_terminal(&self) -> bool {
        self.terminal
    }

    fn end(&mut self, model: &mut Model, _until_ns: u64) -> Result<()> {
        self.clear();
        eprintln!("{}", text::summary(model, &Selection::default()));
        Ok(())
    }
}

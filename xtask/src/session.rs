//! A booted guest: run commands and scenarios in it, read its books, power it off.
//!
//! Owns: the order of a boot, time limits, and the evidence when something stalls (the console's last lines). One guest serves any
//! number of requests, one at a time. Refuses: judging what came back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use dsascope_guest::beside;
use dsascope_guest::protocol::{Frame, PROGRAMS, Reply, Request, Winsize};
use dsascope_guest::scenario::{DeviceKind, Scenario};
use dsascope_testbed::{Socket, Testbed};

use crate::binaries::{self, AGENT};
use crate::cache::Cache;
use crate::cleanup::RunDirectory;
use crate::control::{Control, Listener, Sender, Silence};
use crate::devices::{self, Address};
use crate::kernel::Kernel;
use crate::machine::{Boot, Machine, Process};
use crate::progress::say;
use crate::qemu::Qemu;
use crate::rootfs::{self, Extra};

/// From QEMU's start to the agent's first word; a slow machine under load needs tens of seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// From the request to power off to QEMU's end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(60);
/// On top of a scenario's own limit: configuration, the tracer's start and end, the files' way out.
const SCENARIO_SLACK: Duration = Duration::from_secs(240);
/// Console lines shown with an error.
const LAST_LINES: usize = 30;
/// Console of the guest, in the output directory.
const CONSOLE: &str = "console.log";
const TRUTH: &str = "truth.jsonl";

/// Where the kernel comes from.
#[derive(Clone, Debug)]
pub enum KernelSource {
    /// A version or a prefix of one.
    Version(String),
    Files {
        image: PathBuf,
        modules: PathBuf,
    },
}

/// The guest that is wanted.
#[derive(Clone, Debug)]
pub struct Settings {
    pub kernel: KernelSource,
    pub qemu: Option<PathBuf>,
    pub cpus: u32,
    pub memory_mib: u32,
    /// By their numbers.
    pub devices: Vec<DeviceKind>,
    /// MOVDIR64B and ENQCMD work, by a module that taints the kernel.
    pub emulation: bool,
    /// Console, truth log and what else a run leaves; nothing is kept without it.
    pub out: Option<PathBuf>,
    pub files: Vec<Extra>,
}

/// How long each part of a boot took.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// Files, programs and initramfs.
    pub prepare: Duration,
    /// From QEMU's start to the agent's first word.
    pub boot: Duration,
}

/// Where a chunk of output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A command for the guest.
#[derive(Clone, Debug)]
pub struct Command {
    pub argv: Vec<String>,
    /// On a terminal of this size, or without one.
    pub tty: Option<Winsize>,
    pub limit: Option<Duration>,
}

/// A command's end, its output collected.
#[derive(Clone, Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// A scenario's end.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Zero when the scenario ran to its end, whatever it found.
    pub code: i32,
    /// The reports by name; see `dsascope_guest::report`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What the agent said meanwhile.
    pub said: String,
}

/// The kernel died of a breakpoint of its own. It changes its code while other CPUs run it, by a breakpoint in its place meanwhile, at boot and wherever
/// a program is attached; an emulated CPU may still meet that one when the change is over and nobody knows it any more. Once in some hundred boots,
/// and nothing that ran in the guest has a part in it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Torn(String);

/// A running guest; gone when dropped.
#[derive(Debug)]
pub struct Guest {
    // The order of fields is the order of their end: QEMU, its devices, their directory.
    process: Process,
    control: Control,
    testbed: Testbed,
    run: RunDirectory,
    outputs: PathBuf,
    /// As the guest's `uname -r` says it.
    pub kernel: String,
    /// As the settings had it.
    pub emulation: bool,
    pub timings: Timings,
}

/// What a boot is made of, all there.
#[derive(Debug)]
struct Files {
    qemu: Qemu,
    kernel: Kernel,
    initramfs: Vec<u8>,
    prepare: Duration,
}

/// How a start went.
enum Started {
    Up(Box<Guest>),
    /// The VT-d unit is not where the DMAR table said.
    Moved(Address),
    /// The emulator stopped in the middle, as it does once in some hundred boots: without a word, or see [`Torn`].
    Stuck(Error),
}

impl Settings {
    /// The usual guest with a kernel by version.
    pub fn with_kernel(version: &str) -> Self {
        Self {
            kernel: KernelSource::Version(version.to_owned()),
            qemu: None,
            cpus: 2,
            memory_mib: 1024,
            devices: vec![DeviceKind::Dsa],
            emulation: false,
            out: None,
            files: Vec::new(),
        }
    }
}

impl Guest {
    /// Fetches what is missing, builds what has changed, boots, and waits for the agent.
    pub fn boot(settings: &Settings) -> Result<Self> {
        let started = Instant::now();
        let cache = Cache::open()?;
        let qemu = Qemu::provide(&cache, settings.qemu.as_deref())?;
        let kernel = match &settings.kernel {
            KernelSource::Version(version) => Kernel::provide(&cache, version)?,
            KernelSource::Files { image, modules } => Kernel::from_files(image, modules)?,
        };
        let initramfs =
            rootfs::build(&binaries::build()?, &kernel.modules, settings.emulation, &settings.files)?;
        let prepare = started.elapsed();
        let files = Files { qemu, kernel, initramfs, prepare };
        let mut went = Self::start(settings, &cache, &files)?;
        if let Started::Moved(address) = &went {
            say("the firmware put the VT-d unit elsewhere than last time; starting again");
            address.forget()?;
            went = Self::start(settings, &cache, &files)?;
        } else if let Started::Stuck(error) = &went {
            say(format!("{error:#}; starting again"));
            went = Self::start(settings, &cache, &files)?;
        }
        match went {
            Started::Up(guest) => Ok(*guest),
            Started::Moved(_) => bail!("the firmware puts the VT-d unit elsewhere at each start"),
            Started::Stuck(error) => Err(error),
        }
    }

    /// One boot.
    fn start(settings: &Settings, cache: &Cache, files: &Files) -> Result<Started> {
        let run = RunDirectory::create()?;
        let testbed = devices::start(run.path(), &settings.devices)?;
        let outputs = match &settings.out {
            Some(out) => {
                fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
                fs::canonicalize(out).with_context(|| format!("cannot resolve {}", out.display()))?
            }
            None => run.path().to_owned(),
        };
        let mut machine = Machine {
            cpus: settings.cpus,
            memory_mib: settings.memory_mib,
            devices: testbed.sockets().iter().map(Socket::device_option).collect(),
            messages: testbed.message_options(),
            control: run.path().join("control"),
            console: outputs.join(CONSOLE),
            boot: None,
        };
        let address = Address::new(cache, &files.qemu, &machine);
        let base = address.learn(&files.qemu, &machine, &testbed, run.path())?;
        let boot = Boot {
            kernel: files.kernel.image.clone(),
            initrd: run.path().join("initrd"),
            dmar: run.path().join("dmar"),
        };
        devices::write_dmar(&boot.dmar, base)?;
        fs::write(&boot.initrd, &files.initramfs)
            .with_context(|| format!("cannot write {}", boot.initrd.display()))?;
        machine.boot = Some(boot);

        let started = Instant::now();
        let deadline = started + BOOT_LIMIT;
        let listener = Listener::bind(&machine.control)?;
        let mut process = machine.start(&files.qemu, &run.path().join("qemu.log"))?;
        let control = listener.accept(BOOT_LIMIT, || match process.ended()? {
            Some(status) => bail!("QEMU ended at its start ({status}): {}", process.last_words()),
            None => Ok(()),
        })?;
        let timings = Timings { prepare: files.prepare, boot: Duration::ZERO };
        let kernel = files.kernel.name.clone();
        let emulation = settings.emulation;
        let mut guest = Self { process, control, testbed, run, outputs, kernel, emulation, timings };
        loop {
            let glance = Instant::now() + Duration::from_millis(100);
            match guest.control.receive(Some(glance.min(deadline))) {
                Ok(Frame::Reply(Reply::Ready { kernel, .. })) => {
                    guest.kernel = kernel;
                    guest.timings.boot = started.elapsed();
                    return Ok(Started::Up(Box::new(guest)));
                }
                Ok(other) => return Err(guest.unexpected(&other)),
                Err(Silence::Late) if Instant::now() < deadline => {}
                Err(silence) => {
                    let late = matches!(silence, Silence::Late);
                    let error = guest.silent("boot", BOOT_LIMIT, silence);
                    let stuck = late || error.is::<Torn>();
                    return if stuck { Ok(Started::Stuck(error)) } else { Err(error) };
                }
            }
            if guest.testbed.vtd_base().is_some_and(|actual| actual != base) {
                return Ok(Started::Moved(address));
            }
        }
    }

    /// Runs a command, giving its output to `sink` as it comes; the exit code is the result. `started` is given the input's
    /// handle once the guest has the request.
    pub fn exec<T>(
        &mut self,
        command: &Command,
        started: impl FnOnce(Sender) -> Result<T>,
        sink: &mut dyn FnMut(Stream, &[u8]) -> Result<()>,
    ) -> Result<i32> {
        let mut env = Vec::new();
        // What this terminal can show; without a terminal its name means nothing.
        for name in ["TERM", "COLORTERM", "NO_COLOR", "LC_ALL", "LC_CTYPE", "LANG"] {
            env.extend(
                std::env::var(name)
                    .ok()
                    .filter(|_| command.tty.is_some())
                    .map(|value| (name.to_owned(), value)),
            );
        }
        let what = command.argv.join(" ");
        self.send(Request::Exec { argv: command.argv.clone(), env, tty: command.tty })?;
        // Kept until the command ends: what forwards keys stops when it is dropped.
        let _forwarding = started(self.control.sender())?;
        let deadline = command.limit.map(|limit| Instant::now() + limit);
        loop {
            match self.next(&what, command.limit, deadline)? {
                Frame::Stdout(bytes) => sink(Stream::Stdout, &bytes)?,
                Frame::Stderr(bytes) => sink(Stream::Stderr, &bytes)?,
                Frame::Reply(Reply::Done { code }) => return Ok(code),
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Runs a command without input and collects its output.
    pub fn run(&mut self, argv: &[&str], limit: Duration) -> Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let argv = argv.iter().map(ToString::to_string).collect();
        let command = Command { argv, tty: None, limit: Some(limit) };
        let code = self.exec(
            &command,
            |input| input.send(&Frame::Stdin(Vec::new())).context("cannot end the input"),
            &mut |stream, bytes| {
                match stream {
                    Stream::Stdout => stdout.extend_from_slice(bytes),
                    Stream::Stderr => stderr.extend_from_slice(bytes),
                }
                Ok(())
            },
        )?;
        Ok(Output { code, stdout, stderr })
    }

    /// Runs a scenario, under the tracer (path and arguments) when there is one, and collects the reports. The truth log gets a mark
    /// with the scenario's name before it.
    pub fn scenario(&mut self, scenario: &Scenario, tracer: Option<&[String]>) -> Result<Outcome> {
        let limit = Duration::from_secs(u64::from(scenario.timeout_s)) + SCENARIO_SLACK;
        let what = format!("scenario {}", scenario.name);
        self.mark(&scenario.name)?;
        devices::follow(&self.testbed, scenario)?;
        self.send(Request::Scenario {
            scenario: Box::new(scenario.clone()),
            tracer: tracer.map(<[String]>::to_vec),
        })?;
        let deadline = Some(Instant::now() + limit);
        let mut outcome = Outcome { code: 0, files: BTreeMap::new(), said: String::new() };
        let mut file: Option<(String, u64)> = None;
        loop {
            match (self.next(&what, Some(limit), deadline)?, &mut file) {
                (Frame::Stdout(bytes) | Frame::Stderr(bytes), _) => {
                    outcome.said += &String::from_utf8_lossy(&bytes);
                }
                (Frame::Reply(Reply::File { name, bytes }), None) => {
                    outcome.files.insert(name.clone(), Vec::new());
                    file = (bytes > 0).then_some((name, bytes));
                }
                (Frame::FileData(bytes), Some((name, left))) => {
                    *left = left
                        .checked_sub(bytes.len() as u64)
                        .with_context(|| format!("the guest sent more of {name} than it said"))?;
                    outcome.files.entry(name.clone()).or_default().extend_from_slice(&bytes);
                    if *left == 0 {
                        file = None;
                    }
                }
                (Frame::Reply(Reply::Done { code }), None) => {
                    outcome.code = code;
                    return Ok(outcome);
                }
                (other, _) => return Err(self.unexpected(&other)),
            }
        }
    }

    /// Runs commands on a scenario's work queues, under a tracer when there is one; the devices do what the scenario says.
    pub fn beside(&mut self, order: &beside::Order, limit: Duration) -> Result<beside::Ran> {
        self.mark(&order.scenario.name)?;
        devices::follow(&self.testbed, &order.scenario)?;
        let text = serde_json::to_string(order).context("cannot write down the commands")?;
        let output = self.run(&[&format!("{PROGRAMS}/{AGENT}"), "beside", &text], limit)?;
        if output.code != 0 {
            bail!("{}: {}", order.scenario.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("the guest says nonsense of its commands")
    }

    /// The bytes of a file of the guest.
    pub fn file(&mut self, path: &str, limit: Duration) -> Result<Vec<u8>> {
        let output = self.run(&[&format!("{PROGRAMS}/{AGENT}"), "read", path], limit)?;
        ensure!(output.code == 0, "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(output.stdout)
    }

    /// Puts a line of text into the truth log.
    pub fn mark(&self, text: &str) -> Result<()> {
        self.testbed.truth().mark(text).context("cannot write the truth log")
    }

    /// The truth log's file, complete up to now.
    pub fn truth(&self) -> Result<&Path> {
        self.testbed.truth().flush().context("cannot write the truth log")?;
        Ok(self.testbed.truth_path())
    }

    /// Everything the guest wrote to its console.
    pub fn console(&self) -> String {
        fs::read(self.outputs.join(CONSOLE)).map(|bytes| readable(&bytes)).unwrap_or_default()
    }

    /// Powers the guest off, waits for QEMU's end and completes the truth log; a copy of it stays in the output directory, and in
    /// `truth` when given.
    pub fn shutdown(mut self, truth: Option<&Path>) -> Result<()> {
        self.send(Request::Shutdown)?;
        if !self.process.wait(SHUTDOWN_LIMIT)? {
            bail!("the guest did not power off within {} s{}", SHUTDOWN_LIMIT.as_secs(), self.tail());
        }
        self.testbed.stop().context("cannot complete the truth log")?;
        let kept = self.outputs.join(TRUTH);
        let copies = [(self.outputs != self.run.path()).then_some(kept.as_path()), truth];
        for copy in copies.into_iter().flatten() {
            fs::copy(self.testbed.truth_path(), copy)
                .with_context(|| format!("cannot write {}", copy.display()))?;
        }
        Ok(())
    }

    fn send(&mut self, request: Request) -> Result<()> {
        let sent = self.control.sender().send(&Frame::Request(request));
        sent.map_err(|error| self.silent("take a request", BOOT_LIMIT, Silence::Broken(error)))
    }

    fn next(&mut self, what: &str, limit: Option<Duration>, deadline: Option<Instant>) -> Result<Frame> {
        self.control
            .receive(deadline)
            .map_err(|silence| self.silent(&format!("finish {what}"), limit.unwrap_or_default(), silence))
    }

    /// The error for a guest that says nothing more, with the evidence.
    fn silent(&mut self, what: &str, limit: Duration, silence: Silence) -> Error {
        let reason = match silence {
            Silence::Late => format!("the guest did not {what} within {} s", limit.as_secs()),
            Silence::Broken(error) => {
                // The port closes just before QEMU ends.
                let ended = self.process.wait(Duration::from_secs(2)).unwrap_or(false);
                let words = self.process.last_words();
                match (ended, words.is_empty()) {
                    (true, true) => format!("the guest ended before it could {what}"),
                    (true, false) => format!("QEMU ended before the guest could {what}: {words}"),
                    (false, _) => format!("the guest's control port broke ({error}) before it could {what}"),
                }
            }
        };
        let words = format!("{reason}{}", self.tail());
        if is_torn(&self.console()) { Torn(words).into() } else { anyhow!(words) }
    }

    fn unexpected(&self, frame: &Frame) -> Error {
        let kind = match frame {
            Frame::Reply(reply) => format!("{reply:?}"),
            Frame::Request(_) | Frame::Stdin(_) | Frame::Resize(_) => "a frame of the host's own".to_owned(),
            Frame::Stdout(bytes) | Frame::Stderr(bytes) | Frame::FileData(bytes) => {
                format!("{} bytes", bytes.len())
            }
        };
        anyhow!("the guest broke the protocol: it sent {kind} out of turn{}", self.tail())
    }

    fn tail(&self) -> String {
        let console = self.console();
        let lines: Vec<_> = console.lines().filter(|line| !line.trim().is_empty()).collect();
        if lines.is_empty() {
            return "; its console is empty".to_owned();
        }
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n  ");
        format!("; its console's last lines:\n  {last}")
    }
}

/// Whether the kernel died as [`Torn`] says.
fn is_torn(console: &str) -> bool {
    console.contains("int3: 0000") && console.contains("Kernel panic - not syncing")
}

/// Console bytes without the firmware's terminal control sequences.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            // `ESC [ ... letter`, or ESC and one character.
            '\x1b' => {
                if characters.next() == Some('[') {
                    let _ = characters.find(char::is_ascii_alphabetic);
                }
            }
            '\n' | '\t' => plain.push(character),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_breakpoint_that_nobody_knows_is_torn_code() {
        let died = |of: &str| {
            format!(
                "[    1.7] {of}: 0000 [#1] PREEMPT SMP\n[    1.7] Kernel panic - not syncing: Fatal exception"
            )
        };
        assert!(is_torn(&died("int3")));
        assert!(is_torn(&died("Oops: int3")));
        assert!(!is_torn(&died("Oops: general protection fault")));
        assert!(!is_torn("[    1.7] int3: 0000 [#1] PREEMPT SMP"), "it went on");
    }

    #[test]
    fn console_text_is_readable() {
        assert_eq!(readable(b"\x1bc\x1b[?7l\x1b[2J[    0.1] up\r\n\tok\x07"), "[    0.1] up\n\tok");
    }
}

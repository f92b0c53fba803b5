//! dsascope beside the processes: started, awaited, interrupted or killed, measured.
//!
//! Owns: its life and what it cost. Refuses: reading its output, beyond the first complete line that says it is attached.

use std::{
    fs::{self, File},
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use dsascope_guest::{
    report::{TRACER_STDERR, TRACER_STDOUT, TracerReport},
    scenario,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, SysconfVar, sysconf},
};

use super::kernel::bpf_programs;

/// An emulated machine beside others verifies programs slowly.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Programs go when the last reference does, which the kernel puts off a little.
const DETACH_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Tracer {
    child: Child,
    argv: Vec<String>,
    out: PathBuf,
    ready: Instant,
    /// Set when this run has killed it.
    ended: bool,
    report: TracerReport,
}

impl Tracer {
    /// Starts it and waits until it says that it is attached.
    pub(crate) fn start(argv: &[String], options: &scenario::Tracer, out: &Path) -> anyhow::Result<Self> {
        let mut argv = argv.to_vec();
        if let Some(bytes) = options.ring_bytes {
            argv.extend(["--ring-size".into(), bytes.to_string()]);
        }
        if let Some(rate) = options.storm_per_s {
            argv.extend(["--storm-rate".into(), rate.to_string()]);
        }
        if options.submitters {
            argv.extend(["--submitter".into(), "auto".into()]);
        }
        Self::attach(argv, out, (TRACER_STDOUT, TRACER_STDERR))
    }

    fn attach(argv: Vec<String>, out: &Path, names: (&str, &str)) -> anyhow::Result<Self> {
        let bpf_programs_before = bpf_programs();
        let (stdout, stderr) = (out.join(names.0), out.join(names.1));
        let create = |path: &Path| File::create(path).with_context(|| format!("creating {}", path.display()));
        let (program, arguments) = argv.split_first().context("the tracer's command is empty")?;
        let begin = Instant::now();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?)
            .spawn()
            .with_context(|| format!("starting the tracer {program}"))?;
        if let Err(error) = wait_for_line(&mut child, &stdout) {
            let _ = child.kill();
            let _ = child.wait();
            let said = fs::read_to_string(&stderr).unwrap_or_default();
            return Err(error.context(format!("the tracer said: {}", said.trim())));
        }
        let report = TracerReport {
            argv: argv.clone(),
            ready_ms: Some(begin.elapsed().as_millis() as u64),
            cpu_until_ready_ms: cpu_ms(child.id()).unwrap_or_default(),
            bpf_programs_before,
            bpf_programs_attached: bpf_programs(),
            ..TracerReport::default()
        };
        Ok(Self { child, argv, out: out.into(), ready: Instant::now(), ended: false, report })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Keeps it from running for a while.
    pub(crate) fn stall(&self, time: Duration) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGSTOP).context("stopping the tracer")?;
        thread::sleep(time);
        kill(pid, Signal::SIGCONT).context("continuing the tracer")
    }

    /// SIGKILL, at once.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.measure();
        self.child.kill().context("killing the tracer")?;
        let status = self.child.wait().context("waiting for the killed tracer")?;
        self.report.killed = true;
        self.ended(status);
        Ok(())
    }

    /// Interrupts it (unless it was killed: then a second one is started and stopped) and says how it went.
    pub(crate) fn stop(mut self) -> anyhow::Result<TracerReport> {
        if self.ended {
            let second = Self::attach(self.argv.clone(), &self.out, ("second.stdout", "second.stderr"))
                .context("starting the tracer again after it was killed")?;
            self.report.second = Some(Box::new(second.stop()?));
            return Ok(std::mem::take(&mut self.report));
        }
        self.measure();
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).context("interrupting the tracer")?;
        let begin = Instant::now();
        let status = loop {
            match self.child.try_wait().context("waiting for the tracer")? {
                Some(status) => break status,
                None if begin.elapsed() > STOP_TIMEOUT => {
                    eprintln!("the tracer did not end within {} s of SIGINT", STOP_TIMEOUT.as_secs());
                    self.child.kill().context("killing the tracer")?;
                    break self.child.wait().context("waiting for the tracer")?;
                }
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        self.ended(status);
        Ok(std::mem::take(&mut self.report))
    }

    /// What can be read only while it lives.
    fn measure(&mut self) {
        let id = self.child.id();
        self.report.attached_ms = self.ready.elapsed().as_millis() as u64;
        self.report.peak_rss_kib = peak_rss_kib(id).unwrap_or_default();
        let cpu = cpu_ms(id).unwrap_or_default();
        self.report.cpu_while_attached_ms = cpu.saturating_sub(self.report.cpu_until_ready_ms);
    }

    fn ended(&mut self, status: ExitStatus) {
        self.ended = true;
        self.report.code = status.code().unwrap_or(128 + status.signal().unwrap_or_default());
        let begin = Instant::now();
        self.report.bpf_programs_after = loop {
            let programs = bpf_programs();
            if programs <= self.report.bpf_programs_before || begin.elapsed() > DETACH_TIMEOUT {
                break programs;
            }
            thread::sleep(Duration::from_millis(20));
        };
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn wait_for_line(child: &mut Child, stdout: &Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let text = fs::read(stdout).with_context(|| format!("reading {}", stdout.display()))?;
        if text.contains(&b'\n') {
            return Ok(());
        }
        if let Some(status) = child.try_wait().context("waiting for the tracer")? {
            bail!("the tracer ended before it was attached ({status})");
        }
        if begin.elapsed() > READY_TIMEOUT {
            bail!("the tracer did not say within {} s that it is attached", READY_TIMEOUT.as_secs());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn peak_rss_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// User and system time of all threads.
fn cpu_ms(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command name may hold spaces; what follows its closing bracket does not. Fields 14 and 15 of the whole line.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100).max(1) as u64;
    Ok(ticks * 1000 / per_second)
}

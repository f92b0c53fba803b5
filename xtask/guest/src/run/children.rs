//! The scenario's processes: started together, watched, and asked what they did.
//!
//! Owns: the pipe talk with each (a line of configuration, `ready`, `go`, a line of results). Refuses: submitting anything itself.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use dsascope_guest::{
    report::{FileCounters, ProcessReport},
    scenario::{Process, Scenario},
};

use super::configure;
use crate::workload::{Order, READY, Results};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const CGROUPS: &str = "/sys/fs/cgroup";

/// A line of a process' output; `None`: it has ended.
type Line = (usize, Option<String>);

pub(crate) struct Children {
    all: Vec<(Process, Child, Option<ChildStdin>)>,
    lines: Receiver<Line>,
}

impl Children {
    /// Starts all and waits until each has its WQ open and its memory prepared.
    pub(crate) fn start(scenario: &Scenario, forever: bool) -> anyhow::Result<Self> {
        let (sender, lines) = channel();
        let mut children = Self { all: Vec::new(), lines };
        for (index, process) in scenario.processes.iter().enumerate() {
            let what = || format!("starting process {}", process.name);
            let device = scenario.device(&process.device).with_context(what)?;
            let number = device.number().with_context(what)?;
            let order = Order {
                process: process.clone(),
                work_queue: device.work_queue(process.work_queue).with_context(what)?.clone(),
                kind: device.kind,
                node: configure::node(device.kind, number, process.work_queue),
                name: crate::sysfs::wq_name(number, process.work_queue),
                forever,
            };
            let mut child = Command::new(env::current_exe().with_context(what)?)
                .arg("process")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(what)?;
            let stdout = child.stdout.take().with_context(what)?;
            let stdin = child.stdin.take();
            children.all.push((process.clone(), child, stdin));
            if let Some(cgroup) = &process.cgroup {
                join_cgroup(cgroup, children.all[index].1.id()).with_context(what)?;
            }
            children.tell(index, &serde_json::to_string(&order).with_context(what)?)?;
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if sender.send((index, Some(line))).is_err() {
                        return;
                    }
                }
                let _ = sender.send((index, None));
            });
        }
        children.wait_until_ready()?;
        Ok(children)
    }

    fn tell(&mut self, index: usize, line: &str) -> anyhow::Result<()> {
        let (process, _, stdin) = &mut self.all[index];
        let what = || format!("talking to process {}", process.name);
        let stdin = stdin.as_mut().with_context(what)?;
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).with_context(what)
    }

    fn wait_until_ready(&self) -> anyhow::Result<()> {
        let begin = Instant::now();
        for _ in &self.all {
            let (index, line) = match self.lines.recv_timeout(START_TIMEOUT.saturating_sub(begin.elapsed())) {
                Ok(line) => line,
                Err(_) => bail!("not every process was ready within {} s", START_TIMEOUT.as_secs()),
            };
            match line {
                Some(line) if line == READY => {}
                Some(line) => {
                    bail!("process {} could not start: {}", self.all[index].0.name, error_of(&line))
                }
                None => bail!("process {} ended before it was ready", self.all[index].0.name),
            }
        }
        Ok(())
    }

    pub(crate) fn go(&mut self) -> anyhow::Result<()> {
        (0..self.all.len()).try_for_each(|index| self.tell(index, "go"))
    }

    /// Lets processes that go on for ever finish what is outstanding; kills those that do not within `patience`.
    pub(crate) fn stop(mut self, patience: Duration) {
        self.all.iter_mut().for_each(|(_, _, stdin)| *stdin = None);
        self.collect(Some(patience));
    }

    /// Waits for all to end; those that do not within `timeout` are killed.
    pub(crate) fn collect(mut self, timeout: Option<Duration>) -> (Vec<ProcessReport>, Vec<FileCounters>) {
        let begin = Instant::now();
        let mut results: Vec<Option<Results>> = vec![None; self.all.len()];
        let mut running = self.all.len();
        let mut late = false;
        while running > 0 {
            let left = timeout.map_or(Duration::from_secs(3600), |t| t.saturating_sub(begin.elapsed()));
            match self.lines.recv_timeout(if late { START_TIMEOUT } else { left }) {
                Ok((_, None)) => running -= 1,
                Ok((index, Some(line))) => match serde_json::from_str(&line) {
                    Ok(result) => results[index] = Some(result),
                    Err(error) => eprintln!("process {} reports nonsense: {error}", self.all[index].0.name),
                },
                Err(RecvTimeoutError::Timeout) if timeout.is_none() => {}
                Err(_) if late => break,
                Err(_) => {
                    late = true;
                    self.all.iter_mut().for_each(|(_, child, _)| drop(child.kill()));
                }
            }
        }
        let (mut reports, mut files) = (Vec::new(), Vec::new());
        for ((process, child, _), result) in self.all.iter_mut().zip(results) {
            let status = child.wait();
            let mut result = result.unwrap_or_else(|| Results::none(process, child.id()));
            if late && result.report.error.is_none() {
                result.report.error = Some(format!("killed: the run's time was over ({status:?})"));
            }
            reports.push(result.report);
            files.append(&mut result.files);
        }
        (reports, files)
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child, _) in &mut self.all {
            if let Ok(None) = child.try_wait() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// What a line of results says went wrong, or the line.
fn error_of(line: &str) -> String {
    let result: Option<Results> = serde_json::from_str(line).ok();
    result.and_then(|r| r.report.error).unwrap_or_else(|| line.to_owned())
}

fn join_cgroup(cgroup: &str, pid: u32) -> anyhow::Result<()> {
    let path = Path::new(CGROUPS).join(cgroup);
    fs::create_dir_all(&path).with_context(|| format!("making cgroup {cgroup}"))?;
    crate::sysfs::write(&path.join("cgroup.procs"), &pid.to_string())
}

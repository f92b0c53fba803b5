//! Runs a scenario: configures the devices, attaches the tracer, lets the processes work, collects the books.
//!
//! Owns: the order of these. Refuses: judging beyond the scenario's own expectations; the host compares the books.

pub(crate) mod beside;
pub(crate) mod demo;
pub(crate) mod reconfigure;

mod children;
mod configure;
mod kernel;
mod tracer;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use dsascope_guest::{
    report::{self, Report, differences},
    scenario::Scenario,
};
use serde::Serialize;

use self::{children::Children, kernel::KernelLog, tracer::Tracer};

/// How long closed files may take to go.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Where the reports go; nowhere without it.
    pub(crate) out: Option<PathBuf>,
    /// Processes go on until they are killed.
    pub(crate) forever: bool,
    /// Command and arguments.
    pub(crate) tracer: Vec<String>,
}

/// Reads a scenario: JSON by its extension, else TOML.
pub(crate) fn load(path: &Path) -> anyhow::Result<Scenario> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let scenario = if path.extension().is_some_and(|e| e == "json") {
        let scenario: Scenario =
            serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        scenario.validate()?;
        scenario
    } else {
        Scenario::parse(&text)?
    };
    Ok(scenario)
}

/// The code is 0 when the run agrees with the scenario's expectations.
pub(crate) fn run(scenario: &Scenario, options: &Options) -> anyhow::Result<i32> {
    let mut kernel = KernelLog::begin(scenario)?;
    configure::configure(scenario)?;
    let out = options.out.as_deref().unwrap_or(Path::new("/tmp"));
    let mut tracer = match options.tracer.as_slice() {
        [] => None,
        argv => Some(Tracer::start(argv, &scenario.tracer, out)?),
    };
    let mut children = Children::start(scenario, options.forever)?;
    children.go()?;
    let stall = scenario.tracer.stall_ms.map(|ms| Duration::from_millis(ms.into()));
    if let (Some(tracer), Some(stall)) = (&tracer, stall) {
        tracer.stall(stall)?;
    }
    let kill_after = scenario.tracer.kill_after_ms.map(|ms| Duration::from_millis(ms.into()));
    if let (Some(tracer), Some(after)) = (&mut tracer, kill_after) {
        thread::sleep(after);
        tracer.kill()?;
    }
    let (processes, sysfs) = children.collect(if options.forever {
        None
    } else {
        Some(Duration::from_secs(scenario.timeout_s.into()))
    });
    wait_for_releases(scenario)?;
    let tracer = tracer.map(Tracer::stop).transpose()?;
    let report = Report { processes, sysfs, kernel: kernel.end()?, tracer };
    if let Some(out) = &options.out {
        write_reports(out, &report)?;
    }
    let differences = differences(scenario, &report);
    for line in &differences {
        eprintln!("{}: {line}", scenario.name);
    }
    Ok(i32::from(!differences.is_empty()))
}

fn wait_for_releases(scenario: &Scenario) -> anyhow::Result<()> {
    let begin = Instant::now();
    loop {
        let open: Vec<_> =
            scenario.processes.iter().flat_map(|p| configure::open_files_of(scenario, p)).collect();
        if open.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > RELEASE_TIMEOUT {
            anyhow::bail!(
                "the driver still holds {} after {} s",
                open[0].display(),
                RELEASE_TIMEOUT.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn write_reports(out: &Path, report: &Report) -> anyhow::Result<()> {
    write_json(&out.join(report::PROCESSES), &report.processes)?;
    write_json(&out.join(report::SYSFS), &report.sysfs)?;
    write_json(&out.join(report::KERNEL), &report.kernel)?;
    if let Some(tracer) = &report.tracer {
        write_json(&out.join(report::TRACER), tracer)?;
    }
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let what = || format!("writing {}", path.display());
    let bytes = serde_json::to_vec_pretty(value).with_context(what)?;
    fs::write(path, bytes).with_context(what)
}

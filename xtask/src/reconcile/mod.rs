//! `cargo xtask reconcile`: scenarios under dsascope, and three books held against each other: the devices' truth log, what dsascope
//! reports, the driver's counters. The processes' own account is a fourth.
//!
//! Owns: the runs, one boot a kernel, and the exit code. Refuses: knowing the rules ([`compare`]) or the formats ([`books`]).

mod batches;
pub mod books;
pub mod compare;
mod deep;
pub mod driver;
mod findings;
mod missed;
pub mod observed;
mod pages;
pub mod table;
#[cfg(test)]
mod tests;
mod workload;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use dsascope_guest::protocol::PROGRAMS;
use dsascope_guest::scenario::{Scenario, random};
use serde::{Deserialize, Serialize};

use self::books::Books;
use self::compare::{Comparison, Difference, Rule};
use self::observed::Observed;
use crate::binaries::TRACER;
use crate::cli::OwnFiles;
use crate::guest;
use crate::progress::say;
use crate::session::{Guest, Settings};
use crate::test;
use crate::version::SUPPORTED;

/// Scenarios with fewer faults are compared entry by entry.
const DEEP_BELOW_FAULTS: u64 = 2_000;

#[derive(Args, Debug)]
pub struct Arguments {
    /// Kernel version, or a prefix of one for the newest there is; may be given several times
    #[arg(long, value_name = "VERSION", default_values_t = [SUPPORTED[0].to_owned()])]
    pub kernel: Vec<String>,
    /// A scenario to run; may be given several times. Without it and without a seed: all in xtask/scenarios
    #[arg(long, value_name = "FILE")]
    pub scenario: Vec<PathBuf>,
    /// Random valid scenarios made from this number, or from each from A to before B; may be given several times
    #[arg(long, value_name = "N|A..B", value_parser = Seeds::parse)]
    pub seed: Vec<Seeds>,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// How dsascope attaches
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    pub attach: Attach,
    /// dsascope's ring in bytes, in place of the scenario's
    #[arg(long, value_name = "BYTES")]
    pub ring_size: Option<u32>,
    /// Number of CPUs of the guest
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// Compare the bytes of each event-log entry: auto does so below 2,000 faults
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub deep: Deep,
    /// Keep console, truth log and each scenario's reports in this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A qemu-system-x86_64 of version 10.1 or newer; otherwise PATH's, otherwise Debian's
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<PathBuf>,
}

/// dsascope's `--attach`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    #[default]
    Auto,
    Fentry,
    Kprobe,
    Tracepoint,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Deep {
    #[default]
    Auto,
    Always,
    Never,
}

/// Seeds from `first` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    first: u64,
    end: u64,
}

/// How dsascope is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub attach: Attach,
    pub ring_bytes: Option<u32>,
    pub deep: Deep,
}

/// A scenario's comparison with its circumstances.
#[derive(Debug, Serialize)]
struct Ran {
    kernel: String,
    scenario: String,
    exact: bool,
    seconds: f64,
    #[serde(flatten)]
    comparison: Comparison,
}

/// All of them, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    attach: Attach,
    cpus: u32,
    exact: usize,
    different: usize,
    scenarios: Vec<Ran>,
}

/// Runs and compares all; the exit code is 1 when anything is different.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let scenarios = arguments.scenarios()?;
    let mut report = Report {
        attach: arguments.attach,
        cpus: arguments.cpus,
        exact: 0,
        different: 0,
        scenarios: Vec::new(),
    };
    for kernel in &arguments.kernel {
        on_kernel(arguments, kernel, &scenarios, &mut report)?;
    }
    report.exact = report.scenarios.iter().filter(|ran| ran.exact).count();
    report.different = report.scenarios.len() - report.exact;
    let counts = format!(
        "{} scenarios, {} exact, {} different",
        report.scenarios.len(),
        report.exact,
        report.different
    );
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
        say(counts);
    } else {
        println!("\n{counts}");
    }
    Ok(u8::from(report.different > 0))
}

/// One boot for all scenarios that can do without the emulation of instructions, which taints the kernel, one for those that cannot,
/// and another one after each that could not be run: it may have left the guest in any state.
fn on_kernel(arguments: &Arguments, kernel: &str, scenarios: &[Scenario], report: &mut Report) -> Result<()> {
    let mut settings = Settings {
        qemu: arguments.qemu.clone(),
        cpus: arguments.cpus,
        devices: guest::devices(scenarios)?,
        out: arguments.out.as_ref().map(|out| out.join(kernel)),
        kernel: OwnFiles::default().kernel(kernel),
        ..Settings::with_kernel(kernel)
    };
    let options = Options { attach: arguments.attach, ring_bytes: arguments.ring_size, deep: arguments.deep };
    let mut running: Option<Guest> = None;
    let (emulated, plain): (Vec<_>, Vec<_>) =
        scenarios.iter().partition(|scenario| scenario.needs_emulation());
    let mut unseen = None;
    for scenario in plain.into_iter().chain(emulated) {
        settings.emulation = scenario.needs_emulation();
        if let Some(other) = running.take_if(|guest| guest.emulation != settings.emulation) {
            other.shutdown(None)?;
        }
        let mut guest = match running.take() {
            Some(guest) => guest,
            None => boot(&settings, arguments.json)?,
        };
        let started = Instant::now();
        let result = reconcile(&mut guest, scenario, options, settings.out.as_deref());
        let name = guest.kernel.clone();
        let comparison = match result {
            Ok(comparison) => {
                if scenario.needs_new_machine() {
                    guest.shutdown(None)?;
                } else {
                    running = Some(guest);
                }
                comparison
            }
            Err(error) => Comparison {
                differences: vec![Difference { rule: Rule::Expectation, text: format!("{error:#}") }],
                ..Comparison::default()
            },
        };
        let seconds = started.elapsed().as_secs_f64();
        if !arguments.json {
            print!("{}", table::scenario(&scenario.name, seconds, &comparison));
            unseen =
                comparison.observed.as_ref().map(|observed| observed::unseen(&observed.hooks)).or(unseen);
        }
        let exact = comparison.exact();
        report.scenarios.push(Ran {
            kernel: name,
            scenario: scenario.name.clone(),
            exact,
            seconds,
            comparison,
        });
    }
    if let Some(hooks) = unseen.filter(|hooks| !hooks.is_empty()) {
        println!("\nnot seen, attached by {}: {hooks}", arguments.attach.name()?);
    }
    if let Some(guest) = running {
        guest.shutdown(None)?;
    }
    Ok(())
}

fn boot(settings: &Settings, json: bool) -> Result<Guest> {
    let guest = Guest::boot(settings)?;
    let line = format!(
        "kernel {}, {} CPUs, up after {:.1} s",
        guest.kernel,
        settings.cpus,
        guest.timings.boot.as_secs_f64()
    );
    if json {
        say(line);
    } else {
        println!("\n{line}");
    }
    Ok(guest)
}

/// Runs a scenario under dsascope and compares the books.
pub fn reconcile(
    guest: &mut Guest,
    scenario: &Scenario,
    options: Options,
    keep: Option<&std::path::Path>,
) -> Result<Comparison> {
    let faults = scenario.faults();
    let deep = match options.deep {
        Deep::Auto => faults < DEEP_BELOW_FAULTS,
        Deep::Always => true,
        Deep::Never => false,
    };
    let mut scenario = scenario.clone();
    scenario.tracer.ring_bytes = options.ring_bytes.or(scenario.tracer.ring_bytes);
    let command = if deep { "trace" } else { "stat" };
    let attach = options.attach.name()?;
    let mut tracer =
        vec![format!("{PROGRAMS}/{TRACER}"), command.into(), "--json".into(), "--attach".into(), attach];
    if scenario.devices.iter().flat_map(|device| &device.work_queues).any(|wq| wq.page_requests) {
        tracer.push("--page-requests".into());
    }
    let truth = guest.truth()?.to_owned();
    let (_, offset) = books::truth_since(&truth, std::fs::metadata(&truth).map_or(0, |meta| meta.len()))?;
    let outcome = guest.scenario(&scenario, Some(&tracer))?;
    guest::keep(keep, &scenario, &outcome)?;
    guest.truth()?;
    let (lines, _) = books::truth_since(&truth, offset)?;
    let mut books = Books::read(&outcome, &lines, &scenario, deep).map_err(|error| {
        if outcome.said.trim().is_empty() {
            error
        } else {
            anyhow!("{error:#}; the guest said: {}", outcome.said.trim())
        }
    })?;
    books.attach = options.attach;
    let mut comparison = compare::compare(&books);
    if outcome.code != 0 {
        let text = outcome.said.trim().to_owned();
        comparison.differences.push(Difference { rule: Rule::Expectation, text });
    }
    Ok(comparison)
}

/// The books of a scenario are exact: a guest test. What dsascope observed.
pub fn is_exact(guest: &mut Guest, scenario: &Scenario, attach: Attach) -> Result<Option<Observed>> {
    let options = Options { attach, ..Options::default() };
    // What fentry misses is excused as far as it says so, and by no other run.
    let may_again = attach != Attach::Fentry && !scenario.needs_new_machine();
    let skipped = |ran: &Comparison| match &ran.observed {
        Some(observed) if may_again && !ran.exact() => observed.runs_skipped,
        _ => 0,
    };
    let run = || reconcile(guest, scenario, options, None);
    let comparison = observed::at_most_twice(&scenario.name, skipped, run)?;
    ensure!(comparison.exact(), "{}: {}", scenario.name, comparison.all_differences().join("; "));
    let tiny = scenario.tracer.stall_ms.is_some();
    ensure!(!tiny || comparison.records_lost > 0, "{}: the stalled tracer lost nothing", scenario.name);
    Ok(comparison.observed)
}

impl Attach {
    /// As dsascope's flag has it.
    pub fn name(self) -> Result<String> {
        let value = self.to_possible_value().context("an attach type has no name")?;
        Ok(value.get_name().to_owned())
    }
}

impl Arguments {
    fn scenarios(&self) -> Result<Vec<Scenario>> {
        if self.scenario.is_empty() && self.seed.is_empty() {
            return Ok(test::scenarios()?.into_iter().map(|(_, scenario)| scenario).collect());
        }
        let files = self.scenario.iter().map(|path| guest::from_file(path));
        let seeds = self.seed.iter().flat_map(|seeds| seeds.first..seeds.end).map(|seed| Ok(random(seed)));
        files.chain(seeds).collect()
    }
}

impl Seeds {
    /// `N` or `A..B`.
    fn parse(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse::<u64>().with_context(|| format!("{text:?} is not a seed"));
        let seeds = match text.split_once("..") {
            Some((first, end)) => Self { first: number(first)?, end: number(end)? },
            None => {
                let first = number(text)?;
                Self { first, end: first.checked_add(1).context("the seed is too large")? }
            }
        };
        if seeds.first >= seeds.end {
            bail!("{text} holds no seed");
        }
        Ok(seeds)
    }
}

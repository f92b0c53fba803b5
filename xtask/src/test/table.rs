//! The tests that run in a guest, by name.
//!
//! Owns: which there are with each way to attach, and the small ones of them. Refuses: guests; who runs a test gives it one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dsascope_core::findings::FindingKind;
use dsascope_guest::report::{KERNEL, KernelReport, TracerReport};
use dsascope_guest::scenario::{Scenario, random};

use super::report;
use crate::accel_config;
use crate::binaries::TRACER;
use crate::captures;
use crate::devices_test;
use crate::files;
use crate::guest;
use crate::live_view;
use crate::matrix::Row;
use crate::reconcile::{self, Attach, books::Account, observed::Observed};
use crate::session::Guest;
use crate::submissions;

/// For a command that should answer at once, under emulation.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// Their names in the matrix: without the emulation of instructions, and with it.
pub const SEEDS_NAMES: [&str; 2] = ["random", "random, emulated"];

/// Scenarios of each forced way to attach, of every change: they have work for every hook and put each through a load, an exit, a kill and a loss. What
/// the others add is the device's and the driver's business. The matrix and each night have all.
const EVERY_WAY: [&str; 14] = [
    "batches",
    "close-held",
    "drains",
    "event-log-wrap",
    "exit-pending",
    "four-processes-10000",
    "kill-tracer",
    "late-entries",
    "one-fault",
    "page-requests",
    "second-open",
    "shared-write",
    "submission",
    "tiny-ring",
];

/// How many tests there are of one kernel and way to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Of every change.
    Change,
    /// Of the matrix and each night.
    Night,
}

/// A test in a guest. It gets a guest that other tests have used, and leaves one that others can use.
pub(super) struct GuestTest {
    pub(super) name: String,
    /// In a guest whose kernel is tainted by the emulation of instructions.
    pub(super) emulation: bool,
    check: Check,
}

enum Check {
    Fixed(fn(&mut Guest) -> Result<()>),
    /// The scenario's books are exact, however dsascope is attached: what it cannot see so is compared with nothing, and listed.
    Scenario {
        file: String,
        scenario: Box<Scenario>,
        attach: Attach,
    },
    /// The same of those of the first `most` random scenarios that this guest can run, many in one boot.
    Seeds {
        most: u64,
    },
}

/// The guest tests of a kernel that can trace, with this way to attach: one a scenario file, and before them the fixed ones where dsascope
/// chooses. Those that need the emulation of instructions come last.
pub(super) fn table(attach: Attach, extent: Extent) -> Result<Vec<GuestTest>> {
    let (mut tests, prefix) = match attach {
        Attach::Auto => (fixed_tests(extent.seeds()), String::new()),
        forced => (Vec::new(), format!("attach {}, ", forced.name()?)),
    };
    for (path, scenario) in scenarios()? {
        let file = files::stem(&path);
        if attach != Attach::Auto && extent == Extent::Change && !EVERY_WAY.contains(&file.as_str()) {
            continue;
        }
        let name = format!("{prefix}scenario {file}");
        let emulation = scenario.needs_emulation();
        let check = Check::Scenario { file, scenario: Box::new(scenario), attach };
        tests.push(GuestTest { name, emulation, check });
    }
    tests.sort_by_key(|test| test.emulation);
    Ok(tests)
}

impl Extent {
    /// Random scenarios run on each kernel, from seed 0.
    const fn seeds(self) -> u64 {
        match self {
            Self::Change => 10,
            Self::Night => 50,
        }
    }
}

fn fixed_tests(seeds: u64) -> Vec<GuestTest> {
    vec![
        fixed("boots untainted", boots_untainted),
        fixed("doctor", doctor),
        fixed("devices configured anew", devices_test::reconfiguration),
        fixed("accel-config load-config agrees with doctor", accel_config::load_config),
        fixed("captures replay as they were seen", captures::replay_as_seen),
        fixed("a capture of a command's run", captures::record_a_command),
        fixed("bytes a fault in a capture", captures::bytes_a_fault),
        fixed("submissions and faults joined", submissions::joined),
        fixed("the live view in a terminal", live_view::keys_in_screen_out),
        fixed("an open loop shows a stall", submissions::open_loop_shows_a_stall),
        random_scenarios(false, seeds),
        GuestTest {
            emulation: true,
            ..fixed("accel-config config-user-default agrees with doctor", accel_config::config_user_default)
        },
        GuestTest {
            emulation: true,
            ..fixed("submissions of a foreign program", submissions::foreign_program)
        },
        random_scenarios(true, seeds),
    ]
}

fn fixed(name: &str, run: fn(&mut Guest) -> Result<()>) -> GuestTest {
    GuestTest { name: name.to_owned(), emulation: false, check: Check::Fixed(run) }
}

fn random_scenarios(emulation: bool, most: u64) -> GuestTest {
    let with = if emulation { " with emulation" } else { "" };
    GuestTest { name: format!("random scenarios{with}"), emulation, check: Check::Seeds { most } }
}

/// The random scenarios for a guest with or without the emulation of instructions.
fn own_seeds(emulation: bool, most: u64) -> Vec<Scenario> {
    (0..most).map(random).filter(|scenario| scenario.needs_emulation() == emulation).collect()
}

/// The guest tests of a kernel on which no work queue can be opened.
pub(super) fn table_without_sva() -> Vec<GuestTest> {
    vec![
        fixed("doctor says that SVA is off", doctor_says_sva_off),
        fixed("no work queue can be opened", no_work_queue_opens),
        fixed("dsascope finds that SVA is off", finds_sva_off),
    ]
}

impl GuestTest {
    /// Whether the machine is of no use any more when it has run.
    pub(super) fn needs_new_machine(&self) -> bool {
        matches!(&self.check, Check::Scenario { scenario, .. } if scenario.needs_new_machine())
    }

    /// Runs it; scenarios that were compared are booked in the kernel's row.
    pub(super) fn run(&self, guest: &mut Guest, row: &mut Row) -> Result<()> {
        let started = Instant::now();
        let (name, attach, run, result) = match &self.check {
            Check::Fixed(run) => return run(guest),
            Check::Scenario { file, scenario, attach } => {
                let observed = reconcile::is_exact(guest, scenario, *attach).map(Vec::from_iter);
                (file.as_str(), *attach, 1, observed)
            }
            Check::Seeds { most } => {
                let own = own_seeds(guest.emulation, *most);
                let observed = own.iter().map(|scenario| reconcile::is_exact(guest, scenario, Attach::Auto));
                let observed = observed.filter_map(Result::transpose).collect();
                (SEEDS_NAMES[usize::from(self.emulation)], Attach::Auto, own.len(), observed)
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        let observed: &[Observed] = result.as_deref().unwrap_or_default();
        row.add(name, attach, run, observed, seconds);
        result.map(drop)
    }
}

/// All scenario files, by name.
pub fn scenarios() -> Result<Vec<(PathBuf, Scenario)>> {
    let paths = files::all("xtask/scenarios", "toml")?;
    paths.into_iter().map(|path| guest::from_file(&path).map(|scenario| (path, scenario))).collect()
}

/// The names of all scenario files, as the matrix has them.
pub fn scenario_names() -> Result<BTreeSet<String>> {
    Ok(scenarios()?.iter().map(|(path, _)| files::stem(path)).collect())
}

/// The unmodified kernel has loaded the unmodified driver, which serves one fault of the emulated device, and nothing is out of tree
/// or broken.
fn boots_untainted(guest: &mut Guest) -> Result<()> {
    let scenario = Scenario::parse(include_str!("../../scenarios/one-fault.toml"))?;
    let outcome = guest.scenario(&scenario, None)?;
    ensure!(outcome.code == 0, "{}", outcome.said.trim());
    let kernel: KernelReport = report(&outcome, KERNEL)?;
    ensure!(kernel.complaints.is_empty(), "the kernel complains: {}", kernel.complaints.join("; "));
    ensure!(kernel.tainted == 0, "the kernel is tainted: {}", kernel.tainted);
    Ok(())
}

/// dsascope finds nothing wrong with the testbed.
fn doctor(guest: &mut Guest) -> Result<()> {
    let output = guest.run(&[TRACER, "doctor"], COMMAND_LIMIT)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.code == 0,
        "exit code {}:\n{said}{}",
        output.code,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// doctor names the obstacle and ends with its code.
fn doctor_says_sva_off(guest: &mut Guest) -> Result<()> {
    let output = guest.run(&[TRACER, "doctor"], COMMAND_LIMIT)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.code == 1, "exit code {}, expected 1:\n{said}", output.code);
    let line = said.lines().find(|line| line.contains("shared virtual addressing is switched off"));
    ensure!(line.is_some_and(|line| line.starts_with("bad") && line.contains("kernel")), "{said}");
    Ok(())
}

/// The work queue is enabled, whoever fails to open it.
fn finds_sva_off(guest: &mut Guest) -> Result<()> {
    no_work_queue_opens(guest)?;
    let output = guest.run(&[TRACER, "stat", "--json", "--for", "1s"], COMMAND_LIMIT)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let account = Account::parse(&said, false, TracerReport::default())?;
    let found: Vec<_> = account.summary.findings.iter().map(|finding| finding.finding).collect();
    ensure!(found == [FindingKind::SvaOff], "found {found:?}; devices {:?}", account.session.devices);
    Ok(())
}

/// What doctor says is so: the work queue is enabled, and opening it fails.
fn no_work_queue_opens(guest: &mut Guest) -> Result<()> {
    let scenario = Scenario::parse(include_str!("../../scenarios/one-fault.toml"))?;
    let outcome = guest.scenario(&scenario, None)?;
    let refused = outcome.said.contains("Operation not supported");
    ensure!(
        outcome.code != 0 && refused,
        "the scenario ended with {}: {}",
        outcome.code,
        outcome.said.trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_file_is_valid_and_has_a_test() {
        let all = scenarios().unwrap();
        assert_eq!(table(Attach::Auto, Extent::Change).unwrap().len(), all.len() + 14);
        assert_eq!(table(Attach::Kprobe, Extent::Night).unwrap().len(), all.len());
        assert_eq!(table(Attach::Kprobe, Extent::Change).unwrap().len(), EVERY_WAY.len());
    }
}

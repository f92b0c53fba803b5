//! `cargo xtask test`: every test there is, by name, with one last line that counts them.
//!
//! Owns: the order of the parts, the tables of guest tests and the count. A part that cannot run fails by name. Refuses: skipping in
//! silence; what `--only` leaves out is counted as skipped, and so is a kernel of the matrix that is on no mirror.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use dsascope_guest::report::{KERNEL, KernelReport};
use dsascope_guest::scenario::{Scenario, random};

use crate::accel_config;
use crate::binaries::{TRACER, workspace};
use crate::cache::Cache;
use crate::captures;
use crate::cli::{Kernels, TestArgs};
use crate::cost;
use crate::demo;
use crate::devices_test;
use crate::foreign;
use crate::guest;
use crate::kernel::{Found, Kernel};
use crate::live_view;
use crate::matrix::{Matrix, Outcome as KernelOutcome, Row, document};
use crate::progress::say;
use crate::reconcile::{self, Attach, observed::Observed};
use crate::session::{Guest, KernelSource, Outcome, Settings};
use crate::submissions;
use crate::version::{MATRIX, SUPPORTED};

const CPUS: u32 = 4;
/// For a command that should answer at once, under emulation.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// How dsascope is attached in the tests of the newest kernel: as it chooses, and each fallback.
const FALLBACKS: [Attach; 3] = [Attach::Auto, Attach::Kprobe, Attach::Tracepoint];

/// Random scenarios run on each kernel, from seed 0: of every change, and of the matrix and each night.
const SEEDS: u64 = 20;
const MANY_SEEDS: u64 = 50;
/// Their names in the matrix: without the emulation of instructions, and with it.
pub const SEEDS_NAMES: [&str; 2] = ["random", "random, emulated"];

/// A test in a guest. It gets a guest that other tests have used, and leaves one that others can use.
struct GuestTest {
    name: String,
    /// In a guest whose kernel is tainted by the emulation of instructions.
    emulation: bool,
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

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs all parts; the exit code is 1 when anything failed.
pub fn run(arguments: &TestArgs) -> Result<u8> {
    let started = Instant::now();
    let mut tally = host_tests(arguments.only.as_deref());
    foreign_readers(arguments.only.as_deref(), &mut tally);
    let kernels: Vec<&str> = match (arguments.kernel.as_slice(), arguments.kernels) {
        ([], Kernels::Supported) => SUPPORTED.to_vec(),
        ([], Kernels::All) => MATRIX.to_vec(),
        (some, _) => some.iter().map(String::as_str).collect(),
    };
    let mut matrix = Matrix::default();
    let mut parts = Vec::new();
    for kernel in &kernels {
        match parts_of(kernel, arguments, &mut tally) {
            Parts::Run(all) => parts.extend(all),
            Parts::Nowhere(row) => matrix.book(kernel, row, arguments.write)?,
            Parts::Failed => {}
        }
    }
    // The longest first: those of a kernel that is tested as dsascope chooses.
    parts.sort_by_key(|part| part.attach != Attach::Auto);
    run_parts(&parts, arguments, started, &mut tally, &mut matrix)?;
    if !matrix.kernels.is_empty() {
        println!("\n{}", document::tables(&matrix));
    }
    println!("{}", tally.line());
    Ok(u8::from(tally.failed > 0 || tally.passed == 0))
}

/// Runs these, some at once: a guest waits for a third of its time, so there are half as many again as cores.
fn run_parts(
    parts: &[Part],
    arguments: &TestArgs,
    started: Instant,
    tally: &mut Tally,
    matrix: &mut Matrix,
) -> Result<()> {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let at_once = arguments.at_once.map_or(cores + cores / 2, NonZeroUsize::get).min(parts.len());
    let next = AtomicUsize::new(0);
    let results = Mutex::new((tally, matrix));
    let work = || -> Result<()> {
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let name = part.name()?;
            say(format!("{name}: begun after {:.0} s", started.elapsed().as_secs_f64()));
            let (mut tally, mut row) = (Tally::default(), part.row.clone());
            guest_tests(part, arguments, &mut tally, &mut row);
            say(format!("{name}: {}, after {:.0} s", tally.line(), started.elapsed().as_secs_f64()));
            let mut results = results.lock().map_err(|_| anyhow!("the tests of another guest died"))?;
            results.0.add(tally);
            let nothing = matches!(row.outcome, KernelOutcome::Traced { .. }) && row.scenarios.is_empty();
            if !nothing {
                // At once: a matrix takes long, and what is done is done.
                results.1.book(&part.wanted, row, arguments.write)?;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        all.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| bail!("the tests of a guest died")))
    })
}

/// The guest tests of a kernel that can trace, with this way to attach: one a scenario file, and before them the fixed ones where dsascope
/// chooses. Those that need the emulation of instructions come last.
fn table(attach: Attach, seeds: u64) -> Result<Vec<GuestTest>> {
    let (mut tests, prefix) = match attach {
        Attach::Auto => (fixed_tests(seeds), String::new()),
        forced => (Vec::new(), format!("attach {}, ", forced.name()?)),
    };
    for (path, scenario) in scenarios()? {
        let file = stem(&path);
        let name = format!("{prefix}scenario {file}");
        let emulation = scenario.needs_emulation();
        let check = Check::Scenario { file, scenario: Box::new(scenario), attach };
        tests.push(GuestTest { name, emulation, check });
    }
    tests.sort_by_key(|test| test.emulation);
    Ok(tests)
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
fn table_without_sva() -> Vec<GuestTest> {
    vec![
        fixed("doctor says that SVA is off", doctor_says_sva_off),
        fixed("no work queue can be opened", no_work_queue_opens),
    ]
}

impl GuestTest {
    /// Whether the machine is of no use any more when it has run.
    fn needs_new_machine(&self) -> bool {
        matches!(&self.check, Check::Scenario { scenario, .. } if scenario.needs_new_machine())
    }

    /// Runs it; scenarios that were compared are booked in the kernel's row.
    fn run(&self, guest: &mut Guest, row: &mut Row) -> Result<()> {
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
    let directory = workspace().join("xtask/scenarios");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    ensure!(!paths.is_empty(), "{} holds no scenario", directory.display());
    paths.into_iter().map(|path| guest::from_file(&path).map(|scenario| (path, scenario))).collect()
}

/// The names of all scenario files, as the matrix has them.
pub fn scenario_names() -> Result<BTreeSet<String>> {
    Ok(scenarios()?.iter().map(|(path, _)| stem(path)).collect())
}

fn stem(path: &std::path::Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The tests of one kernel that run in one guest after another; other parts can run beside it.
struct Part {
    /// The kernel as it was asked for, and the version that was found.
    wanted: String,
    version: String,
    attach: Attach,
    /// Without results.
    row: Row,
    tests: Vec<GuestTest>,
}

/// What there is to do on a kernel.
enum Parts {
    Run(Vec<Part>),
    /// It cannot be run, and the matrix says so.
    Nowhere(Row),
    /// As was booked.
    Failed,
}

impl Part {
    fn name(&self) -> Result<String> {
        Ok(match self.attach {
            Attach::Auto => self.wanted.clone(),
            forced => format!("{} by {}", self.wanted, forced.name()?),
        })
    }
}

/// Finds the kernel and says what is to be run on it.
fn parts_of(wanted: &str, arguments: &TestArgs, tally: &mut Tally) -> Parts {
    let found = Cache::open().and_then(|cache| Kernel::find(&cache, wanted));
    let (version, note) = match found {
        Ok(Found::Kernel { version, note, .. }) => (version, note),
        // What the matrix asks for may be gone; what was asked for by name, or is supported, must be there.
        Ok(Found::Unavailable(why)) if arguments.kernel.is_empty() && !SUPPORTED.contains(&wanted) => {
            println!("skipped {wanted}: {why}");
            tally.skipped += 1;
            return Parts::Nowhere(Row::new(KernelOutcome::NotOnTheMirror { why: why.to_string() }, None));
        }
        Ok(Found::Unavailable(why)) => {
            tally.fail(wanted, &why.into());
            return Parts::Failed;
        }
        Err(error) => {
            tally.fail(wanted, &error);
            return Parts::Failed;
        }
    };
    // Of missing SVA the boot speaks too.
    note.iter().filter(|_| !version.sva_off()).for_each(say);
    let kernel = version.release();
    let part = |attach, outcome, tests| Part {
        wanted: wanted.to_owned(),
        version: version.to_string(),
        attach,
        row: Row::new(outcome, note.clone()),
        tests,
    };
    if version.sva_off() {
        return Parts::Run(vec![part(Attach::Auto, KernelOutcome::SvaOff { kernel }, table_without_sva())]);
    }
    let ways = match (arguments.forced, SUPPORTED.first() == Some(&wanted)) {
        (true, _) => Attach::value_variants(),
        (false, true) => &FALLBACKS[..],
        (false, false) => &FALLBACKS[..1],
    };
    let seeds = if arguments.write || arguments.forced { MANY_SEEDS } else { SEEDS };
    let outcome = KernelOutcome::Traced { kernel };
    let tables = ways.iter().map(|&attach| Ok(part(attach, outcome.clone(), table(attach, seeds)?)));
    match tables.collect::<Result<_>>() {
        Ok(parts) => Parts::Run(parts),
        Err(error) => {
            tally.fail(&format!("{wanted}: the table of tests"), &error);
            Parts::Failed
        }
    }
}

/// Runs the guest tests on one kernel: in one boot those that can do without the emulation of instructions, in one those that
/// cannot, and in another after each that fails: it may have left the guest in any state.
fn guest_tests(part: &Part, arguments: &TestArgs, tally: &mut Tally, row: &mut Row) {
    let Part { wanted, version, tests, .. } = part;
    let all = scenarios().map(|all| all.into_iter().map(|(_, scenario)| scenario).chain([random(0)]));
    let devices = match all.and_then(|all| guest::devices(&all.collect::<Vec<_>>())) {
        Ok(devices) => devices,
        Err(error) => return tally.fail(&format!("{wanted}: the devices of the tests"), &error),
    };
    let files = match Cache::open().and_then(|cache| accel_config::files(&cache)) {
        Ok(files) => files.into_iter().chain([demo::file()]).collect(),
        Err(error) => return tally.fail(&format!("{wanted}: the guest's files"), &error),
    };
    let mut settings = Settings {
        files,
        kernel: KernelSource::Version(version.clone()),
        qemu: arguments.qemu.clone(),
        cpus: CPUS,
        devices,
        ..Settings::with_kernel(version)
    };
    let mut running: Option<Guest> = None;
    for test in tests {
        let name = format!("{wanted}: {}", test.name);
        if arguments.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            tally.skipped += 1;
            continue;
        }
        settings.emulation = test.emulation;
        if let Some(other) = running.take_if(|guest| guest.emulation != test.emulation) {
            power_off(other, wanted, tally);
        }
        let started = Instant::now();
        let result = match running.take() {
            Some(guest) => Ok(guest),
            None => boot(&settings, row),
        }
        .and_then(|mut guest| {
            test.run(&mut guest, row)?;
            if test.needs_new_machine() { guest.shutdown(None).map(|()| None) } else { Ok(Some(guest)) }
        });
        match result {
            Ok(guest) => {
                running = guest;
                tally.pass(&name, started.elapsed());
            }
            Err(error) => tally.fail(&name, &error),
        }
    }
    if let Some(guest) = running {
        power_off(guest, wanted, tally);
    }
    for attach in row.attached.keys().filter(|attach| **attach != Attach::Auto) {
        if let (Ok(name), unseen) = (attach.name(), row.unseen(*attach)) {
            say(format!(
                "{wanted}: attach {name} does not see {}",
                if unseen.is_empty() { "less" } else { &unseen }
            ));
        }
    }
}

fn power_off(guest: Guest, kernel: &str, tally: &mut Tally) {
    let emulation = if guest.emulation { " with emulation" } else { "" };
    let name = format!("{kernel}: powers off{emulation}");
    let started = Instant::now();
    match guest.shutdown(None) {
        Ok(()) => tally.pass(&name, started.elapsed()),
        Err(error) => tally.fail(&name, &error),
    }
}

/// Boots, with the kernel's count of time in BPF programs on.
fn boot(settings: &Settings, row: &mut Row) -> Result<Guest> {
    let mut guest = Guest::boot(settings).context("the guest does not boot")?;
    row.boot_seconds = guest.timings.boot.as_secs_f64();
    cost::agent(&mut guest, &["bpf-stats", "on"])?;
    Ok(guest)
}

/// The unmodified kernel has loaded the unmodified driver, which serves one fault of the emulated device, and nothing is out of tree
/// or broken.
fn boots_untainted(guest: &mut Guest) -> Result<()> {
    let scenario = Scenario::parse(include_str!("../scenarios/one-fault.toml"))?;
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

/// What doctor says is so: the work queue is enabled, and opening it fails.
fn no_work_queue_opens(guest: &mut Guest) -> Result<()> {
    let scenario = Scenario::parse(include_str!("../scenarios/one-fault.toml"))?;
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

/// One of a scenario's reports.
pub fn report<T: serde::de::DeserializeOwned>(outcome: &Outcome, name: &str) -> Result<T> {
    let bytes = outcome.files.get(name).with_context(|| format!("the guest sent no {name}"))?;
    serde_json::from_slice(bytes).with_context(|| format!("the guest's {name} is not what it should be"))
}

/// Unit, property and snapshot tests of the workspace.
fn host_tests(only: Option<&str>) -> Tally {
    const NAME: &str = "cargo test --workspace";
    let mut tally = Tally::default();
    if only.is_some_and(|only| !NAME.contains(only)) {
        tally.skipped += 1;
        return tally;
    }
    match cargo_test() {
        Ok((counted, true)) => tally.add(counted),
        // Tests that fail are counted; when none did, the build failed.
        Ok((counted, false)) => {
            tally.add(counted);
            if counted.failed == 0 {
                tally.fail(NAME, &anyhow!("it did not build, or a test program died"));
            }
        }
        Err(error) => tally.fail(NAME, &error),
    }
    tally
}

/// Exports read by programs that are not ours.
fn foreign_readers(only: Option<&str>, tally: &mut Tally) {
    for check in foreign::CHECKS {
        let name = format!("foreign readers: {}", check.name);
        if only.is_some_and(|only| !name.contains(only)) {
            tally.skipped += 1;
            continue;
        }
        let started = Instant::now();
        match Cache::open().and_then(|cache| (check.run)(&cache)) {
            Ok(()) => tally.pass(&name, started.elapsed()),
            Err(error) => tally.fail(&name, &error),
        }
    }
}

/// Runs cargo's tests, showing what they say, and counts them.
fn cargo_test() -> Result<(Tally, bool)> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut child = Command::new(cargo)
        .args(["test", "--workspace", "--no-fail-fast"])
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let Some(stdout) = child.stdout.take() else { bail!("cargo has no output") };
    let mut tally = Tally::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read cargo's output")?;
        if let Some(counted) = parse_result(&line) {
            tally.add(counted);
        }
        // The counts of single programs are summed up in our last line.
        if line.starts_with("test ") && !line.ends_with("... ok")
            || line.starts_with("---- ")
            || line.contains("panicked at")
        {
            println!("{line}");
        }
    }
    let status = child.wait().context("cannot wait for cargo")?;
    println!("cargo test --workspace: {}", tally.line());
    Ok((tally, status.success()))
}

/// `test result: ok. 5 passed; 0 failed; 1 ignored; ...`: an ignored test is one that could not run.
fn parse_result(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(what)?.trim().parse::<usize>().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")? + count("ignored")?, skipped: 0 })
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    fn pass(&mut self, name: &str, took: Duration) {
        println!("ok      {name} ({:.1} s)", took.as_secs_f64());
        self.passed += 1;
    }

    fn fail(&mut self, name: &str, error: &anyhow::Error) {
        println!("FAILED  {name}: {error:#}");
        self.failed += 1;
    }

    fn line(self) -> String {
        let counts = format!("{} passed, {} failed", self.passed, self.failed);
        if self.skipped == 0 { counts } else { format!("{counts}, {} skipped", self.skipped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_counted_and_ignored_tests_fail() {
        let line =
            "test result: ok. 45 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.06s";
        assert_eq!(parse_result(line), Some(Tally { passed: 45, failed: 2, skipped: 0 }));
        let line = "test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.06s";
        assert_eq!(parse_result(line), Some(Tally { passed: 3, failed: 1, skipped: 0 }));
        assert_eq!(parse_result("test a ... ok"), None);
    }

    #[test]
    fn the_last_line_is_plain() {
        assert_eq!(Tally { passed: 3, failed: 1, skipped: 0 }.line(), "3 passed, 1 failed");
        assert_eq!(Tally { passed: 3, failed: 0, skipped: 2 }.line(), "3 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn every_scenario_file_is_valid_and_has_a_test() {
        let all = scenarios().unwrap();
        assert_eq!(table(Attach::Auto, SEEDS).unwrap().len(), all.len() + 14);
        assert_eq!(table(Attach::Kprobe, SEEDS).unwrap().len(), all.len());
    }
}

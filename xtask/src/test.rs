//! `cargo xtask test`: every test there is, by name, with one last line that counts them.
//!
//! Owns: the order of the parts, the table of guest tests and the count. A part that cannot run fails by name. Refuses: skipping in
//! silence; what `--only` leaves out is counted as skipped.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dsascope_guest::report::{KERNEL, KernelReport};
use dsascope_guest::scenario::{Scenario, random};

use crate::accel_config;
use crate::binaries::{TRACER, workspace};
use crate::cache::Cache;
use crate::cli::TestArgs;
use crate::devices_test;
use crate::guest;
use crate::reconcile;
use crate::session::{Guest, KernelSource, Outcome, Settings};
use crate::version::SUPPORTED;

const CPUS: u32 = 4;
/// For a command that should answer at once, under emulation.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Random scenarios run on each kernel, from seed 0.
const SEEDS: u64 = 50;

/// A test in a guest. It gets a guest that other tests have used, and leaves one that others can use.
struct GuestTest {
    name: String,
    /// In a guest whose kernel is tainted by the emulation of instructions.
    emulation: bool,
    check: Check,
}

enum Check {
    Fixed(fn(&mut Guest) -> Result<()>),
    /// The scenario's books are exact.
    Scenario(Box<Scenario>),
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
    let mut tally = host_tests(arguments.only.as_deref());
    let kernels: Vec<&str> = match arguments.kernel.as_slice() {
        [] => SUPPORTED.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    for kernel in kernels {
        guest_tests(kernel, arguments, &mut tally);
    }
    println!("{}", tally.line());
    Ok(u8::from(tally.failed > 0 || tally.passed == 0))
}

/// The table of guest tests: the fixed ones, then one a scenario file.
fn table() -> Result<Vec<GuestTest>> {
    let fixed =
        |name: &str, run| GuestTest { name: name.to_owned(), emulation: false, check: Check::Fixed(run) };
    let mut tests = vec![
        fixed("boots untainted", boots_untainted),
        fixed("doctor", doctor),
        fixed("devices configured anew", devices_test::reconfiguration),
        fixed("random scenarios", random_scenarios),
        fixed("accel-config load-config agrees with doctor", accel_config::load_config),
        GuestTest { emulation: true, ..fixed("random scenarios with emulation", random_scenarios) },
        GuestTest {
            emulation: true,
            ..fixed("accel-config config-user-default agrees with doctor", accel_config::config_user_default)
        },
    ];
    for (path, scenario) in scenarios()? {
        let file = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let emulation = scenario.needs_emulation();
        let check = Check::Scenario(Box::new(scenario));
        tests.push(GuestTest { name: format!("scenario {file}"), emulation, check });
    }
    tests.sort_by_key(|test| test.emulation);
    Ok(tests)
}

impl GuestTest {
    fn needs_new_machine(&self) -> bool {
        matches!(&self.check, Check::Scenario(scenario) if scenario.needs_new_machine())
    }

    fn run(&self, guest: &mut Guest) -> Result<()> {
        match &self.check {
            Check::Fixed(run) => run(guest),
            Check::Scenario(scenario) => reconcile::is_exact(guest, scenario),
        }
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

/// Runs the guest tests on one kernel: in one boot those that can do without the emulation of instructions, in one those that
/// cannot, and in another after each that fails: it may have left the guest in any state.
fn guest_tests(kernel: &str, arguments: &TestArgs, tally: &mut Tally) {
    let tests = match table() {
        Ok(tests) => tests,
        Err(error) => return tally.fail(&format!("{kernel}: the table of tests"), &error),
    };
    let all = scenarios().map(|all| all.into_iter().map(|(_, scenario)| scenario).chain([random(0)]));
    let devices = match all.and_then(|all| guest::devices(&all.collect::<Vec<_>>())) {
        Ok(devices) => devices,
        Err(error) => return tally.fail(&format!("{kernel}: the devices of the tests"), &error),
    };
    let files = match Cache::open().and_then(|cache| accel_config::files(&cache)) {
        Ok(files) => files,
        Err(error) => return tally.fail(&format!("{kernel}: the guest's files"), &error),
    };
    let mut settings = Settings {
        files,
        kernel: KernelSource::Version(kernel.to_owned()),
        qemu: arguments.qemu.clone(),
        cpus: CPUS,
        devices,
        ..Settings::with_kernel(kernel)
    };
    let mut running: Option<Guest> = None;
    for test in tests {
        let name = format!("{kernel}: {}", test.name);
        if arguments.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            tally.skipped += 1;
            continue;
        }
        settings.emulation = test.emulation;
        if let Some(other) = running.take_if(|guest| guest.emulation != test.emulation) {
            power_off(other, kernel, tally);
        }
        let started = Instant::now();
        let result = match running.take() {
            Some(guest) => Ok(guest),
            None => Guest::boot(&settings).context("the guest does not boot"),
        }
        .and_then(|mut guest| {
            test.run(&mut guest)?;
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
        power_off(guest, kernel, tally);
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

/// The books of random scenarios are exact, many in one boot: those that this guest can run.
fn random_scenarios(guest: &mut Guest) -> Result<()> {
    let all = (0..SEEDS).map(random);
    let own: Vec<_> = all.filter(|scenario| scenario.needs_emulation() == guest.emulation).collect();
    ensure!(!own.is_empty(), "no seed is for this guest");
    own.iter().try_for_each(|scenario| reconcile::is_exact(guest, scenario))
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
                tally.fail(NAME, &anyhow::anyhow!("it did not build, or a test program died"));
            }
        }
        Err(error) => tally.fail(NAME, &error),
    }
    tally
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
        assert_eq!(table().unwrap().len(), all.len() + 7);
    }
}

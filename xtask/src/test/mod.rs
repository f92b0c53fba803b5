//! `cargo xtask test`: every test there is, by name, with one last line that counts them.
//!
//! Owns: the order of the parts, which of them run beside each other, and the count. A part that cannot run fails by name. Refuses: skipping in
//! silence; what `--only` leaves out is counted as skipped, and so is a kernel of the matrix that is on no mirror.

mod host;
mod table;

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use dsascope_guest::scenario::random;

use self::table::{Extent, GuestTest, table, table_without_sva};
pub use self::table::{SEEDS_NAMES, scenario_names, scenarios};
use crate::accel_config;
use crate::cache::Cache;
use crate::cli::{Kernels, TestArgs};
use crate::cost;
use crate::demo;
use crate::guest;
use crate::kernel::{Found, Kernel};
use crate::matrix::{Matrix, Outcome as KernelOutcome, Row, document};
use crate::progress::say;
use crate::reconcile::Attach;
use crate::session::{Guest, KernelSource, Outcome, Settings, Torn};
use crate::version::{MATRIX, SUPPORTED};

const CPUS: u32 = 4;
/// How dsascope is attached in the tests of the newest kernel: as it chooses, and each fallback.
const FALLBACKS: [Attach; 3] = [Attach::Auto, Attach::Kprobe, Attach::Tracepoint];

/// How many tests ended how, and what is said again of those that failed: a long run's output has it somewhere.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    failures: Vec<String>,
}

/// Runs all parts; the exit code is 1 when anything failed.
pub fn run(arguments: &TestArgs) -> Result<u8> {
    let started = Instant::now();
    let mut tally = host::workspace_tests(arguments.only.as_deref());
    host::foreign_readers(arguments.only.as_deref(), &mut tally);
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
    if !tally.failures.is_empty() {
        println!("Failed:\n{}\n", tally.failures.join("\n"));
    }
    println!("{}", tally.line());
    Ok(u8::from(tally.failed > 0 || tally.passed == 0))
}

/// Runs these, some at once: as many as cores. A guest waits for a third of its time, but three on two cores were seen to come too late for tests of
/// theirs.
fn run_parts(
    parts: &[Part],
    arguments: &TestArgs,
    started: Instant,
    tally: &mut Tally,
    matrix: &mut Matrix,
) -> Result<()> {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let at_once = arguments.at_once.map_or(cores, NonZeroUsize::get).min(parts.len());
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
    let extent = if arguments.write || arguments.forced { Extent::Night } else { Extent::Change };
    let outcome = KernelOutcome::Traced { kernel };
    let tables = ways.iter().map(|&attach| Ok(part(attach, outcome.clone(), table(attach, extent)?)));
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
        let attempt = |running: Option<Guest>, row: &mut Row| {
            let mut guest = match running {
                Some(guest) => guest,
                None => boot(&settings, row)?,
            };
            test.run(&mut guest, row)?;
            if test.needs_new_machine() { guest.shutdown(None).map(|()| None) } else { Ok(Some(guest)) }
        };
        let result = match attempt(running.take(), row) {
            Err(error) if error.is::<Torn>() => {
                say(format!(
                    "{name}: {error:#}\nThe emulator tore the kernel's code: once more, in another guest"
                ));
                attempt(None, row)
            }
            result => result,
        };
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

/// One of a scenario's reports.
pub fn report<T: serde::de::DeserializeOwned>(outcome: &Outcome, name: &str) -> Result<T> {
    let bytes = outcome.files.get(name).with_context(|| format!("the guest sent no {name}"))?;
    serde_json::from_slice(bytes).with_context(|| format!("the guest's {name} is not what it should be"))
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }

    fn pass(&mut self, name: &str, took: Duration) {
        println!("ok      {name} ({:.1} s)", took.as_secs_f64());
        self.passed += 1;
    }

    fn fail(&mut self, name: &str, error: &anyhow::Error) {
        let why = format!("{error:#}");
        println!("FAILED  {name}: {why}");
        self.failed += 1;
        // As a whole: of a long run's output often only the end is at hand.
        self.failures.push(format!("- {name}: {why}"));
    }

    fn line(&self) -> String {
        let counts = format!("{} passed, {} failed", self.passed, self.failed);
        if self.skipped == 0 { counts } else { format!("{counts}, {} skipped", self.skipped) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_plain() {
        assert_eq!(Tally { passed: 3, failed: 1, ..Tally::default() }.line(), "3 passed, 1 failed");
        assert_eq!(
            Tally { passed: 3, skipped: 2, ..Tally::default() }.line(),
            "3 passed, 0 failed, 2 skipped"
        );
    }
}

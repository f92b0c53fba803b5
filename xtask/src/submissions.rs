//! Submissions and faults joined: what dsascope says of a program's submissions, against that program's own account and the device's.
//!
//! Owns: the guest tests of it, and the runs of `dsascope submit` that go through every fault word and operation. Refuses: the verdict on
//! results in memory, which is the submitter's, by its exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use dsascope_common::hw::descriptor::opcode;
use dsascope_core::json::{Body, FaultLine, Line, SummaryLine};
use dsascope_core::ledger::Balance;
use dsascope_core::submission::How;
use dsascope_guest::beside::{Ended, Order, Ran};
use dsascope_guest::protocol::PROGRAMS;
use dsascope_guest::scenario::{DeviceKind, Scenario};
use dsascope_testbed::truth::Event;
use serde::Deserialize;

use crate::accel_config::DSA_TEST;
use crate::binaries::TRACER;
use crate::reconcile::{books, observed};
use crate::session::Guest;

/// For all runs of one order, under emulation.
const LIMIT: Duration = Duration::from_secs(300);
const THREADS: usize = 2;
const ON_DSA: &str = "wq0.0";
const ON_IAA: &str = "wq2.0";

/// One run of the submitter.
struct Run {
    words: &'static str,
    /// Operations whose records must have faulted: of single descriptors or elements.
    operations: usize,
}

const fn run(words: &'static str, operations: usize) -> Run {
    Run { words, operations }
}

/// Single descriptors of every operation, and batches of each that may be in one. A count of twice the operations gives each thread each once.
const DSA: [Run; 11] = [
    run("--op all --count 34 --cr absent", 17),
    run("--op all --count 34 --cr read-only", 17),
    run("--op all --count 34 --cr unmapped", 17),
    run("--op all --count 34 --cr straddling", 0),
    run("--op all --count 34 --cr absent --source absent", 17),
    run("--op all --count 34 --cr absent --destination absent", 17),
    run("--op all --count 34 --batch 3 --list absent --list-from 2", 0),
    run("--op all --count 34 --batch 4 -e 1,0,0,0:0,1,0,0:0,0,1,0:0,0,0,1", 17),
    run("--op all --count 34 --batch 4 -e 0,1,0,0:0,1,0,1:0,0,0,0:0,1,0,1", 17),
    run("--op all --count 34 --batch 4 -e 1,0,1,2:0,1,0,0:0,1,0,0:0,1,0,0:0,1,0,0", 17),
    run(WITH_A_SOURCE, 12),
];
/// `desc_fault` takes the source away.
const WITH_A_SOURCE: &str = "--op memmove,compare,cr_delta,ap_delta,dualcast,crcgen,copy_crc,dif_check,dif_ins,dif_strp,dif_updt,dix_gen \
                             --count 24 --batch 3 -e 0,0,0,0:1,1,0,0:0,1,0,0:0,1,0,1";
const IAA: [Run; 6] = [
    run("--op all --count 10 --cr absent", 5),
    run("--op all --count 10 --cr read-only", 5),
    run("--op all --count 10 --cr unmapped", 5),
    run("--op all --count 10 --cr straddling", 0),
    run("--op all --count 10 --cr absent --source absent", 5),
    run("--op all --count 10 --cr absent --destination absent", 5),
];

/// What a submitter says of its run.
#[derive(Debug, Deserialize)]
struct Said {
    counts: Counts,
    operations: Vec<OfOperation>,
    driver: Option<Driver>,
    driver_agrees: Option<bool>,
    latency: Latency,
}

#[derive(Debug, Deserialize)]
struct Counts {
    ended: u64,
    submissions: u64,
    resumed: u64,
    refused: u64,
    faults: u64,
    failed: u64,
}

#[derive(Debug, Deserialize)]
struct OfOperation {
    operation: String,
    ended: u64,
}

#[derive(Debug, Deserialize)]
struct Driver {
    cr_faults: u64,
    cr_fault_failures: u64,
}

#[derive(Debug, Deserialize)]
struct Latency {
    intended_ns: Option<Distribution>,
}

#[derive(Debug, Deserialize)]
struct Distribution {
    p99: u64,
    max: u64,
}

/// What dsascope wrote.
struct Told {
    faults: Vec<FaultLine>,
    summary: Box<SummaryLine>,
}

impl Told {
    fn parse(text: &str) -> Result<Self> {
        let (mut faults, mut summary) = (Vec::new(), None);
        for line in text.lines() {
            match Line::parse(line).with_context(|| format!("dsascope wrote {line:?}"))?.body {
                Body::Fault(fault) => faults.push(*fault),
                Body::Summary(line) => summary = Some(line),
                _ => {}
            }
        }
        Ok(Self { faults, summary: summary.context("dsascope wrote no summary")? })
    }

    /// Nothing is missing and nothing was lost.
    fn is_whole(&self) -> Result<()> {
        let summary = &self.summary;
        ensure!(
            summary.exact && summary.complete && summary.balance == Balance::Balanced,
            "its books: exact {}, complete {}, {:?}; {:?}, {:?}, {:?}",
            summary.exact,
            summary.complete,
            summary.balance,
            summary.reasons,
            summary.holes,
            summary.ledger.kernel.holes
        );
        let submissions = summary.submissions.as_ref().context("no submissions")?;
        let unread = submissions.totals.iter().filter(|totals| totals.operation_code.is_none()).count();
        ensure!(unread == 0, "{unread} counts are of descriptors that could not be read");
        Ok(())
    }

    /// What one process submitted to a device of that kind and it took, by operation. Which WQ it was is not known where the process had gone
    /// before anybody could look; it is never another one.
    fn submissions(&self, pid: u32, wq: &str) -> Result<BTreeMap<String, u64>> {
        let submissions = self.summary.submissions.as_ref().context("no submission was traced")?;
        let mut by_operation = BTreeMap::new();
        for totals in submissions.totals.iter().filter(|totals| totals.tgid == Some(pid)) {
            ensure!(totals.records_lost == 0, "records of submissions were lost: {totals:?}");
            let known = totals.device.zip(totals.wq).map(|(device, wq)| format!("wq{}.{wq}", device.id));
            ensure!(known.as_deref() == Some(wq), "not of {wq}: {totals:?}");
            let operation =
                totals.operation.clone().with_context(|| format!("of no operation: {totals:?}"))?;
            *by_operation.entry(operation).or_default() += totals.submissions - totals.refused;
        }
        Ok(by_operation)
    }
}

/// Every fault word with every operation: the counts are those of the submitter, the driver and the device, and each fault has the
/// origin that its entry in the event log tells of.
pub fn joined(guest: &mut Guest) -> Result<()> {
    let of = |wq: &'static str, runs: &'static [Run]| runs.iter().map(move |run| (wq, run));
    let runs: Vec<_> = of(ON_DSA, &DSA).chain(of(ON_IAA, &IAA)).collect();
    let commands = runs.iter().map(|(wq, run)| {
        submitter(&format!("--wq {wq} --poll 50us --timeout 20s --threads {THREADS} {}", run.words))
    });
    let (told, ended, accepted) = traced(guest, quiet()?, &tracer(), commands.collect())?;
    told.is_whole()?;
    let mut all = 0;
    let mut wrong = Vec::new();
    for ((wq, run), ended) in runs.iter().zip(&ended) {
        let result = said(ended).and_then(|said| {
            all += said.counts.submissions;
            agree(wq, run, ended.pid, &said, &told)
        });
        wrong.extend(result.err().map(|error| format!("{wq} {}: {error:#}", run.words)));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(accepted == all, "the devices took {accepted} descriptors, the submitter sent {all}");
    let faults = told.summary.submissions.as_ref().map(|submissions| submissions.faults);
    let expected = told.faults.len() as u64;
    ensure!(faults == Some(expected), "the summary has {faults:?} joined faults of {expected}");
    Ok(())
}

/// One run's account agrees with what dsascope told of it.
fn agree(wq: &str, run: &Run, pid: u32, said: &Said, told: &Told) -> Result<()> {
    let counts = &said.counts;
    let submitted = told.submissions(pid, wq)?;
    let sum: u64 = submitted.values().sum();
    ensure!(
        sum == counts.submissions,
        "dsascope counted {submitted:?}, the submitter {}",
        counts.submissions
    );
    // A resumed batch may go on as one of its elements, and behind a refused descriptor comes a drain.
    if counts.resumed == 0 && counts.refused == 0 && !run.words.contains("--batch") {
        let ended: BTreeMap<_, _> =
            said.operations.iter().map(|one| (one.operation.clone(), one.ended)).collect();
        ensure!(submitted == ended, "dsascope counted {submitted:?}, the submitter {ended:?}");
    }
    let faults: Vec<_> = told.faults.iter().filter(|line| line.fault.tgid == Some(pid)).collect();
    let driver = said.driver.as_ref().context("the driver shows no counters")?;
    let seen: u64 = faults.iter().map(|line| u64::from(line.fault.counted_faults)).sum();
    ensure!(
        seen == counts.faults && seen == driver.cr_faults && said.driver_agrees == Some(true),
        "dsascope saw {seen} faults, the driver {}, and the submitter made {}",
        driver.cr_faults,
        counts.faults
    );
    let failures: u64 = faults.iter().map(|line| u64::from(line.fault.counted_failures)).sum();
    ensure!(
        failures == driver.cr_fault_failures && counts.failed <= failures,
        "dsascope saw {failures} failures, the driver {}, and the submitter {}",
        driver.cr_fault_failures,
        counts.failed
    );
    let (mut threads, mut operations) = (BTreeSet::new(), BTreeSet::new());
    for line in &faults {
        let what = || serde_json::to_string(line).unwrap_or_default();
        let origin = line.fault.origin.with_context(|| format!("a fault without origin: {}", what()))?;
        let index = origin.element.map(|element| element.index);
        let entry = line.batch.map(|batch| u32::from(batch.index));
        ensure!(origin.operation == line.operation_code && index == entry, "not its origin: {}", what());
        ensure!(
            (1..=line.fault.at_ns).contains(&origin.submitted_ns),
            "its submission comes behind it: {}",
            what()
        );
        // A drain's record that waits behind entries for others goes through the log without being absent, and the driver does not count it.
        ensure!(
            line.fault.counted_faults == 1 || origin.operation == opcode::DRAIN,
            "the driver did not count it: {}",
            what()
        );
        threads.insert(origin.tid);
        if origin.operation != opcode::BATCH && origin.operation != opcode::DRAIN {
            operations.insert(origin.operation);
        }
    }
    ensure!(operations.len() == run.operations, "operations with faults: {operations:?}");
    // Threads are numbered as processes are: from the submitter's own number on, and before the next one's.
    ensure!(
        threads.len() == if faults.is_empty() { 0 } else { THREADS }
            && threads.iter().all(|tid| (pid..pid + 16).contains(tid)),
        "its threads: {threads:?}"
    );
    Ok(())
}

/// The work queues that nobody is on; the IAA is the one that guests of tests have.
pub(crate) fn quiet() -> Result<Scenario> {
    let mut scenario = Scenario::parse(include_str!("../quiet.toml"))?;
    scenario.devices.iter_mut().filter(|device| device.kind == DeviceKind::Iaa).for_each(|device| {
        device.name = "iax2".into();
    });
    Ok(scenario)
}

pub(crate) fn submitter(words: &str) -> Vec<String> {
    let words = ["submit", "--json"].into_iter().chain(words.split_whitespace());
    [tracer()].into_iter().chain(words.map(ToOwned::to_owned)).collect()
}

/// What the submitter wrote, which ended as it must.
fn said(ended: &Ended) -> Result<Said> {
    ensure!(ended.code == 0, "code {}: {} {}", ended.code, ended.stderr.trim(), ended.stdout);
    let said: Said = serde_json::from_str(&ended.stdout)
        .with_context(|| format!("the submitter wrote {:?}", ended.stdout))?;
    ensure!(said.counts.ended > 0, "nothing was submitted");
    Ok(said)
}

/// Where dsascope is in the guest.
fn tracer() -> String {
    format!("{PROGRAMS}/{TRACER}")
}

/// Runs the commands while submissions of a program are followed: what was told of them, how they ended, and how many descriptors the
/// devices took.
fn traced(
    guest: &mut Guest,
    scenario: Scenario,
    submitter: &str,
    commands: Vec<Vec<String>>,
) -> Result<(Told, Vec<Ended>, u64)> {
    let tracer = [&tracer(), "trace", "--json", "--submitter", submitter].map(ToString::to_string).to_vec();
    let order = Order { scenario, tracer, commands };
    let skipped = |(told, ..): &(Told, _, _)| observed::runs_skipped(&told.summary);
    observed::at_most_twice("submissions", skipped, || {
        let (ran, accepted) = watched(guest, &order)?;
        let tracer = ran.tracer.context("there was no tracer")?;
        ensure!(tracer.code == 0, "dsascope: code {}: {}", tracer.code, tracer.stderr);
        Ok((Told::parse(&tracer.stdout)?, ran.commands, accepted))
    })
}

/// Runs the commands; and how many descriptors the devices took from portals meanwhile.
fn watched(guest: &mut Guest, order: &Order) -> Result<(Ran, u64)> {
    let path = guest.truth()?.to_owned();
    let (_, before) = books::truth_since(&path, 0)?;
    let ran = guest.beside(order, LIMIT)?;
    guest.truth()?;
    let (lines, _) = books::truth_since(&path, before)?;
    let mut accepted = 0;
    for line in lines {
        match line.event {
            Event::Descriptor { batch_index: None, .. } => accepted += 1,
            Event::Dropped { .. } => bail!("a descriptor was dropped: {:?}", line.event),
            _ => {}
        }
    }
    Ok((ran, accepted))
}

/// When an engine stands still, an open loop's latency tells of all that should have started meanwhile, a closed loop's of the few that
/// were outstanding.
pub fn open_loop_shows_a_stall(guest: &mut Guest) -> Result<()> {
    const COUNT: u64 = 400;
    const STALL: Duration = Duration::from_secs(1);
    let mut scenario = quiet()?;
    scenario.name = "stall".into();
    let stall = u64::try_from(STALL.as_micros())?;
    let device = scenario.devices.first_mut().context("no device")?;
    // One descriptor, taken when half of them are done; the next is as quick as ever.
    device.injections = vec![delay(COUNT / 2, stall), delay(COUNT / 2 + 1, 0)];
    let once = |guest: &mut Guest, pace: &str| -> Result<Distribution> {
        let words = format!("--wq wq0.0 --op memmove --poll 50us --depth 1 --count {COUNT} {pace}");
        let order =
            Order { scenario: scenario.clone(), tracer: Vec::new(), commands: vec![submitter(&words)] };
        let (ran, _) = watched(guest, &order)?;
        let ended = ran.commands.first().context("no command ran")?;
        said(ended)?.latency.intended_ns.with_context(|| format!("no latency with {words}"))
    };
    let closed = once(guest, "")?;
    let open = once(guest, "--rate 100")?;
    let stall = STALL.as_nanos() as u64;
    ensure!(closed.max >= stall && open.max >= stall, "no stall: {closed:?}, {open:?}");
    ensure!(closed.p99 < stall / 4, "a closed loop shows it: {closed:?}");
    // A hundred should have started meanwhile: the 99th of a hundred of all 400 waited for most of it.
    ensure!(open.p99 > stall * 3 / 4, "an open loop hides it: {open:?}");
    Ok(())
}

const fn delay(after_descriptors: u64, delay_us: u64) -> dsascope_guest::scenario::Inject {
    dsascope_guest::scenario::Inject::Delay { after_descriptors, delay_us }
}

/// A program that nobody here wrote, and that has no probe points: its MOVDIR64B and ENQCMD are found and counted.
pub fn foreign_program(guest: &mut Guest) -> Result<()> {
    const RUNS: [(&str, How); 2] = [
        ("-w 1 -d dsa0/wq0.0 -o 0x3 -l 4096 -f 0x1 -n 8 -t 5000", How::Movdir64b),
        ("-w 0 -d dsa0/wq0.1 -o 0x3 -l 4096 -f 0x1 -n 8 -t 5000", How::Enqcmd),
    ];
    let scenario = Scenario::parse(
        "name = 'foreign program'
        [[device]]
        name = 'dsa0'
        kind = 'dsa'
        work_queue = [
            { id = 0, mode = 'dedicated', size = 16 },
            { id = 1, mode = 'shared', size = 16 },
        ]",
    )?;
    let command =
        |words: &str| [DSA_TEST].into_iter().chain(words.split(' ')).map(ToOwned::to_owned).collect();
    let commands = RUNS.iter().map(|(words, _)| command(words)).collect();
    let (told, ended, accepted) = traced(guest, scenario, DSA_TEST, commands)?;
    let totals = told.summary.submissions.context("no submission was traced")?.totals;
    let mut counted = 0;
    for ((words, how), ended) in RUNS.iter().zip(&ended) {
        ensure!(
            ended.code == 0,
            "dsa_test {words}: code {}: {}{}; {totals:?}",
            ended.code,
            ended.stdout,
            ended.stderr
        );
        let own = totals.iter().filter(|totals| totals.tgid == Some(ended.pid));
        let own: Vec<_> = own.map(|totals| (totals.how, totals.submissions - totals.refused)).collect();
        ensure!(
            own.iter().all(|(by, count)| *by == Some(*how) && *count > 0),
            "dsa_test {words}: {totals:?}"
        );
        counted += own.iter().map(|(_, count)| count).sum::<u64>();
    }
    ensure!(
        counted == accepted && accepted >= 16,
        "dsascope counted {counted}, the device {accepted}: {totals:?}"
    );
    Ok(())
}

//! `cargo xtask cost`: what dsascope costs the driver and the host, measured in one boot of a guest.
//!
//! Owns: the order of measurements. The driver's service is timed by ftrace with and without dsascope, so that ftrace's own cost is in
//! both; time in BPF programs is the kernel's (kernel.bpf_stats_enabled), in runs of its own, because counting it costs time too.
//! Refuses: figures without their circumstances.

pub(crate) mod figures;
mod tables;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use dsascope_guest::protocol::PROGRAMS;
use dsascope_guest::report::{ServiceTimes, TRACER, TRACER_STDOUT, TracerReport};
use dsascope_guest::scenario::Scenario;

use self::figures::{Bpf, Cost, Resident, Service, Traced};
use crate::binaries;
use crate::cli::OwnFiles;
use crate::progress::say;
use crate::reconcile::Attach;
use crate::reconcile::books::Account;
use crate::session::{Guest, Outcome, Settings};
use crate::test::report;
use crate::version::SUPPORTED;

const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Faults before the first measurement: the emulator translates code when it first runs.
const WARM_UP_FAULTS: u32 = 500;

#[derive(Args, Debug)]
pub struct Arguments {
    /// Kernel version, or a prefix of one for the newest there is
    #[arg(long, value_name = "VERSION", default_value = SUPPORTED[0])]
    pub kernel: String,
    /// Completion-record faults a run
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub faults: u32,
    /// Descriptors outstanding at once: with 1 each fault has an interrupt of its own and finds the caches cold
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub outstanding: u16,
    /// How dsascope attaches; may be given several times, all without it
    #[arg(long, value_enum, value_name = "HOW")]
    pub attach: Vec<Attach>,
    /// How often everything is measured; of each figure the quietest round counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Number of CPUs of the guest
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// One JSON object on stdout
    #[arg(long, conflicts_with = "markdown")]
    pub json: bool,
    /// Tables as docs/performance.md has them
    #[arg(long)]
    pub markdown: bool,
    /// A qemu-system-x86_64 of version 10.1 or newer; otherwise PATH's, otherwise Debian's
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<std::path::PathBuf>,
}

/// How dsascope runs in one measurement.
#[derive(Clone, Copy, Debug)]
struct Variant {
    attach: Attach,
    /// A record a stage in place of one a fault.
    stages: bool,
}

pub fn run(arguments: &Arguments) -> Result<u8> {
    let attach = if arguments.attach.is_empty() { Attach::value_variants() } else { &arguments.attach };
    let whole = attach.iter().map(|&attach| Variant { attach, stages: false });
    let staged = attach.first().map(|&attach| Variant { attach, stages: true });
    let variants: Vec<_> = whole.chain(staged).collect();
    let settings = Settings {
        kernel: OwnFiles::default().kernel(&arguments.kernel),
        qemu: arguments.qemu.clone(),
        cpus: arguments.cpus,
        ..Settings::with_kernel(&arguments.kernel)
    };
    let mut guest = Guest::boot(&settings)?;
    let cost = measure(&mut guest, arguments, &variants)?;
    guest.shutdown(None)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&cost)?);
    } else {
        print!("{}", tables::all(&cost, arguments.markdown));
    }
    Ok(0)
}

fn measure(guest: &mut Guest, arguments: &Arguments, variants: &[Variant]) -> Result<Cost> {
    ran(guest, &load(WARM_UP_FAULTS, arguments.outstanding)?, None)?;
    let scenario = load(arguments.faults, arguments.outstanding)?;
    let (mut untraced, mut traced) = (Vec::new(), vec![Vec::new(); variants.len()]);
    // Round by round, so that whatever else the machine does meets all of them alike.
    for round in 1..=arguments.rounds {
        say(format!("round {round} of {}: without dsascope", arguments.rounds));
        untraced.push(service(guest, &scenario, None)?.0);
        for (variant, rounds) in variants.iter().zip(&mut traced) {
            say(format!("round {round} of {}: {}", arguments.rounds, variant.name()?));
            rounds.push(with_dsascope(guest, &scenario, *variant)?);
        }
    }
    say("dsascope at rest");
    let calm = Scenario::parse(include_str!("../../scenarios/calm.toml"))?;
    let argv = Variant { attach: Attach::Auto, stages: false }.argv()?;
    let idle = account(&ran(guest, &calm, Some(&argv))?)?.run;
    Ok(Cost {
        kernel: guest.kernel.clone(),
        cpus: arguments.cpus,
        faults: arguments.faults,
        outstanding: arguments.outstanding,
        rounds: arguments.rounds,
        untraced: Service::quietest(&untraced).context("no round was run")?,
        untraced_loudest: Service::loudest(&untraced).context("no round was run")?,
        traced: traced.into_iter().filter_map(Traced::quietest).collect(),
        idle: Resident {
            seconds: idle.attached_ms as f64 / 1e3,
            cpu_ms: idle.cpu_while_attached_ms,
            peak_rss_kib: idle.peak_rss_kib,
        },
    })
}

/// One round of one variant: the service's time, then, in a second run, time in BPF programs.
fn with_dsascope(guest: &mut Guest, scenario: &Scenario, variant: Variant) -> Result<Traced> {
    let argv = variant.argv()?;
    let (service, outcome) = service(guest, scenario, Some(&argv))?;
    let attached = account(&outcome)?;
    agent(guest, &["bpf-stats", "on"])?;
    let counted = ran(guest, scenario, Some(&argv));
    agent(guest, &["bpf-stats", "off"])?;
    Ok(Traced {
        name: variant.name()?,
        service,
        bpf: Bpf::of(&account(&counted?)?.summary).context("dsascope served no fault")?,
        attach_ms: attached.session.attach_ns as f64 / 1e6,
        start_ms: attached.run.ready_ms,
        peak_rss_kib: attached.run.peak_rss_kib,
        cpu_until_ready_ms: attached.run.cpu_until_ready_ms,
    })
}

/// One process on one WQ, all of whose completion records fault. It looks for them seldom: on one CPU a look within a service would
/// interrupt the worker, and be counted as part of what a fault costs.
fn load(faults: u32, outstanding: u16) -> Result<Scenario> {
    let text = format!(
        "name = 'cost'\ntimeout_s = 300\n\
         [[device]]\nname = 'dsa0'\nkind = 'dsa'\nevent_log_entries = 64\n\
         [[device.work_queue]]\nid = 0\nmode = 'dedicated'\nsize = {outstanding}\n\
         [[process]]\nname = 'load'\ndevice = 'dsa0'\nwork_queue = 0\noperation = 'noop'\ncount = {faults}\noutstanding = {outstanding}\npoll_us = 2000\n\
         completion_records = {{ absent = 1 }}\n\
         [expect.load]\nfaults = {faults}\ndelivered = {faults}\nfailed = 0\n"
    );
    Ok(Scenario::parse(&text)?)
}

/// Runs the scenario, which must go as expected.
fn ran(guest: &mut Guest, scenario: &Scenario, tracer: Option<&[String]>) -> Result<Outcome> {
    let outcome = guest.scenario(scenario, tracer)?;
    ensure!(outcome.code == 0, "the load did not run as expected: {}", outcome.said.trim());
    Ok(outcome)
}

/// The driver's service time as ftrace sees it.
fn service(guest: &mut Guest, scenario: &Scenario, tracer: Option<&[String]>) -> Result<(Service, Outcome)> {
    agent(guest, &["service-times", "start"])?;
    let outcome = ran(guest, scenario, tracer)?;
    let said = agent(guest, &["service-times", "stop"])?;
    let times: ServiceTimes = serde_json::from_slice(&said).context("the guest's service times")?;
    ensure!(times.unpaired == 0, "{} services without start or end in the trace", times.unpaired);
    let faults = scenario.faults();
    let found = times.service_us.len() as u64;
    ensure!(found == faults, "the trace has {found} services, the load {faults} faults");
    Ok((Service::of(&times.service_us).context("the trace is empty")?, outcome))
}

fn account(outcome: &Outcome) -> Result<Account> {
    let text = outcome.files.get(TRACER_STDOUT).context("the guest sent no output of dsascope")?;
    let run: TracerReport = report(outcome, TRACER)?;
    Account::parse(&String::from_utf8_lossy(text), false, run)
}

/// Has the guest's agent do something; what it printed.
pub(crate) fn agent(guest: &mut Guest, arguments: &[&str]) -> Result<Vec<u8>> {
    let program = format!("{PROGRAMS}/{}", binaries::AGENT);
    let argv: Vec<_> = [program.as_str()].into_iter().chain(arguments.iter().copied()).collect();
    let output = guest.run(&argv, COMMAND_LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.code == 0, "{} in the guest: {}", arguments.join(" "), said.trim());
    Ok(output.stdout)
}

impl Variant {
    fn argv(self) -> Result<Vec<String>> {
        let program = format!("{PROGRAMS}/{}", binaries::TRACER);
        let attach = self.attach.name()?;
        let mut argv = [&program, "stat", "--json", "--attach", &attach].map(ToOwned::to_owned).to_vec();
        argv.extend(self.stages.then(|| "--stages".to_owned()));
        Ok(argv)
    }

    fn name(self) -> Result<String> {
        Ok(self.attach.name()? + if self.stages { ", a record a stage" } else { "" })
    }
}

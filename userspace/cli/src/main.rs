//! The binary `dsascope`: flags -> validated configuration -> wiring of source, core and faces. Owns exit codes, the terminal, signals
//! and privileges; knows nothing of eBPF or of how faults are followed.

mod config;
mod decode;
mod doctor;
mod exit;
mod flags;
mod generate;
mod kernel;
mod lines;
mod live;
mod logging;
mod privileges;
mod signals;
mod source;
mod stat;
mod terminal;
mod text;
mod trace;
mod units;

use std::future::Future;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use config::{Selection, Tracing};
use exit::{Code, Failure};
use flags::{Cli, Command};
use kernel::Kernel;
use lines::Pace;
use source::EventFile;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            logging::flush();
            let failure = Failure::from(error);
            eprintln!("{failure}");
            failure.code.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<Code> {
    match cli.command.unwrap_or(Command::Live(cli.live)) {
        Command::Live(flags) => {
            let tracing = tracing(&flags.common)?;
            live::check()?;
            let summary = with_source(&tracing, async |source| source.live(&flags).await)?;
            logging::flush();
            println!("{summary}");
            Ok(Code::Ok)
        }
        Command::Stat(flags) => {
            let (tracing, select) = (tracing(&flags.lines.common)?, Selection::new(&flags.lines.select)?);
            let pace = Pace { interval: flags.interval, duration: flags.lines.duration };
            with_source(&tracing, async |source| {
                if flags.lines.json {
                    source.lines(pace, stat::Json { select }).await
                } else {
                    source.lines(pace, stat::Text { select }).await
                }
            })
        }
        Command::Trace(flags) => {
            let (tracing, select) = (tracing(&flags.lines.common)?, Selection::new(&flags.lines.select)?);
            let pace = Pace { interval: lines::SNAPSHOT, duration: flags.lines.duration };
            with_source(&tracing, async |source| {
                if flags.lines.json {
                    source.lines(pace, trace::Json { select }).await
                } else {
                    source.lines(pace, trace::Text { select }).await
                }
            })
        }
        Command::Doctor(flags) => doctor(flags.json),
        Command::Decode(flags) => decode::run(&flags),
        Command::Completions { shell } => {
            generate::to_stdout(|out| {
                generate::completions(shell, out);
                Ok(())
            })?;
            Ok(Code::Ok)
        }
        Command::Man { dir } => {
            generate::to_stdout(|out| generate::man(dir.as_deref(), out))?;
            Ok(Code::Ok)
        }
    }
}

fn tracing(flags: &flags::Common) -> Result<Tracing, Failure> {
    // SAFETY: sysconf(3) with a constant name.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Tracing::new(flags, u64::try_from(page_bytes).unwrap_or(4096))
}

/// The sources there are.
enum AnySource {
    Kernel(Box<Kernel>),
    File(EventFile),
}

impl AnySource {
    async fn live(self, flags: &flags::Live) -> Result<String> {
        match self {
            Self::Kernel(source) => live::run(*source, flags).await,
            Self::File(source) => live::run(source, flags).await,
        }
    }

    async fn lines(self, pace: Pace, printer: impl lines::Printer) -> Result<Code> {
        match self {
            Self::Kernel(source) => lines::run(*source, pace, printer).await,
            Self::File(source) => lines::run(source, pace, printer).await,
        }
    }
}

/// Opens the source, gives up all privileges, and runs `work` with it on one thread.
fn with_source<T, F: Future<Output = Result<T>>>(
    tracing: &Tracing,
    work: impl FnOnce(AnySource) -> F,
) -> Result<T> {
    logging::init(tracing.verbose);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let source = match &tracing.events {
            Some(path) => AnySource::File(EventFile::open(path)?),
            None => {
                let host = dsascope_probe::preflight();
                AnySource::Kernel(Box::new(Kernel::attach(&host, tracing)?))
            }
        };
        privileges::drop_all()?;
        work(source).await
    })
}

fn doctor(json: bool) -> Result<Code> {
    let host = dsascope_probe::preflight();
    let facts = doctor::Facts {
        host: host.name,
        kernel: host.kernel,
        machine: host.machine,
        driver_loaded: host.driver_loaded,
        devices: host.devices,
        btf_vmlinux: host.btf_vmlinux,
        btf_idxd: host.btf_idxd,
        lockdown: host.lockdown,
        missing_capabilities: privileges::missing()?,
    };
    let checks = doctor::checks(&facts);
    let report = if json { doctor::json(&facts, &checks)? } else { doctor::text(&facts, &checks) };
    generate::to_stdout(|out| {
        out.extend(report.into_bytes());
        Ok(())
    })?;
    Ok(doctor::code(&checks))
}

//! The binary `dsascope`: flags -> validated configuration -> wiring of source, core and faces. Owns exit codes, the terminal, signals
//! and privileges; knows nothing of eBPF or of how faults are followed.

mod config;
mod decode;
mod diff;
mod doctor;
mod exit;
mod export;
mod feed;
mod flags;
mod generate;
mod kernel;
mod lines;
mod live;
mod logging;
mod notice;
mod privileges;
mod progress;
mod record;
mod replay;
mod report;
mod serve;
mod settings;
mod signals;
mod source;
mod stat;
mod submit;
mod terminal;
mod text;
mod trace;
mod units;

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use dsascope_capture::{Mode, Plan, Recorder};
use dsascope_core::filter::{Filter, Sieve};

use config::{Selection, Tracing};
use exit::{Code, Failure};
use feed::Pace;
use flags::{Cli, Command};
use kernel::Kernel;
use lines::{Beside, Consumer, Printing};
use record::Watch;
use replay::{Replay, Speed};
use source::EventFile;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            logging::flush();
            let failure = Failure::from(error);
            eprintln!("{failure}");
            failure.code.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<ExitCode> {
    let code = match cli.command.unwrap_or(Command::Live(cli.live)) {
        Command::Live(flags) if flags.json => {
            let select = Selection::default();
            read(&flags.reading, None, Pace::default(), Printing::new(trace::Json { select }))?
        }
        Command::Live(flags) => {
            let mut input = Input::reading(&flags.reading, flags.speed)?;
            live::check()?;
            let settings = settings::Settings::load(flags.config.as_deref())?;
            let baseline = flags.baseline.as_deref().map(diff::baseline).transpose()?;
            if input.from.is_none() && input.save.is_none() {
                let (plan, wanted) = record::beside_live(&flags.flight)?;
                // What nobody asked for is no reason not to start.
                input.watch = Watch::new(&flags.flight);
                input.save = (wanted || recorder_fits(&plan)).then_some(plan);
            }
            let begin = live::Begin { flags: &flags, settings, baseline };
            let summary = input.open(&[], async |opened| match opened.source {
                AnySource::Kernel(source) => live::run(*source, opened.beside, begin).await,
                AnySource::Replay(source) => live::run(*source, opened.beside, begin).await,
                AnySource::Text(source) => live::run(*source, opened.beside, begin).await,
            })?;
            logging::flush();
            println!("{summary}");
            Code::Ok
        }
        Command::Stat(flags) => {
            let select = Selection::new(&flags.lines.select)?;
            let pace = Pace { interval: Some(flags.interval), duration: flags.lines.duration };
            if flags.lines.json {
                read(&flags.lines.reading, None, pace, Printing::new(stat::Json { select }))?
            } else {
                read(&flags.lines.reading, None, pace, Printing::new(stat::Text { select }))?
            }
        }
        Command::Trace(flags) => {
            let select = Selection::new(&flags.lines.select)?;
            let pace = Pace { interval: None, duration: flags.lines.duration };
            if flags.lines.json {
                read(&flags.lines.reading, flags.faults.filter, pace, Printing::new(trace::Json { select }))?
            } else {
                read(&flags.lines.reading, flags.faults.filter, pace, Printing::new(trace::Text { select }))?
            }
        }
        Command::Export(flags) => {
            let pace = Pace { interval: None, duration: flags.duration };
            let (reading, exporting) = (export::reading(&flags)?, export::Exporting::new(&flags)?);
            read(&reading, flags.faults.filter, pace, exporting)?
        }
        Command::Report(flags) => {
            let pace = Pace { interval: None, duration: flags.duration };
            match export::page(&flags)? {
                Some(page) => read(&flags.reading, None, pace, export::Exporting::new(&page)?)?,
                None => read(&flags.reading, None, pace, Printing::new(report::Text::default()))?,
            }
        }
        Command::Diff(flags) => diff::run(&flags)?,
        Command::Serve(flags) => serve(&flags)?,
        Command::Record(flags) => return record(&flags),
        Command::Submit(flags) => submit::run(&flags)?,
        Command::Doctor(flags) => doctor(flags.json)?,
        Command::Decode(flags) => decode::run(&flags)?,
        Command::Completions { shell } => {
            generate::to_stdout(|out| {
                generate::completions(shell, out);
                Ok(())
            })?;
            Code::Ok
        }
        Command::Man { dir } => {
            generate::to_stdout(|out| generate::man(dir.as_deref(), out))?;
            Code::Ok
        }
    };
    Ok(code.into())
}

/// Tells `consumer` of this host's events, or a capture's, with the faults that `filter` takes.
fn read(flags: &flags::Reading, filter: Option<Filter>, pace: Pace, consumer: impl Consumer) -> Result<Code> {
    let input = Input { filter, ..Input::reading(flags, Speed::Max)? };
    let ended = input.open(&[], async |opened| opened.lines(pace, consumer).await)?;
    Ok(ended.code)
}

/// The socket is opened and the files are read before privileges are dropped, and before anything is attached.
fn serve(flags: &flags::Serve) -> Result<Code> {
    let service = serve::Service::open(flags)?;
    let input = Input::reading(&flags.reading, flags.speed)?;
    let ended = input
        .open(&[], async |opened| opened.lines(Pace::default(), serve::Serving::start(service)?).await)?;
    Ok(ended.code)
}

/// Ends as the command does, when there is one.
fn record(flags: &flags::Record) -> Result<ExitCode> {
    let from = flags.from.clone().map(|path| (path, Speed::Max));
    let input = Input {
        tracing: tracing(&flags.common)?,
        from,
        filter: flags.faults.filter.clone(),
        save: Some(record::plan(flags)?),
        watch: Watch::new(&flags.flight),
    };
    let pace = Pace { interval: Some(record::PROGRESS), duration: flags.duration };
    let ended =
        input.open(&flags.command, async |opened| opened.lines(pace, record::Progress::new()).await)?;
    Ok(ended.command.map_or(ended.code.into(), |status| record::code_of(status).into()))
}

fn tracing(flags: &flags::Common) -> Result<Tracing, Failure> {
    // SAFETY: sysconf(3) with a constant name.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Tracing::new(flags, u64::try_from(page_bytes).unwrap_or(4096))
}

/// Where events come from, and where they are kept.
struct Input {
    tracing: Tracing,
    from: Option<(PathBuf, Speed)>,
    filter: Option<Filter>,
    save: Option<Plan>,
    watch: Watch,
}

/// The sources there are.
enum AnySource {
    Kernel(Box<Kernel>),
    Replay(Box<Replay>),
    Text(Box<EventFile>),
}

/// A source that is observed, and what goes with it.
struct Opened {
    source: AnySource,
    beside: Beside,
}

impl Input {
    fn reading(flags: &flags::Reading, speed: Speed) -> Result<Self, Failure> {
        let plan = |path: &PathBuf| Plan {
            path: path.clone(),
            replace: flags.force,
            command: Vec::new(),
            mode: Mode::All { max_bytes: None, keep: None },
        };
        Ok(Self {
            tracing: tracing(&flags.common)?,
            from: flags.from.clone().map(|path| (path, speed)),
            filter: None,
            save: flags.save.as_ref().map(plan),
            watch: Watch::default(),
        })
    }

    /// Opens all of it, starts `command`, gives up all privileges, and runs `work` on one thread.
    fn open<T, F: Future<Output = Result<T>>>(
        self,
        command: &[String],
        work: impl FnOnce(Opened) -> F,
    ) -> Result<T> {
        logging::init(self.tracing.verbose);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        runtime.block_on(async {
            let recorder = self.save.map(recorder).transpose()?;
            let source = match self.from {
                Some((path, speed)) if Replay::is_capture(&path) => {
                    AnySource::Replay(Box::new(Replay::open(&path, speed)?))
                }
                Some((path, _)) => AnySource::Text(Box::new(EventFile::open(&path)?)),
                None => {
                    let host = dsascope_probe::preflight();
                    AnySource::Kernel(Box::new(Kernel::attach(&host, &self.tracing)?))
                }
            };
            let command = record::spawn(command)?;
            privileges::drop_all()?;
            let sieve = self.filter.map(Sieve::new);
            work(Opened { source, beside: Beside { sieve, recorder, watch: self.watch, command } }).await
        })
    }
}

impl Opened {
    async fn lines(self, pace: Pace, consumer: impl Consumer) -> Result<lines::Ended> {
        let Self { source, beside } = self;
        match source {
            AnySource::Kernel(source) => lines::run(*source, beside, pace, consumer).await,
            AnySource::Replay(source) => lines::run(*source, beside, pace, consumer).await,
            AnySource::Text(source) => lines::run(*source, beside, pace, consumer).await,
        }
    }
}

/// Whether files can be made where a flight recorder would save them.
fn recorder_fits(plan: &Plan) -> bool {
    // SAFETY: access(2) with a NUL-terminated path that lives through the call.
    std::ffi::CString::new(plan.directory().as_os_str().as_encoded_bytes())
        .is_ok_and(|path| unsafe { libc::access(path.as_ptr(), libc::W_OK) } == 0)
}

/// Starts a recorder whose files belong to whoever owns their directory.
fn recorder(plan: Plan) -> Result<Recorder> {
    let directory = plan.directory().to_owned();
    let next = "name a file that can be made, in a directory that is there; --force writes over one";
    let prepare = move || {
        privileges::write_as_owner_of(&directory)?;
        privileges::drop_all().map_err(std::io::Error::other)
    };
    Ok(Recorder::start(plan, prepare)
        .map_err(|error| Failure::new(Code::Failure, error.to_string(), next))?)
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

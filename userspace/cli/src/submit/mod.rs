//! `dsascope submit`: a load of verified descriptors on one work queue, with faults on purpose.
//!
//! Owns: which work queue, what of the flags goes together, files, signals and the exit code. The load itself is `dsascope_submit`'s.

pub(crate) mod flags;
mod text;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use dsascope_submit::load::hlog::Hlog;
use dsascope_submit::load::report::{LoadReport, QueueReport, Report, Verdict};
use dsascope_submit::load::{self, Jobs, Limits, Load, Outcome, Shares, Snapshot, Wanted};
use dsascope_submit::sysfs::{self, Mode, OpenFile, QueueInfo};
use dsascope_submit::{DeviceKind, Error, Habit, Kit, Packing, Pages, Paging, Slot, Submission, WorkQueue};

use crate::exit::{Code, Failure};
use crate::signals::{Asked, Signals};
use crate::{generate, privileges, units};

use flags::{By, Cpus, Gaps, Kind, Operations, QueueMode, Submit};

pub(crate) fn run(flags: &Submit) -> Result<Code> {
    let info = choose(flags)?;
    let load = Prepared::new(flags, info)?;
    let report = load.run()?;
    generate::to_stdout(|out| {
        if flags.json {
            serde_json::to_writer(&mut *out, &report).context("write the report")?;
            out.push(b'\n');
        } else {
            out.extend(text::report(&report).into_bytes());
        }
        Ok(())
    })?;
    Ok(match report.verdict() {
        Verdict::Good => Code::Ok,
        Verdict::Mismatch => Code::Mismatch,
        Verdict::TimedOut => Code::TimedOut,
        Verdict::Partial => Code::Partial,
    })
}

/// The one that is named, or the first that fits.
fn choose(flags: &Submit) -> Result<QueueInfo, Failure> {
    let next = "enable a work queue of type user: accel-config, or docs/submit.md; `dsascope doctor` says what this host has";
    let all = sysfs::queues(Path::new(sysfs::DEVICES)).map_err(|error| match error {
        Error::Sysfs { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Failure::new(Code::NoDriver, "the idxd driver is not loaded", "load it: modprobe idxd")
        }
        error => Failure::new(Code::Failure, error.to_string(), next),
    })?;
    let name =
        flags.wq.as_deref().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
    let operations = match &flags.op {
        Operations::All => Vec::new(),
        Operations::Some(mixed) => mixed.0.iter().map(|&(operation, _)| operation).collect(),
    };
    let fits = |info: &&QueueInfo| match &name {
        Some(name) => info.name == *name,
        None => {
            let kind = flags.kind.is_none_or(|kind| {
                kind == Kind::Dsa && info.kind == DeviceKind::Dsa
                    || kind == Kind::Iax && info.kind == DeviceKind::Iaa
            });
            let mode =
                flags.mode.is_none_or(|mode| (mode == QueueMode::Shared) == (info.mode == Mode::Shared));
            kind && mode && operations.iter().all(|operation| operation.is_of(info.kind))
        }
    };
    all.iter().find(fits).cloned().ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|info| &*info.name).collect();
        let there = if names.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        };
        let wanted = name.map_or_else(|| "fits".to_owned(), |name| format!("is {name}"));
        Failure::new(Code::Failure, format!("no enabled work queue for user space {wanted}: {there}"), next)
    })
}

/// A load whose parts go together, with its work queue open.
struct Prepared {
    info: QueueInfo,
    queue: WorkQueue,
    file: Option<OpenFile>,
    paging: Paging,
    packing: Packing,
    jobs: Jobs,
    load: Load,
    verify: bool,
    hlog: Option<File>,
}

impl Prepared {
    fn new(flags: &Submit, info: QueueInfo) -> Result<Self> {
        let paging =
            Paging { block_on_fault: info.paging.block_on_fault && !flags.no_block_on_fault, ..info.paging };
        let jobs = jobs(flags, &info)?;
        let shares = shares(flags, &jobs);
        check(flags, &info, &jobs, &shares)?;
        let load = Load { shares, ..load(flags, &info)? };
        let bytes = Slot::bytes(&jobs.jobs) * u64::from(load.threads) * u64::from(load.depth);
        if bytes > flags.memory {
            let (needed, most) = (units::show_size(bytes), units::show_size(flags.memory));
            let next = "fewer threads, less depth, smaller sizes or batches; or more with --memory";
            return Err(usage(format!("operands need {needed}, more than --memory {most}"), next).into());
        }
        let hlog = flags
            .hlog
            .as_ref()
            .map(|path| File::create(path).with_context(|| format!("make {}", path.display())));
        let hlog = hlog.transpose()?;
        if let Some(node) = flags.node {
            load::bind_memory(node)
                .map_err(|error| usage(error.to_string(), "name a NUMA node of this host"))?;
        }
        let queue = open(flags, &info)?;
        let file = OpenFile::of_this_thread(Path::new(sysfs::DEVICES), info.kind, &info.name);
        let fails = |habit: Habit| habit.fails();
        let needs_file = jobs.has_records(fails)
            || load.shares.records.iter().any(|&(habit, share)| share > 0 && habit.fails());
        let file = match file {
            Ok(file) => Some(file),
            Err(error) if needs_file => {
                let next = "records that cannot be delivered have ended when the driver's failure counter says so: a kernel that has it";
                return Err(Failure::new(Code::Failure, error.to_string(), next).into());
            }
            Err(_) => None,
        };
        let packing = if flags.packed { Packing::Packed } else { Packing::Pages };
        Ok(Self { info, queue, file, paging, packing, jobs, load, verify: !flags.no_verify, hlog })
    }

    fn run(mut self) -> Result<Report> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        let stop = Arc::new(AtomicBool::new(false));
        let hlog = self
            .hlog
            .take()
            .map(|file| Hlog::begin(BufWriter::new(file), SystemTime::now(), &self.jobs.groups));
        let mut hlog = hlog.transpose().context("write the interval log")?;
        privileges::drop_all()?;
        let asked = Arc::clone(&stop);
        runtime.block_on(async {
            let mut signals = Signals::new().context("handle signals")?;
            let mut working = tokio::task::spawn_blocking(move || {
                let outcome = self.submit(&stop, hlog.as_mut())?;
                if let Some(hlog) = hlog {
                    hlog.end().context("write the interval log")?;
                }
                Ok(self.report(&outcome))
            });
            loop {
                tokio::select! {
                    report = &mut working => return report.context("the load panicked")?,
                    signal = signals.next() => {
                        // What is outstanding is still seen to its end.
                        if let Asked::End(_) = signal {
                            asked.store(true, Ordering::Relaxed);
                        }
                    }
                }
            }
        })
    }

    fn submit(
        &self,
        stop: &AtomicBool,
        mut hlog: Option<&mut Hlog<BufWriter<File>>>,
    ) -> Result<Outcome, Error> {
        let kit = Kit {
            queue: &self.queue,
            kind: self.info.kind,
            paging: self.paging,
            packing: self.packing,
            jobs: &self.jobs.jobs,
            verify: self.verify,
        };
        let mut progress = text::Progress::new(io::stderr().is_terminal());
        let watch = |snapshot: &Snapshot<'_>| {
            progress.show(snapshot, &mut io::stderr());
            let Some(hlog) = &mut hlog else { return Ok(()) };
            hlog.interval(snapshot.from, snapshot.to, snapshot.interval)
                .map_err(|source| Error::System { operation: "writing the interval log", source })
        };
        let groups = self.jobs.groups.len();
        let outcome = load::run(&kit, &self.jobs.names, groups, self.file.as_ref(), &self.load, stop, watch);
        progress.end(&mut io::stderr());
        outcome
    }

    fn report(&self, outcome: &Outcome) -> Report {
        let Self { info, load, paging, .. } = self;
        let queue = QueueReport {
            name: info.name.clone(),
            device: info.kind.prefix().into(),
            mode: if info.mode == Mode::Shared { "shared" } else { "dedicated" }.into(),
            size: info.size,
            submission: match self.queue.submission() {
                Submission::Movdir64b => "movdir64b",
                Submission::Enqcmd { .. } => "enqcmd",
                Submission::Write => "write",
                Submission::PlainStores => "plain_stores",
            }
            .into(),
            page_requests: paging.page_requests,
            block_on_fault: paging.block_on_fault,
        };
        let load = LoadReport {
            threads: load.threads,
            depth: load.depth,
            rate_per_s: load.rate_per_s,
            poisson: load.poisson,
            ramp_ns: units::ns(load.ramp),
            warm_up_ns: units::ns(load.warm_up),
            duration_ns: load.duration.map(units::ns),
            count: load.count,
            timeout_ns: load.limits.timeout_ns,
            poll_ns: units::ns(load.poll),
            seed: load.seed,
            operations: self.jobs.groups.clone(),
            verified: self.verify,
            packed: self.packing == Packing::Packed,
        };
        Report::new(env!("CARGO_PKG_VERSION"), queue, load, outcome)
    }
}

fn usage(what: impl Into<String>, next: &str) -> Failure {
    Failure::new(Code::Usage, what, next)
}

fn jobs(flags: &Submit, info: &QueueInfo) -> Result<Jobs, Failure> {
    let operations = match &flags.op {
        Operations::All => load::all_of(info.kind).into_iter().map(|operation| (operation, 1)).collect(),
        Operations::Some(mixed) => mixed.0.clone(),
    };
    // Words alone say how many descriptors they are about.
    let of_words = flags.words.as_ref().map(|words| (words.elements.len().max(2)) as u16);
    let batches =
        flags.batch.as_ref().map_or_else(|| vec![(of_words.unwrap_or(1), 1)], |mixed| mixed.0.clone());
    let list_may_be_absent = flags.list.0.iter().any(|&(pages, share)| pages == Pages::Absent && share > 0);
    let wanted = Wanted {
        operations,
        bytes: flags.size.0.clone(),
        batches,
        words: flags.words.clone(),
        list_border: list_may_be_absent.then_some(flags.list_from),
    };
    let next = "`dsascope submit --help` and docs/submit.md say what goes together";
    wanted.jobs(info.kind, info.max_transfer_bytes, info.max_batch).map_err(|what| usage(what, next))
}

fn shares(flags: &Submit, jobs: &Jobs) -> Shares {
    let (records, list) = match &flags.words {
        Some(words) => {
            let list = if words.list_border.is_some() { Pages::Absent } else { Pages::Resident };
            (vec![(words.own, 1)], vec![(list, 1)])
        }
        None => (flags.cr.0.clone(), flags.list.0.clone()),
    };
    let (source, destination) = (flags.source.0.clone(), flags.destination.0.clone());
    Shares { jobs: jobs.shares.clone(), records, source, destination, list }
}

/// What cannot be waited for, or not be told.
fn check(flags: &Submit, info: &QueueInfo, jobs: &Jobs, shares: &Shares) -> Result<(), Failure> {
    let has =
        |which: fn(Habit) -> bool| shares.records.iter().any(|&(habit, share)| share > 0 && which(habit));
    let list_absent = shares.list.iter().any(|&(pages, share)| pages == Pages::Absent && share > 0);
    let problem = match () {
        () if list_absent && !jobs.has_batches() => Some("a list that is absent needs batches: --batch"),
        () if has(|habit| !habit.is_seen()) && jobs.needs_records(list_absent) => Some(
            "drains, and batches whose list is absent, need completion records that come, to be waited for or resumed",
        ),
        () if has(|habit| habit == Habit::Straddling) && jobs.has_batches() => {
            Some("records of batches cannot straddle here")
        }
        () if has(|habit| habit == Habit::Straddling) && flags.by == By::Write => {
            Some("the driver itself refuses records in two pages by write(2)")
        }
        () if flags.packed && jobs.has_fences() && jobs.has_records(|habit| habit == Habit::Absent) => {
            Some("packed absent records bring each other's page, so that nobody can say where a fence stops")
        }
        () if flags.by == By::PlainStores && info.mode == Mode::Shared => {
            Some("a shared work queue takes no plain stores")
        }
        () => None,
    };
    problem.map_or(Ok(()), |problem| {
        Err(usage(problem, "`dsascope submit --help` and docs/submit.md say what goes together"))
    })
}

fn load(flags: &Submit, info: &QueueInfo) -> Result<Load, Failure> {
    let straddling = flags.cr.0.iter().any(|&(habit, share)| habit == Habit::Straddling && share > 0);
    // With a drain behind each that straddles.
    let each = if straddling { 2 } else { 1 };
    let size = u16::try_from(info.size).unwrap_or(u16::MAX);
    let fits = (size / flags.threads / each).min(16);
    let depth = flags.depth.unwrap_or_else(|| if info.mode == Mode::Shared { 16 } else { fits.max(1) });
    if info.mode == Mode::Dedicated
        && u32::from(depth) * u32::from(flags.threads) * u32::from(each) > info.size
    {
        let what = format!(
            "{} threads of depth {depth} are more than the {} entries of {}",
            flags.threads, info.size, info.name
        );
        return Err(usage(
            what,
            "a dedicated work queue throws away what does not fit (twice the depth with straddling records)",
        ));
    }
    let cpus = match (&flags.cpus, flags.node) {
        (Some(Cpus(cpus)), _) => cpus.clone(),
        (None, Some(node)) => cpus_of(node)?,
        (None, None) => Vec::new(),
    };
    Ok(Load {
        threads: flags.threads,
        depth,
        rate_per_s: flags.rate,
        poisson: flags.gaps == Gaps::Poisson,
        ramp: flags.ramp.unwrap_or_default(),
        warm_up: flags.warm_up.unwrap_or_default(),
        duration: flags.duration,
        count: flags.count,
        shares: Shares {
            jobs: Vec::new(),
            records: Vec::new(),
            source: Vec::new(),
            destination: Vec::new(),
            list: Vec::new(),
        },
        limits: Limits { timeout_ns: units::ns(flags.timeout), resumes: flags.max_resumes },
        poll: flags.poll,
        seed: flags.seed,
        cpus,
        interval: flags.interval.max(Duration::from_millis(10)),
    })
}

fn cpus_of(node: u32) -> Result<Vec<usize>, Failure> {
    let path = format!("/sys/devices/system/node/node{node}/cpulist");
    let list = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    let Cpus(cpus) = list
        .and_then(|list| flags::cpus(&list))
        .map_err(|error| usage(format!("{path}: {error}"), "name a NUMA node that has CPUs, or --cpus"))?;
    Ok(cpus)
}

/// By the instruction of its mode, else as the system lets this process.
fn open(flags: &Submit, info: &QueueInfo) -> Result<WorkQueue, Failure> {
    let node = flags.wq.as_ref().filter(|path| path.is_absolute()).cloned().unwrap_or_else(|| info.node());
    let wanted = match (flags.by, info.mode) {
        (By::Write, _) => Submission::Write,
        (By::PlainStores, _) => Submission::PlainStores,
        (By::Auto, Mode::Shared) => Submission::Enqcmd { attempts: flags.enqcmd_attempts },
        (By::Auto, Mode::Dedicated) => Submission::detect(),
    };
    let opened = WorkQueue::open_for(&node, wanted).or_else(|error| match error {
        Error::MapPortal { ref source, .. }
            if flags.by == By::Auto && source.raw_os_error() == Some(libc::EPERM) =>
        {
            eprintln!("dsascope: {error}; submitting by write(2)");
            WorkQueue::open_for(&node, Submission::Write)
        }
        Error::Instruction { .. } if flags.by == By::Auto => {
            eprintln!("dsascope: {error}; submitting by write(2)");
            WorkQueue::open_for(&node, Submission::Write)
        }
        error => Err(error),
    });
    let queue = opened.map_err(|error| {
        let next = match &error {
            Error::Open { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run it as who owns the device file"
            }
            Error::Open { source, .. } if source.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                "this kernel gives no shared virtual addressing to user space: see `dsascope doctor`"
            }
            _ => "see docs/submit.md",
        };
        Failure::new(Code::Failure, error.to_string(), next)
    })?;
    if queue.submission() == Submission::PlainStores {
        eprintln!(
            "dsascope: submitting by plain stores, which no hardware understands: only the testbed's device does"
        );
    }
    Ok(queue)
}

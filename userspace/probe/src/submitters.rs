//! Uprobes in submitters: which files are searched, what was attached in them, and what was not.
//!
//! Owns: the attached sites; a file is attached to once, however many processes run it, and nothing outlives this object. Refuses:
//! keeping a program from running: what cannot be opened, searched or probed is named in [`SubmitterFile`] and left alone.

use std::{
    collections::BTreeSet,
    ffi::CString,
    fs,
    io::Read as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::Path,
    time::Instant,
};

use dsascope_common::wire::name;
use dsascope_core::event::{SubmitterFile, SubmitterSite};

use crate::{
    error::ProbeError,
    host::{self, OpenFile},
    object::Loaded,
    processes::{Executables, Maps, Target, submitters},
    sites::{self, SiteCookie, What},
    sys::{self, PerfLink, ProgramType},
};

const EVENT_TYPE: &str = "/sys/bus/event_source/devices/uprobe/type";
/// A file larger than that is not searched.
const LARGEST_BYTES: u64 = 1 << 30;
/// Sites that are attached to altogether.
const MOST_SITES: usize = 4096;

/// The programs behind the uprobes.
#[derive(Debug)]
struct Programs {
    submission: OwnedFd,
    refusal: OwnedFd,
    submit: OwnedFd,
    refused: OwnedFd,
    seen: OwnedFd,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Submitters {
    event_type: u32,
    programs: Programs,
    links: Vec<PerfLink>,
    /// Looked at and not told of yet.
    files: Vec<SubmitterFile>,
    /// By device and inode, and for which process alone.
    attached: BTreeSet<(u64, u64, Option<u32>)>,
    /// Processes that have been looked at.
    looked_at: BTreeSet<u32>,
    targets: Vec<Target>,
}

fn load(object: &Loaded, program: &str) -> Result<OwnedFd, ProbeError> {
    sys::load_program(program, ProgramType::Kprobe, object.code(program)?, None)
        .map_err(|e| ProbeError::system(format!("load {program}"), e))
}

impl Submitters {
    /// Loads the programs.
    pub(crate) fn new(object: &Loaded, targets: &[Target]) -> Result<Self, ProbeError> {
        let event_type = fs::read_to_string(EVENT_TYPE).map_err(|e| {
            ProbeError::system(format!("reading {EVENT_TYPE}: this kernel has no uprobes"), e)
        })?;
        let event_type = event_type
            .trim()
            .parse()
            .map_err(|_| ProbeError::Object { what: format!("{EVENT_TYPE} says {event_type:?}") })?;
        let programs = Programs {
            submission: load(object, "submission_uprobe")?,
            refusal: load(object, "refusal_uprobe")?,
            submit: load(object, "submit_usdt")?,
            refused: load(object, "refused_usdt")?,
            seen: load(object, "seen_usdt")?,
        };
        Ok(Self {
            event_type,
            programs,
            links: Vec::new(),
            files: Vec::new(),
            attached: BTreeSet::new(),
            looked_at: BTreeSet::new(),
            targets: targets.to_vec(),
        })
    }

    /// Attaches to what was named. `open`: the files that have a WQ open.
    ///
    /// # Errors
    /// What was named by itself cannot be opened or searched.
    pub(crate) fn attach(&mut self, open: &[OpenFile]) -> Result<Vec<SubmitterFile>, ProbeError> {
        for target in self.targets.clone() {
            match target {
                Target::File(path) => self.file(&path, &path.to_string_lossy(), None)?,
                Target::Process(pid) => self.process(pid, Some(pid))?,
                Target::Auto => {
                    for process in submitters(open, host::process_of_thread).processes {
                        self.look_at(process.tgid);
                    }
                }
            }
        }
        Ok(std::mem::take(&mut self.files))
    }

    /// A process has opened a WQ: its files are attached to, unless they are already.
    pub(crate) fn opened(&mut self, tgid: u32) -> Vec<SubmitterFile> {
        self.look_at(tgid);
        std::mem::take(&mut self.files)
    }

    fn look_at(&mut self, tgid: u32) {
        if !self.looked_at.insert(tgid) {
            return;
        }
        if let Err(error) = self.process(tgid, None) {
            self.files
                .push(SubmitterFile { problem: Some(error.to_string()), ..of(&format!("process {tgid}")) });
        }
    }

    /// The files that a process runs; those in which nothing submits are not worth telling of.
    fn process(&mut self, pid: u32, only: Option<u32>) -> Result<(), ProbeError> {
        let mut executables = Executables::default();
        executables.add(pid)?;
        for (name, error) in &executables.missed {
            let problem = Some(format!("cannot be opened: {error}"));
            self.files.push(SubmitterFile { problem, pid: only, ..of(&name.to_string_lossy()) });
        }
        for file in &executables.files {
            let name = file.name.to_string_lossy();
            if let Err(error) = self.file(&file.path, &name, only) {
                self.files.push(SubmitterFile { problem: Some(error.to_string()), pid: only, ..of(&name) });
            }
        }
        Ok(())
    }

    /// Searches one file and attaches to what is found. `only`: in this process alone.
    fn file(&mut self, path: &Path, name: &str, only: Option<u32>) -> Result<(), ProbeError> {
        let failed = |what: &str| {
            let operation = format!("{what} {name}");
            move |source| ProbeError::System { operation, source }
        };
        let mut file = fs::File::open(path).map_err(failed("open"))?;
        let meta = file.metadata().map_err(failed("look at"))?;
        if !self.attached.insert((meta.dev(), meta.ino(), only)) {
            return Ok(());
        }
        if !meta.is_file() || meta.len() > LARGEST_BYTES {
            let source = std::io::Error::other("not a regular file of at most 1 GiB");
            return Err(failed("search")(source));
        }
        let mut data = Vec::new();
        file.by_ref().take(LARGEST_BYTES).read_to_end(&mut data).map_err(failed("read"))?;
        let is_named = self.targets.iter().any(|t| matches!(t, Target::File(p) if p == path));
        let scan = match sites::scan(name, &data) {
            Ok(scan) => scan,
            // Named by the user, it should be a program; run by a process, a file may be anything.
            Err(error) if is_named => return Err(ProbeError::Object { what: error.to_string() }),
            Err(error) => {
                self.files.push(SubmitterFile { problem: Some(error.to_string()), pid: only, ..of(name) });
                return Ok(());
            }
        };
        drop(data);
        if scan.sites.is_empty() && scan.unprobeable.is_empty() && !is_named {
            return Ok(());
        }
        let mut told = SubmitterFile { pid: only, covered: scan.covered.len() as u64, ..of(name) };
        for site in &scan.sites {
            let refused = self.site(path, site, only).err().map(|error| error.to_string());
            told.sites.push(SubmitterSite {
                what: site_name(site.what).into(),
                address: site.address,
                symbol: site.symbol.as_ref().map(ToString::to_string),
                instruction: site.text.clone(),
                refused,
            });
        }
        told.unprobeable = scan.unprobeable.iter().map(ToString::to_string).collect();
        self.files.push(told);
        Ok(())
    }

    fn site(&mut self, path: &Path, site: &sites::Site, only: Option<u32>) -> std::io::Result<()> {
        let refuse = |what: &str| std::io::Error::other(what.to_owned());
        let path =
            CString::new(path.as_os_str().as_bytes()).map_err(|_| refuse("its path has a zero byte"))?;
        if self.links.len() >= MOST_SITES {
            return Err(refuse("there are too many sites"));
        }
        let program = match site.what {
            What::Movdir64b | What::Enqcmd | What::Enqcmds => &self.programs.submission,
            What::UsdtSubmit => &self.programs.submit,
            What::UsdtRefused => &self.programs.refused,
            What::UsdtSeen => &self.programs.seen,
        };
        let attach = |program: &OwnedFd, offset, cookie: SiteCookie| {
            let event_type = self.event_type;
            let uprobe = sys::Uprobe { event_type, path: &path, offset, cookie: cookie.0, only };
            sys::attach_uprobe(program.as_fd(), &uprobe)
        };
        // The refusal first: a submission that has one waits for it.
        let mut cookie = site.cookie.unwrap_or(SiteCookie(0));
        if let Some(offset) = site.result_offset {
            match attach(&self.programs.refusal, offset, SiteCookie::RESULT) {
                Ok(link) => self.links.push(link),
                Err(_) => cookie = cookie.without_result(),
            }
        }
        self.links.push(attach(program, site.file_offset, cookie)?);
        Ok(())
    }

    /// What a uprobe with the submission's program costs a program here, each time: so many calls of a function of ours with it and without.
    /// `globals`: as of the programs that are attached.
    pub(crate) fn cost_ns(&self, globals: &[(&str, Vec<u8>)]) -> Result<u64, ProbeError> {
        const CALLS: u32 = 2000;
        // Maps of its own: nothing of this is in anybody's counts.
        let object = Loaded::new(globals, &[(name::RING, 1 << 20)])?;
        let program = load(&object, "submit_usdt")?;
        let maps = Maps::read(std::process::id())?;
        let address = probed as *const () as u64;
        let offset = maps
            .file_offset(address)
            .ok_or_else(|| ProbeError::Object { what: "this program's own code is in no file".into() })?;
        let descriptor = [0_u64; 8];
        let time = || {
            let began = Instant::now();
            for _ in 0..CALLS {
                probed(descriptor.as_ptr(), 0, 0);
            }
            began.elapsed().as_nanos() as u64
        };
        let without = time().min(time());
        let uprobe = sys::Uprobe {
            event_type: self.event_type,
            path: c"/proc/self/exe",
            offset,
            cookie: 0,
            only: Some(std::process::id()),
        };
        let _link = sys::attach_uprobe(program.as_fd(), &uprobe)
            .map_err(|e| ProbeError::system("attach a uprobe to this program", e))?;
        Ok(time().min(time()).saturating_sub(without) / u64::from(CALLS))
    }
}

fn of(name: &str) -> SubmitterFile {
    SubmitterFile { file: name.to_owned(), ..SubmitterFile::default() }
}

const fn site_name(what: What) -> &'static str {
    match what {
        What::Movdir64b => "movdir64b",
        What::Enqcmd => "enqcmd",
        What::Enqcmds => "enqcmds",
        What::UsdtSubmit => "dsascope:submit",
        What::UsdtRefused => "dsascope:refused",
        What::UsdtSeen => "dsascope:seen",
    }
}

/// Takes what `dsascope:submit` takes, and does nothing.
#[inline(never)]
extern "C" fn probed(descriptor: *const u64, portal: u64, how: u64) {
    std::hint::black_box((descriptor, portal, how));
}

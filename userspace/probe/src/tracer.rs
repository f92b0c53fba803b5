//! Tracing the idxd driver: load, attach, read, account, detach.
//!
//! Nothing outlives the process: every link is a file descriptor, and the kernel detaches when it is closed, also by SIGKILL.

use std::{
    collections::HashMap as StdHashMap,
    os::fd::{AsFd as _, AsRawFd, OwnedFd, RawFd},
    time::Instant,
};

use aya_log::EbpfLogger;

use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use dsascope_common::wire::{
    ContextKey, FaultRecord, OTHER_CONTEXT, Session, SessionKey, TaskPasid, Totals, counter, name,
};
use dsascope_core::{
    event::{Comm, Context, ContextTotals, Event, Hook, KernelLedger, Open, SessionInfo, Snapshot, Verdict},
    record::RingDecoder,
};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use crate::{
    error::ProbeError,
    hooks::{self, Attach, Attached},
    host::{self, Host},
    object::{Loaded, map_error},
    offsets::Layout,
    quiet::Quiet,
    submissions::{self, Submissions},
    symbols,
    sys::{self, ProgramType},
};

/// How to trace.
#[derive(Clone, Debug)]
pub struct Options {
    pub attach: Attach,
    /// Power of two, at least a page.
    pub ring_bytes: u64,
    /// Faults that may wait for their worker at once before queueing times are lost.
    pub pending: u32,
    /// One record a stage instead of one a fault; for measurement.
    pub stages: bool,
    /// Follow page requests as well.
    pub page_requests: bool,
    pub submissions: Submissions,
    /// Told in the session, for those who look for storms.
    pub storm_per_s: Option<u32>,
    /// Log from the programs through aya-log.
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attach: Attach::Auto,
            ring_bytes: 4 << 20,
            pending: 16384,
            stages: false,
            page_requests: false,
            submissions: Submissions::default(),
            storm_per_s: None,
            verbose: false,
        }
    }
}

const CONTEXT_BYTES: usize = size_of::<ContextKey>();
const TOTALS_BYTES: usize = size_of::<Totals>();
const SESSION_KEY_BYTES: usize = size_of::<SessionKey>();
const SESSION_BYTES: usize = size_of::<Session>();
const COUNTERS: usize = counter::COUNT as usize;
/// Closed files whose totals are kept apart; more are added up under "other".
const CLOSED_KEPT: usize = 4096;
/// Unread bytes at which the kernel side wakes the reader at the latest; below, its timer is enough.
const WAKE_BYTES: u64 = 64 * 1024;

type TotalsMap = HashMap<MapData, [u8; CONTEXT_BYTES], [u8; TOTALS_BYTES]>;
type SessionsMap = HashMap<MapData, [u8; SESSION_KEY_BYTES], [u8; SESSION_BYTES]>;

/// An attached tracer. Dropping it detaches everything.
pub struct Tracer {
    session: SessionInfo,
    attached: Vec<Attached>,
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, [u64; COUNTERS]>,
    totals: TotalsMap,
    decoder: RingDecoder,
    /// Files that were open before attaching, told once.
    existing: Vec<Open>,
    closed: StdHashMap<[u8; CONTEXT_BYTES], Totals>,
    /// `None`: submissions are not traced.
    submissions: Option<submissions::Tracing>,
    /// What the programs log, with `verbose`.
    programs_log: Option<EbpfLogger<&'static dyn log::Log>>,
    finished: bool,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").field("session", &self.session).finish_non_exhaustive()
    }
}

/// CLOCK_MONOTONIC now: the time of all events.
#[must_use]
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC) as u64
}

fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec; the clock ids used here always exist.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn page_bytes() -> u64 {
    // SAFETY: no preconditions.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

impl Tracer {
    /// Loads and attaches. `host`: as [`host::preflight`] saw it.
    ///
    /// # Errors
    /// What is missing, each by its own variant; a required hook that cannot be attached is [`ProbeError::NotTraceable`].
    pub fn attach(host: &Host, options: &Options) -> Result<Self, ProbeError> {
        let began = Instant::now();
        let page = page_bytes();
        if !options.ring_bytes.is_power_of_two()
            || options.ring_bytes < page
            || options.ring_bytes > u64::from(u32::MAX)
        {
            return Err(ProbeError::RingSize { bytes: options.ring_bytes, page });
        }
        if !host.driver_loaded {
            return Err(ProbeError::NoDriver);
        }
        if host.devices.is_empty() {
            return Err(ProbeError::NoDevice);
        }
        let (functions, kernel_functions, tracepoints) = hooks::targets();
        let layout = Layout::of_this_kernel(&functions, &kernel_functions, &tracepoints)?;
        // Needs CAP_SYS_ADMIN, and only fentry needs it: kprobes do without.
        let module_btf = sys::kernel_btf("idxd").unwrap_or_else(|error| {
            log::debug!("the idxd module's BTF object: {error}");
            None
        });
        let work_function =
            symbols::address("idxd_evl_fault_work").ok_or_else(|| ProbeError::NotTraceable {
                missing: vec!["idxd_evl_fault_work has no address that this process may read".into()],
            })?;

        let copy_seen = options.attach != Attach::Tracepoint;
        let load = |copy_unobserved: bool| -> Result<_, ProbeError> {
            let object = load_object(&layout, options, work_function, copy_unobserved)?;
            prepare(object, &layout, module_btf.as_ref(), host, options)
        };
        let mut prepared = load(!copy_seen)?;
        if copy_seen && !(prepared.observes(Hook::CopyStart) && prepared.observes(Hook::CopyEnd)) {
            // The programs were told that copies are seen, and they are not: again, so that none is called "not copied".
            drop(prepared);
            prepared = load(true)?;
        }
        let missing: Vec<String> = prepared
            .verdicts
            .iter()
            .filter(|v| v.required && !v.state.attached())
            .map(|v| format!("{} ({})", v.hook.name(), v.state.detail()))
            .collect();
        if !missing.is_empty() {
            return Err(ProbeError::NotTraceable { missing });
        }
        for program in &prepared.attached {
            log::debug!(
                "{}: {} instructions verified",
                program.name(),
                program.verified_instructions().unwrap_or(0)
            );
        }
        Quiet::allow();
        let started_ns = now_ns();
        let session = SessionInfo {
            tool_version: env!("CARGO_PKG_VERSION").into(),
            host: host.name.clone(),
            kernel: host.kernel.clone(),
            driver: host.driver.clone(),
            devices: host.devices.clone(),
            verdicts: prepared.verdicts,
            started_ns,
            attach_ns: began.elapsed().as_nanos() as u64,
            wall_at_zero_ns: clock_ns(libc::CLOCK_REALTIME) - started_ns as i64,
            ring_bytes: options.ring_bytes,
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            filter: None,
            submitters: prepared.submissions.as_ref().map(|submissions| submissions.told().clone()),
            storm_per_s: options.storm_per_s,
        };
        let programs_log = options
            .verbose
            .then(|| {
                let program = prepared.attached.first().and_then(Attached::id)?;
                EbpfLogger::init_from_id(program).map_err(|e| log::warn!("programs' log: {e}")).ok()
            })
            .flatten();
        let devices: Vec<_> = host.devices.iter().map(|d| d.device).collect();
        Ok(Self {
            session,
            attached: prepared.attached,
            ring: prepared.ring,
            counters: prepared.counters,
            totals: prepared.totals,
            decoder: RingDecoder::new(&devices),
            existing: prepared.existing,
            closed: StdHashMap::new(),
            submissions: prepared.submissions,
            programs_log,
            finished: false,
        })
    }

    #[must_use]
    pub const fn session(&self) -> &SessionInfo {
        &self.session
    }

    /// Takes at most `most` records from the ring, without waiting. Returns how many there were.
    pub fn drain(&mut self, most: usize, mut out: impl FnMut(Event)) -> usize {
        for open in self.existing.drain(..) {
            out(Event::Open(open));
        }
        let mut taken = 0;
        while taken < most {
            let Some(item) = self.ring.next() else { break };
            taken += 1;
            if let Some(submissions) = &mut self.submissions {
                submissions.record(&item);
            }
            let looked_at = |event: Event| {
                if let Some(submissions) = &mut self.submissions {
                    submissions.event(&event);
                }
                out(event);
            };
            if let Err(error) = self.decoder.push(&item, looked_at) {
                // Counted by the decoder and told as a hole; the text is for --verbose.
                log::warn!("ring record: {error}");
            }
        }
        self.decoder.tick(now_ns(), &mut out);
        self.tell_of_submitters(submissions::Tracing::answers, &mut out);
        if let Some(programs_log) = &mut self.programs_log {
            programs_log.flush();
        }
        taken
    }

    /// Hands over what was looked up for submissions, and the session when it has changed by that.
    fn tell_of_submitters<F: FnMut(Event)>(
        &mut self,
        look: impl Fn(&mut submissions::Tracing, &mut F) -> bool,
        out: &mut F,
    ) {
        if let Some(submissions) = &mut self.submissions
            && look(submissions, out)
        {
            self.session.submitters = Some(submissions.told().clone());
            out(Event::Session(Box::new(self.session.clone())));
        }
    }

    /// The counters kept in the kernel beside the ring.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn snapshot(&mut self) -> Result<Snapshot, ProbeError> {
        let quiet = Quiet::begin();
        let values = self.counters.get(&0, 0).map_err(|e| map_error(name::COUNTERS, "read", e))?;
        let mut sums = [0u64; COUNTERS];
        for cpu in values.iter() {
            for (sum, value) in sums.iter_mut().zip(cpu) {
                *sum = sum.wrapping_add(*value);
            }
        }
        let ledger = KernelLedger::from_counters(&sums)
            .map_err(|e| ProbeError::Object { what: format!("counters: {e}") })?;
        let totals = self.read_totals()?;
        let submitted =
            self.submissions.as_mut().map_or_else(|| Ok(Vec::new()), submissions::Tracing::totals)?;
        drop(quiet);
        // The sums are not of one instant: an end may be among them whose beginning is not.
        let between = |begun: u32, ended: u32| {
            let at = |index: u32| sums.get(index as usize).copied().unwrap_or(0);
            at(begun).saturating_sub(at(ended))
        };
        Ok(Snapshot {
            at_ns: now_ns(),
            quiesced: self.finished,
            totals,
            ledger,
            received: self.decoder.received(),
            undecodable: self.decoder.undecodable(),
            pending: Some(between(counter::PUT, counter::TAKEN)),
            active: Some(between(counter::STARTED, counter::ENDED)),
            programs: self.attached.iter().map(Attached::stats).collect(),
            ring_used_bytes: None,
            left_out: None,
            submitted,
        })
    }

    /// Reads the totals of all files. Those of closed files move from the kernel's table, which must not fill up, to ours.
    fn read_totals(&mut self) -> Result<Vec<ContextTotals>, ProbeError> {
        let failed = |operation| move |e| map_error(name::TOTALS, operation, e);
        let mut open = Vec::new();
        let mut gone = Vec::new();
        for entry in self.totals.iter() {
            let (key, value) = entry.map_err(failed("read"))?;
            let Ok(totals) = Totals::read_from_bytes(&value) else { continue };
            if totals.closed != 0 { gone.push((key, totals)) } else { open.push((key, totals)) }
        }
        for (key, totals) in gone {
            // Once closed nothing adds to it: the driver has drained the file before.
            self.totals.remove(&key).map_err(failed("remove"))?;
            self.closed.insert(key, totals);
        }
        if self.closed.len() > CLOSED_KEPT {
            self.fold_oldest();
        }
        Ok(open
            .iter()
            .map(|(key, totals)| (key, totals))
            .chain(&self.closed)
            .filter(|(_, totals)| totals.queued + totals.opened_files + totals.skipped > 0)
            .map(|(key, totals)| self.friendly(key, totals))
            .collect())
    }

    /// Adds the longest-closed half up under "other": exact in sum, and bounded.
    fn fold_oldest(&mut self) {
        let other = *OTHER_CONTEXT.as_bytes().first_chunk().unwrap_or(&[0xff; CONTEXT_BYTES]);
        let mut keys: Vec<_> = self.closed.keys().copied().filter(|k| *k != other).collect();
        keys.sort_by_key(|k| ContextKey::read_from_bytes(k).map_or(0, |c| c.opened_ns));
        keys.truncate(CLOSED_KEPT / 2);
        let mut sum = self.closed.remove(&other).unwrap_or_else(Totals::new_zeroed);
        for key in keys {
            if let Some(totals) = self.closed.remove(&key) {
                add_totals(&mut sum, &totals);
            }
        }
        self.closed.insert(other, sum);
    }

    fn friendly(&self, key: &[u8; CONTEXT_BYTES], totals: &Totals) -> ContextTotals {
        let key = ContextKey::read_from_bytes(key).unwrap_or(OTHER_CONTEXT);
        ContextTotals::from_wire(key, totals, self.decoder.kind_of(key.device))
    }

    /// Detaches, drains the ring to its end, and takes the last snapshot, which is in the events too.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn finish(&mut self, mut out: impl FnMut(Event)) -> Result<Snapshot, ProbeError> {
        let programs = self.attached.iter().map(Attached::stats).collect();
        // Beginnings go first, so that what is in flight is still seen to end.
        self.tell_of_submitters(submissions::Tracing::detach, &mut out);
        while self.attached.pop().is_some() {}
        while self.drain(usize::MAX, &mut out) > 0 {}
        self.decoder.finish(now_ns(), &mut out);
        self.tell_of_submitters(submissions::Tracing::end, &mut out);
        self.finished = true;
        let snapshot = Snapshot { programs, ..self.snapshot()? };
        out(Event::Snapshot(Box::new(snapshot.clone())));
        Ok(snapshot)
    }
}

impl AsRawFd for Tracer {
    /// Readable when the kernel side wants the reader woken.
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

fn add_totals(sum: &mut Totals, more: &Totals) {
    sum.queued += more.queued;
    sum.served += more.served;
    sum.delivered += more.delivered;
    sum.failed += more.failed;
    sum.not_copied += more.not_copied;
    sum.unobserved += more.unobserved;
    sum.skipped += more.skipped;
    sum.cr_faults += more.cr_faults;
    sum.batch_faults += more.batch_faults;
    sum.drains += more.drains;
    sum.counter_faults += more.counter_faults;
    sum.counter_failures += more.counter_failures;
    sum.driver_faults += more.driver_faults;
    sum.driver_failures += more.driver_failures;
    sum.records_lost += more.records_lost;
    sum.service_ns_sum += more.service_ns_sum;
    sum.service_ns_max = sum.service_ns_max.max(more.service_ns_max);
    sum.opened_files += more.opened_files;
}

/// After so many records a CPU wakes the reader, less one; a power of two, so that the programs need no division.
fn wake_mask(ring_bytes: u64, cpus: u64) -> u64 {
    let records = WAKE_BYTES.min(ring_bytes / 4) / size_of::<FaultRecord>() as u64 / cpus.max(1);
    records.checked_ilog2().map_or(0, |log2| (1 << log2) - 1)
}

fn cpus() -> u64 {
    std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u64)
}

fn load_object(
    layout: &Layout,
    options: &Options,
    work_function: u64,
    copy_unobserved: bool,
) -> Result<Loaded, ProbeError> {
    // aya-log's ring is in the object whether it is used or not.
    let log_bytes = if options.verbose { 1 << 17 } else { page_bytes() as u32 };
    let word = |on: bool| u32::from(on).to_ne_bytes().to_vec();
    let mut globals: Vec<(&str, Vec<u8>)> =
        layout.offsets.iter().map(|(name, value)| (*name, value.to_ne_bytes().to_vec())).collect();
    globals.push((name::WORK_FUNCTION, work_function.to_ne_bytes().to_vec()));
    globals.push((name::WAKE_MASK, wake_mask(options.ring_bytes, cpus()).to_ne_bytes().to_vec()));
    globals.push((name::STAGES, word(options.stages)));
    globals.push((name::COPY_UNOBSERVED, word(copy_unobserved)));
    globals.push((name::VERBOSE, word(options.verbose)));
    globals.extend(options.submissions.globals());
    let mut sizes = vec![
        (name::RING, options.ring_bytes as u32),
        (name::PENDING_MORE, options.pending),
        (name::LOG, log_bytes),
    ];
    sizes.extend(options.submissions.sizes());
    Loaded::new(&globals, &sizes)
}

/// Maps opened, what was there before recorded, hooks attached.
struct Prepared {
    attached: Vec<Attached>,
    verdicts: Vec<Verdict>,
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, [u64; COUNTERS]>,
    totals: TotalsMap,
    existing: Vec<Open>,
    submissions: Option<submissions::Tracing>,
}

impl Prepared {
    fn observes(&self, hook: Hook) -> bool {
        self.verdicts.iter().any(|v| v.hook == hook && v.state.attached())
    }
}

fn prepare(
    mut object: Loaded,
    layout: &Layout,
    module_btf: Option<&OwnedFd>,
    host: &Host,
    options: &Options,
) -> Result<Prepared, ProbeError> {
    let mut totals: TotalsMap =
        object.take_map(name::TOTALS)?.try_into().map_err(|e| map_error(name::TOTALS, "open", e))?;
    let mut sessions: SessionsMap =
        object.take_map(name::SESSIONS)?.try_into().map_err(|e| map_error(name::SESSIONS, "open", e))?;
    let other = OTHER_CONTEXT.as_bytes().first_chunk().copied().unwrap_or([0xff; CONTEXT_BYTES]);
    totals.insert(other, [0; TOTALS_BYTES], 0).map_err(|e| map_error(name::TOTALS, "insert", e))?;
    // Kept until the programs that use it are loaded.
    let _requesters = options.page_requests.then(|| name_requesters(&mut object, host)).transpose()?;
    let existing = record_existing(&object, layout, host, &mut totals, &mut sessions)?;
    let (attached, verdicts) = hooks::attach_all(
        &object,
        &hooks::Host { layout, module_btf },
        options.attach,
        options.page_requests,
        options.submissions.are_traced(),
    )?;
    // Last: whoever submits now finds everything else in place.
    let submissions = options
        .submissions
        .are_traced()
        .then(|| submissions::Tracing::attach(&mut object, &options.submissions, host))
        .transpose()?;
    Ok(Prepared {
        attached,
        verdicts,
        ring: object.take_map(name::RING)?.try_into().map_err(|e| map_error(name::RING, "open", e))?,
        counters: object
            .take_map(name::COUNTERS)?
            .try_into()
            .map_err(|e| map_error(name::COUNTERS, "open", e))?,
        totals,
        existing,
        submissions,
    })
}

/// Tells the programs which requester is which device.
fn name_requesters(object: &mut Loaded, host: &Host) -> Result<HashMap<MapData, u32, u32>, ProbeError> {
    let mut requesters: HashMap<MapData, u32, u32> =
        object.take_map(name::REQUESTERS)?.try_into().map_err(|e| map_error(name::REQUESTERS, "open", e))?;
    for device in host.devices.iter().map(|d| d.device) {
        match host::requester(device) {
            Some(requester) => requesters
                .insert(u32::from(requester), u32::from(device.id), 0)
                .map_err(|e| map_error(name::REQUESTERS, "insert", e))?,
            None => log::warn!("{device} has no PCI address in sysfs: its page requests are not followed"),
        }
    }
    Ok(requesters)
}

/// Files that are open already: sysfs knows WQ and thread, the task iterator knows each process's PASID.
fn record_existing(
    object: &Loaded,
    layout: &Layout,
    host: &Host,
    totals: &mut TotalsMap,
    sessions: &mut SessionsMap,
) -> Result<Vec<Open>, ProbeError> {
    if host.files.is_empty() {
        return Ok(Vec::new());
    }
    let pasids = match pasids(object, layout) {
        Ok(pasids) => pasids,
        Err(error) => {
            // Not lost: the first fault of such a file is resolved through the driver's own table.
            log::warn!("task iterator: {error}");
            return Ok(Vec::new());
        }
    };
    let mut existing: Vec<Open> = Vec::new();
    for file in &host.files {
        let Some(process) = host::process_of_thread(file.tid) else { continue };
        let Some(task) = pasids.iter().find(|t| t.tgid == process.tgid) else { continue };
        let key = ContextKey { opened_ns: 0, pasid: task.pasid, device: file.device, wq: file.wq };
        let same = |o: &&Open| o.context.key() == key.into();
        let files = existing.iter().filter(same).count() as u32 + 1;
        let device = host.devices.iter().map(|d| d.device).find(|d| d.id == file.device);
        let open = Open {
            at_ns: now_ns(),
            context: Context::from_wire(key, device.map_or_else(Default::default, |d| d.kind)),
            tgid: process.tgid,
            tid: file.tid,
            cgroup: process.cgroup.as_ref().map(|c| c.0),
            cgroup_path: process.cgroup.map(|c| c.1),
            comm: Comm::from_wire(task.comm),
            file: file.file,
            files,
            existing: true,
        };
        let start = Totals {
            tgid: open.tgid,
            cgroup: open.cgroup.unwrap_or(0),
            comm: task.comm,
            opened_files: u64::from(files),
            ..Totals::new_zeroed()
        };
        let (key, start) = (as_array(key.as_bytes()), as_array(start.as_bytes()));
        totals.insert(key, start, 0).map_err(|e| map_error(name::TOTALS, "insert", e))?;
        let session_key = SessionKey { pasid: task.pasid, device: file.device, wq: file.wq };
        let session = Session { opened_ns: 0, tgid: open.tgid, files };
        sessions
            .insert(as_array::<SESSION_KEY_BYTES>(session_key.as_bytes()), as_array(session.as_bytes()), 0)
            .map_err(|e| map_error(name::SESSIONS, "insert", e))?;
        existing.push(open);
    }
    Ok(existing)
}

/// The bytes of a record of known size.
pub(crate) fn as_array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

/// Processes that have a PASID.
fn pasids(object: &Loaded, layout: &Layout) -> std::io::Result<Vec<TaskPasid>> {
    use std::io::{Error, Read as _};
    const PROGRAM: &str = "pasids_iter";
    let id = layout
        .kernel_function(hooks::TASK_ITERATOR)
        .ok_or_else(|| Error::other("the kernel has no task iterator"))?;
    let code = object.code(PROGRAM).map_err(|e| Error::other(e.to_string()))?;
    let program = sys::load_program(PROGRAM, ProgramType::Iter, code, Some((id, None)))?;
    let mut bytes = Vec::new();
    sys::run_iterator(program.as_fd())?.read_to_end(&mut bytes)?;
    Ok(bytes
        .chunks_exact(size_of::<TaskPasid>())
        .filter_map(|chunk| TaskPasid::read_from_bytes(chunk).ok())
        .collect())
}

//! The tracer's side of submissions: exact counts by process and WQ, and what is to be looked up for the faults that pass.
//!
//! Owns: the counts of processes that have gone, and which portal is whose. Refuses: attaching ([`crate::submitters`]) and asking the system
//! ([`crate::lookup`]).

use std::{
    collections::{HashMap as StdHashMap, HashSet},
    path::Path,
    time::Duration,
};

use aya::maps::{HashMap, MapData, StackTraceMap};
use dsascope_common::wire::{
    OPCODE_UNREAD, OTHER_SUBMITTED, PLACE_IS_WQ, RecordHeader, SubmissionRecord, Submitted, SubmittedKey,
    kind, name,
};
use dsascope_core::{
    decode::operation,
    event::{Comm, DeviceId, DeviceKind, Event, How, SubmittedTotals, Submitters as Told},
};
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

use crate::{
    error::ProbeError,
    host::Host,
    lookup::{Answer, Lookup, PortalPage, Question},
    object::{Loaded, map_error},
    processes::Target,
    submitters::Submitters,
    tracer::as_array,
};

const KEY_BYTES: usize = size_of::<SubmittedKey>();
const COUNT_BYTES: usize = size_of::<Submitted>();
/// Counts of processes that have gone, kept apart; more are added up under "other".
const GONE_KEPT: usize = 4096;
/// Processes whose WQ is remembered; beyond it all are forgotten.
const OPENED_KEPT: usize = 65_536;
/// How long the last answers are waited for.
const PATIENCE: Duration = Duration::from_secs(2);

type Key = [u8; KEY_BYTES];
type Counts = HashMap<MapData, Key, [u8; COUNT_BYTES]>;

/// What to trace of submissions.
#[derive(Clone, Debug)]
pub struct Submissions {
    /// Empty: no submissions are traced.
    pub of: Vec<Target>,
    /// A power of two: of the records' addresses, one in so many is followed.
    pub sample: u32,
    /// Descriptors of a batch's list that are told of.
    pub elements_told: u32,
    /// Runs first on the thread that attaches to later submitters and looks up what processes have mapped: to keep the privileges for
    /// that alone.
    pub begin: fn(),
}

impl Default for Submissions {
    fn default() -> Self {
        Self { of: Vec::new(), sample: 1, elements_told: 64, begin: || {} }
    }
}

impl Submissions {
    #[must_use]
    pub fn are_traced(&self) -> bool {
        !self.of.is_empty()
    }

    /// Values of the programs' globals.
    pub(crate) fn globals(&self) -> [(&'static str, Vec<u8>); 2] {
        [
            (name::SUBMISSION_SAMPLE, self.sample.to_ne_bytes().to_vec()),
            (name::ELEMENTS_TOLD, self.elements_told.to_ne_bytes().to_vec()),
        ]
    }

    /// Sizes of the maps that are made small where nobody needs them.
    pub(crate) fn sizes(&self) -> Vec<(&'static str, u32)> {
        if self.are_traced() {
            return Vec::new();
        }
        // The LRU's smallest is a few entries a CPU.
        vec![(name::SUBMITTED, 1), (name::STACKS, 1), (name::WRITING, 1), (name::TRIES, 128)]
    }
}

/// See the module.
pub(crate) struct Tracing {
    counts: Counts,
    gone: StdHashMap<Key, Submitted>,
    portals: StdHashMap<PortalPage, Option<(DeviceId, u16)>>,
    /// By process: the WQ that it opened while we looked; `None`: several.
    opened: StdHashMap<u32, Option<(DeviceId, u16)>>,
    lookup: Lookup,
    told: Told,
    is_auto: bool,
    devices: Vec<DeviceId>,
}

impl Tracing {
    /// Attaches to what is named.
    pub(crate) fn attach(
        object: &mut Loaded,
        options: &Submissions,
        host: &Host,
    ) -> Result<Self, ProbeError> {
        let opened = |map| move |e| map_error(map, "open", e);
        let mut submitters = Submitters::new(object, &options.of)?;
        let cost_ns = submitters
            .cost_ns(&options.globals())
            .inspect_err(|error| log::warn!("the cost of a submission was not measured: {error}"))
            .ok();
        let mut counts: Counts =
            object.take_map(name::SUBMITTED)?.try_into().map_err(opened(name::SUBMITTED))?;
        counts
            .insert(key_bytes(&OTHER_SUBMITTED), [0; COUNT_BYTES], 0)
            .map_err(|e| map_error(name::SUBMITTED, "insert", e))?;
        let stacks: StackTraceMap<MapData> =
            object.take_map(name::STACKS)?.try_into().map_err(opened(name::STACKS))?;
        let files = submitters.attach(&host.files)?;
        let told = Told { files, cost_ns, sample: options.sample, elements_told: options.elements_told };
        let lookup = Lookup::start(submitters, stacks, options.begin)
            .map_err(|e| ProbeError::system("start a thread", e))?;
        let is_auto = options.of.contains(&Target::Auto);
        let devices = host.devices.iter().map(|d| d.device).collect();
        Ok(Self {
            counts,
            gone: StdHashMap::new(),
            portals: StdHashMap::new(),
            opened: StdHashMap::new(),
            lookup,
            told,
            is_auto,
            devices,
        })
    }

    pub(crate) const fn told(&self) -> &Told {
        &self.told
    }

    /// Looks at a record of the ring before it is decoded.
    pub(crate) fn record(&mut self, bytes: &[u8]) {
        let is_submission =
            RecordHeader::ref_from_prefix(bytes).is_ok_and(|(header, _)| header.kind == kind::SUBMISSION);
        if is_submission
            && let Ok(record) = SubmissionRecord::ref_from_bytes(bytes)
            && record.submitter.portal != 0
        {
            let page = (record.submitter.tgid, page(record.submitter.portal));
            self.lookup.ask(record.header.time_ns, Question::Portal(page));
        }
    }

    /// Looks at an event on its way out.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Open(open) => {
                let wq = (open.context.device, open.context.wq);
                if self.opened.len() >= OPENED_KEPT {
                    self.opened.clear();
                }
                let only = self.opened.entry(open.tgid).or_insert(Some(wq));
                *only = only.filter(|only| *only == wq);
                if self.is_auto {
                    self.lookup.ask(open.at_ns, Question::Opened(open.tgid));
                }
            }
            Event::Fault(fault) => {
                let Some(tgid) = fault.tgid else { return };
                if let Some(id) = fault.origin.and_then(|origin| origin.stack) {
                    self.lookup.ask(fault.at_ns, Question::Stack { tgid, id });
                }
                if let Some(page) = fault.page_address() {
                    self.lookup.ask(fault.at_ns, Question::Place { tgid, page });
                }
            }
            _ => {}
        }
    }

    /// Hands over what has been looked up. True: the session has changed.
    pub(crate) fn answers(&mut self, out: &mut impl FnMut(Event)) -> bool {
        let answers = self.lookup.answers().collect();
        self.take(answers, out)
    }

    /// Takes the probes off the submitters. True: the session has changed.
    pub(crate) fn detach(&mut self, out: &mut impl FnMut(Event)) -> bool {
        let mut answers = Vec::new();
        self.lookup.detach(PATIENCE, |answer| answers.push(answer));
        self.take(answers, out)
    }

    /// As [`Self::answers`], waiting for the last ones; then there are no more.
    pub(crate) fn end(&mut self, out: &mut impl FnMut(Event)) -> bool {
        let mut answers = Vec::new();
        self.lookup.end(PATIENCE, |answer| answers.push(answer));
        if self.lookup.unasked() > 0 {
            log::warn!(
                "{} places, stacks or portals were not looked up: too many at once",
                self.lookup.unasked()
            );
        }
        self.take(answers, out)
    }

    fn take(&mut self, answers: Vec<Answer>, out: &mut impl FnMut(Event)) -> bool {
        let before = self.told.files.len();
        for answer in answers {
            match answer {
                Answer::Files(files) => self.told.files.extend(files),
                Answer::Portal(page, wq) => drop(self.portals.insert(page, wq)),
                Answer::Event(event) => out(event),
                Answer::Detached => {}
            }
        }
        self.told.files.len() > before
    }

    /// Counts of all processes. Those of processes that have gone move from the kernel's table, which must not fill up, to ours.
    pub(crate) fn totals(&mut self) -> Result<Vec<SubmittedTotals>, ProbeError> {
        let failed = |operation| move |e| map_error(name::SUBMITTED, operation, e);
        let mut sums = StdHashMap::new();
        for entry in self.counts.iter() {
            let (key, value) = entry.map_err(failed("read"))?;
            let Ok(counts) = Submitted::read_from_bytes(&value) else { continue };
            if counts.submissions > 0 {
                sums.insert(key, counts);
            }
        }
        let processes: HashSet<u32> = sums.keys().filter_map(process).collect();
        let gone: HashSet<u32> =
            processes.into_iter().filter(|tgid| !Path::new(&format!("/proc/{tgid}")).exists()).collect();
        for (key, counts) in sums.extract_if(|key, _| process(key).is_some_and(|tgid| gone.contains(&tgid))) {
            self.counts.remove(&key).map_err(failed("remove"))?;
            add(self.gone.entry(key).or_insert_with(|| empty(&counts)), &counts);
        }
        self.fold();
        for (key, counts) in &self.gone {
            // A process id may have come back.
            add(sums.entry(*key).or_insert_with(|| empty(counts)), counts);
        }
        let mut totals: Vec<_> = sums
            .iter()
            .filter_map(|(key, counts)| Some((SubmittedKey::read_from_bytes(key).ok()?, counts)))
            .collect();
        totals.sort_by_key(|(at, _)| (at.tgid, at.place, at.how, at.opcode));
        Ok(totals.iter().map(|(at, counts)| self.friendly(at, counts)).collect())
    }

    /// Adds half of those that have gone up under "other": exact in sum, and bounded.
    fn fold(&mut self) {
        if self.gone.len() <= GONE_KEPT {
            return;
        }
        let other = key_bytes(&OTHER_SUBMITTED);
        let keys: Vec<Key> =
            self.gone.keys().filter(|key| **key != other).take(GONE_KEPT / 2).copied().collect();
        for key in keys {
            if let Some(counts) = self.gone.remove(&key) {
                add(self.gone.entry(other).or_insert_with(|| empty(&counts)), &counts);
            }
        }
    }

    fn friendly(&self, at: &SubmittedKey, counts: &Submitted) -> SubmittedTotals {
        let wq = if *at == OTHER_SUBMITTED {
            None
        } else if at.place & PLACE_IS_WQ != 0 {
            let id = (at.place >> 16) as u16;
            let known = self.devices.iter().find(|device| device.id == id);
            Some((known.copied().unwrap_or(DeviceId::new(DeviceKind::Unknown, id)), at.place as u16))
        } else {
            // A process that had gone before its portals were looked up has none but those of the WQ that it opened.
            let portal = self.portals.get(&(at.tgid, at.place)).copied().flatten();
            portal.or_else(|| self.opened.get(&at.tgid).copied().flatten())
        };
        let code = (at.opcode != OPCODE_UNREAD).then_some(at.opcode);
        let kind = wq.map_or(DeviceKind::Unknown, |(device, _)| device.kind);
        SubmittedTotals {
            tgid: (*at != OTHER_SUBMITTED).then_some(at.tgid),
            comm: Comm::from_wire(counts.comm),
            device: wq.map(|(device, _)| device),
            wq: wq.map(|(_, wq)| wq),
            how: How::from_wire(at.how),
            operation_code: code,
            operation: code.and_then(|code| operation(kind, code)).map(Into::into),
            submissions: counts.submissions,
            refused: counts.refused,
            elements: counts.elements,
            bytes: counts.bytes,
            untold: counts.untold,
            records_lost: counts.records_lost,
            lists_cut: counts.lists_cut,
        }
    }
}

const fn page(address: u64) -> u64 {
    address & !0xfff
}

/// Whose counts a key is of; `None`: those of "other".
fn process(key: &Key) -> Option<u32> {
    SubmittedKey::read_from_bytes(key).ok().filter(|at| *at != OTHER_SUBMITTED).map(|at| at.tgid)
}

fn key_bytes(key: &SubmittedKey) -> Key {
    as_array(key.as_bytes())
}

/// Of the same process.
fn empty(like: &Submitted) -> Submitted {
    Submitted { comm: like.comm, ..Submitted::new_zeroed() }
}

fn add(sum: &mut Submitted, more: &Submitted) {
    sum.submissions += more.submissions;
    sum.refused += more.refused;
    sum.elements += more.elements;
    sum.bytes += more.bytes;
    sum.untold += more.untold;
    sum.records_lost += more.records_lost;
    sum.lists_cut += more.lists_cut;
}

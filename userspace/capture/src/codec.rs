//! Events as columns: one description of each kind that both writes and reads it.
//!
//! What is frequent (faults, runs of the interrupt thread, page requests, ticks) has columns of its own; the rest is the event's JSON.
//! A value that an earlier one of the block foretells is written as its distance from it, and what repeats (open files, entries without
//! their addresses, records) as its number in a table that both sides build alike. A block needs nothing of the blocks before it.

mod origin;
mod shape;
mod table;

use std::num::NonZeroU64;

use dsascope_common::hw::event_log::EntryHeader;
use dsascope_core::event::{
    Asked, Context, CopyOutcome, DeviceId, DeviceKind, Event, Fault, Interrupt, Marks, PageRequest,
    StageTimes,
};

use crate::columns::{Coder, MOST_COLUMNS, Reading, Writing};
use crate::layout::VERSION;
use shape::Shape;
#[cfg(test)]
pub(crate) use shape::shape_bits;
pub(crate) use table::TABLE;
use table::Table;

/// Columns, in the order in which they lie in a payload. A later version may add some at the end; their values are read only where a bit of
/// the shape that no earlier version sets, or a new kind of event, says that they are there.
macro_rules! columns {
    ($($name:ident,)*) => {
        #[allow(dead_code, reason = "numbered ones are reached from the first")]
        #[derive(Clone, Copy)]
        enum Column { $($name,)* }
        /// In the order of the format.
        const NAMES: &[&str] = &[$(stringify!($name),)*];
    };
}

columns! {
    Kind, At, Cpu,
    Start, StartAt,
    File, FileDevice, FileWq, FilePasid, FileOpened, FileTgid,
    Device, DeviceWords,
    Shape, ShapeWords,
    QueueCpu, Worker,
    Queued, Started, CopyStart, CopyEnd, Done,
    CopyAsked, CopyDone, CopyAddress, FaultAddress,
    BatchId, BatchIndex,
    Entry, Entry0, Entry1, Entry3,
    Record, Record0, Record1, Record2, Record3, Record4, Record5, Record6, Record7,
    InterruptEnd, InterruptEntries, Swerror0, Swerror1, Swerror2, Swerror3,
    PagePasid, PageGroup, PageCode, PageAskedAt, PageCount, PageAddress,
    TextLength,
    Submitted, OriginSeen, By, ByTid, ByComm0, ByComm1, ByHow, ByInstruction, ByStack,
    OriginOperation, OriginBytes, List, ListIndex,
    SeenTgid, SeenTid, SeenRecord, SeenStatus, SeenSubmitted, SeenDelivered,
    FaultAt,
}

/// How many of them each version has, from the first.
const STORED: [usize; VERSION as usize] = [54, 73, 74];
const _: () = assert!(STORED[STORED.len() - 1] == NAMES.len() && NAMES.len() <= MOST_COLUMNS);

/// Values of [`Column::Kind`].
pub(crate) mod code {
    pub(crate) const FAULT: u64 = 0;
    pub(crate) const INTERRUPT: u64 = 1;
    pub(crate) const PAGE_REQUEST: u64 = 2;
    pub(crate) const TICK: u64 = 3;
    pub(crate) const JSON: u64 = 4;
    pub(crate) const SEEN: u64 = 5;
}

/// Starts of the interrupt thread that are remembered.
pub(crate) const STARTS: usize = 16;

/// An open file and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct File {
    device: u64,
    wq: u16,
    pasid: u32,
    opened_ns: u64,
    /// 0: not known; else one more.
    tgid: u64,
}

/// What a CPU's worker last did.
#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    tid: u32,
    /// `at_ns` of its last fault.
    at_ns: u64,
}

/// A run of the interrupt thread.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    start_ns: u64,
    /// When it queued its last fault; its start before the first.
    queued_ns: u64,
}

/// What both sides remember of a block so far.
#[derive(Debug, Default)]
struct State {
    /// Times of faults and interrupts are told in the order in which they came about, each from what it waited for: since version 3.
    in_turn: bool,
    at_ns: u64,
    runs: [Run; STARTS],
    next_run: usize,
    files: Table<File>,
    /// By number of the file: where its last fault was.
    addresses: Vec<u64>,
    devices: Table<u64>,
    shapes: Table<u64>,
    entries: Table<[u64; 3]>,
    records: Table<[u8; 64]>,
    /// By CPU.
    workers: Vec<Worker>,
    submitters: Table<origin::By>,
    /// Record that was seen last.
    seen_record: u64,
}

impl State {
    fn clear(&mut self) {
        (self.at_ns, self.next_run, self.runs) = (0, 0, [Run::default(); STARTS]);
        self.files.clear();
        self.addresses.clear();
        self.devices.clear();
        self.shapes.clear();
        self.entries.clear();
        self.records.clear();
        self.workers.clear();
        self.submitters.clear();
        self.seen_record = 0;
    }

    fn at<C: Coder>(&mut self, c: &mut C, base: u64, at_ns: &mut u64) {
        c.near(Column::At as usize, base, at_ns);
        self.at_ns = *at_ns;
    }

    /// The start of a run of the interrupt thread, which its own event and all its faults have. 0 in the column: a new one. Gives its place.
    fn start<C: Coder>(&mut self, c: &mut C, start_ns: &mut u64) -> usize {
        let back = |steps: usize, next: usize| (next + 2 * STARTS - steps) % STARTS;
        let mut code = 0;
        if C::WRITES {
            let found =
                (1..=STARTS).find(|&steps| self.runs[back(steps, self.next_run)].start_ns == *start_ns);
            code = found.unwrap_or(0) as u64;
        }
        c.value(Column::Start as usize, &mut code);
        match code as usize {
            0 => {
                c.near(Column::StartAt as usize, self.at_ns, start_ns);
                let place = self.next_run;
                self.runs[place] = Run { start_ns: *start_ns, queued_ns: *start_ns };
                self.next_run = (place + 1) % STARTS;
                place
            }
            steps if steps <= STARTS => {
                let place = back(steps, self.next_run);
                *start_ns = self.runs[place].start_ns;
                place
            }
            _ => {
                c.refuse();
                0
            }
        }
    }

    fn device<C: Coder>(&mut self, c: &mut C, device: &mut DeviceId) {
        let mut word = device_word(*device);
        self.devices
            .code(c, Column::Device, &mut word, |c, word| c.value(Column::DeviceWords as usize, word));
        *device = device_of(c, word);
    }

    fn record<C: Coder>(&mut self, c: &mut C, record: &mut [u8; 64]) {
        self.records.code(c, Column::Record, record, |c, record| {
            for (number, bytes) in record.as_chunks_mut().0.iter_mut().enumerate() {
                let mut word = u64::from_le_bytes(*bytes);
                c.value(Column::Record0 as usize + number, &mut word);
                *bytes = word.to_le_bytes();
            }
        });
    }

    /// An open file and whose it is; its number, if the table had room.
    fn file<C: Coder>(&mut self, c: &mut C, context: &mut Context, tgid: &mut Option<u32>) -> Option<usize> {
        let mut file = File {
            device: device_word(context.device),
            wq: context.wq,
            pasid: context.pasid,
            opened_ns: context.opened_ns.map_or(0, NonZeroU64::get),
            tgid: tgid.map_or(0, |tgid| u64::from(tgid) + 1),
        };
        let number = self.files.code(c, Column::File, &mut file, |c, file| {
            c.value(Column::FileDevice as usize, &mut file.device);
            c.narrow(Column::FileWq as usize, &mut file.wq);
            c.narrow(Column::FilePasid as usize, &mut file.pasid);
            c.value(Column::FileOpened as usize, &mut file.opened_ns);
            c.value(Column::FileTgid as usize, &mut file.tgid);
        });
        *context = Context {
            device: device_of(c, file.device),
            wq: file.wq,
            pasid: file.pasid,
            opened_ns: NonZeroU64::new(file.opened_ns),
        };
        *tgid = match u32::try_from(file.tgid.saturating_sub(1)) {
            Ok(tgid) => (file.tgid > 0).then_some(tgid),
            Err(_) => {
                c.refuse();
                None
            }
        };
        number
    }

    fn fault<C: Coder>(&mut self, c: &mut C, f: &mut Fault) {
        if !self.in_turn {
            self.at(c, self.at_ns, &mut f.at_ns);
        }
        c.narrow(Column::Cpu as usize, &mut f.cpu);
        let mut shape = if C::WRITES { Shape::of(f) } else { Shape::default() };
        self.shapes
            .code(c, Column::Shape, &mut shape.0, |c, word| c.value(Column::ShapeWords as usize, word));

        let number = self.file(c, &mut f.context, &mut f.tgid);

        let cpu = usize::from(f.cpu);
        if self.workers.len() <= cpu {
            self.workers.resize(cpu + 1, Worker::default());
        }
        let mut worker = u64::from(f.worker);
        c.near(Column::Worker as usize, u64::from(self.workers[cpu].tid), &mut worker);
        match u32::try_from(worker) {
            Ok(worker) => (f.worker, self.workers[cpu].tid) = (worker, worker),
            Err(_) => c.refuse(),
        }
        if shape.has(Shape::QUEUE_CPU) {
            let mut queue_cpu = f.queue_cpu.unwrap_or(f.cpu);
            if shape.has(Shape::QUEUE_CPU_OTHER) {
                c.narrow(Column::QueueCpu as usize, &mut queue_cpu);
            }
            f.queue_cpu = Some(if shape.has(Shape::QUEUE_CPU_OTHER) { queue_cpu } else { f.cpu });
        } else {
            f.queue_cpu = None;
        }

        // Each time from the one before it that was seen; the first from the run of the interrupt thread, or an event's own. But a run
        // queues its faults one after the other, and a worker serves them so.
        let mut before = self.at_ns;
        let mut run = None;
        if shape.has(Shape::INTERRUPT) {
            let mut start_ns = f.times.interrupt_ns.map_or(0, NonZeroU64::get);
            let place = self.start(c, &mut start_ns);
            f.times.interrupt_ns = NonZeroU64::new(start_ns);
            before = start_ns;
            run = self.in_turn.then_some(place);
        } else {
            f.times.interrupt_ns = None;
        }
        if shape.has(Shape::QUEUED) {
            let base = run.map_or(before, |run| self.runs[run].queued_ns);
            before = time(c, Column::Queued, base, &mut f.times.queued_ns);
            if let Some(run) = run {
                self.runs[run].queued_ns = before;
            }
        } else {
            f.times.queued_ns = None;
        }
        if shape.has(Shape::STARTED) {
            let base = if self.in_turn { before.max(self.workers[cpu].at_ns) } else { before };
            before = time(c, Column::Started, base, &mut f.times.started_ns);
        } else {
            f.times.started_ns = None;
        }
        for (bit, column, value) in [
            (Shape::COPY_START, Column::CopyStart, &mut f.times.copy_start_ns),
            (Shape::COPY_END, Column::CopyEnd, &mut f.times.copy_end_ns),
        ] {
            if shape.has(bit) {
                before = time(c, column, before, value);
            } else {
                *value = None;
            }
        }
        if self.in_turn {
            c.near(Column::FaultAt as usize, before, &mut f.at_ns);
            self.at_ns = f.at_ns;
            self.workers[cpu].at_ns = f.at_ns;
        }
        if shape.has(Shape::DONE) {
            time(c, Column::Done, self.at_ns, &mut f.times.done_ns);
        } else {
            f.times.done_ns = None;
        }

        let mut qwords = f.entry.qwords;
        let place = number.unwrap_or(TABLE);
        if self.addresses.len() <= place {
            self.addresses.resize(place + 1, 0);
        }
        c.near(Column::FaultAddress as usize, self.addresses[place], &mut qwords[2]);
        self.addresses[place] = qwords[2];
        // The batch's identifier and the place in it would make each entry another one.
        let header = EntryHeader { qwords };
        let (mut id, mut index) = (header.batch_id(), header.batch_idx());
        c.narrow(Column::BatchId as usize, &mut id);
        c.narrow(Column::BatchIndex as usize, &mut index);
        let plain = header.with_batch_id(0).with_batch_idx(0).qwords;
        let mut rest = [plain[0], plain[1], plain[3]];
        self.entries.code(c, Column::Entry, &mut rest, |c, rest| {
            for (column, word) in [Column::Entry0, Column::Entry1, Column::Entry3].into_iter().zip(rest) {
                c.value(column as usize, word);
            }
        });
        f.entry = EntryHeader { qwords: [rest[0], rest[1], qwords[2], rest[2]] };
        f.entry = f.entry.with_batch_id(id).with_batch_idx(index);

        if shape.has(Shape::COPY_ADDRESS) {
            let mut address = f.copy_addr.unwrap_or(0);
            c.near(Column::CopyAddress as usize, qwords[2], &mut address);
            f.copy_addr = Some(address);
        } else {
            f.copy_addr = None;
        }
        f.copy = shape.outcome(c, f.copy);
        self.record(c, &mut f.logged);
        if shape.has(Shape::DELIVERED_OTHER) {
            self.record(c, &mut f.delivered);
        } else if shape.has(Shape::DELIVERED_ZERO) {
            f.delivered = [0; 64];
        } else {
            f.delivered = f.logged;
        }
        (f.counted_faults, f.counted_failures) = shape.counted();
        f.marks = shape.marks();
        f.origin = shape.has(Shape::ORIGIN).then(|| self.origin(c, shape, f.origin));
    }

    fn interrupt<C: Coder>(&mut self, c: &mut C, i: &mut Interrupt) {
        if !self.in_turn {
            self.at(c, self.at_ns, &mut i.at_ns);
        }
        c.narrow(Column::Cpu as usize, &mut i.cpu);
        let mut shape = u64::from(i.swerror.is_some());
        self.shapes.code(c, Column::Shape, &mut shape, |c, word| c.value(Column::ShapeWords as usize, word));
        self.device(c, &mut i.device);
        self.start(c, &mut i.start_ns);
        if self.in_turn {
            self.at(c, i.start_ns, &mut i.at_ns);
        }
        c.near(Column::InterruptEnd as usize, self.at_ns, &mut i.end_ns);
        c.narrow(Column::InterruptEntries as usize, &mut i.entries);
        i.swerror = (shape & 1 != 0).then(|| {
            let mut words = i.swerror.unwrap_or_default();
            for (number, word) in words.iter_mut().enumerate() {
                c.value(Column::Swerror0 as usize + number, word);
            }
            words
        });
    }

    fn page_request<C: Coder>(&mut self, c: &mut C, p: &mut PageRequest) {
        self.at(c, self.at_ns, &mut p.at_ns);
        c.narrow(Column::Cpu as usize, &mut p.cpu);
        let asked = p.request;
        let mut shape = u64::from(p.pasid.is_some())
            | u64::from(asked.is_some()) << 1
            | u64::from(asked.is_some_and(|asked| asked.write)) << 2;
        self.shapes.code(c, Column::Shape, &mut shape, |c, word| c.value(Column::ShapeWords as usize, word));
        self.device(c, &mut p.device);
        p.pasid = (shape & 1 != 0).then(|| {
            let mut pasid = p.pasid.unwrap_or(0);
            c.narrow(Column::PagePasid as usize, &mut pasid);
            pasid
        });
        c.narrow(Column::PageGroup as usize, &mut p.group);
        c.narrow(Column::PageCode as usize, &mut p.code);
        p.request = (shape & 2 != 0).then(|| {
            let mut asked = asked.unwrap_or(Asked { at_ns: 0, pages: 0, address: 0, write: shape & 4 != 0 });
            c.near(Column::PageAskedAt as usize, self.at_ns, &mut asked.at_ns);
            c.narrow(Column::PageCount as usize, &mut asked.pages);
            c.value(Column::PageAddress as usize, &mut asked.address);
            asked
        });
    }
}

/// A time that is there, as its distance from `base`; gives it.
fn time<C: Coder>(c: &mut C, column: Column, base: u64, time: &mut Option<NonZeroU64>) -> u64 {
    let mut ns = time.map_or(0, NonZeroU64::get);
    c.near(column as usize, base, &mut ns);
    *time = NonZeroU64::new(ns);
    ns
}

fn device_word(device: DeviceId) -> u64 {
    let kind = match device.kind {
        DeviceKind::Dsa => 0,
        DeviceKind::Iax => 1,
        DeviceKind::Unknown => 2,
    };
    kind << 16 | u64::from(device.id)
}

fn device_of<C: Coder>(c: &mut C, word: u64) -> DeviceId {
    let kind = match word >> 16 {
        0 => DeviceKind::Dsa,
        1 => DeviceKind::Iax,
        2 => DeviceKind::Unknown,
        _ => {
            c.refuse();
            DeviceKind::Unknown
        }
    };
    DeviceId::new(kind, (word & 0xffff) as u16)
}

/// Events on their way into a payload.
#[derive(Debug)]
pub(crate) struct Encoder {
    columns: Writing,
    state: State,
    text: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        Self {
            columns: Writing::new(NAMES.len()),
            state: State { in_turn: true, ..State::default() },
            text: Vec::new(),
        }
    }

    /// # Errors
    /// Never for events; the signature is the JSON serialiser's.
    pub(crate) fn push(&mut self, event: &Event) -> Result<(), serde_json::Error> {
        let (c, state) = (&mut self.columns, &mut self.state);
        let kind = match event {
            Event::Fault(_) => code::FAULT,
            Event::Interrupt(_) => code::INTERRUPT,
            Event::PageRequest(_) => code::PAGE_REQUEST,
            Event::Tick { .. } => code::TICK,
            Event::Seen(_) => code::SEEN,
            _ => {
                self.text.clear();
                serde_json::to_writer(&mut self.text, event)?;
                code::JSON
            }
        };
        c.value(Column::Kind as usize, &mut { kind });
        match event {
            Event::Fault(fault) => state.fault(c, &mut { *fault }),
            Event::Interrupt(interrupt) => state.interrupt(c, &mut { *interrupt }),
            Event::PageRequest(request) => state.page_request(c, &mut { *request }),
            Event::Tick { now_ns } => state.at(c, state.at_ns, &mut { *now_ns }),
            Event::Seen(seen) => state.seen(c, &mut { *seen }),
            _ => c.bytes(Column::TextLength as usize, &mut self.text),
        }
        Ok(())
    }

    /// Bytes of text so far: what makes a payload large beside its number of events.
    pub(crate) fn text_bytes(&self) -> usize {
        self.columns.text_bytes()
    }

    /// Appends the payload to `out` and begins the next.
    pub(crate) fn take(&mut self, out: &mut Vec<u8>) {
        self.columns.take(out);
        self.state.clear();
    }
}

const BLANK: Fault = Fault {
    at_ns: 0,
    cpu: 0,
    context: Context { device: DeviceId::new(DeviceKind::Unknown, 0), wq: 0, pasid: 0, opened_ns: None },
    tgid: None,
    worker: 0,
    queue_cpu: None,
    times: StageTimes {
        interrupt_ns: None,
        queued_ns: None,
        started_ns: None,
        copy_start_ns: None,
        copy_end_ns: None,
        done_ns: None,
    },
    copy: CopyOutcome::Unobserved,
    copy_addr: None,
    entry: EntryHeader { qwords: [0; 4] },
    logged: [0; 64],
    delivered: [0; 64],
    counted_faults: 0,
    counted_failures: 0,
    marks: Marks {
        end_missing: false,
        queue_missing: false,
        copy_unobserved: false,
        read_failed: false,
        outcome_inferred: false,
    },
    origin: None,
};

/// A payload being read.
#[derive(Debug)]
pub(crate) struct Decoder {
    columns: Reading,
    state: State,
    left: u32,
    text: Vec<u8>,
    /// The last fault: it is large, and read in place.
    fault: Event,
    /// The last event when it is no fault.
    other: Option<Event>,
}

/// A block that says it has more was made by no writer, and would take more memory than it is worth.
pub(crate) const MOST_EVENTS: u32 = 1 << 17;
const _: () = assert!(MOST_EVENTS >= crate::block::MOST_EVENTS);

/// A payload that no writer made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl Default for Decoder {
    fn default() -> Self {
        Self {
            columns: Reading::default(),
            state: State::default(),
            left: 0,
            text: Vec::new(),
            fault: Event::Fault(BLANK),
            other: None,
        }
    }
}

impl Decoder {
    /// Takes a payload, in exchange for the one before.
    pub(crate) fn load(&mut self, payload: &mut Vec<u8>, version: u8, events: u32) -> Result<(), Malformed> {
        self.state.clear();
        self.state.in_turn = version >= 3;
        self.left = 0;
        let stored = usize::from(version).checked_sub(1).and_then(|number| STORED.get(number));
        let stored = *stored.ok_or(Malformed)?;
        if events > MOST_EVENTS {
            return Err(Malformed);
        }
        // A fault has two records; of everything else an event has one at most.
        if !self.columns.load(stored, 2 * events as usize, payload) {
            return Err(Malformed);
        }
        self.left = events;
        Ok(())
    }

    /// Events that are still to come.
    pub(crate) const fn left(&self) -> u32 {
        self.left
    }

    /// Nothing more is to come.
    pub(crate) const fn give_up(&mut self) {
        self.left = 0;
    }

    /// Reads the next event; after an error the rest of the payload cannot be read. False: there is none.
    pub(crate) fn advance(&mut self) -> Result<bool, Malformed> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(false) };
        self.left = left;
        let (c, state) = (&mut self.columns, &mut self.state);
        let mut kind = 0;
        c.value(Column::Kind as usize, &mut kind);
        match kind {
            code::FAULT => {
                // Faults follow each other: mostly there is none to drop.
                if self.other.is_some() {
                    self.other = None;
                }
                if let Event::Fault(fault) = &mut self.fault {
                    state.fault(c, fault);
                }
            }
            code::INTERRUPT => {
                let device = DeviceId::new(DeviceKind::Unknown, 0);
                let mut interrupt =
                    Interrupt { at_ns: 0, cpu: 0, device, start_ns: 0, end_ns: 0, entries: 0, swerror: None };
                state.interrupt(c, &mut interrupt);
                self.other = Some(Event::Interrupt(interrupt));
            }
            code::PAGE_REQUEST => {
                let device = DeviceId::new(DeviceKind::Unknown, 0);
                let mut request =
                    PageRequest { at_ns: 0, cpu: 0, device, pasid: None, group: 0, code: 0, request: None };
                state.page_request(c, &mut request);
                self.other = Some(Event::PageRequest(request));
            }
            code::TICK => {
                let mut now_ns = 0;
                state.at(c, state.at_ns, &mut now_ns);
                self.other = Some(Event::Tick { now_ns });
            }
            code::SEEN => {
                let mut seen = origin::BLANK_SEEN;
                state.seen(c, &mut seen);
                self.other = Some(Event::Seen(seen));
            }
            code::JSON => {
                c.bytes(Column::TextLength as usize, &mut self.text);
                self.other = Some(Event::from_json(&self.text).map_err(|_| Malformed)?);
            }
            _ => return Err(Malformed),
        }
        if c.is_wrong() { Err(Malformed) } else { Ok(true) }
    }

    /// What [`Self::advance`] read.
    pub(crate) fn event(&self) -> &Event {
        self.other.as_ref().unwrap_or(&self.fault)
    }
}

/// Names of the columns, for the document's sake.
#[cfg(test)]
pub(crate) const fn names() -> &'static [&'static str] {
    NAMES
}

#[cfg(test)]
pub(crate) mod tests;

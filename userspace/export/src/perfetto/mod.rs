//! A trace for Perfetto: what happened when, on tracks of the driver's threads and of the work queues.
//!
//! - a track a device: runs of the interrupt thread, each with the hand-overs of its entries; counters of entries a run found (the log's
//!   depth) and of events lost
//! - a track group a WQ: descriptors in the device, waiting entries and batches, on as many lanes as there are at once, and what happened
//!   to its files
//! - a thread each that submits: its submissions, and when it saw a record
//! - a thread each kworker: services, with what they were made of inside
//! - a process each: when the record came, or that it did not
//!
//! A flow goes through submission (where submissions are followed), hand-over, wait, service and outcome of each fault, up to the moment that
//! the program saw the record if that was known by then. Slices of one track never overlap, whatever the times say: what would goes to
//! another lane. Memory is bounded by [`TRACKS`].

mod wire;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Write;
use std::num::NonZeroU64;

use dsascope_common::hw::completion;
use dsascope_core::decode::{operation, status};
use dsascope_core::event::{
    CopyOutcome, DeviceId, DriverEvent, Event, Fault, Happening, Interrupt, SessionInfo, WqId,
};
use dsascope_core::hist::DIGITS;
use dsascope_core::model::{Batch, Model};
use dsascope_core::submission::Origin;
use prost::Message;

use crate::{ExportError, Exporter, Output};
use wire::{
    Annotation, Clock, ClockSnapshot, Counter, Interned, InternedData, MONOTONIC, NEEDS_STATE, Packet,
    Process, REALTIME, STATE_CLEARED, Thread, TrackDescriptor, TrackEvent, kind,
};

const FORMAT: &str = "Perfetto trace";
/// One writer, so one sequence.
const SEQUENCE: u32 = 1;
/// Tracks that are remembered; when there are more, all are described anew.
const TRACKS: usize = 1 << 16;

/// Names of slices and instants; the number is the place plus one.
const NAMES: [&str; 16] = [
    "interrupt thread",
    "hand-over",
    "wait",
    "service",
    "prepare",
    "copy",
    "finish",
    "delivered",
    "FAILED",
    "not copied",
    "outcome not observed",
    "unfinished",
    "batch",
    "submitted",
    "device",
    "seen",
];

#[derive(Clone, Copy)]
enum Name {
    Interrupt = 1,
    HandOver,
    Wait,
    Service,
    Prepare,
    Copy,
    Finish,
    Delivered,
    Failed,
    NotCopied,
    Unobserved,
    Unfinished,
    Batch,
    Submitted,
    Device,
    Seen,
}

/// Names of annotations, likewise.
const ARGUMENTS: [&str; 17] = [
    "operation",
    "status",
    "error",
    "WQ",
    "PASID",
    "record address",
    "batch",
    "batch index",
    "entries",
    "state",
    "elements delivered",
    "elements failed",
    "elements not observed",
    "finding",
    "how",
    "bytes",
    "instruction",
];

#[derive(Clone, Copy)]
enum Argument {
    Operation = 1,
    Status,
    Error,
    Wq,
    Pasid,
    Address,
    Batch,
    BatchIndex,
    Entries,
    State,
    ElementsDelivered,
    ElementsFailed,
    ElementsUnobserved,
    Finding,
    How,
    Bytes,
    Instruction,
}

/// What a track is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Track {
    /// What dsascope has to say of itself.
    Own,
    Device(u16),
    Depth(u16),
    Lost,
    Wq(WqId),
    /// What is in lanes: a WQ's waiting entries, and its batches.
    Wait(WqId),
    Batches(WqId),
    /// Descriptors between their submission and the interrupt thread.
    InDevice(WqId),
    Worker(u32),
    Process(u32),
    /// A thread of a process: what it submitted and saw.
    Submitter {
        tgid: u32,
        tid: u32,
    },
}

/// A lane of what a track is of; the first of a device or a worker is the track itself.
type Lane = (Track, u32);

/// See the module.
pub struct Perfetto {
    out: Output,
    buffer: Vec<u8>,
    /// Tracks that were described, by their identifiers.
    tracks: HashMap<Lane, u64>,
    last_track: u64,
    /// When the last slice of each lane ended.
    lanes: HashMap<Track, Vec<u64>>,
    begun: bool,
    flows: u64,
    lost: Option<u64>,
}

impl fmt::Debug for Perfetto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Perfetto").field("tracks", &self.tracks.len()).finish_non_exhaustive()
    }
}

fn argument(name: Argument) -> Annotation {
    Annotation { name_iid: Some(name as u64), ..Annotation::default() }
}

fn text(name: Argument, text: &str) -> Annotation {
    Annotation { text: Some(text.into()), ..argument(name) }
}

fn number(name: Argument, number: u64) -> Annotation {
    Annotation { uint: Some(number), ..argument(name) }
}

impl Perfetto {
    #[must_use]
    pub fn new(out: Output) -> Self {
        Self {
            out,
            buffer: Vec::new(),
            tracks: HashMap::new(),
            last_track: 0,
            lanes: HashMap::new(),
            begun: false,
            flows: 0,
            lost: None,
        }
    }

    /// One packet, as an element of the file's one repeated field.
    fn packet(&mut self, packet: &Packet) -> Result<(), ExportError> {
        self.buffer.clear();
        prost::encoding::encode_key(1, prost::encoding::WireType::LengthDelimited, &mut self.buffer);
        packet
            .encode_length_delimited(&mut self.buffer)
            .map_err(|error| ExportError::Encode { format: FORMAT, what: error.to_string() })?;
        self.out.write_all(&self.buffer).map_err(|error| ExportError::write(FORMAT, error))
    }

    fn event(&mut self, at_ns: u64, event: TrackEvent) -> Result<(), ExportError> {
        self.packet(&Packet {
            timestamp: Some(at_ns),
            clock_id: Some(MONOTONIC),
            sequence_id: Some(SEQUENCE),
            sequence_flags: Some(NEEDS_STATE),
            event: Some(event),
            ..Packet::default()
        })
    }

    /// Clocks and names; before everything else.
    fn begin(&mut self, session: &SessionInfo) -> Result<(), ExportError> {
        self.begun = true;
        let clock = |id, timestamp| Clock { id: Some(id), timestamp: Some(timestamp) };
        let wall_ns = i128::from(session.started_ns) + i128::from(session.wall_at_zero_ns);
        let clocks =
            vec![clock(MONOTONIC, session.started_ns), clock(REALTIME, u64::try_from(wall_ns).unwrap_or(0))];
        let names = |names: &[&str]| -> Vec<Interned> {
            let numbered = names.iter().zip(1..);
            numbered.map(|(name, iid)| Interned { iid: Some(iid), name: Some((*name).into()) }).collect()
        };
        self.packet(&Packet {
            clock_snapshot: Some(ClockSnapshot { clocks, primary: Some(MONOTONIC) }),
            sequence_id: Some(SEQUENCE),
            ..Packet::default()
        })?;
        self.packet(&Packet {
            sequence_id: Some(SEQUENCE),
            sequence_flags: Some(STATE_CLEARED),
            interned: Some(InternedData { event_names: names(&NAMES), annotation_names: names(&ARGUMENTS) }),
            ..Packet::default()
        })?;
        let own = self.track(Track::Own, || format!("dsascope on {}", session.host), None)?;
        let note = |name: &str, text: &str| Annotation {
            name: Some(name.into()),
            text: Some(text.into()),
            ..Annotation::default()
        };
        let mut annotations = vec![note("dsascope", &session.tool_version), note("kernel", &session.kernel)];
        if session.submitters.is_none() {
            annotations.push(note("submission", "not observed: flows begin with the hand-over"));
        }
        annotations
            .extend(session.filter.as_ref().map(|filter| note("only faults with", &filter.expression)));
        self.event(
            session.started_ns,
            TrackEvent {
                kind: Some(kind::INSTANT),
                track: Some(own),
                name: Some("tracing begins".into()),
                annotations,
                ..TrackEvent::default()
            },
        )
    }

    /// The identifier of a track, which is described when it is first met.
    fn track(
        &mut self,
        track: Track,
        name: impl FnOnce() -> String,
        parent: Option<u64>,
    ) -> Result<u64, ExportError> {
        self.describe((track, 0), name, parent)
    }

    /// A lane that is free for a slice. Each is filled in rising order of time; `first` is a device's or a worker's own track.
    fn lane(
        &mut self,
        track: Track,
        (from_ns, to_ns): (u64, u64),
        name: &str,
        first: Option<u64>,
        parent: Option<u64>,
    ) -> Result<u64, ExportError> {
        let lanes = self.lanes.entry(track).or_default();
        let free = lanes.iter().position(|&end_ns| end_ns <= from_ns).unwrap_or(lanes.len());
        match lanes.get_mut(free) {
            Some(end_ns) => *end_ns = to_ns,
            None => lanes.push(to_ns),
        }
        let lane = u32::try_from(free).unwrap_or(u32::MAX);
        match first {
            Some(uuid) if lane == 0 => Ok(uuid),
            _ => self.describe((track, lane), || format!("{name} {lane}"), parent.or(first)),
        }
    }

    fn describe(
        &mut self,
        lane: Lane,
        name: impl FnOnce() -> String,
        parent: Option<u64>,
    ) -> Result<u64, ExportError> {
        if let Some(&uuid) = self.tracks.get(&lane) {
            return Ok(uuid);
        }
        if self.tracks.len() >= TRACKS {
            self.tracks.clear();
            self.lanes.clear();
        }
        self.last_track += 1;
        let uuid = self.last_track;
        self.tracks.insert(lane, uuid);
        let mut descriptor = TrackDescriptor { uuid: Some(uuid), parent, ..TrackDescriptor::default() };
        match lane {
            (Track::Process(pid), _) => {
                let pid = i32::try_from(pid).ok();
                descriptor.process = Some(Process { pid, name: Some(name()) });
            }
            // A kernel thread is a process of one thread.
            (Track::Worker(tid), 0) => {
                let pid = i32::try_from(tid).ok();
                descriptor.thread = Some(Thread { pid, tid: Some(i64::from(tid)), name: Some(name()) });
            }
            (Track::Submitter { tgid, tid }, _) => {
                let pid = i32::try_from(tgid).ok();
                descriptor.thread = Some(Thread { pid, tid: Some(i64::from(tid)), name: Some(name()) });
            }
            (Track::Depth(_), _) => {
                descriptor.name = Some(name());
                descriptor.counter = Some(Counter { unit_name: Some("entries".into()) });
            }
            (Track::Lost, _) => {
                descriptor.name = Some(name());
                descriptor.counter = Some(Counter { unit_name: Some("events".into()) });
            }
            _ => descriptor.name = Some(name()),
        }
        self.packet(&Packet { sequence_id: Some(SEQUENCE), track: Some(descriptor), ..Packet::default() })?;
        Ok(uuid)
    }

    fn device(&mut self, device: DeviceId) -> Result<u64, ExportError> {
        self.track(Track::Device(device.id), || format!("{device} interrupt thread"), None)
    }

    fn wq(&mut self, wq: WqId) -> Result<u64, ExportError> {
        self.track(Track::Wq(wq), || wq.to_string(), None)
    }

    fn slice(
        &mut self,
        track: u64,
        (from_ns, to_ns): (u64, u64),
        name: Name,
        flow: Option<u64>,
        annotations: Vec<Annotation>,
    ) -> Result<(), ExportError> {
        self.open(track, from_ns, name, flow, annotations)?;
        self.close(track, to_ns)
    }

    fn open(
        &mut self,
        track: u64,
        at_ns: u64,
        name: Name,
        flow: Option<u64>,
        annotations: Vec<Annotation>,
    ) -> Result<(), ExportError> {
        let event = TrackEvent {
            kind: Some(kind::BEGIN),
            track: Some(track),
            name_iid: Some(name as u64),
            flows: flow.into_iter().collect(),
            annotations,
            ..TrackEvent::default()
        };
        self.event(at_ns, event)
    }

    fn close(&mut self, track: u64, at_ns: u64) -> Result<(), ExportError> {
        self.event(at_ns, TrackEvent { kind: Some(kind::END), track: Some(track), ..TrackEvent::default() })
    }

    fn instant(&mut self, track: u64, at_ns: u64, name: Name, event: TrackEvent) -> Result<(), ExportError> {
        let (kind, name_iid) = (Some(kind::INSTANT), Some(name as u64));
        self.event(at_ns, TrackEvent { kind, track: Some(track), name_iid, ..event })
    }

    fn count(&mut self, track: u64, at_ns: u64, value: u64) -> Result<(), ExportError> {
        let value = i64::try_from(value).ok();
        let event =
            TrackEvent { kind: Some(kind::COUNTER), track: Some(track), value, ..TrackEvent::default() };
        self.event(at_ns, event)
    }

    fn interrupt(&mut self, interrupt: &Interrupt) -> Result<(), ExportError> {
        let device = interrupt.device;
        let track = self.device(device)?;
        let span = (interrupt.start_ns, interrupt.end_ns.max(interrupt.start_ns));
        let entries = u64::from(interrupt.entries);
        let name = format!("{device} interrupt thread");
        let lane = self.lane(Track::Device(device.id), span, &name, Some(track), None)?;
        self.slice(lane, span, Name::Interrupt, None, vec![number(Argument::Entries, entries)])?;
        let depth = self.track(Track::Depth(device.id), || format!("{device} event log"), Some(track))?;
        self.count(depth, span.0, entries)?;
        self.count(depth, span.1, 0)
    }

    fn fault(&mut self, model: &Model, fault: &Fault) -> Result<(), ExportError> {
        self.flows += 1;
        let flow = Some(self.flows);
        let wq = fault.context.wq_id();
        let times = &fault.times;
        let ns = |time: Option<NonZeroU64>| time.map(NonZeroU64::get);
        let mut begun = false;
        if let Some(origin) = &fault.origin {
            self.submission(fault, origin, flow)?;
            begun = true;
        }
        if let Some(queued_ns) = ns(times.queued_ns) {
            let track = self.device(fault.context.device)?;
            let event = TrackEvent {
                flows: flow.into_iter().collect(),
                annotations: vec![text(Argument::Wq, &wq.to_string())],
                ..TrackEvent::default()
            };
            self.instant(track, queued_ns, Name::HandOver, event)?;
            begun = true;
        }
        if let Some((queued_ns, started_ns)) =
            ns(times.queued_ns).zip(ns(times.started_ns)).filter(|(a, b)| a <= b)
        {
            let group = self.wq(wq)?;
            let span = (queued_ns, started_ns);
            let track = self.lane(Track::Wait(wq), span, &format!("{wq} waiting"), None, Some(group))?;
            begun = true;
            self.slice(track, span, Name::Wait, flow, Vec::new())?;
        }
        if let Some((started_ns, done_ns)) =
            ns(times.started_ns).zip(ns(times.done_ns)).filter(|(a, b)| a <= b)
        {
            self.service(fault, (started_ns, done_ns), flow)?;
            begun = true;
        }
        self.outcome(model, fault, begun)
    }

    /// The submission on the track of its thread, and the descriptor's time in the device.
    fn submission(&mut self, fault: &Fault, origin: &Origin, flow: Option<u64>) -> Result<(), ExportError> {
        let (wq, kind) = (fault.context.wq_id(), fault.context.device.kind);
        let track = match fault.tgid {
            Some(tgid) => self.submitter(tgid, origin.tid, || origin.comm.to_string())?,
            None => self.wq(wq)?,
        };
        let mut annotations = vec![
            text(Argument::Wq, &wq.to_string()),
            text(Argument::How, origin.how.name()),
            text(Argument::Operation, operation(kind, origin.operation).unwrap_or("unknown")),
        ];
        annotations.extend(origin.bytes.map(|bytes| number(Argument::Bytes, bytes.into())));
        annotations.extend(origin.element.map(|element| number(Argument::BatchIndex, element.index.into())));
        annotations.extend(
            origin
                .instruction
                .map(|at| Annotation { pointer: Some(at.get()), ..argument(Argument::Instruction) }),
        );
        let event = TrackEvent { flows: flow.into_iter().collect(), annotations, ..TrackEvent::default() };
        self.instant(track, origin.submitted_ns, Name::Submitted, event)?;
        let Some(device_ns) = fault.durations().device else { return Ok(()) };
        let span = (origin.submitted_ns, origin.submitted_ns.saturating_add(device_ns));
        let group = self.wq(wq)?;
        let track =
            self.lane(Track::InDevice(wq), span, &format!("{wq} in the device"), None, Some(group))?;
        self.slice(track, span, Name::Device, flow, Vec::new())
    }

    fn submitter(&mut self, tgid: u32, tid: u32, comm: impl FnOnce() -> String) -> Result<u64, ExportError> {
        self.track(Track::Submitter { tgid, tid }, comm, None)
    }

    /// A service and its parts, on the track of the worker.
    fn service(
        &mut self,
        fault: &Fault,
        (started_ns, done_ns): (u64, u64),
        flow: Option<u64>,
    ) -> Result<(), ExportError> {
        let worker = fault.worker;
        let name = format!("kworker {worker}");
        let own = self.track(Track::Worker(worker), || name.clone(), None)?;
        let track = self.lane(Track::Worker(worker), (started_ns, done_ns), &name, Some(own), None)?;
        let (kind, entry) = (fault.context.device.kind, &fault.entry);
        let mut annotations = vec![
            text(Argument::Wq, &fault.context.wq_id().to_string()),
            number(Argument::Pasid, u64::from(fault.context.pasid)),
            text(Argument::Operation, operation(kind, entry.operation()).unwrap_or("unknown")),
            text(Argument::Status, status(kind, fault.logged[0]).name.unwrap_or("unknown")),
            text(Argument::Error, status(kind, entry.error()).name.unwrap_or("unknown")),
            Annotation { pointer: Some(entry.fault_addr()), ..argument(Argument::Address) },
        ];
        let own = fault.error() == completion::status::BATCH_EVL_ERR;
        if entry.batch() || own {
            annotations.push(number(Argument::Batch, u64::from(entry.batch_id())));
        }
        if entry.batch() {
            annotations.push(number(Argument::BatchIndex, u64::from(entry.batch_idx())));
        }
        self.open(track, started_ns, Name::Service, flow, annotations)?;
        let ns = |time: Option<NonZeroU64>| {
            time.map(NonZeroU64::get).filter(|ns| (started_ns..=done_ns).contains(ns))
        };
        let (copy_ns, copied_ns) = (ns(fault.times.copy_start_ns), ns(fault.times.copy_end_ns));
        let mut before = started_ns;
        for (name, from, to) in [
            (Name::Prepare, Some(started_ns), copy_ns),
            (Name::Copy, copy_ns, copied_ns),
            (Name::Finish, copied_ns, Some(done_ns)),
        ] {
            // Parts that stand in no order cannot lie beside each other.
            if let Some(span) = from.zip(to).filter(|(from, to)| before <= *from && from <= to) {
                before = span.1;
                self.slice(track, span, name, None, Vec::new())?;
            }
        }
        self.close(track, done_ns)
    }

    /// What the process sees, at the end of the flow, if one has `begun`.
    fn outcome(&mut self, model: &Model, fault: &Fault, begun: bool) -> Result<(), ExportError> {
        let name = match fault.copy {
            _ if fault.marks.end_missing => Name::Unfinished,
            CopyOutcome::Delivered { .. } => Name::Delivered,
            CopyOutcome::Short { .. } => Name::Failed,
            CopyOutcome::NotCopied => Name::NotCopied,
            CopyOutcome::Unobserved => Name::Unobserved,
        };
        let track = match fault.tgid {
            Some(tgid) => {
                let comm = model.process(fault.context.key()).and_then(|process| process.comm);
                self.track(
                    Track::Process(tgid),
                    || comm.map_or_else(|| "?".into(), |comm| comm.to_string()),
                    None,
                )?
            }
            None => self.wq(fault.context.wq_id())?,
        };
        let at_ns = fault.times.copy_end_ns.or(fault.times.done_ns).map_or(fault.at_ns, NonZeroU64::get);
        let flow: Vec<u64> = begun.then_some(self.flows).into_iter().collect();
        let seen =
            fault.origin.as_ref().and_then(|origin| Some((origin, fault.tgid?, origin.seen_ns?.get())));
        // A program that polls may see the record before the driver's copy has returned: no arrow goes back in time.
        let ends_here = seen.is_none_or(|(_, _, seen_ns)| seen_ns < at_ns);
        let passes = |flow| TrackEvent { flows: flow, ..TrackEvent::default() };
        let ends = |flow| TrackEvent { ending_flows: flow, ..TrackEvent::default() };
        let (here, there) =
            if ends_here { (ends(flow), ends(vec![])) } else { (passes(flow.clone()), ends(flow)) };
        self.instant(track, at_ns, name, here)?;
        let Some((origin, tgid, seen_ns)) = seen else { return Ok(()) };
        let thread = self.submitter(tgid, origin.tid, || origin.comm.to_string())?;
        self.instant(thread, seen_ns, Name::Seen, there)
    }

    /// From the first to the last record of a batch's entries.
    fn batch(&mut self, batch: &Batch) -> Result<(), ExportError> {
        let wq = batch.context.wq_id();
        let span = (batch.first_ns, batch.last_ns.max(batch.first_ns));
        let group = self.wq(wq)?;
        let track = self.lane(Track::Batches(wq), span, &format!("{wq} batches"), None, Some(group))?;
        let mut annotations = vec![
            number(Argument::Batch, batch.id.into()),
            number(Argument::Pasid, batch.context.pasid.into()),
            text(Argument::State, batch.state.name()),
            number(Argument::ElementsDelivered, batch.elements_delivered.into()),
            number(Argument::ElementsFailed, batch.elements_failed.into()),
            number(Argument::ElementsUnobserved, batch.elements_unknown.into()),
        ];
        annotations
            .extend(batch.finding.as_ref().map(|moved| text(Argument::Finding, moved.finding.words())));
        self.slice(track, span, Name::Batch, None, annotations)
    }

    fn happened(&mut self, track: u64, at_ns: u64, name: String) -> Result<(), ExportError> {
        let event = TrackEvent {
            kind: Some(kind::INSTANT),
            track: Some(track),
            name: Some(name),
            ..TrackEvent::default()
        };
        self.event(at_ns, event)
    }

    fn driver(&mut self, event: &DriverEvent) -> Result<(), ExportError> {
        let what = match &event.what {
            Happening::Command(command) => format!("command: {}", command.name().unwrap_or("unknown")),
            Happening::Halt { .. } => "device halted".into(),
            Happening::Reset { .. } => "device reset".into(),
            Happening::Warning { text } => text.clone(),
        };
        let track = self.device(event.device)?;
        self.happened(track, event.at_ns, what)
    }

    /// What was lost so far, when that has changed.
    fn loss(&mut self, model: &Model, at_ns: u64) -> Result<(), ExportError> {
        let lost = model.ledger().lost();
        if self.lost.replace(lost) != Some(lost) {
            let track = self.track(Track::Lost, || "events lost".into(), None)?;
            self.count(track, at_ns, lost)?;
        }
        Ok(())
    }
}

impl Exporter for Perfetto {
    fn event(&mut self, model: &Model, event: &Event) -> Result<(), ExportError> {
        match event {
            Event::Session(session) if !self.begun => self.begin(session),
            Event::Fault(fault) => self.fault(model, fault),
            Event::Interrupt(interrupt) => self.interrupt(interrupt),
            Event::Open(open) => {
                let track = self.wq(open.context.wq_id())?;
                self.happened(
                    track,
                    open.at_ns,
                    format!("{} {} opened, PASID {}", open.comm, open.tgid, open.context.pasid),
                )
            }
            Event::Release(release) => {
                let track = self.wq(release.context.wq_id())?;
                self.happened(track, release.at_ns, format!("PASID {} closed", release.context.pasid))
            }
            Event::Driver(event) => self.driver(event),
            Event::Hole(hole) => {
                let track = self.track(Track::Own, || "dsascope".into(), None)?;
                self.happened(track, hole.at_ns, format!("{} {}", hole.count, hole.what.name()))?;
                self.loss(model, hole.at_ns)
            }
            Event::PageRequest(request) => {
                let track = self.device(request.device)?;
                self.happened(track, request.at_ns, format!("page request: {}", request.answer()))
            }
            Event::Snapshot(snapshot) => self.loss(model, snapshot.at_ns),
            // Of a fault's record, after the fault was told of.
            Event::Seen(seen) if seen.context.is_some() => {
                let track = self.submitter(seen.tgid, seen.tid, || format!("thread {}", seen.tid))?;
                self.instant(track, seen.at_ns, Name::Seen, TrackEvent::default())
            }
            Event::Session(_) | Event::Seen(_) | Event::Stack(_) | Event::Place(_) | Event::Tick { .. } => {
                Ok(())
            }
        }?;
        model.batches().just_ended().iter().try_for_each(|batch| self.batch(batch))
    }

    fn finish(&mut self, model: &mut Model) -> Result<(), ExportError> {
        let mut open: Vec<_> = model.batches().open().collect();
        open.sort_by_key(|batch| (batch.first_ns, batch.context.key(), batch.id));
        open.into_iter().try_for_each(|batch| self.batch(batch))?;
        let ledger = model.ledger();
        let mut books: BTreeMap<String, u64> = BTreeMap::from([
            ("records seen".into(), ledger.kernel.seen.total()),
            ("records sent".into(), ledger.kernel.sent.total()),
            ("records received".into(), ledger.received.total()),
            ("events lost".into(), ledger.lost()),
        ]);
        books.extend(model.holes().iter().map(|(what, &count)| (format!("holes: {}", what.name()), count)));
        let mut annotations: Vec<Annotation> = books
            .into_iter()
            .map(|(name, count)| Annotation { name: Some(name), uint: Some(count), ..Annotation::default() })
            .collect();
        annotations.push(Annotation {
            name: Some("times".into()),
            text: Some(format!("exact, in ns; histograms of dsascope are rounded to {DIGITS} digits")),
            ..Annotation::default()
        });
        let at_ns = model.now_ns();
        self.loss(model, at_ns)?;
        let track = self.track(Track::Own, || "dsascope".into(), None)?;
        let event = TrackEvent {
            kind: Some(kind::INSTANT),
            track: Some(track),
            name: Some("loss ledger".into()),
            annotations,
            ..TrackEvent::default()
        };
        Self::event(self, at_ns, event)?;
        self.out.flush().map_err(|error| ExportError::write(FORMAT, error))
    }
}

#[cfg(test)]
mod tests;

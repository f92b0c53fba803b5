//! Bytes from the ring to events: checked decoding, and holes put where the losses were.
//!
//! Owns the layout checks on what the kernel side sends. Arbitrary bytes give an error, never a panic.

use std::num::NonZeroU64;

use dsascope_common::hw::descriptor::Descriptor;
use dsascope_common::wire::{self, kind, mark};
use zerocopy::FromBytes;

use crate::driver::DriverEvent;
use crate::event::{
    ByKind, Comm, Context, ContextTotals, CopyOutcome, DeviceId, DeviceKind, Event, Fault, Hole, HoleKind,
    Interrupt, Marks, Open, Release, StageTimes,
};
use crate::fault::StageJoiner;
use crate::page_request::{self, PageRequestJoiner};
use crate::submission::{Element, How, Joiner, Origin, Seen};

/// A record of the ring, checked for length and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "lives on the stack of one call")]
pub enum Record {
    Fault(wire::FaultRecord),
    Interrupt(wire::InterruptRecord),
    Open(wire::OpenRecord),
    Release(wire::ReleaseRecord),
    PageRequest(wire::PageRequestRecord),
    PageResponse(wire::PageResponseRecord),
    /// A stage, with bytes (queued, copy start) or without.
    Stage(wire::StageRecord, Option<[u8; 96]>),
    Driver(wire::DriverRecord),
    Submission(wire::SubmissionRecord),
    Elements(wire::ElementsRecord),
    Seen(wire::SeenRecord),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("decode record: {found} bytes are fewer than a header's 16")]
    NoHeader { found: usize },
    #[error("decode record: kind {kind} is unknown")]
    UnknownKind { kind: u16 },
    #[error("decode {kind} record: expected {expected} bytes, found {found}", kind = kind_name(*.kind))]
    Length { kind: u16, expected: usize, found: usize },
    #[error("decode stage record: stage {stage} with {found} bytes is unknown")]
    UnknownStage { stage: u16, found: usize },
    #[error("decode driver record: event {what} is unknown")]
    UnknownDriverEvent { what: u8 },
    #[error("decode submission record: submitted in an unknown way, {how}")]
    UnknownWay { how: u8 },
    #[error("decode elements record: {count} descriptors do not fit into it")]
    ElementCount { count: u32 },
}

fn kind_name(kind: u16) -> &'static str {
    kind::NAMES.get(usize::from(kind)).copied().unwrap_or("unknown")
}

fn read<T: FromBytes>(bytes: &[u8], kind: u16) -> Result<T, DecodeError> {
    let error = DecodeError::Length { kind, expected: size_of::<T>(), found: bytes.len() };
    T::read_from_bytes(bytes).map_err(|_| error)
}

/// One record from its bytes.
///
/// # Errors
/// The length does not fit the kind, or kind or stage are unknown.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let (header, _) = wire::RecordHeader::read_from_prefix(bytes)
        .map_err(|_| DecodeError::NoHeader { found: bytes.len() })?;
    Ok(match header.kind {
        kind::FAULT => Record::Fault(read(bytes, kind::FAULT)?),
        kind::INTERRUPT => Record::Interrupt(read(bytes, kind::INTERRUPT)?),
        kind::OPEN => Record::Open(read(bytes, kind::OPEN)?),
        kind::RELEASE => Record::Release(read(bytes, kind::RELEASE)?),
        kind::PAGE_REQUEST => Record::PageRequest(read(bytes, kind::PAGE_REQUEST)?),
        kind::PAGE_RESPONSE => Record::PageResponse(read(bytes, kind::PAGE_RESPONSE)?),
        kind::STAGE => {
            let found = bytes.len();
            let (stage, payload) = if found == size_of::<wire::StagePayload>() {
                let whole: wire::StagePayload = read(bytes, kind::STAGE)?;
                (whole.stage, Some(whole.bytes))
            } else {
                (read(bytes, kind::STAGE)?, None)
            };
            let with_bytes = matches!(stage.stage, wire::stage::QUEUED | wire::stage::COPY_START);
            let known = with_bytes
                || matches!(stage.stage, wire::stage::STARTED | wire::stage::COPY_END | wire::stage::DONE);
            if !known || with_bytes != payload.is_some() {
                return Err(DecodeError::UnknownStage { stage: stage.stage, found });
            }
            Record::Stage(stage, payload)
        }
        kind::DRIVER => {
            let record: wire::DriverRecord = read(bytes, kind::DRIVER)?;
            if !(wire::driver::COMMAND..=wire::driver::WARNING).contains(&record.what) {
                return Err(DecodeError::UnknownDriverEvent { what: record.what });
            }
            Record::Driver(record)
        }
        kind::SUBMISSION => {
            let record: wire::SubmissionRecord = read(bytes, kind::SUBMISSION)?;
            known_way(&record.submitter)?;
            Record::Submission(record)
        }
        kind::ELEMENTS => {
            let record: wire::ElementsRecord = read(bytes, kind::ELEMENTS)?;
            known_way(&record.submitter)?;
            if record.count as usize > wire::ELEMENTS {
                return Err(DecodeError::ElementCount { count: record.count });
            }
            Record::Elements(record)
        }
        kind::SEEN => Record::Seen(read(bytes, kind::SEEN)?),
        kind => return Err(DecodeError::UnknownKind { kind }),
    })
}

fn known_way(submitter: &wire::Submitter) -> Result<(), DecodeError> {
    let how = submitter.how;
    How::from_wire(how).map(drop).ok_or(DecodeError::UnknownWay { how })
}

impl Record {
    #[must_use]
    pub const fn header(&self) -> &wire::RecordHeader {
        match self {
            Self::Fault(r) => &r.header,
            Self::Interrupt(r) => &r.header,
            Self::Open(r) => &r.header,
            Self::Release(r) => &r.header,
            Self::PageRequest(r) => &r.header,
            Self::PageResponse(r) => &r.header,
            Self::Stage(r, _) => &r.header,
            Self::Driver(r) => &r.header,
            Self::Submission(r) => &r.header,
            Self::Elements(r) => &r.header,
            Self::Seen(r) => &r.header,
        }
    }
}

/// 0 is "nobody was seen to open it".
fn known_task(tgid: u32) -> Option<u32> {
    (tgid != 0).then_some(tgid)
}

/// A whole fault record as an event.
#[must_use]
pub fn fault(r: &wire::FaultRecord) -> Fault {
    let marks = Marks {
        end_missing: r.marks & mark::END_MISSING != 0,
        queue_missing: r.marks & mark::QUEUE_MISSING != 0,
        copy_unobserved: r.marks & mark::COPY_UNOBSERVED != 0,
        read_failed: r.marks & mark::READ_FAILED != 0,
        outcome_inferred: r.marks & mark::OUTCOME_INFERRED != 0,
    };
    let times = StageTimes {
        interrupt_ns: NonZeroU64::new(r.interrupt_ns),
        queued_ns: NonZeroU64::new(r.queued_ns),
        started_ns: NonZeroU64::new(r.started_ns),
        copy_start_ns: NonZeroU64::new(r.copy_start_ns),
        copy_end_ns: NonZeroU64::new(r.copy_end_ns),
        done_ns: NonZeroU64::new(r.done_ns),
    };
    Fault {
        at_ns: r.header.time_ns,
        cpu: r.header.cpu,
        context: Context::from_wire(r.context, DeviceKind::from_wire(r.device_type)),
        tgid: known_task(r.tgid),
        worker: r.worker,
        queue_cpu: times.queued_ns.map(|_| r.queue_cpu),
        copy: outcome(&times, marks, r.copy_asked, r.copy_done),
        copy_addr: times.copy_start_ns.map(|_| r.copy_addr),
        times,
        entry: r.entry,
        logged: r.logged,
        delivered: r.delivered,
        counted_faults: r.counted_faults,
        counted_failures: r.counted_failures,
        marks,
        origin: None,
    }
}

/// Where a record comes from, by the descriptor that asks for it.
fn origin(
    by: &wire::Submitter,
    descriptor: &[u8; 64],
    element: Option<Element>,
) -> Option<(Origin, Descriptor)> {
    let descriptor = Descriptor::read_from_bytes(descriptor).ok()?;
    let origin = Origin {
        submitted_ns: by.submitted_ns,
        seen_ns: None,
        tid: by.tid,
        comm: Comm::from_wire(by.comm),
        how: How::from_wire(by.how)?,
        operation: descriptor.opcode(),
        bytes: Some(descriptor.transfer_size),
        instruction: NonZeroU64::new(by.instruction),
        stack: u32::try_from(by.stack).ok(),
        element,
    };
    (by.unread == 0).then_some((origin, descriptor))
}

/// What became of the record. A copy whose end is not known, or a service without an end, has no known outcome.
pub(crate) fn outcome(times: &StageTimes, marks: Marks, asked: u32, done: u32) -> CopyOutcome {
    let ended = times.copy_end_ns.is_some() || marks.outcome_inferred;
    match (times.copy_start_ns, ended) {
        (Some(_), true) if done >= asked => CopyOutcome::Delivered { bytes: done },
        (Some(_), true) => CopyOutcome::Short { asked, done },
        (None, false) if !marks.copy_unobserved && !marks.end_missing => CopyOutcome::NotCopied,
        _ => CopyOutcome::Unobserved,
    }
}

/// Turns the ring's records into events, in order, with holes before the record that tells of them.
#[derive(Debug)]
pub struct RingDecoder {
    /// `RecordHeader::lost` of the last record, by CPU.
    lost: Vec<u32>,
    kinds: Vec<DeviceId>,
    joiner: StageJoiner,
    pages: PageRequestJoiner,
    submissions: Joiner,
    received: ByKind,
    undecodable: u64,
}

impl RingDecoder {
    /// `devices`: kinds of the devices there are, for records that carry a number alone.
    #[must_use]
    pub fn new(devices: &[DeviceId]) -> Self {
        Self {
            lost: Vec::new(),
            kinds: devices.to_vec(),
            joiner: StageJoiner::default(),
            pages: PageRequestJoiner::default(),
            submissions: Joiner::default(),
            received: ByKind::default(),
            undecodable: 0,
        }
    }

    /// Kind of device `id`, as given or as learned from records.
    #[must_use]
    pub fn kind_of(&self, id: u16) -> DeviceKind {
        self.kinds.iter().find(|d| d.id == id).map_or(DeviceKind::Unknown, |d| d.kind)
    }

    /// One record's bytes to events. Losses that it tells of come first. A record that cannot be decoded gives a hole, and the
    /// error says why.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn push(&mut self, bytes: &[u8], mut out: impl FnMut(Event)) -> Result<(), DecodeError> {
        let record = match decode(bytes) {
            Ok(record) => record,
            Err(error) => {
                // The header may still tell the kind, so that the books of received records stay right.
                let header = wire::RecordHeader::read_from_prefix(bytes).ok().map(|(header, _)| header);
                if let Some(header) = header {
                    self.received.count(header.kind);
                }
                self.undecodable += 1;
                let at_ns = header.map_or(0, |header| header.time_ns);
                out(Event::Hole(Hole { at_ns, what: HoleKind::Undecodable, count: 1 }));
                return Err(error);
            }
        };
        let header = record.header();
        self.received.count(header.kind);
        let lost = self.lost_step(header);
        if lost > 0 {
            let what = HoleKind::RingLost { cpu: header.cpu };
            out(Event::Hole(Hole { at_ns: header.time_ns, what, count: u64::from(lost) }));
            self.joiner.lost_on(header.cpu, header.time_ns, &mut out);
            self.pages.lost(header.time_ns);
            self.submissions.lost();
        }
        match record {
            Record::Fault(r) => {
                let mut fault = fault(&r);
                self.learn(fault.context.device);
                self.submissions.fault(&mut fault);
                out(Event::Fault(fault));
            }
            Record::Interrupt(r) => {
                let device = DeviceId::new(DeviceKind::from_wire(r.device_type), r.device);
                self.learn(device);
                out(Event::Interrupt(Interrupt {
                    at_ns: r.header.time_ns,
                    cpu: r.header.cpu,
                    device,
                    start_ns: r.start_ns,
                    end_ns: r.end_ns,
                    entries: r.entries,
                    swerror: (r.swerror_changed != 0).then_some(r.swerror),
                }));
            }
            Record::Open(r) => out(Event::Open(Open {
                at_ns: r.header.time_ns,
                context: Context::from_wire(r.context, self.kind_of(r.context.device)),
                tgid: r.tgid,
                tid: r.tid,
                cgroup: Some(r.cgroup),
                cgroup_path: None,
                comm: Comm::from_wire(r.comm),
                file: r.file,
                files: r.files,
                existing: false,
            })),
            Record::Release(r) => out(Event::Release(Release {
                at_ns: r.header.time_ns,
                context: Context::from_wire(r.context, self.kind_of(r.context.device)),
                start_ns: NonZeroU64::new(r.start_ns),
                drain_ns: NonZeroU64::new(r.drain_ns),
                end_ns: NonZeroU64::new(r.end_ns),
                counter_faults: r.counter_faults,
                counter_failures: r.counter_failures,
                file: r.file,
                skipped: r.skipped,
            })),
            Record::PageRequest(r) => {
                let origin = self.origin(&r.header, r.device);
                self.pages.request(origin, &r.request, &mut out);
            }
            Record::PageResponse(r) => {
                let origin = self.origin(&r.header, r.device);
                self.pages.response(origin, &r.response, &mut out);
            }
            Record::Stage(stage, payload) => {
                self.learn(DeviceId::new(DeviceKind::from_wire(stage.device_type), stage.context.device));
                self.joiner.push(&stage, payload.as_ref(), &mut out);
            }
            Record::Driver(r) => {
                if let Some(event) = DriverEvent::from_wire(&r) {
                    self.learn(event.device);
                    out(Event::Driver(event));
                }
            }
            Record::Submission(r) => {
                if let Some((origin, descriptor)) = origin(&r.submitter, &r.descriptor, None) {
                    self.submissions.submission(r.submitter.tgid, &origin, &descriptor);
                }
            }
            Record::Elements(r) => {
                for (n, descriptor) in (0..r.count).zip(&r.descriptors) {
                    let element = Element { list: r.list, index: r.first.saturating_add(n) };
                    if let Some((origin, descriptor)) = origin(&r.submitter, descriptor, Some(element)) {
                        self.submissions.submission(r.submitter.tgid, &origin, &descriptor);
                    }
                }
            }
            Record::Seen(r) => {
                let seen = Seen {
                    at_ns: r.header.time_ns,
                    tgid: r.tgid,
                    tid: r.tid,
                    record: r.record,
                    status: r.status,
                    submitted_ns: None,
                    context: None,
                    delivered_ns: None,
                };
                self.submissions.seen(seen, &mut out);
            }
        }
        Ok(())
    }

    /// Time passes: stages and responses that never came become holes.
    pub fn tick(&mut self, now_ns: u64, mut out: impl FnMut(Event)) {
        self.joiner.expire(now_ns, &mut out);
        self.pages.expire(now_ns, &mut out);
        self.submissions.expire(now_ns, &mut out);
    }

    /// Tracing ends: whatever is still in flight becomes a hole.
    pub fn finish(&mut self, now_ns: u64, mut out: impl FnMut(Event)) {
        self.joiner.finish(now_ns, &mut out);
        self.pages.finish(now_ns, &mut out);
        self.submissions.finish(&mut out);
    }

    /// Records taken so far, by kind.
    #[must_use]
    pub const fn received(&self) -> ByKind {
        self.received
    }

    #[must_use]
    pub const fn undecodable(&self) -> u64 {
        self.undecodable
    }

    fn origin(&self, header: &wire::RecordHeader, device: u16) -> page_request::Origin {
        let device = DeviceId::new(self.kind_of(device), device);
        page_request::Origin { at_ns: header.time_ns, cpu: header.cpu, device }
    }

    fn lost_step(&mut self, header: &wire::RecordHeader) -> u32 {
        let cpu = usize::from(header.cpu);
        if self.lost.len() <= cpu {
            self.lost.resize(cpu + 1, 0);
        }
        let step = header.lost.wrapping_sub(self.lost[cpu]);
        // A program that another one interrupted sends an older number after a newer one.
        if step > u32::MAX / 2 {
            return 0;
        }
        self.lost[cpu] = header.lost;
        step
    }

    fn learn(&mut self, device: DeviceId) {
        match self.kinds.iter_mut().find(|d| d.id == device.id) {
            Some(known) if known.kind == DeviceKind::Unknown => *known = device,
            Some(_) => {}
            None => self.kinds.push(device),
        }
    }
}

impl ContextTotals {
    /// From the kernel's map. The device's kind is not in it.
    #[must_use]
    pub fn from_wire(key: wire::ContextKey, totals: &wire::Totals, kind: DeviceKind) -> Self {
        let closed = totals.closed != 0;
        Self {
            context: Context::from_wire(key, kind),
            tgid: known_task(totals.tgid),
            comm: Comm::from_wire(totals.comm),
            cgroup: (totals.cgroup != 0).then_some(totals.cgroup),
            closed,
            queued: totals.queued,
            served: totals.served,
            delivered: totals.delivered,
            failed: totals.failed,
            not_copied: totals.not_copied,
            unobserved: totals.unobserved,
            skipped: totals.skipped,
            cr_faults: totals.cr_faults,
            batch_faults: totals.batch_faults,
            drains: totals.drains,
            counter_faults: totals.counter_faults,
            counter_failures: totals.counter_failures,
            driver_faults: closed.then_some(totals.driver_faults),
            driver_failures: closed.then_some(totals.driver_failures),
            records_lost: totals.records_lost,
            service_ns_sum: totals.service_ns_sum,
            service_ns_max: totals.service_ns_max,
            opened_files: totals.opened_files,
        }
    }
}

#[cfg(test)]
mod tests;

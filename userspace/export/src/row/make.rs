//! Rows from events: faults and holes as they come, the books at the end.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZeroU64;

use dsascope_common::hw::event_log::EntryHeader;
use dsascope_common::wire::kind;
use dsascope_core::decode::{operation, status};
use dsascope_core::event::{ByKind, Context, CopyOutcome, Event, Fault, Hole, HoleKind, Key, Marks, Seen};
use dsascope_core::ledger::Balance;
use dsascope_core::model::Model;
use dsascope_core::submission::{Frame, Place, Stack};

use super::{Outcome, Row, RowKind, Time, Word};

/// Open files whose names are kept; as many as the model has rows for.
const NAMES: usize = 4096;

/// Makes rows. What repeats (names of devices, WQs, processes) is written once and borrowed by each row.
#[derive(Debug)]
pub struct Rows {
    host: String,
    /// `None` until the session has told.
    wall_at_zero_ns: Option<i64>,
    names: HashMap<Key, Names>,
    /// By the bits of the marks.
    marks: Vec<String>,
}

/// What a row says of an open file.
#[derive(Debug)]
struct Names {
    device: String,
    wq: String,
    pid: Option<u32>,
    comm: Option<String>,
    cgroup: Option<u64>,
    cgroup_path: Option<String>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            host: String::new(),
            wall_at_zero_ns: None,
            names: HashMap::new(),
            marks: (0..1 << MARKS.len()).map(mark_names).collect(),
        }
    }
}

impl Rows {
    /// The row of an event that the model has taken in; only those that are a [`RowKind`] have one.
    pub fn of<'a>(&'a mut self, model: &Model, event: &'a Event) -> Option<Row<'a>> {
        match event {
            Event::Fault(fault) => return Some(self.fault(model, fault)),
            Event::Hole(hole) => return Some(self.hole(hole)),
            Event::Seen(seen) => return seen.context.map(|context| self.seen(model, seen, context)),
            Event::Stack(stack) => return Some(self.stack(stack)),
            Event::Place(place) => return Some(self.place(place)),
            Event::Session(session) => {
                self.host.clone_from(&session.host);
                self.wall_at_zero_ns = Some(session.wall_at_zero_ns);
            }
            // These may tell who a file's process is.
            Event::Open(open) => drop(self.names.remove(&open.context.key())),
            Event::Snapshot(_) => self.names.clear(),
            _ => {}
        }
        None
    }

    /// The rows after the last event: the loss ledger, and the row that ends the table.
    ///
    /// # Errors
    /// The first of `take`.
    pub fn end<E>(
        &mut self,
        model: &Model,
        mut take: impl FnMut(&Row<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let at_ns = model.now_ns();
        for totals in model.snapshot().iter().flat_map(|snapshot| &snapshot.totals) {
            if totals.records_lost > 0 {
                self.remember(model, totals.context);
                let row = self.of_file(totals.context, at_ns);
                take(&Row { kind: RowKind::Lost, count: Some(totals.records_lost), ..row })?;
            }
        }
        let ledger = model.ledger();
        for number in ByKind::KINDS {
            let name = kind::NAMES.get(usize::from(number)).copied().unwrap_or_default();
            take(&Row {
                kind: RowKind::Ledger,
                name: Some(name.into()),
                seen: Some(ledger.kernel.seen.get(number)),
                sent: Some(ledger.kernel.sent.get(number)),
                lost: Some(ledger.kernel.lost.get(number)),
                received: Some(ledger.received.get(number)),
                ..self.at(at_ns)
            })?;
        }
        // What arrived and could not be read, and what the tracer itself dropped, are no kind of record.
        for (name, lost) in [("undecodable", ledger.undecodable), ("channel", ledger.channel_lost)] {
            let name = Some(name.into());
            take(&Row { kind: RowKind::Ledger, name, lost: Some(lost), ..self.at(at_ns) })?;
        }
        if let Some(filter) = model.filtering() {
            let (name, count) = (Some("left_out".into()), Some(filter.left_out));
            take(&Row { kind: RowKind::Ledger, name, count, ..self.at(at_ns) })?;
        }
        for (name, &count) in &ledger.kernel.holes {
            let name = Some(name.into());
            take(&Row { kind: RowKind::Ledger, name, count: Some(count), ..self.at(at_ns) })?;
        }
        let name = match ledger.balance() {
            Balance::Unknown => "unknown",
            Balance::Balanced => "balanced",
            Balance::InFlight { .. } => "in_flight",
            Balance::Unbalanced { .. } => "unbalanced",
        };
        let count = Some(ledger.lost());
        take(&Row { kind: RowKind::End, name: Some(name.into()), count, ..self.at(at_ns) })
    }

    fn at(&self, at_ns: u64) -> Row<'_> {
        let wall = self.wall_at_zero_ns.and_then(|zero| zero.checked_add_unsigned(at_ns)).map(Time);
        Row { time: wall, date: wall.map(Time::date), at_ns, host: &self.host, ..Row::default() }
    }

    /// Makes sure that the names of an open file are there to be borrowed.
    fn remember(&mut self, model: &Model, context: Context) {
        let key = context.key();
        if !self.names.contains_key(&key) {
            if self.names.len() >= NAMES {
                self.names.clear();
            }
            self.names.insert(key, Names::of(model, context));
        }
    }

    /// A row with what is known of an open file.
    fn of_file(&self, context: Context, at_ns: u64) -> Row<'_> {
        let row = self.at(at_ns);
        let Some(names) = self.names.get(&context.key()) else { return row };
        Row {
            device: Some(&names.device),
            wq: Some(&names.wq),
            pid: names.pid,
            comm: names.comm.as_deref(),
            cgroup: names.cgroup.map(Word),
            cgroup_path: names.cgroup_path.as_deref(),
            pasid: Some(context.pasid),
            opened_at_ns: context.opened_ns.map(NonZeroU64::get),
            ..row
        }
    }

    fn hole(&self, hole: &Hole) -> Row<'_> {
        let cpu = match hole.what {
            HoleKind::RingLost { cpu } => Some(cpu),
            _ => None,
        };
        let name = Some(Cow::from(hole.what.name().replace(' ', "_")));
        Row { kind: RowKind::Hole, name, cpu, count: Some(hole.count), ..self.at(hole.at_ns) }
    }

    fn seen(&mut self, model: &Model, seen: &Seen, context: Context) -> Row<'_> {
        self.remember(model, context);
        let (spans, ns) = (seen.durations(), |number: Option<NonZeroU64>| number.map(NonZeroU64::get));
        Row {
            kind: RowKind::Seen,
            pid: Some(seen.tgid),
            delivered_status: status(context.device.kind, seen.status).name,
            delivered_status_code: Some(seen.status),
            record_address: Some(Word(seen.record)),
            submitted_at_ns: ns(seen.submitted_ns),
            seen_at_ns: Some(seen.at_ns),
            submit_tid: Some(seen.tid),
            notice_ns: spans.notice,
            total_ns: spans.total,
            ..self.of_file(context, seen.at_ns)
        }
    }

    fn stack(&self, stack: &Stack) -> Row<'_> {
        let frames: Vec<String> = stack.frames.iter().map(Frame::to_string).collect();
        let name = Some(frames.join(";").into());
        let (pid, submit_stack) = (Some(stack.tgid), Some(stack.id));
        Row { kind: RowKind::Stack, name, pid, submit_stack, ..self.at(stack.at_ns) }
    }

    fn place(&self, place: &Place) -> Row<'_> {
        let name = Some(place.memory.to_string().into());
        let (pid, page_address) = (Some(place.tgid), Some(Word(place.page)));
        Row { kind: RowKind::Place, name, pid, page_address, ..self.at(place.at_ns) }
    }

    fn fault<'a>(&'a mut self, model: &Model, fault: &'a Fault) -> Row<'a> {
        let device = fault.context.device.kind;
        let entry = fault.entry_seen();
        let (logged, delivered) = (fault.logged_status(), fault.delivered_status());
        let outcome = match fault.copy {
            CopyOutcome::Delivered { .. } => Outcome::Delivered,
            CopyOutcome::Short { .. } => Outcome::Failed,
            CopyOutcome::NotCopied => Outcome::NotCopied,
            CopyOutcome::Unobserved => Outcome::Unobserved,
        };
        let (element, of_batch) = (fault.element_entry(), fault.batch_entry());
        let (times, spans) = (&fault.times, fault.durations());
        let origin = fault.origin.as_ref();
        let element_of = origin.and_then(|origin| origin.element);
        let ns = |number: Option<NonZeroU64>| number.map(NonZeroU64::get);
        self.remember(model, fault.context);
        let row = self.of_file(fault.context, fault.at_ns);
        Row {
            pid: fault.tgid.or(row.pid),
            operation: entry.and_then(|entry| operation(device, entry.operation())),
            operation_code: entry.map(EntryHeader::operation),
            error: entry.and_then(|entry| status(device, entry.error()).name),
            error_code: entry.map(|_| fault.error()),
            status: logged.and_then(|byte| status(device, byte).name),
            status_code: logged,
            delivered_status: delivered.and_then(|byte| status(device, byte).name),
            delivered_status_code: delivered,
            write_fault: entry.map(EntryHeader::fault_rw),
            outcome: Some(outcome),
            copy_asked_bytes: fault.copy.asked(),
            copy_done_bytes: fault.copy.done(),
            record_address: entry.map(|entry| Word(entry.fault_addr())),
            page_address: fault.page_address().map(Word),
            copy_address: fault.copy_addr.map(Word),
            batch_id: of_batch.map(EntryHeader::batch_id),
            batch_index: element.map(EntryHeader::batch_idx),
            batch_first_error: element.map(EntryHeader::first_err_in_batch),
            cpu: Some(fault.cpu),
            queue_cpu: fault.queue_cpu,
            worker: Some(fault.worker),
            interrupt_at_ns: ns(times.interrupt_ns),
            queued_at_ns: ns(times.queued_ns),
            started_at_ns: ns(times.started_ns),
            copy_start_at_ns: ns(times.copy_start_ns),
            copy_end_at_ns: ns(times.copy_end_ns),
            done_at_ns: ns(times.done_ns),
            interrupt_ns: spans.interrupt,
            queue_ns: spans.queue,
            prepare_ns: spans.prepare,
            copy_ns: spans.copy,
            finish_ns: spans.finish,
            service_ns: spans.service,
            driver_ns: spans.driver,
            submitted_at_ns: origin.map(|origin| origin.submitted_ns),
            seen_at_ns: origin.and_then(|origin| ns(origin.seen_ns)),
            submit_tid: origin.map(|origin| origin.tid),
            submit_comm: origin.map(|origin| origin.comm.text()),
            submit_how: origin.map(|origin| origin.how.name()),
            submit_operation: origin.and_then(|origin| operation(device, origin.operation)),
            submit_operation_code: origin.map(|origin| origin.operation),
            submit_bytes: origin.and_then(|origin| origin.bytes),
            submit_instruction: origin.and_then(|origin| ns(origin.instruction)).map(Word),
            submit_stack: origin.and_then(|origin| origin.stack),
            list_address: element_of.map(|element| Word(element.list)),
            list_index: element_of.map(|element| element.index),
            device_ns: spans.device,
            notice_ns: spans.notice,
            total_ns: spans.total,
            counted_faults: Some(fault.counted_faults),
            counted_failures: Some(fault.counted_failures),
            marks: self.marks.get(mark_bits(fault.marks)).map(String::as_str).filter(|text| !text.is_empty()),
            ..row
        }
    }
}

impl Names {
    fn of(model: &Model, context: Context) -> Self {
        let process = model.process(context.key());
        Self {
            device: context.device.to_string(),
            wq: context.wq_id().to_string(),
            pid: process.and_then(|process| process.tgid),
            comm: process
                .and_then(|process| process.comm)
                .filter(|comm| !comm.is_empty())
                .map(|comm| comm.to_string()),
            cgroup: process.and_then(|process| process.cgroup),
            cgroup_path: process
                .and_then(|process| process.cgroup_path.clone())
                .filter(|path| !path.is_empty()),
        }
    }
}

/// Names of the marks, in the order of [`mark_bits`].
const MARKS: [&str; 5] =
    ["end_missing", "queue_missing", "copy_unobserved", "read_failed", "outcome_inferred"];

fn mark_bits(marks: Marks) -> usize {
    let Marks { end_missing, queue_missing, copy_unobserved, read_failed, outcome_inferred } = marks;
    let set = [end_missing, queue_missing, copy_unobserved, read_failed, outcome_inferred];
    set.iter().enumerate().fold(0, |bits, (bit, &set)| bits | usize::from(set) << bit)
}

fn mark_names(bits: usize) -> String {
    let set = MARKS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

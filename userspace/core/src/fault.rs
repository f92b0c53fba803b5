//! One fault from the interrupt thread to the end of its service, put together from stage records.
//!
//! queued -> started -> copy started -> copied or failed -> done. Joined by work pointer until the start, then by the
//! worker's thread id (the work's memory is freed inside the service: idxd-facts section 0.1, finding 5).
//!
//! A received start becomes exactly one fault or one hole, and no latency is ever longer than the real one. That rests on the
//! driver's queues being per-CPU (idxd-facts section 2.4): a fault is queued, started and ended on one CPU, records of one CPU
//! arrive in order, and each tells how many of that CPU were lost before it. So whatever is in flight on a CPU when a loss on
//! it comes to light is given up, and a stage that comes from another CPU than the stage before belongs to another fault.
//! Stages that never come are given up after a deadline; memory is bounded. Time is an input.

use std::collections::HashMap;
use std::num::NonZeroU64;

use dsascope_common::hw::event_log::EntryHeader;
use dsascope_common::wire::{StageRecord, stage};
use zerocopy::FromBytes;

use crate::event::{Context, CopyOutcome, DeviceKind, Event, Fault, Hole, HoleKind, Marks, StageTimes};
use crate::record::outcome;

/// Faults followed at once, queued and in service each: about 2 MiB each at most.
pub const CAPACITY: usize = 4096;
/// How long a next stage may take.
pub const DEADLINE_NS: u64 = 10_000_000_000;

/// A fault that waits for a worker.
#[derive(Clone, Copy, Debug)]
struct Pending {
    fault: Fault,
    /// A loss on its CPU: its start may have passed unseen, so that the next start of this pointer may be another fault's.
    doubtful: bool,
    queue_cpu: u16,
    at_ns: u64,
}

/// A service in progress.
#[derive(Clone, Copy, Debug)]
struct Active {
    /// `None`: accounted for with a hole; what follows is swallowed.
    fault: Option<Fault>,
    asked: u32,
    done: u32,
    cpu: u16,
    at_ns: u64,
}

/// Puts stage records together.
#[derive(Debug)]
pub struct StageJoiner {
    pending: HashMap<u64, Pending>,
    active: HashMap<u32, Active>,
    capacity: usize,
    deadline_ns: u64,
}

impl Default for StageJoiner {
    fn default() -> Self {
        Self::new(CAPACITY, DEADLINE_NS)
    }
}

fn hole(at_ns: u64, what: HoleKind) -> Event {
    Event::Hole(Hole { at_ns, what, count: 1 })
}

impl StageJoiner {
    #[must_use]
    pub fn new(capacity: usize, deadline_ns: u64) -> Self {
        Self { pending: HashMap::new(), active: HashMap::new(), capacity: capacity.max(1), deadline_ns }
    }

    /// Takes one stage; `bytes` as [`dsascope_common::wire::StagePayload`] says.
    pub fn push(&mut self, record: &StageRecord, bytes: Option<&[u8; 96]>, out: &mut impl FnMut(Event)) {
        match record.stage {
            stage::QUEUED => self.queued(record, bytes, out),
            stage::STARTED => self.started(record, out),
            stage::COPY_START => self.copying(record, out, |fault, active_asked, _, record| {
                fault.times.copy_start_ns = NonZeroU64::new(record.header.time_ns);
                fault.copy_addr = Some(record.value);
                *active_asked = u32::try_from(record.value2).unwrap_or(u32::MAX);
                if let Some((delivered, _)) = bytes.and_then(|b| b.split_first_chunk()) {
                    fault.delivered = *delivered;
                }
            }),
            stage::COPY_END => self.copying(record, out, |fault, _, done, record| {
                fault.times.copy_end_ns = NonZeroU64::new(record.header.time_ns);
                *done = u32::try_from(record.value).unwrap_or(u32::MAX);
            }),
            stage::DONE => self.done(record, out),
            _ => out(hole(record.header.time_ns, HoleKind::Undecodable)),
        }
    }

    /// Records of `cpu` were lost: nothing in flight on it can be trusted to be whole.
    pub fn lost_on(&mut self, cpu: u16, at_ns: u64, out: &mut impl FnMut(Event)) {
        for pending in self.pending.values_mut().filter(|p| p.queue_cpu == cpu) {
            pending.doubtful = true;
        }
        for active in self.active.values_mut().filter(|a| a.cpu == cpu) {
            if active.fault.take().is_some() {
                out(hole(at_ns, HoleKind::EndMissing));
            }
        }
    }

    /// Gives up what has waited longer than the deadline.
    pub fn expire(&mut self, now_ns: u64, out: &mut impl FnMut(Event)) {
        let due = now_ns.saturating_sub(self.deadline_ns);
        self.give_up(now_ns, out, |at_ns| at_ns < due);
    }

    /// Gives up everything.
    pub fn finish(&mut self, now_ns: u64, out: &mut impl FnMut(Event)) {
        self.give_up(now_ns, out, |_| true);
    }

    fn give_up(&mut self, now_ns: u64, out: &mut impl FnMut(Event), due: impl Fn(u64) -> bool) {
        self.pending.retain(|_, pending| {
            let gone = due(pending.at_ns);
            if gone {
                out(hole(now_ns, HoleKind::StartMissing));
            }
            !gone
        });
        self.active.retain(|_, active| {
            let gone = due(active.at_ns);
            if gone && active.fault.is_some() {
                out(hole(now_ns, HoleKind::EndMissing));
            }
            !gone
        });
    }

    fn queued(&mut self, record: &StageRecord, bytes: Option<&[u8; 96]>, out: &mut impl FnMut(Event)) {
        let at_ns = record.header.time_ns;
        let mut logged = [0; 64];
        let mut entry = EntryHeader::default();
        if let Some(Ok((header, rest))) = bytes.map(|bytes| EntryHeader::read_from_prefix(bytes)) {
            entry = header;
            logged.copy_from_slice(rest);
        }
        let fault = Fault {
            at_ns,
            cpu: record.header.cpu,
            context: Context::from_wire(record.context, DeviceKind::from_wire(record.device_type)),
            tgid: None,
            worker: 0,
            queue_cpu: Some(record.header.cpu),
            times: StageTimes {
                interrupt_ns: NonZeroU64::new(record.value2),
                queued_ns: NonZeroU64::new(at_ns),
                ..StageTimes::default()
            },
            copy: CopyOutcome::NotCopied,
            copy_addr: None,
            entry,
            logged,
            delivered: [0; 64],
            counted_faults: 0,
            counted_failures: 0,
            marks: Marks { read_failed: bytes.is_none(), ..Marks::default() },
            origin: None,
        };
        if self.pending.remove(&record.work).is_some() {
            // The same memory queued again: the start of its last use was not seen.
            out(hole(at_ns, HoleKind::StartMissing));
        } else if self.pending.len() >= self.capacity {
            let oldest = self.pending.iter().min_by_key(|(_, p)| p.at_ns).map(|(&work, _)| work);
            if oldest.and_then(|work| self.pending.remove(&work)).is_some() {
                out(hole(at_ns, HoleKind::Evicted));
            }
        }
        let pending = Pending { fault, doubtful: false, queue_cpu: record.header.cpu, at_ns };
        self.pending.insert(record.work, pending);
    }

    fn started(&mut self, record: &StageRecord, out: &mut impl FnMut(Event)) {
        let at_ns = record.header.time_ns;
        let cpu = record.header.cpu;
        if self.active.remove(&record.worker).is_some_and(|active| active.fault.is_some()) {
            out(hole(at_ns, HoleKind::EndMissing));
        }
        if self.active.len() >= self.capacity {
            let oldest = self.active.iter().min_by_key(|(_, a)| a.at_ns).map(|(&worker, _)| worker);
            if oldest.and_then(|worker| self.active.remove(&worker)).is_some_and(|a| a.fault.is_some()) {
                out(hole(at_ns, HoleKind::Evicted));
            }
        }
        let same = |p: &Pending| {
            let context = &p.fault.context;
            !p.doubtful
                && p.queue_cpu == cpu
                && p.at_ns <= at_ns
                && (context.device.id, context.wq, context.pasid)
                    == (record.context.device, record.context.wq, record.context.pasid)
        };
        let fault = self.pending.remove(&record.work).filter(same).map(|pending| {
            let mut fault = pending.fault;
            fault.worker = record.worker;
            fault.cpu = cpu;
            fault.times.started_ns = NonZeroU64::new(at_ns);
            fault
        });
        if fault.is_none() {
            out(hole(at_ns, HoleKind::QueueMissing));
        }
        self.active.insert(record.worker, Active { fault, asked: 0, done: 0, cpu, at_ns });
    }

    fn copying(
        &mut self,
        record: &StageRecord,
        out: &mut impl FnMut(Event),
        apply: impl FnOnce(&mut Fault, &mut u32, &mut u32, &StageRecord),
    ) {
        let Some(active) = self.active.get_mut(&record.worker) else { return };
        if active.cpu != record.header.cpu {
            if active.fault.take().is_some() {
                out(hole(record.header.time_ns, HoleKind::EndMissing));
            }
        } else if let Some(fault) = &mut active.fault {
            apply(fault, &mut active.asked, &mut active.done, record);
        }
    }

    fn done(&mut self, record: &StageRecord, out: &mut impl FnMut(Event)) {
        let at_ns = record.header.time_ns;
        let Some(active) = self.active.remove(&record.worker) else {
            out(hole(at_ns, HoleKind::StartMissing));
            return;
        };
        let Some(mut fault) = active.fault else { return };
        if active.cpu != record.header.cpu {
            out(hole(at_ns, HoleKind::EndMissing));
            return;
        }
        fault.at_ns = at_ns;
        fault.times.done_ns = NonZeroU64::new(at_ns);
        fault.copy = outcome(&fault.times, fault.marks, active.asked, active.done);
        out(Event::Fault(fault));
    }
}

#[cfg(test)]
mod tests;

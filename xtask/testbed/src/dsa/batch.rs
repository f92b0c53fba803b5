//! Batches: identifiers, fetching the descriptor list, fences, and how a batch ends (idxd-facts sections 1.11 and 8).
//!
//! Owns: which identifier a batch carries, from its beginning until its completion record is written or its entry 0x27 is in the
//! log. Refuses: batches and drains inside a batch.
//! Not modelled: elements of one batch side by side on several engines (they run one by one, so that a fence has nothing to wait
//! for); fetching ahead of the page of the list that is being worked on.

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::{BYTES, Descriptor, flags, opcode};
use zerocopy::{FromBytes, FromZeros};

use super::DsaDevice;
use super::completion::{Report, header};
use super::host::Dma;
use super::ops::Outcome;
use super::paging::Paging;
use super::state::Job;
use crate::truth::{BlockCause, DropReason, Event, Told};

/// Identifiers that an event-log entry has room for.
pub const MAX_BATCH_IDENTIFIERS: u16 = 256;
const PAGE: u64 = 4096;

/// A batch's identifier, and how many batches had it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchId {
    pub(super) id: u8,
    pub(super) generation: u64,
}

/// Position of a descriptor in a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub(super) batch: BatchId,
    pub(super) index: u16,
    /// No earlier element's completion record faulted.
    pub(super) first_fault: bool,
}

/// The identifiers of a device, handed out in turn, so that one comes back as late as possible.
#[derive(Clone, Debug)]
pub(super) struct Identifiers {
    /// Uses so far, and whether one is under way.
    all: Vec<(u64, bool)>,
    /// Those from there on are not handed out.
    limit: usize,
    next: usize,
}

impl Identifiers {
    pub(super) fn new(count: u16) -> Self {
        let mut identifiers = Self { all: vec![(0, false); MAX_BATCH_IDENTIFIERS.into()], limit: 0, next: 0 };
        identifiers.limit(count);
        identifiers
    }

    /// How many there are from now on; those in use beyond come back and stay away.
    pub(super) fn limit(&mut self, count: u16) {
        self.limit = count.clamp(1, MAX_BATCH_IDENTIFIERS).into();
        self.next %= self.limit;
    }

    pub(super) fn take(&mut self) -> Option<BatchId> {
        let count = self.limit;
        let index = (self.next..self.next + count).map(|i| i % count).find(|&i| !self.all[i].1)?;
        let (uses, busy) = &mut self.all[index];
        let batch = BatchId { id: index as u8, generation: *uses };
        *uses += 1;
        *busy = true;
        self.next = (index + 1) % count;
        Some(batch)
    }

    fn release(&mut self, batch: BatchId) {
        if let Some((_, busy)) = self.all.get_mut(usize::from(batch.id)) {
            *busy = false;
        }
    }
}

/// What the elements did.
struct Elements {
    outcome: Outcome,
    /// One of them is in the event log.
    logged: bool,
}

impl DsaDevice {
    /// Execute and complete a batch that has passed its checks.
    pub(super) fn batch(&self, engine: usize, job: &Job) {
        let free = |state: &mut super::state::State| {
            state.identifiers.take().ok_or(Some(BlockCause::BatchIdentifier))
        };
        let Some(batch) = self.wait_for(engine, job, free) else {
            self.dropped(job.wq, job.pasid, DropReason::Aborted);
            return;
        };
        self.log(Event::BatchBegin {
            device: self.name(),
            engine: engine as u8,
            wq: job.wq,
            pasid: job.pasid,
            batch_id: batch.id,
            generation: batch.generation,
            descriptors: job.descriptor.transfer_size,
            cr_address: job.descriptor.completion_addr,
        });
        let Elements { outcome, logged } = self.elements(engine, job, batch);
        let told = if logged && job.descriptor.flags() & flags::CRAV != 0 {
            // The driver may have to deliver an element's record, or fail to, before it can tell how the batch ended.
            let (error, d) = (status::BATCH_EVL_ERR, &job.descriptor);
            let header = header(job, d, None, error, d.completion_addr).with_batch_id(batch.id);
            let record = outcome.record(self.kind);
            self.deliver(engine, job, d, Report { error, header, record, batch: Some(batch) })
        } else {
            self.complete(engine, job, &job.descriptor, &outcome, None)
        };
        let mut state = self.state();
        self.log(Event::BatchEnd {
            device: self.name(),
            wq: job.wq,
            pasid: job.pasid,
            batch_id: batch.id,
            generation: batch.generation,
            status: outcome.status,
            result: outcome.result,
            completed: outcome.completed,
            told,
        });
        state.identifiers.release(batch);
        self.progress.notify_all();
    }

    /// Elements in order. Ends early at a fault of the list, and at a fence behind an element that failed or whose record faulted;
    /// then `completed` is the index of the first element that was not started.
    fn elements(&self, engine: usize, job: &Job, batch: BatchId) -> Elements {
        let count = job.descriptor.transfer_size;
        let (mut all_good, mut logged, mut first_fault) = (true, false, true);
        let memory = Paging::new(self, engine, job, job.descriptor.flags() & flags::BLOCK_ON_FAULT != 0);
        let mut page = [0; PAGE as usize];
        let (mut fetched, mut offset) = (0, 0);
        let mut end = None;
        for index in 0..count {
            if self.state().obsolete(job) {
                break;
            }
            if index == fetched {
                let at = job.descriptor.source.wrapping_add(u64::from(index) * BYTES as u64);
                let room = (PAGE - at % PAGE) / BYTES as u64;
                let descriptors = room.min(u64::from(count - index));
                let list = &mut page[..descriptors as usize * BYTES];
                if let Err(fault) = memory.read(job.pasid, at, list) {
                    let outcome = Outcome::new(status::BATCH_PAGE_FAULT);
                    end = Some(Outcome { completed: index, fault_addr: fault.address, ..outcome });
                    break;
                }
                fetched += descriptors as u32;
                offset = 0;
            }
            let bytes = &page[offset..offset + BYTES];
            offset += BYTES;
            let element = Descriptor::read_from_bytes(bytes).unwrap_or_else(|_| Descriptor::new_zeroed());
            let place = Element { batch, index: index as u16, first_fault };
            self.taken(job, &element, Some(place));
            if element.flags() & flags::FENCE != 0 && !(all_good && first_fault) {
                end = Some(Outcome { completed: index, ..Outcome::new(status::BATCH_FAIL) });
                break;
            }
            let outcome = if element.opcode() == opcode::DRAIN {
                Outcome::new(status::BAD_OPCODE)
            } else {
                self.operate(engine, job, &element, true)
            };
            all_good &= outcome.good();
            let told = self.complete(engine, job, &element, &outcome, Some(place));
            logged |= matches!(told, Told::Log | Told::LogRecord);
            first_fault &= told != Told::LogRecord;
        }
        let whole = || {
            let status = if all_good { status::SUCCESS } else { status::BATCH_FAIL };
            Outcome { completed: count, ..Outcome::new(status) }
        };
        let outcome = end.unwrap_or_else(whole);
        // After a fault of the list alone nothing has failed yet: software goes on with the rest.
        let failed = !all_good || outcome.status == status::BATCH_FAIL;
        Elements { outcome: Outcome { result: u8::from(failed), ..outcome }, logged }
    }
}

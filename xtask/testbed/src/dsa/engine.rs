//! Engines: each takes a descriptor from the WQs of its group, executes it and reports how it ended.
//!
//! Owns: arbitration between WQs, batches, and where an outcome goes (completion record, event log, SWERROR, interrupt).
//! Not modelled: read buffers, groups' traffic classes, page requests, batch error reporting (an element's failed completion
//! record does not hold the batch's back, batch identifiers are zero, a fence orders nothing since elements run one by one),
//! the MSI-X permission table, which is stored only.

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::{Descriptor, flags, opcode};
use dsascope_common::hw::event_log::EntryHeader;
use zerocopy::{FromZeros, IntoBytes};

use super::DsaDevice;
use super::host::DmaFault;
use super::ops::{Context, Outcome};
use super::state::{Job, State};
use crate::truth::Event;

/// Stride of a WQ of priority 1.
const STRIDE: u64 = 1 << 20;

/// Position of a descriptor in a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    pub(super) index: u16,
    /// No earlier element of the batch went to the event log.
    pub(super) first_error: bool,
}

/// An error on its way to the event log or to SWERROR.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) error: u8,
    pub(super) header: EntryHeader,
    pub(super) record: Vec<u8>,
}

impl DsaDevice {
    /// Take and execute one descriptor as engine `engine`. False: there was none.
    pub fn step(&self, engine: usize) -> bool {
        let job = take(&mut self.state(), engine);
        let Some(job) = job else { return false };
        self.execute(engine, &job);
        let mut state = self.state();
        state.engines[engine].current = None;
        self.settle(&mut state);
        self.finished.notify_all();
        true
    }

    /// Serve until the device is stopped.
    pub(super) fn run_engine(&self, engine: usize) {
        while !self.state().stopping {
            if self.step(engine) {
                continue;
            }
            let mut state = self.state();
            // Something may have come since step() looked.
            if next_wq(&state, engine).is_none() && !state.stopping {
                state.engines[engine].idle = true;
                state = self.wait(&self.wake[engine], state);
                state.engines[engine].idle = false;
            }
        }
    }

    /// Let an idle engine of the WQ's group know.
    pub(super) fn wake_engine(&self, state: &mut State, wq: usize) {
        let serving = state.engines_of(wq);
        let idle = |(i, engine): &(usize, &mut super::state::Engine)| serving >> i & 1 != 0 && engine.idle;
        if let Some((i, engine)) = state.engines.iter_mut().enumerate().find(idle) {
            engine.idle = false;
            self.wake[i].notify_one();
        }
    }

    fn execute(&self, engine: usize, job: &Job) {
        let context = self.context(job, false);
        let outcome = match context.check(&job.descriptor) {
            Err(refused) => refused,
            Ok(()) if job.descriptor.opcode() == opcode::BATCH => self.batch(engine, job),
            Ok(()) => context.run(&job.descriptor),
        };
        self.complete(engine, job, &job.descriptor, &outcome, None);
    }

    fn context<'a>(&'a self, job: &'a Job, in_batch: bool) -> Context<'a> {
        let (kind, dma) = (self.kind, &*self.host.dma);
        Context { kind, dma, pasid: job.pasid, config: &job.config, in_batch }
    }

    /// Elements in order. Ends at a fault of the list with the number of descriptors read.
    fn batch(&self, engine: usize, job: &Job) -> Outcome {
        let count = job.descriptor.transfer_size;
        let (mut all_good, mut first_error) = (true, true);
        for index in 0..count {
            if self.state().obsolete(job) {
                break;
            }
            let at = job.descriptor.source.wrapping_add(u64::from(index) * 64);
            let mut element = Descriptor::new_zeroed();
            if let Err(DmaFault { address, .. }) = self.host.dma.read(job.pasid, at, element.as_mut_bytes()) {
                let outcome = Outcome::new(status::BATCH_PAGE_FAULT);
                return Outcome { completed: index, fault_addr: address, ..outcome };
            }
            let place = Element { index: index as u16, first_error };
            self.taken(job, &element, Some(place.index));
            let context = self.context(job, true);
            let outcome = context.check(&element).err().unwrap_or_else(|| context.run(&element));
            all_good &= outcome.good();
            first_error &= !self.complete(engine, job, &element, &outcome, Some(place));
        }
        let status = if all_good { status::SUCCESS } else { status::BATCH_FAIL };
        Outcome { completed: count, result: u8::from(!all_good), ..Outcome::new(status) }
    }

    /// Write the completion record or report why not; true when it was reported.
    fn complete(
        &self,
        engine: usize,
        job: &Job,
        descriptor: &Descriptor,
        outcome: &Outcome,
        element: Option<Element>,
    ) -> bool {
        let f = descriptor.flags();
        let record = outcome.record(self.kind);
        let address = descriptor.completion_addr;
        let possible = f & flags::CRAV != 0 && outcome.status != status::CRA_ALIGN;
        let wanted = f & flags::RCR != 0 || !outcome.good();
        let reported = if possible && wanted {
            let written = self.host.dma.write_record(job.pasid, address, &record);
            match written {
                Ok(()) => self.log(Event::CompletionRecord {
                    device: self.name(),
                    wq: job.wq,
                    pasid: job.pasid,
                    address,
                    status: outcome.status,
                }),
                Err(fault) => {
                    log::debug!("{}: completion record: {fault}", self.name);
                    let header = header(job, descriptor, element, status::CRA_XLAT, address)
                        .with_fault_rw(true)
                        .with_rcr(f & flags::RCR != 0)
                        .with_rci(f & flags::RCI != 0)
                        .with_interrupt_handle(descriptor.interrupt_handle);
                    self.report(engine, job, Report { error: status::CRA_XLAT, header, record });
                }
            }
            written.is_err()
        } else if outcome.good() {
            false
        } else {
            let error = outcome.status;
            let mut header =
                header(job, descriptor, element, error, outcome.fault_addr).with_fault_rw(error & 0x80 != 0);
            if error == status::INVALID_FLAGS {
                header = header.with_invalid_flags(outcome.invalid_flags);
            }
            self.report(engine, job, Report { error, header, record });
            true
        };
        if f & flags::RCI != 0 && outcome.status != status::INT_HANDLE_INVAL {
            self.raise(descriptor.interrupt_handle, 0);
        }
        reported
    }

    /// To the event log if it is on, else to SWERROR.
    fn report(&self, engine: usize, job: &Job, report: Report) {
        if self.state().registers.log_enabled() {
            self.append(engine, job, &report);
        } else {
            self.software_error(job, &report);
        }
    }
}

fn header(
    job: &Job,
    descriptor: &Descriptor,
    element: Option<Element>,
    error: u8,
    fault_addr: u64,
) -> EntryHeader {
    EntryHeader::default()
        .with_desc_valid(true)
        .with_wq_idx_valid(true)
        .with_batch(element.is_some())
        .with_err_info_valid(true)
        .with_error(error)
        .with_wq_idx(job.wq)
        .with_operation(descriptor.opcode())
        .with_pasid(job.pasid.unwrap_or(0))
        .with_batch_idx(element.map_or(0, |e| e.index))
        .with_first_err_in_batch(element.is_some_and(|e| e.first_error))
        .with_fault_addr(fault_addr)
}

/// Of the engine's WQs that have work the one that got least for its priority.
fn next_wq(state: &State, engine: usize) -> Option<usize> {
    let ready = |i: &usize| !state.wqs[*i].queue.is_empty() && state.engines_of(*i) >> engine & 1 != 0;
    (0..state.wqs.len()).filter(ready).min_by_key(|i| state.wqs[*i].used)
}

fn take(state: &mut State, engine: usize) -> Option<Job> {
    let index = next_wq(state, engine)?;
    let wq = &mut state.wqs[index];
    let job = wq.queue.pop_front()?;
    wq.used += STRIDE / u64::from(wq.priority().max(1));
    state.service_clock = wq.used;
    state.engines[engine].current = Some(job.current());
    Some(job)
}

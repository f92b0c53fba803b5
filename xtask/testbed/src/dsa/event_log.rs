//! The event-log ring in guest memory (idxd-facts sections 1.8 and 8).
//!
//! Owns: tail, the interrupt-pending protocol, the waiting of an engine for a free slot. Refuses: overwriting an entry that the
//! driver has not read. One entry is written at a time, so that the tail never passes an unfinished one.
//! Not modelled: the halt that a real device enters when the log's memory cannot be written (the entry is given up).

use std::sync::PoisonError;

use dsascope_common::hw::regs::{genctrl, intcause};
use zerocopy::IntoBytes;

use super::DsaDevice;
use super::completion::Report;
use super::state::{Job, Late, State};
use crate::truth::{BlockCause, Event, hex};

impl DsaDevice {
    /// Write an entry; waits while the ring is full, until the driver makes room or a reset, disable or abort ends the wait.
    pub(super) fn append(&self, engine: usize, job: &Job, report: &Report) {
        let Some((address, pasid)) = self.wait_for_slot(engine, job) else {
            self.abandon(job, report);
            return;
        };
        let bytes = entry_bytes(self.kind.entry_bytes(), self.kind.cr_offset(), report);
        let written = self.host.dma.write(pasid, address, &bytes);
        let mut state = self.state();
        state.log_busy = false;
        self.progress.notify_all();
        match written {
            Ok(()) if state.generation == job.generation => self.publish(&mut state, job, report, &bytes),
            Ok(()) => self.abandon(job, report),
            Err(fault) => {
                log::warn!("{}: event log: {fault}", self.name);
                self.abandon(job, report);
            }
        }
    }

    /// Write an entry long after its descriptor has ended, if no reset comes before.
    pub(super) fn append_late(&self, engine: usize, late: &Late) {
        let Late { job, report, delay } = late;
        let counts = |state: &mut State| !state.obsolete(job);
        let waited = self.progress.wait_timeout_while(self.state(), *delay, counts);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.log(Event::EntryLate { device: self.name(), wq: job.wq, pasid: job.pasid });
        self.append(engine, job, report);
    }

    /// Address and PASID of the slot at the tail, now the caller's until it clears `log_busy`.
    fn wait_for_slot(&self, engine: usize, job: &Job) -> Option<(u64, Option<u32>)> {
        let entry_bytes = self.kind.entry_bytes() as u64;
        self.wait_for(engine, job, |state| {
            let r = &state.registers;
            if r.log_full() {
                return Err(Some(BlockCause::EventLogFull));
            }
            if std::mem::replace(&mut state.log_busy, true) {
                return Err(None);
            }
            let offset = u64::from(r.tail) * entry_bytes;
            Ok((r.log_base().wrapping_add(offset), r.log_pasid()))
        })
    }

    /// The entry is in memory: let the driver see it.
    fn publish(&self, state: &mut State, job: &Job, report: &Report, bytes: &[u8]) {
        state.entry_written(job);
        let r = &mut state.registers;
        let index = r.tail;
        r.tail = (r.tail + 1) % r.log_size().max(1);
        let h = &report.header;
        self.log(Event::EventLogEntry {
            device: self.name(),
            index,
            error: report.error,
            wq: h.wq_idx(),
            pasid: h.pasid(),
            operation: h.operation(),
            fault_addr: h.fault_addr(),
            batch: h.batch(),
            batch_id: h.batch_id(),
            batch_generation: report.batch.map(|b| b.generation),
            batch_index: h.batch_idx(),
            raw: hex(bytes),
        });
        // One interrupt until the driver acknowledges; it reads the tail after that.
        if !std::mem::replace(&mut r.pending, true) && r.genctrl & genctrl::EVENT_LOG_INTERRUPT != 0 {
            self.cause(state, intcause::EVENT_LOG);
        }
    }

    fn abandon(&self, job: &Job, report: &Report) {
        let (wq, pasid, error) = (job.wq, job.pasid, report.error);
        self.log(Event::EntryAbandoned { device: self.name(), wq, pasid, error });
    }
}

fn entry_bytes(bytes: usize, cr_offset: usize, report: &Report) -> Vec<u8> {
    let mut entry = report.header.as_bytes().to_vec();
    entry.resize(cr_offset, 0);
    entry.extend_from_slice(&report.record);
    entry.resize(bytes, 0);
    entry
}

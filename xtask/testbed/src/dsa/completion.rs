//! How the end of a descriptor is told: completion record, event log, SWERROR, interrupt.
//!
//! Owns: the choice between them (idxd-facts sections 1.8, 1.10 and 8), the header of event-log entries. Refuses: writing anything
//! for a descriptor that a reset or halt has overtaken.
//! Not modelled: traffic classes and steering tags of completion records, interrupts through the interrupt message storage.

use dsascope_common::hw::completion::{STATUS_WRITE_FAULT, status};
use dsascope_common::hw::descriptor::{Descriptor, flags};
use dsascope_common::hw::event_log::EntryHeader;

use super::DsaDevice;
use super::batch::{BatchId, Element};
use super::host::Dma;
use super::ops::Outcome;
use super::paging::Paging;
use super::state::{Job, Late};
use crate::truth::{DropReason, Event, Told};

/// An error on its way to the event log or to SWERROR.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) error: u8,
    pub(super) header: EntryHeader,
    pub(super) record: Vec<u8>,
    /// Whose identifier the header carries.
    pub(super) batch: Option<BatchId>,
}

impl DsaDevice {
    /// Write the completion record or report why not.
    pub(super) fn complete(
        &self,
        engine: usize,
        job: &Job,
        descriptor: &Descriptor,
        outcome: &Outcome,
        element: Option<Element>,
    ) -> Told {
        if self.state().obsolete(job) {
            self.dropped(job.wq, job.pasid, DropReason::Aborted);
            return Told::Nothing;
        }
        let f = descriptor.flags();
        let address = descriptor.completion_addr;
        // Other refusals come before that of the alignment.
        let aligned = address.is_multiple_of(self.kind.cr_bytes() as u64);
        let possible = f & flags::CRAV != 0 && aligned;
        let wanted = f & flags::RCR != 0 || !outcome.good();
        let told = if possible && wanted {
            let record = outcome.record(self.kind);
            match Paging::new(self, engine, job, true).write_record(job.pasid, address, &record) {
                Ok(()) => {
                    self.log(Event::CompletionRecord {
                        device: self.name(),
                        wq: job.wq,
                        pasid: job.pasid,
                        address,
                        status: outcome.status,
                    });
                    Told::Record
                }
                Err(fault) => {
                    log::debug!("{}: completion record: {fault}", self.name);
                    let error = status::CRA_XLAT;
                    let header = header(job, descriptor, element, error, address)
                        .with_first_err_in_batch(element.is_some_and(|e| e.first_fault));
                    let batch = element.map(|e| e.batch);
                    self.deliver(engine, job, descriptor, Report { error, header, record, batch })
                }
            }
        } else if outcome.good() {
            Told::Nothing
        } else {
            let error = outcome.status;
            let mut header = header(job, descriptor, element, error, outcome.fault_addr)
                .with_fault_rw(error & STATUS_WRITE_FAULT != 0);
            if error == status::INVALID_FLAGS {
                header = header.with_invalid_flags(outcome.invalid_flags);
            }
            let batch = element.map(|e| e.batch);
            let record = outcome.record(self.kind);
            self.report(engine, job, &Report { error, header, record, batch }, Told::Log)
        };
        // Where the driver writes the record, it would also have to signal it; the entry says that it was asked for.
        let signal = told != Told::LogRecord && outcome.status != status::INT_HANDLE_INVAL;
        if f & flags::RCI != 0 && signal {
            self.raise(descriptor.interrupt_handle, 0);
        }
        told
    }

    /// Leave the record to the driver: errors 0x1a, 0x26, 0x27.
    pub(super) fn deliver(
        &self,
        engine: usize,
        job: &Job,
        descriptor: &Descriptor,
        mut report: Report,
    ) -> Told {
        let f = descriptor.flags();
        report.header = report
            .header
            .with_fault_rw(true)
            .with_rcr(f & flags::RCR != 0)
            .with_rci(f & flags::RCI != 0)
            .with_interrupt_handle(descriptor.interrupt_handle);
        self.report(engine, job, &report, Told::LogRecord)
    }

    /// To the event log if it is on, which is `told`, else to SWERROR.
    fn report(&self, engine: usize, job: &Job, report: &Report, told: Told) -> Told {
        let mut state = self.state();
        let of_record = told == Told::LogRecord;
        let logged = state.registers.log_enabled() && (of_record || !state.errors_in_register);
        if let (entries @ 1.., delay) = state.late_entries
            && logged
            && report.error == status::CRA_XLAT
            && report.batch.is_none()
        {
            state.late_entries.0 = entries - 1;
            let (job, report) = (job.clone(), report.clone());
            state.engines[engine].late = Some(Late { job, report, delay });
            return told;
        }
        drop(state);
        if logged {
            self.append(engine, job, report);
            told
        } else {
            self.software_error(job, report);
            Told::Register
        }
    }
}

pub(super) fn header(
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
        .with_batch_id(element.map_or(0, |e| e.batch.id))
        .with_err_info_valid(true)
        .with_error(error)
        .with_wq_idx(job.wq)
        .with_operation(descriptor.opcode())
        .with_pasid(job.pasid.unwrap_or(0))
        .with_batch_idx(element.map_or(0, |e| e.index))
        .with_fault_addr(fault_addr)
}

//! The drain descriptor: it ends after all earlier descriptors of its PASID on its WQ (idxd-facts sections 1.7 and 1.10).
//!
//! Owns: that waiting, and the choice between a record and an entry 0x26. What the driver has moved the log's head past counts as
//! delivered: the device cannot know more.
//! Not modelled: readback addresses.

use dsascope_common::hw::completion::status;

use super::DsaDevice;
use super::completion::{Report, header};
use super::ops::Outcome;
use super::state::{Job, State};
use crate::truth::DropReason;

impl DsaDevice {
    pub(super) fn drain(&self, engine: usize, job: &Job) {
        // Whoever came earlier stops waiting by himself if a command wants it, so that this wait ends too.
        let alone = |state: &mut State| {
            let mut others = state.outstanding();
            let earlier = others.any(|o| o.wq == job.wq && o.pasid == job.pasid && o.sequence < job.sequence);
            if earlier { Err(None) } else { Ok(state.undelivered(job)) }
        };
        let Some(undelivered) = self.wait_for(engine, job, alone) else {
            self.dropped(job.wq, job.pasid, DropReason::Aborted);
            return;
        };
        let (outcome, descriptor) = (Outcome::new(status::SUCCESS), &job.descriptor);
        if undelivered {
            let error = status::DRAIN_EVL;
            let header = header(job, descriptor, None, error, descriptor.completion_addr);
            let record = outcome.record(self.kind);
            self.deliver(engine, job, descriptor, Report { error, header, record, batch: None });
        } else {
            self.complete(engine, job, descriptor, &outcome, None);
        }
    }
}

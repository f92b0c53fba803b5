//! SWERROR: the one error a device without an event log can hold (idxd-facts section 1.9).
//!
//! Owns: valid and overflow. A second error before the driver's acknowledgement leaves only the overflow bit.

use dsascope_common::hw::regs::{genctrl, intcause};

use super::DsaDevice;
use super::completion::Report;
use super::state::Job;
use crate::truth::Event;

const VALID: u64 = 1 << 0;
const OVERFLOW: u64 = 1 << 1;
/// Bits of the first qword that an event-log entry's has too: batch identifiers do not exist here.
const SAME: u64 = !(0xff << 24 | 1 << 7);

impl DsaDevice {
    pub(super) fn software_error(&self, job: &Job, report: &Report) {
        let mut guard = self.state();
        let state = &mut *guard;
        let held = state.registers.swerror[0] & VALID == 0;
        if held {
            let [first, second, address, _] = report.header.qwords;
            // Batch index and invalid flags only.
            let second = second & 0xffff_ffff_0000_ffff;
            state.registers.swerror = [first & SAME | VALID, second, address, 0];
        } else {
            state.registers.swerror[0] |= OVERFLOW;
        }
        let (wq, pasid, error) = (job.wq, job.pasid, report.error);
        self.log(Event::SoftwareError { device: self.name(), error, wq, pasid, held });
        if state.registers.genctrl & genctrl::SOFTWARE_ERROR_INTERRUPT != 0 {
            self.cause(state, intcause::SOFTWARE_ERROR);
        }
    }
}

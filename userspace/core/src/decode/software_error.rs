//! SWERROR as the driver copied it (idxd-facts section 1.9): the one error that a device without an event log can tell of.

use dsascope_common::hw::completion::STATUS_MASK;
use dsascope_common::hw::event_log::EntryHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{operation, operation_words, status};
use crate::name::{DeviceId, WqId};

/// SWERROR in its parts. What the device does not vouch for (descriptor valid, WQ index valid) is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SoftwareError {
    /// Name of the error code; null when the code is unknown.
    pub error: Option<String>,
    pub error_code: u8,
    /// Later errors came before the driver had read this one, and were dropped.
    pub overflow: bool,
    /// The M of wqN.M.
    pub wq: Option<u16>,
    pub pasid: Option<u32>,
    pub operation: Option<String>,
    pub operation_code: Option<u8>,
    /// Place of the descriptor in its batch; null outside one.
    pub batch_index: Option<u16>,
    /// The fault was a write.
    pub write: bool,
    /// Fault address.
    pub address: u64,
}

impl SoftwareError {
    /// Of a register without the valid bit there is nothing to tell.
    #[must_use]
    pub fn new(device: DeviceId, qwords: &[u64; 4]) -> Option<Self> {
        if qwords[0] & 1 == 0 {
            return None;
        }
        // From bit 2 on the first three qwords are those of an event-log entry, without a batch identifier.
        let header = EntryHeader { qwords: *qwords };
        let described = header.desc_valid();
        Some(Self {
            error: status(device.kind, header.error()).name.map(str::to_owned),
            error_code: header.error() & STATUS_MASK,
            overflow: qwords[0] & 2 != 0,
            wq: header.wq_idx_valid().then(|| u16::from(header.wq_idx())),
            pasid: described.then(|| header.pasid()),
            operation: operation(device.kind, header.operation()).filter(|_| described).map(str::to_owned),
            operation_code: described.then(|| header.operation()),
            batch_index: (described && header.batch()).then(|| header.batch_idx()),
            write: header.fault_rw(),
            address: header.fault_addr(),
        })
    }

    /// In a sentence, without the device.
    #[must_use]
    pub fn words(&self, device: DeviceId) -> String {
        let mut words = status(device.kind, self.error_code).label();
        if let Some(code) = self.operation_code {
            words += &format!(" of {}", operation_words(device.kind, code));
        }
        if let Some(wq) = self.wq {
            words += &format!(" on {}", WqId { device: device.id, wq });
        }
        if let Some(pasid) = self.pasid {
            words += &format!(" PASID {pasid}");
        }
        if let Some(index) = self.batch_index {
            words += &format!(", element {index} of a batch");
        }
        words += &format!(", {} at {:#x}", if self.write { "write" } else { "read" }, self.address);
        if self.overflow {
            words += "; LATER ERRORS WERE DROPPED";
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::DeviceKind;

    const DSA0: DeviceId = DeviceId { kind: DeviceKind::Dsa, id: 0 };

    #[test]
    fn a_register_in_words() {
        // valid, overflow, descriptor valid, WQ index valid, batch, write; error 0x10; WQ 1; operation 3; PASID 7.
        let first = 0b11_1111 | 0x10 << 8 | 1 << 16 | 3 << 32 | 7 << 40;
        let error = SoftwareError::new(DSA0, &[first, 5, 0x7f00_1000, 0]).unwrap();
        assert_eq!(
            (error.wq, error.pasid, error.operation_code, error.batch_index),
            (Some(1), Some(7), Some(3), Some(5))
        );
        assert_eq!(
            error.words(DSA0),
            "0x10 BAD_OPCODE of a memmove on wq0.1 PASID 7, element 5 of a batch, write at 0x7f001000; LATER ERRORS WERE DROPPED"
        );
    }

    #[test]
    fn what_the_device_does_not_vouch_for_is_not_told() {
        let error = SoftwareError::new(DSA0, &[1 | 0x1b << 8 | 1 << 16 | 7 << 40, 0, 0x40, 0]).unwrap();
        assert_eq!(
            (error.wq, error.pasid, error.operation_code, error.batch_index),
            (None, None, None, None)
        );
        assert_eq!(error.words(DSA0), "0x1b CRA_ALIGN, read at 0x40");
        assert_eq!(SoftwareError::new(DSA0, &[0; 4]), None);
    }
}

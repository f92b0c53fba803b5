//! The event-log entry's header (idxd-facts section 1.8) and SWERROR (section 1.9), which share most of their layout.

use dsascope_common::hw::completion::{STATUS_MASK, status};

use super::Field;
use super::layout::{Show, Spec, fields};
use crate::event::DeviceKind;

const SHARED: [Spec; 6] = [
    ("descriptor valid", 0, 2, 1, Show::Flag("the fields below describe a descriptor", "no descriptor")),
    ("WQ index valid", 0, 3, 1, Show::Flag("yes", "no")),
    ("batch", 0, 4, 1, Show::Flag("inside a batch", "not inside a batch")),
    ("fault is write", 0, 5, 1, Show::Flag("write", "read")),
    ("privileged", 0, 6, 1, Show::Flag("privileged", "user")),
    ("error", 1, 0, 8, Show::Status),
];

const ENTRY: [Spec; 7] = [
    ("error info valid", 0, 7, 1, Show::Flag("yes", "no")),
    ("WQ index", 2, 0, 8, Show::Number("")),
    ("batch identifier", 3, 0, 8, Show::Number("reused; only with the batch bit")),
    ("operation", 4, 0, 8, Show::Operation),
    ("PASID", 5, 0, 20, Show::Number("process address space")),
    ("reserved", 7, 4, 4, Show::Reserved),
    ("batch index", 8, 0, 16, Show::Number("place of the descriptor in its batch")),
];

/// Bytes 12 to 15 for every error but invalid flags.
const REQUEST: [Spec; 6] = [
    ("reserved", 10, 0, 16, Show::Reserved),
    ("interrupt handle", 12, 0, 16, Show::Number("")),
    ("interrupt requested", 14, 0, 1, Show::Flag("a completion interrupt was requested", "no")),
    ("IMS", 14, 1, 1, Show::Flag("the handle is of the interrupt message store", "no")),
    ("record requested", 14, 2, 1, Show::Flag("a completion record was requested", "no")),
    ("first error in batch", 14, 3, 1, Show::Flag("first of this batch", "no")),
];
const OPERAND: Spec = ("operand", 15, 5, 3, Show::Number(""));
const INVALID_FLAGS: Spec = ("invalid flags", 12, 0, 32, Show::Flags);
const FAULT_ADDR: Spec = ("fault address", 16, 0, 64, Show::Hex(""));
const RECORD_ADDR: Spec = ("fault address", 16, 0, 64, Show::Hex("address of the completion record"));

/// Every field of an entry's header: 32 bytes.
#[must_use]
pub fn entry(kind: DeviceKind, bytes: &[u8]) -> Vec<Field> {
    let error = bytes.get(1).map_or(0, |error| error & STATUS_MASK);
    let mut specs = vec![("reserved", 0, 0, 2, Show::Reserved)];
    specs.extend(SHARED);
    specs.extend(ENTRY);
    if error == status::INVALID_FLAGS {
        specs.push(INVALID_FLAGS);
    } else {
        specs.extend(REQUEST);
        if matches!(error, status::BATCH_PAGE_FAULT | status::CRA_XLAT | status::PFAULT_RDBA) {
            specs.push(OPERAND);
        }
    }
    let of_record = matches!(error, status::CRA_XLAT | status::DRAIN_EVL | status::BATCH_EVL_ERR);
    specs.push(if of_record { RECORD_ADDR } else { FAULT_ADDR });
    specs.push(("reserved", 24, 0, 64, Show::Reserved));
    fields(kind, bytes, &specs)
}

/// Every field of SWERROR: four qwords.
#[must_use]
pub fn swerror(kind: DeviceKind, qwords: &[u64; 4]) -> Vec<Field> {
    let mut bytes = [0; 32];
    for (to, qword) in bytes.chunks_exact_mut(8).zip(qwords) {
        to.copy_from_slice(&qword.to_le_bytes());
    }
    let mut specs: Vec<Spec> = vec![
        ("valid", 0, 0, 1, Show::Flag("an error is held", "no error")),
        ("overflow", 0, 1, 1, Show::Flag("later errors were dropped", "no error was dropped")),
    ];
    specs.extend(SHARED);
    specs.extend([
        ("WQ index", 2, 0, 8, Show::Number("")),
        ("operation", 4, 0, 8, Show::Operation),
        ("PASID", 5, 0, 20, Show::Number("process address space")),
        ("batch index", 8, 0, 16, Show::Number("place of the descriptor in its batch")),
    ]);
    let error = bytes[1] & STATUS_MASK;
    specs.push(if error == status::INVALID_FLAGS {
        INVALID_FLAGS
    } else {
        ("invalid flags", 12, 0, 32, Show::Hex("only for error 0x11"))
    });
    specs.push(FAULT_ADDR);
    fields(kind, &bytes, &specs)
}

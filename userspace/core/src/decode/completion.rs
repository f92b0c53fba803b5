//! Completion records: DSA 32 bytes, IAA 64 (idxd-facts section 1.10).

use dsascope_common::hw::completion::{STATUS_MASK, status};
use dsascope_common::hw::descriptor::opcode;

use super::Field;
use super::layout::{Show, Spec, fields};
use crate::event::DeviceKind;

const IAX: [Spec; 16] = [
    ("status", 0, 0, 8, Show::Status),
    ("error code", 1, 0, 8, Show::Hex("")),
    ("fault info", 2, 0, 8, Show::Hex("")),
    ("reserved", 3, 0, 8, Show::Reserved),
    ("bytes completed", 4, 0, 32, Show::Number("bytes")),
    ("fault address", 8, 0, 64, Show::Hex("")),
    ("invalid flags", 16, 0, 32, Show::Flags),
    ("reserved", 20, 0, 32, Show::Reserved),
    ("output size", 24, 0, 32, Show::Number("bytes")),
    ("output bits", 28, 0, 8, Show::Number("bits")),
    ("xor checksum", 30, 0, 16, Show::Hex("")),
    ("CRC", 32, 0, 32, Show::Hex("")),
    ("minimum", 36, 0, 32, Show::Number("")),
    ("maximum", 40, 0, 32, Show::Number("")),
    ("sum", 44, 0, 32, Show::Number("")),
    ("reserved", 48, 0, 64, Show::Reserved),
];

/// Every field of a completion record. `operation` is the descriptor's: it decides what the operation-specific part is.
#[must_use]
pub fn completion(kind: DeviceKind, operation: u8, bytes: &[u8]) -> Vec<Field> {
    match kind {
        DeviceKind::Dsa => fields(kind, bytes, &dsa(operation, bytes.first().copied().unwrap_or(0))),
        DeviceKind::Iax => {
            let mut specs = IAX.to_vec();
            specs.push(("reserved", 56, 0, 64, Show::Reserved));
            fields(kind, bytes, &specs)
        }
        // What both have in common.
        DeviceKind::Unknown => fields(kind, bytes, &[IAX[0], IAX[2], IAX[4], IAX[5]]),
    }
}

fn dsa(operation: u8, status_byte: u8) -> Vec<Spec> {
    let code = status_byte & STATUS_MASK;
    let partial = code == status::PAGE_FAULT_NOBOF || code == status::PAGE_FAULT_IR;
    let mut specs: Vec<Spec> = vec![("status", 0, 0, 8, Show::Status)];
    specs.push(match operation {
        opcode::BATCH => {
            ("result", 1, 0, 8, Show::Flag("an element failed, or its record could not be written", ""))
        }
        opcode::MEMMOVE if partial => ("result", 1, 0, 8, Show::Flag("backward copy", "forward copy")),
        _ => ("result", 1, 0, 8, Show::Hex("")),
    });
    specs.push(("fault info", 2, 0, 8, Show::Hex("")));
    specs.push(("reserved", 3, 0, 8, Show::Reserved));
    specs.push(if operation == opcode::BATCH {
        ("descriptors completed", 4, 0, 32, Show::Number("descriptors"))
    } else {
        ("bytes completed", 4, 0, 32, Show::Number("bytes"))
    });
    specs.push(("fault address", 8, 0, 64, Show::Hex("")));
    match (code, operation) {
        (status::INVALID_FLAGS, _) => specs.push(("invalid flags", 16, 0, 24, Show::Flags)),
        (_, opcode::CR_DELTA) => specs.push(("delta record size", 16, 0, 32, Show::Number("bytes"))),
        (_, opcode::CRCGEN | opcode::COPY_CRC) => specs.push(("CRC value", 16, 0, 64, Show::Hex(""))),
        _ => specs.push(("operation specific", 16, 0, 64, Show::Hex(""))),
    }
    specs.push(("operation specific", 24, 0, 64, Show::Hex("")));
    specs
}

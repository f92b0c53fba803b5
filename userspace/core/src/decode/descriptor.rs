//! Work descriptors: 64 bytes (idxd-facts section 1.7).

use dsascope_common::hw::descriptor::{Descriptor, opcode};
use zerocopy::FromBytes;

use super::Field;
use super::layout::{Show, Spec, fields};
use crate::event::DeviceKind;

const COMMON: [Spec; 6] = [
    ("PASID", 0, 0, 20, Show::Number("filled in by ENQCMD; ignored on a dedicated WQ")),
    ("reserved", 2, 4, 11, Show::Reserved),
    ("privileged", 3, 7, 1, Show::Flag("privileged", "user")),
    ("flags", 4, 0, 24, Show::Flags),
    ("operation", 7, 0, 8, Show::Operation),
    ("completion record address", 8, 0, 64, Show::Hex("")),
];

const IAX: [Spec; 10] = [
    ("source 1", 16, 0, 64, Show::Hex("")),
    ("destination", 24, 0, 64, Show::Hex("")),
    ("source 1 size", 32, 0, 32, Show::Number("bytes")),
    ("interrupt handle", 36, 0, 16, Show::Number("")),
    ("(de)compression flags", 38, 0, 16, Show::Hex("")),
    ("source 2 or AECS", 40, 0, 64, Show::Hex("")),
    ("max destination size", 48, 0, 32, Show::Number("bytes")),
    ("source 2 size", 52, 0, 32, Show::Number("bytes")),
    ("filter flags", 56, 0, 32, Show::Hex("")),
    ("input elements", 60, 0, 32, Show::Number("elements")),
];

/// Every field of a descriptor.
#[must_use]
pub fn descriptor(kind: DeviceKind, bytes: &[u8]) -> Vec<Field> {
    let mut specs = COMMON.to_vec();
    match kind {
        DeviceKind::Dsa => {
            let code = Descriptor::read_from_prefix(bytes).map(|(d, _)| d.opcode());
            specs.extend(dsa(code.unwrap_or(opcode::NOOP)));
        }
        DeviceKind::Iax => specs.extend(IAX),
        DeviceKind::Unknown => {}
    }
    fields(kind, bytes, &specs)
}

/// The DSA fields after the common 16 bytes; raw where the operation gives them no name here.
fn dsa(code: u8) -> Vec<Spec> {
    let raw = |byte| ("operation specific", byte, 0, 64, Show::Hex(""));
    let (first, second, size): (&str, &str, &str) = match code {
        opcode::BATCH => ("descriptor list", "reserved", "descriptors"),
        opcode::MEMFILL => ("pattern", "destination", "bytes"),
        opcode::COMPVAL => ("source", "pattern", "bytes"),
        opcode::COMPARE | opcode::CR_DELTA => ("source 1", "source 2", "bytes"),
        opcode::AP_DELTA => ("delta record", "destination", "bytes"),
        opcode::DRAIN => ("readback address 1", "readback address 2", "bytes"),
        opcode::TRANSL_FETCH => ("address", "operation specific", "region size, bytes"),
        _ => ("source", "destination", "bytes"),
    };
    let mut specs: Vec<Spec> = vec![
        (first, 16, 0, 64, Show::Hex("")),
        (second, 24, 0, 64, Show::Hex("")),
        ("size", 32, 0, 32, Show::Number(size)),
        ("interrupt handle", 36, 0, 16, Show::Number("")),
        ("reserved", 38, 0, 16, Show::Reserved),
    ];
    match code {
        opcode::COMPARE | opcode::COMPVAL => {
            specs.extend([("expected result", 40, 0, 8, Show::Hex("")), raw(48), raw(56)]);
        }
        opcode::CR_DELTA => specs.extend([
            ("delta record", 40, 0, 64, Show::Hex("")),
            ("max delta size", 48, 0, 32, Show::Number("bytes")),
            ("expected result mask", 56, 0, 8, Show::Hex("")),
        ]),
        opcode::MEMFILL => specs.extend([("pattern, high half", 40, 0, 64, Show::Hex("")), raw(48), raw(56)]),
        opcode::TRANSL_FETCH => {
            specs.extend([raw(40), ("region stride", 48, 0, 64, Show::Number("bytes")), raw(56)]);
        }
        opcode::DUALCAST => specs.extend([("destination 2", 40, 0, 64, Show::Hex("")), raw(48), raw(56)]),
        opcode::CRCGEN | opcode::COPY_CRC => specs.extend([
            ("CRC seed", 40, 0, 32, Show::Hex("")),
            ("CRC seed address", 48, 0, 64, Show::Hex("")),
            raw(56),
        ]),
        _ => specs.extend([raw(40), raw(48), raw(56)]),
    }
    specs
}

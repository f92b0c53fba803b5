//! Fields as data: where they lie and how they read.

use dsascope_common::hw::descriptor::flags;

use super::{Field, operation, status};
use crate::event::DeviceKind;

/// How a field reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Show {
    /// Words when set, words when clear.
    Flag(&'static str, &'static str),
    Status,
    Operation,
    Flags,
    /// Decimal, with its unit or meaning.
    Number(&'static str),
    Hex(&'static str),
    /// Should be 0.
    Reserved,
}

/// A field: name, byte, bit, width in bits (at most 64), how it reads.
pub(super) type Spec = (&'static str, usize, usize, usize, Show);

/// The fields of `specs` that lie within `bytes`.
pub(super) fn fields(kind: DeviceKind, bytes: &[u8], specs: &[Spec]) -> Vec<Field> {
    specs.iter().filter_map(|spec| field(kind, bytes, spec)).collect()
}

fn field(kind: DeviceKind, bytes: &[u8], &(name, byte, bit, width, show): &Spec) -> Option<Field> {
    let number = extract(bytes, byte, bit, width)?;
    let low_byte = number as u8;
    let (value, words) = match show {
        Show::Flag(set, clear) => (number.to_string(), if number == 0 { clear } else { set }.to_owned()),
        Show::Status => {
            let status = status(kind, low_byte);
            (format!("{low_byte:#04x}"), format!("{}: {}", status.label(), status.sentence()))
        }
        Show::Operation => {
            (format!("{low_byte:#04x}"), operation(kind, low_byte).unwrap_or("unknown operation").to_owned())
        }
        Show::Flags => (format!("{number:#08x}"), flag_words(number as u32)),
        Show::Number(words) => (number.to_string(), words.to_owned()),
        Show::Hex(words) => (format!("{number:#x}"), words.to_owned()),
        Show::Reserved if number == 0 => ("0".into(), String::new()),
        Show::Reserved => (format!("{number:#x}"), "reserved, and not zero".into()),
    };
    Some(Field { name: name.into(), place: format!("{byte}.{bit}:{width}"), value, words })
}

/// `width` bits from `bit` of `byte`, little-endian; `None` when they do not all lie in `bytes`.
pub(super) fn extract(bytes: &[u8], byte: usize, bit: usize, width: usize) -> Option<u64> {
    let taken = bytes.get(byte..byte + (bit + width).div_ceil(8))?;
    let mut word = 0u128;
    for (index, &b) in taken.iter().enumerate() {
        word |= u128::from(b) << (8 * index);
    }
    Some((word >> bit & ((1u128 << width) - 1)) as u64)
}

/// Names of the set flag bits.
pub(super) fn flag_words(value: u32) -> String {
    let mut words = Vec::new();
    for bit in (0..32).filter(|bit| value >> bit & 1 == 1) {
        let name = flags::NAMES.get(bit).copied().flatten();
        words.push(name.map_or_else(|| format!("bit {bit} (reserved)"), str::to_owned));
    }
    if words.is_empty() { "none".into() } else { words.join(", ") }
}

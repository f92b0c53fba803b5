//! Entries, completion records, descriptors and SWERROR in words.
//!
//! Names are those of the kernel's uapi (idxd-facts section 1). A value without a name is shown as a number and called
//! unknown; meanings that the sheet marks as unverified are not given. Input may be any bytes of any length: a field that
//! lies beyond their end is left out. Dumps and hexadecimal text become bytes in [`text`].

mod completion;
mod descriptor;
mod entry;
mod layout;
mod software_error;
mod status;
pub mod text;

pub use completion::completion;
pub use descriptor::descriptor;
pub use entry::{entry, swerror};
pub use software_error::SoftwareError;
pub use status::{Status, operation, operation_words, status};

use std::borrow::Cow;

use dsascope_common::hw::event_log::{
    DSA_CR_OFFSET, DSA_ENTRY_BYTES, EntryHeader, HEADER_BYTES, IAX_CR_OFFSET, IAX_ENTRY_BYTES,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, IntoBytes};

use crate::event::{CopyOutcome, DeviceKind, Fault};

/// One field, decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    pub name: Cow<'static, str>,
    /// Place as `byte.bit:width`, byte 0 first, bit 0 least significant.
    pub place: String,
    pub value: String,
    /// What the value means, where that is known.
    pub words: String,
}

/// The fields of one structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Section {
    pub title: String,
    pub fields: Vec<Field>,
}

/// What happened in a sentence or two, and every field behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    pub sentence: String,
    pub sections: Vec<Section>,
}

/// A fault in words: its entry, the record as logged and, when the driver changed it, as delivered.
#[must_use]
pub fn explain(fault: &Fault) -> Explanation {
    let kind = fault.context.device.kind;
    let operation = fault.entry.operation();
    let mut sections = vec![
        Section { title: "event-log entry".into(), fields: entry(kind, fault.entry.as_bytes()) },
        Section {
            title: "completion record as logged".into(),
            fields: completion(kind, operation, fault.logged_record()),
        },
    ];
    if let Some(delivered) = fault.delivered_record().filter(|delivered| *delivered != fault.logged_record())
    {
        let title = match fault.copy {
            CopyOutcome::Short { .. } => "completion record as the driver tried to deliver it",
            _ => "completion record as delivered",
        };
        sections.push(Section { title: title.into(), fields: completion(kind, operation, delivered) });
    }
    Explanation { sentence: sentence(fault), sections }
}

/// A whole entry from memory: 64 bytes of DSA or 128 of IAA.
///
/// Returns `None` when `bytes` is not as long as an entry of `kind`; of an unknown kind the length decides.
#[must_use]
pub fn explain_entry(kind: DeviceKind, bytes: &[u8]) -> Option<Explanation> {
    let kind = match (kind, bytes.len()) {
        (DeviceKind::Dsa | DeviceKind::Unknown, DSA_ENTRY_BYTES) => DeviceKind::Dsa,
        (DeviceKind::Iax | DeviceKind::Unknown, IAX_ENTRY_BYTES) => DeviceKind::Iax,
        _ => return None,
    };
    Some(explain_partial_entry(kind, bytes))
}

/// An entry of which `bytes` are the beginning.
#[must_use]
pub fn explain_partial_entry(kind: DeviceKind, bytes: &[u8]) -> Explanation {
    let record_at = if kind == DeviceKind::Iax { IAX_CR_OFFSET } else { DSA_CR_OFFSET };
    let header = &bytes[..bytes.len().min(HEADER_BYTES)];
    let mut sections = vec![Section { title: "event-log entry".into(), fields: entry(kind, header) }];
    let record = bytes.get(record_at..).filter(|record| !record.is_empty());
    let Ok(header) = EntryHeader::read_from_bytes(header) else {
        return Explanation { sentence: "The entry is not whole.".into(), sections };
    };
    let mut sentence = entry_sentence(kind, &header);
    if let Some(record) = record {
        let logged = status(kind, record[0]);
        sentence.push_str(&format!("; the record says {}. {}", logged.label(), logged.sentence()));
        let fields = completion(kind, header.operation(), record);
        sections.push(Section { title: "completion record".into(), fields });
    } else {
        sentence.push_str("; the record is missing.");
    }
    Explanation { sentence, sections }
}

/// A completion record. `operation` is the descriptor's: a record does not tell it.
#[must_use]
pub fn explain_record(kind: DeviceKind, operation: u8, bytes: &[u8]) -> Explanation {
    let sentence = match bytes.first() {
        Some(&byte) => {
            let status = status(kind, byte);
            format!("The record says {}. {}", status.label(), status.sentence())
        }
        None => "The record is empty.".into(),
    };
    let fields = completion(kind, operation, bytes);
    Explanation { sentence, sections: vec![Section { title: "completion record".into(), fields }] }
}

/// A descriptor as it was submitted.
#[must_use]
pub fn explain_descriptor(kind: DeviceKind, bytes: &[u8]) -> Explanation {
    let u64_at = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let sentence = match (bytes.get(7), u64_at(8)) {
        (Some(&opcode), Some(record)) => {
            let what = operation_words(kind, opcode);
            let wanted = if bytes[4] & CR_ADDRESS_VALID == 0 {
                "without a completion record".into()
            } else {
                format!("with its completion record at {record:#x}")
            };
            format!("Asks for {what}, {wanted}.")
        }
        _ => "The descriptor is not whole.".into(),
    };
    let fields = descriptor(kind, bytes);
    Explanation { sentence, sections: vec![Section { title: "descriptor".into(), fields }] }
}

/// In byte 4 of a descriptor.
const CR_ADDRESS_VALID: u8 = 1 << 2;

/// Why the device wrote this entry, without an end.
fn entry_sentence(kind: DeviceKind, entry: &EntryHeader) -> String {
    let what = operation_words(kind, entry.operation());
    let error = status(kind, entry.error());
    let place = if entry.batch() {
        format!("{what} (element {} of batch {})", entry.batch_idx(), entry.batch_id())
    } else {
        what
    };
    let addr = entry.fault_addr();
    match error.code {
        0x1a => format!("The device could not write the completion record of {place} to {addr:#x}"),
        0x27 => format!(
            "An element of batch {} went to the event log, so the driver finishes the batch's completion record at {addr:#x}",
            entry.batch_id()
        ),
        0x26 => format!(
            "Earlier descriptors went to the event log, so the driver writes the drain's completion record at {addr:#x}"
        ),
        _ => format!("The device logged {} for {place}", error.label()),
    }
}

/// The fault as a person would tell it.
#[must_use]
pub fn sentence(fault: &Fault) -> String {
    let kind = fault.context.device.kind;
    let begin = entry_sentence(kind, &fault.entry);
    let end = match fault.copy {
        CopyOutcome::Delivered { .. } => {
            let record = status(kind, fault.delivered[0]);
            let patched = if fault.logged[0] == fault.delivered[0] {
                String::new()
            } else {
                format!(" (the driver changed it from {})", status(kind, fault.logged[0]).label())
            };
            format!("the driver delivered it with status {}{patched}", record.label())
        }
        CopyOutcome::Short { asked, done } => format!(
            "the driver's copy failed after {done} of {asked} bytes: the submitter never sees a status"
        ),
        CopyOutcome::NotCopied => "the driver copied nothing".into(),
        CopyOutcome::Unobserved => "what the driver did with it was not observed".into(),
    };
    format!("{begin}; {end}.")
}

#[cfg(test)]
mod tests;

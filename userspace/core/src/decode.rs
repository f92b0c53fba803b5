//! Entries, completion records, descriptors and SWERROR in words.
//!
//! Names are those of the kernel's uapi (idxd-facts section 1). A value without a name is shown as a number and called
//! unknown; meanings that the sheet marks as unverified are not given. Input may be any bytes of any length: a field that
//! lies beyond their end is left out.

mod completion;
mod descriptor;
mod entry;
mod layout;
mod status;

pub use completion::completion;
pub use descriptor::descriptor;
pub use entry::{entry, swerror};
pub use status::{Status, operation, operation_words, status};

use dsascope_common::hw::event_log::{
    DSA_CR_OFFSET, DSA_ENTRY_BYTES, HEADER_BYTES, IAX_CR_OFFSET, IAX_ENTRY_BYTES,
};
use zerocopy::IntoBytes;

use crate::event::{CopyOutcome, DeviceKind, Fault};

/// One field, decoded.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Field {
    pub name: &'static str,
    /// Place as `byte.bit:width`, byte 0 first, bit 0 least significant.
    pub place: String,
    pub value: String,
    /// What the value means, where that is known.
    pub words: String,
}

/// The fields of one structure.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Section {
    pub title: String,
    pub fields: Vec<Field>,
}

/// What happened in a sentence or two, and every field behind it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
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
    let (kind, record) = match (kind, bytes.len()) {
        (DeviceKind::Dsa | DeviceKind::Unknown, DSA_ENTRY_BYTES) => (DeviceKind::Dsa, DSA_CR_OFFSET),
        (DeviceKind::Iax | DeviceKind::Unknown, IAX_ENTRY_BYTES) => (DeviceKind::Iax, IAX_CR_OFFSET),
        _ => return None,
    };
    let error = *bytes.get(1)?;
    let operation = *bytes.get(4)?;
    Some(Explanation {
        sentence: status(kind, error).sentence(),
        sections: vec![
            Section { title: "event-log entry".into(), fields: entry(kind, &bytes[..HEADER_BYTES]) },
            Section {
                title: "completion record".into(),
                fields: completion(kind, operation, &bytes[record..]),
            },
        ],
    })
}

/// The fault as a person would tell it.
#[must_use]
pub fn sentence(fault: &Fault) -> String {
    let kind = fault.context.device.kind;
    let what = operation_words(kind, fault.entry.operation());
    let error = status(kind, fault.entry.error());
    let place = if fault.entry.batch() {
        format!("{what} (element {} of batch {})", fault.entry.batch_idx(), fault.entry.batch_id())
    } else {
        what
    };
    let addr = fault.entry.fault_addr();
    let begin = match error.code {
        0x1a => format!("The device could not write the completion record of {place} to {addr:#x}"),
        0x27 => format!(
            "An element of batch {} went to the event log, so the driver finishes the batch's completion record at {addr:#x}",
            fault.entry.batch_id()
        ),
        0x26 => format!(
            "Earlier descriptors went to the event log, so the driver writes the drain's completion record at {addr:#x}"
        ),
        _ => format!("The device logged {} for {place}", error.label()),
    };
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

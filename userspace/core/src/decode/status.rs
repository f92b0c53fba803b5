//! Status codes and operations: name and plain sentence of each (idxd-facts sections 1.7 and 1.10).

use dsascope_common::hw::completion::{STATUS_MASK, STATUS_WRITE_FAULT, status as code};
use dsascope_common::hw::descriptor::opcode;

use crate::event::DeviceKind;

/// A status or error byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Without the write bit.
    pub code: u8,
    /// Bit 7: the fault was a write.
    pub write_fault: bool,
    /// Name of the kernel's uapi without its prefix; `None` is unknown.
    pub name: Option<&'static str>,
    kind: DeviceKind,
}

/// A name that both tables share is certain even when the kind of device is not known.
fn named(
    kind: DeviceKind,
    value: u8,
    dsa: fn(u8) -> Option<&'static str>,
    iax: fn(u8) -> Option<&'static str>,
) -> Option<&'static str> {
    match kind {
        DeviceKind::Dsa => dsa(value),
        DeviceKind::Iax => iax(value),
        DeviceKind::Unknown => dsa(value).filter(|name| iax(value) == Some(name)),
    }
}

/// Reads a status byte, of a completion record or of an event-log entry.
#[must_use]
pub fn status(kind: DeviceKind, byte: u8) -> Status {
    Status {
        code: byte & STATUS_MASK,
        write_fault: byte & STATUS_WRITE_FAULT != 0,
        name: named(kind, byte & STATUS_MASK, code::dsa_name, code::iax_name),
        kind,
    }
}

/// Name of an operation; `None` is unknown.
#[must_use]
pub fn operation(kind: DeviceKind, opcode: u8) -> Option<&'static str> {
    named(kind, opcode, opcode::dsa_name, opcode::iax_name)
}

/// An operation in a sentence: "a memmove", "operation 0x7f".
#[must_use]
pub fn operation_words(kind: DeviceKind, opcode: u8) -> String {
    match operation(kind, opcode) {
        Some(name) if name.starts_with(['a', 'e', 'i', 'o', 'u']) => format!("an {name}"),
        Some(name) => format!("a {name}"),
        None => format!("operation {opcode:#04x}"),
    }
}

impl Status {
    /// Code and name: `0x1a CRA_XLAT`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{:#04x} {}", self.code, self.name.unwrap_or("(unknown)"))
    }

    /// What it says, without jargon where that is possible.
    #[must_use]
    pub fn sentence(&self) -> String {
        let plain = if self.name.is_some() { self.plain() } else { None };
        let write = if self.write_fault { " The fault was a write." } else { "" };
        format!("{}{write}", plain.unwrap_or("This code is not known."))
    }

    fn plain(&self) -> Option<&'static str> {
        let iax = self.kind == DeviceKind::Iax;
        Some(match self.code {
            code::NONE => "Not finished: no status has been written.",
            code::SUCCESS => "Done.",
            code::SUCCESS_PRED => "Done; the condition that was asked for is false.",
            code::PAGE_FAULT_NOBOF => {
                "Stopped part way at a page that is not there, since blocking on faults is off; the rest can be submitted again."
            }
            code::PAGE_FAULT_IR => {
                "Stopped part way: the page was asked for and the system answered that the address is not valid."
            }
            code::BATCH_FAIL => "At least one descriptor of the batch did not succeed.",
            code::BATCH_PAGE_FAULT => {
                "The list of the batch's descriptors could not be read further: a page of it is not there."
            }
            code::DR_OFFSET_NOINC => "The offsets of the delta record do not rise.",
            code::DR_OFFSET_ERANGE => "An offset of the delta record is out of range.",
            code::DIF_ERR => "The data-integrity field does not match.",
            code::IAX_ANALYTICS_ERROR => "The operation failed on its data; the error code says how.",
            code::IAX_OUTBUF_OVERFLOW => "The output did not fit its buffer.",
            code::BAD_OPCODE => "The operation is not supported, or not allowed on this queue.",
            code::INVALID_FLAGS => {
                "Flags are not allowed for this operation; the invalid-flags field names them."
            }
            code::NOZERO_RESERVE => "A reserved field is not zero.",
            code::XFER_ERANGE => "The size is out of range.",
            code::DESC_CNT_ERANGE => "The batch has too few or too many descriptors.",
            code::DR_ERANGE => "The size of the delta record is out of range.",
            code::OVERLAP_BUFFERS => "Buffers overlap where they must not.",
            code::DCAST_ERR => "The two destinations of the dualcast are not aligned alike.",
            code::DESCLIST_ALIGN => "The list of the batch's descriptors is not aligned to 64 bytes.",
            code::INT_HANDLE_INVAL => "The interrupt handle is not valid.",
            code::CRA_XLAT => {
                "The address of the completion record could not be translated: its page faulted."
            }
            code::CRA_ALIGN => "The address of the completion record is not aligned.",
            code::ADDR_ALIGN => "An address is not aligned as the operation needs.",
            code::PRIV_BAD => "The privilege of the descriptor does not fit the queue.",
            code::TRAFFIC_CLASS_CONF => "The traffic-class settings do not fit.",
            code::PFAULT_RDBA => "The readback address faulted.",
            code::HW_ERR1 => "Hardware error.",
            code::HW_ERR_DRB => "Hardware error at the readback.",
            code::TRANSLATION_FAIL => "An address could not be translated.",
            code::IAX_PRS_TIMEOUT => "A page request was not answered in time.",
            code::IAX_WATCHDOG => "The operation ran too long and was stopped.",
            code::DRAIN_EVL => {
                "Earlier descriptors went to the event log: the driver must write the drain's completion record after theirs."
            }
            code::BATCH_EVL_ERR => {
                "A descriptor of the batch went to the event log: the driver must finish and write the batch's completion record."
            }
            0x30 if iax => "The compression flags are not valid.",
            0x31 if iax => "The filter flags are not valid.",
            0x32 if iax => "The input size is not valid.",
            0x33 if iax => "The number of elements is not valid.",
            0x34 if iax => "The width of the source's elements is not valid.",
            0x35 if iax => "Inverting the output is not valid here.",
            _ => return None,
        })
    }
}

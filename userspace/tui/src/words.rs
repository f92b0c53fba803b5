//! A fault in few words, for tables and lines.

use dsascope_common::hw::completion::status;
use dsascope_core::decode;
use dsascope_core::event::{CopyOutcome, Fault};

/// The operation's name, or its code.
pub fn operation(fault: &Fault) -> String {
    let code = fault.entry.operation();
    let name = decode::operation(fault.context.device.kind, code);
    name.map_or_else(|| format!("op {code:#04x}"), String::from)
}

/// What became of the completion record, in a word.
pub fn outcome(fault: &Fault) -> &'static str {
    if fault.marks.end_missing {
        return "unfinished";
    }
    match fault.copy {
        CopyOutcome::Delivered { .. } => "delivered",
        CopyOutcome::Short { .. } => "FAILED",
        CopyOutcome::NotCopied => "not copied",
        CopyOutcome::Unobserved => "not seen",
    }
}

/// What happened: why the device logged an entry, and what the submitter sees of it.
pub fn happened(fault: &Fault) -> String {
    let kind = fault.context.device.kind;
    let reason = match fault.error() {
        status::CRA_XLAT => "CR page fault".into(),
        status::BATCH_EVL_ERR => "batch CR after CR faults".into(),
        status::DRAIN_EVL => "drain CR after CR faults".into(),
        code => decode::status(kind, code).label(),
    };
    let seen = match fault.copy {
        CopyOutcome::Delivered { .. } => {
            let status = decode::status(kind, fault.delivered[0]);
            let name = status.name.map_or_else(|| format!("{:#04x}", status.code), String::from);
            let patched = if fault.delivered[0] == fault.logged[0] { "" } else { " (driver's)" };
            format!("; reads {name}{patched}")
        }
        CopyOutcome::Short { .. } => "; waits for ever".into(),
        CopyOutcome::NotCopied | CopyOutcome::Unobserved => String::new(),
    };
    format!("{reason}{seen}")
}

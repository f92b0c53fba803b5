//! A fault, a batch or something that the driver did in few words, for tables and lines.

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::opcode;
use dsascope_core::decode;
use dsascope_core::decode::SoftwareError;
use dsascope_core::event::{
    Command, CopyOutcome, DeviceKind, DriverEvent, Fault, Happening, How, Interrupt, Origin, WqConfig,
};
use dsascope_core::model::Batch;
use dsascope_core::model::batch::{MovedKind, Patch};
use dsascope_core::model::batches::strip;

use crate::Theme;
use crate::format::optional_duration;

/// The operation's name, or its code.
pub fn operation(fault: &Fault) -> String {
    let code = fault.entry.operation();
    let name = decode::operation(fault.context.device.kind, code);
    name.map_or_else(|| format!("op {code:#04x}"), String::from)
}

/// Who submitted, what, and how: `memmove of 4096 bytes by thread 4243 (load), MOVDIR64B, element 3 of a list`.
pub fn origin(fault: &Fault, origin: &Origin) -> String {
    let name = decode::operation(fault.context.device.kind, origin.operation);
    let mut text = name.map_or_else(|| format!("op {:#04x}", origin.operation), String::from);
    match origin.bytes {
        Some(count) if origin.operation == opcode::BATCH => {
            text.push_str(&format!(" of {count} descriptors"));
        }
        Some(bytes) => text.push_str(&format!(" of {bytes} bytes")),
        None => {}
    }
    text.push_str(&format!(" by thread {} ({}), {}", origin.tid, origin.comm, way(origin.how)));
    if let Some(element) = origin.element {
        text.push_str(&format!(", element {} of a list", element.index));
    }
    text
}

/// How a descriptor got to its WQ.
pub const fn way(how: How) -> &'static str {
    match how {
        How::Movdir64b => "MOVDIR64B",
        How::Enqcmd => "ENQCMD",
        How::Enqcmds => "ENQCMDS",
        How::Stores => "plain stores",
        How::Write => "write(2)",
    }
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

/// A batch's elements, one mark each in the order of their index: `.` delivered, `X` failed, `?` not observed.
pub fn elements(batch: &Batch) -> String {
    let marks = strip(&batch.elements, ['.', 'X', '?']);
    match batch.element_count() as usize - batch.elements.len() {
        0 if marks.is_empty() => "-".into(),
        0 => marks,
        more => format!("{marks}+{more}"),
    }
}

/// What became of the batch's own completion record.
pub fn batch_record(batch: &Batch) -> String {
    let Some(record) = &batch.record else { return "record not seen".into() };
    let status = record.status.unwrap_or(record.logged_status);
    let status = decode::status(DeviceKind::Dsa, status);
    let name = status.name.map_or_else(|| format!("{:#04x}", status.code), String::from);
    let patched = if record.patch == Patch::Applied { " (driver's)" } else { "" };
    match record.copy {
        CopyOutcome::Delivered { .. } => {
            format!("reads {name}{patched} after {} descriptors", record.descriptors_completed)
        }
        CopyOutcome::Short { .. } => format!("{name}{patched} not delivered; waits for ever"),
        CopyOutcome::NotCopied => format!("{name}, not asked for"),
        CopyOutcome::Unobserved => format!("{name} logged, copy not seen"),
    }
}

/// A failure in the wrong place, with what matters first.
pub fn moved(finding: MovedKind) -> &'static str {
    match finding {
        MovedKind::PatchedWithoutFailure => "MOVED here: told as failed for another batch's element",
        MovedKind::FailureNotPatched => "MOVED away: an element failed and the batch is not told so",
    }
}

/// Elements and record.
pub fn batch(batch: &Batch) -> String {
    format!("elements {}; {}", elements(batch), batch_record(batch))
}

/// What the driver did to a device, or said of it. `before`: what a WQ that was enabled had been configured with.
pub fn driver(theme: &Theme, event: &DriverEvent, before: Option<&WqConfig>) -> String {
    let device = event.device;
    match &event.what {
        Happening::Command(command) => {
            let took = optional_duration(theme, event.duration_ns());
            let by = format!("by {} {}", event.comm, event.tgid);
            format!("{device} {} in {took} {by}{}", command_words(event, command), enabled(command, before))
        }
        Happening::Halt { answer } => format!("{device} HALTED: {}", answer.words()),
        Happening::Reset { state, .. } => {
            let took = optional_duration(theme, event.duration_ns());
            let state = state.map_or("in an unknown state", |state| state.name());
            format!("{device} function-level reset in {took}: {state}")
        }
        Happening::Warning { text } => format!("{device} driver warns: {text}"),
    }
}

fn command_words(event: &DriverEvent, command: &Command) -> String {
    let code = command.command_code;
    let mut words = command.name().map_or_else(|| format!("command {code:#04x}"), String::from);
    let object = command.object(event.device);
    if !object.is_empty() {
        words += &format!(" {object}");
    }
    let status = command.status_code;
    match command.status() {
        _ if command.succeeded() => words,
        Some(status_words) => format!("{words} FAILED {status:#04x} ({status_words})"),
        None => format!("{words} FAILED {status:#04x}"),
    }
}

fn enabled(command: &Command, before: Option<&WqConfig>) -> String {
    let Some(config) = &command.enabled else { return String::new() };
    let changed = before.map_or_else(String::new, |before| config.changes(before));
    let changed = if changed.is_empty() { changed } else { format!("; WAS {changed}") };
    format!(": {}{changed}", config.words())
}

/// What a run of the interrupt thread tells besides faults; `None`: nothing.
pub fn interrupt(interrupt: &Interrupt) -> Option<String> {
    let device = interrupt.device;
    Some(match SoftwareError::new(device, &interrupt.swerror?) {
        Some(error) => format!("{device} SWERROR {}", error.words(device)),
        None => format!("{device} SWERROR cleared"),
    })
}

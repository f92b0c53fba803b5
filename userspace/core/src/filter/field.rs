//! The catalogue of fields: what a fault can be asked for, of which type, and what it means. Errors, completion and docs/filter.md are made
//! from it; names are those of the exports' columns, or shorter with the column's name as second one.
//!
//! Owns: names, types, meanings, and how a value is had from a fault. What was not observed is `None`.

use dsascope_common::hw::event_log::EntryHeader;

use super::constant::Vocabulary;
use crate::event::{Context, DeviceId, DeviceKind, Fault, WqId};
use crate::model::{Model, Process};
use crate::stages::Stage;

/// What a field holds, and so what it can be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Bytes,
    /// A number that is written in hexadecimal.
    Address,
    /// Nanoseconds.
    Duration,
    /// Nanoseconds of CLOCK_MONOTONIC.
    Time,
    Bool,
    Constant(Vocabulary),
}

impl Kind {
    /// As documents name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Bytes => "bytes",
            Self::Address => "address",
            Self::Duration => "duration",
            Self::Time => "time, CLOCK_MONOTONIC",
            Self::Bool => "true or false",
            Self::Constant(vocabulary) => vocabulary.name(),
        }
    }

    /// What a field of this kind is, as a sentence says it.
    pub(super) const fn noun(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "a number",
            Self::Bytes => "a number of bytes",
            Self::Address => "an address",
            Self::Duration => "a duration",
            Self::Time => "a time",
            Self::Bool => "true or false",
            Self::Constant(Vocabulary::Status) => "a status",
            Self::Constant(Vocabulary::Error) => "an error",
            Self::Constant(Vocabulary::Operation) => "an operation",
            Self::Constant(Vocabulary::Outcome) => "an outcome",
        }
    }

    /// What an error says was expected.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Text => "text in quotes, such as \"redis\"",
            Self::Number => "a number",
            Self::Bytes => "a number of bytes, such as 32 or 4KiB",
            Self::Address => "an address, such as 0x7f0000001000",
            Self::Duration => "a time, such as 50us",
            Self::Time => "a time since boot, such as 3600s",
            Self::Bool => "true or false",
            Self::Constant(vocabulary) => vocabulary.expected(),
        }
    }

    /// Whether < and > mean something.
    #[must_use]
    pub const fn is_ordered(self) -> bool {
        matches!(self, Self::Number | Self::Bytes | Self::Address | Self::Duration | Self::Time)
    }

    /// Whether ~ means something.
    #[must_use]
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text | Self::Constant(_))
    }
}

/// What the catalogue says of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: &'static str,
    /// Its name in the exports' table.
    pub column: &'static str,
    pub kind: Kind,
    pub meaning: &'static str,
}

macro_rules! fields {
    ($($id:ident $name:literal $column:literal $kind:expr, $meaning:literal;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Field {
            $($id,)*
        }

        impl Field {
            pub const ALL: &[Self] = &[$(Self::$id,)*];

            #[must_use]
            pub const fn entry(self) -> &'static Entry {
                match self {
                    $(Self::$id => const { &Entry { name: $name, column: $column, kind: $kind, meaning: $meaning } },)*
                }
            }
        }
    };
}

fields! {
    Process "process" "comm" Kind::Text, "Command of the process whose fault it is.";
    Pid "pid" "pid" Kind::Number, "Its number; not known when nobody was seen to open the WQ with this PASID.";
    Cgroup "cgroup" "cgroup" Kind::Number, "Identifier of its cgroup.";
    CgroupPath "cgroup_path" "cgroup_path" Kind::Text, "Path of its cgroup below the root.";
    Pasid "pasid" "pasid" Kind::Number, "Process address space identifier.";
    OpenedAt "opened_at" "opened_at_ns" Kind::Time, "When the file on the WQ was opened; not known when it was open before tracing began.";
    Host "host" "host" Kind::Text, "Host name.";
    Device "device" "device" Kind::Text, "dsaN or iaxN.";
    Wq "wq" "wq" Kind::Text, "Work queue, wqN.M.";

    Operation "operation" "operation" Kind::Constant(Vocabulary::Operation), "Operation of the descriptor.";
    OperationCode "operation_code" "operation_code" Kind::Number, "Its code.";
    Error "error" "error" Kind::Constant(Vocabulary::Error), "Error of the event-log entry.";
    ErrorCode "error_code" "error_code" Kind::Number, "Its code, 0x1a, 0x26 or 0x27.";
    Status "status" "status" Kind::Constant(Vocabulary::Status), "Status of the completion record as the device logged it.";
    StatusCode "status_code" "status_code" Kind::Number, "Its byte, with bit 7 set when the fault was a write.";
    DeliveredStatus "delivered_status" "delivered_status" Kind::Constant(Vocabulary::Status), "Status of the completion record as the driver copied it, or tried to.";
    DeliveredStatusCode "delivered_status_code" "delivered_status_code" Kind::Number, "Its byte.";
    WriteFault "write_fault" "write_fault" Kind::Bool, "The device faulted on a write.";
    Outcome "outcome" "outcome" Kind::Constant(Vocabulary::Outcome), "What became of the completion record.";
    CopyAsked "copy_asked" "copy_asked_bytes" Kind::Bytes, "Bytes that the driver was to copy.";
    CopyDone "copy_done" "copy_done_bytes" Kind::Bytes, "Bytes that it copied.";

    RecordAddress "record_address" "record_address" Kind::Address, "Address of the completion record in the process, from the entry.";
    PageAddress "page_address" "page_address" Kind::Address, "Its page of 4 KiB.";
    CopyAddress "copy_address" "copy_address" Kind::Address, "Address that the driver copied to.";

    Batch "batch" "batch_id" Kind::Number, "Batch identifier; the device uses it again.";
    BatchIndex "batch_index" "batch_index" Kind::Number, "Place of the descriptor in its batch; not known of the batch's own record.";
    BatchFirstError "batch_first_error" "batch_first_error" Kind::Bool, "The device marked it as the first error of its batch.";

    Cpu "cpu" "cpu" Kind::Number, "CPU that served the fault.";
    QueueCpu "queue_cpu" "queue_cpu" Kind::Number, "CPU of the interrupt thread that queued it.";
    Worker "worker" "worker" Kind::Number, "Thread id of the kernel worker that served it.";

    Interrupt "interrupt" "interrupt_ns" Kind::Duration, "Interrupt thread's start to the hand-over of the entry.";
    Queue "queue" "queue_ns" Kind::Duration, "Hand-over to the start of the service.";
    Prepare "prepare" "prepare_ns" Kind::Duration, "Start of the service to the copy.";
    Copy "copy" "copy_ns" Kind::Duration, "The copy, with the page fault it takes.";
    Finish "finish" "finish_ns" Kind::Duration, "End of the copy to the end of the service.";
    Service "service" "service_ns" Kind::Duration, "Start to end of the service.";
    Driver "driver" "driver_ns" Kind::Duration, "All that the driver adds, interrupt thread (or hand-over) to the end of the copy.";

    DeviceSpan "device_ns" "device_ns" Kind::Duration, "Submission to the interrupt thread's start, or the hand-over: the device's part.";
    Notice "notice" "notice_ns" Kind::Duration, "End of the copy to the moment that the program sees the record.";
    Total "total" "total_ns" Kind::Duration, "Submission to the moment that the program sees the record: what a user feels.";

    At "at" "at_ns" Kind::Time, "When the record was sent, after the end of the service.";
    InterruptAt "interrupt_at" "interrupt_at_ns" Kind::Time, "Start of the interrupt thread's run.";
    QueuedAt "queued_at" "queued_at_ns" Kind::Time, "Hand-over of the entry.";
    StartedAt "started_at" "started_at_ns" Kind::Time, "Start of the service.";
    CopyStartAt "copy_start_at" "copy_start_at_ns" Kind::Time, "Start of the copy.";
    CopyEndAt "copy_end_at" "copy_end_at_ns" Kind::Time, "End of the copy.";
    DoneAt "done_at" "done_at_ns" Kind::Time, "End of the service.";

    SubmittedAt "submitted_at" "submitted_at_ns" Kind::Time, "When the submitting instruction was reached; known, as what follows, only when the submission was traced.";
    SeenAt "seen_at" "seen_at_ns" Kind::Time, "When the program saw the record; not known when it had not by the end of the service, or does not tell.";
    SubmitTid "submit_tid" "submit_tid" Kind::Number, "Thread that submitted.";
    SubmitComm "submit_comm" "submit_comm" Kind::Text, "Its command.";
    SubmitHow "submit_how" "submit_how" Kind::Text, "How: movdir64b, enqcmd, enqcmds, stores, write.";
    SubmitOperation "submit_operation" "submit_operation" Kind::Constant(Vocabulary::Operation), "Operation of the submitted descriptor.";
    SubmitOperationCode "submit_operation_code" "submit_operation_code" Kind::Number, "Its code.";
    SubmitBytes "submit_bytes" "submit_bytes" Kind::Bytes, "Its transfer size; of a batch, its descriptors.";
    SubmitInstruction "submit_instruction" "submit_instruction" Kind::Address, "User address of the submitting instruction.";
    SubmitStack "submit_stack" "submit_stack" Kind::Number, "Identifier of the user stack it was submitted from.";
    ListAddress "list_address" "list_address" Kind::Address, "User address of the list of its batch.";
    ListIndex "list_index" "list_index" Kind::Number, "Place in that list.";

    CountedFaults "counted_faults" "counted_faults" Kind::Number, "Calls of the driver's counter function for faults during this service.";
    CountedFailures "counted_failures" "counted_failures" Kind::Number, "The same for failures.";

    EndMissing "end_missing" "marks" Kind::Bool, "The end of the service was never seen.";
    QueueMissing "queue_missing" "marks" Kind::Bool, "The hand-over from the interrupt thread was not seen.";
    CopyUnobserved "copy_unobserved" "marks" Kind::Bool, "The copy cannot be seen with the attached probes.";
    ReadFailed "read_failed" "marks" Kind::Bool, "Some kernel memory could not be read; what lies there is not known.";
    OutcomeInferred "outcome_inferred" "marks" Kind::Bool, "The end of the copy was not seen; its outcome is what the driver's failure counter says.";
}

impl Field {
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    #[must_use]
    pub const fn kind(self) -> Kind {
        self.entry().kind
    }

    /// By its name, or that of its column.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        let all = || Self::ALL.iter().copied();
        all().find(|field| field.name() == word).or_else(|| {
            // A column that several fields are made of is none of them.
            all().find(|field| field.entry().column == word && field.kind() != Kind::Bool)
        })
    }

    /// The same for every fault of an open file.
    #[must_use]
    pub const fn is_of_file(self) -> bool {
        matches!(
            self,
            Self::Process
                | Self::Pid
                | Self::Cgroup
                | Self::CgroupPath
                | Self::Pasid
                | Self::OpenedAt
                | Self::Host
                | Self::Device
                | Self::Wq
        )
    }
}

/// A value of a fault, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Text(&'a str),
    Number(u64),
    Bool(bool),
    /// Of a device of this kind.
    Code(DeviceKind, u8),
}

/// Room for the name of a device or a WQ, so that none is allocated.
#[derive(Debug, Default)]
pub(super) struct Short {
    bytes: [u8; 16],
    used: usize,
}

impl Short {
    /// As [`DeviceId`] is displayed.
    fn device(&mut self, device: DeviceId) -> &str {
        self.put(device.kind.prefix().as_bytes()).number(device.id).text()
    }

    /// As [`WqId`] is displayed.
    fn wq(&mut self, wq: WqId) -> &str {
        self.put(b"wq").number(wq.device).put(b".").number(wq.wq).text()
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        if let Some(room) = self.bytes.get_mut(self.used..self.used + bytes.len()) {
            room.copy_from_slice(bytes);
            self.used += bytes.len();
        }
        self
    }

    fn number(&mut self, number: u16) -> &mut Self {
        let mut digits = [0; 5];
        let mut rest = number;
        let mut first = digits.len();
        while rest > 0 || first == digits.len() {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        self.put(&digits[first..])
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.used]).unwrap_or_default()
    }
}

/// What a filter looks at: a fault, or an open file of which no fault is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub context: &'a Context,
    pub fault: Option<&'a Fault>,
    pub model: &'a Model,
}

impl<'a> Facts<'a> {
    fn process(&self) -> Option<&'a Process> {
        self.model.process(self.context.key())
    }

    /// `None`: only a fault has it.
    pub(super) fn get<'b>(&self, field: Field, short: &'b mut Short) -> Option<Option<Value<'b>>>
    where
        'a: 'b,
    {
        if field.is_of_file() {
            Some(self.of_file(field, short))
        } else {
            self.fault.map(|fault| of_fault(field, fault))
        }
    }

    fn of_file<'b>(&self, field: Field, short: &'b mut Short) -> Option<Value<'b>>
    where
        'a: 'b,
    {
        let filled = |text: &'a str| Some(Value::Text(text)).filter(|_| !text.is_empty());
        match field {
            Field::Process => filled(self.process()?.comm.as_ref()?.text()),
            Field::Pid => {
                let pid = self.fault.and_then(|fault| fault.tgid).or_else(|| self.process()?.tgid);
                pid.map(|pid| Value::Number(pid.into()))
            }
            Field::Cgroup => self.process()?.cgroup.map(Value::Number),
            Field::CgroupPath => filled(self.process()?.cgroup_path.as_deref()?),
            Field::Pasid => Some(Value::Number(self.context.pasid.into())),
            Field::OpenedAt => self.context.opened_ns.map(|ns| Value::Number(ns.get())),
            Field::Host => filled(&self.model.session()?.host),
            Field::Device => Some(Value::Text(short.device(self.context.device))),
            Field::Wq => Some(Value::Text(short.wq(self.context.wq_id()))),
            _ => None,
        }
    }
}

fn of_fault(field: Field, fault: &Fault) -> Option<Value<'_>> {
    let kind = fault.context.device.kind;
    let number = |number: Option<u64>| number.map(Value::Number);
    let nonzero = |number: Option<std::num::NonZeroU64>| number.map(|number| Value::Number(number.get()));
    let span = |stage: Stage| number(fault.durations().get(stage));
    let (entry, of_batch, element) = (fault.entry_seen(), fault.batch_entry(), fault.element_entry());
    let times = &fault.times;
    let origin = fault.origin.as_ref();
    let element_of = origin.and_then(|origin| origin.element);
    match field {
        Field::Operation => entry.map(|entry| Value::Code(kind, entry.operation())),
        Field::OperationCode => number(entry.map(|entry| entry.operation().into())),
        Field::Error => entry.map(|_| Value::Code(kind, fault.error())),
        Field::ErrorCode => number(entry.map(|_| fault.error().into())),
        Field::Status => fault.logged_status().map(|status| Value::Code(kind, status)),
        Field::StatusCode => number(fault.logged_status().map(u64::from)),
        Field::DeliveredStatus => fault.delivered_status().map(|status| Value::Code(kind, status)),
        Field::DeliveredStatusCode => number(fault.delivered_status().map(u64::from)),
        Field::WriteFault => entry.map(|entry| Value::Bool(entry.fault_rw())),
        Field::Outcome => Some(Value::Code(kind, super::constant::outcome(&fault.copy))),
        Field::CopyAsked => number(fault.copy.asked().map(u64::from)),
        Field::CopyDone => number(fault.copy.done().map(u64::from)),
        Field::RecordAddress => number(entry.map(EntryHeader::fault_addr)),
        Field::PageAddress => number(fault.page_address()),
        Field::CopyAddress => number(fault.copy_addr),
        Field::Batch => number(of_batch.map(|entry| entry.batch_id().into())),
        Field::BatchIndex => number(element.map(|entry| entry.batch_idx().into())),
        Field::BatchFirstError => element.map(|entry| Value::Bool(entry.first_err_in_batch())),
        Field::Cpu => number(Some(fault.cpu.into())),
        Field::QueueCpu => number(fault.queue_cpu.map(u64::from)),
        Field::Worker => number(Some(fault.worker.into())),
        Field::Interrupt => span(Stage::Interrupt),
        Field::Queue => span(Stage::Queue),
        Field::Prepare => span(Stage::Prepare),
        Field::Copy => span(Stage::Copy),
        Field::Finish => span(Stage::Finish),
        Field::Service => span(Stage::Service),
        Field::Driver => span(Stage::Driver),
        Field::DeviceSpan => span(Stage::Device),
        Field::Notice => span(Stage::Notice),
        Field::Total => span(Stage::Total),
        Field::At => number(Some(fault.at_ns)),
        Field::InterruptAt => nonzero(times.interrupt_ns),
        Field::QueuedAt => nonzero(times.queued_ns),
        Field::StartedAt => nonzero(times.started_ns),
        Field::CopyStartAt => nonzero(times.copy_start_ns),
        Field::CopyEndAt => nonzero(times.copy_end_ns),
        Field::DoneAt => nonzero(times.done_ns),
        Field::SubmittedAt => number(origin.map(|origin| origin.submitted_ns)),
        Field::SeenAt => nonzero(origin.and_then(|origin| origin.seen_ns)),
        Field::SubmitTid => number(origin.map(|origin| origin.tid.into())),
        Field::SubmitComm => origin.map(|origin| Value::Text(origin.comm.text())),
        Field::SubmitHow => origin.map(|origin| Value::Text(origin.how.name())),
        Field::SubmitOperation => origin.map(|origin| Value::Code(kind, origin.operation)),
        Field::SubmitOperationCode => number(origin.map(|origin| origin.operation.into())),
        Field::SubmitBytes => number(origin.and_then(|origin| origin.bytes).map(u64::from)),
        Field::SubmitInstruction => nonzero(origin.and_then(|origin| origin.instruction)),
        Field::SubmitStack => number(origin.and_then(|origin| origin.stack).map(u64::from)),
        Field::ListAddress => number(element_of.map(|element| element.list)),
        Field::ListIndex => number(element_of.map(|element| element.index.into())),
        Field::CountedFaults => number(Some(fault.counted_faults.into())),
        Field::CountedFailures => number(Some(fault.counted_failures.into())),
        Field::EndMissing => Some(Value::Bool(fault.marks.end_missing)),
        Field::QueueMissing => Some(Value::Bool(fault.marks.queue_missing)),
        Field::CopyUnobserved => Some(Value::Bool(fault.marks.copy_unobserved)),
        Field::ReadFailed => Some(Value::Bool(fault.marks.read_failed)),
        Field::OutcomeInferred => Some(Value::Bool(fault.marks.outcome_inferred)),
        Field::Process
        | Field::Pid
        | Field::Cgroup
        | Field::CgroupPath
        | Field::Pasid
        | Field::OpenedAt
        | Field::Host
        | Field::Device
        | Field::Wq => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_those_that_are_displayed() {
        for kind in [DeviceKind::Dsa, DeviceKind::Iax, DeviceKind::Unknown] {
            for id in [0, 9, 10, 4096, u16::MAX] {
                let device = DeviceId::new(kind, id);
                assert_eq!(Short::default().device(device), device.to_string());
                let wq = WqId { device: u16::MAX, wq: id };
                assert_eq!(Short::default().wq(wq), wq.to_string());
            }
        }
    }
}

//! The table of one row a fault, defined once: CSV, JSON and Parquet write these columns under these names.
//!
//! Owns: names, types, which may be null, and what is said of each; docs/exports.md and the JSON Schema are made from it. Rows that are
//! no faults keep losses in the same table. Refuses: how a format writes them.

mod make;
mod value;

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

pub use make::Rows;
pub use value::{Ascii, Cell, Column, Date, Kind, Time, Value, Word};

/// Version of the table; within one, columns are only added.
pub const VERSION: u32 = 1;

/// What a row is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// One completion-record fault.
    #[default]
    Fault,
    /// `count` things that happened here and cannot be shown; `name` says what.
    Hole,
    /// A program saw a record after its fault was told of: `notice_ns` and `total_ns` are known here, not in the row of the fault.
    Seen,
    /// The functions of a user stack, in `name`, the submitting instruction's first, separated by `;`. It is that of `submit_stack` and
    /// `pid`, and comes after the first fault that has it.
    Stack,
    /// What was mapped at `page_address` of `pid`, in `name`; after the first fault there.
    Place,
    /// At the end, for each open file of which the ring lost fault records: `count` of them.
    Lost,
    /// At the end, the loss ledger: one row for each kind of record in `name`, and with `count` one for each kind of thing that the
    /// probes could not follow, and one for `left_out`, faults that a filter left out.
    Ledger,
    /// The last row. `name` is the ledger's balance, `count` all records lost. A file without it was cut off.
    End,
}

impl RowKind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Hole => "hole",
            Self::Seen => "seen",
            Self::Stack => "stack",
            Self::Place => "place",
            Self::Lost => "lost",
            Self::Ledger => "ledger",
            Self::End => "end",
        }
    }
}

/// What became of the completion record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Copied whole; the submitter sees it.
    Delivered,
    /// The copy failed: the submitter waits for ever.
    Failed,
    /// The driver did not copy.
    NotCopied,
    /// The attached probes do not see the copy.
    Unobserved,
}

impl Outcome {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::NotCopied => "not_copied",
            Self::Unobserved => "unobserved",
        }
    }
}

impl Value for RowKind {
    const KIND: Kind = Kind::Text;
    fn cell(&self) -> Cell<'_> {
        Cell::Text(self.name())
    }
}

impl Value for Outcome {
    const KIND: Kind = Kind::Text;
    fn cell(&self) -> Cell<'_> {
        Cell::Text(self.name())
    }
}

/// Defines the row and, from the same lines, its columns.
macro_rules! table {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty,)+) => {
        /// One row of an export's table. Null is "not observed" or "not of this kind of row", never 0.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
        pub struct Row<'a> {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl<'a> Row<'a> {
            pub const COLUMNS: &'static [Column] = &[$(Column {
                name: stringify!($name),
                kind: <$type as Value>::KIND,
                nullable: <$type as Value>::NULLABLE,
                doc: concat!($($doc),+).trim_ascii(),
            }),+];

            /// The cells, in the order of [`Self::COLUMNS`].
            ///
            /// # Errors
            /// The first of `take`.
            pub fn cells<E>(&self, mut take: impl FnMut(Cell<'_>) -> Result<(), E>) -> Result<(), E> {
                $(take(self.$name.cell())?;)+
                Ok(())
            }
        }
    };
}

table! {
    /// What the row is about: `fault`, `hole`, `seen`, `stack`, `place`, `lost`, `ledger`, `end`.
    kind: RowKind,
    /// When the record was sent, after the end of the service.
    time: Option<Time>,
    /// Day of `time`.
    date: Option<Date>,
    /// The same on CLOCK_MONOTONIC.
    at_ns: u64,
    /// Host name.
    host: &'a str,
    /// `dsaN` or `iaxN`.
    device: Option<&'a str>,
    /// Work queue, `wqN.M`.
    wq: Option<&'a str>,
    /// Process whose fault it is; null when nobody was seen to open the WQ with this PASID.
    pid: Option<u32>,
    /// Its command.
    comm: Option<&'a str>,
    /// Identifier of its cgroup.
    cgroup: Option<Word>,
    /// Path of its cgroup below the root.
    cgroup_path: Option<&'a str>,
    /// Process address space identifier.
    pasid: Option<u32>,
    /// When the file on the WQ was opened; null when it was open before tracing began.
    opened_at_ns: Option<u64>,
    /// Operation of the descriptor; null when its code has no name.
    operation: Option<&'a str>,
    /// Its code.
    operation_code: Option<u8>,
    /// Error of the event-log entry.
    error: Option<&'a str>,
    /// Its code: 0x1a, 0x26 or 0x27.
    error_code: Option<u8>,
    /// Status of the completion record as the device logged it.
    status: Option<&'a str>,
    /// Its byte, with bit 7 set when the fault was a write.
    status_code: Option<u8>,
    /// Status of the completion record as the driver copied it, or tried to.
    delivered_status: Option<&'a str>,
    /// Its byte.
    delivered_status_code: Option<u8>,
    /// The device faulted on a write.
    write_fault: Option<bool>,
    /// What became of the completion record: `delivered`, `failed` (the submitter waits for ever), `not_copied`, `unobserved`.
    outcome: Option<Outcome>,
    /// Bytes that the driver was to copy.
    copy_asked_bytes: Option<u32>,
    /// Bytes that it copied.
    copy_done_bytes: Option<u32>,
    /// Address of the completion record in the process, from the entry.
    record_address: Option<Word>,
    /// Its page of 4 KiB.
    page_address: Option<Word>,
    /// Address that the driver copied to.
    copy_address: Option<Word>,
    /// Batch identifier; the device uses it again.
    batch_id: Option<u8>,
    /// Place of the descriptor in its batch; null for the batch's own record.
    batch_index: Option<u16>,
    /// The device marked it as the first error of its batch.
    batch_first_error: Option<bool>,
    /// CPU that served the fault; of a hole, the CPU whose records were lost.
    cpu: Option<u16>,
    /// CPU of the interrupt thread that queued it.
    queue_cpu: Option<u16>,
    /// Thread id of the kernel worker that served it.
    worker: Option<u32>,
    /// Start of the interrupt thread's run, CLOCK_MONOTONIC.
    interrupt_at_ns: Option<u64>,
    /// Hand-over of the entry, CLOCK_MONOTONIC.
    queued_at_ns: Option<u64>,
    /// Start of the service, CLOCK_MONOTONIC.
    started_at_ns: Option<u64>,
    /// Start of the copy, CLOCK_MONOTONIC.
    copy_start_at_ns: Option<u64>,
    /// End of the copy, CLOCK_MONOTONIC.
    copy_end_at_ns: Option<u64>,
    /// End of the service, CLOCK_MONOTONIC.
    done_at_ns: Option<u64>,
    /// Duration: interrupt thread's start to the hand-over.
    interrupt_ns: Option<u64>,
    /// Duration: hand-over to the start of the service.
    queue_ns: Option<u64>,
    /// Duration: start of the service to the copy.
    prepare_ns: Option<u64>,
    /// Duration: the copy, with the page fault it takes.
    copy_ns: Option<u64>,
    /// Duration: end of the copy to the end of the service.
    finish_ns: Option<u64>,
    /// Duration: start to end of the service.
    service_ns: Option<u64>,
    /// Duration: all that the driver adds, interrupt thread (or hand-over) to the end of the copy.
    driver_ns: Option<u64>,
    /// When the submitting instruction was reached, CLOCK_MONOTONIC; this and what follows is null when the submission was not traced.
    submitted_at_ns: Option<u64>,
    /// When the program saw the record, CLOCK_MONOTONIC; null also when it had not by the end of the service, or does not tell.
    seen_at_ns: Option<u64>,
    /// Thread that submitted.
    submit_tid: Option<u32>,
    /// Its command.
    submit_comm: Option<&'a str>,
    /// How: `movdir64b`, `enqcmd`, `enqcmds`, `stores`, `write`.
    submit_how: Option<&'a str>,
    /// Operation of the submitted descriptor; null when its code has no name.
    submit_operation: Option<&'a str>,
    /// Its code.
    submit_operation_code: Option<u8>,
    /// Its transfer size; of a batch, its descriptors.
    submit_bytes: Option<u32>,
    /// User address of the submitting instruction.
    submit_instruction: Option<Word>,
    /// Identifier of the user stack it was submitted from, see rows of kind `stack`.
    submit_stack: Option<u32>,
    /// User address of the list of its batch.
    list_address: Option<Word>,
    /// Place in that list.
    list_index: Option<u32>,
    /// Duration: submission to the interrupt thread's start, or the hand-over.
    device_ns: Option<u64>,
    /// Duration: end of the copy to the moment that the program sees the record.
    notice_ns: Option<u64>,
    /// Duration: submission to the moment that the program sees the record.
    total_ns: Option<u64>,
    /// Calls of the driver's counter function for faults during this service.
    counted_faults: Option<u8>,
    /// The same for failures.
    counted_failures: Option<u8>,
    /// What is not whole about the row, by name, separated by spaces; null when nothing is missing.
    marks: Option<&'a str>,
    /// Of `hole`: its kind. Of `stack`: functions. Of `place`: what is mapped. Of `ledger`: the kind of record, or of what could not be followed. Of `end`: the balance of the books.
    name: Option<Cow<'a, str>>,
    /// Of `hole`, `lost`, `ledger` and `end`: how many.
    count: Option<u64>,
    /// Of `ledger`: records that the kernel side wanted to send; `seen = sent + lost`.
    seen: Option<u64>,
    /// Of `ledger`: records that went into the ring.
    sent: Option<u64>,
    /// Of `ledger`: records that found no room, or could not be read.
    lost: Option<u64>,
    /// Of `ledger`: records that arrived.
    received: Option<u64>,
}

/// The JSON Schema of a row, as committed.
///
/// # Errors
/// Never for this schema; the signature is the serialiser's.
pub fn schema() -> Result<String, serde_json::Error> {
    let mut schema = schemars::schema_for!(Row<'_>);
    schema.insert("title".into(), format!("dsascope export, one row a line, version {VERSION}").into());
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}

#[cfg(test)]
mod tests;

//! Submissions of programs: what stands at the beginning of a fault's latency, and when it is over.
//!
//! Owns: what is known of a submitted descriptor, the joining of submission, fault and the moment a program sees its record, where that
//! record lives ([`place`]), and which code submitted ([`stack`]).
//! Refuses: finding the instructions that submit, and looking anything up; that is the probe crate.

mod joiner;
pub mod place;
pub mod stack;

use std::num::NonZeroU64;

use dsascope_common::hw::descriptor::{Descriptor, flags};
use dsascope_common::wire::how;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use joiner::Joiner;
pub use place::{Mapped, Memory, MemoryKind, NodePages, Permissions, Place};
pub use stack::{Frame, Stack};

use crate::name::{Comm, Context, DeviceId};
use crate::stages::Durations;

/// How a descriptor gets to its WQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    Movdir64b,
    Enqcmd,
    Enqcmds,
    /// Eight plain stores: only the testbed's device takes them.
    Stores,
    /// write(2): the driver submits.
    Write,
}

impl How {
    pub const ALL: [Self; 5] = [Self::Movdir64b, Self::Enqcmd, Self::Enqcmds, Self::Stores, Self::Write];

    /// From [`Self::code`]; `None` for one that nobody writes.
    #[must_use]
    pub fn from_wire(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|how| how.code() == code)
    }

    /// One of [`how`].
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Movdir64b => how::MOVDIR64B,
            Self::Enqcmd => how::ENQCMD,
            Self::Enqcmds => how::ENQCMDS,
            Self::Stores => how::STORES,
            Self::Write => how::WRITE,
        }
    }

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Movdir64b => "movdir64b",
            Self::Enqcmd => "enqcmd",
            Self::Enqcmds => "enqcmds",
            Self::Stores => "stores",
            Self::Write => "write",
        }
    }
}

/// Where a fault's completion record came from: the descriptor that named it, and the thread that submitted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Origin {
    /// When the submitting instruction was reached, for the first time where the WQ was full.
    pub submitted_ns: u64,
    /// When the program saw the record; null: not before the fault was told of, or this program does not tell.
    pub seen_ns: Option<NonZeroU64>,
    pub tid: u32,
    /// Of the thread.
    #[schemars(with = "String")]
    pub comm: Comm,
    pub how: How,
    /// Of the descriptor; of an element, not of its batch.
    pub operation: u8,
    /// Transfer size; of a batch, its descriptors. Null: the descriptor is not known, only its batch.
    pub bytes: Option<u32>,
    /// User address of the submitting instruction; null for write(2).
    pub instruction: Option<NonZeroU64>,
    /// Which user stack, see `stack` lines.
    pub stack: Option<u32>,
    /// Place in the list of a batch.
    pub element: Option<Element>,
}

/// Place of a descriptor in a batch's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Element {
    /// User address of the list.
    pub list: u64,
    pub index: u32,
}

/// A program saw the status byte of a completion record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    pub at_ns: u64,
    pub tgid: u32,
    pub tid: u32,
    /// User address of the record.
    pub record: u64,
    pub status: u8,
    /// Null: the submission is not known.
    pub submitted_ns: Option<NonZeroU64>,
    /// Of the fault that the driver served before; null: there was none.
    pub context: Option<Context>,
    /// When the driver had copied the record.
    pub delivered_ns: Option<NonZeroU64>,
}

impl Seen {
    /// From the submission to here.
    #[must_use]
    pub fn total_ns(&self) -> Option<u64> {
        self.at_ns.checked_sub(self.submitted_ns?.get())
    }

    /// From the delivery to here.
    #[must_use]
    pub fn notice_ns(&self) -> Option<u64> {
        self.at_ns.checked_sub(self.delivered_ns?.get())
    }

    /// The stages that end here.
    #[must_use]
    pub fn durations(&self) -> Durations {
        Durations { notice: self.notice_ns(), total: self.total_ns(), ..Durations::default() }
    }
}

/// Exact counts of what one process submitted to one WQ: one operation, one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmittedTotals {
    /// Null: of processes for which there was no room, added up.
    pub tgid: Option<u32>,
    /// Of the thread that submitted first.
    #[schemars(with = "String")]
    pub comm: Comm,
    /// Null: nobody knows whose portal it is, as the process had gone.
    #[schemars(with = "Option<String>")]
    pub device: Option<DeviceId>,
    pub wq: Option<u16>,
    /// Null as `tgid` is.
    pub how: Option<How>,
    /// Null: descriptors that could not be read.
    pub operation_code: Option<u8>,
    pub operation: Option<String>,
    /// Times that the instruction was reached.
    pub submissions: u64,
    /// Of these, refused because the shared WQ was full, as far as the zero flag was seen.
    pub refused: u64,
    /// Descriptors in lists, of batches.
    pub elements: u64,
    /// Sum of transfer sizes, of what is no batch.
    pub bytes: u64,
    /// Told of in no record: another try, or not sampled.
    pub untold: u64,
    /// Records that the ring did not take.
    pub records_lost: u64,
    /// Lists that could not be read, or are longer than what is told.
    pub lists_cut: u64,
}

/// How submissions are traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Submitters {
    pub files: Vec<SubmitterFile>,
    /// What tracing costs a program at each submission on this host, as measured when attaching; null: it could not be measured.
    pub cost_ns: Option<u64>,
    /// Of the records' addresses, one in so many is followed; counts are of all.
    pub sample: u32,
    /// Descriptors of a batch's list that are told of.
    pub elements_told: u32,
}

/// A program or library in which submissions are traced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmitterFile {
    pub file: String,
    /// In this process alone; null: in each that runs the file.
    pub pid: Option<u32>,
    pub sites: Vec<SubmitterSite>,
    /// Submitting instructions that the file's own probe points tell of already.
    pub covered: u64,
    /// Places that submit, or may, and have no probe, each with its reason.
    pub unprobeable: Vec<String>,
    /// Why the file could not be searched at all.
    pub problem: Option<String>,
}

impl SubmitterFile {
    /// Places with a probe.
    #[must_use]
    pub fn attached(&self) -> usize {
        self.sites.iter().filter(|site| site.refused.is_none()).count()
    }

    /// Something in it may submit without being seen.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.problem.is_some() || !self.unprobeable.is_empty() || self.attached() < self.sites.len()
    }
}

/// A place where submissions are seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubmitterSite {
    /// movdir64b, enqcmd, enqcmds, `dsascope:submit` or `dsascope:seen`.
    pub what: String,
    /// As the file is linked.
    pub address: u64,
    pub symbol: Option<String>,
    pub instruction: String,
    /// Why the kernel set no probe; null: it did.
    pub refused: Option<String>,
}

/// The completion record that a descriptor asks for: its address, if it has one.
#[must_use]
pub(crate) const fn record_of(descriptor: &Descriptor) -> Option<u64> {
    let valid = descriptor.flags_opcode & flags::CRAV != 0 && descriptor.completion_addr != 0;
    if valid { Some(descriptor.completion_addr) } else { None }
}

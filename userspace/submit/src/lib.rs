//! Descriptor submission to a DSA work queue that this process has opened: dedicated by MOVDIR64B, shared by ENQCMD, either by write(2).
//!
//! Owns: the open file, its portal page, and all memory that the device may read or write on behalf of this process. Memory
//! handed to the device lives until the file is closed (the driver drains the WQ then) and is reached by volatile accesses only; a
//! descriptor that names any other ([`operands`]) is not sent; so submission is safe. Also, pure and without handles: the arithmetic of going
//! on after a partial completion ([`resume`], [`Progress`]), and what operations should have done ([`mod@reference`]).
//! Above them a [`Slot`] sees one verified operation to its end, and [`load`] many. Refuses: configuration, terminals and signals.
//!
//! ```no_run
//! use dsascope_common::hw::descriptor::opcode;
//! use dsascope_submit::{Presence, Work, WorkQueue};
//! # fn main() -> Result<(), dsascope_submit::Error> {
//! let queue = WorkQueue::open("/dev/dsa/wq0.0".as_ref())?;
//! let record = queue.records(Presence::Absent, 1)?[0];
//! queue.submit(&Work::plain(opcode::NOOP, record))?;
//! let completion = queue.wait(record, std::time::Duration::from_secs(1))?;
//! # Ok(()) }
//! ```

mod buffers;
mod device;
pub mod load;
mod memory;
mod operands;
mod operation;
mod plan;
mod portal;
mod progress;
mod queue;
pub mod reference;
mod resume;
mod shares;
mod slot;
#[cfg(test)]
mod stand_in;
mod streams;
pub mod sysfs;
pub mod usdt;
mod work;

use std::{io, path::PathBuf};

pub use buffers::{Ask, Job, Kit, Pages};
pub use device::DeviceKind;
pub use operands::{Access, Operand, operands};
pub use operation::{Case, MAX_TRANSFER_BYTES, Operation};
pub use plan::{BatchPlan, BatchRecord, Element, Ending, Faults, Habit, Paging, Play, Played};
pub use portal::Submission;
pub use progress::{DeltaPart, Progress, Step};
pub use queue::{Batch, Packing, Presence, Record, Span, WorkQueue};
pub use resume::{last_of_batch, rebase_delta, resume, resume_iax};
pub use shares::{Mix, Random, spread};
pub use slot::{News, Sent, Slot, Times};
pub use work::Work;

/// Bytes of a page; completion records of [`WorkQueue::records`] have one each.
pub const PAGE: usize = 4096;

/// What went wrong, with the object it went wrong on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening work queue {}: {source}", .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("mapping the portal of {}: {source}{}", .path.display(), portal_hint(.source))]
    MapPortal { path: PathBuf, source: io::Error },
    #[error("this CPU cannot submit by {submission:?}")]
    Instruction { submission: Submission },
    #[error("shared work queue {} is full", .path.display())]
    Full { path: PathBuf },
    #[error("writing a descriptor to {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{operation} ({bytes} bytes): {source}")]
    Memory { operation: &'static str, bytes: usize, source: io::Error },
    #[error("memory that is not this work queue's was used on {}", .path.display())]
    ForeignMemory { path: PathBuf },
    #[error("{operation}: {bytes} bytes at offset {offset} lie outside a span of {span} bytes")]
    OutOfSpan { operation: &'static str, offset: usize, bytes: usize, span: usize },
    #[error("reading {}: {source}", .path.display())]
    Sysfs { path: PathBuf, source: io::Error },
    #[error("{operation}: {source}")]
    System { operation: &'static str, source: io::Error },
    #[error("{operation}: {problem}")]
    Invalid { operation: &'static str, problem: String },
}

fn portal_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => " (mapping a portal needs CAP_SYS_RAWIO)",
        _ => "",
    }
}

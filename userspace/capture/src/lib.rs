//! Captures: the event stream as a file, and back.
//!
//! Owns the format, its writer and its reader. The format is described byte by byte in docs/capture.md, and what raises its version; the
//! tests of `document` hold that against the code. Refuses: deciding what is recorded, clocks, anything but files.

mod block;
mod carry;
mod codec;
mod columns;
#[cfg(test)]
mod document;
mod file;
mod layout;
mod reader;
mod recorder;

pub use block::{Blocks, Meta, RawBlock};
pub use layout::{BlockHeader, VERSION};
pub use reader::{Capture, Damage, DamageKind, ReadError};
pub use recorder::{Mode, Notice, Plan, RecordError, Recorder};

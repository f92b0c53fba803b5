//! Captures: the event stream as a file, and back.
//!
//! Owns the format (docs/capture.md), its writer and its reader. Refuses: deciding what is recorded, clocks, anything but files.

mod block;
mod carry;
mod codec;
mod columns;
mod file;
mod layout;
mod reader;
mod recorder;

pub use block::{Blocks, Meta, RawBlock};
pub use layout::{BlockHeader, VERSION};
pub use reader::{Capture, Damage, DamageKind, ReadError};
pub use recorder::{Mode, Notice, Plan, RecordError, Recorder};

//! What a submitter's side of a fault looks like: where its completion record lives ([`place`]) and which code submitted ([`stack`]).
//!
//! Refuses: looking anything up. Both are told by the probes, at a time that they carry, and say what they do not know.

pub mod place;
pub mod stack;

pub use place::{Mapped, Memory, MemoryKind, NodePages, Permissions, Place};
pub use stack::{Frame, Stack};

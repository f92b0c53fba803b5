//! Commands that run one after another on a scenario's work queues, under a tracer: what is asked for, and how each ended.
//!
//! Owns: the two shapes, as JSON between host and guest. Refuses: running anything; the guest's program does.

use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// For its work queues.
    pub scenario: Scenario,
    /// Program and arguments; started first and interrupted at the end. Empty: none.
    pub tracer: Vec<String>,
    /// Programs with their arguments.
    pub commands: Vec<Vec<String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ran {
    pub tracer: Option<Ended>,
    /// Order of the commands.
    pub commands: Vec<Ended>,
}

/// A program's end, and what it wrote; what is no UTF-8 is replaced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    pub pid: u32,
    /// 128 and the signal's number for one that died of a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

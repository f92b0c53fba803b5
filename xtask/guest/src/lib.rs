//! What host and guest of the testbed share: the control protocol, the scenario format, and the reports of a run.
//!
//! Owns: [`protocol`], [`scenario`], [`report`], and what the [`emulation`] of instructions must know of a kernel. The binary of the
//! same name is the guest's /init: agent, device configuration and workloads.
//! Refuses: booting anything (the host's runner) and device behaviour (the testbed's models).

pub mod beside;
pub mod emulation;
pub mod protocol;
pub mod report;
pub mod scenario;

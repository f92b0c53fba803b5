//! What `dsascope doctor --json` writes: what was found on a host, and a judgement on each part of it.
//!
//! Owns: the shape. Refuses: judging; that is the command's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::DeviceInfo;

/// The whole report: one object, not one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DoctorReport {
    pub facts: HostFacts,
    pub checks: Vec<HostCheck>,
    /// With what code the command ends.
    pub exit_code: u8,
}

/// What was found on the host. Null means that it could not be found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// `uname -n`, `-r` and `-m`.
    pub host: String,
    pub kernel: String,
    pub machine: String,
    pub driver_loaded: bool,
    /// As in a session line.
    pub devices: Vec<DeviceInfo>,
    /// BTF of the kernel and of the idxd module.
    pub btf_vmlinux: bool,
    pub btf_idxd: bool,
    /// `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// Capabilities that tracing needs and the doctor's process lacks, such as CAP_BPF.
    pub missing_capabilities: Vec<String>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostCheck {
    /// What was looked at: `driver`, `dsa0 event log`.
    pub name: String,
    pub verdict: CheckVerdict,
    /// What was found.
    pub found: String,
    /// What to do about it; null when nothing is to do.
    pub fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckVerdict {
    Ok,
    /// Tracing works, but shows less than it could.
    Warn,
    /// Tracing is impossible, or nothing can happen that it would show.
    Bad,
}

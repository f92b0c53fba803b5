//! `dsascope doctor`: what the host offers, what stands in the way, and a fix for each.
//!
//! Pure: [`Facts`] in, [`Check`]s and text out. Looking at the host is the probe crate's.

mod checks;
mod known_kernels;
mod render;

use dsascope_core::event::DeviceInfo;
use serde::Serialize;

use crate::exit::Code;

pub(crate) use checks::checks;
pub(crate) use render::{json, text};

/// What was found on the host. `None` means that it could not be found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Facts {
    /// `uname -n`, `-r` and `-m`.
    pub host: String,
    pub kernel: String,
    pub machine: String,
    pub driver_loaded: bool,
    pub devices: Vec<DeviceInfo>,
    /// BTF of the kernel and of the idxd module.
    pub btf_vmlinux: bool,
    pub btf_idxd: bool,
    /// `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// Capabilities that tracing needs and this process lacks, such as CAP_BPF.
    pub missing_capabilities: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    Ok,
    /// Tracing works, but shows less than it could.
    Warn,
    /// Tracing is impossible, or nothing can happen that it would show.
    Bad,
}

impl Verdict {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was looked at: `driver`, `dsa0 event log`.
    pub name: String,
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; null when nothing is to do.
    pub fix: Option<String>,
    /// With what code tracing would end because of this.
    #[serde(skip)]
    pub code: Code,
}

/// The code of the first check that stands in the way.
pub(crate) fn code(checks: &[Check]) -> Code {
    checks.iter().find(|check| check.verdict == Verdict::Bad).map_or(Code::Ok, |check| check.code)
}

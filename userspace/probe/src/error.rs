//! Why tracing cannot start, each with what it was about. The command adds the next step and the exit code.

use std::io;

use thiserror::Error;

use crate::btf::BtfError;

#[derive(Debug, Error)]
pub enum ProbeError {
    #[error("the idxd driver is not loaded (no /sys/module/idxd)")]
    NoDriver,
    #[error("the idxd driver has no DSA or IAA device")]
    NoDevice,
    #[error("no permission to load BPF programs: {operation}")]
    NoPermission { operation: String },
    #[error("no BTF at {path}: {source}")]
    NoBtf { path: String, source: io::Error },
    #[error(transparent)]
    Btf(#[from] BtfError),
    #[error("idxd's BTF lacks {structure}.{member}")]
    Layout { structure: &'static str, member: &'static str },
    #[error("cannot trace {}", missing.join("; "))]
    NotTraceable { missing: Vec<String> },
    #[error("ring size {bytes} is not a power of two of at least one page ({page} bytes)")]
    RingSize { bytes: u64, page: u64 },
    #[error("the eBPF object cannot be used: {what}")]
    Object { what: String },
    #[error("BPF map {map}: {operation}: {source}")]
    Map { map: String, operation: &'static str, source: io::Error },
    #[error("{operation}: {source}")]
    System { operation: String, source: io::Error },
}

impl ProbeError {
    /// `EPERM` and `EACCES` become [`ProbeError::NoPermission`], the rest stays what it is.
    pub(crate) fn system(operation: impl Into<String>, source: io::Error) -> Self {
        let operation = operation.into();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::NoPermission { operation: format!("{operation}: {source}") }
        } else {
            Self::System { operation, source }
        }
    }
}

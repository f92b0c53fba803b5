//! dsascope's probes: the only crate that knows eBPF.
//!
//! Path: [`host::preflight`] says what the machine offers; [`Tracer::attach`] reads offsets from BTF ([`offsets`]), loads the
//! embedded object, attaches every hook it can ([`Attach`]) and gives each a verdict; [`Tracer::drain`] turns ring records into
//! core's events; [`Tracer::snapshot`] reads the exact counters kept beside the ring; [`Tracer::finish`] detaches.
//!
//! Refuses: writing to the driver or a device, keeping anything attached after the process, and policy: what a failure means for
//! the user is the command's.

pub use dsascope_core::btf;
pub mod error;
mod hooks;
pub mod host;
mod lookup;
mod object;
pub mod offsets;
pub mod places;
pub mod processes;
mod quiet;
pub mod sites;
pub mod stacks;
mod submissions;
mod submitters;
mod symbols;
mod sys;
mod tracer;
mod vmas;

pub use error::ProbeError;
pub use hooks::Attach;
pub use host::{Host, preflight};
pub use processes::Target;
pub use submissions::Submissions;
pub use tracer::{Options, Tracer, now_ns};

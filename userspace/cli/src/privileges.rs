//! Gives up what attaching needed: the running tool holds no capability and cannot gain one.

use anyhow::{Context, Result};
use caps::{CapSet, Capability};

/// Capabilities that tracing needs and this process lacks, by name: to load programs, to attach kprobes, to read a kernel function's
/// address, to read tracefs. CAP_SYS_ADMIN stands for the first two.
pub(crate) fn missing() -> Result<Vec<String>> {
    let held = caps::read(None, CapSet::Effective).context("read this process's capabilities")?;
    let mut needed = vec![Capability::CAP_SYSLOG, Capability::CAP_DAC_READ_SEARCH];
    if !held.contains(&Capability::CAP_SYS_ADMIN) {
        needed.extend([Capability::CAP_BPF, Capability::CAP_PERFMON]);
    }
    needed.retain(|capability| !held.contains(capability));
    Ok(needed.iter().map(ToString::to_string).collect())
}

/// Clears the ambient, effective, permitted and inheritable sets and sets `no_new_privs`. To be called after attaching, before the
/// first event is read, on each thread there is: capabilities belong to threads.
pub(crate) fn drop_all() -> Result<()> {
    no_new()?;
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Inheritable, CapSet::Permitted] {
        caps::clear(None, set).with_context(|| format!("drop the {set:?} capabilities"))?;
    }
    Ok(())
}

fn no_new() -> Result<()> {
    // SAFETY: prctl(2) with integer arguments alone.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if done != 0 {
        return Err(std::io::Error::last_os_error()).context("set no_new_privs");
    }
    Ok(())
}

/// Keeps on this thread what the tracing of submissions needs all along: to attach uprobes, and to see what processes have mapped.
pub(crate) fn keep_for_submitters() -> Result<()> {
    const NEEDED: [Capability; 4] = [
        Capability::CAP_PERFMON,
        Capability::CAP_SYS_PTRACE,
        Capability::CAP_DAC_READ_SEARCH,
        // To follow /proc/PID/map_files.
        Capability::CAP_CHECKPOINT_RESTORE,
    ];
    no_new()?;
    let held = caps::read(None, CapSet::Permitted).context("read this thread's capabilities")?;
    let kept = NEEDED.into_iter().filter(|capability| held.contains(capability)).collect();
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).with_context(|| format!("drop the {set:?} capabilities"))?;
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).with_context(|| format!("reduce the {set:?} capabilities"))?;
    }
    Ok(())
}

/// Makes this thread's files those of whoever owns `directory`, when it may: a capture in a user's directory is the user's, and can be
/// written there when all capabilities are gone.
pub(crate) fn write_as_owner_of(directory: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(directory)?;
    // SAFETY: setfsgid(2) and setfsuid(2) with integer arguments; they change this thread alone and fail by changing nothing.
    unsafe {
        libc::setfsgid(owner.gid());
        libc::setfsuid(owner.uid());
    }
    Ok(())
}

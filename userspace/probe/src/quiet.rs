//! Reading maps without disturbing what is observed.
//!
//! While a process is inside a map system call the kernel skips kprobe and tracepoint programs on that CPU, and it may be preempted
//! there by the very worker that is observed: a fault would lose its start. A real-time thread is not preempted by workers, so the
//! snapshot is one for as long as it reads, a fraction of a millisecond. The interrupt threads' programs are of another kind.

/// Real-time for as long as it lives, where that is allowed; else nothing, and skipped runs show in the programs' statistics.
#[derive(Debug)]
pub(crate) struct Quiet {
    changed: bool,
}

/// The lowest real-time priority: below interrupt threads, above all ordinary threads.
const PRIORITY: libc::c_int = 1;

impl Quiet {
    /// To be called while privileged: lets this process go real-time later, at the lowest priority.
    pub(crate) fn allow() {
        let limit = libc::rlimit { rlim_cur: PRIORITY as u64, rlim_max: PRIORITY as u64 };
        // SAFETY: `limit` is a live rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_RTPRIO, &raw const limit) } != 0 {
            log::debug!("RLIMIT_RTPRIO: {}", std::io::Error::last_os_error());
        }
    }

    pub(crate) fn begin() -> Self {
        Self { changed: schedule(libc::SCHED_FIFO, PRIORITY) }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.changed {
            schedule(libc::SCHED_OTHER, 0);
        }
    }
}

fn schedule(policy: libc::c_int, priority: libc::c_int) -> bool {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameters` is a live sched_param; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_is_ordinary_again_afterwards() {
        // SAFETY: no preconditions; 0 is the calling thread.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        Quiet::allow();
        let quiet = Quiet::begin();
        if quiet.changed {
            assert_eq!(policy(), libc::SCHED_FIFO);
        }
        drop(quiet);
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}

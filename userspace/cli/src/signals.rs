//! Signals that end or suspend a run in good order.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGINT, SIGTERM, SIGHUP or SIGQUIT, by number: finish and say what was seen.
    End(i32),
    /// SIGUSR1: save what the flight recorder holds.
    Save,
    /// SIGTSTP: give the terminal back and stop until SIGCONT.
    Suspend,
}

/// Kernel to program: one stream of what was asked.
#[derive(Debug)]
pub(crate) struct Signals {
    ends: [Signal; 4],
    save: Signal,
    suspend: Option<Signal>,
}

impl Signals {
    /// For runs that print lines: SIGTSTP keeps its default action.
    pub(crate) fn new() -> io::Result<Self> {
        let ends = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::quit())?,
        ];
        Ok(Self { ends, save: signal(SignalKind::user_defined1())?, suspend: None })
    }

    /// For runs that own the terminal.
    pub(crate) fn with_suspend() -> io::Result<Self> {
        let mut signals = Self::new()?;
        signals.suspend = Some(signal(SignalKind::from_raw(libc::SIGTSTP))?);
        Ok(signals)
    }

    /// The next one. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Asked {
        let [interrupt, terminate, hangup, quit] = &mut self.ends;
        let suspend = async {
            match &mut self.suspend {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => Asked::End(libc::SIGINT),
            _ = terminate.recv() => Asked::End(libc::SIGTERM),
            _ = hangup.recv() => Asked::End(libc::SIGHUP),
            _ = quit.recv() => Asked::End(libc::SIGQUIT),
            _ = self.save.recv() => Asked::Save,
            _ = suspend => Asked::Suspend,
        }
    }
}

/// Stops this process until SIGCONT, as SIGTSTP would have done.
pub(crate) fn stop() {
    // SAFETY: raise(3) with a valid signal number; SIGSTOP cannot be handled and returns after SIGCONT.
    unsafe { libc::raise(libc::SIGSTOP) };
}

//! What must not outlive this program however it ends: process groups, run directories, a raw terminal.
//!
//! Drops clean up on return, error and panic. A signal runs no drops, so everything is registered here too and one thread cleans up
//! before it ends the program. Refuses: cleaning up anything that was not registered.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::sys::termios::{SetArg, Termios, tcsetattr};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// How long a killed process may take to go.
const KILL_LIMIT: Duration = Duration::from_secs(10);

struct Registry {
    groups: Vec<Pid>,
    directories: Vec<PathBuf>,
    terminal: Option<Termios>,
}

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { groups: Vec::new(), directories: Vec::new(), terminal: None });

fn registry() -> MutexGuard<'static, Registry> {
    // A panic elsewhere must not keep us from cleaning up.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the thread that ends the program on SIGINT, SIGTERM, SIGHUP and SIGQUIT, with the usual exit code of 128 + signal.
pub fn on_signals() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT]).context("cannot take signals")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if let Some(signal) = signals.forever().next() {
                everything();
                std::process::exit(128 + signal);
            }
        })
        .context("cannot start the signal thread")?;
    Ok(())
}

/// Cleans up all there is.
fn everything() {
    let mut registry = registry();
    if let Some(terminal) = registry.terminal.take() {
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &terminal);
        crate::terminal::leave_screen();
    }
    for group in registry.groups.drain(..) {
        let _ = killpg(group, Signal::SIGKILL);
        // A machine's memory takes a moment to free; nobody shall find it after our end. An error: another thread has reaped it.
        let deadline = Instant::now() + KILL_LIMIT;
        while waitpid(group, Some(WaitPidFlag::WNOHANG)) == Ok(WaitStatus::StillAlive)
            && Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for directory in registry.directories.drain(..) {
        let _ = std::fs::remove_dir_all(directory);
    }
}

/// A process group that is killed on a signal; unregistered on drop.
#[derive(Debug)]
pub struct Group(Pid);

impl Group {
    pub fn register(leader: Pid) -> Self {
        registry().groups.push(leader);
        Self(leader)
    }

    pub fn leader(&self) -> Pid {
        self.0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        registry().groups.retain(|group| *group != self.0);
    }
}

/// A temporary directory for one run. Its path is short, as sockets need it.
#[derive(Debug)]
pub struct RunDirectory(PathBuf);

impl RunDirectory {
    pub fn create() -> Result<Self> {
        let path = tempfile::Builder::new()
            .prefix("dsascope-")
            .tempdir()
            .context("cannot make a run directory")?
            .keep();
        registry().directories.push(path.clone());
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        registry().directories.retain(|directory| *directory != self.0);
    }
}

/// Remembers the terminal's settings for a signal; [`forget_terminal`] once they are restored.
pub fn remember_terminal(settings: Termios) {
    registry().terminal = Some(settings);
}

/// See [`remember_terminal`].
pub fn forget_terminal() {
    registry().terminal = None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_directory_goes_with_its_run() {
        let run = RunDirectory::create().unwrap();
        let path = run.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(run);
        assert!(!path.exists());
    }
}

//! Our own terminal while a command runs in the guest: raw mode, keys and sizes forwarded, restored on every way out.
//!
//! Refuses: drawing; the guest's program does that.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use dsascope_guest::protocol::{Frame, Winsize};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::{Handle, Signals};

use crate::cleanup;
use crate::control::Sender;

nix::ioctl_read_bad!(window_size, libc::TIOCGWINSZ, libc::winsize);

/// Leaves the alternate screen, shows the cursor, resets colours and mouse reports: what a killed full-screen program leaves behind.
const LEAVE: &[u8] = b"\x1b[?1006l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?2004l\x1b[?1049l\x1b[0m\x1b[?25h";

/// Whether a command can have a terminal: it needs both our keys and our screen.
pub fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The size of our terminal; 80x24 when it has none.
pub fn size() -> Winsize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills the structure we own, which has the type this request is defined with.
    let known = unsafe { window_size(libc::STDOUT_FILENO, &raw mut size) }.is_ok()
        && size.ws_col > 0
        && size.ws_row > 0;
    if known {
        Winsize { columns: size.ws_col, rows: size.ws_row }
    } else {
        Winsize { columns: 80, rows: 24 }
    }
}

/// Undoes what a full-screen program did to the screen.
pub fn leave_screen() {
    let mut screen = io::stdout();
    // There is no one left to tell.
    let _ = screen.write_all(LEAVE);
    let _ = screen.flush();
}

/// Raw mode; the old mode comes back on drop, on panic and on a signal.
#[derive(Debug)]
pub struct Raw {
    before: Termios,
    /// The program may have left the screen in any state.
    clean: bool,
}

impl Raw {
    pub fn enter() -> Result<Self> {
        let before = tcgetattr(io::stdin()).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        cleanup::remember_terminal(before.clone());
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).context("cannot set the terminal to raw mode")?;
        Ok(Self { before, clean: false })
    }

    /// The program ended by itself and has restored the screen.
    pub fn ended_cleanly(&mut self) {
        self.clean = true;
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if !self.clean {
            leave_screen();
        }
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before);
        cleanup::forget_terminal();
    }
}

/// Forwards our standard input to the guest until it is dropped; the end of input is an empty frame.
#[derive(Debug)]
pub struct Keys {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Keys {
    pub fn forward(to: Sender) -> Result<Self> {
        let (stopped, stop) = nix::unistd::pipe().context("cannot make a pipe")?;
        let thread = std::thread::Builder::new()
            .name("keys".into())
            .spawn(move || forward_input(&to, &stopped))
            .context("cannot start the input thread")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // The thread's poll sees the closed pipe.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn forward_input(to: &Sender, stopped: &OwnedFd) {
    let input = io::stdin();
    let mut bytes = [0; 4096];
    loop {
        let mut sources =
            [PollFd::new(input.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        match poll(&mut sources, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) => {}
        }
        if sources[1].any() == Some(true) {
            return;
        }
        // An error on input is its end.
        let length = input.lock().read(&mut bytes).unwrap_or(0);
        if to.send(&Frame::Stdin(bytes[..length].to_vec())).is_err() || length == 0 {
            return;
        }
    }
}

/// Forwards changes of our window's size until it is dropped.
#[derive(Debug)]
pub struct Resizes {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Resizes {
    pub fn forward(to: Sender) -> Result<Self> {
        let mut signals = Signals::new([SIGWINCH]).context("cannot take SIGWINCH")?;
        let handle = signals.handle();
        let forward = move || {
            for _ in &mut signals {
                if to.send(&Frame::Resize(size())).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("resizes".into())
            .spawn(forward)
            .context("cannot start the size thread")?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for Resizes {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

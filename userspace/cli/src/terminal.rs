//! The terminal: raw mode and alternate screen while a [`Guard`] lives, and the way back in every case.
//!
//! Three ways lead out: the guard is dropped (success, error, and the signals that the event loop handles), a panic (hook), and a
//! signal that ends the process on the spot (handler of async-signal-safe calls). SIGKILL has none: `reset` helps then.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::{cursor, execute, style, terminal};

use crate::exit::{Code, Failure};

/// No mouse, leave the alternate screen, show the cursor, normal attributes.
const LEAVE: &[u8] = b"\x1b[?1006l\x1b[?1000l\x1b[0m\x1b[?25h\x1b[?1049l";
/// Buttons and wheel, in decimal digits. Not crossterm's EnableMouseCapture, which asks for each movement too.
const MOUSE: &str = "\x1b[?1000h\x1b[?1006h";

/// The terminal's mode before the first [`Guard`].
static MODE: OnceLock<libc::termios> = OnceLock::new();
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Signals whose default action ends the process and that the event loop does not turn into a clean end.
const FATAL: [libc::c_int; 12] = [
    libc::SIGABRT,
    libc::SIGALRM,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGUSR2,
    libc::SIGVTALRM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
];

/// Columns and rows of the terminal, when it is one and large enough. A terminal that does not know its size (a serial line says
/// 0x0) is taken as fit: the view says what it needs.
pub(crate) fn check(fits: impl Fn(u16, u16) -> bool, minimum: (u16, u16)) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(Failure::new(
            Code::NotATerminal,
            "live needs a terminal on stdin and stdout",
            "run it in a terminal, or use `dsascope stat` or `dsascope trace`, which write lines",
        ));
    }
    match terminal::size() {
        Ok((0, _) | (_, 0)) | Err(_) => Ok(()),
        Ok((width, height)) if fits(width, height) => Ok(()),
        Ok((width, height)) => Err(Failure::new(
            Code::TerminalTooSmall,
            format!("the terminal is {width}x{height}; live needs {}x{}", minimum.0, minimum.1),
            "enlarge it or choose a smaller font, or use `dsascope stat`",
        )),
    }
}

#[derive(Debug)]
pub(crate) struct Guard(());

impl Guard {
    /// Enters raw mode and the alternate screen, and takes the mouse if that is wanted; the first call also installs the panic hook and the
    /// signal handlers.
    pub(crate) fn enter(mouse: bool) -> io::Result<Self> {
        if MODE.get().is_none() {
            let _ = MODE.set(read_mode()?);
            install_panic_hook();
            install_fatal_handlers()?;
        }
        enter_raw_mode()?;
        ENTERED.store(true, Ordering::SeqCst);
        let guard = Self(());
        execute!(
            io::stdout(),
            terminal::EnterAlternateScreen,
            terminal::Clear(terminal::ClearType::All),
            cursor::Hide,
            style::Print(if mouse { MOUSE } else { "" })
        )?;
        Ok(guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        leave();
    }
}

/// Whether the screen is this program's at the moment.
pub(crate) fn is_taken() -> bool {
    ENTERED.load(Ordering::SeqCst)
}

/// Puts the terminal back; does nothing when it is not taken. Safe to call from a signal handler.
fn leave() {
    if !ENTERED.swap(false, Ordering::SeqCst) {
        return;
    }
    // SAFETY: write(2) with a live static buffer; async-signal-safe. A failure leaves nothing better to do.
    unsafe { libc::write(libc::STDOUT_FILENO, LEAVE.as_ptr().cast(), LEAVE.len()) };
    if let Some(mode) = MODE.get() {
        // SAFETY: tcsetattr(3) with a termios that tcgetattr filled; async-signal-safe.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, mode) };
    }
}

fn read_mode() -> io::Result<libc::termios> {
    let mut mode = std::mem::MaybeUninit::uninit();
    // SAFETY: tcgetattr(3) fills the termios it is given, or fails.
    if unsafe { libc::tcgetattr(libc::STDIN_FILENO, mode.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the successful call above.
    Ok(unsafe { mode.assume_init() })
}

/// Not crossterm's, which keeps a mode of its own and would not notice that [`leave`] has put the terminal back.
fn enter_raw_mode() -> io::Result<()> {
    let Some(mode) = MODE.get() else { return Ok(()) };
    let mut raw = *mode;
    // SAFETY: cfmakeraw(3) and tcsetattr(3) on a termios that tcgetattr filled.
    let done = unsafe {
        libc::cfmakeraw(&raw mut raw);
        libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw const raw)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn install_panic_hook() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        leave();
        print(info);
        let _ =
            writeln!(io::stderr(), "dsascope: this is a bug; the probes are detached when the process ends");
    }));
}

extern "C" fn on_fatal_signal(signal: libc::c_int) {
    leave();
    // SAFETY: raise(3) is async-signal-safe; SA_RESETHAND has put the default action back, so this ends the process once
    // the handler returns, with the status of the signal.
    unsafe { libc::raise(signal) };
}

fn install_fatal_handlers() -> io::Result<()> {
    for signal in FATAL {
        // SAFETY: all-zero is a valid sigaction; the handler uses async-signal-safe calls alone.
        let done = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fatal_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};

    use nix::pty::{Winsize, openpty};
    use nix::sys::termios::{LocalFlags, tcgetattr};

    use super::*;

    fn is_raw(terminal: &OwnedFd) -> bool {
        !tcgetattr(terminal).expect("a terminal").local_flags.contains(LocalFlags::ICANON)
    }

    #[test]
    fn a_panic_gives_the_terminal_back_and_is_readable() {
        const PANIC: &str = "DSASCOPE_TEST_PANIC";
        if std::env::var_os(PANIC).is_some() {
            // This very test again, as the child below, in a pseudo-terminal.
            let _guard = Guard::enter(true).expect("a terminal");
            panic!("on purpose");
        }
        let size = Winsize { ws_row: 60, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a pseudo-terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let test = "terminal::tests::a_panic_gives_the_terminal_back_and_is_readable";
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", test, "--nocapture"])
            .env(PANIC, "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("this test runs");
        assert!(!child.wait().expect("a child").success());
        assert!(!is_raw(&pty.slave));
        drop(pty.slave);
        let mut output = Vec::new();
        // With its other end closed the pseudo-terminal ends in an error.
        let _ = std::fs::File::from(pty.master).read_to_end(&mut output);
        let mut screen = vt100::Parser::new(60, 120, 0);
        screen.process(&output);
        let screen = screen.screen();
        assert!(String::from_utf8_lossy(&output).contains("\x1b[?1049h"), "the terminal was taken");
        assert!(!screen.alternate_screen() && !screen.hide_cursor());
        assert!(String::from_utf8_lossy(&output).contains(MOUSE), "the mouse was taken");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        assert!(screen.contents().contains("on purpose"), "{}", screen.contents());
    }
}

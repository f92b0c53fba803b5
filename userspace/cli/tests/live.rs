//! The real binary in a pseudo-terminal: keys in, screen out, and the terminal given back however it ends.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use support::{BINARY, file, script};
use vt100::{MouseProtocolEncoding, MouseProtocolMode};

/// Generous: the machine may be busy. Nothing waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Live {
    child: Child,
    keys: File,
    /// Kept open: the terminal's mode is read from it after the program has gone.
    terminal: OwnedFd,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    raw: Vec<u8>,
    _events: tempfile::NamedTempFile,
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Live {
    fn start(columns: u16, rows: u16, options: &[&str]) -> Self {
        Self::start_on(file(&script::lossy(5, 77)), columns, rows, options)
    }

    fn start_on(events: tempfile::NamedTempFile, columns: u16, rows: u16, options: &[&str]) -> Self {
        let pty = openpty(Some(&size(columns, rows)), None).expect("a pseudo-terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        let mut command = Command::new(BINARY);
        command.arg("live").args(options).arg("--events").arg(events.path());
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: setsid and ioctl are async-signal-safe and touch this child alone.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                if libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("the binary runs");
        let keys = File::from(pty.master);
        let mut reader = keys.try_clone().expect("a descriptor");
        let (send, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                if send.send(bytes[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let screen = vt100::Parser::new(rows, columns, 0);
        Self { child, keys, terminal: pty.slave, output, screen, raw: Vec::new(), _events: events }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the process is there");
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = size(columns, rows);
        // SAFETY: TIOCSWINSZ reads the winsize it is given.
        let done = unsafe { libc::ioctl(self.keys.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
        assert_eq!(done, 0);
    }

    fn take(&mut self, bytes: Vec<u8>) {
        self.screen.process(&bytes);
        self.raw.extend(bytes);
    }

    /// Waits until the screen fits.
    fn wait(&mut self, what: &str, fits: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let contents = self.screen.screen().contents();
            if fits(&contents) {
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.take(bytes),
                Err(_) => panic!("waited for {what}; the screen is\n{contents}"),
            }
        }
    }

    fn wait_for(&mut self, text: &str) {
        self.wait(text, |contents| contents.contains(text));
    }

    fn is_raw(&self) -> bool {
        let mode = tcgetattr(&self.terminal).expect("a terminal");
        !mode.local_flags.contains(LocalFlags::ICANON | LocalFlags::ECHO)
    }

    /// Waits for the end and checks that the terminal is as it was.
    fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().expect("a child");
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.take(bytes);
        }
        assert!(!self.is_raw(), "the terminal's mode is restored");
        let screen = self.screen.screen();
        assert!(!screen.alternate_screen(), "the alternate screen is left");
        assert!(!screen.hide_cursor(), "the cursor is shown");
        assert_eq!(screen.mouse_protocol_mode(), MouseProtocolMode::None, "the mouse is given back");
        (status, screen.contents())
    }
}

#[test]
fn keys_in_screen_out() {
    let mut live = Live::start(120, 40, &[]);
    live.wait_for("redis-server");
    live.wait_for("LOST 77 faults");
    assert!(live.is_raw() && live.screen.screen().alternate_screen());
    live.press("?");
    live.wait_for("go to the next panel");
    live.press("\x1b");
    live.wait("the help to go", |contents| !contents.contains("go to the next panel"));
    live.press("/spdk\r");
    live.wait("the filter", |contents| {
        contents.contains("filter \"spdk\"") && !contents.contains("redis-server")
    });
    live.press("\x1b");
    live.wait_for("redis-server");
    live.press("\t\r");
    live.wait_for("event-log entry");
    live.press("q");
    let (status, screen) = live.end();
    assert_eq!(status.code(), Some(0));
    assert!(screen.contains("977 faults, 32 failed") && screen.contains("LOST 77 events"), "{screen}");
}

#[test]
fn resizing() {
    let mut live = Live::start(80, 24, &[]);
    live.wait_for("recent faults");
    live.resize(50, 10);
    live.screen.screen_mut().set_size(10, 50);
    live.wait_for("50x10 is too small: need 60x15");
    live.resize(120, 40);
    live.screen.screen_mut().set_size(40, 120);
    live.wait_for("WHAT HAPPENED");
    live.press("q");
    assert_eq!(live.end().0.code(), Some(0));
}

#[test]
fn too_small_at_the_start() {
    let live = Live::start(50, 10, &[]);
    let (status, screen) = live.end();
    assert_eq!(status.code(), Some(10));
    assert!(screen.contains("the terminal is 50x10"), "{screen}");
}

#[test]
fn signals_that_ask_for_an_end() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
        let mut live = Live::start(80, 24, &[]);
        live.wait_for("recent faults");
        live.signal(signal);
        let (status, screen) = live.end();
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(screen.contains("977 faults"), "{screen}");
    }
}

#[test]
fn signals_that_kill() {
    for signal in [Signal::SIGSEGV, Signal::SIGABRT, Signal::SIGUSR2, Signal::SIGBUS] {
        let mut live = Live::start(80, 24, &[]);
        live.wait_for("recent faults");
        live.signal(signal);
        assert_eq!(live.end().0.signal(), Some(signal as i32));
    }
}

#[test]
fn suspended_and_continued() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let mut live = Live::start(80, 24, &[]);
    live.wait_for("recent faults");
    live.signal(Signal::SIGTSTP);
    let stopped = waitpid(live.pid(), Some(WaitPidFlag::WUNTRACED)).expect("a child");
    assert!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{stopped:?}");
    assert!(!live.is_raw());
    live.wait("the screen to be given back", |contents| !contents.contains("recent faults"));
    assert_eq!(live.screen.screen().mouse_protocol_mode(), MouseProtocolMode::None);
    live.signal(Signal::SIGCONT);
    live.wait_for("recent faults");
    assert!(live.is_raw());
    assert_eq!(live.screen.screen().mouse_protocol_mode(), MouseProtocolMode::PressRelease);
    live.press("q");
    assert_eq!(live.end().0.code(), Some(0));
}

#[test]
fn ascii_and_no_colour() {
    let mut live = Live::start(80, 24, &["--ascii"]);
    live.wait_for("recent faults");
    assert!(live.screen.screen().contents().is_ascii());
    live.press("q");
    live.end();
}

#[test]
fn an_error_on_the_way_gives_the_terminal_back_and_is_readable() {
    let events = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(events.path(), "{nonsense\n").expect("a temporary file");
    let (status, screen) = Live::start_on(events, 80, 24, &[]).end();
    assert_eq!(status.code(), Some(1));
    assert!(screen.contains(":1: key must be") && screen.contains("next: "), "{screen}");
}

/// A copy of a capture of samples/.
fn sample(name: &str) -> tempfile::NamedTempFile {
    let capture = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = format!("{}/../../samples/{name}.dsc", env!("CARGO_MANIFEST_DIR"));
    std::fs::copy(path, capture.path()).expect("the sample");
    capture
}

#[test]
fn a_capture_is_played_stepped_and_sought() {
    let mut live = Live::start_on(sample("storm"), 120, 30, &["--speed", "max"]);
    live.wait("the end", |contents| contents.contains("4.12K faults") || contents.contains("total 4"));
    live.wait_for("4120");
    // Back to the beginning, held, and a fault at a time.
    live.press("p^");
    live.wait_for("PAUSED");
    live.wait("nothing counted", |contents| contents.contains("total 0 faults"));
    live.press("n");
    live.wait_for("total 1 faults");
    live.press("nn");
    live.wait_for("total 3 faults");
    live.press("w");
    live.wait_for("event-log entry");
    live.press("\x1b");
    live.wait("the detail to be closed", |contents| !contents.contains("event-log entry"));
    live.press("$");
    live.wait_for("4120");
    live.press("q");
    let (status, screen) = live.end();
    assert_eq!(status.code(), Some(0));
    assert!(screen.contains("4120 faults, 500 failed, in 12.1 s; every event received"), "{screen}");
}

#[test]
fn an_expression_is_completed_filters_and_shows_what_is_wrong() {
    let mut live = Live::start_on(sample("storm"), 120, 30, &["--speed", "max"]);
    live.wait_for("4120");
    live.wait_for("key-value");
    // Completed: "process", then "outcome == failed".
    live.press("/proc\t == leaky-importer and outc\t == f\t");
    live.wait_for("/process == leaky-importer and outcome == failed");
    live.wait("its faults alone", |contents| {
        contents.contains("FAILED") && contents.contains("1 row") && !contents.contains("key-value")
    });
    live.press(" and stats == 1\r");
    live.wait_for("there is no field stats: did you mean status?");
    live.press("\x1b");
    live.wait_for("key-value");
    live.press("q");
    assert_eq!(live.end().0.code(), Some(0));
}

#[test]
fn a_capture_is_played_at_its_own_speed() {
    let begin = Instant::now();
    let mut live = Live::start_on(sample("batch"), 120, 30, &["--speed", "5"]);
    live.wait_for("5x");
    live.wait_for("total 900 faults");
    // 7 s of a capture in a fifth of that; the last faults come at 5 s.
    let took = begin.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&took), "{took:?}");
    live.press("^p");
    live.wait_for("PAUSED");
    live.press("N");
    live.wait_for("total ");
    live.press("q");
    assert_eq!(live.end().0.code(), Some(0));
}

#[test]
fn the_mouse_clicks_and_scrolls_unless_it_is_left_to_the_terminal() {
    let mut live = Live::start_on(sample("storm"), 120, 40, &["--speed", "max"]);
    live.wait_for("total 4120 faults");
    let screen = live.screen.screen();
    let taken = (screen.mouse_protocol_mode(), screen.mouse_protocol_encoding());
    assert_eq!(taken, (MouseProtocolMode::PressRelease, MouseProtocolEncoding::Sgr));
    // Rows and columns count from 1: the name of the fourth view, and the wheel on the list.
    let line = screen.contents().lines().position(|line| line.contains("4 Faults")).expect("the views");
    let column = screen.contents().lines().nth(line).and_then(|line| line.find("4 Faults")).expect("a name");
    live.press(&format!("\x1b[<0;{};{}M\x1b[<0;{};{}m", column + 3, line + 1, column + 3, line + 1));
    live.wait_for("4>Faults");
    live.press("\x1b[<65;20;20M");
    live.wait_for("4 of ");
    live.press("q");
    assert_eq!(live.end().0.code(), Some(0));

    let mut live = Live::start(120, 40, &["--no-mouse"]);
    live.wait_for("redis-server");
    assert_eq!(live.screen.screen().mouse_protocol_mode(), MouseProtocolMode::None);
    live.press("q");
    live.end();
}

#[test]
fn latencies_are_held_against_a_baseline() {
    let before = sample("batch");
    let path = before.path().to_str().expect("a path");
    let mut live = Live::start_on(sample("storm"), 120, 40, &["--speed", "max", "--baseline", path]);
    live.wait_for("total 4120 faults");
    live.press("5");
    live.wait_for("o baseline");
    // As docs/compare.md has it, the other way round.
    live.wait_for("dsa0 event log entries: 256 / 64; wq0.2 size: 32 / 64");
    live.press("q");
    assert_eq!(live.end().0.code(), Some(0));
    for (bytes, what) in [("{nonsense\n", ":1: key must be"), ("DSASCOPE, perhaps", "dsascope: ")] {
        std::fs::write(before.path(), bytes).expect("a temporary file");
        let (status, screen) = Live::start_on(sample("storm"), 120, 40, &["--baseline", path]).end();
        assert_eq!(status.code(), Some(11), "{screen}");
        assert!(screen.contains(what) && screen.contains("next: name a capture"), "{screen}");
    }
}

/// docs/usability.md: what is asked, with no more keys than it says.
#[test]
fn five_tasks_in_a_few_keys() {
    let mut live = Live::start_on(sample("storm"), 120, 30, &["--speed", "max"]);
    live.wait_for("total 4120 faults");
    live.wait_for("! storm: leaky-importer (148) on wq0.2");
    live.press("6");
    live.wait_for("advised size         64; it is large enough");
    live.press("w");
    live.wait_for("Stages");
    live.press("q");
    assert_eq!(live.end().0.code(), Some(0));

    let mut live = Live::start_on(sample("batch"), 120, 30, &["--speed", "max"]);
    live.wait_for("total 900 faults");
    live.press("3x\r");
    live.wait_for("Elements that faulted");
    live.press("y");
    live.wait_for("lines given to the terminal's clipboard");
    let raw = String::from_utf8_lossy(&live.raw).into_owned();
    assert!(raw.contains("\x1b]52;c;"), "the clipboard's sequence");
    live.wait("a failed element or record", |contents| {
        contents.contains("BATCH_FAIL") || contents.contains("failed      ")
    });
    live.press("q");
    assert_eq!(live.end().0.code(), Some(0));
}

/// Each sample to its end, and every view of it: at its number, and in no way empty.
#[test]
fn every_view_of_every_sample() {
    for (name, faults, found) in
        [("calm", 25, false), ("storm", 4120, true), ("batch", 900, true), ("submit", 240, true)]
    {
        let mut live = Live::start_on(sample(name), 120, 40, &["--speed", "max"]);
        live.wait_for(&format!("total {faults} faults"));
        live.wait("a word on findings", |contents| contents.contains("nothing found to be wrong") != found);
        for view in [
            "2>Processes",
            "3>Batches",
            "4>Faults",
            "5>Latency",
            "6>Event log",
            "7>Addresses",
            "8>Devices",
            "9>Findings",
            "0>Probes",
            "1>Overview",
        ] {
            live.press(&view[..1]);
            live.wait(view, |contents| {
                let rows = contents.lines().skip(6).filter(|line| line.chars().any(char::is_alphanumeric));
                contents.contains(view) && rows.count() > 1
            });
        }
        live.press("q");
        let (status, screen) = live.end();
        assert_eq!(status.code(), Some(0), "{name}");
        assert!(screen.contains(&format!("{faults} faults")), "{name}: {screen}");
    }
}

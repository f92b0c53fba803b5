//! One command of the host: on pipes, or on a pseudo-terminal.
//!
//! Owns: the command's standard streams, its terminal and its exit code. Refuses: a second request meanwhile.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use dsascope_guest::protocol::{Frame, Request, Winsize};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    pty::openpty,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Event, Port};

/// How long output is still forwarded after the command's end: others may hold its pipes open for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(300);
const CHUNK_BYTES: usize = 64 << 10;

pub(crate) struct Spec {
    pub(crate) argv: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) tty: Option<Winsize>,
}

pub(crate) enum Ended {
    Code(i32),
    /// The host asked to power off meanwhile; the command was killed.
    Shutdown,
}

/// A started command.
struct Running {
    child: Child,
    input: Option<Sender<Vec<u8>>>,
    outputs: usize,
    terminal: Option<File>,
}

pub(crate) fn run(
    spec: Spec,
    port: &Arc<Port>,
    events: &Receiver<Event>,
    sender: &Sender<Event>,
) -> anyhow::Result<Ended> {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let quiet = Arc::new(AtomicBool::new(false));
    let pump = Pump { port: Arc::clone(port), quiet: Arc::clone(&quiet), sender: sender.clone(), request };
    let running = match spec.tty {
        Some(size) => on_terminal(&spec, size, &pump),
        None => on_pipes(&spec, &pump),
    }?;
    let ended = serve(running, request, port, events, sender);
    quiet.store(true, Ordering::Relaxed);
    ended
}

fn serve(
    running: Running,
    request: u64,
    port: &Port,
    events: &Receiver<Event>,
    sender: &Sender<Event>,
) -> anyhow::Result<Ended> {
    let Running { mut child, mut input, mut outputs, terminal } = running;
    let pid = Pid::from_raw(child.id() as i32);
    let sender = sender.clone();
    thread::spawn(move || {
        let code = child.wait().map_or(126, |s| s.code().unwrap_or(128 + s.signal().unwrap_or_default()));
        let _ = sender.send(Event::Exited(code));
    });
    let mut exited: Option<(i32, Instant)> = None;
    loop {
        let event = match exited {
            None => events.recv().context("waiting for the command")?,
            Some((code, since)) => {
                let left = LAST_OUTPUT.saturating_sub(since.elapsed());
                if outputs == 0 || left.is_zero() {
                    return Ok(Ended::Code(code));
                }
                match events.recv_timeout(left) {
                    Ok(event) => event,
                    Err(_) => return Ok(Ended::Code(code)),
                }
            }
        };
        match event {
            Event::Exited(code) => exited = Some((code, Instant::now())),
            Event::Drained(of) if of == request => outputs = outputs.saturating_sub(1),
            Event::Nonsense(error) => {
                port.send(&Frame::Stderr(format!("guest agent: {error}\n").into_bytes()))?;
            }
            Event::Broken(error) => {
                let _ = kill(pid, Signal::SIGKILL);
                bail!("reading the control port: {error}");
            }
            Event::Drained(_) => {}
            // Nothing to read means the end of the input.
            Event::Frame(Frame::Stdin(bytes)) if bytes.is_empty() => input = None,
            Event::Frame(Frame::Stdin(bytes)) => {
                if input.as_ref().is_some_and(|input| input.send(bytes).is_err()) {
                    input = None;
                }
            }
            Event::Frame(Frame::Resize(size)) => {
                if let Some(terminal) = &terminal {
                    resize(terminal, size)?;
                }
            }
            Event::Frame(Frame::Request(Request::Shutdown)) => {
                let _ = kill(pid, Signal::SIGKILL);
                return Ok(Ended::Shutdown);
            }
            Event::Frame(Frame::Request(_)) => {
                port.send(&Frame::Stderr(b"guest agent: busy, the request was dropped\n".to_vec()))?;
            }
            Event::Frame(_) => {}
        }
    }
}

fn command(spec: &Spec) -> anyhow::Result<Command> {
    let (program, arguments) = spec.argv.split_first().context("the command is empty")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(spec.env.iter().map(|(k, v)| (k, v)));
    Ok(command)
}

fn on_pipes(spec: &Spec, pump: &Pump) -> anyhow::Result<Running> {
    let mut command = command(spec)?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {:?}", spec.argv[0]))?;
    let input = child.stdin.take().map(feed);
    let mut outputs = 0;
    if let Some(stdout) = child.stdout.take() {
        pump.start(stdout, Frame::Stdout);
        outputs += 1;
    }
    if let Some(stderr) = child.stderr.take() {
        pump.start(stderr, Frame::Stderr);
        outputs += 1;
    }
    Ok(Running { child, input, outputs, terminal: None })
}

fn on_terminal(spec: &Spec, size: Winsize, pump: &Pump) -> anyhow::Result<Running> {
    let pty = openpty(None, None).context("opening a pseudo-terminal")?;
    for fd in [&pty.master, &pty.slave] {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("preparing a pseudo-terminal")?;
    }
    let master = File::from(pty.master);
    resize(&master, size)?;
    let slave = |fd: &OwnedFd| fd.try_clone().map(Stdio::from).context("copying a pseudo-terminal");
    let mut command = command(spec)?;
    command.stdin(slave(&pty.slave)?).stdout(slave(&pty.slave)?).stderr(slave(&pty.slave)?);
    // SAFETY: setsid and ioctl are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            if libc::ioctl(0, libc::TIOCSCTTY, 0) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let child = command.spawn().with_context(|| format!("starting {:?}", spec.argv[0]))?;
    // The command's last copies of the slave go with it, and then the master reads as ended.
    drop(command);
    drop(pty.slave);
    let input = feed(master.try_clone().context("copying a pseudo-terminal")?);
    pump.start(master.try_clone().context("copying a pseudo-terminal")?, Frame::Stdout);
    Ok(Running { child, input: Some(input), outputs: 1, terminal: Some(master) })
}

fn resize(terminal: &File, size: Winsize) -> anyhow::Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } != 0 {
        return Err(io::Error::last_os_error()).context("setting the terminal's size");
    }
    Ok(())
}

/// Writes to the command on a thread of its own, as the command may not read.
fn feed(mut input: impl Write + Send + 'static) -> Sender<Vec<u8>> {
    let (sender, chunks) = channel::<Vec<u8>>();
    thread::spawn(move || {
        for chunk in chunks {
            if input.write_all(&chunk).and_then(|()| input.flush()).is_err() {
                return;
            }
        }
    });
    sender
}

/// Carries outputs to the host.
struct Pump {
    port: Arc<Port>,
    /// The request has ended: what still comes belongs to none.
    quiet: Arc<AtomicBool>,
    sender: Sender<Event>,
    request: u64,
}

impl Pump {
    fn start(&self, mut output: impl Read + Send + 'static, frame: fn(Vec<u8>) -> Frame) {
        let (port, quiet, sender) = (Arc::clone(&self.port), Arc::clone(&self.quiet), self.sender.clone());
        let request = self.request;
        thread::spawn(move || {
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                let n = match output.read(&mut chunk) {
                    Ok(n) if n > 0 => n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    // A pseudo-terminal ends with an error.
                    Ok(_) | Err(_) => break,
                };
                if quiet.load(Ordering::Relaxed) || port.send(&frame(chunk[..n].to_vec())).is_err() {
                    return;
                }
            }
            let _ = sender.send(Event::Drained(request));
        });
    }
}

//! The control connection to the guest's agent: frames in, frames out, each with a time limit.
//!
//! Owns: the socket QEMU connects its virtio-serial port to, and the thread that reads it. Refuses: the meaning of a request.

use std::io::{self, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dsascope_guest::protocol::{Frame, read_frame, write_frame};

/// Frames read ahead of their consumer; beyond them the guest waits.
const READ_AHEAD: usize = 64;
/// A guest that takes nothing for this long is stuck.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// A socket that QEMU will connect to.
#[derive(Debug)]
pub struct Listener(UnixListener);

/// The connection.
#[derive(Debug)]
pub struct Control {
    sender: Sender,
    frames: Receiver<io::Result<Frame>>,
}

/// Sends frames; may be cloned to other threads (keys, window sizes).
#[derive(Clone, Debug)]
pub struct Sender(Arc<Mutex<UnixStream>>);

/// Why no frame came.
#[derive(Debug)]
pub enum Silence {
    /// The limit passed.
    Late,
    /// The port closed or carried nonsense.
    Broken(io::Error),
}

impl Listener {
    pub fn bind(path: &Path) -> Result<Self> {
        let listener =
            UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
        listener.set_nonblocking(true).context("cannot set up the control socket")?;
        Ok(Self(listener))
    }

    /// Waits for QEMU, which connects when it starts; `alive` fails when it has ended.
    pub fn accept(&self, limit: Duration, mut alive: impl FnMut() -> Result<()>) -> Result<Control> {
        let deadline = Instant::now() + limit;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => return Control::over(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("cannot accept QEMU's control connection"),
            }
            alive()?;
            if Instant::now() >= deadline {
                bail!("QEMU did not connect its control port within {} s", limit.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Control {
    /// A connection over a connected socket.
    pub fn over(stream: UnixStream) -> Result<Self> {
        stream.set_nonblocking(false).context("cannot set up the control socket")?;
        stream.set_write_timeout(Some(WRITE_LIMIT)).context("cannot set up the control socket")?;
        let reading = stream.try_clone().context("cannot share the control socket")?;
        let (sender, frames) = sync_channel(READ_AHEAD);
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || read_all(reading, &sender))
            .context("cannot start the control thread")?;
        Ok(Self { sender: Sender(Arc::new(Mutex::new(stream))), frames })
    }

    /// A handle to send with.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// The next frame, waiting until `deadline`, or for ever.
    pub fn receive(&self, deadline: Option<Instant>) -> Result<Frame, Silence> {
        let closed = || Silence::Broken(io::ErrorKind::UnexpectedEof.into());
        let received = match deadline {
            None => self.frames.recv().map_err(|_| closed())?,
            Some(deadline) => {
                match self.frames.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(received) => received,
                    Err(RecvTimeoutError::Timeout) => return Err(Silence::Late),
                    Err(RecvTimeoutError::Disconnected) => return Err(closed()),
                }
            }
        };
        received.map_err(Silence::Broken)
    }
}

impl Sender {
    pub fn send(&self, frame: &Frame) -> io::Result<()> {
        write_frame(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), frame)
    }
}

/// Hands frames on until the connection or the consumer goes away.
fn read_all(stream: UnixStream, frames: &SyncSender<io::Result<Frame>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let frame = read_frame(&mut stream);
        let last = frame.is_err();
        if frames.send(frame).is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsascope_guest::protocol::{Reply, Request, Winsize};
    use std::io::Write;

    fn pair() -> (Control, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Control::over(ours).unwrap(), theirs)
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(10))
    }

    #[test]
    fn frames_pass_both_ways_in_order() {
        let (control, mut guest) = pair();
        write_frame(&mut guest, &Frame::Stdout(b"a".to_vec())).unwrap();
        write_frame(&mut guest, &Frame::Reply(Reply::Done { code: 7 })).unwrap();
        assert!(matches!(control.receive(soon()), Ok(Frame::Stdout(bytes)) if bytes == b"a"));
        assert!(matches!(control.receive(None), Ok(Frame::Reply(Reply::Done { code: 7 }))));

        control.sender().send(&Frame::Resize(Winsize { columns: 80, rows: 24 })).unwrap();
        control.sender().send(&Frame::Request(Request::Shutdown)).unwrap();
        assert!(matches!(read_frame(&mut guest).unwrap(), Frame::Resize(Winsize { columns: 80, rows: 24 })));
        assert!(matches!(read_frame(&mut guest).unwrap(), Frame::Request(Request::Shutdown)));
    }

    #[test]
    fn a_silent_guest_is_late() {
        let (control, _guest) = pair();
        assert!(matches!(control.receive(Some(Instant::now())), Err(Silence::Late)));
    }

    #[test]
    fn a_closed_port_and_nonsense_are_errors_and_stay_so() {
        let (control, guest) = pair();
        drop(guest);
        assert!(matches!(control.receive(soon()), Err(Silence::Broken(_))));
        assert!(matches!(control.receive(soon()), Err(Silence::Broken(_))));

        let (control, mut guest) = pair();
        guest.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert!(
            matches!(control.receive(soon()), Err(Silence::Broken(error)) if error.to_string().contains("claims"))
        );
    }

    #[test]
    fn a_qemu_that_ends_before_it_connects_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&dir.path().join("control")).unwrap();
        let error = listener.accept(Duration::from_secs(10), || bail!("it ended")).unwrap_err();
        assert!(error.to_string().contains("it ended"));
    }
}

//! The unit's way to interrupt the guest: a write of its message to the address that the guest chose.
//!
//! The unit is a PCI device to the hypervisor but not to the guest's driver, which programs address and data into its registers and
//! not into an MSI-X table. So the write goes through the hypervisor's test protocol (`-qtest`), on a socket of its own: one line of
//! text a write, one line of answer.
//! Owns: that socket. Refuses: anything but interrupt messages (addresses 0xfeexxxxx).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::page_request::Message;

/// Where interrupt messages go on x86.
const INTERRUPTS: u64 = 0xfee0_0000;
const INTERRUPTS_MASK: u64 = !0xf_ffff;
/// A hypervisor that does not take a line for so long is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes interrupt messages.
pub trait Messages: Send + Sync {
    /// False when the message went nowhere.
    fn send(&self, message: Message) -> bool;
}

/// The hypervisor's end, once it has connected.
#[derive(Debug, Default)]
pub struct MessagePort {
    connection: Mutex<Option<UnixStream>>,
    stopping: AtomicBool,
}

impl Messages for MessagePort {
    fn send(&self, message: Message) -> bool {
        if message.address & INTERRUPTS_MASK != INTERRUPTS {
            log::warn!("{message:x?} is not for an interrupt controller");
            return false;
        }
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("writel {:#x} {:#x}\n", message.address, message.data);
        connection.as_mut().is_some_and(|stream| {
            let sent = stream.write_all(line.as_bytes());
            sent.inspect_err(|e| log::warn!("interrupt message: {e}")).is_ok()
        })
    }
}

/// A listening [`MessagePort`].
#[derive(Debug)]
pub struct MessageServer {
    path: PathBuf,
    port: Arc<MessagePort>,
    thread: Option<JoinHandle<()>>,
}

impl MessageServer {
    /// Listen at `path`; an old socket file there is removed.
    pub fn start(path: &Path) -> std::io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let port = Arc::<MessagePort>::default();
        let thread = std::thread::Builder::new().name("vtd-messages".to_owned()).spawn({
            let port = Arc::clone(&port);
            move || serve(&listener, &port)
        })?;
        Ok(Self { path: path.to_owned(), port, thread: Some(thread) })
    }

    #[must_use]
    pub fn port(&self) -> Arc<MessagePort> {
        Arc::clone(&self.port)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// End the connection, join the thread, remove the socket file.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.port.stopping.store(true, Ordering::SeqCst);
        if let Some(stream) = &*self.port.connection.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // Wakes accept(); when it cannot connect, the thread is not in accept().
        let _ = UnixStream::connect(&self.path);
        if thread.join().is_err() {
            log::error!("the thread of {} panicked", self.path.display());
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for MessageServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One hypervisor after the other. Its answers say nothing that is of use; they are read so that it can go on writing them.
fn serve(listener: &UnixListener, port: &MessagePort) {
    for stream in listener.incoming() {
        if port.stopping.load(Ordering::SeqCst) {
            return;
        }
        let pair = stream.and_then(|s| Ok((s.try_clone()?, s)));
        let (writer, reader) = match pair {
            Ok(pair) => pair,
            Err(e) => {
                log::warn!("interrupt messages: {e}");
                continue;
            }
        };
        let _ = writer.set_write_timeout(Some(PATIENCE));
        *port.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
        if port.stopping.load(Ordering::SeqCst) {
            return;
        }
        // A line that never ends ends the connection.
        let mut answers = BufReader::new(reader);
        while answers.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
            if answers.buffer().starts_with(b"FAIL") || answers.buffer().starts_with(b"ERR") {
                log::warn!("interrupt message: {}", String::from_utf8_lossy(answers.buffer()).trim_end());
            }
            let bytes = answers.buffer().len();
            answers.consume(bytes);
        }
        *port.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_to_whoever_connected() {
        let path = std::env::temp_dir().join(format!("dsascope-messages-{}", std::process::id()));
        let mut server = MessageServer::start(&path).unwrap();
        let port = server.port();
        let message = Message { address: 0xfee0_1000, data: 0x41 };
        assert!(!port.send(message), "nobody is there");
        let hypervisor = UnixStream::connect(&path).unwrap();
        while !port.send(message) {
            std::thread::yield_now();
        }
        let mut lines = BufReader::new(hypervisor.try_clone().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "writel 0xfee01000 0x41");
        (&hypervisor).write_all(b"OK\nFAIL Unknown command\n").unwrap();
        assert!(!port.send(Message { address: 0x1000, data: 0 }), "memory is not for messages");
        server.stop();
        assert!(!path.exists() && !port.send(message));
    }
}

//! One device's socket: accepts a connection, answers its messages, then accepts the next.
//!
//! Owns: the socket file, the thread, the checks of requests against what the device has. Refuses: more than one connection
//! at a time (a device has one machine), and going on after a malformed message.

use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::codec::{self, CodecError, Decoder, IrqAction, MAX_FDS, Message, Reply, Request};
use super::{Endpoint, Region};
use crate::memory::GuestMemory;

/// VFIO's interrupt indices.
const IRQ_MSIX: u32 = 2;
const IRQ_ERR: u32 = 3;
const IRQ_REQ: u32 = 4;
const REGIONS: u32 = 9;
const IRQS: u32 = 5;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("malformed message: {0}")]
    Malformed(#[from] CodecError),
    #[error("reading a message: {0}")]
    Read(Errno),
    #[error("more than {MAX_FDS} file descriptors in one message")]
    ControlTruncated,
    #[error("sending a reply: {0}")]
    Send(io::Error),
}

/// RAM of one machine and the number of devices connected to it.
#[derive(Debug, Default)]
pub struct Machine {
    pub memory: GuestMemory,
    connections: AtomicUsize,
}

/// A running server; [`Server::stop`] ends it.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stopping: AtomicBool,
    connection: Mutex<Option<UnixStream>>,
}

impl Server {
    /// Listen at `path` (an old socket file there is removed) and serve `endpoint` on a thread called `name`.
    pub fn start(
        name: &str,
        path: &Path,
        machine: Arc<Machine>,
        endpoint: Arc<dyn Endpoint>,
    ) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let shared = Arc::new(Shared::default());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn({
            let (shared, name) = (Arc::clone(&shared), name.to_owned());
            move || shared.serve(&name, &listener, &machine, &*endpoint)
        })?;
        Ok(Self { path: path.to_owned(), shared, thread: Some(thread) })
    }

    /// End the connection, join the thread, remove the socket file.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Some(stream) = &*self.shared.connection.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // Wakes accept(); when it cannot connect, the thread is not in accept().
        let _ = UnixStream::connect(&self.path);
        if thread.join().is_err() {
            log::error!("server thread of {} panicked", self.path.display());
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn serve(&self, name: &str, listener: &UnixListener, machine: &Machine, endpoint: &dyn Endpoint) {
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let stream = match stream {
                Ok(stream) => stream,
                Err(e) => {
                    log::warn!("{name}: accept: {e}");
                    continue;
                }
            };
            // The clone lets stop() end a blocked read.
            match stream.try_clone() {
                Ok(clone) => {
                    *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Some(clone);
                }
                Err(e) => {
                    log::warn!("{name}: cannot watch the connection: {e}");
                    continue;
                }
            }
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            if machine.connections.fetch_add(1, Ordering::SeqCst) == 0 {
                // The first device of a new machine: what an older one left is of no use.
                machine.memory.clear();
            }
            match serve_connection(&stream, machine, endpoint) {
                Ok(()) => log::debug!("{name}: disconnected"),
                Err(e) => log::warn!("{name}: connection ended: {e}"),
            }
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = None;
            machine.connections.fetch_sub(1, Ordering::SeqCst);
            endpoint.interrupts().unwire_all();
            endpoint.reset();
        }
    }
}

/// Answer messages until the peer closes (`Ok`) or does something that the protocol does not have.
pub fn serve_connection(
    stream: &UnixStream,
    machine: &Machine,
    endpoint: &dyn Endpoint,
) -> Result<(), ConnectionError> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (bytes, fds) = receive(stream, &mut buffer)?;
        if bytes == 0 {
            return Ok(());
        }
        decoder.push(&buffer[..bytes], fds);
        while let Some(message) = decoder.take()? {
            let Message { id, command, no_reply, request } = message;
            let reply = answer(request, machine, endpoint);
            if !no_reply {
                let bytes = codec::encode_reply(id, command, &reply);
                let mut to = stream;
                to.write_all(&bytes).map_err(ConnectionError::Send)?;
            } else if let Reply::Error(errno) = reply {
                log::warn!("command {command} without reply failed: {}", Errno::from_raw(errno));
            }
        }
    }
}

fn receive(stream: &UnixStream, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), ConnectionError> {
    loop {
        let mut iov = [IoSliceMut::new(buffer)];
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(stream.as_fd().as_raw_fd(), &mut iov, Some(&mut space), flags) {
            Ok(message) => message,
            Err(Errno::EINTR) => continue,
            Err(Errno::ECONNRESET) => return Ok((0, Vec::new())),
            Err(errno) => return Err(ConnectionError::Read(errno)),
        };
        let mut fds = Vec::new();
        let controls = message.cmsgs().map_err(|_| ConnectionError::ControlTruncated)?;
        for control in controls {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel has just installed these descriptors for this call, nobody else owns them.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        if message.flags.contains(MsgFlags::MSG_CTRUNC) {
            return Err(ConnectionError::ControlTruncated);
        }
        return Ok((message.bytes, fds));
    }
}

fn answer(request: Request, machine: &Machine, endpoint: &dyn Endpoint) -> Reply {
    let invalid = Reply::Error(Errno::EINVAL as i32);
    let done = Reply::Payload(Vec::new());
    match request {
        Request::Version { major: 0, .. } => Reply::Payload(codec::version_payload()),
        Request::Version { .. } => invalid,
        Request::DmaMap { offset, address, size, writable, file } => {
            // Without a file there is nothing to map: the range is for DMA by message, which the device never does.
            if let (true, Some(file)) = (writable, file)
                && let Err(e) = machine.memory.add(address, size, file, offset)
            {
                log::warn!("guest memory: {e}");
                return invalid;
            }
            done
        }
        Request::DmaUnmap { payload } => Reply::Payload(payload.to_vec()),
        // argsz, flags (reset, PCI), regions, interrupt indices
        Request::DeviceInfo => Reply::Payload(codec::words(&[16, 3, REGIONS, IRQS])),
        Request::RegionInfo { index } if index < REGIONS => {
            let bytes = Region::from_index(index).map_or(0, |region| endpoint.region_bytes(region));
            let flags = if bytes == 0 { 0 } else { 3 };
            Reply::Payload(codec::words(&[32, flags, index, 0, bytes as u32, (bytes >> 32) as u32, 0, 0]))
        }
        Request::IrqInfo { index } if index < IRQS => {
            let count = irq_count(index, endpoint);
            // eventfd, cannot be resized
            let flags = if count == 0 { 0 } else { 1 | 8 };
            Reply::Payload(codec::words(&[16, flags, index, count]))
        }
        Request::SetIrqs { index, start, action } => set_irqs(index, start, action, endpoint),
        Request::RegionRead { region, offset, count } => {
            let Some(known) = in_range(region, offset, u64::from(count), endpoint) else { return invalid };
            let mut payload = Vec::with_capacity(16 + count as usize);
            payload.extend_from_slice(&offset.to_le_bytes());
            payload.extend_from_slice(&region.to_le_bytes());
            payload.extend_from_slice(&count.to_le_bytes());
            payload.resize(16 + count as usize, 0);
            endpoint.read(known, offset, &mut payload[16..]);
            Reply::Payload(payload)
        }
        Request::RegionWrite { region, offset, data } => {
            let Some(known) = in_range(region, offset, data.len() as u64, endpoint) else { return invalid };
            endpoint.write(known, offset, &data);
            let count = data.len() as u32;
            Reply::Payload(codec::words(&[offset as u32, (offset >> 32) as u32, region, count]))
        }
        Request::Reset => {
            endpoint.reset();
            done
        }
        Request::Unknown => Reply::Error(Errno::ENOTSUP as i32),
        Request::RegionInfo { .. } | Request::IrqInfo { .. } => invalid,
    }
}

fn irq_count(index: u32, endpoint: &dyn Endpoint) -> u32 {
    match index {
        IRQ_MSIX => endpoint.interrupts().count(),
        IRQ_ERR | IRQ_REQ => 1,
        _ => 0,
    }
}

fn set_irqs(index: u32, start: u32, action: IrqAction, endpoint: &dyn Endpoint) -> Reply {
    let count = irq_count(index, endpoint);
    match action {
        // Error and release requests are never signalled; their eventfds are closed here.
        _ if index == IRQ_ERR || index == IRQ_REQ => {}
        IrqAction::DisableAll if index == IRQ_MSIX => endpoint.interrupts().unwire_all(),
        IrqAction::Wire(wires) if u64::from(start) + wires.len() as u64 <= u64::from(count) => {
            for (vector, wire) in (start..).zip(wires) {
                endpoint.interrupts().wire(vector, wire);
            }
        }
        IrqAction::Wire(_) => return Reply::Error(Errno::EINVAL as i32),
        IrqAction::DisableAll | IrqAction::Other => {}
    }
    Reply::Payload(Vec::new())
}

fn in_range(index: u32, offset: u64, count: u64, endpoint: &dyn Endpoint) -> Option<Region> {
    let region = Region::from_index(index)?;
    (offset.checked_add(count)? <= endpoint.region_bytes(region)).then_some(region)
}

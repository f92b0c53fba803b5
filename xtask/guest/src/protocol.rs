//! What the host's runner and the guest's init say to each other over one virtio-serial port.
//!
//! Owns: the framing and the messages. Refuses: running anything.
//! A frame is `length: u32 LE` (of what follows), `kind: u8`, payload. The host sends one [`Request`] at a time; the guest answers
//! with any number of output frames and ends with [`Reply::Done`]. Frames over [`MAX_FRAME`] are an error.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::scenario::Scenario;

/// Bytes; longer payloads are split by the sender.
pub const MAX_FRAME: usize = 1 << 20;

/// Name of the virtio-serial port.
pub const PORT: &str = "dsascope.control";

/// Where the guest's programs are: dsascope, and the agent under its own name beside /init.
pub const PROGRAMS: &str = "/bin";

/// Kernel modules to insert before anything else, decompressed: one path a line, dependencies first.
pub const MODULE_ORDER: &str = "/modules.list";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Winsize {
    pub columns: u16,
    pub rows: u16,
}

/// Host to guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Run a command to its end; with `tty` on a pseudo-terminal of that size.
    Exec { argv: Vec<String>, env: Vec<(String, String)>, tty: Option<Winsize> },
    /// Configure the devices, run the processes, collect the books. With `tracer`, dsascope (path and arguments) is started first
    /// and interrupted when the processes have ended; its output goes to `files` of the result.
    Scenario { scenario: Box<Scenario>, tracer: Option<Vec<String>> },
    /// Power off.
    Shutdown,
}

/// Guest to host, as frames with a kind of their own so that output needs no encoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// User space runs; the first frame after boot.
    Ready { kernel: String, uptime_ms: u64 },
    /// The request ended.
    Done { code: i32 },
    /// The next `bytes` of [`Frame::FileData`] belong to this file.
    File { name: String, bytes: u64 },
}

/// One frame.
#[derive(Clone, Debug)]
pub enum Frame {
    Request(Request),
    Reply(Reply),
    /// Empty: the end of input.
    Stdin(Vec<u8>),
    Resize(Winsize),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    FileData(Vec<u8>),
}

const REQUEST: u8 = 1;
const STDIN: u8 = 2;
const RESIZE: u8 = 3;
const REPLY: u8 = 65;
const STDOUT: u8 = 66;
const STDERR: u8 = 67;
const FILE_DATA: u8 = 68;

/// Writes one frame; payloads must fit [`MAX_FRAME`].
pub fn write_frame(out: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let json = |v: serde_json::Result<Vec<u8>>| v.map_err(io::Error::other);
    let (kind, payload) = match frame {
        Frame::Request(r) => (REQUEST, json(serde_json::to_vec(r))?),
        Frame::Reply(r) => (REPLY, json(serde_json::to_vec(r))?),
        Frame::Resize(w) => (RESIZE, json(serde_json::to_vec(w))?),
        Frame::Stdin(b) => (STDIN, b.clone()),
        Frame::Stdout(b) => (STDOUT, b.clone()),
        Frame::Stderr(b) => (STDERR, b.clone()),
        Frame::FileData(b) => (FILE_DATA, b.clone()),
    };
    if payload.len() >= MAX_FRAME {
        return Err(io::Error::other(format!("control frame of {} bytes is too long", payload.len())));
    }
    let mut bytes = Vec::with_capacity(payload.len() + 5);
    bytes.extend_from_slice(&(payload.len() as u32 + 1).to_le_bytes());
    bytes.push(kind);
    bytes.extend_from_slice(&payload);
    out.write_all(&bytes)
}

/// Reads one frame. What is framed well but means nothing is [`io::ErrorKind::InvalidData`], and reading can go on after it; after any
/// other error it cannot.
pub fn read_frame(input: &mut impl Read) -> io::Result<Frame> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length == 0 || length > MAX_FRAME {
        return Err(io::Error::other(format!("control frame claims {length} bytes")));
    }
    let mut bytes = vec![0; length];
    input.read_exact(&mut bytes)?;
    let payload = bytes.split_off(1);
    Ok(match bytes[0] {
        REQUEST => Frame::Request(serde_json::from_slice(&payload).map_err(nonsense)?),
        REPLY => Frame::Reply(serde_json::from_slice(&payload).map_err(nonsense)?),
        RESIZE => Frame::Resize(serde_json::from_slice(&payload).map_err(nonsense)?),
        STDIN => Frame::Stdin(payload),
        STDOUT => Frame::Stdout(payload),
        STDERR => Frame::Stderr(payload),
        FILE_DATA => Frame::FileData(payload),
        kind => return Err(nonsense(format!("control frame of unknown kind {kind}"))),
    })
}

fn nonsense(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

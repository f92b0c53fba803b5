//! Messages of vfio-user: bytes to [`Request`], [`Reply`] to bytes.
//!
//! Owns: every size, count and range that the protocol itself fixes. Refuses: I/O, and any message it does not fully understand;
//! what the device has (regions, vectors) is checked by the server.
//! A message is a 16-byte header (id u16, command u16, size u32 with the header, flags u32, errno u32) and a payload, all
//! little-endian.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

pub const HEADER_BYTES: usize = 16;
/// Bytes of data in one region access, announced in the reply to VERSION.
pub const MAX_TRANSFER: usize = 1 << 20;
/// Bytes of one message.
pub const MAX_MESSAGE: usize = MAX_TRANSFER + 4096;
/// File descriptors with one message, announced likewise.
pub const MAX_FDS: usize = 16;

const FLAG_TYPE: u32 = 0xf;
const FLAG_REPLY: u32 = 1;
const FLAG_NO_REPLY: u32 = 1 << 4;
const FLAG_ERROR: u32 = 1 << 5;

pub mod command {
    pub const VERSION: u16 = 1;
    pub const DMA_MAP: u16 = 2;
    pub const DMA_UNMAP: u16 = 3;
    pub const DEVICE_GET_INFO: u16 = 4;
    pub const REGION_GET_INFO: u16 = 5;
    pub const IRQ_GET_INFO: u16 = 7;
    pub const SET_IRQS: u16 = 8;
    pub const REGION_READ: u16 = 9;
    pub const REGION_WRITE: u16 = 10;
    pub const DEVICE_RESET: u16 = 13;
}

const IRQ_DATA_NONE: u32 = 1 << 0;
const IRQ_DATA_EVENTFD: u32 = 1 << 2;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    #[error("message of {0} bytes: outside {HEADER_BYTES}..={MAX_MESSAGE}")]
    Size(u32),
    #[error("message type {0} where a command was expected")]
    Type(u32),
    #[error("command {command}: payload of {got} bytes, {want} needed")]
    Payload { command: u16, got: usize, want: usize },
    #[error("command {command}: {got} file descriptors, at most {most} expected")]
    Fds { command: u16, got: usize, most: usize },
    #[error("region access of {count} bytes at {offset:#x} is too long or wraps")]
    Access { offset: u64, count: u32 },
    #[error("SET_IRQS with flags {flags:#x}, start {start}, count {count}: no such form")]
    Irqs { flags: u32, start: u32, count: u32 },
}

/// What to do with MSI-X vectors (or another interrupt index).
#[derive(Debug)]
pub enum IrqAction {
    /// Disconnect all vectors of the index.
    DisableAll,
    /// Vectors from the start number on get these; `None` disconnects.
    Wire(Vec<Option<OwnedFd>>),
    /// Mask, unmask and trigger forms: nothing to do, the hypervisor emulates the MSI-X table.
    Other,
}

#[derive(Debug)]
pub enum Request {
    Version {
        major: u16,
        minor: u16,
    },
    DmaMap {
        offset: u64,
        address: u64,
        size: u64,
        writable: bool,
        file: Option<OwnedFd>,
    },
    DmaUnmap {
        payload: [u8; 24],
    },
    DeviceInfo,
    RegionInfo {
        index: u32,
    },
    IrqInfo {
        index: u32,
    },
    SetIrqs {
        index: u32,
        start: u32,
        action: IrqAction,
    },
    RegionRead {
        region: u32,
        offset: u64,
        count: u32,
    },
    RegionWrite {
        region: u32,
        offset: u64,
        data: Vec<u8>,
    },
    Reset,
    /// A command that this server does not have: answered with ENOTSUP.
    Unknown,
}

/// A request and what its reply must carry.
#[derive(Debug)]
pub struct Message {
    pub id: u16,
    pub command: u16,
    pub no_reply: bool,
    pub request: Request,
}

/// Collects bytes and file descriptors of a stream and takes messages off its front.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// Start of what is not yet taken.
    at: usize,
    /// Stream position (in `bytes`) of the last byte of the read that each group of descriptors came with.
    fds: VecDeque<(usize, Vec<OwnedFd>)>,
}

impl Decoder {
    /// Append what one read brought. A read never reaches past a message that has descriptors, so they belong to the
    /// message of the read's last byte.
    pub fn push(&mut self, bytes: &[u8], fds: Vec<OwnedFd>) {
        self.bytes.drain(..self.at);
        for (position, _) in &mut self.fds {
            *position = position.saturating_sub(self.at);
        }
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
        if !fds.is_empty() {
            self.fds.push_back((self.bytes.len().saturating_sub(1), fds));
        }
    }

    /// The next whole message, if there is one.
    pub fn take(&mut self) -> Result<Option<Message>, CodecError> {
        let rest = &self.bytes[self.at..];
        let Some(header) = rest.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let (id, command) = (u16_at(header, 0), u16_at(header, 2));
        let (size, flags) = (u32_at(header, 4), u32_at(header, 8));
        let total = size as usize;
        if !(HEADER_BYTES..=MAX_MESSAGE).contains(&total) {
            return Err(CodecError::Size(size));
        }
        if flags & FLAG_TYPE != 0 {
            return Err(CodecError::Type(flags & FLAG_TYPE));
        }
        if rest.len() < total {
            return Ok(None);
        }
        let end = self.at + total;
        let mut fds = Vec::new();
        while self.fds.front().is_some_and(|(position, _)| *position < end) {
            fds.extend(self.fds.pop_front().into_iter().flat_map(|(_, group)| group));
        }
        let payload = &self.bytes[self.at + HEADER_BYTES..end];
        let request = decode(command, payload, fds)?;
        self.at = end;
        Ok(Some(Message { id, command, no_reply: flags & FLAG_NO_REPLY != 0, request }))
    }
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    b.get(at..at + 2).and_then(|b| b.try_into().ok()).map_or(0, u16::from_le_bytes)
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    b.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    b.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn decode(command: u16, p: &[u8], mut fds: Vec<OwnedFd>) -> Result<Request, CodecError> {
    let need = |want: usize| {
        if p.len() < want { Err(CodecError::Payload { command, got: p.len(), want }) } else { Ok(()) }
    };
    let at_most = |most: usize| {
        if fds.len() > most { Err(CodecError::Fds { command, got: fds.len(), most }) } else { Ok(()) }
    };
    at_most(match command {
        command::DMA_MAP => 1,
        command::SET_IRQS => MAX_FDS,
        _ => 0,
    })?;
    Ok(match command {
        command::VERSION => {
            need(4)?;
            Request::Version { major: u16_at(p, 0), minor: u16_at(p, 2) }
        }
        command::DMA_MAP => {
            need(32)?;
            Request::DmaMap {
                offset: u64_at(p, 8),
                address: u64_at(p, 16),
                size: u64_at(p, 24),
                writable: u32_at(p, 4) & 2 != 0,
                file: fds.pop(),
            }
        }
        command::DMA_UNMAP => {
            need(24)?;
            let mut payload = [0; 24];
            payload.copy_from_slice(&p[..24]);
            Request::DmaUnmap { payload }
        }
        command::DEVICE_GET_INFO => Request::DeviceInfo,
        command::REGION_GET_INFO => {
            need(32)?;
            Request::RegionInfo { index: u32_at(p, 8) }
        }
        command::IRQ_GET_INFO => {
            need(16)?;
            Request::IrqInfo { index: u32_at(p, 8) }
        }
        command::SET_IRQS => {
            need(20)?;
            let (flags, index) = (u32_at(p, 4), u32_at(p, 8));
            let (start, count) = (u32_at(p, 12), u32_at(p, 16));
            let action = irq_action(flags, start, count, fds)?;
            Request::SetIrqs { index, start, action }
        }
        command::REGION_READ | command::REGION_WRITE => {
            need(16)?;
            let (offset, region, count) = (u64_at(p, 0), u32_at(p, 8), u32_at(p, 12));
            if count as usize > MAX_TRANSFER || offset.checked_add(u64::from(count)).is_none() {
                return Err(CodecError::Access { offset, count });
            }
            if command == command::REGION_READ {
                Request::RegionRead { region, offset, count }
            } else {
                need(16 + count as usize)?;
                Request::RegionWrite { region, offset, data: p[16..16 + count as usize].to_vec() }
            }
        }
        command::DEVICE_RESET => Request::Reset,
        _ => Request::Unknown,
    })
}

fn irq_action(flags: u32, start: u32, count: u32, fds: Vec<OwnedFd>) -> Result<IrqAction, CodecError> {
    let bad = CodecError::Irqs { flags, start, count };
    // 2048 is the most that MSI-X has.
    if start.checked_add(count).is_none_or(|end| end > 2048) || fds.len() > count as usize {
        return Err(bad);
    }
    if flags & IRQ_DATA_EVENTFD != 0 {
        let missing = count as usize - fds.len();
        let wires = fds.into_iter().map(Some).chain((0..missing).map(|_| None)).collect();
        return Ok(IrqAction::Wire(wires));
    }
    if !fds.is_empty() {
        return Err(bad);
    }
    Ok(if flags & IRQ_DATA_NONE != 0 && count == 0 { IrqAction::DisableAll } else { IrqAction::Other })
}

/// The answer to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Payload(Vec<u8>),
    /// An errno value.
    Error(i32),
}

/// Bytes of `reply` to message `id`.
#[must_use]
pub fn encode_reply(id: u16, command: u16, reply: &Reply) -> Vec<u8> {
    let (payload, flags, errno): (&[u8], _, _) = match reply {
        Reply::Payload(payload) => (payload, FLAG_REPLY, 0),
        Reply::Error(errno) => (&[], FLAG_REPLY | FLAG_ERROR, *errno as u32),
    };
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&command.to_le_bytes());
    out.extend_from_slice(&((HEADER_BYTES + payload.len()) as u32).to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&errno.to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// VERSION 0.0 and what this side can do.
#[must_use]
pub fn version_payload() -> Vec<u8> {
    let text =
        format!("{{\"capabilities\":{{\"max_msg_fds\":{MAX_FDS},\"max_data_xfer_size\":{MAX_TRANSFER}}}}}");
    [&[0; 4], text.as_bytes(), b"\0"].concat()
}

/// Little-endian words, the form of all other replies.
#[must_use]
pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::tests::ram_file;

    fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&command.to_le_bytes());
        out.extend_from_slice(&((HEADER_BYTES + payload.len()) as u32).to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(payload);
        out
    }

    fn access(offset: u64, region: u32, count: u32, data: &[u8]) -> Vec<u8> {
        [&offset.to_le_bytes()[..], &region.to_le_bytes(), &count.to_le_bytes(), data].concat()
    }

    #[test]
    fn a_read_with_several_messages_gives_its_descriptors_to_the_last() {
        let mut map = Vec::new();
        for word in [32u64 | 3 << 32, 0x1000, 0x10_0000, 0x20_0000] {
            map.extend_from_slice(&word.to_le_bytes());
        }
        let mut bytes = message(1, command::REGION_WRITE, FLAG_NO_REPLY, &access(8, 2, 4, &[1, 2, 3, 4]));
        bytes.extend(message(2, command::DMA_MAP, 0, &map));
        let mut decoder = Decoder::default();
        decoder.push(&bytes, vec![ram_file(4096)]);
        let first = decoder.take().unwrap().unwrap();
        assert!(first.no_reply);
        assert!(matches!(first.request,
            Request::RegionWrite { region: 2, offset: 8, ref data } if data == &[1, 2, 3, 4]));
        let second = decoder.take().unwrap().unwrap();
        assert!(matches!(
            second.request,
            Request::DmaMap {
                offset: 0x1000,
                address: 0x10_0000,
                size: 0x20_0000,
                writable: true,
                file: Some(_)
            }
        ));
        assert!(decoder.take().unwrap().is_none());
    }

    #[test]
    fn malformed_messages_are_named() {
        let take = |bytes: &[u8], fds| {
            let mut decoder = Decoder::default();
            decoder.push(bytes, fds);
            decoder.take().map(|_| ()).unwrap_err()
        };
        assert_eq!(take(&message(0, command::DEVICE_RESET, 1, &[]), vec![]), CodecError::Type(1));
        assert_eq!(
            take(&message(0, command::REGION_READ, 0, &[0; 15]), vec![]),
            CodecError::Payload { command: 9, got: 15, want: 16 }
        );
        assert_eq!(
            take(&message(0, command::REGION_WRITE, 0, &access(0, 0, 8, &[0; 7])), vec![]),
            CodecError::Payload { command: 10, got: 23, want: 24 }
        );
        assert_eq!(
            take(&message(0, command::REGION_READ, 0, &access(u64::MAX, 0, 8, &[])), vec![]),
            CodecError::Access { offset: u64::MAX, count: 8 }
        );
        assert_eq!(
            take(&message(0, command::REGION_READ, 0, &access(0, 0, 1, &[])), vec![ram_file(0)]),
            CodecError::Fds { command: 9, got: 1, most: 0 }
        );
        let mut irqs = words(&[20, IRQ_DATA_EVENTFD | 0x20, 2, 0, 1]);
        assert_eq!(
            take(&message(0, command::SET_IRQS, 0, &irqs), vec![ram_file(0), ram_file(0)]),
            CodecError::Irqs { flags: 0x24, start: 0, count: 1 }
        );
        irqs[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(take(&message(0, command::SET_IRQS, 0, &irqs), vec![]), CodecError::Irqs { .. }));
        let mut long = message(0, command::DEVICE_RESET, 0, &[]);
        long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(take(&long, vec![]), CodecError::Size(u32::MAX));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(chunks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..80), 0..8)) {
            let mut decoder = Decoder::default();
            for chunk in chunks {
                decoder.push(&chunk, Vec::new());
                while let Ok(Some(_)) = decoder.take() {}
            }
        }

        #[test]
        fn arbitrary_payloads_never_panic(command in 0u16..20, flags in any::<u32>(),
            payload in proptest::collection::vec(any::<u8>(), 0..64), fds in 0usize..3) {
            let mut decoder = Decoder::default();
            let fds = (0..fds).map(|_| ram_file(0)).collect();
            decoder.push(&message(7, command, flags, &payload), fds);
            let _ = decoder.take();
        }

        #[test]
        fn writes_survive_any_fragmentation(
            writes in proptest::collection::vec((0u64..1 << 40, proptest::collection::vec(any::<u8>(), 0..70)), 1..6),
            cut in 1usize..50) {
            let stream: Vec<u8> = writes.iter().enumerate().flat_map(|(id, (offset, data))| {
                message(id as u16, command::REGION_WRITE, 0, &access(*offset, 2, data.len() as u32, data))
            }).collect();
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.push(piece, Vec::new());
                while let Some(m) = decoder.take().unwrap() {
                    if let Request::RegionWrite { offset, data, .. } = m.request {
                        prop_assert_eq!(m.id as usize, got.len());
                        got.push((offset, data));
                    }
                }
            }
            prop_assert_eq!(got, writes);
        }
    }

    #[test]
    fn replies_carry_errors_and_payloads() {
        assert_eq!(encode_reply(3, 9, &Reply::Error(22))[8..16], [0x21, 0, 0, 0, 22, 0, 0, 0]);
        let ok = encode_reply(3, 9, &Reply::Payload(vec![1, 2]));
        assert_eq!((ok[4], ok[8], ok.len()), (18, 1, 18));
        assert_eq!(version_payload()[..4], [0; 4]);
    }
}

//! Events to blocks: when one is full, what its header says, its compression.
//!
//! Owns the account of a recording: how many events and faults came before each block, and the loss ledger so far. Refuses: files.

use dsascope_core::event::{Event, SessionInfo};
use dsascope_core::ledger::Ledger;
use dsascope_core::stages::Stage;
use serde::{Deserialize, Serialize};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use crate::codec::Encoder;
use crate::layout::{BlockHeader, DICTIONARY, HEADER_BYTES, kind};

/// Events of a block at most: large enough that columns compress well, small enough to be read at once from a cache.
pub(crate) const MOST_EVENTS: u32 = 1 << 14;
/// Text of a block at most, but for the event that exceeds it.
pub(crate) const MOST_TEXT_BYTES: usize = 1 << 20;
/// Stream time that a block may span before it is written: what a killed recorder can lose.
const LONGEST_NS: u64 = 1_000_000_000;
/// Beyond this zstd costs more time than it saves bytes; figures in docs/performance.md.
const LEVEL: i32 = 3;

/// What a capture tells of itself, beside its events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// What was traced, where and by what; also the first event of the stream.
    pub session: SessionInfo,
    /// The command that was run under `record`.
    #[serde(default)]
    pub command: Vec<String>,
    /// What the flight recorder was triggered by, and when.
    #[serde(default)]
    pub trigger: Option<String>,
}

/// A block whose events are all there, not yet compressed.
#[derive(Debug)]
pub struct RawBlock {
    header: BlockHeader,
    payload: Vec<u8>,
    /// Of its events, what later ones need to be understood: opens, closes and the last snapshot.
    pub(crate) state: Vec<Event>,
}

/// A block as it lies in a file.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) header: BlockHeader,
    pub(crate) payload: Vec<u8>,
    pub(crate) state: Vec<Event>,
}

/// Puts events into blocks.
#[derive(Debug)]
pub struct Blocks {
    encoder: Encoder,
    header: BlockHeader,
    state: Vec<Event>,
    ledger: Ledger,
    holes: u64,
    events: u64,
    faults: u64,
}

impl Default for Blocks {
    fn default() -> Self {
        Self {
            encoder: Encoder::new(),
            header: BlockHeader::new(kind::EVENTS),
            state: Vec::new(),
            ledger: Ledger::default(),
            holes: 0,
            events: 0,
            faults: 0,
        }
    }
}

impl Blocks {
    /// Takes one event; gives a block when that is full.
    pub fn push(&mut self, event: &Event) -> Option<RawBlock> {
        // A serialiser that fails on an event is a defect of ours; the event is then missing and the count says so.
        let written = self.encoder.push(event).is_ok();
        debug_assert!(written, "events can be serialised");
        let at_ns = event.at_ns();
        let header = &mut self.header;
        if header.events.get() == 0 {
            (header.first_ns, header.last_ns) = (U64::new(at_ns), U64::new(at_ns));
        }
        header.first_ns = U64::new(header.first_ns.get().min(at_ns));
        header.last_ns = U64::new(header.last_ns.get().max(at_ns));
        match event {
            Event::Fault(fault) => {
                let service_ns = fault.durations().get(Stage::Service).unwrap_or(0);
                if service_ns > header.worst_ns.get() {
                    header.worst_ns = U64::new(service_ns);
                    header.worst_event = header.events;
                }
                header.faults += 1;
            }
            Event::Hole(hole) => {
                self.ledger.hole(hole);
                self.holes = self.holes.saturating_add(hole.count);
            }
            Event::Open(_) | Event::Release(_) | Event::Session(_) => self.state.push(event.clone()),
            Event::Snapshot(snapshot) => {
                self.ledger.absorb(snapshot);
                self.state.retain(|event| !matches!(event, Event::Snapshot(_)));
                self.state.push(event.clone());
            }
            _ => {}
        }
        header.events += 1;
        let full = header.events.get() >= MOST_EVENTS || self.encoder.text_bytes() >= MOST_TEXT_BYTES;
        let long = header.last_ns.get() - header.first_ns.get() >= LONGEST_NS;
        if full || long { self.flush() } else { None }
    }

    /// Events and faults in blocks so far.
    #[must_use]
    pub const fn totals(&self) -> (u64, u64) {
        (self.events, self.faults)
    }

    /// Whatever is there as a block.
    pub fn flush(&mut self) -> Option<RawBlock> {
        if self.header.events.get() == 0 {
            return None;
        }
        let mut header = std::mem::replace(&mut self.header, BlockHeader::new(kind::EVENTS));
        header.events_before = U64::new(self.events);
        header.faults_before = U64::new(self.faults);
        header.lost = U64::new(self.ledger.lost());
        header.holes = U64::new(self.holes);
        self.events += u64::from(header.events.get());
        self.faults += u64::from(header.faults.get());
        let mut payload = Vec::new();
        self.encoder.take(&mut payload);
        Some(RawBlock { header, payload, state: std::mem::take(&mut self.state) })
    }
}

impl RawBlock {
    #[must_use]
    pub const fn header(&self) -> &BlockHeader {
        &self.header
    }

    /// Events that are repeated at the beginning of a file, because those files that tell them are not there. `before`: the first
    /// block that follows.
    pub(crate) fn carried(events: &[&Event], before: &BlockHeader) -> Option<Self> {
        let mut blocks = Blocks::default();
        for event in events {
            // As when it was first told: never fails.
            let _ = blocks.encoder.push(event);
            blocks.header.events += 1;
        }
        let mut block = blocks.flush()?;
        block.header.carried = block.header.events;
        let at = before.first_ns;
        (block.header.first_ns, block.header.last_ns) = (at, at);
        block.header.events_before = before.events_before;
        block.header.faults_before = before.faults_before;
        Some(block)
    }

    /// # Errors
    /// zstd's own, for want of memory.
    pub(crate) fn compress(self) -> std::io::Result<Block> {
        let (header, payload) = pack(self.header, &self.payload)?;
        Ok(Block { header, payload, state: self.state })
    }
}

/// The header with sizes, and the payload as it is stored.
pub(crate) fn pack(mut header: BlockHeader, raw: &[u8]) -> std::io::Result<(BlockHeader, Vec<u8>)> {
    let payload = zstd::bulk::Compressor::with_dictionary(LEVEL, DICTIONARY)?.compress(raw)?;
    header.raw_bytes = U32::new(raw.len() as u32);
    header.stored_bytes = U32::new(payload.len() as u32);
    Ok((header, payload))
}

impl Block {
    pub(crate) fn bytes(&self) -> u64 {
        (HEADER_BYTES + self.payload.len()) as u64
    }

    /// As it lies in a file, as block number `sequence` of it.
    pub(crate) fn write(&self, sequence: u64, out: &mut Vec<u8>) -> BlockHeader {
        let mut header = self.header;
        header.sequence = U64::new(sequence);
        let header = header.seal(&self.payload);
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&self.payload);
        header
    }
}

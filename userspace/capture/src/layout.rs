//! The bytes of a capture that are not events: the preamble, the header of a block, the trailer. docs/capture.md has the same in words.
//!
//! Owns: places, sizes and checksums. Refuses: what lies in a block's payload.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the format that is written; all up to it are read, and newer ones refused. What raises it is in docs/capture.md.
pub const VERSION: u8 = 3;

pub(crate) const MAGIC: [u8; 8] = *b"DSASCOPE";
pub(crate) const BLOCK_MAGIC: [u8; 3] = *b"dsb";
pub(crate) const TRAILER_MAGIC: [u8; 8] = *b"DSAINDEX";

/// What stands before each payload for zstd, since version 3: the words of events' JSON, which a block a second would else spell out each
/// time. Part of the format: it never changes.
pub(crate) const DICTIONARY: &[u8] = include_bytes!("dictionary.jsonl");

/// A payload larger than this is not read: no writer makes one, so whoever did wants memory.
pub(crate) const MOST_RAW_BYTES: u32 = 64 << 20;

/// The first 16 bytes of a file.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Preamble {
    pub(crate) magic: [u8; 8],
    pub(crate) version: U16,
    pub(crate) reserved: U16,
    /// CRC32C of the 12 bytes before.
    pub(crate) crc: U32,
}

/// The last 16 bytes of a file that was ended in good order.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Trailer {
    /// Where the index block begins.
    pub(crate) index: U64,
    pub(crate) magic: [u8; 8],
}

/// What a block is.
pub(crate) mod kind {
    /// What was traced, as JSON.
    pub(crate) const HEADER: u8 = 1;
    pub(crate) const EVENTS: u8 = 2;
    /// Places and headers of all blocks before it.
    pub(crate) const INDEX: u8 = 3;
}

/// Stands before each block's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BlockHeader {
    pub(crate) magic: [u8; 3],
    /// Of the format, in each block too: the preamble's can be damaged.
    pub(crate) version: u8,
    pub(crate) kind: u8,
    pub(crate) reserved: [u8; 3],
    /// Blocks before it.
    pub(crate) sequence: U64,
    /// Bytes of the payload as they lie in the file, and after decompression.
    pub(crate) stored_bytes: U32,
    pub(crate) raw_bytes: U32,
    /// Earliest and latest time of its events.
    pub(crate) first_ns: U64,
    pub(crate) last_ns: U64,
    pub(crate) events: U32,
    pub(crate) faults: U32,
    /// Of the whole recording before this block, also what could not be written: a gap in it tells how much is missing.
    pub(crate) events_before: U64,
    pub(crate) faults_before: U64,
    /// The ledger up to the end of this block: records that the ring did not take, and holes.
    pub(crate) lost: U64,
    pub(crate) holes: U64,
    /// Longest service in this block, and which event that is.
    pub(crate) worst_ns: U64,
    pub(crate) worst_event: U32,
    /// Events at the beginning that repeat what was so before the file began.
    pub(crate) carried: U32,
    /// CRC32C of the payload as it lies in the file.
    pub(crate) payload_crc: U32,
    /// CRC32C of the bytes of this header before it.
    pub(crate) header_crc: U32,
}

pub(crate) const HEADER_BYTES: usize = size_of::<BlockHeader>();
const _: () = assert!(size_of::<Preamble>() == 16 && size_of::<Trailer>() == 16 && HEADER_BYTES == 104);

/// One entry of an index block's payload.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct IndexEntry {
    pub(crate) offset: U64,
    pub(crate) header: BlockHeader,
}

impl Preamble {
    pub(crate) fn new() -> Self {
        let mut all =
            Self { magic: MAGIC, version: U16::new(VERSION.into()), reserved: U16::ZERO, crc: U32::ZERO };
        all.crc = U32::new(crc32c::crc32c(&all.as_bytes()[..12]));
        all
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.magic == MAGIC && self.crc.get() == crc32c::crc32c(&self.as_bytes()[..12])
    }
}

impl BlockHeader {
    pub(crate) fn new(kind: u8) -> Self {
        Self { magic: BLOCK_MAGIC, version: VERSION, kind, ..Self::new_zeroed() }
    }

    fn new_zeroed() -> Self {
        zerocopy::FromZeros::new_zeroed()
    }

    /// Fills both checksums in.
    pub(crate) fn seal(mut self, payload: &[u8]) -> Self {
        self.payload_crc = U32::new(crc32c::crc32c(payload));
        self.header_crc = U32::new(self.own_crc());
        self
    }

    fn own_crc(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..HEADER_BYTES - 4])
    }

    /// The header that lies at the start of `bytes`, if it is one and is whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        let plausible = header.magic == BLOCK_MAGIC
            && (1..=VERSION).contains(&header.version)
            && header.raw_bytes.get() <= MOST_RAW_BYTES;
        (plausible && header.header_crc.get() == header.own_crc()).then_some(header)
    }

    pub(crate) fn is_payload(&self, payload: &[u8]) -> bool {
        self.payload_crc.get() == crc32c::crc32c(payload)
    }

    #[must_use]
    pub fn first_ns(&self) -> u64 {
        self.first_ns.get()
    }

    #[must_use]
    pub fn last_ns(&self) -> u64 {
        self.last_ns.get()
    }

    #[must_use]
    pub fn events(&self) -> u32 {
        self.events.get()
    }

    #[must_use]
    pub fn faults(&self) -> u32 {
        self.faults.get()
    }

    /// Longest service of a fault in this block; 0: none.
    #[must_use]
    pub fn worst_ns(&self) -> u64 {
        self.worst_ns.get()
    }

    /// Events of the recording in this block: without those that repeat what was before.
    pub(crate) fn own_events(&self) -> u64 {
        u64::from(self.events() - self.carried.get().min(self.events()))
    }

    /// Events and faults of the recording up to the end of this block.
    pub(crate) fn ends(&self) -> (u64, u64) {
        let events = self.events_before.get().saturating_add(self.own_events());
        (events, self.faults_before().saturating_add(u64::from(self.faults())))
    }

    #[must_use]
    pub fn faults_before(&self) -> u64 {
        self.faults_before.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_what_it_was() {
        let is = (DICTIONARY.len(), crc32c::crc32c(DICTIONARY));
        assert_eq!(is, (12_011, 0x7bc5_3d46), "captures of version 3 need it so");
    }
}

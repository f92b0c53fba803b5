//! A capture as the stream of events it holds, and what of it cannot be read.
//!
//! Whatever the bytes are, reading ends in events or an error: a block whose checksum is wrong is left out, its events are counted as a
//! hole in their place, and it is named in [`Capture::damage`]. Refuses: guessing what was in it.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use dsascope_core::event::{Event, Hole, HoleKind};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::block::Meta;
use crate::codec::Decoder;
use crate::layout::{
    BLOCK_MAGIC, BlockHeader, DICTIONARY, HEADER_BYTES, IndexEntry, MOST_RAW_BYTES, Preamble, TRAILER_MAGIC,
    Trailer, VERSION, kind,
};

/// Bytes looked through at once for the next block.
const SCAN_BYTES: usize = 1 << 16;
/// The file header's JSON at most.
pub(crate) const MOST_META_BYTES: u32 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("read capture at byte {offset}: {source}")]
    Io { offset: u64, source: io::Error },
    #[error("open capture: no dsascope capture (it begins with other bytes)")]
    NotACapture,
    #[error("open capture: its format {found} is newer than this dsascope, which reads up to {VERSION}")]
    Newer { found: u16 },
    #[error("open capture: the header, which says what was traced, cannot be read: {what}")]
    Header { what: String },
}

/// Something of a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins, and how long it is.
    pub offset: u64,
    pub bytes: u64,
    pub what: DamageKind,
    /// Events, and of these faults, that are missing for it, when that is known.
    pub missing: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    Preamble,
    /// The bytes of a block are not those that were written.
    Checksum,
    /// No block can be made out.
    NoBlock,
    /// The checksum is right and the content impossible.
    Malformed,
    /// The recorder could not write them: the disk was full or too slow.
    Unwritten,
    /// The end of the file is missing, or of its index: it was not ended in good order.
    Cut,
}

impl DamageKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Preamble => "the first 16 bytes are not those of a capture",
            Self::Checksum => "a block's checksum is wrong",
            Self::NoBlock => "no block can be made out",
            Self::Malformed => "a block holds what no writer writes",
            Self::Unwritten => "blocks that the recorder could not write",
            Self::Cut => "the capture was cut off or not ended",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.name();
        write!(f, "byte {}", self.offset)?;
        if self.bytes > 0 {
            write!(f, ", {} bytes", self.bytes)?;
        }
        write!(f, ": {what}")?;
        match self.missing {
            Some((events, faults)) => write!(f, "; {events} events are missing, {faults} of them faults"),
            None => f.write_str("; how many events are missing is not known"),
        }
    }
}

/// A block's place in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    header: BlockHeader,
}

/// An opened capture.
#[derive(Debug)]
pub struct Capture<R> {
    input: R,
    meta: Meta,
    places: Vec<Place>,
    damage: Vec<Damage>,
    /// The index was there and whole.
    ended: bool,
    /// Where scanning found nothing: offset and length.
    unreadable: Vec<(u64, u64)>,
    /// Of the recording, before this file.
    begins: (u64, u64),
    /// And up to its end, as the index says.
    ends: Option<(u64, u64)>,
    /// Reading: the next block, and what of the recording was told so far.
    next: usize,
    expected: (u64, u64),
    decoder: Decoder,
    /// The last event that is in no block.
    own: Event,
    now_ns: u64,
    told: Told,
    stored: Vec<u8>,
    raw: Vec<u8>,
    zstd: Zstd,
}

/// zstd's state, used again for each block.
struct Zstd(zstd::bulk::Decompressor<'static>);

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Zstd")
    }
}

/// What the stream has said beside the blocks' events.
#[derive(Debug, Default)]
struct Told {
    session: bool,
    end: bool,
    /// To be said before the next event.
    hole: Option<Hole>,
}

impl<R: Read + Seek> Capture<R> {
    /// Reads header and index; without an index, the headers of all blocks.
    ///
    /// # Errors
    /// Not a capture, a newer one, or one whose header is lost.
    pub fn open(mut input: R) -> Result<Self, ReadError> {
        let io = |offset| move |source| ReadError::Io { offset, source };
        let length = input.seek(SeekFrom::End(0)).map_err(io(0))?;
        let mut preamble = Preamble::new_zeroed();
        read_at(&mut input, 0, preamble.as_mut_bytes()).map_err(io(0))?;
        let mut damage = Vec::new();
        if !preamble.is_whole() {
            damage.push(Damage { offset: 0, bytes: 16, what: DamageKind::Preamble, missing: Some((0, 0)) });
        } else if preamble.version.get() > VERSION.into() {
            return Err(ReadError::Newer { found: preamble.version.get() });
        }
        // Payloads before version 3 know of no dictionary, and so refer to nothing of it.
        let zstd = zstd::bulk::Decompressor::with_dictionary(DICTIONARY).map_err(io(0))?;
        let mut capture = Self {
            input,
            meta: Meta::default(),
            places: Vec::new(),
            damage,
            ended: false,
            unreadable: Vec::new(),
            begins: (0, 0),
            ends: None,
            next: 0,
            expected: (0, 0),
            decoder: Decoder::default(),
            own: Event::Tick { now_ns: 0 },
            now_ns: 0,
            told: Told::default(),
            stored: Vec::new(),
            raw: Vec::new(),
            zstd: Zstd(zstd),
        };
        capture.ended = capture.read_index(length)?;
        if !capture.ended {
            capture.scan(length)?;
        }
        if capture.places.is_empty() && !capture.damage.is_empty() {
            return Err(ReadError::NotACapture);
        }
        capture.read_meta()?;
        capture.rewind();
        Ok(capture)
    }

    #[must_use]
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What cannot be read: as far as it was come upon. All of it once the last event was given.
    #[must_use]
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The recording was ended in good order and its index is whole.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        self.ended
    }

    /// Headers of the blocks of events, in order.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = &BlockHeader> {
        self.places.iter().map(|place| &place.header)
    }

    /// Time of the first and the last event, as the blocks say.
    #[must_use]
    pub fn span_ns(&self) -> Option<(u64, u64)> {
        let first = self.places.iter().map(|place| place.header.first_ns()).min()?;
        let last = self.places.iter().map(|place| place.header.last_ns()).max()?;
        Some((first, last))
    }

    /// When the fault with the longest service was told; `None` when there is none, or its block cannot be read. What is being read
    /// goes on as it was.
    ///
    /// # Errors
    /// The file itself cannot be read.
    pub fn worst(&mut self) -> Result<Option<u64>, ReadError> {
        let Some(place) = self.places.iter().max_by_key(|place| place.header.worst_ns()).copied() else {
            return Ok(None);
        };
        let mut decoder = Decoder::default();
        let (worst, events) = (place.header.worst_event.get(), place.header.events());
        if place.header.worst_ns() == 0
            || !self.read_payload(&place)?
            || decoder.load(&mut self.raw, place.header.version, events).is_err()
        {
            return Ok(None);
        }
        for _ in 0..=worst {
            if decoder.advance() != Ok(true) {
                return Ok(None);
            }
        }
        Ok(matches!(decoder.event(), Event::Fault(_)).then(|| decoder.event().at_ns()))
    }

    /// Back to the first event. Damage is told again.
    pub fn rewind(&mut self) {
        self.damage.retain(|damage| damage.what == DamageKind::Preamble);
        (self.next, self.now_ns, self.told) = (0, 0, Told::default());
        self.decoder.give_up();
        self.expected = self.begins;
    }

    /// The next event; the first is the session. What cannot be read is a hole in its place.
    ///
    /// # Errors
    /// The file itself cannot be read.
    pub fn next_event(&mut self) -> Result<Option<&Event>, ReadError> {
        if !self.told.session {
            self.told.session = true;
            self.now_ns = self.meta.session.started_ns;
            if self.begins.0 > 0 {
                let at_ns = self.places.first().map_or(self.now_ns, |place| place.header.first_ns());
                self.told.hole = Some(Hole { at_ns, what: HoleKind::CaptureBegins, count: self.begins.0 });
            }
            self.own = Event::Session(Box::new(self.meta.session.clone()));
            return Ok(Some(&self.own));
        }
        loop {
            if let Some(hole) = self.told.hole.take() {
                self.own = Event::Hole(hole);
                return Ok(Some(&self.own));
            }
            match self.decoder.advance() {
                Ok(true) => break,
                Err(_) => self.give_up_block(),
                Ok(false) if self.next < self.places.len() => self.next_block()?,
                Ok(false) if !self.told.end => {
                    self.told.end = true;
                    self.end();
                }
                Ok(false) => return Ok(None),
            }
        }
        let event = self.decoder.event();
        self.now_ns = self.now_ns.max(event.at_ns());
        Ok(Some(event))
    }

    /// What is left of the block is not to be had.
    fn give_up_block(&mut self) {
        let Some(place) = self.next.checked_sub(1).and_then(|number| self.places.get(number)) else { return };
        let missing = u64::from(self.decoder.left()) + 1;
        let bytes = u64::from(place.header.stored_bytes.get());
        let offset = place.offset;
        self.decoder.give_up();
        self.damaged(offset, bytes, DamageKind::Malformed, Some((missing, 0)));
    }

    fn damaged(&mut self, offset: u64, bytes: u64, what: DamageKind, missing: Option<(u64, u64)>) {
        self.damage.push(Damage { offset, bytes, what, missing });
        let kind = match what {
            DamageKind::Unwritten => HoleKind::CaptureUnwritten,
            DamageKind::Cut => HoleKind::CaptureCut,
            _ => HoleKind::CaptureDamaged,
        };
        let count = missing.map_or(1, |(events, _)| events);
        if count > 0 {
            self.told.hole = Some(Hole { at_ns: self.now_ns, what: kind, count });
        }
    }

    fn next_block(&mut self) -> Result<(), ReadError> {
        let place = self.places[self.next];
        let header = place.header;
        let (events_before, faults_before) = before(&header);
        let (events, faults) = self.expected;
        if events_before > events {
            let missing = Some((events_before - events, faults_before.saturating_sub(faults)));
            self.expected = (events_before, faults_before);
            let from = self.next.checked_sub(1).map_or(0, |number| end(&self.places[number]));
            let lost = self.unreadable.iter().find(|(offset, _)| (from..place.offset).contains(offset));
            match lost.copied() {
                Some((offset, bytes)) => self.damaged(offset, bytes, DamageKind::NoBlock, missing),
                None => self.damaged(place.offset, 0, DamageKind::Unwritten, missing),
            }
            return Ok(());
        }
        self.next += 1;
        self.expected = header.ends();
        let what = match self.read_payload(&place)? {
            true if self.decoder.load(&mut self.raw, header.version, header.events()).is_ok() => {
                return Ok(());
            }
            true => DamageKind::Malformed,
            false => DamageKind::Checksum,
        };
        let missing = Some((u64::from(header.events()), u64::from(header.faults())));
        self.damaged(place.offset, u64::from(header.stored_bytes.get()), what, missing);
        Ok(())
    }

    fn end(&mut self) {
        let last = self.places.last().map_or(16, end);
        for &(offset, bytes) in self.unreadable.clone().iter().filter(|&&(offset, _)| offset >= last) {
            self.damage.push(Damage { offset, bytes, what: DamageKind::NoBlock, missing: None });
        }
        let (events, faults) = self.expected;
        match self.ends {
            _ if !self.ended => self.damaged(last, 0, DamageKind::Cut, None),
            Some(ends) if ends.0 > events => {
                let missing = Some((ends.0 - events, ends.1.saturating_sub(faults)));
                self.damaged(last, 0, DamageKind::Unwritten, missing);
            }
            _ => {}
        }
    }

    /// The payload of a block into `raw`; false when it is not what was written.
    fn read_payload(&mut self, place: &Place) -> Result<bool, ReadError> {
        let header = &place.header;
        let offset = place.offset + HEADER_BYTES as u64;
        self.stored.resize(header.stored_bytes.get() as usize, 0);
        match read_at(&mut self.input, offset, &mut self.stored) {
            Ok(read) if read == self.stored.len() => {}
            Ok(_) => return Ok(false),
            Err(source) => return Err(ReadError::Io { offset, source }),
        }
        if !header.is_payload(&self.stored) {
            return Ok(false);
        }
        self.raw.clear();
        self.raw.reserve(header.raw_bytes.get() as usize);
        let done = self.zstd.0.decompress_to_buffer(&self.stored, &mut self.raw);
        Ok(done.is_ok_and(|bytes| bytes == header.raw_bytes.get() as usize))
    }

    /// Places from the index, when there is one and it is whole.
    fn read_index(&mut self, length: u64) -> Result<bool, ReadError> {
        let io = |offset| move |source| ReadError::Io { offset, source };
        let mut trailer = Trailer::new_zeroed();
        let Some(at) = length.checked_sub(size_of::<Trailer>() as u64) else { return Ok(false) };
        read_at(&mut self.input, at, trailer.as_mut_bytes()).map_err(io(at))?;
        let offset = trailer.index.get();
        if trailer.magic != TRAILER_MAGIC || offset >= at {
            return Ok(false);
        }
        let Some(place) = self.header_at(offset, at)? else { return Ok(false) };
        if place.header.kind != kind::INDEX || end(&place) != at || !self.read_payload(&place)? {
            return Ok(false);
        }
        let mut places = Vec::new();
        let mut from = 0;
        let (entries, rest) = self.raw.as_chunks::<{ size_of::<IndexEntry>() }>();
        for bytes in entries {
            let Ok(entry) = IndexEntry::read_from_bytes(bytes) else { return Ok(false) };
            let place = Place { offset: entry.offset.get(), header: entry.header };
            let whole = BlockHeader::read(entry.header.as_bytes()).is_some();
            if !whole || place.offset < from || end(&place) > offset {
                return Ok(false);
            }
            from = end(&place);
            places.push(place);
        }
        self.places = places;
        self.ends = Some(before(&place.header));
        Ok(rest.is_empty())
    }

    /// Places from the blocks' own headers, with the search for the next one where there is none.
    fn scan(&mut self, length: u64) -> Result<(), ReadError> {
        self.places.clear();
        let mut offset = 16;
        while offset < length {
            if let Some(place) = self.header_at(offset, length)? {
                offset = end(&place);
                self.places.push(place);
                continue;
            }
            let next = self.find_block(offset + 1, length)?;
            self.unreadable.push((offset, next - offset));
            offset = next;
        }
        Ok(())
    }

    /// A whole block header at `offset` whose payload ends before `limit`.
    fn header_at(&mut self, offset: u64, limit: u64) -> Result<Option<Place>, ReadError> {
        let mut bytes = [0; HEADER_BYTES];
        let read = read_at(&mut self.input, offset, &mut bytes)
            .map_err(|source| ReadError::Io { offset, source })?;
        let place = BlockHeader::read(&bytes[..read]).map(|header| Place { offset, header });
        Ok(place.filter(|place| end(place) <= limit))
    }

    /// Where the next whole header lies, or the file's end.
    fn find_block(&mut self, from: u64, length: u64) -> Result<u64, ReadError> {
        let mut window = vec![0; SCAN_BYTES + HEADER_BYTES];
        let mut at = from;
        while at < length {
            let read = read_at(&mut self.input, at, &mut window)
                .map_err(|source| ReadError::Io { offset: at, source })?;
            for place in memchr::memmem::find_iter(&window[..read], &BLOCK_MAGIC) {
                let offset = at + place as u64;
                if place < SCAN_BYTES && self.header_at(offset, length)?.is_some() {
                    return Ok(offset);
                }
            }
            at += SCAN_BYTES as u64;
        }
        Ok(length)
    }

    /// The file's header, from the first block that holds one; leaves blocks of events alone in `places`.
    fn read_meta(&mut self) -> Result<(), ReadError> {
        let headers: Vec<Place> =
            self.places.iter().filter(|place| place.header.kind == kind::HEADER).copied().collect();
        self.places.retain(|place| place.header.kind == kind::EVENTS);
        let mut what = "it is not there".to_owned();
        for place in headers.iter().filter(|place| place.header.raw_bytes.get() <= MOST_META_BYTES) {
            if !self.read_payload(place)? {
                "its checksum is wrong".clone_into(&mut what);
                continue;
            }
            match serde_json::from_slice(&self.raw) {
                Ok(meta) => {
                    self.meta = meta;
                    self.begins = before(&place.header);
                    return Ok(());
                }
                Err(error) => what = error.to_string(),
            }
        }
        Err(ReadError::Header { what })
    }
}

/// Events and faults of the recording before a block.
fn before(header: &BlockHeader) -> (u64, u64) {
    (header.events_before.get(), header.faults_before())
}

fn end(place: &Place) -> u64 {
    place.offset.saturating_add(HEADER_BYTES as u64 + u64::from(place.header.stored_bytes.get()))
}

/// Reads as much of `into` as there is.
fn read_at(input: &mut (impl Read + Seek), offset: u64, into: &mut [u8]) -> io::Result<usize> {
    input.seek(SeekFrom::Start(offset))?;
    let mut read = 0;
    while read < into.len() {
        match input.read(&mut into[read..]) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

const _: () = assert!(MOST_META_BYTES <= MOST_RAW_BYTES);

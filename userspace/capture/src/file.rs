//! A capture being written: blocks, then the index.
//!
//! Keeps the file whole at every moment: what a failed write left behind is cut off again. Refuses: deciding which blocks.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use crate::block::{Block, Meta, pack};
use crate::layout::{BlockHeader, HEADER_BYTES, IndexEntry, Preamble, TRAILER_MAGIC, Trailer, kind};

/// A file that grows block by block.
#[derive(Debug)]
pub(crate) struct CaptureFile {
    path: PathBuf,
    file: File,
    /// Bytes that are whole.
    length: u64,
    sequence: u64,
    index: Vec<IndexEntry>,
    /// Written again before the index, for files whose beginning is damaged.
    meta: Block,
    buffer: Vec<u8>,
    /// Events of the recording up to the end of the file, but for those that are missing in it.
    told: u64,
}

impl CaptureFile {
    /// A capture's header in an empty file. `begins`: events and faults of the recording before it.
    pub(crate) fn begin(path: &Path, file: File, meta: &Meta, begins: (u64, u64)) -> io::Result<Self> {
        let json = serde_json::to_vec(meta)?;
        let mut header = BlockHeader::new(kind::HEADER);
        (header.events_before, header.faults_before) = (U64::new(begins.0), U64::new(begins.1));
        let (header, payload) = pack(header, &json)?;
        let mut all = Self {
            path: path.to_owned(),
            file,
            length: 0,
            sequence: 0,
            index: Vec::new(),
            meta: Block { header, payload, state: Vec::new() },
            buffer: Preamble::new().as_bytes().to_vec(),
            told: begins.0,
        };
        let header = all.meta.write(0, &mut all.buffer);
        all.write_buffer()?;
        all.took(16, header);
        Ok(all)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It holds more than its header.
    pub(crate) fn has_events(&self) -> bool {
        self.sequence > 1
    }

    /// Events of the recording up to here, less those that are missing in the file.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// Bytes of the file as it would be if it ended now.
    pub(crate) fn bytes(&self) -> u64 {
        let index = (self.index.len() + 1) * size_of::<IndexEntry>() + HEADER_BYTES + size_of::<Trailer>();
        self.length + self.meta.bytes() + index as u64
    }

    /// # Errors
    /// The block is not in the file, and the file is as it was.
    pub(crate) fn append(&mut self, block: &Block) -> io::Result<()> {
        self.buffer.clear();
        let offset = self.length;
        let header = block.write(self.sequence, &mut self.buffer);
        self.write_buffer()?;
        self.took(offset, header);
        self.told += header.own_events();
        Ok(())
    }

    /// Header again, index and trailer, and all of it to the disk. `ends`: events and faults of the recording up to here, with those that
    /// could not be written.
    pub(crate) fn end(mut self, ends: (u64, u64)) -> io::Result<(PathBuf, u64)> {
        self.buffer.clear();
        let offset = self.length;
        let header = self.meta.write(self.sequence, &mut self.buffer);
        self.took(offset, header);
        let mut payload = Vec::new();
        for entry in &self.index {
            payload.extend_from_slice(entry.as_bytes());
        }
        let mut header = BlockHeader::new(kind::INDEX);
        (header.events_before, header.faults_before) = (U64::new(ends.0), U64::new(ends.1));
        let (header, payload) = pack(header, &payload)?;
        let index = Block { header, payload, state: Vec::new() };
        let place = offset + self.buffer.len() as u64;
        index.write(self.sequence, &mut self.buffer);
        let trailer = Trailer { index: U64::new(place), magic: TRAILER_MAGIC };
        self.buffer.extend_from_slice(trailer.as_bytes());
        self.write_buffer()?;
        self.file.sync_all()?;
        Ok((self.path, self.length))
    }

    fn took(&mut self, offset: u64, header: BlockHeader) {
        self.index.push(IndexEntry { offset: U64::new(offset), header });
        self.sequence += 1;
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        if written.is_ok() {
            self.length += self.buffer.len() as u64;
        } else {
            // Half a block would end the file for a reader without an index.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
        }
        written
    }
}

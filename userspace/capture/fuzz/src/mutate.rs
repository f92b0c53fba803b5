//! Changes behind the checksums: of one block's header, its payload before compression or the values of its columns, and then a file that
//! is whole again.
//!
//! Written after docs/capture.md, not with the crate's own structures: this is a second reader of that document.

use libfuzzer_sys::fuzzer_mutate;

const PREAMBLE: usize = 16;
const HEADER: usize = 104;
const EVENTS: u8 = 2;
const INDEX: u8 = 3;
/// How many columns each version has.
const COLUMNS: [usize; 3] = [54, 73, 74];
const DICTIONARY: &[u8] = include_bytes!("../../src/dictionary.jsonl");
/// A payload is not changed beyond this.
const MOST_RAW: usize = 1 << 18;

/// Where the header of a block has what the file's own bytes decide.
const STORED_BYTES: usize = 16;
const RAW_BYTES: usize = 20;
const PAYLOAD_CRC: usize = 96;
const HEADER_CRC: usize = 100;

struct Block {
    header: [u8; HEADER],
    raw: Vec<u8>,
}

/// A file like `file` with one block changed; `None`: it has none that can be, or became too large.
pub fn behind_the_checksums(file: &[u8], seed: u32, most: usize) -> Option<Vec<u8>> {
    let mut blocks = blocks(file);
    let mut numbers = Numbers(u64::from(seed) << 1 | 1);
    let number = numbers.below(blocks.len());
    let block = blocks.get_mut(number)?;
    match numbers.below(8) {
        0 => {
            fuzzer_mutate(&mut block.header, HEADER, HEADER);
        }
        1 if number > 0 => {
            // Another place for it.
            let block = blocks.remove(number);
            blocks.insert(number - 1, block);
        }
        2..=5 if block.header[4] == EVENTS => {
            let version = usize::from(block.header[3]);
            let columns = COLUMNS.get(version.wrapping_sub(1)).copied().unwrap_or_default();
            change_values(&mut block.raw, columns, &mut numbers)?;
        }
        _ => {
            let size = block.raw.len();
            let room = (size + size / 2 + 64).min(MOST_RAW.max(size));
            block.raw.resize(room, 0);
            let size = fuzzer_mutate(&mut block.raw, size, room);
            block.raw.truncate(size);
        }
    }
    let whole = write(file, &blocks, numbers.below(2) == 0)?;
    (whole.len() <= most).then_some(whole)
}

/// xorshift64*
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 for a `most` of 0.
    fn below(&mut self, most: usize) -> usize {
        ((self.next() >> 32) % most.max(1) as u64) as usize
    }
}

/// Changes up to four values of the columns of a payload of events.
fn change_values(raw: &mut Vec<u8>, stored: usize, numbers: &mut Numbers) -> Option<()> {
    let mut columns = Vec::new();
    let mut rest = &raw[..];
    for _ in 0..stored {
        let (count, after) = rest.split_first_chunk()?;
        let (&width, after) = after.split_first()?;
        let count = u32::from_le_bytes(*count) as usize;
        if count > MOST_RAW {
            return None;
        }
        let (planes, after) = after.split_at_checked(count.checked_mul(width.into())?)?;
        let mut column = vec![0u64; count];
        for (number, plane) in planes.chunks_exact(count.max(1)).take(8).enumerate() {
            column.iter_mut().zip(plane).for_each(|(value, &byte)| *value |= u64::from(byte) << (8 * number));
        }
        columns.push(column);
        rest = after;
    }
    for _ in 0..=numbers.below(4) {
        let filled: Vec<usize> = (0..stored).filter(|&column| !columns[column].is_empty()).collect();
        let column = columns.get_mut(*filled.get(numbers.below(filled.len()))?)?;
        let place = numbers.below(column.len());
        let value = column[place];
        match numbers.below(8) {
            0 => column[place] = numbers.next(),
            1 => column[place] = u64::MAX,
            2 => column[place] = numbers.next() & 7,
            3 => column[place] = value.wrapping_add(1),
            4 => column[place] = value.wrapping_sub(1),
            5 => column[place] = value ^ 1 << numbers.below(64),
            6 => drop(column.remove(place)),
            _ => column.insert(place, value),
        }
    }
    let text = rest.to_vec();
    raw.clear();
    for column in &columns {
        raw.extend_from_slice(&(column.len() as u32).to_le_bytes());
        let all = column.iter().fold(0, |all, value| all | value);
        let width = (u64::BITS - all.leading_zeros()).div_ceil(8);
        raw.push(width as u8);
        (0..width).for_each(|plane| raw.extend(column.iter().map(|value| (value >> (8 * plane)) as u8)));
    }
    raw.extend_from_slice(&text);
    Some(())
}

/// The blocks of `file` but for the index, as far as they follow each other.
fn blocks(file: &[u8]) -> Vec<Block> {
    let mut all = Vec::new();
    let Ok(mut zstd) = zstd::bulk::Decompressor::with_dictionary(DICTIONARY) else { return all };
    let mut rest = file.get(PREAMBLE..).unwrap_or_default();
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let stored = number(header, STORED_BYTES);
        let Some((payload, after)) = after.split_at_checked(stored) else { break };
        let Ok(raw) = zstd.decompress(payload, number(header, RAW_BYTES).min(MOST_RAW)) else { break };
        if header[4] != INDEX {
            all.push(Block { header: *header, raw });
        }
        rest = after;
    }
    all
}

/// The file of these blocks, with an index or as if it had been cut off.
fn write(file: &[u8], blocks: &[Block], ended: bool) -> Option<Vec<u8>> {
    let mut whole = file[..PREAMBLE].to_vec();
    let mut index = Vec::new();
    for block in blocks {
        let offset = whole.len() as u64;
        let header = append(&mut whole, block)?;
        index.extend_from_slice(&offset.to_le_bytes());
        index.extend_from_slice(&header);
    }
    if ended {
        let offset = whole.len() as u64;
        let mut header = blocks.first()?.header;
        header[4] = INDEX;
        append(&mut whole, &Block { header, raw: index })?;
        whole.extend_from_slice(&offset.to_le_bytes());
        whole.extend_from_slice(b"DSAINDEX");
    }
    Some(whole)
}

/// Appends a block with sizes and checksums as they have to be; gives its header.
fn append(whole: &mut Vec<u8>, block: &Block) -> Option<[u8; HEADER]> {
    let payload = zstd::bulk::compress(&block.raw, 1).ok()?;
    let mut header = block.header;
    let mut put = |at: usize, value: u32| header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    put(STORED_BYTES, payload.len() as u32);
    put(RAW_BYTES, block.raw.len() as u32);
    put(PAYLOAD_CRC, crc32c::crc32c(&payload));
    let crc = crc32c::crc32c(&header[..HEADER_CRC]);
    header[HEADER_CRC..].copy_from_slice(&crc.to_le_bytes());
    whole.extend_from_slice(&header);
    whole.extend_from_slice(&payload);
    Some(header)
}

fn number(header: &[u8; HEADER], at: usize) -> usize {
    let bytes = header[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
    bytes as usize
}

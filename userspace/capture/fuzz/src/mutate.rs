//! Changes behind the checksums: one block's header or its payload before compression, and then a file that is whole again.
//!
//! Written after docs/capture.md, not with the crate's own structures: this is a second reader of that document.

use libfuzzer_sys::fuzzer_mutate;

const PREAMBLE: usize = 16;
const HEADER: usize = 104;
const INDEX: u8 = 3;
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
    let number = (seed >> 3) as usize % blocks.len().max(1);
    let block = blocks.get_mut(number)?;
    match seed & 3 {
        0 => {
            fuzzer_mutate(&mut block.header, HEADER, HEADER);
        }
        1 if number > 0 => {
            // Another place for it.
            let block = blocks.remove(number);
            blocks.insert(number - 1, block);
        }
        _ => {
            let size = block.raw.len();
            let room = (size + size / 2 + 64).min(MOST_RAW.max(size));
            block.raw.resize(room, 0);
            let size = fuzzer_mutate(&mut block.raw, size, room);
            block.raw.truncate(size);
        }
    }
    let whole = write(file, &blocks, seed & 4 != 0)?;
    (whole.len() <= most).then_some(whole)
}

/// The blocks of `file` but for the index, as far as they follow each other.
fn blocks(file: &[u8]) -> Vec<Block> {
    let mut all = Vec::new();
    let mut rest = file.get(PREAMBLE..).unwrap_or_default();
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let stored = number(header, STORED_BYTES);
        let Some((payload, after)) = after.split_at_checked(stored) else { break };
        let Ok(raw) = zstd::bulk::decompress(payload, number(header, RAW_BYTES).min(MOST_RAW)) else { break };
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

//! Compression in one pass with the codes of the AECS.
//!
//! Owns: matching within 4096 bytes, as IAA's history has, and encoding. No library: none takes the caller's Huffman codes, which are what
//! a job of IAA is about. The stream is what stands in the AECS' accumulator (a block's header), the data, and the end that the flags ask
//! for. Which matches are found is this model's choice; the stream is valid with any.
//! Not modelled: more than the top of [`super`] says, output that is not flushed to a byte's end.

use dsascope_common::hw::descriptor::Descriptor;
use dsascope_common::hw::operation::Iax;
use dsascope_common::hw::operation::iax::{self, compress_aecs as aecs, error};

use super::{Checksums, Output, Stop, ended, u32_at};
use crate::dsa::ops::{Context, Outcome};

const HISTORY: usize = 4096;
/// Bytes matched at a time, after the history before them.
const BLOCK: usize = 1 << 15;
const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
/// Earlier places looked at for a match.
const ATTEMPTS: usize = 16;
const HASH_BITS: u32 = 12;
const NONE: usize = usize::MAX;
const END_OF_BLOCK: usize = 256;

const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195,
    227, 258,
];
const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
/// Up to the history's 4096.
const DISTANCE_BASE: [u16; 24] =
    [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073];

impl Context<'_> {
    pub(in crate::dsa::ops) fn compress(&self, d: &Descriptor) -> Outcome {
        let mut table = vec![0; aecs::BYTES];
        let mut output = Output::new(self, d);
        let own = Iax::from_words(&d.operation_specific);
        if let Err(fault) = self.read(own.source2, &mut table) {
            return Outcome::faulted(fault, 0);
        }
        let mut checksums = Checksums::new(d, u32_at(&table, 0), u32_at(&table, 4) as u16);
        let mut encoder = Encoder { table: &table, output: &mut output, bits: 0, count: 0 };
        let mut done = 0;
        let end = encoder
            .accumulated()
            .and_then(|()| self.tokens(d, &mut encoder, &mut checksums, &mut done))
            .and_then(|()| encoder.finish(d.reserved));
        // Going on needs the AECS written, without which there is no "output full" to go on from.
        let end = end.map_err(|stop| match stop {
            Stop::Overflow => Stop::Analytics(error::OUTPUT_OVERFLOW),
            other => other,
        });
        ended(end.map(drop), done, &output, end.unwrap_or(0), checksums)
    }

    fn tokens(
        &self,
        d: &Descriptor,
        encoder: &mut Encoder<'_, '_>,
        checksums: &mut Checksums,
        done: &mut u64,
    ) -> Result<(), Stop> {
        let size = u64::from(d.transfer_size);
        let literals_only = d.reserved & iax::COMPRESS_LITERALS_ONLY != 0;
        let mut window = Vec::new();
        while *done < size {
            let n = (size - *done).min(BLOCK as u64) as usize;
            let history = window.len().min(HISTORY);
            window.drain(..window.len() - history);
            window.resize(history + n, 0);
            self.read(d.source.wrapping_add(*done), &mut window[history..])?;
            checksums.update(&window[history..]);
            if literals_only {
                window[history..].iter().try_for_each(|byte| encoder.literal(usize::from(*byte)))?;
            } else {
                matches(&window, history, encoder)?;
            }
            *done += n as u64;
        }
        Ok(())
    }
}

/// Tokens for the bytes from `start` on; those before it are history.
fn matches(window: &[u8], start: usize, encoder: &mut Encoder<'_, '_>) -> Result<(), Stop> {
    let mut places = Places { newest: vec![NONE; 1 << HASH_BITS], older: vec![NONE; window.len()] };
    (0..start).for_each(|at| places.enter(window, at));
    let mut at = start;
    while at < window.len() {
        places.enter(window, at);
        let mut best = (0, 0);
        let mut earlier = places.older[at];
        for _ in 0..ATTEMPTS {
            if earlier == NONE || at - earlier > HISTORY {
                break;
            }
            let pairs = window[earlier..].iter().zip(&window[at..]);
            let length = pairs.take(MAX_MATCH).take_while(|(a, b)| a == b).count();
            if length > best.0 {
                best = (length, at - earlier);
            }
            earlier = places.older[earlier];
        }
        if best.0 < MIN_MATCH {
            encoder.literal(usize::from(window[at]))?;
            at += 1;
            continue;
        }
        encoder.pair(best.0, best.1)?;
        (at + 1..at + best.0).for_each(|inside| places.enter(window, inside));
        at += best.0;
    }
    Ok(())
}

/// Where the three bytes at a place stood before.
struct Places {
    newest: Vec<usize>,
    older: Vec<usize>,
}

impl Places {
    fn enter(&mut self, window: &[u8], at: usize) {
        if let Some([a, b, c]) = window.get(at..).and_then(<[u8]>::first_chunk) {
            let key = u32::from_le_bytes([*a, *b, *c, 0]).wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS);
            self.older[at] = std::mem::replace(&mut self.newest[key as usize], at);
        }
    }
}

/// Codes to bits, least significant first.
struct Encoder<'a, 'b> {
    table: &'a [u8],
    output: &'a mut Output<'b>,
    bits: u64,
    count: u32,
}

impl Encoder<'_, '_> {
    /// At most 32 bits at a time.
    fn put(&mut self, value: u32, count: u32) -> Result<(), Stop> {
        self.bits |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.output.push(&[self.bits as u8])?;
            self.bits >>= 8;
            self.count -= 8;
        }
        Ok(())
    }

    /// A Huffman code goes out most significant bit first.
    fn code(&mut self, at: usize) -> Result<(), Stop> {
        let entry = u32_at(self.table, at);
        let length = entry >> 15 & 0xf;
        if length == 0 {
            return Err(Stop::Analytics(error::INVALID_HUFFMAN_CODE));
        }
        let code = (entry & 0x7fff).reverse_bits() >> (32 - length);
        self.put(code, length)
    }

    /// What the AECS wants at the stream's beginning.
    fn accumulated(&mut self) -> Result<(), Stop> {
        let bits = u32_at(self.table, aecs::ACCUMULATOR_BITS) as usize;
        if bits > aecs::ACCUMULATOR_BYTES * 8 {
            return Err(Stop::Analytics(error::AECS));
        }
        let table = self.table;
        let bytes = &table[aecs::ACCUMULATOR..aecs::ACCUMULATOR + aecs::ACCUMULATOR_BYTES];
        self.output.push(&bytes[..bits / 8])?;
        match bits % 8 {
            0 => Ok(()),
            rest => self.put(u32::from(bytes[bits / 8]) & ((1 << rest) - 1), rest as u32),
        }
    }

    /// A byte, or the end of a block.
    fn literal(&mut self, symbol: usize) -> Result<(), Stop> {
        self.code(aecs::LITERAL_CODES + symbol * 4)
    }

    fn pair(&mut self, length: usize, distance: usize) -> Result<(), Stop> {
        let symbol = LENGTH_BASE.partition_point(|base| usize::from(*base) <= length) - 1;
        self.literal(END_OF_BLOCK + 1 + symbol)?;
        self.put((length - usize::from(LENGTH_BASE[symbol])) as u32, u32::from(LENGTH_EXTRA[symbol]))?;
        let symbol = DISTANCE_BASE.partition_point(|base| usize::from(*base) <= distance) - 1;
        self.code(aecs::DISTANCE_CODES + symbol * 4)?;
        let extra = (symbol as u32 / 2).saturating_sub(1);
        self.put((distance - usize::from(DISTANCE_BASE[symbol])) as u32, extra)
    }

    /// Bits used of the last byte, 0 for all.
    fn finish(&mut self, compression_flags: u16) -> Result<u8, Stop> {
        let end = (compression_flags & iax::COMPRESS_END) >> iax::COMPRESS_END_SHIFT;
        if end > 0 {
            self.literal(END_OF_BLOCK)?;
        }
        if end > 1 {
            // An empty stored block: final or not, type 0, to the byte's end, length and its complement.
            self.put(u32::from(end == 3), 3)?;
            self.pad()?;
            self.output.push(&[0, 0, 0xff, 0xff])?;
        }
        let bits = self.count as u8;
        self.pad()?;
        self.output.flush()?;
        Ok(bits)
    }

    fn pad(&mut self) -> Result<(), Stop> {
        let missing = self.count.next_multiple_of(8) - self.count;
        self.put(0, missing)
    }
}

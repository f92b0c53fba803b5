//! Deflate streams for IAA, and the state that a compression begins with.
//!
//! Owns: one set of Huffman codes, the fixed ones. Refuses: matches further back than IAA's history of 4096 bytes.

use dsascope_common::hw::operation::iax::compress_aecs as aecs;
use miniz_oxide::deflate::core::{
    CompressorOxide, TDEFLFlush, TDEFLStatus, compress, deflate_flags::TDEFL_RLE_MATCHES,
};

/// Matches of distance 1 alone.
pub(crate) fn deflate(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; data.len() * 2 + 256];
    let mut compressor = CompressorOxide::new(TDEFL_RLE_MATCHES | 1);
    let (state, _, written) = compress(&mut compressor, data, &mut out, TDEFLFlush::Finish);
    out.truncate(if state == TDEFLStatus::Done { written } else { 0 });
    out
}

pub(crate) fn inflate(stream: &[u8]) -> Option<Vec<u8>> {
    miniz_oxide::inflate::decompress_to_vec(stream).ok()
}

/// The AECS of a compression into one final block of fixed codes (RFC 1951, 3.2.6).
pub(crate) fn fixed_codes() -> Vec<u8> {
    let mut bytes = vec![0; aecs::BYTES];
    let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    // The block's header: final, fixed codes.
    put(aecs::ACCUMULATOR_BITS, 3);
    put(aecs::ACCUMULATOR, 0b011);
    for symbol in 0..aecs::LITERALS as u32 {
        let (length, code) = match symbol {
            0..144 => (8, 0x30 + symbol),
            144..256 => (9, 0x190 + symbol - 144),
            256..280 => (7, symbol - 256),
            _ => (8, 0xc0 + symbol - 280),
        };
        put(aecs::LITERAL_CODES + symbol as usize * 4, length << 15 | code);
    }
    for symbol in 0..aecs::DISTANCES as u32 {
        put(aecs::DISTANCE_CODES + symbol as usize * 4, 5 << 15 | symbol);
    }
    bytes
}

//! What each operation keeps in its own part of a descriptor (24 bytes at 40) and of a completion record (at 16).
//!
//! Owns: fields, flags and which bits are reserved. The reserved bits are those to which the kernel's uapi gives no name.
//! Unverified (not in the uapi; from Intel's public libraries): the flag bits of [`fill`], [`crc`] and [`iax`], the meaning of DIF flags
//! and results.

/// The operation's own part of a descriptor.
pub type Words = [u64; 3];

/// Nothing is defined.
pub const ALL_RESERVED: Words = [!0; 3];

const HIGH: u64 = !0 << 32;

/// Compare and compare with a pattern: the result that was expected, in byte 0.
pub mod compare {
    use super::Words;
    pub const RESERVED: Words = [!0xff, !0, !0];
}

/// Memory fill.
pub mod fill {
    use super::Words;
    /// Flag: the pattern has 16 bytes, the upper eight in the first word.
    pub const FLAG_PATTERN_16: u32 = 1 << 16;
    pub const RESERVED_16: Words = [0, !0, !0];
}

/// Dualcast: the second destination in the first word.
pub mod dualcast {
    use super::Words;
    /// Flag: the second destination has a steering tag.
    pub const FLAG_STEERING_2: u32 = 1 << 16;
    pub const RESERVED: Words = [0, !0, !0];
}

/// Create delta record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateDelta {
    pub record_addr: u64,
    pub max_record_bytes: u32,
    /// Bit `n`: result `n` is as expected.
    pub expected_results: u8,
}

impl CreateDelta {
    pub const RESERVED: Words = [0, HIGH, !0xff];

    #[must_use]
    pub const fn from_words(words: &Words) -> Self {
        Self { record_addr: words[0], max_record_bytes: words[1] as u32, expected_results: words[2] as u8 }
    }
    #[must_use]
    pub const fn words(self) -> Words {
        [self.record_addr, self.max_record_bytes as u64, self.expected_results as u64]
    }
}

/// Results and sizes of delta records.
pub mod delta {
    use super::{HIGH, Words};
    /// An entry: offset in units of 8 bytes (u16), then the second source's 8 bytes.
    pub const ENTRY_BYTES: u32 = 10;
    /// Least size of the buffer for a record.
    pub const MIN_RECORD_BYTES: u32 = 80;
    /// What an offset of 16 bits reaches.
    pub const MAX_TRANSFER_BYTES: u32 = 8 << 16;
    pub const RESULT_EQUAL: u8 = 0;
    pub const RESULT_DIFFERENT: u8 = 1;
    pub const RESULT_RECORD_FULL: u8 = 2;
    /// Apply delta record: the record's size in the first word.
    pub const APPLY_RESERVED: Words = [HIGH, !0, !0];
}

/// CRC generation, also while copying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crc {
    pub seed: u32,
    /// With [`crc::FLAG_READ_SEED`]: where the seed lies.
    pub seed_addr: u64,
}

impl Crc {
    #[must_use]
    pub const fn from_words(words: &Words) -> Self {
        Self { seed: words[0] as u32, seed_addr: words[1] }
    }
    #[must_use]
    pub const fn words(self) -> Words {
        [self.seed as u64, self.seed_addr, 0]
    }
}

pub mod crc {
    use super::{HIGH, Words};
    pub const FLAG_READ_SEED: u32 = 1 << 16;
    /// Seed and result are the plain register, most significant bit first.
    pub const FLAG_BYPASS_INVERSION_AND_REFLECTION: u32 = 1 << 17;
    /// Bytes go in most significant bit first.
    pub const FLAG_BYPASS_DATA_REFLECTION: u32 = 1 << 18;
    pub const RESERVED: Words = [HIGH, !0, !0];
    pub const RESERVED_READ_SEED: Words = [HIGH, 0, !0];
}

/// Tags of a DIF: in a descriptor those of the first block, in a record those that come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    pub reference: u32,
    /// A set bit is a bit of the application tag that does not count.
    pub application_mask: u16,
    pub application: u16,
}

impl Tags {
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self {
            reference: word as u32,
            application_mask: (word >> 32) as u16,
            application: (word >> 48) as u16,
        }
    }
    #[must_use]
    pub const fn word(self) -> u64 {
        self.reference as u64 | (self.application_mask as u64) << 32 | (self.application as u64) << 48
    }
}

/// The DIF operations and DIX generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dif {
    pub source_flags: u8,
    pub destination_flags: u8,
    pub flags: u8,
    pub source: Tags,
    pub destination: Tags,
}

impl Dif {
    #[must_use]
    pub const fn from_words(words: &Words) -> Self {
        Self {
            source_flags: words[0] as u8,
            destination_flags: (words[0] >> 8) as u8,
            flags: (words[0] >> 16) as u8,
            source: Tags::from_word(words[1]),
            destination: Tags::from_word(words[2]),
        }
    }
    #[must_use]
    pub const fn words(self) -> Words {
        let flags =
            self.source_flags as u64 | (self.destination_flags as u64) << 8 | (self.flags as u64) << 16;
        [flags, self.source.word(), self.destination.word()]
    }
    /// Bytes of data that one DIF protects.
    #[must_use]
    pub const fn block_bytes(&self) -> u32 {
        [512, 520, 4096, 4104][(self.flags & dif::BLOCK_SIZE) as usize]
    }
}

pub mod dif {
    use super::Words;
    /// Guard, application tag, reference tag; each big-endian.
    pub const BYTES: u32 = 8;
    pub const MAX_BLOCK_BYTES: u32 = 4104;

    pub const BLOCK_SIZE: u8 = 0x03;
    /// The guard's CRC begins with 0xffff.
    pub const INVERT_CRC_SEED: u8 = 1 << 2;
    pub const INVERT_CRC_RESULT: u8 = 1 << 3;

    pub const SOURCE_ALL_F_ERROR: u8 = 1 << 0;
    /// A DIF of which all bits are set is not checked.
    pub const SOURCE_ALL_F: u8 = 1 << 1;
    pub const SOURCE_APPLICATION_F: u8 = 1 << 2;
    pub const SOURCE_APPLICATION_REFERENCE_F: u8 = 1 << 3;
    pub const SOURCE_INCREMENT_APPLICATION: u8 = 1 << 4;
    pub const SOURCE_NO_GUARD_CHECK: u8 = 1 << 5;
    pub const SOURCE_NO_REFERENCE_CHECK: u8 = 1 << 6;
    pub const SOURCE_FIXED_REFERENCE: u8 = 1 << 7;

    pub const DESTINATION_PASS_APPLICATION: u8 = 1 << 3;
    pub const DESTINATION_INCREMENT_APPLICATION: u8 = 1 << 4;
    pub const DESTINATION_PASS_GUARD: u8 = 1 << 5;
    pub const DESTINATION_PASS_REFERENCE: u8 = 1 << 6;
    pub const DESTINATION_FIXED_REFERENCE: u8 = 1 << 7;

    /// Bits of the result with status DIF_ERR.
    pub const MISMATCH_GUARD: u8 = 1 << 0;
    pub const MISMATCH_APPLICATION: u8 = 1 << 1;
    pub const MISMATCH_REFERENCE: u8 = 1 << 2;
    pub const ALL_F_DETECTED: u8 = 1 << 3;

    /// Check and strip.
    pub const RESERVED_SOURCE: Words = [!0x0f_00ff, 0, !0];
    /// Insert and DIX generation.
    pub const RESERVED_DESTINATION: Words = [!0x0f_9000, !0, 0];
    pub const RESERVED_UPDATE: Words = [!0x0f_f8ff, 0, 0];
}

/// Translation fetch: the distance of addresses, in the second word.
pub mod translation_fetch {
    use super::{HIGH, Words};
    pub const RESERVED: Words = [!0, HIGH, !0];
}

/// What IAA's operations keep there. The flags of compression, decompression and CRC64 are in the descriptor's bytes 38 and 39.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Iax {
    /// Second source, or the state of compression and analytics (AECS).
    pub source2: u64,
    pub max_destination_bytes: u32,
    pub source2_bytes: u32,
    pub filter_flags: u32,
    pub inputs: u32,
}

impl Iax {
    #[must_use]
    pub const fn from_words(words: &Words) -> Self {
        Self {
            source2: words[0],
            max_destination_bytes: words[1] as u32,
            source2_bytes: (words[1] >> 32) as u32,
            filter_flags: words[2] as u32,
            inputs: (words[2] >> 32) as u32,
        }
    }
    #[must_use]
    pub const fn words(self) -> Words {
        [
            self.source2,
            self.max_destination_bytes as u64 | (self.source2_bytes as u64) << 32,
            self.filter_flags as u64 | (self.inputs as u64) << 32,
        ]
    }
}

pub mod iax {
    use super::Words;
    pub const FLAG_READ_AECS: u32 = 1 << 16;
    /// CRC-32C in place of the CRC-32 of gzip.
    pub const FLAG_CRC_RFC3720: u32 = 1 << 21;

    pub const COMPRESS_FLUSH_OUTPUT: u16 = 1 << 1;
    /// What follows the data: nothing, end of block, that and a stored block, that and a final stored block.
    pub const COMPRESS_END_SHIFT: u32 = 2;
    pub const COMPRESS_END: u16 = 3 << COMPRESS_END_SHIFT;
    pub const COMPRESS_LITERALS_ONLY: u16 = 1 << 4;

    pub const DECOMPRESS_ENABLE: u16 = 1 << 0;
    pub const DECOMPRESS_FLUSH_OUTPUT: u16 = 1 << 1;
    pub const DECOMPRESS_STOP_ON_EOB: u16 = 1 << 2;
    pub const DECOMPRESS_CHECK_FOR_EOB: u16 = 1 << 3;
    /// Only the end of a final block counts.
    pub const DECOMPRESS_FINAL_EOB: u16 = 1 << 4;
    /// Checksums only, nothing is written.
    pub const DECOMPRESS_SUPPRESS_OUTPUT: u16 = 1 << 9;

    pub const CRC64_INVERT: u16 = 1 << 14;
    /// Bytes go in, and the result comes out, least significant bit first.
    pub const CRC64_REFLECT: u16 = 1 << 15;

    /// CRC64: the polynomial is the third word.
    pub const CRC64_RESERVED: Words = [!0, !0, 0];

    /// The AECS of compression: CRC, XOR checksum, 20 bytes, bits in the accumulator, the accumulator, codes of literals and lengths,
    /// 8 bytes, codes of distances, 8 bytes. A code: bits [14:0], its length in [18:15].
    pub mod compress_aecs {
        pub const BYTES: usize = 1568;
        pub const ACCUMULATOR_BITS: usize = 28;
        pub const ACCUMULATOR: usize = 32;
        pub const ACCUMULATOR_BYTES: usize = 256;
        pub const LITERAL_CODES: usize = 288;
        pub const LITERALS: usize = 286;
        pub const DISTANCE_CODES: usize = 1440;
        pub const DISTANCES: usize = 30;
    }

    /// The AECS of decompression: CRC, XOR checksum, and state.
    pub mod decompress_aecs {
        pub const MAX_BYTES: usize = 0x1500;
        /// Where the parser's state lies; 1: at a block's header.
        pub const PARSER: usize = 0x434;
        pub const AT_HEADER: u16 = 1;
    }

    /// Error codes with status ANALYTICS_ERROR.
    pub mod error {
        pub const BAD_LITERAL_CODE: u8 = 11;
        pub const BAD_EOF: u8 = 15;
        pub const AECS: u8 = 22;
        pub const OUTPUT_OVERFLOW: u8 = 25;
        pub const INVALID_HUFFMAN_CODE: u8 = 30;
    }
}

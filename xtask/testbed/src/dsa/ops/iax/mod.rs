//! IAA's compression and decompression of deflate streams.
//!
//! Owns: what both share: the checksums over the uncompressed data, the output with its limit, the end.
//! A page fault ends either with a partial completion that holds nothing to go on with: the whole descriptor is submitted again
//! (idxd-facts section 6.4); since no state is ever written to memory, that needs no care.
//! Not modelled: what asks for the AECS to be written (flags "write source 2" are invalid here), so a job is always one descriptor;
//! statistics, header generation, indexing, dictionaries, big-endian streams, filters; min, max and sum of the output
//! stay zero.
//! Unverified: the AECS' layout, flags and error codes (from Intel's QPL); the record's fields on errors.

mod compress;
mod decompress;

use ::crc::{CRC_32_ISCSI, CRC_32_ISO_HDLC, Crc, Digest, Table};
use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::Descriptor;
use dsascope_common::hw::operation::{Iax, iax};

use super::memory::{Fault, PAGE};
use super::{Context, Outcome};

static GZIP: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);
static RFC3720: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Why a job ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Fault(Fault),
    /// The output does not fit.
    Overflow,
    /// Error code.
    Analytics(u8),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Over uncompressed data.
struct Checksums {
    crc: Digest<'static, u32, Table<16>>,
    xor: u16,
    odd: bool,
}

impl Checksums {
    /// Going on from the values in an AECS; zero to begin with.
    fn new(d: &Descriptor, crc: u32, xor: u16) -> Self {
        let algorithm = if d.flags() & iax::FLAG_CRC_RFC3720 != 0 { &RFC3720 } else { &GZIP };
        Self { crc: algorithm.digest_with_initial(!crc.reverse_bits()), xor, odd: false }
    }

    /// The XOR is that of little-endian words of 16 bits.
    fn update(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        for byte in bytes {
            self.xor ^= if self.odd { u16::from(*byte) << 8 } else { u16::from(*byte) };
            self.odd = !self.odd;
        }
    }
}

/// The destination: collects bytes and writes them by pages.
struct Output<'a> {
    context: &'a Context<'a>,
    address: u64,
    limit: u64,
    written: u64,
    buffer: Vec<u8>,
}

impl<'a> Output<'a> {
    fn new(context: &'a Context<'a>, d: &Descriptor) -> Self {
        let limit = Iax::from_words(&d.operation_specific).max_destination_bytes;
        Self { context, address: d.destination, limit: u64::from(limit), written: 0, buffer: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let room = self.limit - self.written - self.buffer.len() as u64;
        let fitting = bytes.get(..room as usize).unwrap_or(bytes);
        self.buffer.extend_from_slice(fitting);
        if self.buffer.len() as u64 >= PAGE || fitting.len() < bytes.len() {
            self.flush()?;
        }
        if fitting.len() < bytes.len() { Err(Stop::Overflow) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        self.context.write(self.address.wrapping_add(self.written), &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The record of a job that took `completed` bytes of its source.
fn ended(
    end: Result<(), Stop>,
    completed: u64,
    output: &Output<'_>,
    output_bits: u8,
    checksums: Checksums,
) -> Outcome {
    let code = match end {
        Ok(()) => status::SUCCESS,
        Err(Stop::Fault(fault)) => return Outcome::faulted(fault, 0),
        Err(Stop::Overflow) => status::IAX_OUTBUF_OVERFLOW,
        Err(Stop::Analytics(_)) => status::IAX_ANALYTICS_ERROR,
    };
    let result = if let Err(Stop::Analytics(code)) = end { code } else { 0 };
    let words = [
        0,
        output.written | u64::from(output_bits) << 32 | u64::from(checksums.xor) << 48,
        u64::from(checksums.crc.finalize()),
    ];
    Outcome { result, completed: completed as u32, ..Outcome::new(code) }.with(words)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word))
}

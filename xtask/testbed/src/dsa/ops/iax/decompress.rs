//! Decompression through miniz_oxide, with a window of 4096 bytes, which is all the history that IAA has.
//!
//! The AECS, when it is read, may hold a CRC and an XOR checksum to begin with; any other state in it is an error. Without
//! "stop on end of block" the stream's final block ends it all the same.
//! Not modelled: more than the top of [`super`] says, which error a bad stream has (the library does not tell: error code 11 stands for
//! any), a reference before the stream's beginning (it reads as zeros).

use dsascope_common::hw::descriptor::Descriptor;
use dsascope_common::hw::operation::Iax;
use dsascope_common::hw::operation::iax::{self, decompress_aecs as aecs, error};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_IGNORE_ADLER32, TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::{Checksums, Output, Stop, ended, u32_at};
use crate::dsa::ops::memory::PAGE;
use crate::dsa::ops::{Context, Outcome};

const WINDOW: usize = 4096;

impl Context<'_> {
    pub(in crate::dsa::ops) fn decompress(&self, d: &Descriptor) -> Outcome {
        let mut output = Output::new(self, d);
        let (crc, xor) = match self.initial_state(d) {
            Ok(state) => state,
            Err(stop) => return ended(Err(stop), 0, &output, 0, Checksums::new(d, 0, 0)),
        };
        let mut checksums = Checksums::new(d, crc, xor);
        let mut done = 0;
        let end = self.inflate(d, &mut output, &mut checksums, &mut done);
        // What came out before an error is in the destination.
        let flushed = if matches!(end, Err(Stop::Fault(_))) { Ok(()) } else { output.flush() };
        ended(end.and(flushed), done, &output, 0, checksums)
    }

    fn initial_state(&self, d: &Descriptor) -> Result<(u32, u16), Stop> {
        if d.flags() & iax::FLAG_READ_AECS == 0 {
            return Ok((0, 0));
        }
        let own = Iax::from_words(&d.operation_specific);
        let mut state = vec![0; own.source2_bytes as usize];
        self.read(own.source2, &mut state)?;
        let checksums = (u32_at(&state, 0), u32_at(&state, 4) as u16);
        if let Some(parser) = state.get_mut(aecs::PARSER..aecs::PARSER + 2)
            && *parser == aecs::AT_HEADER.to_le_bytes()
        {
            parser.fill(0);
        }
        let fresh = state.iter().skip(6).all(|byte| *byte == 0);
        if fresh { Ok(checksums) } else { Err(Stop::Analytics(error::AECS)) }
    }

    fn inflate(
        &self,
        d: &Descriptor,
        output: &mut Output<'_>,
        checksums: &mut Checksums,
        done: &mut u64,
    ) -> Result<(), Stop> {
        let has = |flag| d.reserved & flag != 0;
        let first_end = has(iax::DECOMPRESS_STOP_ON_EOB) && !has(iax::DECOMPRESS_FINAL_EOB);
        let common = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_IGNORE_ADLER32;
        let how = if first_end { common | TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY } else { common };
        let size = u64::from(d.transfer_size);
        let mut state = Box::<DecompressorOxide>::default();
        let mut window = [0; WINDOW];
        let mut at = 0;
        let mut input = [0; PAGE as usize];
        let mut available = 0..0;
        loop {
            if available.is_empty() && *done < size {
                let n = (size - *done).min(PAGE) as usize;
                self.read(d.source.wrapping_add(*done), &mut input[..n])?;
                available = 0..n;
            }
            let (status, taken, given) =
                decompress(&mut state, &input[available.clone()], &mut window, at, how);
            available.start += taken;
            *done += taken as u64;
            let bytes = &window[at..at + given];
            checksums.update(bytes);
            if !has(iax::DECOMPRESS_SUPPRESS_OUTPUT) {
                output.push(bytes)?;
            }
            at = (at + given) % WINDOW;
            match status {
                TINFLStatus::Done | TINFLStatus::BlockBoundary => return Ok(()),
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if *done < size => {}
                TINFLStatus::NeedsMoreInput if !has(iax::DECOMPRESS_CHECK_FOR_EOB) => return Ok(()),
                TINFLStatus::NeedsMoreInput => return Err(Stop::Analytics(error::BAD_EOF)),
                _ => return Err(Stop::Analytics(error::BAD_LITERAL_CODE)),
            }
        }
    }
}

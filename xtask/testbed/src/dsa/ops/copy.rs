//! Memory move, dualcast and memory fill.
//!
//! Unverified: flag bit 16 of a fill for a pattern of 16 bytes; that a partial fill counts whole patterns (resuming adds to the
//! destination only, so the pattern has to begin anew there).

use dsascope_common::hw::descriptor::Descriptor;
use dsascope_common::hw::operation::fill;

use super::memory::{PAGE, chunk, chunk_before};
use super::{Context, Outcome};

impl Context<'_> {
    /// Copies from the end when the destination begins inside the source: result 1 says so in a partial completion.
    pub(super) fn memmove(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let backward = d.destination.wrapping_sub(d.source) < size && d.destination != d.source;
        let mut buffer = [0; PAGE as usize];
        let mut done = 0;
        while done < size {
            let left = size - done;
            let (from, to, n);
            if backward {
                let ends = [d.source.wrapping_add(left), d.destination.wrapping_add(left)];
                n = chunk_before(left, &ends);
                (from, to) = (ends[0].wrapping_sub(n), ends[1].wrapping_sub(n));
            } else {
                (from, to) = (d.source.wrapping_add(done), d.destination.wrapping_add(done));
                n = chunk(left, &[from, to]);
            }
            let bytes = &mut buffer[..n as usize];
            if let Err(fault) = self.read(from, bytes).and_then(|()| self.write(to, bytes)) {
                return Outcome { result: u8::from(backward), ..Outcome::faulted(fault, done) };
            }
            done += n;
        }
        Outcome::done(d.transfer_size)
    }

    pub(super) fn dualcast(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let mut buffer = [0; PAGE as usize];
        let mut done = 0;
        while done < size {
            let [from, one, two] =
                [d.source, d.destination, d.operation_specific[0]].map(|a| a.wrapping_add(done));
            let n = chunk(size - done, &[from, one, two]);
            let bytes = &mut buffer[..n as usize];
            let copied = self
                .read(from, bytes)
                .and_then(|()| self.write(one, bytes))
                .and_then(|()| self.write(two, bytes));
            if let Err(fault) = copied {
                return Outcome::faulted(fault, done);
            }
            done += n;
        }
        Outcome::done(d.transfer_size)
    }

    pub(super) fn memfill(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let mut pattern = d.source.to_le_bytes().to_vec();
        if d.flags() & fill::FLAG_PATTERN_16 != 0 {
            pattern.extend_from_slice(&d.operation_specific[0].to_le_bytes());
        }
        let period = pattern.len() as u64;
        // Room for a whole page from any phase of the pattern.
        let repeated: Vec<u8> = pattern.into_iter().cycle().take((PAGE + period) as usize).collect();
        let mut done = 0;
        while done < size {
            let to = d.destination.wrapping_add(done);
            let n = chunk(size - done, &[to]);
            let phase = (done % period) as usize;
            if let Err(fault) = self.write(to, &repeated[phase..phase + n as usize]) {
                return Outcome::faulted(fault, done - done % period);
            }
            done += n;
        }
        Outcome::done(d.transfer_size)
    }
}

//! Compare and compare with a pattern of 8 bytes: result 1 and the offset of the first difference, or result 0.
//!
//! Unverified: that the offset is exact; that a partial comparison with a pattern counts whole patterns, as a fill does.

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::{Descriptor, flags};

use super::memory::{PAGE, chunk};
use super::{Context, Outcome};

impl Context<'_> {
    pub(super) fn compare(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let (mut one, mut two) = ([0; PAGE as usize], [0; PAGE as usize]);
        let mut done = 0;
        while done < size {
            let (a, b) = (d.source.wrapping_add(done), d.destination.wrapping_add(done));
            let n = chunk(size - done, &[a, b]) as usize;
            let read = self.read(a, &mut one[..n]);
            if let Err(fault) = read.and_then(|()| self.read(b, &mut two[..n])) {
                return Outcome::faulted(fault, done);
            }
            let same = one[..n].iter().zip(&two[..n]).take_while(|(a, b)| a == b).count();
            done += same as u64;
            if same < n {
                return judged(d, 1, done);
            }
        }
        judged(d, 0, done)
    }

    pub(super) fn compare_pattern(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let pattern = d.destination.to_le_bytes();
        let mut buffer = [0; PAGE as usize];
        let mut done = 0;
        while done < size {
            let from = d.source.wrapping_add(done);
            let bytes = &mut buffer[..chunk(size - done, &[from]) as usize];
            if let Err(fault) = self.read(from, bytes) {
                return Outcome::faulted(fault, done - done % 8);
            }
            let expected = pattern.iter().cycle().skip((done % 8) as usize);
            let same = bytes.iter().zip(expected).take_while(|(a, b)| a == b).count();
            done += same as u64;
            if same < bytes.len() {
                return judged(d, 1, done);
            }
        }
        judged(d, 0, done)
    }
}

/// Success; "predicate false" if the result was to be checked and is not the expected one.
fn judged(d: &Descriptor, result: u8, done: u64) -> Outcome {
    let expected = d.operation_specific[0] as u8;
    let checked = d.flags() & flags::CHECK_RESULT != 0;
    let status = if checked && result != expected { status::SUCCESS_PRED } else { status::SUCCESS };
    Outcome { result, completed: done as u32, ..Outcome::new(status) }
}

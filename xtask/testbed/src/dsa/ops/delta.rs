//! Create and apply delta records: entries of an offset (u16, in units of 8 bytes) and the second source's 8 bytes.
//!
//! A record and its parts begin 8-byte aligned, and an entry has 10 bytes: so a partial completion counts entries by fours (40 bytes),
//! and a resumed operation does up to three of them again. The offsets of a part that a resumed creation wrote count from that part's
//! own start; `dsascope_submit::rebase_delta` makes them count from the first one's.
//! Unverified: that rounding; that a creation's room may be any size from 80 bytes on; that the creation's expected results are a set (bit `n` for result `n`); that a record which is full
//! ends with success, and where bytes completed stand then.

use dsascope_common::hw::completion::status;
use dsascope_common::hw::descriptor::{Descriptor, flags};
use dsascope_common::hw::operation::{CreateDelta, delta};

use super::memory::{Fault, PAGE, chunk};
use super::{Context, Outcome};

const ENTRY: usize = delta::ENTRY_BYTES as usize;
/// Least multiple of an entry that keeps the record 8-byte aligned.
const GROUP: u64 = 40;

/// How far a creation has come.
#[derive(Default)]
struct Progress {
    record_bytes: u64,
    /// Where the sources stood when the record's last whole group of entries ended.
    group_start: u64,
}

impl Progress {
    /// A partial completion at `compared` bytes that can be resumed.
    fn faulted(&self, fault: Fault, compared: u64) -> Outcome {
        let partial = self.record_bytes % GROUP;
        let compared = if partial == 0 { compared } else { self.group_start };
        Outcome::faulted(fault, compared).with([self.record_bytes - partial])
    }
}

impl Context<'_> {
    pub(super) fn create_delta(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let own = CreateDelta::from_words(&d.operation_specific);
        let (mut one, mut two) = ([0; PAGE as usize], [0; PAGE as usize]);
        let mut progress = Progress::default();
        let mut done = 0;
        while done < size {
            let (a, b) = (d.source.wrapping_add(done), d.destination.wrapping_add(done));
            // A multiple of 8: size and addresses are.
            let n = chunk(size - done, &[a, b]) as usize;
            let read = self.read(a, &mut one[..n]);
            if let Err(fault) = read.and_then(|()| self.read(b, &mut two[..n])) {
                return progress.faulted(fault, done);
            }
            let differing =
                one[..n].chunks(8).zip(two[..n].chunks(8)).enumerate().filter(|(_, (a, b))| a != b);
            for (index, (_, data)) in differing {
                let at = done + index as u64 * 8;
                if progress.record_bytes % GROUP == 0 {
                    progress.group_start = at;
                }
                if progress.record_bytes + u64::from(delta::ENTRY_BYTES) > u64::from(own.max_record_bytes) {
                    return created(d, delta::RESULT_RECORD_FULL, at, progress.record_bytes);
                }
                let mut entry = [0; ENTRY];
                entry[..2].copy_from_slice(&((at / 8) as u16).to_le_bytes());
                entry[2..].copy_from_slice(data);
                if let Err(fault) = self.write(own.record_addr.wrapping_add(progress.record_bytes), &entry) {
                    return progress.faulted(fault, at);
                }
                progress.record_bytes += u64::from(delta::ENTRY_BYTES);
            }
            done += n as u64;
        }
        let result = if progress.record_bytes == 0 { delta::RESULT_EQUAL } else { delta::RESULT_DIFFERENT };
        created(d, result, size, progress.record_bytes)
    }

    pub(super) fn apply_delta(&self, d: &Descriptor) -> Outcome {
        let record_bytes = u64::from(d.operation_specific[0] as u32);
        let mut done = 0;
        let mut least = 0;
        while done < record_bytes {
            let mut entry = [0; ENTRY];
            if let Err(fault) = self.read(d.source.wrapping_add(done), &mut entry) {
                return Outcome::faulted(fault, done - done % GROUP);
            }
            let offset = u64::from(u16::from_le_bytes([entry[0], entry[1]]));
            let error = if offset < least {
                Some(status::DR_OFFSET_NOINC)
            } else if offset * 8 >= u64::from(d.transfer_size) {
                Some(status::DR_OFFSET_ERANGE)
            } else {
                None
            };
            if let Some(error) = error {
                return Outcome { completed: done as u32, ..Outcome::new(error) };
            }
            if let Err(fault) = self.write(d.destination.wrapping_add(offset * 8), &entry[2..]) {
                return Outcome::faulted(fault, done - done % GROUP);
            }
            least = offset + 1;
            done += u64::from(delta::ENTRY_BYTES);
        }
        Outcome::done(done as u32)
    }
}

fn created(d: &Descriptor, result: u8, compared: u64, record_bytes: u64) -> Outcome {
    let expected = CreateDelta::from_words(&d.operation_specific).expected_results >> result & 1 != 0;
    let checked = d.flags() & flags::CHECK_RESULT != 0;
    let status = if checked && !expected { status::SUCCESS_PRED } else { status::SUCCESS };
    Outcome { result, completed: compared as u32, ..Outcome::new(status) }.with([record_bytes])
}

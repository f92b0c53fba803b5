//! Cache flush and translation fetch: every address is checked and translated, and nothing else happens.
//!
//! Not modelled: caches; the translations that a fetch keeps (the testbed's translation has no cache of its own).
//! Unverified: that a translation fetch ends at a fault with a partial completion; that its stride counts bytes, less than a page
//! meaning every page; that it asks for read access only; that a cache flush needs no write access.

use dsascope_common::hw::descriptor::Descriptor;

use super::memory::{PAGE, chunk};
use super::{Context, Outcome};

impl Context<'_> {
    pub(super) fn cache_flush(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let mut done = 0;
        while done < size {
            let at = d.destination.wrapping_add(done);
            if let Err(fault) = self.read(at, &mut [0]) {
                return Outcome::faulted(fault, done);
            }
            done += chunk(size - done, &[at]);
        }
        Outcome::done(d.transfer_size)
    }

    pub(super) fn translation_fetch(&self, d: &Descriptor) -> Outcome {
        let size = u64::from(d.transfer_size);
        let stride = u64::from(d.operation_specific[1] as u32);
        let mut done = 0;
        while done < size {
            let at = d.source.wrapping_add(done);
            if let Err(fault) = self.read(at, &mut [0]) {
                return Outcome::faulted(fault, done);
            }
            done += if stride < PAGE { chunk(PAGE, &[at]) } else { stride };
        }
        Outcome::done(d.transfer_size)
    }
}

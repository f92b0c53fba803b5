//! Memory as operations see it: of any length, while an access of [`Dma`](super::super::host::Dma) ends at its page's end.

use super::super::host::DmaFault;
use super::Context;

pub(super) const PAGE: u64 = 4096;

/// Where the translation of an operand failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) address: u64,
    pub(super) write: bool,
}

impl Context<'_> {
    /// Stops at the first page that is not there.
    pub(super) fn read(&self, address: u64, into: &mut [u8]) -> Result<(), Fault> {
        let mut done = 0;
        while done < into.len() {
            let at = address.wrapping_add(done as u64);
            let n = chunk((into.len() - done) as u64, &[at]) as usize;
            let fault = |fault: DmaFault| Fault { address: fault.address, write: false };
            self.dma.read(self.pasid, at, &mut into[done..done + n]).map_err(fault)?;
            done += n;
        }
        Ok(())
    }

    /// Stops at the first page that is not there or may not be written; what lies before it has been written.
    pub(super) fn write(&self, address: u64, from: &[u8]) -> Result<(), Fault> {
        let mut done = 0;
        while done < from.len() {
            let at = address.wrapping_add(done as u64);
            let n = chunk((from.len() - done) as u64, &[at]) as usize;
            let fault = |fault: DmaFault| Fault { address: fault.address, write: true };
            self.dma.write(self.pasid, at, &from[done..done + n]).map_err(fault)?;
            done += n;
        }
        Ok(())
    }
}

/// As much of `left` bytes as no operand needs a second page for.
pub(super) fn chunk(left: u64, addresses: &[u64]) -> u64 {
    addresses.iter().map(|address| PAGE - address % PAGE).fold(left, u64::min)
}

/// The same from the end: `left` bytes that end before each address.
pub(super) fn chunk_before(left: u64, ends: &[u64]) -> u64 {
    ends.iter().map(|end| end.wrapping_sub(1) % PAGE + 1).fold(left, u64::min)
}

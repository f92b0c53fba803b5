//! Operations on a bench of their own: one stretch of memory with holes, no device around it.

mod checks;
mod iax;
mod known;
mod resume;

use std::sync::{LazyLock, Mutex};

use dsascope_common::hw::completion::{DsaCompletion, IaxCompletion, status};
use dsascope_common::hw::descriptor::{Descriptor, flags};
use dsascope_common::hw::regs::wqcfg;
use zerocopy::FromBytes;

use super::super::host::{Dma, DmaFault};
use super::*;
use crate::vtd::{WalkError, WalkFault};

const PAGE: u64 = 4096;
/// Where memory begins, and how much there is.
const BASE: u64 = 0x10_0000;
const PAGES: usize = 64;
const CR: u32 = flags::CRAV | flags::RCR;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Present,
    ReadOnly,
    Absent,
}

/// Bytes, and the state of each page.
#[derive(Debug)]
struct Arena(Mutex<(Vec<u8>, Vec<State>)>);

impl Arena {
    fn new(bytes: &[u8]) -> Self {
        assert_eq!(bytes.len(), PAGES * PAGE as usize);
        Self(Mutex::new((bytes.to_vec(), vec![State::Present; PAGES])))
    }

    fn with_holes(bytes: &[u8], holes: &[(usize, bool)]) -> Self {
        let arena = Self::new(bytes);
        for (page, absent) in holes {
            arena.0.lock().unwrap().1[*page] = if *absent { State::Absent } else { State::ReadOnly };
        }
        arena
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().0.clone()
    }

    fn change(&self, at: u64, change: impl FnOnce(&mut [u8])) {
        change(&mut self.0.lock().unwrap().0[(at - BASE) as usize..]);
    }

    /// Make the page at a fault present; there must be something to make.
    fn mend(&self, address: u64, write: bool) {
        let page = &mut self.0.lock().unwrap().1[((address - BASE) / PAGE) as usize];
        assert!(*page == State::Absent || write && *page == State::ReadOnly, "no fault at {address:#x}");
        *page = State::Present;
    }

    fn access(
        &self,
        address: u64,
        n: usize,
        write: bool,
        then: impl FnOnce(&mut [u8]),
    ) -> Result<(), DmaFault> {
        assert!(address % PAGE + n as u64 <= PAGE, "an access of the device crosses a page");
        let mut inner = self.0.lock().unwrap();
        let offset = address.wrapping_sub(BASE) as usize;
        let state = inner.1.get(offset / PAGE as usize).copied().unwrap_or(State::Absent);
        if state == State::Absent || write && state == State::ReadOnly {
            let fault = WalkFault::NotPresent(1);
            return Err(DmaFault { address, reason: WalkError::Fault { address, fault } });
        }
        then(&mut inner.0[offset..offset + n]);
        Ok(())
    }
}

impl Dma for Arena {
    fn read(&self, _: Option<u32>, address: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.access(address, into.len(), false, |bytes| into.copy_from_slice(bytes))
    }
    fn write(&self, _: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.access(address, from.len(), true, |bytes| bytes.copy_from_slice(from))
    }
    fn write_record(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.write(pasid, address, from)
    }
}

/// Bytes that repeat late; the seed says where they begin.
fn noise(seed: u64) -> Vec<u8> {
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut state = 1u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        (0..PAGES * PAGE as usize / 8).flat_map(|_| next().to_le_bytes()).collect()
    });
    let (before, after) = NOISE.split_at(seed as usize % NOISE.len());
    [after, before].concat()
}

fn config() -> [u32; WQCFG_DWORDS] {
    let mut config = [u32::MAX; WQCFG_DWORDS];
    config[wqcfg::MODE] = 0;
    config[wqcfg::LIMITS] = 31 | 10 << wqcfg::LIMITS_BATCH_SHIFT;
    config
}

fn outcome(kind: Kind, arena: &Arena, d: &Descriptor) -> Outcome {
    let config = config();
    let context = Context { kind, dma: arena, pasid: None, config: &config, in_batch: false };
    context.check(d).err().unwrap_or_else(|| context.run(d))
}

fn dsa(arena: &Arena, d: &Descriptor) -> DsaCompletion {
    DsaCompletion::read_from_bytes(&outcome(Kind::Dsa, arena, d).record(Kind::Dsa)).unwrap()
}

fn iax(arena: &Arena, d: &Descriptor) -> IaxCompletion {
    IaxCompletion::read_from_bytes(&outcome(Kind::Iax, arena, d).record(Kind::Iax)).unwrap()
}

fn is_partial(code: u8) -> bool {
    code & 0x7f == status::PAGE_FAULT_NOBOF
}

/// An operation on memory `source` and `destination` bytes after [`BASE`].
fn operation(op: u8, source: u64, destination: u64, transfer_size: u32) -> Descriptor {
    let (source, destination) = (BASE + source, BASE + destination);
    Descriptor { source, destination, transfer_size, ..Descriptor::default() }.with(op, CR)
}

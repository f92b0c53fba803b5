//! The walk: root table, context, PASID directory, PASID entry, first-stage page table with accessed and dirty bits.
//!
//! Owns: the table formats of VT-d scalable mode. Refuses: second-stage tables and 5 levels, as typed faults.

use dsascope_common::hw::bits;

use crate::memory::{GuestMemory, MemoryError};

const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;

/// One access of a device, within a 4 KiB page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Bus, device and function.
    pub source: u16,
    /// `None`: a request without PASID, translated by the context's RID_PASID.
    pub pasid: Option<u32>,
    pub address: u64,
    pub write: bool,
}

/// Where a walk stopped. Levels count from 1 (4 KiB pages) to 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkFault {
    #[error("no root table")]
    NoRootTable,
    #[error("root entry not present")]
    RootEntry,
    #[error("context entry not present")]
    ContextEntry,
    #[error("context does not allow PASIDs")]
    PasidsOff,
    #[error("PASID beyond the directory")]
    PasidRange,
    #[error("PASID directory entry not present")]
    PasidDirectory,
    #[error("PASID entry not present")]
    PasidEntry,
    #[error("translation type {0} is not modelled")]
    TranslationType(u8),
    #[error("address is not canonical")]
    NotCanonical,
    #[error("not present at level {0}")]
    NotPresent(u8),
    #[error("not writable at level {0}")]
    NotWritable(u8),
    #[error("not for user accesses at level {0}")]
    UserBit(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalkError {
    #[error("{address:#x}: {fault}")]
    Fault { address: u64, fault: WalkFault },
    #[error("tables or page outside of memory: {0}")]
    Memory(#[from] MemoryError),
}

impl WalkError {
    /// A page request may help: the tables are there, the page is not, or not for this access.
    #[must_use]
    pub fn can_be_served(self) -> bool {
        use WalkFault::{NotPresent, NotWritable, UserBit};
        matches!(self, Self::Fault { fault: NotPresent(_) | NotWritable(_) | UserBit(_), .. })
    }
}

/// The context entry of `source`, if it is present, and its address.
fn context(
    memory: &GuestMemory,
    root: u64,
    source: u16,
) -> Result<Result<(u64, u64), WalkFault>, MemoryError> {
    if root == 0 {
        return Ok(Err(WalkFault::NoRootTable));
    }
    let (bus, devfn) = (u64::from(source >> 8), u64::from(source & 0xff));
    let root_entry = memory.load_u64((root & ADDRESS) + bus * 16 + (devfn >> 7) * 8)?;
    if root_entry & PRESENT == 0 {
        return Ok(Err(WalkFault::RootEntry));
    }
    let at = (root_entry & ADDRESS) + (devfn & 0x7f) * 32;
    let entry = memory.load_u64(at)?;
    Ok(if entry & PRESENT == 0 { Err(WalkFault::ContextEntry) } else { Ok((entry, at)) })
}

/// The guest lets `source` send page requests (PRE).
pub(super) fn page_requests_enabled(memory: &GuestMemory, root: u64, source: u16) -> bool {
    matches!(context(memory, root, source), Ok(Ok((entry, _))) if entry >> 4 & 1 != 0)
}

/// Physical address of `access`, with accessed and dirty bits set on the way as a CPU would.
pub(super) fn walk(memory: &GuestMemory, root: u64, access: Access) -> Result<u64, WalkError> {
    let fail = |fault| Err(WalkError::Fault { address: access.address, fault });
    let (entry, context) = match context(memory, root, access.source)? {
        Ok(found) => found,
        Err(fault) => return fail(fault),
    };
    let pasid = match access.pasid {
        Some(_) if entry >> 3 & 1 == 0 => return fail(WalkFault::PasidsOff),
        Some(pasid) => u64::from(pasid),
        None => bits(memory.load_u64(context + 8)?, 19, 0),
    };
    // PDTS: the directory has 2^(PDTS + 7) entries, each for 64 PASIDs.
    if pasid >> 6 >= 1 << (bits(entry, 11, 9) + 7) {
        return fail(WalkFault::PasidRange);
    }
    let directory = memory.load_u64((entry & ADDRESS) + (pasid >> 6) * 8)?;
    if directory & PRESENT == 0 {
        return fail(WalkFault::PasidDirectory);
    }
    let pasid_entry = (directory & ADDRESS) + (pasid & 63) * 64;
    let low = memory.load_u64(pasid_entry)?;
    if low & PRESENT == 0 {
        return fail(WalkFault::PasidEntry);
    }
    match bits(low, 8, 6) {
        1 => first_stage(memory, memory.load_u64(pasid_entry + 16)?, access),
        4 => Ok(access.address),
        other => fail(WalkFault::TranslationType(other as u8)),
    }
}

fn first_stage(memory: &GuestMemory, pointer: u64, access: Access) -> Result<u64, WalkError> {
    let address = access.address;
    let fail = |fault| Err(WalkError::Fault { address, fault });
    if bits(pointer, 3, 2) != 0 {
        return fail(WalkFault::TranslationType(5));
    }
    if !matches!(bits(address, 63, 47), 0 | 0x1_ffff) {
        return fail(WalkFault::NotCanonical);
    }
    let mut table = pointer & ADDRESS;
    let mut level = 4;
    loop {
        let shift = 12 + 9 * (u32::from(level) - 1);
        let at = table + (address >> shift & 511) * 8;
        let entry = loop {
            let entry = memory.load_u64(at)?;
            if entry & PRESENT == 0 {
                return fail(WalkFault::NotPresent(level));
            }
            if entry & USER == 0 {
                return fail(WalkFault::UserBit(level));
            }
            if access.write && entry & WRITABLE == 0 {
                return fail(WalkFault::NotWritable(level));
            }
            let leaf = level == 1 || level < 4 && entry & LARGE != 0;
            let marked = entry | ACCESSED | if leaf && access.write { DIRTY } else { 0 };
            // A guest CPU may change the entry between load and store; then look again at what it made of it.
            if marked == entry || memory.compare_exchange_u64(at, entry, marked)?.is_ok() {
                break entry;
            }
        };
        if level == 1 || level < 4 && entry & LARGE != 0 {
            let within = (1u64 << shift) - 1;
            return Ok(entry & ADDRESS & !within | address & within);
        }
        table = entry & ADDRESS;
        level -= 1;
    }
}

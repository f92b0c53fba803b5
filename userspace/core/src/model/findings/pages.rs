//! The pages of the last faults, of all files together: what a storm is made of.
//!
//! Bounded: [`KEPT`] faults; a fault costs one store of 32 bytes. Refuses: anything but counting; when to look is the storm's.

use std::collections::HashMap;
use std::num::NonZeroU64;

use crate::event::{CopyOutcome, Fault, Key};
use crate::findings::threshold;

/// Faults kept, a power of two.
const KEPT: usize = 512;
const PAGE_BYTES: u64 = 4096;
/// In the low bits of a page's address.
const DELIVERED: u64 = 1;
const FAILED: u64 = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// With how the fault ended in the low bits.
    page: u64,
    /// When it was handed over, 0 if that was not seen, and when it was told of.
    from_ns: u64,
    to_ns: u64,
    pasid: u32,
    device: u16,
    wq: u16,
}

impl Slot {
    const fn page(&self) -> u64 {
        self.page & !(PAGE_BYTES - 1)
    }

    const fn is_of(&self, key: Key) -> bool {
        self.device == key.device && self.wq == key.wq && self.pasid == key.pasid
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Pages {
    slots: Option<Box<[Slot; KEPT]>>,
    /// Faults ever taken.
    taken: usize,
}

/// What the last faults of one file were on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageSet {
    pub faults: u64,
    pub different: u64,
    /// The page with most faults, and how many.
    pub hottest: Option<(u64, u64)>,
    /// Faults on a page that had been brought in well before.
    pub again: u64,
}

impl Pages {
    #[inline]
    pub(super) fn add(&mut self, fault: &Fault) {
        // An entry that could not be read has no address.
        if fault.entry.fault_addr() == 0 {
            return;
        }
        let flag = match fault.copy {
            CopyOutcome::Delivered { .. } => DELIVERED,
            CopyOutcome::Short { .. } => FAILED,
            CopyOutcome::NotCopied | CopyOutcome::Unobserved => 0,
        };
        let slots = self.slots.get_or_insert_with(|| Box::new([Slot::default(); KEPT]));
        slots[self.taken % KEPT] = Slot {
            page: fault.entry.fault_addr() & !(PAGE_BYTES - 1) | flag,
            from_ns: fault.times.queued_ns.map_or(0, NonZeroU64::get),
            to_ns: fault.at_ns,
            pasid: fault.context.pasid,
            device: fault.context.device.id,
            wq: fault.context.wq,
        };
        self.taken = self.taken.wrapping_add(1);
    }

    /// Oldest first.
    fn iter(&self) -> impl DoubleEndedIterator<Item = &Slot> {
        let (newer, older) = match &self.slots {
            Some(slots) if self.taken >= KEPT => slots.split_at(self.taken % KEPT),
            Some(slots) => (&slots[..self.taken], &slots[..0]),
            None => (&[][..], &[][..]),
        };
        older.iter().chain(newer)
    }

    pub(super) fn of(&self, key: Key) -> PageSet {
        let mut set = PageSet::default();
        // By page: faults, and when one of them had been delivered.
        let mut pages: HashMap<u64, (u64, Option<u64>), foldhash::fast::RandomState> = HashMap::default();
        for slot in self.iter().filter(|slot| slot.is_of(key)) {
            let (faults, brought_in_ns) = pages.entry(slot.page()).or_default();
            set.faults += 1;
            *faults += 1;
            let late =
                brought_in_ns.is_some_and(|ns| slot.from_ns >= ns.saturating_add(threshold::GIVEN_BACK_NS));
            set.again += u64::from(late);
            if slot.page & DELIVERED != 0 {
                *brought_in_ns = Some(slot.to_ns);
            }
        }
        set.different = pages.len() as u64;
        set.hottest =
            pages.into_iter().map(|(page, (faults, _))| (page, faults)).max_by_key(|&(page, n)| (n, page));
        set
    }

    /// Whether the last fault of the file on this page was not delivered.
    pub(super) fn failed_on(&self, key: Key, page: u64) -> bool {
        let last = self.iter().rev().find(|slot| slot.page() == page && slot.is_of(key));
        last.is_some_and(|slot| slot.page & FAILED != 0)
    }
}

//! Joins submissions, faults and what programs see, by (process, address of the completion record, time).
//!
//! The stream is in the order of sending, not of happening: a program may see its record before the fault's service has ended and is
//! told of, and submit again with the same record. So a record keeps its last two submissions, and what was seen waits for its fault
//! for [`PATIENCE_NS`]. Bounded: the oldest submissions give way, and a fault without one stays without. Where records were lost,
//! everything is forgotten, so that no fault gets the origin of an earlier one. Nothing is guessed but one thing: an element whose own
//! descriptor is beyond what is told of a list is known by its batch identifier and index (its `bytes` are null then).

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;

use dsascope_common::hw::descriptor::{Descriptor, opcode};

use super::{Element, Origin, Seen, record_of};
use crate::event::{Context, Event, Fault};

/// Completion records with a submission that are followed at once: about 20 MiB at most.
const CAPACITY: usize = 65_536;
/// How long what was seen waits for its fault to be told of.
const PATIENCE_NS: u64 = 100_000_000;
/// Lists, and batches, that are followed.
const LISTS: usize = 8192;
/// What was seen and may wait at once; beyond it the oldest is told of without a fault.
const WAITING: usize = 65_536;

/// (process, address)
type Place = (u32, u64);

/// A submission of one completion record.
#[derive(Clone, Copy, Debug)]
struct Open {
    origin: Origin,
    faulted: bool,
    /// Of its fault: whose, and when the driver had copied the record.
    context: Option<Context>,
    delivered_ns: Option<NonZeroU64>,
    /// Number of what was seen, among all that waited.
    seen: Option<u64>,
}

/// Who submitted a list.
#[derive(Clone, Copy, Debug)]
struct List {
    origin: Origin,
    address: u64,
    descriptors: u32,
    /// Of these, so many have submissions of their own, from the first on.
    told: u32,
}

/// A batch while its entries come: device, WQ, PASID, batch identifier.
type BatchKey = (u16, u16, u32, u8);

/// See the module.
#[derive(Debug)]
pub struct Joiner {
    /// The last submission of a record, and the one before.
    open: HashMap<Place, (Open, Option<Open>)>,
    order: VecDeque<Place>,
    capacity: usize,
    lists: HashMap<Place, List>,
    lists_order: VecDeque<Place>,
    batches: HashMap<BatchKey, List>,
    /// Seen, and no fault told of yet, oldest first; `None`: told with its fault.
    waiting: VecDeque<Option<Seen>>,
    /// Number of the first that waits.
    first_waiting: u64,
}

impl Default for Joiner {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Joiner {
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            open: HashMap::new(),
            order: VecDeque::new(),
            capacity: capacity.max(1),
            lists: HashMap::new(),
            lists_order: VecDeque::new(),
            batches: HashMap::new(),
            waiting: VecDeque::new(),
            first_waiting: 0,
        }
    }

    /// Takes a descriptor that was submitted, alone or in a batch.
    pub fn submission(&mut self, tgid: u32, origin: &Origin, descriptor: &Descriptor) {
        match origin.element {
            Some(element) => {
                if let Some(list) = self.lists.get_mut(&(tgid, element.list)) {
                    list.told = list.told.max(element.index.saturating_add(1));
                }
            }
            None if origin.operation == opcode::BATCH => {
                let Descriptor { source: address, transfer_size: descriptors, .. } = *descriptor;
                let list = List { origin: *origin, address, descriptors, told: 0 };
                insert_bounded(&mut self.lists, &mut self.lists_order, LISTS, (tgid, address), list);
            }
            None => {}
        }
        let Some(record) = record_of(descriptor) else { return };
        let open = Open { origin: *origin, faulted: false, context: None, delivered_ns: None, seen: None };
        if let Some((last, before)) = self.open.get_mut(&(tgid, record)) {
            *before = Some(std::mem::replace(last, open));
        } else {
            insert_bounded(&mut self.open, &mut self.order, self.capacity, (tgid, record), (open, None));
        }
    }

    /// Gives a fault its origin.
    pub fn fault(&mut self, fault: &mut Fault) {
        let Some(tgid) = fault.tgid else { return };
        let entry = &fault.entry;
        let batch = (fault.context.device.id, fault.context.wq, fault.context.pasid, entry.batch_id());
        // The entry was in the log when it was handed over, or else when its service began.
        let logged_ns = fault.times.queued_ns.or(fault.times.started_ns).map_or(fault.at_ns, NonZeroU64::get);
        let open = generations(&mut self.open, (tgid, entry.fault_addr()))
            .find(|open| open.origin.submitted_ns <= logged_ns && !open.faulted);
        if let Some(open) = open {
            open.faulted = true;
            open.context = Some(fault.context);
            open.delivered_ns = fault.times.copy_end_ns;
            let mut origin = open.origin;
            let place =
                open.seen.and_then(|seen| usize::try_from(seen.checked_sub(self.first_waiting)?).ok());
            if let Some(seen) = place.and_then(|place| self.waiting.get_mut(place)?.take()) {
                origin.seen_ns = NonZeroU64::new(seen.at_ns);
            }
            match origin.element.and_then(|element| self.lists.get(&(tgid, element.list))) {
                Some(list) => self.remember(batch, *list),
                // A batch's own record is its last.
                None => drop(self.batches.remove(&batch)),
            }
            fault.origin = Some(origin);
        } else if entry.batch()
            && let Some(list) = self.batches.get(&batch)
            && (list.told..list.descriptors).contains(&u32::from(entry.batch_idx()))
        {
            fault.origin = Some(Origin {
                operation: entry.operation(),
                bytes: None,
                element: Some(Element { list: list.address, index: entry.batch_idx().into() }),
                ..list.origin
            });
        }
    }

    /// A program saw a record; told now, or when it is clear that it is not of a fault, or with its fault.
    pub fn seen(&mut self, mut seen: Seen, out: &mut impl FnMut(Event)) {
        let open = generations(&mut self.open, (seen.tgid, seen.record))
            .find(|open| open.origin.submitted_ns <= seen.at_ns && open.seen.is_none());
        if let Some(open) = open {
            seen.submitted_ns = NonZeroU64::new(open.origin.submitted_ns);
            open.seen = Some(self.first_waiting + self.waiting.len() as u64);
            seen.context = open.context;
            seen.delivered_ns = open.delivered_ns;
            if !open.faulted {
                self.waiting.push_back(Some(seen));
                if self.waiting.len() > WAITING {
                    self.tell_oldest(out);
                }
                return;
            }
            // Its number is nobody's.
            self.waiting.push_back(None);
        } else if self.open.get(&(seen.tgid, seen.record)).is_some_and(|(last, _)| last.seen.is_some()) {
            // Another look at the same completion.
            return;
        }
        out(Event::Seen(seen));
    }

    /// Time passes: what was seen long ago is not of a fault.
    pub fn expire(&mut self, now_ns: u64, out: &mut impl FnMut(Event)) {
        let due = now_ns.saturating_sub(PATIENCE_NS);
        while self.waiting.front().is_some_and(|first| first.is_none_or(|seen| seen.at_ns <= due)) {
            self.tell_oldest(out);
        }
    }

    /// Tracing ends.
    pub fn finish(&mut self, out: &mut impl FnMut(Event)) {
        while !self.waiting.is_empty() {
            self.tell_oldest(out);
        }
    }

    /// Records were lost: what comes may be of a submission that was not told of.
    pub fn lost(&mut self) {
        self.open.clear();
        self.order.clear();
        self.lists.clear();
        self.lists_order.clear();
        self.batches.clear();
    }

    fn tell_oldest(&mut self, out: &mut impl FnMut(Event)) {
        if let Some(first) = self.waiting.pop_front() {
            self.first_waiting += 1;
            if let Some(seen) = first {
                out(Event::Seen(seen));
            }
        }
    }

    fn remember(&mut self, key: BatchKey, list: List) {
        if self.batches.len() >= LISTS && !self.batches.contains_key(&key) {
            self.batches.clear();
        }
        self.batches.insert(key, list);
    }
}

/// The submissions of a record, the last first.
fn generations(
    open: &mut HashMap<Place, (Open, Option<Open>)>,
    record: Place,
) -> impl Iterator<Item = &mut Open> {
    open.get_mut(&record).into_iter().flat_map(|(last, before)| [Some(last), before.as_mut()]).flatten()
}

/// Inserts; beyond `most` the oldest goes.
fn insert_bounded<V>(
    map: &mut HashMap<Place, V>,
    order: &mut VecDeque<Place>,
    most: usize,
    key: Place,
    value: V,
) {
    if map.insert(key, value).is_none() {
        order.push_back(key);
        if order.len() > most
            && let Some(oldest) = order.pop_front()
        {
            map.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;

//! BAR2: stores become descriptors, descriptors enter WQs.
//!
//! Owns: putting a descriptor together from the stores to one 64-byte slot (a CPU without MOVDIR64B needs eight), the checks of
//! the WQ, and the status that a following load returns (0 accepted, 1 retry): that is how a guest without ENQCMD learns it.

use std::collections::HashMap;

use dsascope_common::hw::PASID_MASK;
use dsascope_common::hw::descriptor::{BYTES, Descriptor};
use dsascope_common::hw::regs::portal;
use zerocopy::FromBytes;

use super::DsaDevice;
use super::batch::Element;
use super::model::WQS;
use super::state::{Job, State};
use crate::truth::{DropReason, Event};

pub(super) const BAR2_BYTES: u64 = WQS as u64 * portal::WQ_SPAN;
const PAGES: usize = (BAR2_BYTES / portal::PAGE) as usize;

#[derive(Clone, Copy, Debug)]
struct Slot {
    bytes: [u8; BYTES],
    /// Which bytes have been stored.
    stored: u64,
}

/// Descriptors that are not whole yet, and the outcome of the last one, a portal page.
#[derive(Debug)]
pub(super) struct Portal {
    slots: HashMap<u64, Slot>,
    retry: [bool; PAGES],
}

impl Default for Portal {
    fn default() -> Self {
        Self { slots: HashMap::new(), retry: [false; PAGES] }
    }
}

impl Portal {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Add a store within one slot. The whole descriptor once it is there; whether an unfinished one was overwritten.
    fn store(&mut self, offset: u64, data: &[u8]) -> (Option<[u8; BYTES]>, bool) {
        let (base, first) = (offset / portal::SLOT, (offset % portal::SLOT) as usize);
        let mask = (u64::MAX >> (64 - data.len().clamp(1, BYTES))) << first;
        let slot = self.slots.entry(base).or_insert(Slot { bytes: [0; BYTES], stored: 0 });
        let torn = slot.stored & mask != 0;
        if torn {
            slot.stored = 0;
        }
        slot.bytes[first..first + data.len()].copy_from_slice(data);
        slot.stored |= mask;
        if slot.stored != u64::MAX {
            return (None, torn);
        }
        let bytes = slot.bytes;
        self.slots.remove(&base);
        (Some(bytes), torn)
    }
}

impl DsaDevice {
    /// Software loads from BAR2.
    pub fn read_portal(&self, offset: u64, into: &mut [u8]) {
        into.fill(0);
        let retry = self.state().portal.retry.get((offset / portal::PAGE) as usize).copied();
        if let (Some(first), Some(true)) = (into.first_mut(), retry) {
            *first = 1;
        }
    }

    /// Software stores to BAR2; parts past its end are ignored.
    pub fn write_portal(&self, mut offset: u64, mut data: &[u8]) {
        let mut state = self.state();
        while !data.is_empty() && offset < BAR2_BYTES {
            let room = (portal::SLOT - offset % portal::SLOT) as usize;
            let (piece, rest) = data.split_at(room.min(data.len()));
            let (whole, torn) = state.portal.store(offset, piece);
            if torn {
                self.dropped((offset / portal::WQ_SPAN) as u8, None, DropReason::Torn);
            }
            if let Some(Ok(descriptor)) = whole.as_ref().map(|bytes| Descriptor::read_from_bytes(bytes)) {
                let retry = !self.submit(&mut state, offset, descriptor);
                state.portal.retry[(offset / portal::PAGE) as usize] = retry;
            }
            offset += piece.len() as u64;
            data = rest;
        }
    }

    /// False: not accepted.
    fn submit(&self, state: &mut State, offset: u64, descriptor: Descriptor) -> bool {
        let index = (offset / portal::WQ_SPAN) as usize;
        let limited = offset % portal::WQ_SPAN / portal::PAGE % 2 == 1;
        let (sequence, generation) = (state.next_sequence, state.generation);
        let device_enabled = state.registers.enabled();
        let clock = state.service_clock;
        let wq = &mut state.wqs[index];
        let of = if wq.dedicated() { wq.pasid() } else { descriptor.pasid & PASID_MASK };
        let pasid = wq.pasid_enabled().then_some(of);
        if !device_enabled || !wq.enabled() {
            self.dropped(index as u8, pasid, DropReason::WqDisabled);
            return false;
        }
        let occupied = wq.queue.len() as u32;
        if wq.dedicated() {
            if occupied >= wq.size() {
                self.dropped(index as u8, pasid, DropReason::WqFull);
                return false;
            }
        } else if occupied >= if limited { wq.threshold() } else { wq.size() } {
            return false;
        }
        if wq.queue.is_empty() {
            // A WQ that was quiet gets its share from now on, not for the past.
            wq.used = wq.used.max(clock);
        }
        let job = Job { sequence, generation, wq: index as u8, pasid, config: wq.config, descriptor };
        self.taken(&job, &descriptor, None);
        wq.queue.push_back(job);
        state.next_sequence += 1;
        self.wake_engine(state, index);
        self.inject_planned(state);
        true
    }

    /// Log a descriptor.
    pub(super) fn taken(&self, job: &Job, descriptor: &Descriptor, element: Option<Element>) {
        self.log(Event::Descriptor {
            device: self.name(),
            wq: job.wq,
            pasid: job.pasid,
            opcode: descriptor.opcode(),
            flags: descriptor.flags(),
            cr_address: descriptor.completion_addr,
            batch_index: element.map(|e| e.index),
            batch_id: element.map(|e| e.batch.id),
            batch_generation: element.map(|e| e.batch.generation),
        });
    }
}

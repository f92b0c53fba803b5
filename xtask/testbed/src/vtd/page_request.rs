//! Page requests: what a device asks, the unit's queue of them in guest memory with its event, and the guest's answers.
//!
//! Owns: the formats of 32-byte requests and of page-group responses, the queue's registers, overflow, and when the event message
//! goes out. Refuses: taking part in how a device waits.
//! Not modelled: requests without PASID, stop markers, private data, requests of more than one page a group.

use super::regs::{PAGE_REQUEST_EVENT_CONTROL, PAGE_REQUEST_STATUS, Registers};
use crate::memory::GuestMemory;

const QUEUE_HEAD: usize = 0xc0;
const QUEUE_TAIL: usize = 0xc8;
const QUEUE_ADDRESS: usize = 0xd0;
const EVENT_DATA: usize = 0xe4;
const EVENT_ADDRESS: usize = 0xe8;
const EVENT_UPPER_ADDRESS: usize = 0xec;

const ENTRY_BYTES: u64 = 32;
/// Status: requests pending, queue overflow.
const PENDING: u32 = 1 << 0;
const OVERFLOW: u32 = 1 << 1;
/// Event control: masked, message pending.
const MASKED: u32 = 1 << 31;
const MESSAGE_PENDING: u32 = 1 << 30;

/// Nine bits.
pub const GROUP_MASK: u16 = 0x1ff;

/// A device's wish for one page; each is the only one of its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageRequest {
    pub pasid: u32,
    pub address: u64,
    pub write: bool,
    /// At most [`GROUP_MASK`].
    pub group: u16,
}

/// What became of a request at the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// In the queue: an answer will come.
    Queued,
    /// The queue is full, or was: an answer will come once software has cleared that.
    Overflow,
    /// The function may not ask, or there is no queue.
    Refused,
}

/// The code of a page-group response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseCode {
    /// Translate again.
    Success,
    /// No such page, or not for this access.
    Invalid,
    /// As invalid, and the function asks no more.
    Failure,
}

/// An answer on its way to the function `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageResponse {
    pub source: u16,
    pub pasid: Option<u32>,
    pub group: u16,
    pub code: ResponseCode,
}

impl PageResponse {
    /// From the two words of an invalidation-queue descriptor of type 9.
    pub(super) fn from_words(low: u64, high: u64) -> Self {
        Self {
            source: (low >> 16) as u16,
            pasid: (low >> 4 & 1 != 0).then_some((low >> 32) as u32 & 0xf_ffff),
            group: (high >> 3) as u16 & GROUP_MASK,
            code: match low >> 12 & 0xf {
                0 => ResponseCode::Success,
                0xf => ResponseCode::Failure,
                // 1 is "invalid"; the rest is reserved.
                _ => ResponseCode::Invalid,
            },
        }
    }
}

/// An interrupt message: a write of four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub address: u64,
    pub data: u32,
}

impl Registers {
    /// Put a request at the queue's tail; and the message to send, if it is time for one.
    pub fn post(
        &mut self,
        memory: &GuestMemory,
        source: u16,
        request: PageRequest,
    ) -> (Posted, Option<Message>) {
        let address = self.u64(QUEUE_ADDRESS);
        let (base, bytes) = (address & !0xfff, 4096u64 << (address & 7));
        if base == 0 {
            return (Posted::Refused, None);
        }
        if self.u32(PAGE_REQUEST_STATUS) & OVERFLOW != 0 {
            self.overflowed.insert((source, request.group & GROUP_MASK), request.pasid);
            return (Posted::Overflow, None);
        }
        let within = |pointer: u64| pointer & (bytes - 1) & !(ENTRY_BYTES - 1);
        let tail = within(self.u64(QUEUE_TAIL));
        let next = (tail + ENTRY_BYTES) % bytes;
        if next == within(self.u64(QUEUE_HEAD)) {
            self.overflowed.insert((source, request.group & GROUP_MASK), request.pasid);
            return (Posted::Overflow, self.page_event(OVERFLOW));
        }
        const TYPE: u64 = 1;
        const PASID_PRESENT: u64 = 1 << 8;
        const LAST_IN_GROUP: u64 = 1 << 2;
        let access = if request.write { 1 << 1 } else { 1 << 0 };
        let group = u64::from(request.group & GROUP_MASK) << 3;
        let words = [
            TYPE | PASID_PRESENT | u64::from(source) << 16 | u64::from(request.pasid & 0xf_ffff) << 32,
            access | LAST_IN_GROUP | group | request.address & !0xfff,
            0,
            0,
        ];
        let at = base.wrapping_add(tail);
        let stored = (0..).step_by(8).zip(words).try_for_each(|(i, word)| memory.store_u64(at + i, word));
        if stored.is_err() {
            return (Posted::Refused, None);
        }
        self.set_u64(QUEUE_TAIL, next);
        (Posted::Queued, self.page_event(PENDING))
    }

    /// Set a bit of the status; the message when it was clear.
    fn page_event(&mut self, bit: u32) -> Option<Message> {
        let before = self.u32(PAGE_REQUEST_STATUS);
        self.set_u32(PAGE_REQUEST_STATUS, before | bit);
        if before & bit != 0 {
            return None;
        }
        let control = self.u32(PAGE_REQUEST_EVENT_CONTROL);
        if control & MASKED != 0 {
            self.set_u32(PAGE_REQUEST_EVENT_CONTROL, control | MESSAGE_PENDING);
            return None;
        }
        Some(self.page_message())
    }

    fn page_message(&self) -> Message {
        let upper = u64::from(self.u32(EVENT_UPPER_ADDRESS));
        let address = upper << 32 | u64::from(self.u32(EVENT_ADDRESS) & !3);
        Message { address, data: self.u32(EVENT_DATA) }
    }

    /// Software writes the event control: unmasking sends what was held back.
    pub(super) fn write_page_event_control(&mut self, value: u32) -> Option<Message> {
        let held = self.u32(PAGE_REQUEST_EVENT_CONTROL) & MESSAGE_PENDING;
        let masked = value & MASKED;
        let send = masked == 0 && held != 0;
        self.set_u32(PAGE_REQUEST_EVENT_CONTROL, masked | if send { 0 } else { held });
        send.then(|| self.page_message())
    }

    /// Software clears status bits. Requests that an overflow dropped are answered with success, so that they are made again.
    pub(super) fn clear_page_status(&mut self, bits: u32) -> Vec<PageResponse> {
        let status = self.u32(PAGE_REQUEST_STATUS) & !bits;
        self.set_u32(PAGE_REQUEST_STATUS, status);
        if status & (PENDING | OVERFLOW) == 0 {
            let control = self.u32(PAGE_REQUEST_EVENT_CONTROL);
            self.set_u32(PAGE_REQUEST_EVENT_CONTROL, control & !MESSAGE_PENDING);
        }
        if status & OVERFLOW != 0 {
            return Vec::new();
        }
        let again = |((source, group), pasid)| PageResponse {
            source,
            pasid: Some(pasid),
            group,
            code: ResponseCode::Success,
        };
        self.overflowed.drain().map(again).collect()
    }
}

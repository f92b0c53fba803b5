//! The VT-d register page: capabilities, global commands, queued invalidation. The page request queue's part is in [`super::page_request`].
//!
//! Owns: register values and the invalidation queue. Refuses: interpreting what is invalidated (nothing is cached).
//! Register offsets are those of the VT-d specification; names in comments.

use std::collections::HashMap;

use super::page_request::{Message, PageResponse};
use crate::memory::GuestMemory;
use crate::vtd::Translation;

const BYTES: usize = 4096;

const VERSION: usize = 0x00;
const CAP: usize = 0x08;
const ECAP: usize = 0x10;
const GLOBAL_COMMAND: usize = 0x18;
const GLOBAL_STATUS: usize = 0x1c;
const ROOT_TABLE: usize = 0x20;
const CONTEXT_COMMAND: usize = 0x28;
const FAULT_STATUS: usize = 0x34;
const FAULT_EVENT_CONTROL: usize = 0x38;
const QUEUE_HEAD: usize = 0x80;
const QUEUE_TAIL: usize = 0x88;
const QUEUE_ADDRESS: usize = 0x90;
const INVALIDATION_STATUS: usize = 0x9c;
const INVALIDATION_EVENT_CONTROL: usize = 0xa0;
pub(super) const PAGE_REQUEST_STATUS: usize = 0xdc;
pub(super) const PAGE_REQUEST_EVENT_CONTROL: usize = 0xe0;
/// Fault recording registers (CAP.FRO points here); always empty.
const FAULT_RECORDS: usize = 0x220;
/// IVA, then IOTLB (ECAP.IRO points here).
const IOTLB: usize = 0x250;

const VERSION_6_0: u32 = 0x60;
const EVENT_MASKED: u32 = 1 << 31;
const QUEUE_ERROR: u32 = 1 << 4;
const QUEUE_ENABLE: u32 = 1 << 26;

const CAPABILITIES: u64 = 6 // ND: 64 K domains
    | 2 << 8 // SAGAW: 48 bits
    | 47 << 16 // MGAW
    | (FAULT_RECORDS as u64 >> 4) << 24 // FRO
    | 1 << 34 // SLLPS: 2 MiB
    | 1 << 39 // PSI
    | 18 << 48 // MAMV
    | 1 << 54 // DWD
    | 1 << 55 // DRD
    | 1 << 56; // FL1GP: first-stage pages of 1 GiB

const EXTENDED_CAPABILITIES: u64 = 1 // C: coherent
    | 1 << 1 // QI
    | 1 << 2 // DT: device TLB
    | 1 << 6 // PT: pass-through
    | 1 << 7 // SC
    | (IOTLB as u64 >> 4) << 8 // IRO
    | 1 << 29 // PRS: 6.12 kernels refuse SVA without
    | 1 << 33 // EAFS
    | 19 << 35 // PSS: 20 PASID bits
    | 1 << 40 // PASID
    | 1 << 42 // PDS: 6.12 kernels refuse SVA without
    | 1 << 43 // SMTS: scalable mode
    | 1 << 47 // FLTS: first stage
    | 1 << 48; // SMPWC: 7.x kernels refuse SVA without

/// The register page. Accesses are little-endian words of 4 or 8 bytes; others are stored as they come.
#[derive(Debug)]
pub struct Registers {
    bytes: [u8; BYTES],
    /// Page requests that found no room, by function and group, with their PASID.
    pub(super) overflowed: HashMap<(u16, u16), u32>,
}

/// What a register write sets off outside of the unit.
#[derive(Debug, Default)]
pub struct Effects {
    pub responses: Vec<PageResponse>,
    pub message: Option<Message>,
}

impl Default for Registers {
    fn default() -> Self {
        let mut registers = Self { bytes: [0; BYTES], overflowed: HashMap::new() };
        registers.set_u32(VERSION, VERSION_6_0);
        registers.set_u64(CAP, CAPABILITIES);
        registers.set_u64(ECAP, EXTENDED_CAPABILITIES);
        for control in [FAULT_EVENT_CONTROL, INVALIDATION_EVENT_CONTROL, PAGE_REQUEST_EVENT_CONTROL] {
            registers.set_u32(control, EVENT_MASKED);
        }
        registers
    }
}

impl Registers {
    pub(super) fn u32(&self, at: usize) -> u32 {
        self.bytes[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b))
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        self.bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
    }

    pub(super) fn set_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    pub(super) fn set_u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    /// Past the end reads as zero.
    pub fn read(&self, offset: u64, into: &mut [u8]) {
        for (i, byte) in into.iter_mut().enumerate() {
            *byte = self.bytes.get((offset as usize).saturating_add(i)).copied().unwrap_or(0);
        }
    }

    /// A write by the guest, with what it sets off.
    pub fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        memory: &GuestMemory,
        translation: &Translation,
    ) -> Effects {
        let mut effects = Effects::default();
        let at = offset as usize;
        let word = match data.len() {
            4 if at.is_multiple_of(4) => {
                data.first_chunk().map_or(0, |b: &[u8; 4]| u64::from(u32::from_le_bytes(*b)))
            }
            8 if at.is_multiple_of(8) => data.first_chunk().map_or(0, |b| u64::from_le_bytes(*b)),
            _ => return effects,
        };
        if at + data.len() > BYTES {
            return effects;
        }
        let top_bit = 1u64 << (data.len() * 8 - 1);
        match at {
            GLOBAL_COMMAND => self.global_command(word as u32, translation),
            VERSION..GLOBAL_COMMAND | GLOBAL_STATUS | QUEUE_HEAD..QUEUE_TAIL => {}
            PAGE_REQUEST_STATUS => effects.responses = self.clear_page_status(word as u32),
            // With eight bytes, the data too.
            PAGE_REQUEST_EVENT_CONTROL => {
                self.store(at + 4, data.len() - 4, word >> 32);
                effects.message = self.write_page_event_control(word as u32);
            }
            FAULT_STATUS | INVALIDATION_STATUS => {
                self.set_u32(at, self.u32(at) & !(word as u32));
            }
            CONTEXT_COMMAND..FAULT_STATUS => {
                // Invalidate-context: done at once, so that the request bit (63) reads as zero.
                translation.drain();
                self.store(
                    at,
                    data.len(),
                    if at == CONTEXT_COMMAND && data.len() == 4 { word } else { word & !top_bit },
                );
            }
            _ if (IOTLB + 8..IOTLB + 16).contains(&at) => {
                translation.drain();
                self.store(
                    at,
                    data.len(),
                    if at == IOTLB + 8 && data.len() == 4 { word } else { word & !top_bit },
                );
            }
            _ => {
                self.store(at, data.len(), word);
                if at == QUEUE_TAIL && self.u32(GLOBAL_STATUS) & QUEUE_ENABLE != 0 {
                    effects.responses = self.run_queue(memory, translation);
                }
            }
        }
        effects
    }

    fn store(&mut self, at: usize, bytes: usize, word: u64) {
        self.bytes[at..at + bytes].copy_from_slice(&word.to_le_bytes()[..bytes]);
    }

    /// GCMD to GSTS: enables are levels, the two "set pointer" bits latch.
    fn global_command(&mut self, command: u32, translation: &Translation) {
        const LEVELS: u32 = 1 << 31 | QUEUE_ENABLE | 1 << 25; // translation, queued invalidation, interrupt remapping
        const SET_ROOT_TABLE: u32 = 1 << 30;
        const SET_INTERRUPT_TABLE: u32 = 1 << 24;
        let before = self.u32(GLOBAL_STATUS);
        let mut status = before & !LEVELS | command & LEVELS;
        if status & !before & QUEUE_ENABLE != 0 {
            self.set_u64(QUEUE_HEAD, 0);
        }
        status |= command & (SET_ROOT_TABLE | SET_INTERRUPT_TABLE);
        if command & SET_ROOT_TABLE != 0 {
            translation.set_root(self.u64(ROOT_TABLE));
            translation.drain();
        }
        self.set_u32(GLOBAL_STATUS, status);
    }

    /// Take descriptors from head to tail. Waits store their status; all others are done once accesses under way are.
    fn run_queue(&mut self, memory: &GuestMemory, translation: &Translation) -> Vec<PageResponse> {
        const WIDE: u64 = 1 << 11;
        const WAIT: u64 = 5;
        const PAGE_GROUP_RESPONSE: u64 = 9;
        const STATUS_WRITE: u64 = 1 << 5;
        const TYPES: std::ops::RangeInclusive<u64> = 1..=0xa;
        let address = self.u64(QUEUE_ADDRESS);
        let step = if address & WIDE != 0 { 32 } else { 16 };
        let bytes = 4096u64 << (address & 7);
        let base = address & !0xfff;
        let within = |pointer: u64| pointer & (bytes - 1) & !(step - 1);
        let tail = within(self.u64(QUEUE_TAIL));
        let mut head = within(self.u64(QUEUE_HEAD));
        let mut drained = false;
        let mut responses = Vec::new();
        while head != tail && self.u32(FAULT_STATUS) & QUEUE_ERROR == 0 {
            let at = base.wrapping_add(head);
            let words = memory.load_u64(at).and_then(|low| Ok((low, memory.load_u64(at + 8)?)));
            let kind = words.map(|(low, _)| low & 0xf | (low >> 9 & 7) << 4);
            let fine = match (words, kind) {
                (Ok((low, high)), Ok(WAIT)) => {
                    if !drained {
                        translation.drain();
                        drained = true;
                    }
                    low & STATUS_WRITE == 0 || memory.store_u32(high & !3, (low >> 32) as u32).is_ok()
                }
                (Ok((low, high)), Ok(PAGE_GROUP_RESPONSE)) => {
                    responses.push(PageResponse::from_words(low, high));
                    true
                }
                (Ok(_), Ok(kind)) => {
                    drained = false;
                    TYPES.contains(&kind)
                }
                _ => false,
            };
            if !fine {
                self.set_u32(FAULT_STATUS, self.u32(FAULT_STATUS) | QUEUE_ERROR);
                break;
            }
            head = (head + step) % bytes;
        }
        self.set_u64(QUEUE_HEAD, head);
        responses
    }
}

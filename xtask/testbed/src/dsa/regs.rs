//! BAR0: what software reads and what its writes do.
//!
//! Owns: the register map of idxd-facts section 1.2. Refuses: writes that are not whole aligned dwords or qwords, and those
//! that the state of device or WQ forbids (configuration is fixed while enabled); refused writes change nothing.

use dsascope_common::hw::regs::{self, evlstatus, gencfg, genctrl, genstats, grpcfg, wqcfg};

use super::DsaDevice;
use super::model::{ENGINES, GROUPS, VECTORS, WQS};
use super::state::{State, WQCFG_DWORDS};
use crate::truth::Event;

/// Offsets of the tables, announced in TABLE_OFFSETS in units of 0x100.
pub(super) const GRPCFG: u64 = 0x400;
pub(super) const MSIX_PERMISSIONS: u64 = 0x500;
pub(super) const WQCFG: u64 = 0x600;
const WQCFG_BYTES: u64 = 4 * WQCFG_DWORDS as u64;
/// Commands 1 to 12; interrupt handles are the MSI-X vectors.
const CMDCAP: u64 = 0x1ffe;
const EVLSTATUS_HIGH: u64 = regs::EVLSTATUS + 4;
const PENDING_IN_HIGH: u32 = (evlstatus::INTERRUPT_PENDING >> 32) as u32;
const GRPCFG_END: u64 = GRPCFG + GROUPS as u64 * grpcfg::BYTES;
const PERMISSIONS_END: u64 = MSIX_PERMISSIONS + VECTORS as u64 * 8;
const WQCFG_END: u64 = WQCFG + WQS as u64 * WQCFG_BYTES;

impl DsaDevice {
    /// Software reads BAR0.
    pub fn read_register(&self, offset: u64, into: &mut [u8]) {
        let state = self.state();
        let mut word = (u64::MAX, 0);
        for (at, byte) in (offset..).zip(into) {
            if word.0 != at & !7 {
                word = (at & !7, qword(&state, at & !7));
            }
            *byte = (word.1 >> ((at & 7) * 8)) as u8;
        }
    }

    /// Software writes BAR0.
    pub fn write_register(&self, offset: u64, data: &[u8]) {
        if !offset.is_multiple_of(4) || !matches!(data.len(), 4 | 8) {
            return;
        }
        for (at, dword) in (offset..).step_by(4).zip(data.chunks_exact(4)) {
            let value = dword.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
            self.write_dword(at, value);
        }
    }

    fn write_dword(&self, at: u64, value: u32) {
        let mut guard = self.state();
        let state = &mut *guard;
        let configurable = state.registers.state() == genstats::DISABLED;
        let r = &mut state.registers;
        let low = at.is_multiple_of(8);
        match at {
            regs::GENCFG if configurable => {
                r.gencfg = value & (0xff | gencfg::USER_INTERRUPT_ENABLE | gencfg::EVENT_LOG_ENABLE);
            }
            regs::GENCTRL => {
                r.genctrl = value
                    & (genctrl::SOFTWARE_ERROR_INTERRUPT
                        | genctrl::HALT_INTERRUPT
                        | genctrl::EVENT_LOG_INTERRUPT);
            }
            regs::INTCAUSE => r.intcause &= !value,
            regs::CMD => self.command(state, value),
            // Write 1 to clear: valid, overflow.
            regs::SWERROR => r.swerror[0] &= !u64::from(value & 3),
            regs::EVLCFG..regs::EVLSTATUS if configurable => {
                let word = &mut r.evlcfg[((at - regs::EVLCFG) / 8) as usize];
                *word = merge(*word, low, value);
            }
            regs::EVLSTATUS => {
                r.head = value & 0xffff;
                self.log(Event::Head { device: self.name(), head: value & 0xffff });
                self.progress.notify_all();
            }
            EVLSTATUS_HIGH if value & PENDING_IN_HIGH != 0 => r.pending = false,
            GRPCFG..GRPCFG_END if configurable => write_group(state, at - GRPCFG, value),
            MSIX_PERMISSIONS..PERMISSIONS_END => {
                let word = &mut r.msix_permissions[((at - MSIX_PERMISSIONS) / 8) as usize];
                *word = merge(*word, low, value);
            }
            WQCFG..WQCFG_END => write_wq(state, at - WQCFG, value),
            _ => {}
        }
    }
}

fn merge(word: u64, low: bool, value: u32) -> u64 {
    if low { word & !0xffff_ffff | u64::from(value) } else { word & 0xffff_ffff | u64::from(value) << 32 }
}

fn write_group(state: &mut State, offset: u64, value: u32) {
    let group = &mut state.registers.groups[(offset / grpcfg::BYTES) as usize];
    let at = offset % grpcfg::BYTES;
    let word = match at & !7 {
        wqs @ grpcfg::WQS..grpcfg::ENGINES => &mut group.wqs[(wqs / 8) as usize],
        grpcfg::ENGINES => &mut group.engines,
        grpcfg::FLAGS => &mut group.flags,
        _ => return,
    };
    *word = merge(*word, at.is_multiple_of(8), value);
}

fn write_wq(state: &mut State, offset: u64, value: u32) {
    let wq = &mut state.wqs[(offset / WQCFG_BYTES) as usize];
    let dword = (offset % WQCFG_BYTES / 4) as usize;
    if wq.state == wqcfg::STATE_DISABLED && dword != wqcfg::STATE {
        wq.config[dword] = value;
    }
}

/// The eight bytes at `at`, which is a multiple of eight.
fn qword(state: &State, at: u64) -> u64 {
    let r = &state.registers;
    let kind = state.kind;
    match at {
        regs::VERSION => u64::from(regs::VERSION_2),
        regs::GENCAP => kind.gencap(),
        regs::WQCAP => kind.wqcap(),
        regs::GRPCAP => kind.grpcap(),
        regs::ENGCAP => ENGINES as u64,
        regs::OPCAP..regs::TABLE_OFFSETS => kind.opcap()[((at - regs::OPCAP) / 8) as usize],
        regs::TABLE_OFFSETS => GRPCFG >> 8 | WQCFG >> 8 << 16 | MSIX_PERMISSIONS >> 8 << 32,
        regs::GENCFG => u64::from(r.gencfg),
        regs::GENCTRL => u64::from(r.genctrl),
        regs::GENSTATS => u64::from(r.genstats),
        regs::INTCAUSE => u64::from(r.intcause),
        regs::CMDSTATUS => u64::from(r.cmdstatus),
        regs::CMDCAP => CMDCAP,
        regs::SWERROR..regs::EVLCFG => r.swerror[((at - regs::SWERROR) / 8) as usize],
        regs::EVLCFG..regs::EVLSTATUS => r.evlcfg[((at - regs::EVLCFG) / 8) as usize],
        regs::EVLSTATUS => state.event_log_status(),
        GRPCFG..GRPCFG_END => {
            let group = &r.groups[((at - GRPCFG) / grpcfg::BYTES) as usize];
            match (at - GRPCFG) % grpcfg::BYTES {
                wqs @ grpcfg::WQS..grpcfg::ENGINES => group.wqs[(wqs / 8) as usize],
                grpcfg::ENGINES => group.engines,
                grpcfg::FLAGS => group.flags,
                _ => 0,
            }
        }
        MSIX_PERMISSIONS..PERMISSIONS_END => r.msix_permissions[((at - MSIX_PERMISSIONS) / 8) as usize],
        WQCFG..WQCFG_END => {
            let wq = &state.wqs[((at - WQCFG) / WQCFG_BYTES) as usize];
            let first = ((at - WQCFG) % WQCFG_BYTES / 4) as usize;
            let dword = |i: usize| u64::from(if i == wqcfg::STATE { wq.state_dword() } else { wq.config[i] });
            dword(first) | dword(first + 1) << 32
        }
        _ => 0,
    }
}

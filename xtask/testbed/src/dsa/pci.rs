//! Configuration space of a DSA or IAA function: PCI Express, MSI-X, power management, ATS, PASID, PRI.

use dsascope_common::hw::VENDOR_INTEL;

use super::model::{Kind, VECTORS};
use crate::pci::ConfigSpace;

/// BAR0 bytes: registers, then the MSI-X table and PBA (which the hypervisor emulates).
pub(super) const BAR0_BYTES: u64 = 0x1_0000;
const MSIX_TABLE: u32 = 0x2000;
const MSIX_PBA: u32 = 0x3000;

const EXPRESS: usize = 0x40;
pub(super) const DEVICE_CONTROL: usize = EXPRESS + 8;
pub(super) const FUNCTION_LEVEL_RESET: u16 = 1 << 15;
const MSIX: usize = 0x80;
const POWER: usize = 0x90;
const ATS: usize = 0x100;
const PASID: usize = 0x110;
const PASID_CONTROL: usize = PASID + 6;
const PRI: usize = 0x120;
const PRI_CONTROL: usize = PRI + 4;
const PRI_STATUS: usize = PRI + 6;
const PRI_ENABLE: u8 = 1 << 0;
const PRI_RESET: u8 = 1 << 1;
/// Software answered "failure"; no more requests until it resets the capability.
const PRI_FAILED: u16 = 1 << 0;
const PRI_STOPPED: u16 = 1 << 8;
/// Page-request responses carry a PASID.
const PRI_RESPONSE_PASID: u16 = 1 << 15;

pub(super) fn config_space(kind: Kind) -> ConfigSpace {
    let mut c = ConfigSpace::new(VENDOR_INTEL, kind.pci_device(), EXPRESS as u8);
    c.set_u32(0x10, 0x4); // BAR0: 64 bits
    c.set_u32(0x18, 0xc); // BAR2: 64 bits, prefetchable
    c.set_u16(0x2c, VENDOR_INTEL);

    // version 2, root-complex integrated endpoint; role-based errors, function-level reset
    c.set(EXPRESS, &[0x10, MSIX as u8]);
    c.set_u16(EXPRESS + 2, 2 | 9 << 4);
    c.set_u32(EXPRESS + 4, 1 << 28 | 1 << 15);
    c.allow(DEVICE_CONTROL, &[0xff, 0x7f]);
    // DEVCAP2 [22:21], End-End TLP prefixes: without them PASID cannot be enabled
    c.set_u32(EXPRESS + 0x24, 1 << 21 | 1 << 22);

    c.set(MSIX, &[0x11, POWER as u8]);
    c.set_u16(MSIX + 2, VECTORS - 1);
    c.allow(MSIX + 3, &[0xc0]);
    c.set_u32(MSIX + 4, MSIX_TABLE);
    c.set_u32(MSIX + 8, MSIX_PBA);

    c.set(POWER, &[0x01, 0]);
    c.set_u16(POWER + 2, 3);
    c.set_u16(POWER + 4, 1 << 3); // no soft reset
    c.allow(POWER + 4, &[0x03, 0x01]);

    c.set_u32(ATS, extended(0x0f, PASID));
    c.set_u16(ATS + 4, 1 << 5 | 1 << 6); // page-aligned, global invalidate
    c.allow(ATS + 6, &[0x1f, 0x80]);

    c.set_u32(PASID, extended(0x1b, PRI));
    c.set_u16(PASID + 4, 20 << 8 | 1 << 2); // 20 bits, privileged mode
    c.allow(PASID_CONTROL, &[0x07]);

    c.set_u32(PRI, extended(0x13, 0));
    c.set_u16(PRI_STATUS, PRI_RESPONSE_PASID | PRI_STOPPED);
    c.set_u32(PRI + 8, 512); // outstanding requests it could have
    c.allow(PRI_CONTROL, &[PRI_ENABLE]);
    c.allow(PRI + 12, &[0xff; 4]);
    c
}

fn extended(id: u32, next: usize) -> u32 {
    id | 1 << 16 | (next as u32) << 20
}

pub(super) fn pasid_enabled(config: &ConfigSpace) -> bool {
    config.u16(PASID_CONTROL) & 1 != 0
}

/// A write by software; true when it asks for a function-level reset.
pub(super) fn write(config: &mut ConfigSpace, at: usize, data: &[u8]) -> bool {
    config.write(at, data);
    let written = |byte: usize| byte.checked_sub(at).and_then(|i| data.get(i)).copied();
    let reset = written(PRI_CONTROL).is_some_and(|byte| byte & PRI_RESET != 0);
    // The bit is also cleared by writing it.
    let cleared = written(PRI_STATUS).is_some_and(|byte| u16::from(byte) & PRI_FAILED != 0);
    let failed = if reset || cleared { 0 } else { config.u16(PRI_STATUS) & PRI_FAILED };
    set_pri_status(config, failed);
    let high = DEVICE_CONTROL + 1;
    written(high).is_some_and(|byte| u16::from(byte) << 8 & FUNCTION_LEVEL_RESET != 0)
}

fn set_pri_status(config: &mut ConfigSpace, failed: u16) {
    let stopped = if config.u16(PRI_CONTROL) & u16::from(PRI_ENABLE) != 0 { 0 } else { PRI_STOPPED };
    config.set_u16(PRI_STATUS, PRI_RESPONSE_PASID | stopped | failed);
}

pub(super) fn page_requests_enabled(config: &ConfigSpace) -> bool {
    config.u16(PRI_CONTROL) & u16::from(PRI_ENABLE) != 0 && config.u16(PRI_STATUS) & PRI_FAILED == 0
}

pub(super) fn page_requests_failed(config: &mut ConfigSpace) {
    set_pri_status(config, PRI_FAILED);
}

//! PCI configuration space: bytes, and which of their bits software can write.
//!
//! Owns: storage, write masks, the building of capabilities. Refuses: BARs (the hypervisor emulates them and tells) and
//! side effects, which belong to the device.

pub const BYTES: usize = 4096;

pub const COMMAND: usize = 0x04;
pub const COMMAND_MEMORY: u16 = 1 << 1;
pub const COMMAND_BUS_MASTER: u16 = 1 << 2;
pub const BAR0: usize = 0x10;
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const CLASS: usize = 0x09;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;

/// All integers are little-endian; offsets in bytes. Accesses past the end read as zero and write nothing.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    writable: Vec<u8>,
}

impl ConfigSpace {
    /// A header of type 0 with a capability list that starts at `capabilities`; class "other system peripheral" (08 80).
    #[must_use]
    pub fn new(vendor: u16, device: u16, capabilities: u8) -> Self {
        let mut space = Self { bytes: vec![0; BYTES], writable: vec![0; BYTES] };
        space.set(0, &vendor.to_le_bytes());
        space.set(2, &device.to_le_bytes());
        space.set(STATUS, &STATUS_CAPABILITIES.to_le_bytes());
        space.set(CLASS, &[0, 0x80, 0x08]);
        space.set(CAPABILITIES, &[capabilities]);
        // memory space, bus master, parity, SERR, INTx disable
        space.allow(COMMAND, &0x0546u16.to_le_bytes());
        space.allow(INTERRUPT_LINE, &[0xff]);
        space
    }

    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *slot = *byte;
        }
    }

    pub fn set_u16(&mut self, at: usize, value: u16) {
        self.set(at, &value.to_le_bytes());
    }

    pub fn set_u32(&mut self, at: usize, value: u32) {
        self.set(at, &value.to_le_bytes());
    }

    /// Let software write the bits of `mask`.
    pub fn allow(&mut self, at: usize, mask: &[u8]) {
        for (slot, byte) in self.writable.iter_mut().skip(at).zip(mask) {
            *slot = *byte;
        }
    }

    /// A write by software.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        let slots = self.bytes.iter_mut().zip(&self.writable).skip(at);
        for ((slot, mask), byte) in slots.zip(bytes) {
            *slot = *slot & !mask | byte & mask;
        }
    }

    pub fn read(&self, at: usize, into: &mut [u8]) {
        for (i, byte) in into.iter_mut().enumerate() {
            *byte = self.bytes.get(at.saturating_add(i)).copied().unwrap_or(0);
        }
    }

    #[must_use]
    pub fn u16(&self, at: usize) -> u16 {
        let mut bytes = [0; 2];
        self.read(at, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    #[must_use]
    pub fn bus_master(&self) -> bool {
        self.u16(COMMAND) & COMMAND_BUS_MASTER != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_allowed_bits_change() {
        let mut space = ConfigSpace::new(0x8086, 0x0b25, 0x40);
        space.write(0, &[0xff; 8]);
        assert_eq!((space.u16(0), space.u16(2), space.u16(COMMAND)), (0x8086, 0x0b25, 0x0546));
        assert!(space.bus_master());
        space.write(usize::MAX, &[1]);
        let mut past = [9; 4];
        space.read(BYTES - 2, &mut past);
        assert_eq!(past, [0; 4]);
    }
}

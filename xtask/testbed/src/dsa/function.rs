//! The device as a vfio-user endpoint: which region goes where.

use std::sync::Arc;

use super::DsaDevice;
use super::{pci, portal};
use crate::vfio::{Endpoint, EventFds, Region};

/// A PCI function.
#[derive(Debug)]
pub struct Function {
    device: Arc<DsaDevice>,
    vectors: Arc<EventFds>,
}

impl Function {
    #[must_use]
    pub fn new(device: Arc<DsaDevice>, vectors: Arc<EventFds>) -> Self {
        Self { device, vectors }
    }
}

impl Endpoint for Function {
    fn region_bytes(&self, region: Region) -> u64 {
        match region {
            Region::Bar0 => pci::BAR0_BYTES,
            Region::Bar2 => portal::BAR2_BYTES,
            Region::Config => crate::pci::BYTES as u64,
        }
    }

    fn read(&self, region: Region, offset: u64, into: &mut [u8]) {
        match region {
            Region::Bar0 => self.device.read_register(offset, into),
            Region::Bar2 => self.device.read_portal(offset, into),
            Region::Config => self.device.read_config(offset, into),
        }
    }

    fn write(&self, region: Region, offset: u64, from: &[u8]) {
        match region {
            Region::Bar0 => self.device.write_register(offset, from),
            Region::Bar2 => self.device.write_portal(offset, from),
            Region::Config => self.device.write_config(offset, from),
        }
    }

    fn reset(&self) {
        self.device.reset();
    }

    fn interrupts(&self) -> &EventFds {
        &self.vectors
    }
}

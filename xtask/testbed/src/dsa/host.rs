//! What a device needs of its surroundings: memory through translation, interrupts, the truth log.
//!
//! Owns: the traits, and [`Port`], their form behind vfio-user. Tests bring their own.

use std::sync::Arc;

use crate::memory::MemoryError;
use crate::truth::Truth;
use crate::vfio::EventFds;
use crate::vfio::server::Machine;
use crate::vtd::{Access, PageRequest, Posted, Translation, Unit, WalkError};

/// A memory access that could not be translated or that hit nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("DMA at {address:#x}: {reason}")]
pub struct DmaFault {
    pub address: u64,
    pub reason: WalkError,
}

/// Memory as one PCI function sees it. An access must not cross a 4 KiB page; `pasid` none: untagged requests.
pub trait Dma: Send + Sync {
    fn read(&self, pasid: Option<u32>, address: u64, into: &mut [u8]) -> Result<(), DmaFault>;
    fn write(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault>;
    /// Write an 8-byte-aligned record so that a reader who sees its first eight bytes sees all of it.
    fn write_record(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault>;
}

/// MSI-X messages.
pub trait Interrupts: Send + Sync {
    /// False when the message went nowhere.
    fn raise(&self, vector: u16) -> bool;
}

impl Interrupts for EventFds {
    fn raise(&self, vector: u16) -> bool {
        Self::raise(self, vector)
    }
}

/// The way to the IOMMU's page request queue.
pub trait PageRequests: Send + Sync {
    /// Ask for a page. The answer comes to [`super::DsaDevice::page_response`], perhaps before this returns; none comes after
    /// [`Posted::Refused`].
    fn request(&self, request: PageRequest) -> Posted;
}

#[derive(Clone)]
pub struct Host {
    pub dma: Arc<dyn Dma>,
    pub pages: Arc<dyn PageRequests>,
    pub interrupts: Arc<dyn Interrupts>,
    pub truth: Arc<Truth>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// A PCI function's way to guest memory.
#[derive(Debug)]
pub struct Port {
    pub machine: Arc<Machine>,
    pub unit: Arc<Unit>,
    pub translation: Arc<Translation>,
    /// Bus, device and function.
    pub source: u16,
}

impl Port {
    fn access(
        &self,
        pasid: Option<u32>,
        address: u64,
        write: bool,
        then: impl FnOnce(u64) -> Result<(), MemoryError>,
    ) -> Result<(), DmaFault> {
        let access = Access { source: self.source, pasid, address, write };
        self.translation
            .access(&self.machine.memory, access, |physical| Ok(then(physical)?))
            .map_err(|reason| DmaFault { address, reason })
    }
}

impl PageRequests for Port {
    fn request(&self, request: PageRequest) -> Posted {
        self.unit.request_page(self.source, request)
    }
}

impl Dma for Port {
    fn read(&self, pasid: Option<u32>, address: u64, into: &mut [u8]) -> Result<(), DmaFault> {
        self.access(pasid, address, false, |physical| self.machine.memory.read(physical, into))
    }

    fn write(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        self.access(pasid, address, true, |physical| self.machine.memory.write(physical, from))
    }

    fn write_record(&self, pasid: Option<u32>, address: u64, from: &[u8]) -> Result<(), DmaFault> {
        let memory = &self.machine.memory;
        self.access(pasid, address, true, |physical| {
            let Some((first, rest)) = from.split_first_chunk::<8>() else {
                return memory.write(physical, from);
            };
            memory.write(physical + 8, rest)?;
            memory.store_u64(physical, u64::from_le_bytes(*first))
        })
    }
}

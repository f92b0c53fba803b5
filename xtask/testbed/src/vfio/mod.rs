//! vfio-user, the protocol by which a hypervisor uses a PCI device that lives in another process.
//!
//! Owns: the messages ([`codec`]) and one connection at a time for each device ([`server`]). Refuses: knowing what the device is;
//! that is behind [`Endpoint`].
//! Not modelled: migration, `REGION_WRITE_MULTI`, I/O fds, DMA by message (all of guest RAM comes as file descriptors), INTx.

pub mod codec;
pub mod server;

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

/// VFIO's PCI region numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    Bar0,
    Bar2,
    Config,
}

impl Region {
    #[must_use]
    pub const fn from_index(index: u32) -> Option<Self> {
        match index {
            0 => Some(Self::Bar0),
            2 => Some(Self::Bar2),
            7 => Some(Self::Config),
            _ => None,
        }
    }
}

/// What a device shows to the protocol. Offsets and lengths have been checked against [`Endpoint::region_bytes`].
pub trait Endpoint: Send + Sync {
    /// Zero: the device has no such region.
    fn region_bytes(&self, region: Region) -> u64;
    fn read(&self, region: Region, offset: u64, into: &mut [u8]);
    fn write(&self, region: Region, offset: u64, from: &[u8]);
    /// The machine was reset, or asks for a function reset.
    fn reset(&self);
    /// MSI-X vectors of the device.
    fn interrupts(&self) -> &EventFds;
}

/// MSI-X vectors, each wired to an eventfd of the hypervisor's or to nothing.
#[derive(Debug)]
pub struct EventFds {
    vectors: Vec<Mutex<Option<OwnedFd>>>,
}

impl EventFds {
    #[must_use]
    pub fn new(vectors: u16) -> Self {
        Self { vectors: (0..vectors).map(|_| Mutex::new(None)).collect() }
    }

    #[must_use]
    pub fn count(&self) -> u32 {
        self.vectors.len() as u32
    }

    /// Connect `vector`, or disconnect it; out of range does nothing.
    pub fn wire(&self, vector: u32, fd: Option<OwnedFd>) {
        if let Some(slot) = self.vectors.get(vector as usize) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = fd;
        }
    }

    pub fn unwire_all(&self) {
        (0..self.count()).for_each(|vector| self.wire(vector, None));
    }

    /// True when something is connected to `vector` and took the event.
    pub fn raise(&self, vector: u16) -> bool {
        let Some(slot) = self.vectors.get(usize::from(vector)) else { return false };
        let slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.as_ref().is_some_and(|fd| nix::unistd::write(fd, &1u64.to_ne_bytes()).is_ok())
    }
}

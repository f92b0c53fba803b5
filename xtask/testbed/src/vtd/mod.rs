//! A VT-d remapping unit as far as shared virtual addressing needs it: registers, queued invalidation, the walk of the guest's
//! own tables, and the ACPI table that announces the unit.
//!
//! The unit is a PCI device whose BAR0 is the register page, because the hypervisor has no remapping unit that devices outside
//! of its process could use.
//! Not modelled: second-stage and nested translation, 5-level paging, interrupt remapping, fault recording registers, caches (each
//! access walks the tables, so that an invalidation has nothing to drop; it waits for accesses under way).

pub mod dmar;
mod message;
mod page_request;
mod regs;
mod walk;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

pub use message::{MessagePort, MessageServer, Messages};
pub use page_request::{GROUP_MASK, Message, PageRequest, PageResponse, Posted, ResponseCode};
pub use regs::{Effects, Registers};
pub use walk::{Access, WalkError, WalkFault};

use crate::memory::GuestMemory;
use crate::pci::{self, ConfigSpace};
use crate::vfio::server::Machine;
use crate::vfio::{Endpoint, EventFds, Region};

const REGISTER_BYTES: u64 = 4096;
/// Red Hat's vendor id with a device id that no driver claims.
const VENDOR: u16 = 0x1b36;
const DEVICE: u16 = 0x0fff;

/// What devices need of the unit: the root table, and a gate that an invalidation closes until accesses under way are done.
#[derive(Debug, Default)]
pub struct Translation {
    /// RTADDR as of the last "set root table pointer"; zero before.
    root: AtomicU64,
    accesses: RwLock<()>,
}

impl Translation {
    /// Translate for `source` (bus, device, function as 16 bits) and run `then` on the physical address before any
    /// invalidation can complete. `bytes` from `address` must not cross a 4 KiB page.
    pub fn access<T>(
        &self,
        memory: &GuestMemory,
        access: Access,
        then: impl FnOnce(u64) -> Result<T, WalkError>,
    ) -> Result<T, WalkError> {
        let _gate = self.accesses.read().unwrap_or_else(PoisonError::into_inner);
        let physical = walk::walk(memory, self.root.load(Ordering::Acquire), access)?;
        then(physical)
    }

    fn page_requests_enabled(&self, memory: &GuestMemory, source: u16) -> bool {
        walk::page_requests_enabled(memory, self.root.load(Ordering::Acquire), source)
    }

    fn set_root(&self, root: u64) {
        self.root.store(root, Ordering::Release);
    }

    /// Wait until every access that may have used an old translation is done.
    fn drain(&self) {
        drop(self.accesses.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Where firmware put the register page.
#[derive(Debug, Default)]
struct BarWatch {
    base: Mutex<Option<u64>>,
    changed: Condvar,
}

/// Takes the answers to its page requests.
pub trait Requester: Send + Sync {
    fn page_response(&self, response: PageResponse);
}

/// The unit as a vfio-user endpoint.
pub struct Unit {
    machine: Arc<Machine>,
    translation: Arc<Translation>,
    registers: Mutex<Registers>,
    config: Mutex<ConfigSpace>,
    /// BAR0 as last written, before memory decoding is switched on.
    bar_written: AtomicU64,
    bar: BarWatch,
    interrupts: EventFds,
    messages: Arc<dyn Messages>,
    /// By bus, device and function.
    requesters: Mutex<HashMap<u16, Weak<dyn Requester>>>,
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unit").finish_non_exhaustive()
    }
}

impl Unit {
    #[must_use]
    pub fn new(machine: Arc<Machine>, messages: Arc<dyn Messages>) -> Self {
        Self {
            machine,
            translation: Arc::default(),
            registers: Mutex::default(),
            config: Mutex::new(config_space()),
            bar_written: AtomicU64::new(0),
            bar: BarWatch::default(),
            interrupts: EventFds::new(0),
            messages,
            requesters: Mutex::default(),
        }
    }

    /// Who gets the answers for function `source`.
    pub fn attach(&self, source: u16, requester: Weak<dyn Requester>) {
        self.requesters.lock().unwrap_or_else(PoisonError::into_inner).insert(source, requester);
    }

    /// A page request of `source`. The answer may come before this returns.
    pub fn request_page(&self, source: u16, request: PageRequest) -> Posted {
        let memory = &self.machine.memory;
        if !self.translation.page_requests_enabled(memory, source) {
            return Posted::Refused;
        }
        let mut registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
        let (posted, message) = registers.post(memory, source, request);
        drop(registers);
        self.apply(Effects { message, ..Effects::default() });
        posted
    }

    /// What a register access set off, outside of the registers' lock.
    fn apply(&self, effects: Effects) {
        for response in effects.responses {
            let requesters = self.requesters.lock().unwrap_or_else(PoisonError::into_inner);
            let requester = requesters.get(&response.source).and_then(Weak::upgrade);
            drop(requesters);
            match requester {
                Some(requester) => requester.page_response(response),
                None => log::debug!("{response:?} for nobody"),
            }
        }
        if let Some(message) = effects.message
            && !self.messages.send(message)
        {
            log::warn!("page requests are pending and {message:x?} went nowhere");
        }
    }

    #[must_use]
    pub fn translation(&self) -> Arc<Translation> {
        Arc::clone(&self.translation)
    }

    /// Address of the register page once firmware has assigned and enabled it.
    #[must_use]
    pub fn bar(&self) -> Option<u64> {
        *self.bar.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forget [`Unit::bar`]: another machine starts.
    pub fn forget_bar(&self) {
        self.bar_written.store(0, Ordering::Relaxed);
        *self.bar.base.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Wait for [`Unit::bar`].
    #[must_use]
    pub fn wait_bar(&self, timeout: Duration) -> Option<u64> {
        let until = Instant::now() + timeout;
        let mut base = self.bar.base.lock().unwrap_or_else(PoisonError::into_inner);
        while base.is_none() {
            let left = until.checked_duration_since(Instant::now())?;
            base = self.bar.changed.wait_timeout(base, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        *base
    }

    fn config_written(&self, offset: u64, data: &[u8]) {
        let at = offset as usize;
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        config.write(at, data);
        if at == pci::BAR0
            && let Ok(word) = <[u8; 4]>::try_from(data)
        {
            // The hypervisor answers size probes itself, but passes all writes on.
            let address = u32::from_le_bytes(word) & !0xf;
            let known = if address == !0xf { 0 } else { u64::from(address) };
            self.bar_written.store(known, Ordering::Relaxed);
        }
        let base = self.bar_written.load(Ordering::Relaxed);
        if base != 0 && config.u16(pci::COMMAND) & pci::COMMAND_MEMORY != 0 {
            *self.bar.base.lock().unwrap_or_else(PoisonError::into_inner) = Some(base);
            self.bar.changed.notify_all();
        }
    }
}

impl Endpoint for Unit {
    fn region_bytes(&self, region: Region) -> u64 {
        match region {
            Region::Bar0 => REGISTER_BYTES,
            Region::Config => pci::BYTES as u64,
            Region::Bar2 => 0,
        }
    }

    fn read(&self, region: Region, offset: u64, into: &mut [u8]) {
        match region {
            Region::Bar0 => {
                self.registers.lock().unwrap_or_else(PoisonError::into_inner).read(offset, into);
            }
            Region::Config => {
                let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
                config.read(offset as usize, into);
            }
            Region::Bar2 => {}
        }
    }

    fn write(&self, region: Region, offset: u64, from: &[u8]) {
        match region {
            Region::Bar0 => {
                let mut registers = self.registers.lock().unwrap_or_else(PoisonError::into_inner);
                let effects = registers.write(offset, from, &self.machine.memory, &self.translation);
                drop(registers);
                self.apply(effects);
            }
            Region::Config => self.config_written(offset, from),
            Region::Bar2 => {}
        }
    }

    fn reset(&self) {
        *self.registers.lock().unwrap_or_else(PoisonError::into_inner) = Registers::default();
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config_space();
        self.translation.set_root(0);
        self.translation.drain();
    }

    fn interrupts(&self) -> &EventFds {
        &self.interrupts
    }
}

fn config_space() -> ConfigSpace {
    let mut space = ConfigSpace::new(VENDOR, DEVICE, 0x40);
    // PCI Express, version 2, root-complex integrated endpoint
    space.set(0x40, &[0x10, 0]);
    space.set_u16(0x42, 2 | 9 << 4);
    space.set_u32(0x44, 0x8000);
    space
}

#[cfg(test)]
mod tests;

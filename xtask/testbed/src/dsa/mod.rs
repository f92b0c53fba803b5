//! A DSA 2.0 (or IAA) device: registers, commands, portals, engines, event log.
//!
//! [`DsaDevice`] is the model; it knows memory, interrupts and the truth log only through [`Host`], so that tests drive it
//! without a hypervisor. [`Function`] is its face towards vfio-user.
//! What a module does not model is said at its top. For the device as a whole: perfmon, interrupt handles,
//! inter-domain operations.

mod batch;
mod command;
mod completion;
mod drain;
mod engine;
mod event_log;
mod function;
mod halt;
mod host;
mod model;
mod ops;
mod paging;
mod pci;
mod portal;
mod regs;
mod state;
mod swerror;

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

pub use batch::MAX_BATCH_IDENTIFIERS;
pub use function::Function;
pub use halt::{Injection, Plan, ResetType};
pub use host::{Dma, DmaFault, Host, Interrupts, PageRequests, Port};
pub use model::{ENGINES, GROUPS, Kind, TOTAL_ENTRIES, VECTORS, WQS};

use crate::DeviceConfig;
use crate::truth::{DropReason, Event};
use state::State;

/// The model of one device.
#[derive(Debug)]
pub struct DsaDevice {
    name: String,
    kind: Kind,
    host: Host,
    state: Mutex<State>,
    /// One an engine.
    wake: [Condvar; ENGINES],
    /// Something that an engine or a reset may wait for has happened.
    progress: Condvar,
}

impl DsaDevice {
    /// A device as after power-on; `name` is the guest's for it and stands in the truth log.
    #[must_use]
    pub fn new(name: &str, config: DeviceConfig, host: Host) -> Self {
        let DeviceConfig { kind, batch_identifiers } = config;
        Self {
            name: name.to_owned(),
            kind,
            host,
            state: Mutex::new(State::new(kind, batch_identifiers)),
            wake: Default::default(),
            progress: Condvar::new(),
        }
    }

    /// Threads for all engines; they end after [`DsaDevice::stop`].
    pub fn start(self: &Arc<Self>) -> std::io::Result<Vec<JoinHandle<()>>> {
        (0..ENGINES)
            .map(|engine| {
                let device = Arc::clone(self);
                let name = format!("{}-engine{engine}", self.name);
                std::thread::Builder::new().name(name).spawn(move || device.run_engine(engine))
            })
            .collect()
    }

    /// End the engines; whoever waits for anything gives up.
    pub fn stop(&self) {
        self.state().stopping = true;
        self.progress.notify_all();
        self.wake.iter().for_each(Condvar::notify_all);
    }

    /// Software reads configuration space.
    pub fn read_config(&self, offset: u64, into: &mut [u8]) {
        self.state().config.read(offset as usize, into);
    }

    /// Software writes configuration space.
    pub fn write_config(&self, offset: u64, data: &[u8]) {
        let reset = pci::write(&mut self.state().config, offset as usize, data);
        if reset {
            self.reset_by(ResetType::Flr);
        }
    }

    /// As the guest calls it.
    #[must_use]
    pub fn guest_name(&self) -> &str {
        &self.name
    }

    /// A poisoned lock is taken all the same: no code here leaves a state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        on.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn log(&self, event: Event) {
        self.host.truth.log(event);
    }

    fn dropped(&self, wq: u8, pasid: Option<u32>, reason: DropReason) {
        self.log(Event::Dropped { device: self.name(), wq, pasid, reason });
    }

    /// Set a bit of INTCAUSE and send vector 0.
    fn cause(&self, state: &mut State, bit: u32) {
        state.registers.intcause |= bit;
        self.raise(0, state.registers.intcause);
    }

    fn raise(&self, vector: u16, cause: u32) {
        let delivered = self.host.interrupts.raise(vector);
        self.log(Event::Interrupt { device: self.name(), vector, cause, delivered });
    }
}

#[cfg(test)]
mod tests;

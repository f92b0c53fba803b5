//! Emulated DSA 2.0 and IAA devices and the VT-d unit they need, behind vfio-user, for an unmodified driver in an unmodified
//! kernel.
//!
//! ```text
//! hypervisor --socket--> vfio (codec, server) --Endpoint--> dsa::Function -> dsa::DsaDevice --Host--> truth, EventFds
//!                                             --Endpoint--> vtd::Unit  -> Translation <---Port---/   memory
//!            <--test protocol-- vtd::MessageServer <---/
//! ```
//! Each device has a socket with one thread, and four engine threads, so that descriptors of several guest CPUs overlap.
//! All devices share guest RAM, the translation and the truth log.
//!
//! What is not modelled is listed at the top of [`vfio`], [`vtd`] and [`dsa`] and their modules. The model was written from
//! the driver's side: it proves nothing about hardware.

pub mod dsa;
pub mod memory;
pub mod pci;
pub mod truth;
pub mod vfio;
pub mod vtd;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use dsa::{DsaDevice, Function, Host, Injection, Kind, Plan, Port, VECTORS};
use truth::{Truth, TruthError};
use vfio::EventFds;
use vfio::server::{Machine, Server};
use vtd::MessageServer;

pub use vtd::dmar::table as dmar_table;

/// PCI slots on bus 0: the VT-d unit, then the devices.
const VTD_SLOT: u8 = 0x10;
const FIRST_DEVICE_SLOT: u8 = VTD_SLOT + 1;
/// What is left of the bus.
pub const MAX_DEVICES: usize = 32 - FIRST_DEVICE_SLOT as usize;

/// One device of a testbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    pub kind: Kind,
    /// How many batches can be under way, 1 to 256: with few, an identifier comes back soon.
    pub batch_identifiers: u16,
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self { kind: Kind::default(), batch_identifiers: dsa::MAX_BATCH_IDENTIFIERS }
    }
}

#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// In PCI order, which is the order in which the driver numbers them.
    pub devices: Vec<DeviceConfig>,
    /// For sockets and the truth log; must exist.
    pub dir: &'a Path,
}

/// One `vfio-user-pci` device for the hypervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// `vtd`, or the name that the driver will give the device (`dsa0`, `iax1`).
    pub name: String,
    pub path: PathBuf,
    /// Slot and function on bus 0 as the hypervisor's `addr` wants them. The device relies on it: it is its requester id.
    pub addr: String,
}

impl Socket {
    /// The value of a `-device` option.
    #[must_use]
    pub fn device_option(&self) -> String {
        serde_json::json!({
            "driver": "vfio-user-pci",
            "addr": self.addr,
            "socket": { "type": "unix", "path": self.path },
        })
        .to_string()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    #[error("{0} devices: a testbed has 1 to {MAX_DEVICES}")]
    Devices(usize),
    #[error("{0} batch identifiers: a device has 1 to {max}", max = dsa::MAX_BATCH_IDENTIFIERS)]
    BatchIdentifiers(u16),
    #[error(transparent)]
    Truth(#[from] TruthError),
    #[error("serving {name} at {path}: {source}")]
    Serve { name: String, path: PathBuf, source: std::io::Error },
    #[error("there is no device {0}")]
    NoDevice(String),
    #[error("starting the engines of {name}: {source}")]
    Engines { name: String, source: std::io::Error },
}

/// Running devices. Dropping it stops them.
#[derive(Debug)]
pub struct Testbed {
    sockets: Vec<Socket>,
    truth: Arc<Truth>,
    truth_path: PathBuf,
    unit: Arc<vtd::Unit>,
    devices: Vec<Arc<DsaDevice>>,
    servers: Vec<Server>,
    messages: MessageServer,
    engines: Vec<JoinHandle<()>>,
}

impl Testbed {
    /// Serve a VT-d unit and the devices; a hypervisor may connect when this returns.
    pub fn start(config: &Config<'_>) -> Result<Self, TestbedError> {
        if !(1..=MAX_DEVICES).contains(&config.devices.len()) {
            return Err(TestbedError::Devices(config.devices.len()));
        }
        let identifiers =
            |d: &&DeviceConfig| !(1..=dsa::MAX_BATCH_IDENTIFIERS).contains(&d.batch_identifiers);
        if let Some(wrong) = config.devices.iter().find(identifiers) {
            return Err(TestbedError::BatchIdentifiers(wrong.batch_identifiers));
        }
        let truth_path = config.dir.join("truth.jsonl");
        let machine = Arc::<Machine>::default();
        let truth = Arc::new(Truth::create(&truth_path)?);
        let path = config.dir.join("messages.sock");
        let messages = MessageServer::start(&path).map_err(|source| TestbedError::Serve {
            name: "interrupt messages".to_owned(),
            path,
            source,
        })?;
        let unit = Arc::new(vtd::Unit::new(Arc::clone(&machine), messages.port()));
        let mut testbed = Self {
            sockets: Vec::new(),
            truth,
            truth_path,
            unit: Arc::clone(&unit),
            devices: Vec::new(),
            servers: Vec::new(),
            messages,
            engines: Vec::new(),
        };
        testbed.serve("vtd".to_owned(), VTD_SLOT, config.dir, &machine, unit)?;
        for (index, device) in config.devices.iter().enumerate() {
            let name = format!("{}{index}", device.kind.prefix());
            let slot = FIRST_DEVICE_SLOT + index as u8;
            let vectors = Arc::new(EventFds::new(VECTORS));
            let source = u16::from(slot) << 3;
            let port = Arc::new(Port {
                machine: Arc::clone(&machine),
                translation: testbed.unit.translation(),
                unit: Arc::clone(&testbed.unit),
                source,
            });
            let host = Host {
                dma: Arc::<Port>::clone(&port),
                pages: port,
                interrupts: Arc::<EventFds>::clone(&vectors),
                truth: Arc::clone(&testbed.truth),
            };
            let device = Arc::new(DsaDevice::new(&name, *device, host));
            let requester: Weak<dyn vtd::Requester> = Arc::<DsaDevice>::downgrade(&device);
            testbed.unit.attach(source, requester);
            let engines = device.start();
            let engines = engines.map_err(|source| TestbedError::Engines { name: name.clone(), source })?;
            testbed.engines.extend(engines);
            testbed.devices.push(Arc::clone(&device));
            let function = Arc::new(Function::new(device, vectors));
            testbed.serve(name, slot, config.dir, &machine, function)?;
        }
        Ok(testbed)
    }

    fn serve(
        &mut self,
        name: String,
        slot: u8,
        dir: &Path,
        machine: &Arc<Machine>,
        endpoint: Arc<dyn vfio::Endpoint>,
    ) -> Result<(), TestbedError> {
        let path = dir.join(format!("{name}.sock"));
        let server = Server::start(&name, &path, Arc::clone(machine), endpoint)
            .map_err(|source| TestbedError::Serve { name: name.clone(), path: path.clone(), source })?;
        self.servers.push(server);
        self.sockets.push(Socket { name, path, addr: format!("{slot:x}.0") });
        Ok(())
    }

    /// Make something go wrong in the device that the guest calls `device`.
    pub fn inject(&self, device: &str, injection: Injection) -> Result<(), TestbedError> {
        self.device(device)?.inject(injection);
        Ok(())
    }

    /// Let the device that the guest calls `device` follow a plan, from now on.
    pub fn follow(&self, device: &str, plan: &Plan) -> Result<(), TestbedError> {
        if !(1..=dsa::MAX_BATCH_IDENTIFIERS).contains(&plan.batch_identifiers) {
            return Err(TestbedError::BatchIdentifiers(plan.batch_identifiers));
        }
        self.device(device)?.follow(plan);
        Ok(())
    }

    fn device(&self, name: &str) -> Result<&DsaDevice, TestbedError> {
        let named = self.devices.iter().find(|d| d.guest_name() == name);
        named.map(Arc::as_ref).ok_or_else(|| TestbedError::NoDevice(name.to_owned()))
    }

    /// In PCI order, the VT-d unit first.
    #[must_use]
    pub fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    #[must_use]
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The truth log's file; complete after a mark, a flush or [`Testbed::stop`].
    #[must_use]
    pub fn truth_path(&self) -> &Path {
        &self.truth_path
    }

    /// Where firmware put the VT-d registers, which is what the DMAR table must say: see [`dmar_table`].
    #[must_use]
    pub fn vtd_base(&self) -> Option<u64> {
        self.unit.bar()
    }

    /// Options for a hypervisor whose guest is to get the VT-d unit's interrupts.
    #[must_use]
    pub fn message_options(&self) -> Vec<String> {
        let socket = format!("unix:{}", self.messages.path().display());
        ["-qtest", &socket, "-qtest-log", "none"].map(str::to_owned).into()
    }

    /// Wait for [`Testbed::vtd_base`].
    #[must_use]
    pub fn wait_vtd_base(&self, timeout: Duration) -> Option<u64> {
        self.unit.wait_bar(timeout)
    }

    /// Forget [`Testbed::vtd_base`], before another machine starts on the same sockets.
    pub fn forget_vtd_base(&self) {
        self.unit.forget_bar();
    }

    /// End connections, join all threads, remove sockets, flush the truth log. Idempotent.
    pub fn stop(&mut self) -> std::io::Result<()> {
        self.devices.iter().for_each(|device| device.stop());
        self.servers.iter_mut().for_each(Server::stop);
        self.messages.stop();
        for engine in self.engines.drain(..) {
            if engine.join().is_err() {
                log::error!("an engine panicked");
            }
        }
        self.truth.flush()
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Err(e) = self.stop() {
            log::error!("truth log {}: {e}", self.truth_path.display());
        }
    }
}

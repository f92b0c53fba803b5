//! The device models beside one guest, and where its firmware puts the VT-d unit's registers.
//!
//! The DMAR table must name that address before the guest starts, but the firmware chooses it from the devices that are there. So it
//! is learned once from a start of the firmware alone and kept in the cache. Refuses: the models themselves (the testbed crate).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dsascope_guest::scenario::{DeviceKind, Inject, Reset, Scenario};
use dsascope_testbed::dsa::{Injection, Kind, Plan, ResetType};
use dsascope_testbed::{Config, DeviceConfig, Testbed, dmar_table};

use crate::cache::Cache;
use crate::control::Listener;
use crate::machine::Machine;
use crate::progress::step;
use crate::qemu::Qemu;

/// The firmware alone takes about a second.
const FIRMWARE_LIMIT: Duration = Duration::from_secs(60);

/// Starts the models of devices; sockets and truth log are in `directory`.
pub fn start(directory: &Path, kinds: &[DeviceKind]) -> Result<Testbed> {
    let kind = |kind: &DeviceKind| match kind {
        DeviceKind::Dsa => Kind::Dsa,
        DeviceKind::Iaa => Kind::Iax,
    };
    let devices = kinds.iter().map(|k| DeviceConfig { kind: kind(k), ..DeviceConfig::default() }).collect();
    Testbed::start(&Config { devices, dir: directory }).context("cannot start the device models")
}

/// Has the devices do what the scenario says that goes wrong.
pub fn follow(testbed: &Testbed, scenario: &Scenario) -> Result<()> {
    for device in &scenario.devices {
        let injections = device.injections.iter().map(|inject| match *inject {
            Inject::Halt { after_descriptors, reset } => {
                (after_descriptors, Injection::Halt { reset: reset_type(reset) })
            }
            Inject::HardwareErrors { after_descriptors, descriptors } => {
                (after_descriptors, Injection::HardwareErrors { descriptors })
            }
            Inject::Delay { after_descriptors, delay_us } => {
                (after_descriptors, Injection::Delay { delay_us })
            }
            Inject::ErrorsInRegister { after_descriptors } => {
                (after_descriptors, Injection::ErrorsInRegister)
            }
            Inject::LateEntries { after_descriptors, entries, delay_ms } => {
                (after_descriptors, Injection::LateEntries { entries, delay_ms })
            }
        });
        let plan = Plan { batch_identifiers: device.batch_identifiers, injections: injections.collect() };
        testbed.follow(&device.name, &plan).context("cannot prepare the devices")?;
    }
    Ok(())
}

const fn reset_type(reset: Reset) -> ResetType {
    match reset {
        Reset::Software => ResetType::Software,
        Reset::Flr => ResetType::Flr,
        Reset::Warm => ResetType::Warm,
        Reset::Cold => ResetType::Cold,
    }
}

/// The VT-d unit's address in one kind of machine, as far as it is known.
#[derive(Debug)]
pub struct Address {
    path: PathBuf,
    qemu: String,
}

impl Address {
    /// `machine` without what it boots: that does not move devices.
    pub fn new(cache: &Cache, qemu: &Qemu, machine: &Machine) -> Self {
        let name = format!("vtd-{}-{}-{}M", qemu.version, machine.devices.len(), machine.memory_mib);
        Self { path: cache.path(&name), qemu: qemu.version.clone() }
    }

    /// The DMAR table for that machine. Learns the address when it is not known yet.
    pub fn learn(&self, qemu: &Qemu, machine: &Machine, testbed: &Testbed, directory: &Path) -> Result<u64> {
        if let Some(base) = fs::read_to_string(&self.path).ok().and_then(|text| parse(&text)) {
            return Ok(base);
        }
        let base = step(&format!("asking QEMU {}'s firmware for addresses", self.qemu), || {
            let firmware = Machine {
                boot: None,
                control: directory.join("firmware"),
                console: directory.join("firmware.log"),
                ..machine.clone()
            };
            let _control = Listener::bind(&firmware.control)?;
            let mut process = firmware.start(qemu, &directory.join("firmware-qemu.log"))?;
            match testbed.wait_vtd_base(FIRMWARE_LIMIT) {
                Some(base) => Ok(base),
                None if process.ended()?.is_some() => {
                    bail!("QEMU ended at its start: {}", process.last_words())
                }
                None => bail!(
                    "the firmware set up no VT-d unit within {} s: {}",
                    FIRMWARE_LIMIT.as_secs(),
                    process.last_words()
                ),
            }
        })?;
        testbed.forget_vtd_base();
        self.remember(base)?;
        Ok(base)
    }

    /// Drops what was learned.
    pub fn forget(&self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }

    fn remember(&self, base: u64) -> Result<()> {
        // Renamed into place, as another run may read it.
        let partial = self.path.with_extension(format!("partial-{}", std::process::id()));
        fs::write(&partial, format!("{base:#x}\n"))
            .with_context(|| format!("cannot write {}", partial.display()))?;
        fs::rename(&partial, &self.path).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Writes the DMAR table that announces the unit at `base`.
pub fn write_dmar(path: &Path, base: u64) -> Result<()> {
    fs::write(path, dmar_table(base)).with_context(|| format!("cannot write {}", path.display()))
}

fn parse(text: &str) -> Option<u64> {
    let base = u64::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()?;
    // A register page at zero is a file cut short.
    (base > 0 && base.is_multiple_of(4096)).then_some(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_page() {
        assert_eq!(parse("0xfebf0000\n"), Some(0xfebf_0000));
        for wrong in ["", "0x", "febf0000", "0x0", "0xfebf0001"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

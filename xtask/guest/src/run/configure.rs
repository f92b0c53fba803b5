//! Devices and work queues through sysfs, as accel-config would do it (idxd-facts section 5).
//!
//! Owns: the order of writes. Refuses: believing an earlier configuration; every run starts from disabled devices.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use dsascope_guest::scenario::{
    Device, DeviceKind, ENGINES, Group, MAX_BATCH_DESCRIPTORS, MAX_TRANSFER_BYTES, Mode, Process, Scenario,
    WORK_QUEUES, WorkQueue,
};

use crate::sysfs;

const NODE_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) fn configure(scenario: &Scenario) -> anyhow::Result<()> {
    for device in &scenario.devices {
        let number = device.number().context("a device without a number")?;
        let at = Path::new(sysfs::DEVICES).join(&device.name);
        ensure!(at.exists(), "there is no {} in this guest: {} is missing", device.name, at.display());
        disable(&device.name, number)?;
        configure_device(device, number, &at).with_context(|| format!("configuring {}", device.name))?;
        enable(device, number)?;
    }
    Ok(())
}

/// Where the driver shows the files that are open on a process' WQ.
pub(crate) fn open_files_of(scenario: &Scenario, process: &Process) -> Vec<PathBuf> {
    let device = scenario.device(&process.device);
    let place = device.and_then(|device| Some((device.kind, device.number()?)));
    place.map_or_else(Vec::new, |(kind, number)| {
        sysfs::open_files(kind, &sysfs::wq_name(number, process.work_queue))
    })
}

fn disable(device: &str, number: u16) -> anyhow::Result<()> {
    if state(device)? == "halted" {
        recover(device)?;
    }
    for id in 0..WORK_QUEUES {
        let wq = sysfs::wq_name(number, id);
        if enabled(&wq)? {
            sysfs::write(&Path::new(sysfs::DRIVERS).join("user/unbind"), &wq)?;
        }
    }
    if enabled(device)? {
        sysfs::write(&Path::new(sysfs::DRIVERS).join("idxd/unbind"), device)?;
    }
    Ok(())
}

fn enabled(name: &str) -> anyhow::Result<bool> {
    Ok(state(name)? == "enabled")
}

fn state(name: &str) -> anyhow::Result<String> {
    sysfs::read(&Path::new(sysfs::DEVICES).join(name).join("state"))
}

/// Brings a device back that an earlier scenario halted and the driver gave up: the driver leaves it, it is reset, the driver comes back.
fn recover(device: &str) -> anyhow::Result<()> {
    let at = Path::new(sysfs::DEVICES).join(device);
    let what = || format!("resetting the halted {device}");
    let real = at.canonicalize().with_context(what)?;
    let function = real.parent().with_context(what)?;
    let address = function.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let driver = Path::new("/sys/bus/pci/drivers/idxd");
    sysfs::write(&driver.join("unbind"), &address).with_context(what)?;
    sysfs::write(&function.join("reset"), "1").with_context(what)?;
    sysfs::write(&driver.join("bind"), &address).with_context(what)?;
    ensure!(at.exists(), "after its reset the halted {device} has another name");
    Ok(())
}

fn configure_device(device: &Device, number: u16, at: &Path) -> anyhow::Result<()> {
    let all = [Group { id: 0, engines: (0..ENGINES).collect() }];
    let groups = if device.groups.is_empty() { &all[..] } else { &device.groups };
    for engine in 0..ENGINES {
        let group = groups.iter().find(|g| g.engines.contains(&engine)).map_or(-1, |g| i16::from(g.id));
        let path = Path::new(sysfs::DEVICES).join(format!("engine{number}.{engine}/group_id"));
        sysfs::write(&path, &group.to_string())?;
    }
    // All of the device's entries are free before any WQ takes its share.
    for id in 0..WORK_QUEUES {
        let wq = Path::new(sysfs::DEVICES).join(sysfs::wq_name(number, id));
        sysfs::write(&wq.join("group_id"), "-1")?;
        sysfs::write(&wq.join("size"), "0")?;
    }
    // The driver forgets the size when it disables the device (idxd-facts section 2.2).
    sysfs::write(&at.join("event_log_size"), &device.event_log_entries.to_string())?;
    device.work_queues.iter().try_for_each(|wq| configure_wq(wq, device.kind, number))
}

fn configure_wq(wq: &WorkQueue, kind: DeviceKind, number: u16) -> anyhow::Result<()> {
    let name = sysfs::wq_name(number, wq.id);
    let at = Path::new(sysfs::DEVICES).join(&name);
    let set = |attribute: &str, value: &str| sysfs::write(&at.join(attribute), value);
    let switch = |on: bool| if on { "1" } else { "0" };
    set("group_id", &wq.group.to_string())?;
    set("mode", if wq.mode == Mode::Dedicated { "dedicated" } else { "shared" })?;
    set("size", &wq.size.to_string())?;
    set("priority", &wq.priority.to_string())?;
    if wq.mode == Mode::Shared {
        set("threshold", &wq.size.to_string())?;
    }
    set("type", "user")?;
    set("name", "testbed")?;
    set("driver_name", "user")?;
    if kind == DeviceKind::Dsa {
        set("max_batch_size", &MAX_BATCH_DESCRIPTORS.to_string())?;
    }
    set("max_transfer_size", &MAX_TRANSFER_BYTES.to_string())?;
    // Block on fault can be changed only while page requests are on.
    set("prs_disable", "0")?;
    set("block_on_fault", switch(wq.block_on_fault))?;
    set("prs_disable", switch(!wq.page_requests))
}

fn enable(device: &Device, number: u16) -> anyhow::Result<()> {
    let bind = |driver: &str, name: &str| {
        sysfs::write(&Path::new(sysfs::DRIVERS).join(driver).join("bind"), name).with_context(|| {
            let status = sysfs::read(&Path::new(sysfs::DEVICES).join(&device.name).join("cmd_status"));
            format!("enabling {name} (the device's cmd_status is {})", status.unwrap_or_default())
        })
    };
    bind("idxd", &device.name)?;
    for wq in &device.work_queues {
        let name = sysfs::wq_name(number, wq.id);
        bind("user", &name)?;
        let node = node(device.kind, number, wq.id);
        let begin = Instant::now();
        while !node.exists() {
            ensure!(
                begin.elapsed() < NODE_TIMEOUT,
                "{name} is enabled, but {} does not appear",
                node.display()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
    Ok(())
}

/// The character device of a WQ.
pub(crate) fn node(kind: DeviceKind, number: u16, wq: u8) -> PathBuf {
    Path::new("/dev").join(kind.prefix()).join(sysfs::wq_name(number, wq))
}

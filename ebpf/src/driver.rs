//! What the driver does to a device and says of it: administrative commands, halts, resets, warnings. All of them are rare.
//!
//! Hooks: `idxd_cmd_exec` entry and exit; `idxd_device_reinit`, `idxd_device_flr` and `idxd_wqs_unmap_portal` entry, one for each
//! answer to a halt; `idxd_reset_prepare` entry and `idxd_reset_done` exit, on one thread; `_dev_warn` entry, for devices of this
//! driver. Refuses: making a warning's text of its format; that is the user side's.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated},
    macros::map,
    maps::HashMap,
};
use dsascope_common::{
    hw::regs::{cmdstatus, command},
    wire::{DriverRecord, RecordHeader, driver, during, hole, kind},
};

use crate::{
    account::{self, send},
    file,
    kernel::{self, current_tid, now_ns, offset, read, read_at},
    release,
    wrap::{on_entry, on_exit, on_kprobe},
};

/// A command or a reset while it lasts.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Begun {
    start_ns: u64,
    idxd: u64,
    /// Of a command: where its caller wants the status; 0: nowhere.
    status: u64,
    command: u32,
    operand: u32,
    /// Of a command: the driver said that the device is halted, and did not give it.
    refused: u64,
}

/// Threads that are in `idxd_cmd_exec`.
#[map]
static COMMANDS: HashMap<u32, Begun> = HashMap::with_max_entries(1024, 0);

/// Threads between `idxd_reset_prepare` and the end of `idxd_reset_done`.
#[map]
static RESETS: HashMap<u32, Begun> = HashMap::with_max_entries(64, 0);

// SAFETY: `repr(C)`, starts with the header.
unsafe impl account::Record for DriverRecord {
    const KIND: u16 = kind::DRIVER;
}

#[inline(always)]
fn begin(map: &HashMap<u32, Begun>, begun: &Begun) {
    if map.insert(&current_tid(), begun, u64::from(BPF_ANY)).is_err() {
        account::hole(hole::TASK_FULL);
    }
}

#[inline(always)]
fn ended(map: &HashMap<u32, Begun>) -> Option<Begun> {
    let thread = current_tid();
    // SAFETY: only this thread's programs touch the value.
    let begun = unsafe { map.get(&thread) }.copied();
    let _ = map.remove(&thread);
    begun
}

/// A record of the current thread on this device.
#[inline(always)]
fn record(idxd: u64, what: u8) -> DriverRecord {
    let task = bpf_get_current_pid_tgid();
    let data: u64 = read(idxd, &kernel::DEVICE_DATA).unwrap_or(0);
    DriverRecord {
        header: RecordHeader { kind: kind::DRIVER, cpu: 0, lost: 0, time_ns: 0 },
        start_ns: 0,
        comm: bpf_get_current_comm().unwrap_or([0; 16]),
        tgid: (task >> 32) as u32,
        tid: task as u32,
        device: read::<u32>(idxd, &kernel::DEVICE_ID).unwrap_or(u32::MAX) as u16,
        device_type: read::<u32>(data, &kernel::DATA_TYPE).unwrap_or(u32::MAX) as u8,
        what,
        state: 0,
        command: 0,
        operand: 0,
        status: 0,
        during: during::NOTHING,
        wq_known: 0,
        wq: 0,
        wq_flags: 0,
        wq_type: 0,
        wq_size: 0,
        wq_threshold: 0,
        wq_priority: 0,
        arguments: [0; 4],
        text: [0; 80],
    }
}

#[inline(always)]
fn tell(record: &mut DriverRecord) {
    // SAFETY: on the stack.
    unsafe { send(&raw mut *record, now_ns()) };
}

/// (struct idxd_device *idxd, int cmd, u32 operand, u32 *status)
#[inline(always)]
fn command_start(idxd: u64, command: u64, operand: u64, status: u64) {
    let begun = Begun {
        start_ns: now_ns(),
        idxd,
        status,
        command: command as u32,
        operand: operand as u32,
        refused: 0,
    };
    begin(&COMMANDS, &begun);
}

#[inline(always)]
fn command_end() {
    let Some(begun) = ended(&COMMANDS) else { return };
    let mut record = record(begun.idxd, driver::COMMAND);
    record.start_ns = begun.start_ns;
    record.command = begun.command;
    record.operand = begun.operand;
    // The caller's own copy cannot be another command's. A refusal is told to a caller alone, as this error, and not every caller asks.
    let status = if begun.refused != 0 {
        Some(cmdstatus::HARDWARE)
    } else if begun.status == 0 {
        read::<u32>(begun.idxd, &kernel::DEVICE_CMD_STATUS)
    } else {
        read_at::<u32>(begun.status)
    };
    let Some(status) = status else { return account::hole(hole::READ_FAILED) };
    record.status = status;
    record.during = if file::is_opening() {
        during::OPEN
    } else if release::is_releasing() {
        during::RELEASE
    } else {
        during::NOTHING
    };
    if begun.command == command::ENABLE_WQ && configuration(&mut record, begun.idxd).is_none() {
        account::hole(hole::READ_FAILED);
    }
    tell(&mut record);
}

/// What the WQ that the command is for was configured with.
#[inline(always)]
fn configuration(record: &mut DriverRecord, idxd: u64) -> Option<()> {
    let wqs: u64 = read(idxd, &kernel::DEVICE_WQS)?;
    let wq: u64 = read_at(wqs + u64::from(record.operand & 0xff) * 8)?;
    record.wq = read::<u32>(wq, &kernel::WQ_ID)? as u16;
    record.wq_flags = read(wq, &kernel::WQ_FLAGS)?;
    record.wq_type = read(wq, &kernel::WQ_TYPE)?;
    record.wq_size = read(wq, &kernel::WQ_SIZE)?;
    record.wq_threshold = read(wq, &kernel::WQ_THRESHOLD)?;
    record.wq_priority = read(wq, &kernel::WQ_PRIORITY)?;
    record.wq_known = 1;
    Some(())
}

/// (struct work_struct *work): the device's `work`.
#[inline(always)]
fn halt_software(work: u64) {
    tell(&mut record(work - offset(&kernel::DEVICE_WORK), driver::HALT_SOFTWARE));
}

/// (struct work_struct *work): the device's `work`.
#[inline(always)]
fn halt_flr(work: u64) {
    tell(&mut record(work - offset(&kernel::DEVICE_WORK), driver::HALT_FLR));
}

/// (struct idxd_device *idxd)
#[inline(always)]
fn halt_final(idxd: u64) {
    tell(&mut record(idxd, driver::HALT_FINAL));
}

/// (struct pci_dev *pdev)
#[inline(always)]
fn reset_start(pdev: u64) {
    let device = pdev + offset(&kernel::PCI_DEV);
    let Some(idxd) = read::<u64>(device, &kernel::DEV_DRIVER_DATA) else {
        return account::hole(hole::READ_FAILED);
    };
    begin(&RESETS, &Begun { start_ns: now_ns(), idxd, status: 0, command: 0, operand: 0, refused: 0 });
}

#[inline(always)]
fn reset_end() {
    let Some(begun) = ended(&RESETS) else { return };
    let mut record = record(begun.idxd, driver::RESET);
    record.start_ns = begun.start_ns;
    let Some(state) = read::<i32>(begun.idxd, &kernel::DEVICE_STATE) else {
        return account::hole(hole::READ_FAILED);
    };
    record.state = state;
    tell(&mut record);
}

/// (const struct device *dev, const char *fmt, ...)
#[inline(always)]
fn warning(device: u64, format: u64, a: u64, b: u64, c: u64, d: u64) {
    let Some(idxd) = own_device(device) else { return };
    let mut record = record(idxd, driver::WARNING);
    record.arguments = [a, b, c, d];
    // SAFETY: the destination is on the stack; the helper checks the source, and ends the text with a zero.
    let read = unsafe {
        let text = (&raw mut record.text).cast();
        generated::bpf_probe_read_kernel_str(text, size_of_val(&record.text) as u32, format as *const _)
    };
    if read < 0 {
        return account::hole(hole::READ_FAILED);
    }
    if record.text.first_chunk() == Some(HALTED)
        && let Some(begun) = COMMANDS.get_ptr_mut(&record.tid)
    {
        // SAFETY: only this thread's programs touch the value.
        unsafe { (*begun).refused = 1 };
    }
    tell(&mut record);
}

/// What the driver says when it gives a halted device no command: "Device is HALTED!".
const HALTED: &[u8; 16] = b"Device is HALTED";

/// The idxd_device behind a PCI device of this driver.
#[inline(always)]
fn own_device(device: u64) -> Option<u64> {
    let driver: u64 = read(device, &kernel::DEV_DRIVER)?;
    let name: u64 = read(driver, &kernel::DRIVER_NAME)?;
    if read_at::<[u8; 5]>(name)? != *b"idxd\0" {
        return None;
    }
    // The driver of the devices below it has the same name.
    let idxd: u64 = read(device, &kernel::DEV_DRIVER_DATA)?;
    let pdev: u64 = read(idxd, &kernel::DEVICE_PDEV)?;
    if pdev + offset(&kernel::PCI_DEV) == device { Some(idxd) } else { None }
}

on_entry!(COMMAND_START, command_start, command_start_fentry, command_start_kprobe, (0, 1, 2, 3));
on_exit!(COMMAND_END, command_end, command_end_fexit, command_end_kretprobe);
on_entry!(HALT_SOFTWARE, halt_software, halt_software_fentry, halt_software_kprobe, (0));
on_entry!(HALT_FLR, halt_flr, halt_flr_fentry, halt_flr_kprobe, (0));
on_entry!(HALT_FINAL, halt_final, halt_final_fentry, halt_final_kprobe, (0));
on_entry!(RESET_START, reset_start, reset_start_fentry, reset_start_kprobe, (0));
on_exit!(RESET_END, reset_end, reset_end_fexit, reset_end_kretprobe);
on_kprobe!(WARNING, warning, warning_kprobe, (0, 1, 2, 3, 4, 5));

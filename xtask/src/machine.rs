//! The emulated machine: QEMU's command line and its process.
//!
//! Owns: everything the driver needs of the machine to serve shared virtual addressing under emulation, and that no QEMU outlives
//! this program. Refuses: knowing what the guest does.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::cleanup;
use crate::qemu::Qemu;

/// idxd does not load without MOVDIR64B, which TCG does not offer; with 5-level paging the kernel refuses SVM.
const CPU: &str = "max,-la57,x-force-features=on,+movdir64b";
/// With interrupt remapping the kernel would claim the VT-d registers early and their BAR would move.
const APPEND: &str = "console=ttyS0 rdinit=/init panic=-1 quiet intel_iommu=on,sm_on intremap=off";
/// Slot of the control port, away from the device models'.
const CONTROL_SLOT: u32 = 2;

/// What is emulated.
#[derive(Clone, Debug)]
pub struct Machine {
    pub cpus: u32,
    pub memory_mib: u32,
    /// A `-device` option each, in PCI order.
    pub devices: Vec<String>,
    /// Options by which the VT-d unit interrupts the guest.
    pub messages: Vec<String>,
    /// The socket on which we listen for the control port.
    pub control: PathBuf,
    /// Where the serial console goes.
    pub console: PathBuf,
    /// What is booted; nothing for the firmware alone.
    pub boot: Option<Boot>,
}

/// A kernel with its file system and the ACPI table that announces the VT-d unit.
#[derive(Clone, Debug)]
pub struct Boot {
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub dmar: PathBuf,
}

impl Machine {
    /// QEMU's arguments.
    fn arguments(&self) -> Result<Vec<OsString>> {
        let text = |path: &Path| match path.to_str() {
            // A comma would end a suboption.
            Some(text) if !text.contains(',') => Ok(text.to_owned()),
            _ => bail!("QEMU cannot take the path {}", path.display()),
        };
        let mut arguments: Vec<String> = vec![
            "-nodefaults".into(),
            "-no-user-config".into(),
            "-no-reboot".into(),
            "-display".into(),
            "none".into(),
            "-machine".into(),
            "q35,memory-backend=mem".into(),
            "-object".into(),
            format!("memory-backend-memfd,id=mem,size={}M,share=on", self.memory_mib),
            "-m".into(),
            format!("{}M", self.memory_mib),
            "-accel".into(),
            "tcg,thread=multi".into(),
            "-cpu".into(),
            CPU.into(),
            "-smp".into(),
            self.cpus.to_string(),
            "-chardev".into(),
            format!("file,id=console,path={}", text(&self.console)?),
            "-serial".into(),
            "chardev:console".into(),
            "-chardev".into(),
            format!("socket,id=control,path={}", text(&self.control)?),
            "-device".into(),
            format!("virtio-serial-pci,addr={CONTROL_SLOT}.0"),
            "-device".into(),
            format!("virtserialport,chardev=control,name={}", dsascope_guest::protocol::PORT),
        ];
        arguments.extend(self.devices.iter().flat_map(|device| ["-device".into(), device.clone()]));
        arguments.extend(self.messages.iter().cloned());
        if let Some(boot) = &self.boot {
            arguments.extend(["-kernel".into(), text(&boot.kernel)?, "-initrd".into(), text(&boot.initrd)?]);
            arguments.extend([
                "-append".into(),
                APPEND.into(),
                "-acpitable".into(),
                format!("file={}", text(&boot.dmar)?),
            ]);
        }
        Ok(arguments.into_iter().map(OsString::from).collect())
    }

    /// Starts QEMU; `log` takes what it says on stdout and stderr.
    pub fn start(&self, qemu: &Qemu, log: &Path) -> Result<Process> {
        let mut command = qemu.command();
        command.args(self.arguments()?);
        Process::spawn(command, log)
    }
}

/// A running QEMU; killed on drop, when this program dies in whatever way, and when it is interrupted.
#[derive(Debug)]
pub struct Process {
    child: Child,
    group: cleanup::Group,
    log: PathBuf,
}

impl Process {
    fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let file = fs::File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
        let errors = file.try_clone().with_context(|| format!("cannot share {}", log.display()))?;
        let parent = nix::unistd::getpid();
        command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
        // SAFETY: between fork and exec only the async-signal-safe prctl and getppid are called, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have died before the call took effect.
                if nix::unistd::getppid() != parent {
                    return Err(nix::errno::Errno::ESRCH.into());
                }
                Ok(())
            });
        }
        let child = command.spawn().context("cannot start QEMU")?;
        let group = cleanup::Group::register(Pid::from_raw(child.id().cast_signed()));
        Ok(Self { child, group, log: log.to_owned() })
    }

    /// The exit status, when it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for QEMU")
    }

    /// Waits for the end; false when `limit` passes first.
    pub fn wait(&mut self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        while self.ended()?.is_none() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(true)
    }

    /// What QEMU said last, without the warnings that are always there.
    pub fn last_words(&self) -> String {
        let said = fs::read(&self.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().filter(|line| !line.contains("warning:")).collect();
        lines[lines.len().saturating_sub(3)..].join("; ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = killpg(self.group.leader(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            cpus: 4,
            memory_mib: 1024,
            devices: vec!["first".into(), "second".into()],
            messages: vec!["-messages".into()],
            control: "/r/control".into(),
            console: "/r/console.log".into(),
            boot: Some(Boot { kernel: "/k".into(), initrd: "/i".into(), dmar: "/d".into() }),
        }
    }

    fn line(machine: &Machine) -> String {
        machine.arguments().unwrap().join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn the_machine_is_what_the_driver_needs() {
        let line = line(&machine());
        assert!(line.contains("-device first -device second -messages"));
        assert!(line.contains("-smp 4") && line.contains("size=1024M,share=on"));
        assert!(
            line.contains("-append console=ttyS0 ") && line.contains("intel_iommu=on,sm_on intremap=off")
        );
    }

    #[test]
    fn the_firmware_alone_has_the_same_devices_and_no_kernel() {
        let firmware = line(&Machine { boot: None, ..machine() });
        assert!(!firmware.contains("-kernel") && !firmware.contains("-acpitable"));
        assert!(line(&machine()).starts_with(&firmware));
    }

    #[test]
    fn a_path_that_qemu_would_split_is_refused() {
        assert!(Machine { console: "/r/a,b".into(), ..machine() }.arguments().is_err());
    }

    #[test]
    fn a_process_dies_with_its_handle() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $! ; wait"]);
        let log = dir.path().join("log");
        let process = Process::spawn(command, &log).unwrap();
        let started = Instant::now();
        let grandchild = loop {
            if let Ok(pid) = fs::read_to_string(&log).unwrap().trim().parse::<i32>() {
                break Pid::from_raw(pid);
            }
            assert!(started.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        };
        drop(process);
        let alive = |pid: Pid| {
            fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
        };
        while alive(grandchild) {
            assert!(started.elapsed() < Duration::from_secs(10), "the grandchild lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

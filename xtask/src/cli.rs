//! The command line of `cargo xtask`.
//!
//! Parses and does nothing else.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dsascope_guest::scenario::DeviceKind;

use crate::rootfs::Extra;
use crate::session::{KernelSource, Settings};
use crate::version::SUPPORTED;

/// dsascope's build, testbed and checks.
///
/// What is fetched (QEMU, kernels) is kept in DSASCOPE_CACHE, else in dsascope/ below the user's cache directory. Nothing outside of it
/// is changed.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build the eBPF object, or check the committed one
    Ebpf(crate::ebpf::Arguments),
    /// Boot a guest with an emulated DSA and run scenarios or a command in it
    Guest(GuestArgs),
    /// Watch a busy guest in the live view, in this terminal
    Demo(DemoArgs),
    /// Run scenarios under dsascope and compare the books of device, dsascope and driver
    Reconcile(crate::reconcile::Arguments),
    /// Measure what dsascope costs the driver and the host
    Cost(crate::cost::Arguments),
    /// Draw the pictures of docs/screens from the live view's snapshots
    Screens(crate::screens::Arguments),
    /// Make Grafana's dashboard and Prometheus' rules from the metric catalogue
    Dashboards(crate::dashboards::Arguments),
    /// Make the captures of samples/ anew, in a guest
    Samples,
    /// Read captures that are none, made from real ones, for panics and for memory without bound
    Fuzz(crate::fuzz::Arguments),
    /// Run every test: unit, property and snapshot tests, then those in guests
    Test(TestArgs),
}

/// Which guest.
#[derive(Args, Clone, Debug)]
pub struct MachineArgs {
    /// Kernel version, or a prefix of one for the newest there is (7.3)
    #[arg(long, value_name = "VERSION", default_value = SUPPORTED[0])]
    pub kernel: String,
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// Memory in MiB
    #[arg(long, value_name = "M", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(256..=16384))]
    pub memory: u32,
    #[command(flatten)]
    pub own: OwnFiles,
}

/// The machine's own files instead of fetched ones.
#[derive(Args, Clone, Debug, Default)]
pub struct OwnFiles {
    /// A qemu-system-x86_64 of version 10.1 or newer; otherwise PATH's, otherwise Debian's
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<PathBuf>,
    /// A kernel image, with --modules
    #[arg(long, value_name = "FILE", requires = "modules", conflicts_with = "kernel")]
    pub kernel_image: Option<PathBuf>,
    /// The directory of that kernel's modules
    #[arg(long, value_name = "DIR", requires = "kernel_image")]
    pub modules: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct GuestArgs {
    #[command(flatten)]
    pub machine: MachineArgs,
    /// A scenario to run; may be given several times, all run in one boot. With a command, one: its work queues and processes are there
    /// while the command runs
    #[arg(long, value_name = "FILE")]
    pub scenario: Vec<PathBuf>,
    /// A random valid scenario made from this number; may be given several times
    #[arg(long, value_name = "N", conflicts_with = "command")]
    pub seed: Vec<u64>,
    /// Copy the devices' truth log to this file
    #[arg(long, value_name = "FILE")]
    pub truth: Option<PathBuf>,
    /// Keep console, truth log and reports in this directory
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// A file to put into the guest
    #[arg(long = "file", value_name = "HOST=GUEST", value_parser = Extra::parse)]
    pub files: Vec<Extra>,
    /// Emulate MOVDIR64B and ENQCMD by a module that taints the kernel; scenarios that need it have it anyway
    #[arg(long)]
    pub emulation: bool,
    /// Put Debian's accel-config into the guest
    #[arg(long)]
    pub accel_config: bool,
    /// Give the command up after so many seconds
    #[arg(long, value_name = "SECONDS", requires = "command")]
    pub timeout: Option<u64>,
    /// What to run in the guest, on a terminal when there is one here; without it and without a scenario: dsascope doctor
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Kernel version, or a prefix of one for the newest there is
    #[arg(long, value_name = "VERSION", default_value = SUPPORTED[0])]
    pub kernel: String,
    #[command(flatten)]
    pub own: OwnFiles,
}

/// Sets of kernels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Kernels {
    /// Those that everything has to pass on
    #[default]
    Supported,
    /// The matrix of docs/kernels.md: every series that dsascope is for, one without SVA among them
    All,
}

#[derive(Args, Debug)]
pub struct TestArgs {
    /// Kernels to run the guest tests on
    #[arg(long, value_enum, value_name = "WHICH", default_value_t)]
    pub kernels: Kernels,
    /// Only this kernel: a version, or a prefix of one for the newest there is; may be given several times
    #[arg(long, value_name = "VERSION", conflicts_with = "kernels")]
    pub kernel: Vec<String>,
    /// Each way to attach forced, fentry too, and on every one of these kernels, not on the newest supported one alone
    #[arg(long)]
    pub forced: bool,
    /// Run so many guests at once [default: as many as cores]
    #[arg(long, value_name = "N")]
    pub at_once: Option<NonZeroUsize>,
    /// Put the results into docs/kernels.json and docs/kernels.md, over those of the same kernels and scenarios
    #[arg(long)]
    pub write: bool,
    /// Run only tests whose name contains this; the result says how many were left out
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// A qemu-system-x86_64 of version 10.1 or newer; otherwise PATH's, otherwise Debian's
    #[arg(long, value_name = "PATH")]
    pub qemu: Option<PathBuf>,
}

impl OwnFiles {
    /// The given kernel files, else a kernel of that version.
    pub fn kernel(&self, version: &str) -> KernelSource {
        match (&self.kernel_image, &self.modules) {
            (Some(image), Some(modules)) => {
                KernelSource::Files { image: image.clone(), modules: modules.clone() }
            }
            _ => KernelSource::Version(version.to_owned()),
        }
    }
}

impl MachineArgs {
    pub fn settings(&self) -> Settings {
        Settings {
            kernel: self.own.kernel(&self.kernel),
            qemu: self.own.qemu.clone(),
            cpus: self.cpus,
            memory_mib: self.memory,
            devices: vec![DeviceKind::Dsa],
            emulation: false,
            out: None,
            files: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn guest(line: &str) -> Result<GuestArgs, clap::Error> {
        match Cli::try_parse_from(line.split(' '))?.command {
            Command::Guest(arguments) => Ok(arguments),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_command_keeps_its_own_flags() {
        let arguments = guest("xtask guest --kernel 7.3 --cpus 4 -- dsascope stat --json").unwrap();
        assert_eq!(arguments.command, ["dsascope", "stat", "--json"]);
        assert_eq!((arguments.machine.kernel.as_str(), arguments.machine.cpus), ("7.3", 4));
    }

    #[test]
    fn scenarios_and_seeds_add_up_and_no_seed_goes_with_a_command() {
        let arguments = guest("xtask guest --scenario a --seed 1 --seed 2 --scenario b").unwrap();
        assert_eq!((arguments.scenario.len(), arguments.seed.len()), (2, 2));
        assert!(guest("xtask guest --seed 1 -- ls").is_err());
    }

    #[test]
    fn own_kernel_files_come_together() {
        assert!(guest("xtask guest --kernel-image k").is_err());
        assert!(guest("xtask guest --modules m").is_err());
        let arguments = guest("xtask guest --kernel-image k --modules m").unwrap();
        assert!(matches!(arguments.machine.settings().kernel, KernelSource::Files { .. }));
        assert!(guest("xtask guest --kernel 7.3 --kernel-image k --modules m").is_err());
    }
}

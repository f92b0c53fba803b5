//! From an initramfs to a usable system: file systems, then modules in the order that the host chose.
//!
//! Owns: the mount table and loading the module list ([`MODULE_ORDER`]: one absolute path a line).
//! Refuses: stopping; what cannot be done is said on the console, and the agent tells the host what is missing when it matters.

use std::{ffi::CString, fs, io, os::fd::AsRawFd, path::Path};

use anyhow::Context;
use dsascope_guest::{emulation, protocol::MODULE_ORDER};
use nix::mount::{MsFlags, mount};

const MOUNTS: [(&str, &str); 11] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
    ("tmpfs", "/dev/shm"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
];

const KALLSYMS: &str = "/proc/kallsyms";
const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

pub(crate) fn prepare() {
    for (kind, target) in MOUNTS {
        // sysfs and the like already have their mount points, and those cannot be made.
        let made = fs::create_dir_all(target);
        if let Err(error) = mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>) {
            eprintln!("init: mounting {kind} on {target}: {error} (making the directory: {made:?})");
        }
    }
    if let Err(error) = nix::unistd::sethostname("testbed") {
        eprintln!("init: setting the host name: {error}");
    }
    match fs::read_to_string(MODULE_ORDER) {
        Ok(list) => {
            for module in list.lines().map(str::trim).filter(|line| !line.is_empty()) {
                if let Err(error) = load_module(Path::new(module)) {
                    eprintln!("init: {error:#}");
                }
            }
        }
        Err(error) => eprintln!("init: reading {MODULE_ORDER}: {error}"),
    }
}

fn load_module(path: &Path) -> anyhow::Result<()> {
    let what = || format!("loading module {}", path.display());
    let file = fs::File::open(path).with_context(what)?;
    let compressed = path.extension().is_some_and(|e| e == "xz" || e == "zst" || e == "gz");
    // MODULE_INIT_COMPRESSED_FILE
    let flags = if compressed { 4 } else { 0 };
    let emulation = path.file_stem().is_some_and(|stem| stem == emulation::MODULE);
    let parameters = if emulation {
        let btf = fs::read(VMLINUX_BTF).with_context(what)?;
        let symbols = fs::read_to_string(KALLSYMS).with_context(what)?;
        CString::new(emulation::parameters(&btf, &symbols).with_context(what)?).with_context(what)?
    } else {
        CString::default()
    };
    // SAFETY: a valid descriptor and a C string.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags) };
    let error = io::Error::last_os_error();
    if result != 0 && error.raw_os_error() != Some(libc::EEXIST) {
        return Err(error).with_context(what);
    }
    Ok(())
}

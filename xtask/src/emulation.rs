//! The guest module that emulates MOVDIR64B and ENQCMD, compiled for one kernel by the machine's C compiler.
//!
//! Debian's mirror keeps headers for its newest kernels only, so none are used. A module file must agree with its kernel in the
//! size of `struct module`, where in it the name and the two entry functions stand, the version text and the name of the per-CPU
//! variable that holds the current task. The kernel's own idxd.ko says all of them.
//! Refuses: offsets within other structures, which the guest reads from its kernel's BTF when it loads the module
//! (`dsascope_guest::emulation`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use dsascope_guest::emulation::MODULE;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

use crate::binaries::workspace;
use crate::modules::{Module, modinfo};

const COMPILER: &str = "cc";
/// As the kernel's own makefiles have it for x86-64, without what needs its headers.
const FLAGS: [&str; 18] = [
    "-c",
    "-O2",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffreestanding",
    "-fno-pic",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-mno-mmx",
    "-mno-sse",
    "-mno-sse2",
    "-mno-avx",
    "-mpreferred-stack-boundary=3",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-strict-aliasing",
    "-fcf-protection=none",
];
/// The per-CPU variable with the current task, by the names it has had; the constant ones are for reading.
const CURRENT: [&str; 4] = ["const_current_task", "current_task", "const_pcpu_hot", "pcpu_hot"];
/// Every module file has the kernel's `struct module` here.
const THIS_MODULE: &str = ".gnu.linkonce.this_module";

/// What module files of one kernel have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    module_bytes: u64,
    name_at: u64,
    init_at: u64,
    exit_at: u64,
    version: String,
    current: String,
}

/// Compiles the module for the kernel that `idxd`, its own module, is of; `directory` takes the object.
pub fn build(idxd: &Module, directory: &Path) -> Result<Module> {
    let frame =
        Frame::of(idxd).with_context(|| format!("the kernel's module {} is not usable", idxd.name))?;
    let object = directory.join(format!("{MODULE}.ko"));
    let mut command = Command::new(COMPILER);
    command.args(FLAGS).args(frame.definitions()).arg("-o").arg(&object).arg(source());
    let output = command.output().with_context(|| format!("cannot run {COMPILER}: is gcc installed?"))?;
    if !output.status.success() {
        bail!("{COMPILER} cannot compile {MODULE}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let image = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    Ok(Module { name: MODULE.to_owned(), image })
}

fn source() -> PathBuf {
    workspace().join("xtask/guest-module").join(format!("{MODULE}.c"))
}

impl Frame {
    fn of(module: &Module) -> Result<Self> {
        let file = object::File::parse(module.image.as_slice()).context("not an ELF file")?;
        let section =
            file.section_by_name(THIS_MODULE).with_context(|| format!("it has no {THIS_MODULE}"))?;
        let bytes = section.data().with_context(|| format!("its {THIS_MODULE} is cut off"))?;
        let name = format!("{}\0", module.name).into_bytes();
        let name_at =
            bytes.windows(name.len()).position(|window| window == name).context("it has no name")?;
        let entry = |wanted: &str| {
            let named = |target| match target {
                RelocationTarget::Symbol(index) => {
                    file.symbol_by_index(index).ok().and_then(|symbol| symbol.name().ok()) == Some(wanted)
                }
                _ => false,
            };
            let found = section.relocations().find(|(_, relocation)| named(relocation.target()));
            found.map(|(offset, _)| offset).with_context(|| format!("it has no {wanted}"))
        };
        let version = modinfo(&module.image, "vermagic")?.context("it names no version")?;
        let undefined = |wanted: &&str| {
            file.symbols().any(|symbol| symbol.is_undefined() && symbol.name() == Ok(*wanted))
        };
        let current = CURRENT.into_iter().find(undefined).context("it does not use the current task")?;
        let frame = Self {
            module_bytes: section.size(),
            name_at: name_at as u64,
            init_at: entry("init_module")?,
            exit_at: entry("cleanup_module")?,
            version,
            current: current.to_owned(),
        };
        let ordered = frame.name_at < frame.init_at
            && frame.init_at + 8 <= frame.exit_at
            && frame.exit_at + 8 <= frame.module_bytes;
        if !ordered {
            bail!("its {THIS_MODULE} is laid out in an unknown way: {frame:?}");
        }
        Ok(frame)
    }

    fn definitions(&self) -> [String; 6] {
        [
            format!("-DMODULE_BYTES={}", self.module_bytes),
            format!("-DNAME_AT={}", self.name_at),
            format!("-DINIT_AT={}", self.init_at),
            format!("-DEXIT_AT={}", self.exit_at),
            format!("-DVERMAGIC={:?}", self.version),
            format!("-DCURRENT={:?}", self.current),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Frame {
        Frame {
            module_bytes: 1280,
            name_at: 24,
            init_at: 304,
            exit_at: 1208,
            version: "7.3.4+deb13-amd64 SMP preempt mod_unload ".into(),
            current: "const_current_task".into(),
        }
    }

    /// A module file with that frame; what is compiled for it has the frame too.
    fn compiled(frame: &Frame) -> Module {
        let directory = tempfile::tempdir().unwrap();
        let object = directory.path().join("m.ko");
        let mut command = Command::new(COMPILER);
        command.args(FLAGS).args(frame.definitions()).arg("-o").arg(&object).arg(source());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Module { name: MODULE.to_owned(), image: fs::read(object).unwrap() }
    }

    #[test]
    fn what_is_compiled_has_the_frame_of_the_kernels_own_module() {
        let frames = [
            frame(),
            Frame { init_at: 312, exit_at: 1200, current: "const_pcpu_hot".into(), ..frame() },
            Frame { module_bytes: 2048, exit_at: 312, version: "6.1".into(), ..frame() },
        ];
        for frame in frames {
            let first = compiled(&frame);
            assert_eq!(Frame::of(&first).unwrap(), frame);
            let directory = tempfile::tempdir().unwrap();
            let second = build(&first, directory.path()).unwrap();
            assert_eq!(second.image, first.image);
        }
    }

    #[test]
    fn a_module_without_a_frame_is_refused() {
        let mut module = compiled(&frame());
        module.name = "other".into();
        assert!(Frame::of(&module).unwrap_err().to_string().contains("name"));
        module.image = b"not ELF".to_vec();
        assert!(Frame::of(&module).is_err());
    }
}

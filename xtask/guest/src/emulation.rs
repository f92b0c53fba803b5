//! What the module that emulates MOVDIR64B and ENQCMD must know of the kernel it runs on, from that kernel's BTF and its
//! table of symbols.
//!
//! Owns: the module's name, its parameters, and the check of the layouts that its source takes for granted. Refuses: loading it.

use anyhow::{Context, ensure};
use dsascope_core::btf::{Btf, Kind};

/// As the kernel names it; the source is `xtask/guest-module/enqcmd_emulation.c`.
pub const MODULE: &str = "enqcmd_emulation";

/// Tells the kernel that the instruction under a uprobe has run.
const STEPPED: &str = "uprobe_post_sstep_notifier";

/// (parameter, structure, member): offsets that differ between kernels.
const PARAMETERS: [(&str, &str, &str); 5] = [
    ("task_mm", "task_struct", "mm"),
    ("task_pagefault_disabled", "task_struct", "pagefault_disabled"),
    ("mm_iommu_mm", "mm_struct", "iommu_mm"),
    ("iommu_mm_pasid", "iommu_mm_data", "pasid"),
    ("cpu_capabilities", "cpuinfo_x86", "x86_capability"),
];

/// (structure, member, offset): layouts that are written down in the source.
const LAYOUTS: [(&str, &str, u32); 15] = [
    ("pt_regs", "r15", 0),
    ("pt_regs", "ax", 80),
    ("pt_regs", "ip", 128),
    ("pt_regs", "flags", 144),
    ("die_args", "regs", 0),
    ("die_args", "trapnr", 24),
    ("notifier_block", "notifier_call", 0),
    ("notifier_block", "priority", 16),
    ("kernel_param", "name", 0),
    ("kernel_param", "mod", 8),
    ("kernel_param", "ops", 16),
    ("kernel_param", "perm", 24),
    ("kernel_param", "level", 26),
    ("kernel_param", "flags", 27),
    ("kernel_param", "arg", 32),
];

/// The module's parameters for the kernel of this BTF and these symbols, as /proc/kallsyms lists them; as `finit_module` takes them.
pub fn parameters(vmlinux: &[u8], symbols: &str) -> anyhow::Result<String> {
    let btf = Btf::parse("vmlinux", vmlinux, None)?;
    let offset = |structure, member| -> anyhow::Result<u32> {
        Ok(btf.member_offset(btf.id(Kind::Struct, structure)?, member)?)
    };
    for (structure, member, expected) in LAYOUTS {
        let actual = offset(structure, member)?;
        ensure!(
            actual == expected,
            "{MODULE} takes {structure}.{member} to be at {expected}, but this kernel has it at {actual}"
        );
    }
    let parameter = |(name, structure, member)| {
        offset(structure, member)
            .map(|offset| format!("{name}={offset}"))
            .context("this kernel has no shared WQs")
    };
    let mut all = PARAMETERS.into_iter().map(parameter).collect::<anyhow::Result<Vec<_>>>()?;
    let address = symbols.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?;
        (words.nth(1) == Some(STEPPED)).then_some(address)
    });
    let address = address.with_context(|| format!("this kernel has no {STEPPED}"))?;
    all.push(format!("uprobe_stepped=0x{address}"));
    Ok(all.join(" "))
}

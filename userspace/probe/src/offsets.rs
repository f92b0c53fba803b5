//! What the programs need to know of this kernel: struct offsets and attach ids, all from BTF.

use std::{collections::HashMap, fs};

use crate::{
    btf::{Btf, Kind},
    error::ProbeError,
};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
const MODULE: &str = "/sys/kernel/btf/idxd";
/// The global's value when the kernel has no such field.
const ABSENT: u32 = u32::MAX;

macro_rules! table {
    ($($global:ident = $structure:literal, $member:literal;)*) => {
        /// (global, struct, member path) of every offset.
        pub const OFFSETS: &[(&str, &str, &str)] = &[$((stringify!($global), $structure, $member)),*];
    };
}
dsascope_common::for_each_offset!(table);

/// Without these a hook loses a refinement or an event that no fault needs: who opened a file before attaching, tracepoints' own layout,
/// what commands, resets and warnings are about.
const OPTIONAL: &[&str] = &[
    "MM_OWNER",
    "MM_IOMMU_MM",
    "IOMMU_MM_PASID",
    "XARRAY_HEAD",
    "XA_NODE_SHIFT",
    "XA_NODE_SLOTS",
    "TP_QUEUE_WORK",
    "TP_QUEUE_FUNCTION",
    "TP_START_WORK",
    "TP_START_FUNCTION",
    "TP_END_FUNCTION",
    "DEVICE_STATE",
    "DEVICE_CMD_STATUS",
    "DEVICE_PDEV",
    "DEVICE_WORK",
    "DEVICE_WQS",
    "WQ_TYPE",
    "WQ_FLAGS",
    "WQ_SIZE",
    "WQ_THRESHOLD",
    "WQ_PRIORITY",
    "PCI_DEV",
    "DEV_DRIVER",
    "DEV_DRIVER_DATA",
    "DRIVER_NAME",
    "TP_PRQ_DW0",
    "TP_PRQ_DW1",
    "TP_QI_QW0",
    "TP_QI_QW1",
];

/// One kernel's answers.
#[derive(Debug, Default)]
pub struct Layout {
    /// Values of the offset globals.
    pub offsets: Vec<(&'static str, u32)>,
    vmlinux: HashMap<(Kind, String), u32>,
    module: HashMap<(Kind, String), u32>,
}

impl Layout {
    /// Reads both BTF objects and answers for `functions` of the module and of vmlinux and for `tracepoints`.
    pub fn of_this_kernel(
        module_functions: &[&str],
        kernel_functions: &[&str],
        tracepoints: &[&str],
    ) -> Result<Self, ProbeError> {
        let read =
            |path: &str| fs::read(path).map_err(|source| ProbeError::NoBtf { path: path.into(), source });
        let vmlinux_bytes = read(VMLINUX)?;
        let vmlinux = Btf::parse("vmlinux", &vmlinux_bytes, None)?;
        drop(vmlinux_bytes);
        let module_bytes = read(MODULE)?;
        let module = Btf::parse("idxd", &module_bytes, Some(&vmlinux))?;
        Self::resolve(&vmlinux, &module, module_functions, kernel_functions, tracepoints)
    }

    /// The same from parsed objects.
    pub fn resolve(
        vmlinux: &Btf<'_>,
        module: &Btf<'_>,
        module_functions: &[&str],
        kernel_functions: &[&str],
        tracepoints: &[&str],
    ) -> Result<Self, ProbeError> {
        let typedefs: Vec<String> = tracepoints.iter().map(|t| format!("btf_trace_{t}")).collect();
        let mut wanted: Vec<(Kind, &str)> = OFFSETS.iter().map(|o| (Kind::Struct, o.1)).collect();
        wanted.dedup();
        let mut in_kernel = wanted.clone();
        in_kernel.extend(kernel_functions.iter().map(|f| (Kind::Func, *f)));
        in_kernel.extend(typedefs.iter().map(|t| (Kind::Typedef, t.as_str())));
        wanted.extend(module_functions.iter().map(|f| (Kind::Func, *f)));
        let kernel_ids = vmlinux.find(&in_kernel);
        let module_ids = module.find(&wanted);
        let mut offsets = Vec::with_capacity(OFFSETS.len());
        for &(global, structure, member) in OFFSETS {
            let key = (Kind::Struct, structure.to_owned());
            let found = match (module_ids.get(&key), kernel_ids.get(&key)) {
                (Some(&id), _) => module.member_offset(id, member).ok(),
                (None, Some(&id)) => vmlinux.member_offset(id, member).ok(),
                (None, None) => None,
            };
            match found {
                Some(offset) => offsets.push((global, offset)),
                None if OPTIONAL.contains(&global) => offsets.push((global, ABSENT)),
                None => return Err(ProbeError::Layout { structure, member }),
            }
        }
        Ok(Self { offsets, vmlinux: kernel_ids, module: module_ids })
    }

    #[must_use]
    pub fn has(&self, global: &str) -> bool {
        self.offsets.iter().any(|&(name, value)| name == global && value != ABSENT)
    }

    #[must_use]
    pub fn module_function(&self, name: &str) -> Option<u32> {
        self.module.get(&(Kind::Func, name.to_owned())).copied()
    }

    #[must_use]
    pub fn kernel_function(&self, name: &str) -> Option<u32> {
        self.vmlinux.get(&(Kind::Func, name.to_owned())).copied()
    }

    #[must_use]
    pub fn tracepoint(&self, name: &str) -> Option<u32> {
        self.vmlinux.get(&(Kind::Typedef, format!("btf_trace_{name}"))).copied()
    }
}

//! The embedded eBPF object: globals set, maps made, programs ready to load.
//!
//! aya's own loader resolves attach targets in vmlinux alone and reads all of it into memory; here aya makes the maps, aya-obj
//! relocates, and [`crate::sys`] loads.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::maps::{Map, MapData};
use aya_obj::{
    EbpfSectionKind, Object,
    btf::BtfFeatures,
    generated::{bpf_func_info, bpf_insn},
};

use crate::error::ProbeError;

/// build.rs says where it is: committed beside the eBPF sources, and checked by `cargo xtask ebpf --check`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("DSASCOPE_BPF_OBJECT"));

/// Relocated programs and their maps.
#[derive(Debug)]
pub(crate) struct Loaded {
    object: Object,
    maps: HashMap<String, MapData>,
    /// The object's own BTF in the kernel: programs with callbacks need it.
    btf: Option<OwnedFd>,
}

/// A program as the kernel wants it.
#[derive(Clone, Copy)]
pub(crate) struct Code<'a> {
    pub(crate) instructions: &'a [bpf_insn],
    /// The object's BTF, and which type is the function at which instruction.
    pub(crate) functions: Option<(BorrowedFd<'a>, &'a [bpf_func_info])>,
}

impl Loaded {
    /// `globals`: (name, bytes); `sizes`: (map, max entries).
    pub(crate) fn new(globals: &[(&str, Vec<u8>)], sizes: &[(&str, u32)]) -> Result<Self, ProbeError> {
        let broken = |what: String| ProbeError::Object { what };
        let mut object = Object::parse(OBJECT).map_err(|e| broken(e.to_string()))?;
        let values = globals.iter().map(|(name, bytes)| (*name, (bytes.as_slice(), true))).collect();
        object.patch_map_data(values).map_err(|e| broken(e.to_string()))?;

        let mut definitions = std::mem::take(&mut object.maps);
        let mut maps = HashMap::new();
        for (name, definition) in &mut definitions {
            if let Some((_, entries)) = sizes.iter().find(|(n, _)| n == name) {
                definition.set_max_entries(*entries);
            }
            let map =
                MapData::create(definition.clone(), name, None).map_err(|e| map_error(name, "create", e))?;
            let failed = |operation, source| ProbeError::Map { map: name.clone(), operation, source };
            if !definition.data().is_empty() {
                crate::sys::set_array_value(map.fd().as_fd(), definition.data())
                    .map_err(|e| failed("set", e))?;
            }
            if definition.section_kind() == EbpfSectionKind::Rodata {
                crate::sys::freeze_map(map.fd().as_fd()).map_err(|e| failed("freeze", e))?;
            }
            maps.insert(name.clone(), map);
        }
        // Every kernel with an event log (6.4) knows all kinds of BTF; asking each one of them costs a dozen system calls.
        let features = BtfFeatures::new(true, true, true, true, true, true, true, true);
        let btf = object
            .fixup_and_sanitize_btf(&features)
            .map_err(|e| broken(e.to_string()))?
            .map(|btf| crate::sys::load_btf(&btf.to_bytes()))
            .transpose()
            .map_err(|e| ProbeError::system("load the object's BTF", e))?;
        let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let fds = definitions.iter().map(|(name, d)| (name.as_str(), maps[name].fd().as_fd().as_raw_fd(), d));
        object.relocate_maps(fds, &text).map_err(|e| broken(e.to_string()))?;
        object.relocate_calls(&text).map_err(|e| broken(e.to_string()))?;
        Ok(Self { object, maps, btf })
    }

    pub(crate) fn code(&self, program: &str) -> Result<Code<'_>, ProbeError> {
        let missing = || ProbeError::Object { what: format!("no program {program}") };
        let key = self.object.programs.get(program).ok_or_else(missing)?.function_key();
        let function = self.object.functions.get(&key).ok_or_else(missing)?;
        let functions =
            self.btf.as_ref().filter(|_| function.func_info_rec_size == size_of::<bpf_func_info>());
        Ok(Code {
            instructions: &function.instructions,
            functions: functions.map(|fd| (fd.as_fd(), function.func_info.func_info.as_slice())),
        })
    }

    /// Takes a map out; programs that are loaded keep it alive too.
    pub(crate) fn take_map(&mut self, name: &str) -> Result<Map, ProbeError> {
        let data =
            self.maps.remove(name).ok_or_else(|| ProbeError::Object { what: format!("no map {name}") })?;
        Map::from_map_data(data).map_err(|e| map_error(name, "open", e))
    }
}

pub(crate) fn map_error(map: &str, operation: &'static str, error: aya::maps::MapError) -> ProbeError {
    use aya::maps::MapError;
    let source = match error {
        MapError::CreateError { io_error, .. } => io_error,
        MapError::SyscallError(e) => e.io_error,
        other => io::Error::other(other.to_string()),
    };
    if source.kind() == io::ErrorKind::PermissionDenied {
        return ProbeError::NoPermission { operation: format!("{operation} BPF map {map}: {source}") };
    }
    ProbeError::Map { map: map.into(), operation, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsascope_common::wire::{FaultRecord, Pending, Totals, counter, name};

    #[test]
    fn the_object_has_every_program_that_a_hook_may_ask_for() {
        let object = Object::parse(OBJECT).unwrap();
        for program in crate::hooks::program_names() {
            assert!(object.programs.contains_key(&program), "{program}");
        }
        assert_eq!(object.license.as_c_str(), c"Dual MIT/GPL");
    }

    #[test]
    fn the_object_has_every_global_that_the_loader_sets() {
        let mut object = Object::parse(OBJECT).unwrap();
        let offset = 7u32.to_ne_bytes();
        let mut globals: HashMap<&str, (&[u8], bool)> =
            crate::offsets::OFFSETS.iter().map(|o| (o.0, (&offset[..], true))).collect();
        for word in [name::STAGES, name::COPY_UNOBSERVED, name::VERBOSE] {
            globals.insert(word, (&offset, true));
        }
        for long in [name::WORK_FUNCTION, name::WAKE_MASK] {
            globals.insert(long, (&[0; 8], true));
        }
        object.patch_map_data(globals).unwrap();
    }

    #[test]
    fn the_maps_hold_the_records_of_this_build() {
        let object = Object::parse(OBJECT).unwrap();
        let value = |map: &str| object.maps[map].value_size() as usize;
        // Four keys, four values.
        assert_eq!(value(name::PENDING_BUCKETS), 4 * (8 + size_of::<Pending>()));
        assert_eq!(value(name::ACTIVE_BUCKETS), 4 * (8 + size_of::<FaultRecord>()));
        assert_eq!(value(name::PENDING_MORE), size_of::<Pending>());
        assert_eq!(value(name::TOTALS), size_of::<Totals>());
        assert_eq!(value(name::COUNTERS), counter::COUNT as usize * 8);
        assert!(
            object.maps.contains_key(name::RING) && object.maps.contains_key(name::LOG),
            "{:?}",
            object.maps.keys()
        );
    }
}

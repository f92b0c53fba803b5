//! The object as an ELF file: dropping what the loader does not read, and its interface to the loader.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind,
    build::elf::{Builder, SectionData},
};

/// The same object without DWARF; BTF stays.
pub(super) fn without_debug(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(bytes).context("read the linked eBPF object")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        let target = name.strip_prefix(".rel").unwrap_or(&name);
        if target.starts_with(".debug_") {
            section.delete = true;
        }
    }
    builder.delete_orphans();
    // LLVM keeps section names and symbol names in one table; the writer wants two.
    if !builder.sections.iter().any(|s| matches!(s.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = b".shstrtab".as_slice().into();
        names.sh_type = object::elf::SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    let mut out = Vec::new();
    builder.write(&mut out).context("write the eBPF object")?;
    Ok(out)
}

/// What the loader relies on: programs by section, maps by definition, globals by size.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Interface(BTreeMap<String, String>);

pub(super) fn interface(bytes: &[u8]) -> Result<Interface> {
    let file = object::File::parse(bytes).context("read an eBPF object")?;
    let mut items = BTreeMap::new();
    for symbol in file.symbols() {
        let name = symbol.name().context("symbol name")?.to_owned();
        let Some(section) = symbol.section_index().and_then(|i| file.section_by_index(i).ok()) else {
            continue;
        };
        let section_name = section.name().context("section name")?;
        match (symbol.kind(), section_name) {
            (SymbolKind::Text, ".text") => {}
            (SymbolKind::Text, _) => {
                items.insert(format!("program {name}"), section_name.to_owned());
            }
            (SymbolKind::Data, "maps") => {
                let definition =
                    section.data_range(symbol.address(), symbol.size()).context("map definition")?;
                items.insert(format!("map {name}"), format!("{definition:?}"));
            }
            (SymbolKind::Data, ".rodata") if symbol.is_global() => {
                items.insert(format!("global {name}"), format!("{} bytes", symbol.size()));
            }
            _ => {}
        }
    }
    Ok(Interface(items))
}

impl Interface {
    /// A line for each item that one has and the other has not, or has otherwise.
    pub(super) fn differences(&self, fresh: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (item, ours) in &self.0 {
            match fresh.0.get(item) {
                None => lines.push(format!("{item} is committed, and not built")),
                Some(theirs) if theirs != ours => {
                    lines.push(format!("{item}: {ours} committed, {theirs} built"));
                }
                Some(_) => {}
            }
        }
        let new = fresh.0.keys().filter(|item| !self.0.contains_key(*item));
        lines.extend(new.map(|item| format!("{item} is built, and not committed")));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Vec<u8> {
        std::fs::read(crate::binaries::workspace().join(super::super::OBJECT)).unwrap()
    }

    #[test]
    fn the_committed_object_has_programs_maps_and_globals_and_no_debug_sections() {
        let bytes = committed();
        let interface = interface(&bytes).unwrap();
        for item in
            ["program queued_btf", "program service_end_kretprobe", "map EVENTS", "global FAULT_ENTRY"]
        {
            assert!(interface.0.contains_key(item), "{item}");
        }
        let file = object::File::parse(&*bytes).unwrap();
        assert!(file.sections().all(|s| !s.name().unwrap().contains(".debug_")));
        assert!(file.section_by_name(".BTF").is_some());
    }

    #[test]
    fn a_difference_is_named() {
        let a = interface(&committed()).unwrap();
        let mut b = Interface(a.0.clone());
        assert!(a.differences(&b).is_empty());
        b.0.remove("map EVENTS");
        b.0.insert("global NEW".into(), "4 bytes".into());
        assert_eq!(
            a.differences(&b),
            ["map EVENTS is committed, and not built", "global NEW is built, and not committed"]
        );
    }
}

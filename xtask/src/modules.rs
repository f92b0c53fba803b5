//! Kernel modules for the guest: which files, in which order, decompressed.
//!
//! Dependencies come from each module's own `.modinfo` section, because Debian's packages carry no `modules.dep` (it is made on
//! installation). Refuses: loading anything; the guest's init does that in the given order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

/// Modules the guest needs. Those that a kernel has built in are not there as files, which is no error unless idxd itself is missing.
pub const WANTED: [&str; 4] = ["virtio_pci", "virtio_console", "idxd_bus", "idxd"];
/// Without this one there is nothing to trace.
pub const REQUIRED: &str = "idxd";
/// Larger claims in a compressed module are refused, in bytes.
const LARGEST: u64 = 64 << 20;

/// A module, ready to load.
#[derive(Clone, PartialEq, Eq)]
pub struct Module {
    /// With underscores, as the kernel names it.
    pub name: String,
    /// The relocatable ELF file.
    pub image: Vec<u8>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.image.len())
    }
}

/// Reads the wanted modules and all they depend on from below `directory`, dependencies first.
pub fn collect(directory: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let mut files = BTreeMap::new();
    index(directory, &mut files)?;
    if wanted.contains(&REQUIRED) && !files.contains_key(REQUIRED) {
        bail!("no module {REQUIRED} below {}", directory.display());
    }
    let mut images = BTreeMap::new();
    let order = load_order(wanted, |name| {
        let Some(path) = files.get(name) else { return Ok(None) };
        let image = read(path)?;
        let depends = depends(&image).with_context(|| format!("cannot read module {}", path.display()))?;
        images.insert(name.to_owned(), image);
        Ok(Some(depends))
    })?;
    Ok(order
        .into_iter()
        .filter_map(|name| images.remove(&name).map(|image| Module { name, image }))
        .collect())
}

/// Depth-first order of `wanted` with dependencies first. `depends` gives those of one module, or none when it is built into the kernel.
fn load_order(
    wanted: &[&str],
    mut depends: impl FnMut(&str) -> Result<Option<Vec<String>>>,
) -> Result<Vec<String>> {
    fn visit(
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
        depends: &mut impl FnMut(&str) -> Result<Option<Vec<String>>>,
    ) -> Result<()> {
        // Marked before its dependencies are visited, so a cycle ends.
        if !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(needed) = depends(name)? else { return Ok(()) };
        for dependency in needed {
            visit(&dependency, seen, order, depends)?;
        }
        order.push(name.to_owned());
        Ok(())
    }
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for name in wanted {
        visit(name, &mut seen, &mut order, &mut depends)?;
    }
    Ok(order)
}

/// Finds module files by name.
fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let path = entry.path();
        // Links (`build`, `source`) lead out of the tree.
        let kind = entry.file_type().with_context(|| format!("cannot look at {}", path.display()))?;
        if kind.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `virtio_pci` of `virtio-pci.ko.xz`.
fn module_name(path: &Path) -> Option<String> {
    let (name, extension) = path.file_name()?.to_str()?.split_once('.')?;
    matches!(extension, "ko" | "ko.xz" | "ko.zst").then(|| name.replace('-', "_"))
}

/// Reads and decompresses a module.
fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut image = Vec::new();
    let unpacked = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => lzma_rust2::XzReader::new(bytes.as_slice(), true)
            .take(LARGEST)
            .read_to_end(&mut image)
            .map(drop)
            .map_err(anyhow::Error::from),
        Some("zst") => ruzstd::decoding::StreamingDecoder::new(bytes.as_slice())
            .map_err(anyhow::Error::from)
            .and_then(|decoder| {
                decoder.take(LARGEST).read_to_end(&mut image).map(drop).map_err(anyhow::Error::from)
            }),
        _ => return Ok(bytes),
    };
    unpacked.with_context(|| format!("cannot decompress {}", path.display()))?;
    Ok(image)
}

/// The modules that a module names in its `.modinfo` section, those it only recommends (`softdep: pre`) too.
fn depends(image: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(image).context("not an ELF file")?;
    let section = file.section_by_name(".modinfo").context("it has no .modinfo section")?;
    Ok(parse_modinfo(section.data().context("its .modinfo section is cut off")?))
}

/// The value of one key in a module's `.modinfo` section.
pub fn modinfo(image: &[u8], key: &str) -> Result<Option<String>> {
    let file = object::File::parse(image).context("not an ELF file")?;
    let section = file.section_by_name(".modinfo").context("it has no .modinfo section")?;
    let data = section.data().context("its .modinfo section is cut off")?;
    let value = |entry: &str| Some(entry.strip_prefix(key)?.strip_prefix('=')?.to_owned());
    Ok(modinfo_entries(data).find_map(value))
}

fn modinfo_entries(section: &[u8]) -> impl Iterator<Item = &str> {
    section.split(|byte| *byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok())
}

fn parse_modinfo(section: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for entry in modinfo_entries(section) {
        if let Some(list) = entry.strip_prefix("depends=") {
            names.extend(list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")));
        } else if let Some(rule) = entry.strip_prefix("softdep=") {
            let before = rule
                .split_whitespace()
                .skip_while(|word| *word != "pre:")
                .skip(1)
                .take_while(|word| !word.ends_with(':'));
            names.extend(before.map(|name| name.replace('-', "_")));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modinfo_names_dependencies() {
        let section = b"license=GPL\0depends=virtio,virtio-ring\0softdep=pre: crc-a crc_b post: other\0\0alias=depends=x\0";
        assert_eq!(parse_modinfo(section), ["virtio", "virtio_ring", "crc_a", "crc_b"]);
        assert!(parse_modinfo(b"depends=\0").is_empty());
        assert!(parse_modinfo(b"\xff\xfe\0").is_empty());
    }

    fn order(wanted: &[&str], tree: &[(&str, &[&str])]) -> Vec<String> {
        load_order(wanted, |name| {
            Ok(tree
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, needed)| needed.iter().map(ToString::to_string).collect()))
        })
        .unwrap()
    }

    #[test]
    fn dependencies_load_first_and_once() {
        let tree: &[(&str, &[&str])] =
            &[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d", "builtin"]), ("d", &[])];
        assert_eq!(order(&["a", "b"], tree), ["d", "b", "c", "a"]);
    }

    #[test]
    fn a_cycle_ends() {
        assert_eq!(order(&["a"], &[("a", &["b"]), ("b", &["a"])]), ["b", "a"]);
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(module_name(Path::new("x/virtio-pci.ko.xz")).as_deref(), Some("virtio_pci"));
        assert_eq!(module_name(Path::new("idxd.ko")).as_deref(), Some("idxd"));
        assert_eq!(module_name(Path::new("modules.order")), None);
    }

    #[test]
    fn a_missing_idxd_and_a_broken_file_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(collect(dir.path(), &WANTED).unwrap_err().to_string().contains("no module idxd"));
        fs::write(dir.path().join("idxd.ko.xz"), "not xz").unwrap();
        assert!(format!("{:#}", collect(dir.path(), &WANTED).unwrap_err()).contains("decompress"));
        fs::remove_file(dir.path().join("idxd.ko.xz")).unwrap();
        fs::write(dir.path().join("idxd.ko"), "not ELF").unwrap();
        assert!(format!("{:#}", collect(dir.path(), &WANTED).unwrap_err()).contains("not an ELF"));
    }
}

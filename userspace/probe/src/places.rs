//! Where a completion record lives: [`Places::of`] says what a process has mapped at an address, and where that memory is.
//!
//! Read from /proc/PID/maps (each mapping), smaps and numa_maps (the mapping asked for) and move_pages(2), which moves nothing (the very
//! page). All of it is remembered and rationed, so that a storm of faults costs little; what was therefore not read is `None` and
//! counted. smaps and numa_maps make the kernel walk the page tables of all mappings before, while the process can map nothing: they are
//! read seldom, and not at all of a process with more than 2 GB in memory, huge pages of hugetlbfs aside.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;

use dsascope_core::name::harmless;
use dsascope_core::submission::{Mapped, Memory, MemoryKind, NodePages, Place};

use crate::processes::{Mapping, hex};
use crate::sys;
use crate::vmas::{self, AGAIN_NS, Found, Ration, Vmas};

const PAGE_BYTES: u64 = 4096;
/// Pages of a process that are remembered.
const PAGES: usize = 512;
/// Mappings whose smaps and numa_maps are remembered, and how long.
const WALKED: usize = 1024;
const WALKED_HOLDS_NS: u64 = 30_000_000_000;
/// Reads of smaps and numa_maps are rationed by what there is to walk, which takes about 1 ms for each of these.
const STEP_BYTES: u64 = 32 << 20;
const STEPS_AT_ONCE: u64 = 64;
const STEP_EVERY_NS: u64 = 50_000_000;
/// A process with more in memory is left alone.
const WALKED_BYTES: u64 = STEP_BYTES * (STEPS_AT_ONCE - 1);
/// Of smaps or numa_maps.
const TEXT_BYTES: u64 = 8 << 20;
const NAME_CHARS: usize = 256;

/// What is remembered of places.
#[derive(Debug)]
pub struct Places {
    vmas: Vmas<HashMap<u64, Place>>,
    walked: HashMap<(u32, u64, u64), Walked>,
    walks: Ration,
    not_told: u64,
}

/// What smaps and numa_maps say of a mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Walked {
    at_ns: u64,
    smaps: Option<Smaps>,
    nodes: Option<Vec<NodePages>>,
}

impl Default for Places {
    fn default() -> Self {
        Self::new()
    }
}

impl Places {
    #[must_use]
    pub fn new() -> Self {
        Self {
            vmas: Vmas::new(),
            walked: HashMap::new(),
            walks: Ration::new(STEPS_AT_ONCE, STEP_EVERY_NS),
            not_told: 0,
        }
    }

    /// What is mapped at an address. `None`: the process has gone, may not be looked at, or was looked at too recently
    /// ([`Places::not_told`]). The answer may be up to a second old and says so.
    pub fn of(&mut self, now_ns: u64, pid: u32, address: u64) -> Option<&Place> {
        let page = address & !(PAGE_BYTES - 1);
        let holds =
            |place: &Place| place.memory != Memory::Unmapped || now_ns.saturating_sub(place.at_ns) < AGAIN_NS;
        if self.vmas.fresh(now_ns, pid).is_some_and(|known| known.beside.get(&page).is_some_and(holds)) {
            return self.vmas.fresh(now_ns, pid)?.beside.get(&page);
        }
        let (known, memory) = match self.vmas.find(now_ns, pid, address, vmas::read) {
            Found::Gone => {
                self.walked.retain(|(walked, ..), _| *walked != pid);
                return None;
            }
            Found::NotTold => {
                self.not_told += 1;
                return None;
            }
            Found::Unmapped(known) => (known, Memory::Unmapped),
            Found::Mapped(known, position) => {
                let mapping = &known.mappings[position];
                let walked = walked(&mut self.walked, &mut self.walks, now_ns, pid, mapping);
                let node = sys::page_node(pid, page);
                let mapped = mapped(mapping, walked, node);
                (known, Memory::Mapped(mapped))
            }
        };
        let place = Place { at_ns: known.read_ns, tgid: pid, page, memory };
        if known.beside.len() >= PAGES {
            known.beside.clear();
        }
        Some(known.beside.entry(page).insert_entry(place).into_mut())
    }

    /// Questions without an answer because the process's map had just been read, or too many of others.
    #[must_use]
    pub const fn not_told(&self) -> u64 {
        self.not_told
    }
}

fn mapped(mapping: &Mapping, walked: Option<&Walked>, node: Option<u16>) -> Mapped {
    let smaps = walked.and_then(|w| w.smaps);
    Mapped {
        start: mapping.start,
        end: mapping.end,
        kind: kind(mapping.name.as_os_str().as_bytes()),
        permissions: mapping.permissions,
        page_bytes: smaps.map(|s| s.page_bytes),
        transparent_huge: smaps.map(|s| s.huge_bytes > 0),
        node,
        nodes: walked.and_then(|w| w.nodes.clone()),
    }
}

fn walked<'a>(
    table: &'a mut HashMap<(u32, u64, u64), Walked>,
    walks: &mut Ration,
    now_ns: u64,
    pid: u32,
    mapping: &Mapping,
) -> Option<&'a Walked> {
    let key = (pid, mapping.start, mapping.end);
    let holds = table.get(&key).is_some_and(|w| now_ns.saturating_sub(w.at_ns) < WALKED_HOLDS_NS);
    if !holds {
        let resident_bytes = resident_bytes(pid)?;
        if resident_bytes > WALKED_BYTES || !walks.take(now_ns, 1 + resident_bytes / STEP_BYTES) {
            return None;
        }
        if table.len() >= WALKED {
            table.clear();
        }
        let text = |file: &str| {
            Ok::<_, io::Error>(BufReader::new(File::open(format!("/proc/{pid}/{file}"))?.take(TEXT_BYTES)))
        };
        let smaps = text("smaps").and_then(|t| Smaps::find(t, mapping.start)).ok().flatten();
        let nodes = text("numa_maps").and_then(|t| nodes(t, mapping.start)).ok().flatten();
        table.insert(key, Walked { at_ns: now_ns, smaps, nodes });
    }
    table.get(&key)
}

/// The second number of /proc/PID/statm is pages in memory.
fn resident_bytes(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    statm.split(' ').nth(1)?.parse::<u64>().ok()?.checked_mul(PAGE_BYTES)
}

/// By the name in /proc/PID/maps. A file could be given some of these names; what the kernel makes itself has been deleted, too.
fn kind(name: &[u8]) -> MemoryKind {
    let shown = |name| harmless(name, NAME_CHARS);
    let bracketed = |prefix: &[u8]| name.strip_prefix(prefix).and_then(|n| n.strip_suffix(b"]"));
    let unnamed = name.strip_suffix(b" (deleted)").unwrap_or_default();
    let of_kernel = |prefix: &[u8]| unnamed.starts_with(prefix);
    if let Some(name) = bracketed(b"[anon:") {
        return MemoryKind::Named(shown(name));
    }
    if let Some(name) = bracketed(b"[anon_shmem:") {
        return MemoryKind::SharedMemory(shown(name));
    }
    match name {
        b"" => MemoryKind::Anonymous,
        b"[heap]" => MemoryKind::Heap,
        b"[stack]" => MemoryKind::Stack,
        // Of hugetlbfs, private or shared.
        _ if unnamed == b"/anon_hugepage" => MemoryKind::Anonymous,
        _ if unnamed == b"/dev/zero" || of_kernel(b"/memfd:") || of_kernel(b"/SYSV") => {
            MemoryKind::SharedMemory(shown(name))
        }
        _ if name.starts_with(b"/dev/shm/") => MemoryKind::SharedMemory(shown(name)),
        _ if name.starts_with(b"/dev/hugepages/") => MemoryKind::File(shown(name)),
        _ if name.starts_with(b"/dev/") => MemoryKind::Device(shown(name)),
        [b'/', ..] => MemoryKind::File(shown(name)),
        _ => MemoryKind::Kernel(shown(name)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Smaps {
    page_bytes: u64,
    /// Mapped by transparent huge pages: anonymous, shared or of a file.
    huge_bytes: u64,
}

impl Smaps {
    /// Of the mapping that starts there. Reads no further than its end. `None`: there is none, or it does not say its page size.
    fn find(text: impl BufRead, start: u64) -> io::Result<Option<Self>> {
        let (mut page_bytes, mut huge_bytes, mut inside) = (None, 0u64, false);
        for line in text.split(b'\n') {
            let line = line?;
            // A mapping's first line, as in maps; the others start with a capital.
            if line.first().is_some_and(|b| b.is_ascii_digit() || b.is_ascii_lowercase()) {
                if inside {
                    break;
                }
                inside = start_of(&line, b'-') == Some(start);
            } else if let Some((name, bytes)) = inside.then(|| size(&line)).flatten() {
                match name {
                    b"KernelPageSize" => page_bytes = Some(bytes),
                    b"AnonHugePages" | b"ShmemPmdMapped" | b"FilePmdMapped" => {
                        huge_bytes = huge_bytes.saturating_add(bytes);
                    }
                    _ => {}
                }
            }
        }
        Ok(page_bytes.map(|page_bytes| Self { page_bytes, huge_bytes }))
    }
}

/// `Name:   123 kB`.
fn size(line: &[u8]) -> Option<(&[u8], u64)> {
    let colon = line.iter().position(|b| *b == b':')?;
    let value = std::str::from_utf8(&line[colon + 1..]).ok()?.trim().strip_suffix(" kB")?;
    Some((&line[..colon], decimal(value)?.checked_mul(1024)?))
}

/// Of numa_maps: `start policy word=... N0=12 ... kernelpagesize_kB=4`. `None`: no such mapping.
fn nodes(text: impl BufRead, start: u64) -> io::Result<Option<Vec<NodePages>>> {
    for line in text.split(b'\n') {
        let line = line?;
        if start_of(&line, b' ') == Some(start) {
            // The kernel escapes spaces in names of files here.
            let words = line.split(|b| *b == b' ').filter_map(|word| std::str::from_utf8(word).ok());
            return Ok(Some(words.filter_map(node_pages).collect()));
        }
    }
    Ok(None)
}

fn node_pages(word: &str) -> Option<NodePages> {
    let (node, pages) = word.strip_prefix('N')?.split_once('=')?;
    Some(NodePages { node: u16::try_from(decimal(node)?).ok()?, pages: decimal(pages)? })
}

fn start_of(line: &[u8], end: u8) -> Option<u64> {
    let end = line.iter().position(|b| *b == end)?;
    hex(std::str::from_utf8(&line[..end]).ok()?)
}

fn decimal(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_mapping_is_what_its_name_says() {
        let shared = |name: &str| MemoryKind::SharedMemory(name.into());
        for (name, expected) in [
            ("", MemoryKind::Anonymous),
            ("[heap]", MemoryKind::Heap),
            ("[stack]", MemoryKind::Stack),
            ("/anon_hugepage (deleted)", MemoryKind::Anonymous),
            ("[anon:dsa records]", MemoryKind::Named("dsa records".into())),
            ("[anon_shmem:x]", shared("x")),
            ("/memfd:records (deleted)", shared("/memfd:records (deleted)")),
            ("/SYSV00000000 (deleted)", shared("/SYSV00000000 (deleted)")),
            ("/dev/zero (deleted)", shared("/dev/zero (deleted)")),
            ("/dev/shm/spdk", shared("/dev/shm/spdk")),
            ("/dev/hugepages/rtemap_0", MemoryKind::File("/dev/hugepages/rtemap_0".into())),
            ("/dev/dsa/wq0.3", MemoryKind::Device("/dev/dsa/wq0.3".into())),
            ("/memfd:a file", MemoryKind::File("/memfd:a file".into())),
            ("/tmp/a\x1b[2Jb", MemoryKind::File("/tmp/a\u{fffd}[2Jb".into())),
            ("[vdso]", MemoryKind::Kernel("[vdso]".into())),
            ("anon_inode:[io_uring]", MemoryKind::Kernel("anon_inode:[io_uring]".into())),
            ("[anon:", MemoryKind::Kernel("[anon:".into())),
        ] {
            assert_eq!(kind(name.as_bytes()), expected);
        }
        let long = kind(&[b"/".as_slice(), &[b'x'; 5000]].concat());
        assert_eq!(long.name().map(|name| name.chars().count()), Some(NAME_CHARS));
    }

    const SMAPS: &[u8] = b"\
55d0c6a00000-55d0c6a21000 rw-p 00000000 00:00 0                          [heap]
Size:                132 kB
KernelPageSize:        4 kB
MMUPageSize:           4 kB
AnonHugePages:         0 kB
THPeligible:           0
VmFlags: rd wr mr mw me ac
7f0000000000-7f0000400000 rw-s 00000000 00:0f 12                         /anon_hugepage (deleted)
Size:               4096 kB
KernelPageSize:     2048 kB
AnonHugePages:         0 kB
7f1000000000-7f1000400000 rw-p 00000000 00:00 0
KernelPageSize:        4 kB
AnonHugePages:      2048 kB
ShmemPmdMapped:        0 kB
7f2000000000-7f2000001000 rw-p 00000000 00:00 0
KernelPageSize:       -4 kB
AnonHugePages:      999999999999999999999 kB
";

    #[test]
    fn smaps_is_read_for_one_mapping() {
        let find = |start| Smaps::find(SMAPS, start).unwrap();
        assert_eq!(find(0x55d0_c6a0_0000), Some(Smaps { page_bytes: 4096, huge_bytes: 0 }));
        assert_eq!(find(0x7f00_0000_0000), Some(Smaps { page_bytes: 2 << 20, huge_bytes: 0 }));
        assert_eq!(find(0x7f10_0000_0000), Some(Smaps { page_bytes: 4096, huge_bytes: 2 << 20 }));
        assert_eq!(find(0x7f20_0000_0000), None, "no size at all is read from nonsense");
        assert_eq!(find(0x1000), None);
    }

    #[test]
    fn numa_maps_counts_pages_by_node() {
        let text = b"\
55d0c6a00000 default heap anon=3 dirty=3 N0=1 N1=2 kernelpagesize_kB=4
7f0000000000 prefer:1 file=/tmp/N0=7\\040N1=9 huge dirty=2 N1=2 kernelpagesize_kB=2048
7f1000000000 default
7f2000000000 default N0=x N=3 N70000=1 N1=99999999999999999999 N2=+1 N3=5
";
        let find = |start| nodes(text.as_slice(), start).unwrap();
        let on = |node, pages| NodePages { node, pages };
        assert_eq!(find(0x55d0_c6a0_0000), Some(vec![on(0, 1), on(1, 2)]));
        assert_eq!(find(0x7f00_0000_0000), Some(vec![on(1, 2)]));
        assert_eq!(find(0x7f10_0000_0000), Some(vec![]), "no page in memory");
        assert_eq!(find(0x7f20_0000_0000), Some(vec![on(3, 5)]));
        assert_eq!(find(0x1000), None);
    }

    proptest! {
        #[test]
        fn hostile_text_is_no_panic(text in proptest::collection::vec(any::<u8>(), 0..300), start: u64) {
            drop(kind(&text));
            let text = [format!("{start:x}-{start:x} rw-p 0 0:0 0\n{start:x} ").as_bytes(), &text].concat();
            prop_assert!(Smaps::find(text.as_slice(), start).is_ok());
            prop_assert!(nodes(text.as_slice(), start).is_ok());
        }
    }
}

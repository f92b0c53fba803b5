//! Names for the addresses of a user stack: [`Symbolizer`] finds file and function in a process that may be hostile, or gone.
//!
//! From ELF symbol tables alone: a frame has no line numbers to fill, and DWARF costs more time and memory than all the rest.
//! Nothing is fetched, and no file is followed that the process has not mapped. Memory, reads and names are bounded. What is not known is
//! `None`, never an error. Opening a file of a file system that a process serves (FUSE) may wait for that process: symbolise on a thread that
//! may wait, not on the ring's.

mod names;
mod symbols;

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use dsascope_core::name::harmless;
use dsascope_core::submission::Frame;

use self::symbols::Symbols;
use crate::processes::{self, Mapping};
use crate::vmas::{self, Found, Ration, Vmas};

/// Symbol tables in memory: files, and bytes of all of them. Those unused for longest make room.
const FILES: usize = 512;
const FILES_BYTES: u64 = 256 << 20;
/// Files read: 64 at once, 4 a second. A large one takes 20 to 100 ms.
const READS_AT_ONCE: u64 = 64;
const READ_EVERY_NS: u64 = 250_000_000;
const SYMBOL_CHARS: usize = 256;
const MODULE_CHARS: usize = 64;

/// A file's contents, as far as its attributes tell them from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileKey {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl FileKey {
    fn new(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            changed: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

#[derive(Debug)]
struct Kept {
    /// `None`: no ELF file, or none that is read.
    symbols: Option<Symbols>,
    used_ns: u64,
}

impl Kept {
    fn bytes(&self) -> u64 {
        self.symbols.as_ref().map_or(0, Symbols::bytes)
    }
}

/// Which file is behind a mapping, by the mapping's position; `None` if it cannot be opened.
type Files = HashMap<usize, Option<FileKey>>;

#[derive(Debug)]
pub struct Symbolizer {
    vmas: Vmas<Files>,
    kept: HashMap<FileKey, Kept>,
    reads: Ration,
    unread: u64,
}

impl Default for Symbolizer {
    fn default() -> Self {
        Self::new()
    }
}

impl Symbolizer {
    #[must_use]
    pub fn new() -> Self {
        Self {
            vmas: Vmas::new(),
            kept: HashMap::new(),
            reads: Ration::new(READS_AT_ONCE, READ_EVERY_NS),
            unread: 0,
        }
    }

    /// A frame for each address. The first address is that of an instruction, the others are those that calls return to.
    pub fn frames(&mut self, now_ns: u64, pid: u32, addresses: &[u64]) -> Vec<Frame> {
        let frame = |(depth, &address): (usize, &u64)| {
            // What follows a call that never returns may belong to the next function.
            let back = u64::from(depth > 0);
            self.frame(now_ns, pid, address, back)
        };
        addresses.iter().enumerate().map(frame).collect()
    }

    /// Files whose symbols were not read because too many others had just been.
    #[must_use]
    pub const fn unread(&self) -> u64 {
        self.unread
    }

    /// `back`: how far before `address` to look.
    fn frame(&mut self, now_ns: u64, pid: u32, address: u64, back: u64) -> Frame {
        let mut frame = Frame { address, ..Frame::default() };
        let inside = address.saturating_sub(back);
        let Found::Mapped(known, position) = self.vmas.find(now_ns, pid, inside, vmas::read) else {
            return frame;
        };
        let mapping = &known.mappings[position];
        frame.module = module(&mapping.name);
        if !mapping.name.has_root() {
            return frame;
        }
        let Some(offset) = mapping.offset.checked_add(inside - mapping.start) else { return frame };
        frame.module_offset = offset.checked_add(back);
        if !mapping.permissions.execute {
            return frame;
        }
        let key = *known.beside.entry(position).or_insert_with(|| {
            // None for now, if it must wait.
            let (file, key) = open(pid, mapping).ok()?;
            if !self.kept.contains_key(&key) {
                if !self.reads.take(now_ns, 1) {
                    self.unread += 1;
                    return None;
                }
                let kept = Kept { symbols: Symbols::read(&file).ok(), used_ns: now_ns };
                make_room(&mut self.kept, kept.bytes());
                self.kept.insert(key, kept);
            }
            Some(key)
        });
        if let Some(kept) = key.and_then(|key| self.kept.get_mut(&key)) {
            kept.used_ns = now_ns;
            if let Some((name, into)) = kept.symbols.as_ref().and_then(|symbols| symbols.find(offset)) {
                frame.symbol = Some(harmless(names::readable(name).as_bytes(), SYMBOL_CHARS));
                frame.offset = into.saturating_add(back);
            }
        }
        frame
    }
}

/// Until one more of so many bytes fits.
fn make_room(kept: &mut HashMap<FileKey, Kept>, bytes: u64) {
    let mut total = bytes + kept.values().map(Kept::bytes).sum::<u64>();
    while kept.len() >= FILES || total > FILES_BYTES {
        let Some(idle) = kept.iter().min_by_key(|(_, k)| k.used_ns).map(|(key, _)| *key) else { break };
        total -= kept.remove(&idle).map_or(0, |k| k.bytes());
    }
}

/// The mapped file itself, if it is a regular one.
fn open(pid: u32, mapping: &Mapping) -> io::Result<(fs::File, FileKey)> {
    let executable = processes::reach(Path::new("/proc"), pid, mapping)?;
    // What a path names may be another thing by now: nothing waits for it, and it is looked at again.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(executable.path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let key = FileKey::new(&meta);
    Ok((file, key))
}

/// File name, without what the kernel adds to that of a deleted file; or the kernel's own name ("\[vdso]").
fn module(name: &Path) -> Option<String> {
    let bytes = name.as_os_str().as_bytes();
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    let last = bytes.rsplit(|b| *b == b'/').next().filter(|last| !last.is_empty())?;
    Some(harmless(last, MODULE_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_a_file_name() {
        for (name, expected) in [
            ("/usr/lib/x86_64-linux-gnu/libdml.so.0.1", Some("libdml.so.0.1")),
            ("/opt/a b (deleted)", Some("a b")),
            ("/tmp/\x1b[2J", Some("\u{fffd}[2J")),
            ("[vdso]", Some("[vdso]")),
            ("", None),
        ] {
            assert_eq!(module(Path::new(name)).as_deref(), expected);
        }
    }

    #[test]
    fn kept_files_are_bounded() {
        let mut kept = HashMap::new();
        for n in 0..2 * FILES as u64 {
            make_room(&mut kept, 0);
            let key = FileKey { device: 1, inode: n, bytes: 0, changed: (0, 0) };
            kept.insert(key, Kept { symbols: None, used_ns: n });
        }
        assert_eq!(kept.len(), FILES);
        assert!(kept.keys().all(|key| key.inode >= FILES as u64), "those used last stay");
        make_room(&mut kept, FILES_BYTES + 1);
        assert!(kept.is_empty());
    }
}

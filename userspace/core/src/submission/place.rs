//! Where a completion record lives: the mapping of its process that its address is in, and the memory behind its page.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What was mapped at an address at a moment. A moment after the fault, so the page of an absent record may have come by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// When the memory map was read.
    pub at_ns: u64,
    pub tgid: u32,
    /// Start of the 4 KiB page that was asked for.
    pub page: u64,
    #[serde(flatten)]
    pub memory: Memory,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "memory", rename_all = "snake_case")]
pub enum Memory {
    Mapped(Mapped),
    /// Nothing is mapped there: no fault can be resolved.
    Unmapped,
}

/// A mapping, what is behind it and where its pages are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mapped {
    pub start: u64,
    pub end: u64,
    #[serde(flatten)]
    pub kind: MemoryKind,
    #[schemars(with = "String", regex(pattern = "^[r-][w-][x-][ps]$"))]
    pub permissions: Permissions,
    /// What the kernel maps this memory in: 4096, or the size of hugetlbfs' pages.
    pub page_bytes: Option<u64>,
    /// Transparent huge pages are in use somewhere in the mapping.
    pub transparent_huge: Option<bool>,
    /// NUMA node of this very page; null also while the page is absent.
    pub node: Option<u16>,
    /// Pages of the whole mapping by NUMA node; null when not read.
    pub nodes: Option<Vec<NodePages>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodePages {
    pub node: u16,
    /// Of the mapping's page size.
    pub pages: u64,
}

/// What is behind a mapping. Names are as the process sees them, made harmless and bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "backing", content = "name", rename_all = "snake_case")]
pub enum MemoryKind {
    /// The program break's heap: small allocations. Large ones of malloc, and other threads' arenas, are anonymous.
    Heap,
    /// Of the main thread; those of other threads are anonymous.
    Stack,
    Anonymous,
    /// Anonymous memory that the process gave a name, with prctl(2).
    Named(String),
    File(String),
    /// memfd, POSIX or System V shared memory, or shared anonymous memory.
    SharedMemory(String),
    Device(String),
    /// The kernel's own: vdso, vvar, vsyscall and what is no file at all.
    Kernel(String),
}

impl MemoryKind {
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Stack => "stack",
            Self::Anonymous | Self::Named(_) => "anonymous",
            Self::File(_) => "file",
            Self::SharedMemory(_) => "shared memory",
            Self::Device(_) => "device",
            Self::Kernel(_) => "kernel",
        }
    }

    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Heap | Self::Stack | Self::Anonymous => None,
            Self::Named(name)
            | Self::File(name)
            | Self::SharedMemory(name)
            | Self::Device(name)
            | Self::Kernel(name) => Some(name),
        }
    }
}

/// `heap, rw-p, 4 KiB pages, NUMA node 0`, or `not mapped`.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Mapped(mapped) = self else { return f.write_str("not mapped") };
        f.write_str(mapped.kind.word())?;
        if let Some(name) = mapped.kind.name() {
            write!(f, " {name}")?;
        }
        write!(f, ", {}", mapped.permissions)?;
        if let Some(bytes) = mapped.page_bytes {
            write!(f, ", {} KiB pages", bytes >> 10)?;
        }
        if mapped.transparent_huge == Some(true) {
            f.write_str(", transparent huge pages in use")?;
        }
        match mapped.node {
            Some(node) => write!(f, ", NUMA node {node}"),
            None => Ok(()),
        }
    }
}

/// `rwxp` or `rwxs`, as /proc/PID/maps prints them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    pub read: bool,
    pub write: bool,
    pub execute: bool,
    pub shared: bool,
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bit = |set, letter| if set { letter } else { '-' };
        let text = [
            bit(self.read, 'r'),
            bit(self.write, 'w'),
            bit(self.execute, 'x'),
            if self.shared { 's' } else { 'p' },
        ];
        f.pad(&text.iter().collect::<String>())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("permissions {0:?} are not as in /proc/PID/maps")]
pub struct NoPermissions(pub String);

impl FromStr for Permissions {
    type Err = NoPermissions;

    fn from_str(text: &str) -> Result<Self, NoPermissions> {
        match text.as_bytes() {
            [
                read @ (b'r' | b'-'),
                write @ (b'w' | b'-'),
                execute @ (b'x' | b'-'),
                shared @ (b's' | b'p'),
            ] => Ok(Self {
                read: *read == b'r',
                write: *write == b'w',
                execute: *execute == b'x',
                shared: *shared == b's',
            }),
            _ => Err(NoPermissions(text.into())),
        }
    }
}

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back() {
        let permissions = "rw-s".parse().unwrap();
        let mapped = Mapped {
            start: 0x7f00_0000_0000,
            end: 0x7f00_0020_0000,
            kind: MemoryKind::SharedMemory("/memfd:records (deleted)".into()),
            permissions,
            page_bytes: Some(4096),
            transparent_huge: Some(false),
            node: Some(1),
            nodes: Some(vec![NodePages { node: 1, pages: 512 }]),
        };
        let place = |memory| Place { at_ns: 1, tgid: 2, page: 0x7f00_0000_1000, memory };
        let heap = Mapped { kind: MemoryKind::Heap, node: None, nodes: None, ..mapped.clone() };
        for memory in [Memory::Mapped(mapped), Memory::Mapped(heap), Memory::Unmapped] {
            let place = place(memory);
            let text = serde_json::to_string(&place).unwrap();
            assert_eq!(serde_json::from_str::<Place>(&text).unwrap(), place, "{text}");
        }
    }

    #[test]
    fn permissions_are_four_letters() {
        for text in ["rwxs", "r-xp", "---p"] {
            assert_eq!(text.parse::<Permissions>().unwrap().to_string(), text);
        }
        for bad in ["", "----", "rwx", "rwxpp", "wr-p", "rwxé"] {
            assert!(bad.parse::<Permissions>().is_err(), "{bad}");
        }
    }
}

//! Which files and WQs a submitter uses: what `--submitter` names ([`Target`]), the files a process runs ([`executables`]), the
//! processes that have a WQ open ([`submitters`]) and the WQ behind a portal address ([`Portals`]).
//!
//! What /proc prints is parsed by pure functions; a name in it is a process's own view and not followed. Files are reached through
//! /proc/PID/map_files, which leads to the mapped file itself: also in a container, also after it was deleted or replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dsascope_core::event::DeviceId;
use dsascope_core::submission::Permissions;
use thiserror::Error;

use crate::ProbeError;
use crate::host::{OpenFile, Process};

/// What to trace submissions of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A program or library, in whatever process.
    File(PathBuf),
    /// The files that a process runs.
    Process(u32),
    /// Each process that has a WQ open.
    Auto,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    #[error("a submitter is a path, a process id or auto")]
    Empty,
    #[error("{0} is no process id; a file of that name is ./{0}")]
    NoProcessId(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text {
            "" => Err(TargetError::Empty),
            "auto" => Ok(Self::Auto),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => match digits.parse::<i32>() {
                Ok(pid) if pid > 0 => Ok(Self::Process(pid.unsigned_abs())),
                _ => Err(TargetError::NoProcessId(digits.to_owned())),
            },
            path => Ok(Self::File(path.into())),
        }
    }
}

/// A line of /proc/PID/maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub start: u64,
    pub end: u64,
    pub permissions: Permissions,
    pub offset: u64,
    /// Major and minor number of the file system, and the inode there; 0 without a file.
    pub device: (u32, u32),
    pub inode: u64,
    /// As the process sees it; empty without a file, and not always a path ("\[heap]").
    pub name: PathBuf,
}

/// What /proc/PID/maps says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// By address.
    pub mappings: Vec<Mapping>,
    /// Lines that are not as the kernel prints them.
    pub malformed: usize,
}

impl Maps {
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut maps = Self::default();
        for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            match mapping(line) {
                Some(mapping) => maps.mappings.push(mapping),
                None => maps.malformed += 1,
            }
        }
        maps.mappings.sort_by_key(|m| m.start);
        maps
    }

    pub fn read(pid: u32) -> Result<Self, ProbeError> {
        let path = format!("/proc/{pid}/maps");
        let text = fs::read(&path).map_err(|e| ProbeError::system(format!("reading {path}"), e))?;
        Ok(Self::parse(&text))
    }

    /// Where in its file the byte at `address` is; `None`: it is in none.
    #[must_use]
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        let mapping = self.mappings.iter().find(|m| m.inode != 0 && (m.start..m.end).contains(&address))?;
        mapping.offset.checked_add(address - mapping.start)
    }

    /// One mapping for each file that is mapped executable, in order of address.
    pub fn executable_files(&self) -> impl Iterator<Item = &Mapping> {
        let mut seen = BTreeSet::new();
        let files =
            self.mappings.iter().filter(|m| m.permissions.execute && m.inode != 0 && m.name.has_root());
        files.filter(move |m| seen.insert((m.device, m.inode)))
    }
}

/// `start-end rwxp offset major:minor inode   name`; all but the inode in hexadecimal.
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let mut word = || {
        let end = rest.iter().position(|b| *b == b' ').unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        std::str::from_utf8(word).ok().filter(|word| !word.is_empty())
    };
    let (range, permissions, offset, device, inode) = (word()?, word()?, word()?, word()?, word()?);
    let (start, end) = range.split_once('-')?;
    let (start, end) = (hex(start)?, hex(end)?);
    let (major, minor) = device.split_once(':')?;
    let device = (u32::try_from(hex(major)?).ok()?, u32::try_from(hex(minor)?).ok()?);
    let permissions = permissions.parse().ok()?;
    let inode = inode.bytes().all(|b| b.is_ascii_digit()).then(|| inode.parse().ok())??;
    let padding = rest.iter().take_while(|b| **b == b' ').count();
    let name = OsString::from_vec(unescaped(&rest[padding..])).into();
    (start < end).then_some(Mapping { start, end, permissions, offset: hex(offset)?, device, inode, name })
}

/// Digits alone: the number parsers also take a sign.
pub(crate) fn hex(digits: &str) -> Option<u64> {
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// A line feed is the only byte that the kernel escapes.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, after @ ..] = rest {
        let line_feed = rest.strip_prefix(b"\\012");
        plain.push(if line_feed.is_some() { b'\n' } else { *first });
        rest = line_feed.unwrap_or(after);
    }
    plain
}

/// What the kernel appends to the name of a file that no longer has one.
const DELETED: &[u8] = b" (deleted)";

/// A file that a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// As the process sees it.
    pub name: PathBuf,
    /// It has been deleted or replaced since it was mapped.
    pub deleted: bool,
    /// Where this process can open it, as long as the other has it mapped.
    pub path: PathBuf,
    /// Device and inode: which file it is.
    pub file: (u64, u64),
}

/// The files of one or more processes.
#[derive(Debug, Default)]
pub struct Executables {
    pub files: Vec<Executable>,
    /// Those that cannot be reached, with what is in the way.
    pub missed: Vec<(PathBuf, io::Error)>,
    seen: BTreeSet<(u64, u64)>,
}

impl Executables {
    /// Adds the files that `pid` runs and nobody before.
    pub fn add(&mut self, pid: u32) -> Result<(), ProbeError> {
        let maps = Maps::read(pid)?;
        for mapping in maps.executable_files() {
            match reach(Path::new("/proc"), pid, mapping) {
                Ok(executable) if self.seen.insert(executable.file) => self.files.push(executable),
                Ok(_) => {}
                Err(error) => self.missed.push((mapping.name.clone(), error)),
            }
        }
        Ok(())
    }
}

/// The files that `pid` runs.
pub fn executables(pid: u32) -> Result<Executables, ProbeError> {
    let mut executables = Executables::default();
    executables.add(pid)?;
    Ok(executables)
}

/// Through map_files, or where those are refused, through the root directory of the process, if the same file is still there.
pub(crate) fn reach(proc: &Path, pid: u32, mapping: &Mapping) -> io::Result<Executable> {
    let own = proc.join(pid.to_string());
    let mapped = own.join(format!("map_files/{:x}-{:x}", mapping.start, mapping.end));
    let (path, meta) = match fs::metadata(&mapped) {
        Ok(meta) => (mapped, meta),
        Err(refused) => {
            let path = own.join("root").join(mapping.name.strip_prefix("/").unwrap_or(&mapping.name));
            let device = |meta: &fs::Metadata| (libc::major(meta.dev()), libc::minor(meta.dev()));
            let same =
                fs::metadata(&path).ok().filter(|m| m.ino() == mapping.inode && device(m) == mapping.device);
            (path, same.ok_or(refused)?)
        }
    };
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let bytes = mapping.name.as_os_str().as_bytes();
    let (name, deleted) = match bytes.strip_suffix(DELETED) {
        Some(name) if meta.nlink() == 0 => (name, true),
        _ => (bytes, false),
    };
    let name = OsString::from_vec(name.to_vec()).into();
    Ok(Executable { name, deleted, path, file: (meta.dev(), meta.ino()) })
}

/// The processes that have a WQ open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submitters {
    /// By process id.
    pub processes: Vec<Process>,
    /// Threads that opened a WQ and have ended, so that nothing tells their process.
    pub gone: Vec<u32>,
}

/// Of the open files that sysfs lists ([`crate::host::open_files`]). A child that inherited an open WQ is not among them.
#[must_use]
pub fn submitters(files: &[OpenFile], process_of: impl Fn(u32) -> Option<Process>) -> Submitters {
    let threads: BTreeSet<u32> = files.iter().map(|f| f.tid).collect();
    let (mut processes, mut gone) = (BTreeMap::new(), Vec::new());
    for tid in threads {
        match process_of(tid) {
            Some(process) => drop(processes.insert(process.tgid, process)),
            None => gone.push(tid),
        }
    }
    Submitters { processes: processes.into_values().collect(), gone }
}

/// Where a process has portals mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Portals {
    /// (start, end, device, WQ), by address.
    mapped: Vec<(u64, u64, DeviceId, u16)>,
}

impl Portals {
    pub fn read(pid: u32) -> Result<Self, ProbeError> {
        Ok(Self::of(&Maps::read(pid)?, |mapping| character_device(Path::new("/"), pid, mapping)))
    }

    /// `device` finds the WQ by what is mapped; if that cannot be told, it is the one that the name says.
    fn of(maps: &Maps, device: impl Fn(&Mapping) -> Option<(DeviceId, u16)>) -> Self {
        let files = maps.mappings.iter().filter(|m| m.inode != 0);
        let portal = |m: &Mapping| {
            let (id, wq) = device(m).or_else(|| wq_of_path(&m.name))?;
            Some((m.start, m.end, id, wq))
        };
        Self { mapped: files.filter_map(portal).collect() }
    }

    /// The WQ whose portal `address` is in.
    #[must_use]
    pub fn wq(&self, address: u64) -> Option<(DeviceId, u16)> {
        let before = self.mapped.partition_point(|(start, ..)| *start <= address).checked_sub(1)?;
        let (_, end, device, wq) = self.mapped[before];
        (address < end).then_some((device, wq))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mapped.is_empty()
    }
}

/// Of /dev/dsa/wqN.M and /dev/iax/wqN.M, as udev names them.
fn wq_of_path(path: &Path) -> Option<(DeviceId, u16)> {
    let (type_, wq) = path.to_str()?.strip_prefix("/dev/")?.split_once('/')?;
    wq_of(type_, wq)
}

/// The driver's name of a character device, `dsa!wqN.M`, is the end of what /sys/dev/char/MAJOR:MINOR points to.
fn wq_of_link(link: &Path) -> Option<(DeviceId, u16)> {
    let (type_, wq) = link.file_name()?.to_str()?.split_once('!')?;
    wq_of(type_, wq)
}

fn wq_of(type_: &str, name: &str) -> Option<(DeviceId, u16)> {
    let (id, wq) = crate::host::wq_numbers(name)?;
    let device = format!("{type_}{id}").parse().ok()?;
    // No other spelling of the numbers.
    (name == format!("wq{id}.{wq}")).then_some((device, wq))
}

/// By the device number of what is mapped, since a container may have the device node under any name. `root` is / or a copy of it.
fn character_device(root: &Path, pid: u32, mapping: &Mapping) -> Option<(DeviceId, u16)> {
    let path = format!("proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    let meta = fs::metadata(root.join(path)).ok().filter(|m| m.file_type().is_char_device())?;
    let number = format!("sys/dev/char/{}:{}", libc::major(meta.rdev()), libc::minor(meta.rdev()));
    wq_of_link(&fs::read_link(root.join(number)).ok()?)
}

#[cfg(test)]
mod tests {
    use dsascope_core::event::DeviceId;
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"\
00400000-00452000 r-xp 00000000 08:02 173521                             /usr/bin/a program
00651000-00652000 r--p 00051000 08:02 173521                             /usr/bin/a program
00e03000-00e24000 rw-p 00000000 00:00 0                                  [heap]
7f0000000000-7f0000001000 -w-s 00000000 00:05 532                        /dev/dsa/wq0.3
7f0000002000-7f0000003000 -w-s 00003000 00:05 533                        /dev/container/queue
7f1100000000-7f1100001000 r-xp 00000000 103:02 9                         /tmp/\xff\\012x (deleted)
7f1100001000-7f1100002000 r-xp 00001000 103:02 9                         /tmp/\xff\\012x (deleted)
7f1100003000-7f1100004000 r-xp 00000000 00:00 0\x20
7ffd6f5a1000-7ffd6f5a3000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    fn dsa(name: &str) -> DeviceId {
        name.parse().unwrap()
    }

    #[test]
    fn a_target_is_a_path_a_process_or_all_that_have_a_queue() {
        assert_eq!("auto".parse(), Ok(Target::Auto));
        assert_eq!("4711".parse(), Ok(Target::Process(4711)));
        assert_eq!("./4711".parse(), Ok(Target::File("./4711".into())));
        assert_eq!("/usr/bin/dsa_test".parse(), Ok(Target::File("/usr/bin/dsa_test".into())));
        assert_eq!("".parse::<Target>(), Err(TargetError::Empty));
        for no_process in ["0", "4294967295", "99999999999999999999"] {
            assert_eq!(no_process.parse::<Target>(), Err(TargetError::NoProcessId(no_process.into())));
        }
    }

    #[test]
    fn maps_are_read_as_the_kernel_prints_them() {
        let maps = Maps::parse(TEXT);
        assert_eq!((maps.mappings.len(), maps.malformed), (10, 0));
        assert_eq!(
            maps.mappings[1],
            Mapping {
                start: 0x65_1000,
                end: 0x65_2000,
                permissions: Permissions { read: true, ..Permissions::default() },
                offset: 0x5_1000,
                device: (8, 2),
                inode: 173_521,
                name: "/usr/bin/a program".into(),
            }
        );
        let odd = &maps.mappings[5];
        assert_eq!(odd.device, (0x103, 2));
        assert_eq!(odd.name.as_os_str().as_bytes(), b"/tmp/\xff\nx (deleted)");
        assert_eq!(maps.mappings[7].name, Path::new(""));
        let files: Vec<u64> = maps.executable_files().map(|m| m.start).collect();
        assert_eq!(files, [0x40_0000, 0x7f11_0000_0000], "each file once, and nothing that is none");
    }

    #[test]
    fn lines_that_are_not_the_kernels_are_counted() {
        for line in [
            "x",
            "1000-2000",
            "1000-2000 r-xp 0 08:02",
            "2000-1000 r-xp 0 08:02 1 /a",
            "1000-1000 r-xp 0 08:02 1 /a",
            "1000-2000 r-xq 0 08:02 1 /a",
            "1000-2000 rwx 0 08:02 1 /a",
            "+1000-2000 r-xp 0 08:02 1 /a",
            "1000-2000 r-xp 0 0802 1 /a",
            "1000-2000 r-xp 0 08:02 -1 /a",
            "1000-2000 r-xp 0 08:02 +1 /a",
            "1000-2000 r-xp 0 108:100000000 1 /a",
            "1000-20000000000000000 r-xp 0 08:02 1 /a",
            "1000-2000  r-xp 0 08:02 1 /a",
        ] {
            let maps = Maps::parse(format!("{line}\n3000-4000 r-xp 0 08:02 7 /b\n").as_bytes());
            assert_eq!((maps.mappings.len(), maps.malformed), (1, 1), "{line}");
        }
        // The line is cut in the middle of its name: that is not to be told.
        assert_eq!(Maps::parse(b"1000-2000 r-xp 0 08:02 1").mappings.len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_are_lines_or_counted(text in prop::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'\n'), Just(b'-'), Just(b'0')], 0..200)) {
            let maps = Maps::parse(&text);
            let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
            prop_assert_eq!(maps.mappings.len() + maps.malformed, lines);
        }

        #[test]
        fn a_changed_line_never_panics(at in 0..TEXT.len(), byte in any::<u8>()) {
            let mut text = TEXT.to_vec();
            text[at] = byte;
            let maps = Maps::parse(&text);
            prop_assert!(maps.mappings.iter().all(|m| m.start < m.end));
            let _ = Portals::of(&maps, |_| None).wq(0x7f00_0000_0000);
        }
    }

    #[test]
    fn a_portal_is_known_by_its_device_and_else_by_its_name() {
        let maps = Maps::parse(TEXT);
        let by_name = Portals::of(&maps, |_| None);
        assert_eq!(by_name.wq(0x7f00_0000_0000), Some((dsa("dsa0"), 3)));
        assert_eq!(by_name.wq(0x7f00_0000_0fc0), Some((dsa("dsa0"), 3)));
        assert_eq!(by_name.wq(0x7f00_0000_1000), None, "behind it");
        assert_eq!(by_name.wq(0x7f00_0000_2000), None, "a name that says nothing");
        assert_eq!(by_name.wq(0), None);
        let by_device =
            Portals::of(&maps, |m| (m.inode >= 532).then(|| (dsa("iax1"), 7)).filter(|_| m.inode < 534));
        assert_eq!(by_device.wq(0x7f00_0000_0000), Some((dsa("iax1"), 7)), "a container may call it wq0.3");
        assert_eq!(by_device.wq(0x7f00_0000_2008), Some((dsa("iax1"), 7)));
        assert!(Portals::default().is_empty());
    }

    #[test]
    fn a_queue_has_one_spelling() {
        assert_eq!(wq_of_path(Path::new("/dev/dsa/wq0.3")), Some((dsa("dsa0"), 3)));
        assert_eq!(wq_of_path(Path::new("/dev/iax/wq12.0")), Some((dsa("iax12"), 0)));
        for other in [
            "/dev/dsa/wq0.3 (deleted)",
            "/dev/dsa/wq+0.3",
            "/dev/dsa/wq00.3",
            "/dev/dax/wq0.3",
            "/tmp/dev/dsa/wq0.3",
            "wq0.3",
        ] {
            assert_eq!(wq_of_path(Path::new(other)), None, "{other}");
        }
        let link = "../../devices/pci0000:6a/0000:6a:01.0/dsa0/wq0.3/dsa!wq0.3";
        assert_eq!(wq_of_link(Path::new(link)), Some((dsa("dsa0"), 3)));
        assert_eq!(wq_of_link(Path::new("../../devices/virtual/mem/null")), None);
    }

    #[test]
    fn a_process_is_named_once_however_many_queues_it_has() {
        let file =
            |tid, file| OpenFile { device: 0, wq: 0, file, tid, cr_faults: None, cr_fault_failures: None };
        let process = |tgid| Process { tgid, comm: "load".into(), cgroup: None };
        let found = submitters(&[file(12, 0), file(11, 1), file(12, 2), file(30, 3)], |tid| {
            (tid < 20).then(|| process(10))
        });
        assert_eq!(found, Submitters { processes: vec![process(10)], gone: vec![30] });
    }

    /// A copy of /proc with one process.
    fn proc(path: &str, contents: &[u8]) -> tempfile::TempDir {
        let proc = tempfile::tempdir().unwrap();
        let path = proc.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
        proc
    }

    #[test]
    fn a_file_is_reached_through_its_mapping_or_as_the_process_names_it() {
        let mapped = &Maps::parse(TEXT).mappings[0];
        let with_map_files = proc("7/map_files/400000-452000", b"x");
        let reached = reach(with_map_files.path(), 7, mapped).unwrap();
        assert_eq!(reached.path, with_map_files.path().join("7/map_files/400000-452000"));
        assert_eq!((reached.name, reached.deleted), ("/usr/bin/a program".into(), false));

        let with_root = proc("7/root/usr/bin/a program", b"x");
        let error = reach(with_root.path(), 7, mapped).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "another inode has the name");
        let path = with_root.path().join("7/root/usr/bin/a program");
        let meta = fs::metadata(&path).unwrap();
        let device = (libc::major(meta.dev()), libc::minor(meta.dev()));
        let same = Mapping { device, inode: meta.ino(), ..mapped.clone() };
        let reached = reach(with_root.path(), 7, &same).unwrap();
        assert_eq!((reached.path, reached.file), (path, (meta.dev(), meta.ino())));
    }

    #[test]
    fn this_very_process_runs_this_very_file() {
        let found = executables(std::process::id()).unwrap();
        let own = fs::metadata(std::env::current_exe().unwrap()).unwrap();
        let this = found.files.iter().find(|f| f.file == (own.dev(), own.ino())).unwrap();
        assert!(!this.deleted);
        assert_eq!(fs::read(&this.path).unwrap()[..4], *b"\x7fELF");
        let mut files: Vec<_> = found.files.iter().map(|f| f.file).collect();
        files.sort_unstable();
        files.dedup();
        assert_eq!(files.len(), found.files.len(), "each once");
        let mut twice = executables(std::process::id()).unwrap();
        twice.add(std::process::id()).unwrap();
        assert_eq!(twice.files.len(), found.files.len());
        assert!(Portals::read(std::process::id()).unwrap().is_empty());
    }

    #[test]
    fn a_deleted_file_is_reached_or_missed_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("sleep");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program).arg("60").spawn().unwrap();
        fs::remove_file(&program).unwrap();
        // A new process exists before its program is mapped.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let (reached, missed) = loop {
            let found = executables(child.id()).unwrap();
            let reached = found
                .files
                .iter()
                .find(|f| f.name == program)
                .map(|f| (f.deleted, fs::read(&f.path).unwrap()));
            let missed = found
                .missed
                .iter()
                .any(|(name, _)| name.as_os_str().as_bytes().ends_with(b"/sleep (deleted)"));
            if reached.is_some() || missed || std::time::Instant::now() > deadline {
                break (reached, missed);
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        match reached {
            Some(reached) => assert_eq!(reached, (true, fs::read("/bin/sleep").unwrap())),
            // Only root may follow map_files, and nothing else leads to it any more.
            None => assert!(missed),
        }
    }

    #[test]
    fn a_process_that_is_gone_is_named() {
        let error = executables(u32::MAX / 2).unwrap_err().to_string();
        assert!(error.contains("/proc/2147483647/maps"), "{error}");
    }
}

//! Places and stacks of real processes: this one, which knows what it has mapped and where its functions are, and its children.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::c_void;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write as _;
use std::os::fd::FromRawFd as _;
use std::process::{Child, Command, Stdio};

use dsascope_core::submission::{Frame, Mapped, Memory, MemoryKind, Permissions};
use dsascope_probe::places::Places;
use dsascope_probe::stacks::Symbolizer;

const SECOND_NS: u64 = 1_000_000_000;
const HUGE: usize = 2 << 20;

/// Memory of this process, unmapped at the end.
struct Region {
    start: *mut u8,
    bytes: usize,
}

impl Region {
    fn new(bytes: usize, protection: i32, flags: i32, file: Option<&File>) -> std::io::Result<Self> {
        let fd = file.map_or(-1, std::os::fd::AsRawFd::as_raw_fd);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, fd, 0) };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), bytes })
    }

    fn anonymous(bytes: usize) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Self::new(bytes, libc::PROT_READ | libc::PROT_WRITE, flags, None).unwrap()
    }

    fn address(&self) -> u64 {
        self.start as u64
    }

    fn touch(&self) {
        for at in (0..self.bytes).step_by(4096) {
            // SAFETY: within the mapping, which callers made writable.
            unsafe { self.start.add(at).write_volatile(1) };
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which no reference was made.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

fn own() -> u32 {
    std::process::id()
}

fn memfd() -> File {
    // SAFETY: a live string; the descriptor is new and ours.
    unsafe { File::from_raw_fd(libc::memfd_create(c"records".as_ptr(), libc::MFD_CLOEXEC)) }
}

#[track_caller]
fn mapped(address: u64) -> Mapped {
    let mut places = Places::new();
    match places.of(SECOND_NS, own(), address).map(|place| place.memory.clone()) {
        Some(Memory::Mapped(mapped)) => {
            assert!((mapped.start..mapped.end).contains(&address));
            mapped
        }
        other => panic!("{address:#x}: {other:?}"),
    }
}

fn permissions(text: &str) -> Permissions {
    text.parse().unwrap()
}

/// The machine has NUMA nodes that it tells of, as nearly every one has: then the tests below ask for them.
fn has_nodes() -> bool {
    fs::exists("/proc/self/numa_maps").unwrap()
}

#[test]
fn heap_and_stack_are_told_from_anonymous_memory() {
    // SAFETY: asks where the break is, and moves nothing.
    let end = unsafe { libc::sbrk(0) } as u64;
    assert_eq!(mapped(end - 1).kind, MemoryKind::Heap);

    unsafe extern "C" {
        static environ: *const *const i8;
    }
    // The kernel puts the environment at the start of the main thread's stack.
    // SAFETY: set by the C library before main; nothing here changes the environment.
    let variable = unsafe { *environ } as u64;
    assert_eq!(mapped(variable).kind, MemoryKind::Stack);

    // A test has a thread of its own.
    let local = black_box(0u64);
    let place = mapped(std::ptr::from_ref(&local) as u64);
    assert_eq!((place.kind, place.permissions), (MemoryKind::Anonymous, permissions("rw-p")));
    assert_eq!((place.page_bytes, place.transparent_huge), (Some(4096), Some(false)));
}

#[test]
fn files_and_shared_memory_have_names() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[0; 4096]).unwrap();
    let region = Region::new(4096, libc::PROT_READ, libc::MAP_PRIVATE, Some(file.as_file())).unwrap();
    let place = mapped(region.address());
    assert_eq!(place.kind, MemoryKind::File(file.path().to_str().unwrap().into()));
    assert_eq!(place.permissions, permissions("r--p"));

    let shared = memfd();
    shared.set_len(8192).unwrap();
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let region = Region::new(8192, both, libc::MAP_SHARED, Some(&shared)).unwrap();
    let place = mapped(region.address() + 4096);
    assert_eq!(place.kind, MemoryKind::SharedMemory("/memfd:records (deleted)".into()));
    assert_eq!(place.permissions, permissions("rw-s"));

    let region = Region::new(4096, both, libc::MAP_SHARED | libc::MAP_ANONYMOUS, None).unwrap();
    assert_eq!(mapped(region.address()).kind, MemoryKind::SharedMemory("/dev/zero (deleted)".into()));
}

#[test]
fn a_page_has_a_node_once_it_is_there() {
    let region = Region::anonymous(3 * 4096);
    let before = mapped(region.address() + 4096);
    assert_eq!(before.node, None, "absent");
    assert_eq!(before.nodes.is_some(), has_nodes());
    region.touch();
    let after = mapped(region.address() + 4096);
    if has_nodes() {
        let node = after.node.unwrap();
        let nodes = after.nodes.unwrap();
        // The kernel may have joined the region to its neighbours.
        assert!(nodes.iter().any(|n| n.node == node && n.pages >= 1), "{node} {nodes:?}");
    }
}

#[test]
fn transparent_huge_pages_are_as_the_kernel_says() {
    let region = Region::anonymous(4 * HUGE);
    // SAFETY: our own mapping; only how it is backed changes.
    unsafe { libc::madvise(region.start.cast::<c_void>(), region.bytes, libc::MADV_HUGEPAGE) };
    region.touch();
    let place = mapped(region.address());
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let (_, of_region) = smaps.split_once(&format!("{:x}-{:x} ", place.start, place.end)).unwrap();
    let line = of_region.lines().find(|l| l.starts_with("AnonHugePages:")).unwrap();
    assert_eq!(place.transparent_huge, Some(!line.ends_with(" 0 kB")), "{line}");
    println!("transparent huge pages: {line}");
}

#[test]
fn pages_of_hugetlbfs_have_their_size() {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
    match Region::new(HUGE, libc::PROT_READ | libc::PROT_WRITE, flags, None) {
        Ok(region) => {
            let place = mapped(region.address());
            assert_eq!((place.kind, place.page_bytes), (MemoryKind::Anonymous, Some(HUGE as u64)));
        }
        // The text of such a mapping is tested in any case.
        Err(error) => {
            let reserved = fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap();
            assert_eq!(reserved.trim(), "0", "{error}");
            println!("hugetlbfs not tried: this machine has reserved no pages");
        }
    }
}

#[test]
fn unmapped_is_an_answer_and_gone_is_none() {
    let region = Region::anonymous(4096);
    let address = region.address();
    let mut places = Places::new();
    assert!(matches!(places.of(0, own(), address).unwrap().memory, Memory::Mapped(_)));
    drop(region);
    // Page zero is never mapped. What was mapped is remembered for a second, and no longer.
    assert_eq!(places.of(1, own(), 8), None);
    assert_eq!(places.not_told(), 1);
    let place = places.of(SECOND_NS, own(), 8).unwrap().clone();
    assert_eq!((place.at_ns, place.tgid, place.page), (SECOND_NS, own(), 0));
    assert_eq!(place.memory, Memory::Unmapped);
    assert_eq!(places.of(SECOND_NS + 1, own(), 16), Some(&place), "the same page");

    let mut child = child();
    let address = address_of_libc(child.id());
    assert!(places.of(SECOND_NS, child.id(), address).is_some());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(places.of(2 * SECOND_NS, child.id(), address), None);
    assert_eq!(places.not_told(), 1, "gone is not a question too many");
}

/// A process that waits for its input.
fn child() -> Child {
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It runs by the time it answers.
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    child
}

/// Where a process's C library starts.
fn address_of_libc(pid: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|l| l.contains("/libc.so.6")).unwrap();
    u64::from_str_radix(line.split_once('-').unwrap().0, 16).unwrap()
}

#[inline(never)]
fn inner_of_the_stack() -> Vec<u64> {
    let mut addresses = [std::ptr::null_mut(); 64];
    // SAFETY: writes at most so many addresses there.
    let depth = unsafe { libc::backtrace(addresses.as_mut_ptr(), 64) };
    let returns = addresses[..depth as usize].iter().map(|a| *a as u64);
    // All of them are those that calls return to; a stack of the kernel starts with an instruction.
    std::iter::once(inner_of_the_stack as *const () as u64).chain(returns).collect()
}

#[inline(never)]
fn outer_of_the_stack() -> Vec<u64> {
    black_box(inner_of_the_stack())
}

#[test]
fn a_stack_of_this_process_has_its_functions() {
    let addresses = outer_of_the_stack();
    let frames = Symbolizer::new().frames(SECOND_NS, own(), &addresses);
    let exe = std::env::current_exe().unwrap();
    let module = exe.file_name().unwrap().to_str();
    for (frame, name) in
        frames.iter().zip(["inner", "inner", "outer", "a_stack_of_this_process_has_its_functions"])
    {
        let symbol = frame.symbol.as_deref().unwrap();
        assert!(symbol.starts_with("own::") && symbol.contains(name), "{name}: {frame}");
        assert_eq!(frame.module.as_deref(), module);
    }
    assert_eq!(frames[0].offset, 0);
    assert!(frames[1].offset > 0);
    let apart = |f: fn(&Frame) -> u64| f(&frames[1]) - f(&frames[0]);
    assert_eq!(apart(|f| f.module_offset.unwrap()), apart(|f| f.address));
    assert_eq!(frames.iter().map(|f| f.address).collect::<Vec<_>>(), addresses);
}

#[test]
fn another_process_is_symbolised_until_it_has_gone() {
    let mut child = child();
    let address = libc::qsort as *const () as u64 - address_of_libc(own()) + address_of_libc(child.id());
    let mut symbolizer = Symbolizer::new();
    let frames = symbolizer.frames(SECOND_NS, child.id(), &[address, address + 5, 8]);
    for (frame, offset) in frames.iter().zip([0, 5]) {
        assert!(frame.symbol.as_deref().unwrap().contains("qsort"), "{frame}");
        assert_eq!((frame.module.as_deref(), frame.offset), (Some("libc.so.6"), offset));
    }
    let unknown = |address| Frame { address, ..Frame::default() };
    assert_eq!(frames[2], unknown(8));
    child.kill().unwrap();
    child.wait().unwrap();
    // What was known of it just now is still known, and then no longer.
    assert_eq!(symbolizer.frames(SECOND_NS + 1, child.id(), &[address]), frames[..1]);
    assert_eq!(symbolizer.frames(2 * SECOND_NS, child.id(), &[address]), [unknown(address)]);
}

#[test]
fn a_file_that_is_no_program_or_was_cut_short_has_no_symbols() {
    let execute = libc::PROT_READ | libc::PROT_EXEC;
    let mut text = memfd();
    text.write_all(&[b'x'; 8192]).unwrap();
    let text_region = Region::new(8192, execute, libc::MAP_PRIVATE, Some(&text)).unwrap();

    let mut copy = tempfile::NamedTempFile::new().unwrap();
    copy.write_all(&fs::read("/proc/self/exe").unwrap()).unwrap();
    let cut_region = Region::new(8192, execute, libc::MAP_PRIVATE, Some(copy.as_file())).unwrap();
    copy.as_file().set_len(10).unwrap();

    let nobodys = Region::new(4096, execute, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None).unwrap();
    let addresses = [text_region.address() + 16, cut_region.address() + 16, nobodys.address() + 16];
    let frames = Symbolizer::new().frames(SECOND_NS, own(), &addresses);
    let name = copy.path().file_name().unwrap().to_str();
    for (frame, module) in frames.iter().zip([Some("memfd:records"), name, None]) {
        assert_eq!((frame.symbol.as_deref(), frame.module.as_deref()), (None, module));
        assert_eq!(frame.module_offset, module.map(|_| 16));
    }
}

//! bpf(2) and perf_event_open(2): the calls that aya does not make for a module's functions. And two that tell of or make memory.
//!
//! Owns: every unsafe call of this crate, and the file descriptors that come back. Refuses: policy.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use aya_obj::generated::{bpf_func_info, bpf_prog_info};

use crate::object::Code;

const MAP_UPDATE_ELEM: i32 = 2;
const PROG_LOAD: i32 = 5;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const PROG_TEST_RUN: i32 = 10;
const RAW_TRACEPOINT_OPEN: i32 = 17;
const BTF_LOAD: i32 = 18;
const BTF_GET_FD_BY_ID: i32 = 19;
const MAP_FREEZE: i32 = 22;
const BTF_GET_NEXT_ID: i32 = 23;
const LINK_CREATE: i32 = 28;
const ITER_CREATE: i32 = 33;

/// Program types and expected attach types of the kernel's uapi.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramType {
    Kprobe,
    Tracepoint,
    BtfTracepoint,
    Fentry,
    Fexit,
    Iter,
    /// Runs when it is told to, and may look symbols up.
    Syscall,
}

impl ProgramType {
    const fn codes(self) -> (u32, u32) {
        match self {
            Self::Kprobe => (2, 0),
            Self::Tracepoint => (5, 0),
            Self::BtfTracepoint => (26, 23),
            Self::Fentry => (26, 24),
            Self::Fexit => (26, 25),
            Self::Iter => (26, 28),
            Self::Syscall => (31, 0),
        }
    }
}

/// Issues one bpf(2) command; the result is its return value.
fn bpf<T>(command: i32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is the command's argument block, zero-initialised beyond what it sets, and lives through the call; the
    // pointers in it are to live memory, as each caller below shows.
    let r = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if r < 0 { Err(io::Error::last_os_error()) } else { Ok(r) }
}

fn owned(fd: i64) -> OwnedFd {
    // SAFETY: the kernel just returned this descriptor to us alone.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_btf_obj_fd: u32,
    core_relo_cnt: u32,
}

/// Loads a program. `target`: BTF id of what a tracing program attaches to, and the BTF object it is in (`None`: vmlinux).
/// On refusal by the verifier the error's text ends with its last words.
pub(crate) fn load_program(
    name: &str,
    kind: ProgramType,
    code: Code<'_>,
    target: Option<(u32, Option<BorrowedFd<'_>>)>,
) -> io::Result<OwnedFd> {
    let (prog_type, expected_attach_type) = kind.codes();
    let mut attr = ProgLoad {
        prog_type,
        expected_attach_type,
        insns: code.instructions.as_ptr() as u64,
        insn_cnt: code.instructions.len() as u32,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    if kind == ProgramType::Syscall {
        const BPF_F_SLEEPABLE: u32 = 1 << 4;
        attr.prog_flags = BPF_F_SLEEPABLE;
    }
    for (to, from) in attr.prog_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    if let Some((btf, functions)) = code.functions {
        attr.prog_btf_fd = btf.as_raw_fd() as u32;
        attr.func_info_rec_size = size_of::<bpf_func_info>() as u32;
        attr.func_info = functions.as_ptr() as u64;
        attr.func_info_cnt = functions.len() as u32;
    }
    if let Some((id, object)) = target {
        attr.attach_btf_id = id;
        attr.attach_btf_obj_fd = object.map_or(0, |fd| fd.as_raw_fd() as u32);
    }
    match bpf(PROG_LOAD, &mut attr) {
        Ok(fd) => Ok(owned(fd)),
        // Only a refusal is worth the log's memory: ask again, for the reason.
        Err(first) if matches!(first.raw_os_error(), Some(libc::EINVAL | libc::EACCES | libc::E2BIG)) => {
            let mut log = vec![0u8; 1 << 20];
            attr.log_level = 1;
            attr.log_buf = log.as_mut_ptr() as u64;
            attr.log_size = log.len() as u32;
            match bpf(PROG_LOAD, &mut attr) {
                Ok(fd) => Ok(owned(fd)),
                Err(_) => {
                    let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
                    let text = String::from_utf8_lossy(&log[..end]);
                    if std::env::var_os("DSASCOPE_VERIFIER_LOG").is_some() {
                        eprintln!("{text}");
                    }
                    let words: Vec<&str> = text.lines().filter(|l| !l.starts_with("processed")).collect();
                    let last = words[words.len().saturating_sub(2)..].join(" / ");
                    Err(io::Error::new(first.kind(), format!("{first}: {last}")))
                }
            }
        }
        Err(e) => Err(e),
    }
}

/// Gives the kernel the object's own BTF.
pub(crate) fn load_btf(bytes: &[u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        btf: u64,
        log_buf: u64,
        size: u32,
        log_size: u32,
        log_level: u32,
    }
    let mut attr = Attr { btf: bytes.as_ptr() as u64, size: bytes.len() as u32, ..Attr::default() };
    bpf(BTF_LOAD, &mut attr).map(owned)
}

/// Attaches a tracing program (fentry, fexit, BTF tracepoint) to what it was loaded for.
pub(crate) fn attach_tracing(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        name: u64,
        prog_fd: u32,
        pad: u32,
        cookie: u64,
    }
    let mut attr = Attr { prog_fd: program.as_raw_fd() as u32, ..Attr::default() };
    bpf(RAW_TRACEPOINT_OPEN, &mut attr).map(owned)
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    extra: [u64; 6],
}

/// An attached perf event with the link that runs our program on it.
#[derive(Debug)]
pub(crate) struct PerfLink {
    _event: OwnedFd,
    pub(crate) link: OwnedFd,
}

/// linux/perf_event.h.
const PERF_FLAG_FD_CLOEXEC: u64 = 1 << 3;

/// `cookie`: what the program gets from `bpf_get_attach_cookie`. `only`: in this process alone.
fn attach_perf(
    program: BorrowedFd<'_>,
    attr: &mut PerfEventAttr,
    cookie: u64,
    only: Option<u32>,
) -> io::Result<PerfLink> {
    attr.size = size_of::<PerfEventAttr>() as u32;
    // One event on one CPU is enough: the program is attached to the probe itself and runs on every CPU.
    let (pid, cpu) = only.map_or((-1, 0), |pid| (libc::pid_t::try_from(pid).unwrap_or(libc::pid_t::MAX), -1));
    // SAFETY: `attr` is a live perf_event_attr of the size it states; its pointers are to live memory (see the callers).
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, std::ptr::from_mut(attr), pid, cpu, -1, PERF_FLAG_FD_CLOEXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let event = owned(fd);
    const BPF_PERF_EVENT: u32 = 41;
    let mut link = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target_fd: event.as_raw_fd() as u32,
        attach_type: BPF_PERF_EVENT,
        extra: [cookie, 0, 0, 0, 0, 0],
        ..LinkCreate::default()
    };
    let link = bpf(LINK_CREATE, &mut link).map(owned)?;
    Ok(PerfLink { _event: event, link })
}

/// The head of perf_event_attr (PERF_ATTR_SIZE_VER1), which the kernel extends with zeros.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    /// A kprobe's function name; a uprobe's file.
    config1: u64,
    /// A uprobe's place in the file.
    config2: u64,
}

/// `event_type`: `/sys/bus/event_source/devices/kprobe/type`.
pub(crate) fn attach_kprobe(
    program: BorrowedFd<'_>,
    event_type: u32,
    function: &CStr,
    on_return: bool,
) -> io::Result<PerfLink> {
    let mut attr = PerfEventAttr {
        kind: event_type,
        config: u64::from(on_return),
        config1: function.as_ptr() as u64,
        ..PerfEventAttr::default()
    };
    attach_perf(program, &mut attr, 0, None)
}

/// Where a uprobe is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uprobe<'a> {
    /// `/sys/bus/event_source/devices/uprobe/type`.
    pub(crate) event_type: u32,
    pub(crate) path: &'a CStr,
    pub(crate) offset: u64,
    pub(crate) cookie: u64,
    /// In this process alone.
    pub(crate) only: Option<u32>,
}

pub(crate) fn attach_uprobe(program: BorrowedFd<'_>, at: &Uprobe<'_>) -> io::Result<PerfLink> {
    let mut attr = PerfEventAttr {
        kind: at.event_type,
        config1: at.path.as_ptr() as u64,
        config2: at.offset,
        ..PerfEventAttr::default()
    };
    attach_perf(program, &mut attr, at.cookie, at.only)
}

/// `id`: the event's `id` file in tracefs.
pub(crate) fn attach_tracepoint(program: BorrowedFd<'_>, id: u64) -> io::Result<PerfLink> {
    const PERF_TYPE_TRACEPOINT: u32 = 2;
    let mut attr = PerfEventAttr { kind: PERF_TYPE_TRACEPOINT, config: id, ..PerfEventAttr::default() };
    attach_perf(program, &mut attr, 0, None)
}

/// Runs an iterator program once: a file whose content is what the program wrote.
pub(crate) fn run_iterator(program: BorrowedFd<'_>) -> io::Result<std::fs::File> {
    const BPF_TRACE_ITER: u32 = 28;
    let mut link = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        attach_type: BPF_TRACE_ITER,
        ..LinkCreate::default()
    };
    let link = bpf(LINK_CREATE, &mut link).map(owned)?;
    let mut iter = [link.as_raw_fd() as u32, 0];
    bpf(ITER_CREATE, &mut iter).map(owned).map(Into::into)
}

/// Runs a syscall program once on an eight-byte context; the result is what it returned.
pub(crate) fn run_syscall_program(program: BorrowedFd<'_>, context: &mut u64) -> io::Result<u32> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        pad: u32,
    }
    let mut attr = Attr {
        prog_fd: program.as_raw_fd() as u32,
        ctx_size_in: size_of::<u64>() as u32,
        // The kernel writes the context back here.
        ctx_in: std::ptr::from_mut(context) as u64,
        ..Attr::default()
    };
    bpf(PROG_TEST_RUN, &mut attr)?;
    Ok(attr.retval)
}

pub(crate) fn set_array_value(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        map_fd: u32,
        pad: u32,
        key: u64,
        value: u64,
        flags: u64,
    }
    let key = 0u32;
    let mut attr = Attr {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: std::ptr::from_ref(&key) as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// No more writes from user space: the verifier may then treat the values as constants.
pub(crate) fn freeze_map(map: BorrowedFd<'_>) -> io::Result<()> {
    bpf(MAP_FREEZE, &mut (map.as_raw_fd() as u32)).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// What the kernel knows of a loaded program.
pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    // SAFETY: a plain C struct of integers, for which all zeros are valid.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = InfoAttr {
        fd: program.as_raw_fd() as u32,
        len: size_of::<bpf_prog_info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Kprobe hits that the kernel missed on this link (no kretprobe instance left); `None` before Linux 6.7.
pub(crate) fn link_missed(link: BorrowedFd<'_>) -> Option<u64> {
    /// bpf_link_info of a perf event: type, id, prog_id, pad, event type, then for kprobes name, length, offset, address, missed.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        link: [u32; 4],
        event_type: u32,
        pad: u32,
        name: u64,
        name_len: u32,
        offset: u32,
        address: u64,
        missed: u64,
        cookie: u64,
    }
    let mut info = Info::default();
    let mut attr = InfoAttr {
        fd: link.as_raw_fd() as u32,
        len: size_of::<Info>() as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attr).ok()?;
    let upto_missed = std::mem::offset_of!(Info, missed) + size_of::<u64>();
    (attr.len as usize >= upto_missed).then_some(info.missed)
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The NUMA node that a process's page lies on; `None` for an absent page, and where the kernel does not say.
pub(crate) fn page_node(pid: u32, address: u64) -> Option<u16> {
    let (pid, pages, mut status) = (i32::try_from(pid).ok()?, [address], -1i32);
    // SAFETY: one page is asked for, and both arrays have one element and live through the call; without target nodes nothing is moved.
    let r = unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            pid,
            1usize,
            pages.as_ptr(),
            std::ptr::null::<i32>(),
            std::ptr::from_mut(&mut status),
            0,
        )
    };
    if r == 0 { u16::try_from(status).ok() } else { None }
}

/// A file without a name, in memory.
pub(crate) fn memory_file(name: &CStr) -> io::Result<std::fs::File> {
    // SAFETY: the name is a live string.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(owned(fd.into()).into()) }
}

/// The kernel's own BTF object of that name ("idxd"); `None` when it has none.
pub(crate) fn kernel_btf(name: &str) -> io::Result<Option<OwnedFd>> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        btf: u64,
        btf_size: u32,
        id: u32,
        name: u64,
        name_len: u32,
        kernel_btf: u32,
    }
    let mut ids = IdAttr::default();
    loop {
        match bpf(BTF_GET_NEXT_ID, &mut ids) {
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(e) => return Err(e),
        }
        ids.id = ids.next_id;
        let object = match bpf(BTF_GET_FD_BY_ID, &mut IdAttr { id: ids.id, ..IdAttr::default() }) {
            Ok(fd) => owned(fd),
            // Gone since it was listed.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(e) => return Err(e),
        };
        let mut text = [0u8; 64];
        let mut info =
            Info { name: text.as_mut_ptr() as u64, name_len: text.len() as u32, ..Info::default() };
        let mut attr = InfoAttr {
            fd: object.as_raw_fd() as u32,
            len: size_of::<Info>() as u32,
            info: std::ptr::from_mut(&mut info) as u64,
        };
        bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
        let found = CStr::from_bytes_until_nul(&text).is_ok_and(|t| t.to_bytes() == name.as_bytes());
        if info.kernel_btf != 0 && found {
            return Ok(Some(object));
        }
    }
}

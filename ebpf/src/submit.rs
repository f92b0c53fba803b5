//! Submissions from user space: what is in a descriptor at the moment it is handed to a WQ, and which completions are seen.
//!
//! Hooks: uprobes at MOVDIR64B and ENQCMD, whose cookie says which registers form the source's address; at the instruction after an
//! ENQCMD, for its zero flag; at dsascope's own probe points (USDT) in programs that have them; and `idxd_cdev_write`.
//! Every submission is counted, whatever else happens. What is sent again because the WQ was full is told of once. Uprobes are
//! preemptible: nothing here is kept by CPU.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext, Global,
    bindings::{BPF_ANY, BPF_F_USER_STACK, BPF_NOEXIST, pt_regs},
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated},
    macros::{fexit, kretprobe, map, uprobe},
    maps::{HashMap, LruHashMap, ProgramArray, StackTrace},
    programs::{FExitContext, ProbeContext, RetProbeContext},
};
use dsascope_common::{
    hw::descriptor::opcode,
    wire::{
        ELEMENTS, ElementsRecord, OPCODE_UNREAD, OTHER_SUBMITTED, PLACE_IS_WQ, RecordHeader, SeenRecord,
        SubmissionRecord, Submitted, SubmittedKey, Submitter, WQ_BY_PORTAL, hole, how, kind,
        site::{self, SiteCookie},
    },
};

use crate::{
    account::{self, add, send, send_in_place},
    kernel::{self, current_tid, now_ns, read},
    wrap::{on_entry, ran},
};

const DESCRIPTOR_BYTES: u64 = 64;
const PAGE_BYTES: u64 = 4096;
/// Longest list that is told of, whatever the loader asks for; and descriptors of one write(2).
const CHUNKS: u32 = 128;
const WRITTEN: u32 = 1 << 16;
const FLAG_ZERO: u64 = 1 << 6;
/// [`Sent::next_instruction`] of what `dsascope:refused` tells of.
const USDT_TELLS: u64 = 1;

/// The loader makes these as large as they need be.
#[map]
static SUBMITTED: HashMap<SubmittedKey, Submitted> = HashMap::with_max_entries(8192, 0);
#[map]
static STACKS: StackTrace = StackTrace::with_max_entries(4096, 0);
/// The last ENQCMD of each thread.
#[map]
static TRIES: LruHashMap<u32, Try> = LruHashMap::with_max_entries(8192, 0);
/// Threads that are in `idxd_cdev_write`.
#[map]
static WRITING: HashMap<u32, Writing> = HashMap::with_max_entries(1024, 0);

/// Empty. Kernels from 6.13 on give a program of this type one stack a CPU, and run uprobes preemptibly: threads that preempt each other in one
/// would share it. A program that may make a tail call keeps the thread's own stack.
#[map]
static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// See [`NOWHERE`].
#[inline(always)]
fn keep_own_stack(ctx: &impl EbpfContext) {
    // SAFETY: there is no program to go on in.
    let _ = unsafe { NOWHERE.tail_call(ctx, 0) };
}

#[unsafe(no_mangle)]
static SUBMISSION_SAMPLE: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
static ELEMENTS_TOLD: Global<u32> = Global::new(64);

static NOTHING_SUBMITTED: Submitted = Submitted {
    comm: [0; 16],
    submissions: 0,
    refused: 0,
    elements: 0,
    bytes: 0,
    untold: 0,
    records_lost: 0,
    lists_cut: 0,
};

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Try {
    key: SubmittedKey,
    /// Tells one descriptor from another.
    identity: u64,
    next_instruction: u64,
    refused: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Writing {
    from: u64,
    submitted_ns: u64,
    device: u16,
    wq: u16,
    reserved: u32,
}

// SAFETY: all are `repr(C)` and start with the header.
unsafe impl account::Record for SubmissionRecord {
    const KIND: u16 = kind::SUBMISSION;
}
// SAFETY: as above.
unsafe impl account::Record for ElementsRecord {
    const KIND: u16 = kind::ELEMENTS;
}
// SAFETY: as above.
unsafe impl account::Record for SeenRecord {
    const KIND: u16 = kind::SEEN;
}

/// Reads `size_of::<T>()` bytes of the current process; false when they are not there (then they are zero).
///
/// # Safety
/// `destination` must point to a writable `T` (a map value, the ring, or the stack).
#[inline(always)]
unsafe fn read_user<T>(destination: *mut T, address: u64) -> bool {
    // SAFETY: the caller vouches for the destination; the helper checks the source.
    unsafe {
        generated::bpf_probe_read_user(destination.cast(), size_of::<T>() as u32, address as *const _) == 0
    }
}

/// A register of the thread at a probe, by [`SiteCookie`]'s numbering. A match, as a context may not be indexed.
#[inline(always)]
fn register(registers: &pt_regs, number: u8, next_instruction: u64) -> u64 {
    match number {
        1 => registers.rax,
        2 => registers.rcx,
        3 => registers.rdx,
        4 => registers.rbx,
        5 => registers.rsp,
        6 => registers.rbp,
        7 => registers.rsi,
        8 => registers.rdi,
        9 => registers.r8,
        10 => registers.r9,
        11 => registers.r10,
        12 => registers.r11,
        13 => registers.r12,
        14 => registers.r13,
        15 => registers.r14,
        16 => registers.r15,
        site::register::NEXT_INSTRUCTION => next_instruction,
        _ => 0,
    }
}

/// Source and destination of the instruction at the probe.
#[inline(always)]
fn addresses(cookie: SiteCookie, registers: &pt_regs) -> (u64, u64) {
    let next = registers.rip + u64::from(cookie.length());
    let source =
        cookie.source(register(registers, cookie.base(), next), register(registers, cookie.index(), next));
    (source, cookie.address(register(registers, cookie.destination(), next)))
}

/// What is to be told of a submission, and where to.
#[derive(Clone, Copy)]
struct Sent {
    from: u64,
    portal: u64,
    instruction: u64,
    submitted_ns: u64,
    device: u16,
    wq: u16,
    how: u8,
    /// Where a uprobe tells whether it was refused; 0: there is none.
    next_instruction: u64,
}

impl Sent {
    const fn place(&self) -> u64 {
        if self.how == how::WRITE {
            PLACE_IS_WQ | (self.device as u64) << 16 | self.wq as u64
        } else {
            self.portal & !0xfff
        }
    }
}

/// The counts of `key`; made when first asked for. When the map is full: those of "other", and a hole.
#[inline(always)]
fn submitted(key: &SubmittedKey, comm: &[u8; 16]) -> Option<*mut Submitted> {
    if let Some(counts) = SUBMITTED.get_ptr_mut(key) {
        return Some(counts);
    }
    let _ = SUBMITTED.insert(key, &NOTHING_SUBMITTED, u64::from(BPF_NOEXIST));
    if let Some(counts) = SUBMITTED.get_ptr_mut(key) {
        // SAFETY: a live map value.
        unsafe { (*counts).comm = *comm };
        return Some(counts);
    }
    account::hole(hole::SUBMITTED_FULL);
    SUBMITTED.get_ptr_mut(&OTHER_SUBMITTED)
}

/// A number that other descriptors of this thread hardly have. The PASID is left out: ENQCMD fills it in.
#[inline(always)]
fn identity(descriptor: &[u8; 64]) -> u64 {
    let words = descriptor.as_ptr().cast::<u64>();
    let mut sum = 0_u64;
    let mut n = 0;
    while n < 8 {
        // SAFETY: eight words in 64 bytes; the record that holds them is 8-byte aligned.
        let word = unsafe { words.add(n).read() };
        sum = (sum ^ if n == 0 { word >> 32 } else { word })
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(23);
        n += 1;
    }
    sum
}

/// Whether the thread tries again what was refused. Remembers what it tries.
#[inline(always)]
fn is_another_try(key: &SubmittedKey, identity: u64, next_instruction: u64) -> bool {
    let thread = current_tid();
    if let Some(last) = TRIES.get_ptr_mut(&thread) {
        // SAFETY: a live map value that only this thread's programs touch.
        let last = unsafe { &mut *last };
        let again = last.refused != 0 && last.identity == identity;
        *last = Try { key: *key, identity, next_instruction, refused: 0 };
        return again;
    }
    let _ =
        TRIES.insert(&thread, &Try { key: *key, identity, next_instruction, refused: 0 }, u64::from(BPF_ANY));
    false
}

/// By the record's address, so that all submissions with one record are told of or none: a fault could else be taken for an earlier one's.
#[inline(always)]
fn is_sampled(record: u64) -> bool {
    let every = SUBMISSION_SAMPLE.load();
    every <= 1 || (record >> 5).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & u64::from(every - 1) == 0
}

#[inline(always)]
fn stack(ctx: *mut c_void) -> i32 {
    // SAFETY: the context is this program's; the map is a map of stacks.
    let id = unsafe {
        generated::bpf_get_stackid(ctx, (&raw const STACKS).cast_mut().cast(), u64::from(BPF_F_USER_STACK))
    };
    if id < 0 {
        account::hole(hole::STACK_MISSING);
    }
    id as i32
}

#[inline(always)]
fn submit(ctx: *mut c_void, sent: &Sent) {
    let ids = bpf_get_current_pid_tgid();
    let mut record = SubmissionRecord {
        header: RecordHeader { kind: kind::SUBMISSION, cpu: 0, lost: 0, time_ns: 0 },
        submitter: Submitter {
            submitted_ns: sent.submitted_ns,
            instruction: sent.instruction,
            portal: sent.portal,
            tgid: (ids >> 32) as u32,
            tid: ids as u32,
            comm: bpf_get_current_comm().unwrap_or([0; 16]),
            stack: -1,
            device: sent.device,
            wq: sent.wq,
            how: sent.how,
            unread: 0,
            reserved: 0,
            every: SUBMISSION_SAMPLE.load(),
        },
        descriptor: [0; 64],
    };
    // SAFETY: on the stack.
    let is_read = unsafe { read_user(&raw mut record.descriptor, sent.from) };
    if !is_read {
        record.submitter.unread = 1;
        account::hole(hole::DESCRIPTOR_UNREAD);
    }
    let code = if is_read { record.descriptor[7] } else { OPCODE_UNREAD };
    let words = record.descriptor.as_ptr();
    // SAFETY: within the 64 bytes, and aligned as the record is.
    let (completion, list, size) = unsafe {
        (
            words.add(8).cast::<u64>().read(),
            words.add(16).cast::<u64>().read(),
            words.add(32).cast::<u32>().read(),
        )
    };
    let key = SubmittedKey {
        place: sent.place(),
        tgid: record.submitter.tgid,
        opcode: code,
        how: sent.how,
        reserved: 0,
    };
    let Some(counts) = submitted(&key, &record.submitter.comm) else { return };
    // SAFETY: a live map value.
    unsafe {
        add(&raw mut (*counts).submissions, 1);
        if code == opcode::BATCH {
            add(&raw mut (*counts).elements, u64::from(size));
        } else {
            add(&raw mut (*counts).bytes, u64::from(size));
        }
    }
    let again = sent.next_instruction != 0
        && is_another_try(&key, identity(&record.descriptor), sent.next_instruction);
    if again || !is_sampled(completion) {
        // SAFETY: a live map value.
        unsafe { add(&raw mut (*counts).untold, 1) };
        return;
    }
    record.submitter.stack = stack(ctx);
    // SAFETY: on the stack; then a live map value.
    unsafe {
        if !send(&raw mut record, now_ns()) {
            add(&raw mut (*counts).records_lost, 1);
        }
    }
    if code == opcode::BATCH && !elements(&record.submitter, list, size, counts) {
        // SAFETY: a live map value.
        unsafe { add(&raw mut (*counts).lists_cut, 1) };
    }
}

/// A walk over a batch's list. A callback, because the verifier checks it once however often it runs.
struct List {
    submitter: Submitter,
    address: u64,
    /// Descriptors to tell of.
    count: u32,
    is_cut: u32,
    records_lost: u64,
}

/// Tells of a batch's list; false: not to its end.
#[inline(always)]
fn elements(submitter: &Submitter, list: u64, size: u32, counts: *mut Submitted) -> bool {
    let told = ELEMENTS_TOLD.load();
    let count = if size < told { size } else { told };
    let mut list = List { submitter: *submitter, address: list, count, is_cut: 0, records_lost: 0 };
    let chunks = count.div_ceil(ELEMENTS as u32);
    let chunks = if chunks < CHUNKS { chunks } else { CHUNKS };
    // SAFETY: the callback has the signature that the helper asks for; `list` outlives the call; then a live map value.
    unsafe {
        generated::bpf_loop(chunks, chunk_callback as *mut c_void, (&raw mut list).cast(), 0);
        if list.records_lost != 0 {
            add(&raw mut (*counts).records_lost, list.records_lost);
        }
    }
    list.is_cut == 0 && size <= told
}

unsafe extern "C" fn chunk_callback(index: u32, list: *mut c_void) -> i64 {
    // SAFETY: `elements` passes its own `List`.
    let list = unsafe { &mut *list.cast::<List>() };
    let first = index * ELEMENTS as u32;
    let left = list.count - first;
    let here = if left < ELEMENTS as u32 { left } else { ELEMENTS as u32 };
    let address = list.address + u64::from(first) * DESCRIPTOR_BYTES;
    let mut read = 0;
    let is_sent = send_in_place(now_ns(), |record: *mut ElementsRecord| {
        // SAFETY: the ring's memory, of this record's size.
        unsafe {
            // As a copy of what cannot overlap: else it is a call of memmove, byte by byte.
            core::ptr::copy_nonoverlapping(&raw const list.submitter, &raw mut (*record).submitter, 1);
            (*record).list = list.address;
            (*record).first = first;
            read = read_elements(record, address, here);
            (*record).count = read;
        }
    });
    list.records_lost += u64::from(!is_sent);
    if read == here {
        return 0;
    }
    list.is_cut = 1;
    1
}

/// Reads `count` descriptors, at least one and at most [`ELEMENTS`], and says how many were there: where a list goes on in a page that is
/// absent, those before that page.
///
/// # Safety
/// `record` must point to a writable record.
#[inline(always)]
unsafe fn read_elements(record: *mut ElementsRecord, address: u64, count: u32) -> u32 {
    // SAFETY: the caller vouches for the record.
    unsafe {
        let to = &raw mut (*record).descriptors;
        // What is not read must not be what was in the ring before.
        kernel::clear_words(to.cast::<[u64; ELEMENTS * 8]>());
        let bytes = count * DESCRIPTOR_BYTES as u32;
        if generated::bpf_probe_read_user(to.cast(), bytes, address as *const _) == 0 {
            return count;
        }
        // Nothing is kept of what fails on its way.
        let mut before = PAGE_BYTES - address % PAGE_BYTES;
        if before >= u64::from(bytes) {
            return 0;
        }
        // Less than the whole, as the compiler knows, and here the verifier too.
        asm!("{0} &= {1}", inout(reg) before, const (ELEMENTS as u64 - 1) * DESCRIPTOR_BYTES);
        if generated::bpf_probe_read_user(to.cast(), before as u32, address as *const _) != 0 {
            return 0;
        }
        (before / DESCRIPTOR_BYTES) as u32
    }
}

#[uprobe]
pub fn submission_uprobe(ctx: ProbeContext) -> u32 {
    ran!(&ctx, SUBMISSION);
    // SAFETY: the context is this program's.
    let cookie = SiteCookie(unsafe { generated::bpf_get_attach_cookie(ctx.as_ptr()) });
    // SAFETY: the context is this program's.
    let registers = unsafe { &*ctx.regs };
    let (from, portal) = addresses(cookie, registers);
    let sent = Sent {
        from,
        portal,
        instruction: registers.rip,
        submitted_ns: now_ns(),
        device: WQ_BY_PORTAL,
        wq: WQ_BY_PORTAL,
        how: cookie.instruction(),
        next_instruction: if cookie.result_follows() {
            registers.rip + u64::from(cookie.length())
        } else {
            0
        },
    };
    submit(ctx.as_ptr(), &sent);
    keep_own_stack(&ctx);
    0
}

/// Behind an ENQCMD.
#[uprobe]
pub fn refusal_uprobe(ctx: ProbeContext) -> u32 {
    ran!(&ctx, REFUSAL);
    // SAFETY: the context is this program's.
    let (ip, flags) = unsafe { ((*ctx.regs).rip, (*ctx.regs).eflags) };
    if flags & FLAG_ZERO != 0 {
        refused(ip);
    }
    0
}

/// What the thread tried last, and tells the result of at `told_at`.
#[inline(always)]
fn refused(told_at: u64) {
    let Some(last) = TRIES.get_ptr_mut(&current_tid()) else { return };
    // SAFETY: a live map value that only this thread's programs touch.
    let last = unsafe { &mut *last };
    if last.next_instruction == told_at && last.refused == 0 {
        last.refused = 1;
        if let Some(counts) = SUBMITTED.get_ptr_mut(&last.key) {
            // SAFETY: a live map value.
            unsafe { add(&raw mut (*counts).refused, 1) };
        }
    }
}

/// `dsascope:submit` (descriptor, portal, how): at each try.
#[uprobe]
pub fn submit_usdt(ctx: ProbeContext) -> u32 {
    ran!(&ctx, SUBMISSION);
    let how: u64 = ctx.arg(2).unwrap_or(0);
    // The driver's function shows what is written, and better.
    if how != u64::from(how::WRITE) {
        let sent = Sent {
            from: ctx.arg(0).unwrap_or(0),
            portal: ctx.arg(1).unwrap_or(0),
            // SAFETY: the context is this program's.
            instruction: unsafe { (*ctx.regs).rip },
            submitted_ns: now_ns(),
            device: WQ_BY_PORTAL,
            wq: WQ_BY_PORTAL,
            how: how as u8,
            next_instruction: if how == u64::from(how::ENQCMD) { USDT_TELLS } else { 0 },
        };
        submit(ctx.as_ptr(), &sent);
    }
    keep_own_stack(&ctx);
    0
}

/// `dsascope:refused` (): what this thread submitted last.
#[uprobe]
pub fn refused_usdt(ctx: ProbeContext) -> u32 {
    ran!(&ctx, REFUSAL);
    refused(USDT_TELLS);
    0
}

/// `dsascope:seen` (record, status)
#[uprobe]
pub fn seen_usdt(ctx: ProbeContext) -> u32 {
    ran!(&ctx, SEEN);
    let ids = bpf_get_current_pid_tgid();
    let mut record = SeenRecord {
        header: RecordHeader { kind: kind::SEEN, cpu: 0, lost: 0, time_ns: 0 },
        record: ctx.arg(0).unwrap_or(0),
        tgid: (ids >> 32) as u32,
        tid: ids as u32,
        status: ctx.arg::<u64>(1).unwrap_or(0) as u8,
        reserved: [0; 7],
    };
    // SAFETY: on the stack.
    unsafe { send(&raw mut record, now_ns()) };
    keep_own_stack(&ctx);
    0
}

/// (struct file *file, const char __user *buf, size_t len, loff_t *unused)
#[inline(always)]
fn write_start(file: u64, from: u64) {
    let wq = read::<u64>(file, &kernel::FILE_PRIVATE_DATA)
        .and_then(|context| read::<u64>(context, &kernel::CTX_WQ))
        .and_then(kernel::wq);
    let Some(wq) = wq else {
        account::hole(hole::READ_FAILED);
        return;
    };
    let writing = Writing { from, submitted_ns: now_ns(), device: wq.device, wq: wq.wq, reserved: 0 };
    if WRITING.insert(&current_tid(), &writing, u64::from(BPF_ANY)).is_err() {
        account::hole(hole::TASK_FULL);
    }
}

/// What of one write(2) is told; the verifier checks the callback once.
struct Written {
    ctx: *mut c_void,
    writing: Writing,
}

/// `written`: bytes that the driver submitted.
#[inline(always)]
fn write_end(ctx: &impl EbpfContext, written: i32) {
    let thread = current_tid();
    // SAFETY: only this thread's programs touch the value.
    let Some(writing) = unsafe { WRITING.get(&thread) }.copied() else { return };
    let _ = WRITING.remove(&thread);
    if written <= 0 {
        return;
    }
    let count = written as u32 / DESCRIPTOR_BYTES as u32;
    let count = if count < WRITTEN { count } else { WRITTEN };
    let mut whole = Written { ctx: ctx.as_ptr(), writing };
    // SAFETY: the callback has the signature that the helper asks for; `whole` outlives the call.
    unsafe { generated::bpf_loop(count, written_callback as *mut c_void, (&raw mut whole).cast(), 0) };
}

unsafe extern "C" fn written_callback(index: u32, whole: *mut c_void) -> i64 {
    // SAFETY: `write_end` passes its own `Written`.
    let whole = unsafe { &*whole.cast::<Written>() };
    let sent = Sent {
        from: whole.writing.from + u64::from(index) * DESCRIPTOR_BYTES,
        portal: 0,
        instruction: 0,
        submitted_ns: whole.writing.submitted_ns,
        device: whole.writing.device,
        wq: whole.writing.wq,
        how: how::WRITE,
        next_instruction: 0,
    };
    submit(whole.ctx, &sent);
    0
}

on_entry!(WRITE_START, write_start, write_start_fentry, write_start_kprobe, (0, 1));

#[fexit]
pub fn write_end_fexit(ctx: FExitContext) -> i32 {
    ran!(&ctx, WRITE_END);
    write_end(&ctx, ctx.ret::<i32>().unwrap_or(-1));
    0
}

#[kretprobe]
pub fn write_end_kretprobe(ctx: RetProbeContext) -> u32 {
    ran!(&ctx, WRITE_END);
    write_end(&ctx, ctx.ret::<i32>());
    0
}

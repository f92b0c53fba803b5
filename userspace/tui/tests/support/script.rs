//! Scripted sessions: the same events every time, on a clock of their own. Used by the view's snapshots and by the tests that run the
//! binary on a file of events.

#![allow(dead_code, reason = "not every test uses every script")]

use std::num::NonZeroU64;

use dsascope_common::hw::{completion::status, descriptor::opcode, event_log::EntryHeader};
use dsascope_core::driver::{DeviceState, During, HaltAnswer};
use dsascope_core::event::{
    Asked, ByKind, Comm, Command, Context, ContextTotals, CopyOutcome, DeviceId, DeviceInfo, DeviceKind,
    DriverEvent, DriverInfo, Element, Event, Fault, Happening, Hole, HoleKind, Hook, How, Interrupt,
    KernelLedger, Marks, Open, Origin, PageRequest, Place, SessionInfo, Snapshot, Stack, StageTimes,
    SubmittedTotals, SubmitterFile, SubmitterSite, Submitters, Verdict, VerdictState, WqConfig, WqInfo,
};
use dsascope_core::submission::{Frame, Mapped, Memory, MemoryKind, Permissions};

pub(crate) const START_NS: u64 = 1_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
pub(crate) const DSA0: DeviceId = DeviceId { id: 0, kind: DeviceKind::Dsa };
pub(crate) const IAX1: DeviceId = DeviceId { id: 1, kind: DeviceKind::Iax };

struct Process {
    tgid: u32,
    comm: &'static str,
    cgroup: &'static str,
    device: DeviceId,
    wq: u16,
    pasid: u32,
    /// Faults a second, and one in how many fails.
    rate: u64,
    fails: u64,
}

const PROCESSES: [Process; 4] = [
    Process {
        tgid: 1201,
        comm: "redis-server",
        cgroup: "/system.slice/redis.service",
        device: DSA0,
        wq: 0,
        pasid: 3,
        rate: 120,
        fails: 0,
    },
    Process {
        tgid: 1388,
        comm: "spdk_tgt",
        cgroup: "/system.slice/spdk.service",
        device: DSA0,
        wq: 1,
        pasid: 4,
        rate: 45,
        fails: 9,
    },
    Process {
        tgid: 20417,
        comm: "qpl-compress",
        cgroup: "/user.slice/user-1000.slice/session-4.scope",
        device: IAX1,
        wq: 0,
        pasid: 5,
        rate: 12,
        fails: 0,
    },
    Process {
        tgid: 20533,
        comm: "dml_batch",
        cgroup: "/user.slice/user-1000.slice/session-4.scope",
        device: DSA0,
        wq: 1,
        pasid: 6,
        rate: 3,
        fails: 2,
    },
];

/// A generator with a fixed seed (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

fn context(process: &Process) -> Context {
    Context {
        device: process.device,
        wq: process.wq,
        pasid: process.pasid,
        opened_ns: NonZeroU64::new(START_NS + u64::from(process.pasid) * 1_000_000),
    }
}

fn wq(wq: u16, mode: &str) -> WqInfo {
    WqInfo {
        wq,
        name: Some(format!("app{wq}")),
        state: "enabled".into(),
        type_: "user".into(),
        mode: Some(mode.into()),
        size: Some(16),
        group: Some(0),
        prs_disable: Some(true),
        block_on_fault: Some(false),
        ..WqInfo::default()
    }
}

fn device(device: DeviceId) -> DeviceInfo {
    DeviceInfo {
        device,
        state: "enabled".into(),
        version: Some(0x200),
        gen_cap: None,
        event_log_size: Some(64),
        pasid_enabled: Some(true),
        numa_node: Some(0),
        wqs: vec![wq(0, "shared"), wq(1, "dedicated")],
    }
}

/// Attached when asked for.
const fn of_page_requests(hook: Hook) -> bool {
    matches!(hook, Hook::PageRequest | Hook::PageResponse)
}

fn verdict(hook: Hook) -> Verdict {
    let by = match hook {
        Hook::PageRequest => "tracepoint",
        Hook::Queued | Hook::PageResponse => "tp_btf",
        Hook::ServiceEnd => "tracepoint",
        Hook::InterruptStart => "fentry",
        Hook::InterruptEnd => "fexit",
        Hook::CopyEnd | Hook::OpenEnd | Hook::ReleaseEnd => "kretprobe",
        _ => "kprobe",
    };
    let required = matches!(hook, Hook::Queued | Hook::ServiceStart | Hook::ServiceEnd);
    Verdict {
        hook,
        required,
        state: VerdictState::Attached { by: by.into() },
        hits: None,
        attach_ns: Some(180_000),
    }
}

pub(crate) fn session() -> SessionInfo {
    SessionInfo {
        tool_version: "0.1.0".into(),
        host: "lab7".into(),
        kernel: "7.3.4+deb13-amd64".into(),
        driver: DriverInfo { module: "idxd".into(), srcversion: Some("9F0C1A".into()), btf: true },
        devices: vec![device(DSA0), device(IAX1)],
        verdicts: Hook::ALL
            .iter()
            .filter(|hook| !of_page_requests(**hook) && !hook.is_of_submissions())
            .map(|hook| verdict(*hook))
            .collect(),
        started_ns: START_NS,
        attach_ns: 412_000_000,
        wall_at_zero_ns: 1_790_000_000_000_000_000,
        ring_bytes: 4 << 20,
        cpus: 4,
        filter: None,
        submitters: None,
        storm_per_s: None,
    }
}

/// Every script, briefly.
pub(crate) fn all() -> Vec<Vec<Event>> {
    vec![empty(), busy(3), lossy(2, 100), trouble(), failing(), moved_failure(), page_requests(), submitted()]
}

/// Ten seconds without a fault on a host without devices.
pub(crate) fn empty() -> Vec<Event> {
    let session = SessionInfo { devices: vec![], ..session() };
    vec![Event::Session(Box::new(session)), Event::Tick { now_ns: START_NS + 10 * SECOND }]
}

/// `seconds` of four processes with their fault habits.
pub(crate) fn busy(seconds: u64) -> Vec<Event> {
    events(session(), seconds, 0)
}

/// The same with a ring that was too small for `lost` faults.
pub(crate) fn lossy(seconds: u64, lost: u64) -> Vec<Event> {
    events(session(), seconds, lost)
}

/// The busy session, and then an identifier that goes from one WQ to another while the first is behind: the failure of batch 7 on wq0.0
/// is cleared by its next use on wq0.1, which stays open.
pub(crate) fn moved_failure() -> Vec<Event> {
    let mut numbers = Numbers(7);
    let mut events = busy(2);
    let at = START_NS + 3 * SECOND;
    let entries = [
        (0_usize, status::CRA_XLAT, true, 5, true),
        (1, status::CRA_XLAT, true, 2, false),
        (1, status::CRA_XLAT, false, 9, false),
        (0, status::BATCH_EVL_ERR, false, 0, false),
    ];
    for (n, (wq, error, first, index, failed)) in (0..).zip(entries) {
        let mut fault = fault(&PROCESSES[wq], at + n * 1_000_000, 0, failed, &mut numbers);
        fault.entry = fault
            .entry
            .with_error(error)
            .with_operation(if error == status::CRA_XLAT { opcode::MEMMOVE } else { opcode::BATCH })
            .with_batch(error == status::CRA_XLAT)
            .with_batch_id(7)
            .with_batch_idx(index)
            .with_first_err_in_batch(first);
        fault.logged[4] = 12;
        fault.delivered = fault.logged;
        events.push(Event::Fault(fault));
    }
    let log_full = Interrupt {
        at_ns: at + 5_000_000,
        cpu: 0,
        device: DSA0,
        start_ns: at + 4_900_000,
        end_ns: at + 5_000_000,
        entries: 63,
        swerror: None,
    };
    events.extend([Event::Interrupt(log_full), Event::Tick { now_ns: at + SECOND / 2 }]);
    events
}

/// A WQ comes back with page requests on, a close drains, errors are told of, and the device halts and is reset.
pub(crate) fn trouble() -> Vec<Event> {
    let mut events = vec![Event::Session(Box::new(session()))];
    let mut at_ns = START_NS;
    let mut driver = |what| {
        at_ns += 20_000_000;
        let (tgid, comm) = (1701, Comm::new("accel-config"));
        Event::Driver(DriverEvent { at_ns, cpu: 1, device: DSA0, tgid, tid: tgid, comm, what })
    };
    let command = |code, operand, status, during| {
        let start_ns = START_NS + 19_000_000;
        Command {
            command_code: code,
            operand,
            status_code: status,
            start_ns,
            wq: (code == 6).then_some(operand as u16),
            during,
            enabled: None,
        }
    };
    let config = WqConfig {
        type_: "user".into(),
        mode: "shared".into(),
        size: 32,
        threshold: 28,
        priority: 10,
        block_on_fault: true,
        prs_disable: false,
        ats_disable: false,
    };
    let enabled = Command { enabled: Some(config), ..command(6, 1, 0, None) };
    events.push(driver(Happening::Command(enabled)));
    events.push(driver(Happening::Command(command(11, 3, 0, Some(During::Close)))));
    events.push(driver(Happening::Command(command(6, 1, 0x21, None))));
    events.push(driver(Happening::Warning { text: "Failed to service fault work.".into() }));
    let line = "Device error 0x1b operation: 0x3 fault addr: 0x7f0000001001";
    events.push(driver(Happening::Warning { text: line.into() }));
    events.push(driver(Happening::Warning { text: "err[0]: 0x703000100d".into() }));
    let interrupt = Interrupt {
        at_ns: START_NS + 105_000_000,
        cpu: 0,
        device: DSA0,
        start_ns: START_NS + 104_000_000,
        end_ns: START_NS + 105_000_000,
        entries: 0,
        swerror: Some([0x0000_0303_0001_103f, 2, 0x7f00_1000, 0]),
    };
    events.push(Event::Interrupt(interrupt));
    events.push(driver(Happening::Halt { answer: HaltAnswer::FunctionLevelReset }));
    let start_ns = NonZeroU64::new(START_NS + 121_000_000);
    events.push(driver(Happening::Reset { start_ns, state: Some(DeviceState::Enabled) }));
    events
}

/// A required probe refused, another absent.
pub(crate) fn failing() -> Vec<Event> {
    let mut session = session();
    for verdict in &mut session.verdicts {
        match verdict.hook {
            Hook::ServiceEnd => {
                verdict.state = VerdictState::Refused { why: "idxd_evl_fault_work: not traceable".into() };
            }
            Hook::Counter => {
                verdict.state =
                    VerdictState::NotOnThisKernel { why: "no idxd_user_counter_increment".into() };
            }
            _ => {}
        }
    }
    vec![Event::Session(Box::new(session)), Event::Tick { now_ns: START_NS + 3 * SECOND }]
}

fn events(session: SessionInfo, seconds: u64, lost: u64) -> Vec<Event> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut body = Vec::new();
    let mut totals = Vec::new();
    for process in &PROCESSES {
        let opened_ns = START_NS + u64::from(process.pasid) * 1_000_000;
        body.push((opened_ns, open(process, opened_ns)));
        let mut sum = total(process);
        for n in 0..process.rate * seconds {
            let at =
                START_NS + SECOND / 8 + n * SECOND / process.rate + numbers.next(SECOND / process.rate / 2);
            let failed = process.fails > 0 && n % process.fails == process.fails - 1;
            let fault = fault(process, at, n, failed, &mut numbers);
            count(&mut sum, &fault);
            body.push((fault.at_ns, Event::Fault(fault)));
        }
        totals.push(sum);
    }
    for n in 0..seconds * 30 {
        let start_ns = START_NS + SECOND / 8 + n * SECOND / 30;
        let interrupt = Interrupt {
            at_ns: start_ns + 9_000,
            cpu: (n % 4) as u16,
            device: if n % 6 == 5 { IAX1 } else { DSA0 },
            start_ns,
            end_ns: start_ns + 9_000,
            entries: 6,
            swerror: None,
        };
        body.push((interrupt.at_ns, Event::Interrupt(interrupt)));
    }
    body.sort_by_key(|(at, _)| *at);
    let end = START_NS + seconds * SECOND + SECOND / 4;
    let mut events = vec![Event::Session(Box::new(session))];
    events.extend(body.into_iter().map(|(_, event)| event));
    if lost > 0 {
        totals[0].queued += lost;
        totals[0].served += lost;
        totals[0].delivered += lost;
        totals[0].cr_faults += lost;
        totals[0].counter_faults += lost;
        totals[0].records_lost = lost;
        let what = HoleKind::RingLost { cpu: 2 };
        events.push(Event::Hole(Hole { at_ns: end - SECOND / 2, what, count: lost }));
    }
    events.push(Event::Snapshot(Box::new(snapshot(&events, totals, end, lost))));
    events.push(Event::Tick { now_ns: end });
    events
}

/// As [`busy`], and the first process's WQ asks for pages too: forty requests, one refused, one seen after its response.
pub(crate) fn page_requests() -> Vec<Event> {
    let mut events = busy(2);
    let process = &PROCESSES[0];
    if let Some(Event::Session(session)) = events.first_mut() {
        session
            .verdicts
            .extend(Hook::ALL.iter().filter(|hook| of_page_requests(**hook)).map(|hook| verdict(*hook)));
    }
    let requests = (0..40).map(|n| {
        let asked_ns = START_NS + n * SECOND / 20;
        let asked =
            Asked { at_ns: asked_ns, pages: 1, address: 0x7f3a_0000_0000 + n * 0x1000, write: n % 2 == 1 };
        Event::PageRequest(PageRequest {
            at_ns: asked_ns + 150_000 + n * 2_500,
            cpu: 1,
            device: process.device,
            pasid: Some(process.pasid),
            group: n as u16,
            code: if n == 7 { 1 } else { 0 },
            request: (n != 9).then_some(asked),
        })
    });
    let after_opens = events.iter().rposition(|event| matches!(event, Event::Open(_))).map_or(0, |i| i + 1);
    events.splice(after_opens..after_opens, requests);
    events
}

/// As [`busy`], with submissions followed: each fault has its origin, every other one was seen when it was told of.
pub(crate) fn submitted() -> Vec<Event> {
    const FRAMES: [(&str, u64); 2] = [("submit_descriptor", 0x1f), ("worker_loop", 0x2a0)];
    let mut events = busy(2);
    let mut looked_up = Vec::new();
    let mut counts = [0; 2];
    for event in &mut events {
        match event {
            Event::Session(session) => {
                let site = SubmitterSite {
                    what: "movdir64b".into(),
                    address: 0x40_1000,
                    symbol: Some("submit_descriptor+0x1f".into()),
                    instruction: "movdir64b rax,[rdx]".into(),
                    refused: None,
                };
                let file = SubmitterFile {
                    file: "/usr/bin/key-value-store".into(),
                    sites: vec![site],
                    ..SubmitterFile::default()
                };
                session.submitters = Some(Submitters {
                    files: vec![file],
                    cost_ns: Some(1_400),
                    sample: 1,
                    elements_told: 64,
                });
            }
            Event::Fault(fault) => {
                let (Some(tgid), Some(first)) = (fault.tgid, fault.times.first_ns()) else { continue };
                counts[usize::from(fault.entry.batch())] += 1;
                let delivered_ns = fault.times.copy_end_ns.filter(|_| counts[0] % 2 == 0);
                fault.origin = Some(Origin {
                    submitted_ns: first - 900_000,
                    seen_ns: delivered_ns.and_then(|ns| NonZeroU64::new(ns.get() + 80_000)),
                    tid: tgid + 1,
                    comm: Comm::new("io-worker"),
                    how: How::Movdir64b,
                    operation: fault.entry.operation(),
                    bytes: Some(4096),
                    instruction: NonZeroU64::new(0x40_101f),
                    stack: Some(7),
                    element: fault
                        .entry
                        .batch()
                        .then(|| Element { list: 0x7f00_0000_0000, index: fault.entry.batch_idx().into() }),
                });
                let frames = FRAMES.map(|(symbol, offset)| Frame {
                    address: 0x40_1000 + offset,
                    symbol: Some(symbol.into()),
                    offset,
                    module: Some("key-value-store".into()),
                    module_offset: Some(0x1000 + offset),
                });
                let at_ns = fault.at_ns;
                let page = fault.entry.fault_addr() & !0xfff;
                let memory = Memory::Mapped(Mapped {
                    start: page,
                    end: page + 0x20_0000,
                    kind: MemoryKind::Heap,
                    permissions: Permissions { read: true, write: true, ..Permissions::default() },
                    page_bytes: Some(4096),
                    transparent_huge: Some(false),
                    node: Some(0),
                    nodes: None,
                });
                looked_up.push(Event::Stack(Box::new(Stack { at_ns, tgid, id: 7, frames: frames.into() })));
                looked_up.push(Event::Place(Box::new(Place { at_ns, tgid, page, memory })));
            }
            Event::Snapshot(snapshot) => {
                snapshot.submitted = [("memmove", 3), ("batch", 1)]
                    .map(|(operation, code)| SubmittedTotals {
                        tgid: Some(PROCESSES[0].tgid),
                        comm: Comm::new("io-worker"),
                        device: Some(PROCESSES[0].device),
                        wq: Some(PROCESSES[0].wq),
                        how: Some(How::Movdir64b),
                        operation_code: Some(code),
                        operation: Some(operation.into()),
                        submissions: 12_345,
                        refused: 0,
                        elements: if code == 1 { 98_760 } else { 0 },
                        bytes: 4096,
                        untold: 0,
                        records_lost: 0,
                        lists_cut: 0,
                    })
                    .into();
            }
            _ => {}
        }
    }
    // The second before there had been fewer.
    let last = events.iter().find_map(|event| match event {
        Event::Snapshot(snapshot) => Some((**snapshot).clone()),
        _ => None,
    });
    looked_up.extend(last.map(|mut before| {
        before.at_ns -= SECOND / 2;
        before.submitted.iter_mut().for_each(|totals| totals.submissions -= 1_600);
        Event::Snapshot(Box::new(before))
    }));
    let end = events.iter().rposition(|event| matches!(event, Event::Fault(_))).map_or(0, |at| at + 1);
    events.splice(end..end, looked_up);
    events
}

fn snapshot(events: &[Event], totals: Vec<ContextTotals>, at_ns: u64, lost: u64) -> Snapshot {
    let mut received = ByKind::default();
    for event in events {
        match event {
            Event::Fault(_) => received.fault += 1,
            Event::Interrupt(_) => received.interrupt += 1,
            Event::Open(_) => received.open += 1,
            _ => {}
        }
    }
    let lost = ByKind { fault: lost, ..ByKind::default() };
    let seen = ByKind { fault: received.fault + lost.fault, ..received };
    Snapshot {
        at_ns,
        totals,
        ledger: KernelLedger { seen, sent: received, lost, ..KernelLedger::default() },
        received,
        ring_used_bytes: Some(0),
        pending: Some(0),
        active: Some(0),
        ..Snapshot::default()
    }
}

fn open(process: &Process, at_ns: u64) -> Event {
    Event::Open(Open {
        at_ns,
        context: context(process),
        tgid: process.tgid,
        tid: process.tgid,
        cgroup: Some(u64::from(process.tgid) * 7),
        cgroup_path: Some(process.cgroup.into()),
        comm: Comm::new(process.comm),
        file: process.pasid,
        files: 1,
        existing: false,
    })
}

fn fault(process: &Process, at: u64, n: u64, failed: bool, numbers: &mut Numbers) -> Fault {
    let is_iax = process.device.kind == DeviceKind::Iax;
    let batch = process.tgid == 20533 && n % 4 == 3;
    let (error, operation) = match (batch, is_iax) {
        (true, _) => (status::BATCH_EVL_ERR, opcode::BATCH),
        (_, true) => (status::CRA_XLAT, opcode::IAX_COMPRESS),
        _ if n.is_multiple_of(5) => (status::CRA_XLAT, opcode::MEMFILL),
        _ => (status::CRA_XLAT, opcode::MEMMOVE),
    };
    let address = 0x7f3a_c000_0000 + u64::from(process.pasid) * 0x10_0000 + n % 64 * 0x1000 + 0x40;
    let entry = EntryHeader::default()
        .with_desc_valid(true)
        .with_wq_idx_valid(true)
        .with_err_info_valid(true)
        .with_fault_rw(true)
        .with_rcr(true)
        .with_error(error)
        .with_wq_idx(process.wq as u8)
        .with_operation(operation)
        .with_pasid(process.pasid)
        .with_batch(process.tgid == 20533)
        .with_batch_id(if process.tgid == 20533 { (n / 4) as u8 } else { 0 })
        .with_batch_idx((n % 4) as u16)
        .with_first_err_in_batch(process.tgid == 20533 && n.is_multiple_of(4))
        .with_fault_addr(address);
    let bytes = if is_iax { 64 } else { 32 };
    let mut logged = [0; 64];
    logged[0] = status::SUCCESS;
    let mut delivered = if failed { [0; 64] } else { logged };
    if batch {
        delivered[0] = status::BATCH_FAIL;
        delivered[1] = 1;
    }
    let queued = at + 3_000 + numbers.next(2_000);
    let started = queued + 4_000 + numbers.next(9_000);
    let copy_start = started + 1_500 + numbers.next(1_000);
    let tail = if numbers.next(40) == 0 { 900_000 + numbers.next(4_000_000) } else { 0 };
    let copy_end = copy_start + 18_000 + numbers.next(60_000) + tail;
    let done = copy_end + 900 + numbers.next(500);
    Fault {
        at_ns: done + 300,
        cpu: (n % 4) as u16,
        context: context(process),
        tgid: Some(process.tgid),
        worker: 77 + u32::from(process.wq),
        queue_cpu: Some(if process.tgid == 20533 { 1 } else { (n % 4) as u16 }),
        times: StageTimes {
            interrupt_ns: NonZeroU64::new(at),
            queued_ns: NonZeroU64::new(queued),
            started_ns: NonZeroU64::new(started),
            copy_start_ns: NonZeroU64::new(copy_start),
            copy_end_ns: NonZeroU64::new(copy_end),
            done_ns: NonZeroU64::new(done),
        },
        copy: if failed {
            CopyOutcome::Short { asked: bytes, done: 0 }
        } else {
            CopyOutcome::Delivered { bytes }
        },
        copy_addr: Some(address),
        entry,
        logged,
        delivered,
        counted_faults: 1,
        counted_failures: u8::from(failed),
        marks: Marks::default(),
        origin: None,
    }
}

fn total(process: &Process) -> ContextTotals {
    ContextTotals {
        context: context(process),
        tgid: Some(process.tgid),
        comm: Comm::new(process.comm),
        cgroup: Some(u64::from(process.tgid) * 7),
        closed: false,
        queued: 0,
        served: 0,
        delivered: 0,
        failed: 0,
        not_copied: 0,
        unobserved: 0,
        skipped: 0,
        cr_faults: 0,
        batch_faults: 0,
        drains: 0,
        counter_faults: 0,
        counter_failures: 0,
        driver_faults: None,
        driver_failures: None,
        records_lost: 0,
        service_ns_sum: 0,
        service_ns_max: 0,
        opened_files: 1,
    }
}

fn count(sum: &mut ContextTotals, fault: &Fault) {
    let service = fault.durations().service.unwrap_or(0);
    sum.queued += 1;
    sum.served += 1;
    match fault.copy {
        CopyOutcome::Delivered { .. } => sum.delivered += 1,
        _ => sum.failed += 1,
    }
    match fault.error() {
        status::BATCH_EVL_ERR => sum.batch_faults += 1,
        _ => sum.cr_faults += 1,
    }
    sum.counter_faults += u64::from(fault.counted_faults);
    sum.counter_failures += u64::from(fault.counted_failures);
    sum.service_ns_sum += service;
    sum.service_ns_max = sum.service_ns_max.max(service);
}

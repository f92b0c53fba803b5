//! What passes between the eBPF programs and the tracer: ring records, map keys and values, counter indices, globals.
//!
//! One [`FaultRecord`] a fault is the rule: its stages are gathered in the kernel and sent when the service ends, so that a full
//! ring takes a whole fault, never half of one. A time of 0 means "not observed" and never "at boot"; all times are
//! CLOCK_MONOTONIC nanoseconds (`bpf_ktime_get_ns`).

pub mod site;

use crate::hw::{
    event_log::EntryHeader,
    page_request::{Request, Response},
};

/// Declares a plain record: C layout, no padding, safe to read from bytes on the user side.
macro_rules! wire {
    ($($(#[$m:meta])* pub struct $name:ident: $bytes:literal { $($body:tt)* })*) => {$(
        $(#[$m])*
        #[cfg_attr(
            feature = "user",
            derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
        )]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(C)]
        pub struct $name { $($body)* }
        const _: () = assert!(size_of::<$name>() == $bytes);
    )*};
}

mod submission;
pub use submission::*;

/// Record kinds: [`RecordHeader::kind`], and the index into the ledger's counters.
pub mod kind {
    pub const FAULT: u16 = 1;
    pub const INTERRUPT: u16 = 2;
    pub const OPEN: u16 = 3;
    pub const RELEASE: u16 = 4;
    pub const STAGE: u16 = 5;
    pub const PAGE_REQUEST: u16 = 6;
    pub const DRIVER: u16 = 7;
    pub const PAGE_RESPONSE: u16 = 8;
    pub const SUBMISSION: u16 = 9;
    pub const ELEMENTS: u16 = 10;
    pub const SEEN: u16 = 11;
    pub const COUNT: usize = 16;
    pub const NAMES: [&str; COUNT] = [
        "",
        "fault",
        "interrupt",
        "open",
        "release",
        "stage",
        "page_request",
        "driver",
        "page_response",
        "submission",
        "elements",
        "seen",
        "",
        "",
        "",
        "",
    ];
}

/// `idxd_driver_data.type`.
pub mod device_type {
    pub const DSA: u8 = 0;
    pub const IAX: u8 = 1;
}

/// [`FaultRecord::marks`]: why a record is not whole.
pub mod mark {
    /// The end of the service was never seen; sent when the same worker started its next fault.
    pub const END_MISSING: u8 = 1 << 0;
    /// The hand-over from the interrupt thread was not seen (queued before attaching, or the pending map was full).
    pub const QUEUE_MISSING: u8 = 1 << 1;
    /// The copy cannot be seen with the attached programs (tracepoints only).
    pub const COPY_UNOBSERVED: u8 = 1 << 2;
    /// Some kernel memory could not be read; the affected bytes are zero.
    pub const READ_FAILED: u8 = 1 << 3;
    /// The end of the copy was not seen; its outcome is what the driver's failure counter says.
    pub const OUTCOME_INFERRED: u8 = 1 << 4;
}

wire! {
    /// Starts every record.
    pub struct RecordHeader: 16 {
        pub kind: u16,
        pub cpu: u16,
        /// Records that this CPU had failed to send before this one, modulo 2^32: a step marks the hole's place.
        pub lost: u32,
        /// When the record was sent.
        pub time_ns: u64,
    }

    /// One open file on one WQ: (device, WQ, PASID) names it while it is open, the opening time tells two users of the same
    /// PASID apart. `opened_ns` is 0 for files that were open before attaching.
    pub struct ContextKey: 16 {
        pub opened_ns: u64,
        pub pasid: u32,
        /// `idxd_device.id`: the N of dsaN or iaxN.
        pub device: u16,
        pub wq: u16,
    }

    /// Key of the map from (device, WQ, PASID) to the open file.
    pub struct SessionKey: 8 {
        pub pasid: u32,
        pub device: u16,
        pub wq: u16,
    }

    pub struct Session: 16 {
        pub opened_ns: u64,
        pub tgid: u32,
        /// Files of this process that are open on this WQ.
        pub files: u32,
    }

    /// A completion-record fault from the interrupt thread to the end of its service.
    pub struct FaultRecord: 280 {
        pub header: RecordHeader,
        pub context: ContextKey,
        /// Address of the work item; names the fault between queueing and start.
        pub work: u64,
        /// Start of the interrupt thread's run that queued this fault.
        pub interrupt_ns: u64,
        pub queued_ns: u64,
        pub started_ns: u64,
        pub copy_start_ns: u64,
        pub copy_end_ns: u64,
        pub done_ns: u64,
        /// User address that the driver copied the record to.
        pub copy_addr: u64,
        /// Bytes; 0 with `copy_start_ns` 0: the driver did not copy.
        pub copy_asked: u32,
        pub copy_done: u32,
        pub tgid: u32,
        /// Thread id of the worker that served the fault.
        pub worker: u32,
        pub queue_cpu: u16,
        pub device_type: u8,
        pub marks: u8,
        /// Calls of the driver's counter function during this service: faults, failures.
        pub counted_faults: u8,
        pub counted_failures: u8,
        pub reserved: u16,
        pub entry: EntryHeader,
        /// The record as the device logged it; DSA uses the first 32 bytes.
        pub logged: [u8; 64],
        /// The record as the driver delivered it (after its patch of a batch's status).
        pub delivered: [u8; 64],
    }

    /// What a queued fault's work item does not tell by itself.
    pub struct Pending: 24 {
        pub queued_ns: u64,
        pub interrupt_ns: u64,
        pub cpu: u32,
        pub reserved: u32,
    }

    /// One run of the device's interrupt thread.
    pub struct InterruptRecord: 72 {
        pub header: RecordHeader,
        pub start_ns: u64,
        pub end_ns: u64,
        /// Faults queued during this run.
        pub entries: u32,
        pub device: u16,
        pub device_type: u8,
        /// 1: the driver stored another SWERROR during this run.
        pub swerror_changed: u8,
        pub swerror: [u64; 4],
    }

    /// A page request of an idxd device, which the IOMMU's driver took off its queue and handed on. All requests of one group have
    /// one response; they are joined on the user side, because what happens on two CPUs at once meets nowhere in the kernel
    /// without a lock.
    pub struct PageRequestRecord: 40 {
        pub header: RecordHeader,
        /// `idxd_device.id`.
        pub device: u16,
        pub reserved: [u16; 3],
        pub request: Request,
    }

    /// The response to a group of page requests of an idxd device, as the IOMMU's driver submits it.
    pub struct PageResponseRecord: 40 {
        pub header: RecordHeader,
        /// `idxd_device.id`.
        pub device: u16,
        pub reserved: [u16; 3],
        pub response: Response,
    }

    /// A process opened a WQ.
    pub struct OpenRecord: 72 {
        pub header: RecordHeader,
        pub context: ContextKey,
        pub tgid: u32,
        pub tid: u32,
        pub cgroup: u64,
        /// The K of sysfs' fileK.
        pub file: u32,
        /// Files that this process now has open on this WQ.
        pub files: u32,
        pub comm: [u8; 16],
    }

    /// A file on a WQ is gone: the driver drained what was left.
    pub struct ReleaseRecord: 80 {
        pub header: RecordHeader,
        pub context: ContextKey,
        pub start_ns: u64,
        /// When the driver began to wait for queued faults, holding the device's event-log lock; 0: it did not.
        pub drain_ns: u64,
        pub end_ns: u64,
        /// The driver's own counters as they were when the file went.
        pub counter_faults: u64,
        pub counter_failures: u64,
        pub file: u32,
        /// Entries of this file that the driver marked, so that they are never served.
        pub skipped: u32,
    }

    /// Something that the driver did to a device, or said of it. What a field is for depends on [`what`](Self::what); the others are 0.
    pub struct DriverRecord: 208 {
        pub header: RecordHeader,
        /// When the command was given or the reset began.
        pub start_ns: u64,
        /// The thread that it happened on.
        pub comm: [u8; 16],
        pub tgid: u32,
        pub tid: u32,
        pub device: u16,
        pub device_type: u8,
        /// One of [`driver`].
        pub what: u8,
        /// After a reset, `idxd_device.state`: -1 halted, 0 disabled, 1 enabled.
        pub state: i32,
        /// Of a command: CMD's code and operand, and CMDSTATUS.
        pub command: u32,
        pub operand: u32,
        pub status: u32,
        /// Of a command: one of [`during`].
        pub during: u8,
        /// 1: the command enabled a WQ, and the next fields are what that WQ has been configured with.
        pub wq_known: u8,
        pub wq: u16,
        /// `idxd_wq.flags`, see [`wq_flag`].
        pub wq_flags: u64,
        /// `idxd_wq.type`: 0 none, 1 kernel, 2 user.
        pub wq_type: u32,
        pub wq_size: u32,
        pub wq_threshold: u32,
        pub wq_priority: u32,
        /// Of a warning: its format, and the arguments that lie in registers.
        pub arguments: [u64; 4],
        pub text: [u8; 80],
    }

    /// The alternative to [`FaultRecord`], for measurement: one record a stage, joined on the user side.
    pub struct StageRecord: 64 {
        pub header: RecordHeader,
        pub context: ContextKey,
        pub work: u64,
        pub worker: u32,
        /// One of [`stage`].
        pub stage: u16,
        pub device_type: u8,
        pub reserved: u8,
        /// copy start: address; copy end: bytes done.
        pub value: u64,
        /// Stage queued: start of the interrupt thread's run; copy start: bytes asked.
        pub value2: u64,
    }

    /// A stage with bytes: queued (entry header, then logged record), copy start (delivered record, then zeros).
    pub struct StagePayload: 160 {
        pub stage: StageRecord,
        pub bytes: [u8; 96],
    }

    /// What the task iterator writes for each process that has a PASID.
    pub struct TaskPasid: 24 {
        pub tgid: u32,
        pub pasid: u32,
        pub comm: [u8; 16],
    }

    /// Exact totals of one open file, kept in the kernel whatever happens to the ring.
    pub struct Totals: 176 {
        pub tgid: u32,
        /// 1 when the file has gone.
        pub closed: u32,
        pub cgroup: u64,
        pub comm: [u8; 16],
        /// Faults whose service is known to have begun / ended. Both are counted when the service ends; what still waits is in the
        /// table of pending faults.
        pub queued: u64,
        pub served: u64,
        /// Of `served`: copied whole, cut short, not copied at all, copy not observable.
        pub delivered: u64,
        pub failed: u64,
        pub not_copied: u64,
        pub unobserved: u64,
        /// Entries that were marked at close and never served.
        pub skipped: u64,
        /// Of `served`, by error code 0x1a, 0x27, 0x26.
        pub cr_faults: u64,
        pub batch_faults: u64,
        pub drains: u64,
        /// Calls of the driver's counter function.
        pub counter_faults: u64,
        pub counter_failures: u64,
        /// The driver's own counters when the file went; valid when `closed`.
        pub driver_faults: u64,
        pub driver_failures: u64,
        /// Fault records that the ring did not take.
        pub records_lost: u64,
        pub service_ns_sum: u64,
        pub service_ns_max: u64,
        pub opened_files: u64,
    }
}

/// [`DriverRecord::what`].
pub mod driver {
    /// An administrative command ended.
    pub const COMMAND: u8 = 1;
    /// The driver found the device halted, and resets it with the command, by a function-level reset, or not at all.
    pub const HALT_SOFTWARE: u8 = 2;
    pub const HALT_FLR: u8 = 3;
    pub const HALT_FINAL: u8 = 4;
    /// A function-level reset ended, and the driver has configured the device again.
    pub const RESET: u8 = 5;
    /// The driver wrote a warning to the kernel's log.
    pub const WARNING: u8 = 6;
}

/// [`DriverRecord::during`]: what the command's thread was in.
pub mod during {
    pub const NOTHING: u8 = 0;
    pub const OPEN: u8 = 1;
    pub const RELEASE: u8 = 2;
}

/// Bit numbers of `idxd_wq.flags`.
pub mod wq_flag {
    pub const DEDICATED: u32 = 0;
    pub const BLOCK_ON_FAULT: u32 = 1;
    pub const ATS_DISABLE: u32 = 2;
    pub const PRS_DISABLE: u32 = 3;
}

/// [`StageRecord::stage`].
pub mod stage {
    pub const QUEUED: u16 = 1;
    pub const STARTED: u16 = 2;
    pub const COPY_START: u16 = 3;
    pub const COPY_END: u16 = 4;
    pub const DONE: u16 = 5;
}

/// Indices into the per-CPU counter array. `seen[k] == sent[k] + lost[k]` for every kind `k`.
pub mod counter {
    use super::kind;

    pub const SEEN: u32 = 0;
    pub const SENT: u32 = SEEN + kind::COUNT as u32;
    /// `LOST + 0` counts lost records of all kinds: [`super::RecordHeader::lost`].
    pub const LOST: u32 = SENT + kind::COUNT as u32;
    pub const HOLE: u32 = LOST + kind::COUNT as u32;
    pub const HIT: u32 = HOLE + super::hole::COUNT as u32;
    /// Faults put into the table of those that wait for their worker / taken out of it.
    pub const PUT: u32 = HIT + super::hook::COUNT as u32;
    pub const TAKEN: u32 = PUT + 1;
    /// Faults put into the table of those in service / taken out of it.
    pub const STARTED: u32 = TAKEN + 1;
    pub const ENDED: u32 = STARTED + 1;
    pub const COUNT: u32 = ENDED + 1;
}

/// Holes: what a program could not follow, counted each by its kind. None of them loses a total.
pub mod hole {
    /// The pending map was full: the fault has no queueing time.
    pub const PENDING_FULL: u32 = 0;
    /// The map of faults in service was full: the fault has a total, no record.
    pub const ACTIVE_FULL: u32 = 1;
    /// A worker started a fault before the end of its last was seen.
    pub const END_MISSING: u32 = 2;
    /// A fault started whose queueing was not seen: by `PENDING_FULL`, or because it was queued before attaching.
    pub const QUEUE_MISSING: u32 = 3;
    /// A service ended whose start was not seen.
    pub const START_MISSING: u32 = 4;
    /// The totals map was full: counted under the context with all bits set.
    pub const TOTALS_FULL: u32 = 5;
    /// Kernel memory could not be read.
    pub const READ_FAILED: u32 = 6;
    /// The map of running interrupt threads, opens or releases was full.
    pub const TASK_FULL: u32 = 7;
    /// The map of submitted descriptors' counts was full: counted under [`super::OTHER_SUBMITTED`].
    pub const SUBMITTED_FULL: u32 = 8;
    /// A descriptor could not be read where it was submitted.
    pub const DESCRIPTOR_UNREAD: u32 = 9;
    /// A submission has no stack: the map of stacks had another in its place, or there are no frames.
    pub const STACK_MISSING: u32 = 10;
    pub const COUNT: usize = 16;
    pub const NAMES: [&str; COUNT] = [
        "pending_full",
        "active_full",
        "end_missing",
        "queue_missing",
        "start_missing",
        "totals_full",
        "read_failed",
        "task_full",
        "submitted_full",
        "descriptor_unread",
        "stack_missing",
        "",
        "",
        "",
        "",
        "",
    ];
}

/// Hooks: what is observed, however it is attached. Index of the hit counters and of the verdicts.
pub mod hook {
    pub const QUEUED: u32 = 0;
    pub const SERVICE_START: u32 = 1;
    pub const SERVICE_END: u32 = 2;
    pub const COPY_START: u32 = 3;
    pub const COPY_END: u32 = 4;
    pub const INTERRUPT_START: u32 = 5;
    pub const INTERRUPT_END: u32 = 6;
    pub const COUNTER: u32 = 7;
    pub const OPEN_START: u32 = 8;
    pub const OPEN_END: u32 = 9;
    pub const RELEASE_START: u32 = 10;
    pub const RELEASE_DRAIN: u32 = 11;
    pub const RELEASE_COUNTERS: u32 = 12;
    pub const RELEASE_END: u32 = 13;
    pub const PAGE_REQUEST: u32 = 14;
    pub const PAGE_RESPONSE: u32 = 15;
    pub const COMMAND_START: u32 = 16;
    pub const COMMAND_END: u32 = 17;
    pub const HALT_SOFTWARE: u32 = 18;
    pub const HALT_FLR: u32 = 19;
    pub const HALT_FINAL: u32 = 20;
    pub const RESET_START: u32 = 21;
    pub const RESET_END: u32 = 22;
    pub const WARNING: u32 = 23;
    pub const SUBMISSION: u32 = 24;
    pub const REFUSAL: u32 = 25;
    pub const SEEN: u32 = 26;
    pub const WRITE_START: u32 = 27;
    pub const WRITE_END: u32 = 28;
    pub const COUNT: usize = 32;
}

/// Names of maps and of the globals that are not offsets.
pub mod name {
    pub const RING: &str = "EVENTS";
    pub const COUNTERS: &str = "COUNTERS";
    pub const TOTALS: &str = "TOTALS";
    pub const PENDING_MORE: &str = "PENDING_MORE";
    pub const PENDING_BUCKETS: &str = "PENDING_BUCKETS";
    pub const ACTIVE_BUCKETS: &str = "ACTIVE_BUCKETS";
    pub const SESSIONS: &str = "SESSIONS";
    pub const OPENING: &str = "OPENING";
    /// u32 to u32: a device's number by its requester (bus, device, function).
    pub const REQUESTERS: &str = "REQUESTERS";
    pub const RELEASING: &str = "RELEASING";
    pub const INTERRUPTS: &str = "INTERRUPTS";
    pub const SUBMITTED: &str = "SUBMITTED";
    pub const STACKS: &str = "STACKS";
    pub const TRIES: &str = "TRIES";
    pub const WRITING: &str = "WRITING";
    /// aya-log's ring.
    pub const LOG: &str = "AYA_LOGS";
    /// u64: address of `idxd_evl_fault_work`; a queued work is ours when its function is this.
    pub const WORK_FUNCTION: &str = "WORK_FUNCTION";
    /// u64, a power of two minus one: wake the reader when a CPU has sent so many records of a kind; it also looks on a timer.
    pub const WAKE_MASK: &str = "WAKE_MASK";
    /// u32: 1 sends a record a stage instead of one a fault.
    pub const STAGES: &str = "STAGES";
    /// u32: 1 when no program observes the copy.
    pub const COPY_UNOBSERVED: &str = "COPY_UNOBSERVED";
    /// u32, a power of two: one submission in so many is told of.
    pub const SUBMISSION_SAMPLE: &str = "SUBMISSION_SAMPLE";
    /// u32: so many descriptors of a batch's list are told of.
    pub const ELEMENTS_TOLD: &str = "ELEMENTS_TOLD";
    /// u32: 1 logs through aya-log.
    pub const VERBOSE: &str = "VERBOSE";
}

/// The context under which totals are kept when the totals map is full.
pub const OTHER_CONTEXT: ContextKey =
    ContextKey { opened_ns: u64::MAX, pasid: u32::MAX, device: u16::MAX, wq: u16::MAX };

/// The key under which submissions are counted when their map is full.
pub const OTHER_SUBMITTED: SubmittedKey =
    SubmittedKey { place: u64::MAX, tgid: u32::MAX, opcode: u8::MAX, how: u8::MAX, reserved: u16::MAX };

/// Calls `$m!` with every struct offset that the programs need, as `GLOBAL = "struct", "member.path";`. The loader reads each from
/// the BTF of vmlinux or of the idxd module and sets the u32 global of that name. Nothing else knows an offset.
#[macro_export]
macro_rules! for_each_offset {
    ($m:ident) => {
        $m! {
            WORK_FUNC = "work_struct", "func";
            FAULT_WORK = "idxd_evl_fault", "work";
            FAULT_WQ = "idxd_evl_fault", "wq";
            FAULT_ENTRY = "idxd_evl_fault", "entry";
            WQ_IDXD = "idxd_wq", "idxd";
            WQ_ID = "idxd_wq", "id";
            WQ_UPASID_XA = "idxd_wq", "upasid_xa";
            DEVICE_ID = "idxd_device", "id";
            DEVICE_DATA = "idxd_device", "data";
            DEVICE_IE = "idxd_device", "ie";
            DEVICE_EVL = "idxd_device", "evl";
            DEVICE_SW_ERR = "idxd_device", "sw_err";
            DATA_TYPE = "idxd_driver_data", "type";
            EVL_LOG = "idxd_evl", "log";
            EVL_SIZE = "idxd_evl", "size";
            EVL_BMAP = "idxd_evl", "bmap";
            CTX_WQ = "idxd_user_context", "wq";
            CTX_PASID = "idxd_user_context", "pasid";
            CTX_MM = "idxd_user_context", "mm";
            CTX_PID = "idxd_user_context", "pid";
            CTX_ID = "idxd_user_context", "id";
            CTX_COUNTERS = "idxd_user_context", "counters";
            CTX_DEVICE = "idxd_user_context", "idxd_dev.conf_dev";
            FILE_PRIVATE_DATA = "file", "private_data";
            XARRAY_HEAD = "xarray", "xa_head";
            XA_NODE_SHIFT = "xa_node", "shift";
            XA_NODE_SLOTS = "xa_node", "slots";
            MM_OWNER = "mm_struct", "owner";
            TASK_TGID = "task_struct", "tgid";
            TASK_PID = "task_struct", "pid";
            TASK_MM = "task_struct", "mm";
            MM_IOMMU_MM = "mm_struct", "iommu_mm";
            IOMMU_MM_PASID = "iommu_mm_data", "pasid";
            TASK_GROUP_LEADER = "task_struct", "group_leader";
            TASK_COMM = "task_struct", "comm";
            TP_QUEUE_WORK = "trace_event_raw_workqueue_queue_work", "work";
            TP_QUEUE_FUNCTION = "trace_event_raw_workqueue_queue_work", "function";
            TP_START_WORK = "trace_event_raw_workqueue_execute_start", "work";
            TP_START_FUNCTION = "trace_event_raw_workqueue_execute_start", "function";
            TP_END_FUNCTION = "trace_event_raw_workqueue_execute_end", "function";
            DEVICE_STATE = "idxd_device", "state";
            DEVICE_CMD_STATUS = "idxd_device", "cmd_status";
            DEVICE_PDEV = "idxd_device", "pdev";
            DEVICE_WORK = "idxd_device", "work";
            DEVICE_WQS = "idxd_device", "wqs";
            WQ_TYPE = "idxd_wq", "type";
            WQ_FLAGS = "idxd_wq", "flags";
            WQ_SIZE = "idxd_wq", "size";
            WQ_THRESHOLD = "idxd_wq", "threshold";
            WQ_PRIORITY = "idxd_wq", "priority";
            PCI_DEV = "pci_dev", "dev";
            DEV_DRIVER = "device", "driver";
            DEV_DRIVER_DATA = "device", "driver_data";
            DRIVER_NAME = "device_driver", "name";
            TP_PRQ_DW0 = "trace_event_raw_prq_report", "dw0";
            TP_PRQ_DW1 = "trace_event_raw_prq_report", "dw1";
            TP_QI_QW0 = "trace_event_raw_qi_submit", "qw0";
            TP_QI_QW1 = "trace_event_raw_qi_submit", "qw1";
        }
    };
}

//! BAR0 registers (offsets in bytes) and their bits, WQCFG, portals (BAR2), administrative commands.

/// 32 bits: [`VERSION_1`], [`VERSION_2`], [`VERSION_3`].
pub const VERSION: u64 = 0x00;
pub const VERSION_1: u32 = 0x100;
pub const VERSION_2: u32 = 0x200;
pub const VERSION_3: u32 = 0x300;

/// 64 bits, see [`gencap`].
pub const GENCAP: u64 = 0x10;
pub const WQCAP: u64 = 0x20;
pub const GRPCAP: u64 = 0x30;
pub const ENGCAP: u64 = 0x38;
/// 256 bits, one an opcode.
pub const OPCAP: u64 = 0x40;
/// 128 bits: five u16 in units of 0x100: GRPCFG, WQCFG, MSIXPERM, IMS, PERFMON.
pub const TABLE_OFFSETS: u64 = 0x60;
pub const GENCFG: u64 = 0x80;
pub const GENCTRL: u64 = 0x88;
pub const GENSTATS: u64 = 0x90;
/// Write 1 to clear.
pub const INTCAUSE: u64 = 0x98;
pub const CMD: u64 = 0xa0;
pub const CMDSTATUS: u64 = 0xa8;
pub const CMDCAP: u64 = 0xb0;
/// 256 bits.
pub const SWERROR: u64 = 0xc0;
/// [0] pasid_en, [1] priv, [63:12] base.
pub const EVLCFG: u64 = 0xe0;
/// [15:0] size in entries, [35:16] pasid.
pub const EVLCFG_SIZE: u64 = 0xe8;
/// [15:0] head (software), [47:32] tail (hardware), [62] interrupt pending (write 1 to clear).
pub const EVLSTATUS: u64 = 0xf0;
pub const IAACAP: u64 = 0x180;

pub mod gencap {
    pub const BLOCK_ON_FAULT: u64 = 1 << 0;
    pub const OVERLAPPING_COPY: u64 = 1 << 1;
    pub const CACHE_CONTROL_MEMORY: u64 = 1 << 2;
    pub const CACHE_CONTROL_FLUSH: u64 = 1 << 3;
    pub const CMDCAP_PRESENT: u64 = 1 << 4;
    pub const DESTINATION_READBACK: u64 = 1 << 8;
    pub const DRAIN_READBACK: u64 = 1 << 9;
    /// Bits [14:13]: 0 no event log, else an entry has `32 << code` bytes.
    pub const EVENT_LOG_SHIFT: u32 = 13;
    pub const BATCH_CONTINUATION: u64 = 1 << 15;
    /// Bits [20:16].
    pub const MAX_TRANSFER_LOG2_SHIFT: u32 = 16;
    /// Bits [24:21].
    pub const MAX_BATCH_LOG2_SHIFT: u32 = 21;
    pub const CONFIGURABLE: u64 = 1 << 31;
}

pub mod wqcap {
    /// [15:0] total entries, [23:16] WQs, [27:24] size code: a WQCFG has `1 << (5 + code)` bytes.
    pub const WQS_SHIFT: u32 = 16;
    pub const SIZE_CODE_SHIFT: u32 = 24;
    pub const SHARED: u64 = 1 << 48;
    pub const DEDICATED: u64 = 1 << 49;
    pub const ATS_CONTROL: u64 = 1 << 50;
    pub const PRIORITY: u64 = 1 << 51;
    pub const OCCUPANCY: u64 = 1 << 52;
    pub const OCCUPANCY_INTERRUPT: u64 = 1 << 53;
    pub const OP_CONFIG: u64 = 1 << 54;
    pub const PRS_CONTROL: u64 = 1 << 55;
}

pub mod gencfg {
    pub const USER_INTERRUPT_ENABLE: u32 = 1 << 12;
    pub const EVENT_LOG_ENABLE: u32 = 1 << 13;
}

pub mod genctrl {
    pub const SOFTWARE_ERROR_INTERRUPT: u32 = 1 << 0;
    pub const HALT_INTERRUPT: u32 = 1 << 1;
    pub const EVENT_LOG_INTERRUPT: u32 = 1 << 2;
}

pub mod genstats {
    /// Bits [1:0].
    pub const DISABLED: u32 = 0;
    pub const ENABLED: u32 = 1;
    pub const DRAIN: u32 = 2;
    pub const HALT: u32 = 3;
    pub const STATE_MASK: u32 = 3;
    /// Bits [3:2]: 0 software, 1 FLR, 2 warm, 3 cold.
    pub const RESET_TYPE_SHIFT: u32 = 2;
}

pub mod intcause {
    pub const SOFTWARE_ERROR: u32 = 0x1;
    pub const COMMAND: u32 = 0x2;
    pub const OCCUPANCY: u32 = 0x4;
    pub const PERFMON: u32 = 0x8;
    pub const HALT: u32 = 0x10;
    pub const EVENT_LOG: u32 = 0x20;
    pub const INT_HANDLE_REVOKED: u32 = 0x8000_0000;
}

pub mod evlstatus {
    pub const INTERRUPT_PENDING: u64 = 1 << 62;
    pub const TAIL_SHIFT: u32 = 32;
    /// Ring sizes the driver accepts, in entries; one slot always stays empty.
    pub const MIN_SIZE: u32 = 64;
    pub const MAX_SIZE: u32 = 65535;
}

/// Administrative commands: CMD [24:20]; operand in [19:0]; bit 31 asks for an interrupt.
pub mod command {
    pub const ENABLE_DEVICE: u32 = 1;
    pub const DISABLE_DEVICE: u32 = 2;
    pub const DRAIN_ALL: u32 = 3;
    pub const ABORT_ALL: u32 = 4;
    pub const RESET_DEVICE: u32 = 5;
    /// Operand: WQ index.
    pub const ENABLE_WQ: u32 = 6;
    /// Operand of 7 to 10: bit (index mod 16) in [15:0], index / 16 in [19:16].
    pub const DISABLE_WQ: u32 = 7;
    pub const DRAIN_WQ: u32 = 8;
    pub const ABORT_WQ: u32 = 9;
    pub const RESET_WQ: u32 = 10;
    /// Operand: PASID.
    pub const DRAIN_PASID: u32 = 11;
    pub const ABORT_PASID: u32 = 12;
    pub const REQUEST_INT_HANDLE: u32 = 13;
    pub const RELEASE_INT_HANDLE: u32 = 14;

    pub const OPERAND_MASK: u32 = 0xf_ffff;
    pub const CODE_SHIFT: u32 = 20;
    pub const INTERRUPT: u32 = 1 << 31;
}

/// CMDSTATUS [7:0].
pub mod cmdstatus {
    pub const OK: u32 = 0;
    pub const INVALID_COMMAND: u32 = 1;
    pub const INVALID_WQ: u32 = 2;
    pub const HARDWARE: u32 = 3;
    pub const DEVICE_ENABLED: u32 = 0x10;
    pub const DEVICE_CONFIG: u32 = 0x11;
    pub const BUS_MASTER: u32 = 0x12;
    pub const DEVICE_PASID: u32 = 0x13;
    pub const WQ_SIZES: u32 = 0x14;
    pub const GROUP_CONFIG: u32 = 0x15;
    pub const DEVICE_NOT_ENABLED: u32 = 0x20;
    pub const WQ_ENABLED: u32 = 0x21;
    pub const WQ_SIZE: u32 = 0x22;
    pub const WQ_PRIORITY: u32 = 0x23;
    pub const WQ_MODE: u32 = 0x24;
    pub const WQ_BLOCK_ON_FAULT: u32 = 0x25;
    pub const WQ_PASID_ENABLE: u32 = 0x26;
    pub const WQ_MAX_BATCH: u32 = 0x27;
    pub const WQ_MAX_TRANSFER: u32 = 0x28;
    pub const DEVICE_NOT_ENABLED_DISABLE: u32 = 0x31;
    pub const WQ_NOT_ENABLED: u32 = 0x32;
    pub const ACTIVE: u32 = 1 << 31;
}

/// One WQCFG: dword indices and their bits.
pub mod wqcfg {
    /// Dword 0 [15:0] size; dword 1 [15:0] threshold.
    pub const SIZE: usize = 0;
    pub const THRESHOLD: usize = 1;
    pub const MODE: usize = 2;
    pub const LIMITS: usize = 3;
    /// Dword 6: [15:0] occupancy, 29 mode support, [31:30] WQ state.
    pub const STATE: usize = 6;

    pub const MODE_DEDICATED: u32 = 1 << 0;
    pub const MODE_BLOCK_ON_FAULT: u32 = 1 << 1;
    pub const MODE_ATS_DISABLE: u32 = 1 << 2;
    pub const MODE_PRS_DISABLE: u32 = 1 << 3;
    /// Bits [7:4].
    pub const MODE_PRIORITY_SHIFT: u32 = 4;
    /// Bits [27:8].
    pub const MODE_PASID_SHIFT: u32 = 8;
    pub const MODE_PASID_ENABLE: u32 = 1 << 28;
    pub const MODE_PRIV: u32 = 1 << 29;
    /// Dword 3: [4:0] log2 max transfer, [8:5] log2 max batch.
    pub const LIMITS_BATCH_SHIFT: u32 = 5;
    pub const STATE_SHIFT: u32 = 30;
    pub const STATE_DISABLED: u32 = 0;
    pub const STATE_ENABLED: u32 = 1;
    pub const STATE_BUSY: u32 = 2;
    pub const MODE_SUPPORT: u32 = 1 << 29;
}

/// One GRPCFG: 64 bytes, byte offsets.
pub mod grpcfg {
    /// Four u64 of WQ bits.
    pub const WQS: u64 = 0;
    /// One u64 of engine bits.
    pub const ENGINES: u64 = 32;
    pub const FLAGS: u64 = 40;
    pub const BYTES: u64 = 64;
}

/// BAR2: each WQ has four pages.
pub mod portal {
    pub const WQ_SPAN: u64 = 0x4000;
    pub const PAGE: u64 = 0x1000;
    pub const UNLIMITED_MSIX: u64 = 0x0000;
    /// The only page that Linux maps.
    pub const LIMITED_MSIX: u64 = 0x1000;
    pub const SLOT: u64 = 64;
}

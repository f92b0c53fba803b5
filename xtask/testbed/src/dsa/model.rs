//! What kind of device it is: identity, capabilities, sizes. IAA differs from DSA here and in its operations only.

use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::regs::{gencap, wqcap};
use dsascope_common::hw::{DEVICE_DSA_SPR0, DEVICE_IAX_SPR0, completion, event_log};
use serde::{Deserialize, Serialize};

pub const WQS: usize = 8;
pub const GROUPS: usize = 4;
pub const ENGINES: usize = 4;
/// Entries that all WQs share.
pub const TOTAL_ENTRIES: u32 = 128;
/// MSI-X vectors: one for the device, one a WQ.
pub const VECTORS: u16 = 1 + WQS as u16;
pub(super) const MAX_TRANSFER_LOG2: u32 = 31;
pub(super) const MAX_BATCH_LOG2: u32 = 10;
const READ_BUFFERS: u64 = 96;
/// WQCFG has `32 << code` bytes: 64, because there is an operation mask.
const WQCFG_SIZE_CODE: u64 = 1;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Dsa,
    Iax,
}

impl Kind {
    #[must_use]
    pub const fn pci_device(self) -> u16 {
        match self {
            Self::Dsa => DEVICE_DSA_SPR0,
            Self::Iax => DEVICE_IAX_SPR0,
        }
    }

    /// Prefix of the name that the driver gives the device.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Dsa => "dsa",
            Self::Iax => "iax",
        }
    }

    /// GENCAP [14:13]; an event-log entry has `32 << code` bytes.
    const fn event_log_code(self) -> u64 {
        match self {
            Self::Dsa => 1,
            Self::Iax => 2,
        }
    }

    #[must_use]
    pub const fn entry_bytes(self) -> usize {
        match self {
            Self::Dsa => event_log::DSA_ENTRY_BYTES,
            Self::Iax => event_log::IAX_ENTRY_BYTES,
        }
    }

    /// Bytes from an event-log entry's start to its completion record.
    #[must_use]
    pub const fn cr_offset(self) -> usize {
        match self {
            Self::Dsa => event_log::DSA_CR_OFFSET,
            Self::Iax => event_log::IAX_CR_OFFSET,
        }
    }

    /// Size of a completion record, and its alignment.
    #[must_use]
    pub const fn cr_bytes(self) -> usize {
        match self {
            Self::Dsa => completion::DSA_BYTES,
            Self::Iax => completion::IAX_BYTES,
        }
    }

    /// Operations that are executed; the others are refused as bad opcodes and missing in OPCAP.
    #[must_use]
    pub const fn operations(self) -> &'static [u8] {
        match self {
            Self::Dsa => &[
                opcode::NOOP,
                opcode::BATCH,
                opcode::DRAIN,
                opcode::MEMMOVE,
                opcode::MEMFILL,
                opcode::COMPARE,
                opcode::COMPVAL,
                opcode::CR_DELTA,
                opcode::AP_DELTA,
                opcode::DUALCAST,
                opcode::TRANSL_FETCH,
                opcode::CRCGEN,
                opcode::COPY_CRC,
                opcode::DIF_CHECK,
                opcode::DIF_INS,
                opcode::DIF_STRP,
                opcode::DIF_UPDT,
                opcode::DIX_GEN,
                opcode::CFLUSH,
            ],
            Self::Iax => &[
                opcode::NOOP,
                opcode::DRAIN,
                opcode::MEMMOVE,
                opcode::IAX_DECOMPRESS,
                opcode::IAX_COMPRESS,
                opcode::IAX_CRC64,
            ],
        }
    }

    pub(super) fn gencap(self) -> u64 {
        let batch = match self {
            Self::Dsa => u64::from(MAX_BATCH_LOG2),
            Self::Iax => 0,
        };
        gencap::BLOCK_ON_FAULT
            | gencap::OVERLAPPING_COPY
            | gencap::CACHE_CONTROL_MEMORY
            | gencap::CACHE_CONTROL_FLUSH
            | gencap::CMDCAP_PRESENT
            | gencap::DESTINATION_READBACK
            | gencap::DRAIN_READBACK
            | self.event_log_code() << gencap::EVENT_LOG_SHIFT
            | u64::from(MAX_TRANSFER_LOG2) << gencap::MAX_TRANSFER_LOG2_SHIFT
            | batch << gencap::MAX_BATCH_LOG2_SHIFT
            | gencap::CONFIGURABLE
    }

    pub(super) fn wqcap(self) -> u64 {
        u64::from(TOTAL_ENTRIES)
            | (WQS as u64) << wqcap::WQS_SHIFT
            | WQCFG_SIZE_CODE << wqcap::SIZE_CODE_SHIFT
            | wqcap::SHARED
            | wqcap::DEDICATED
            | wqcap::ATS_CONTROL
            | wqcap::PRIORITY
            | wqcap::OCCUPANCY
            | wqcap::OP_CONFIG
            | wqcap::PRS_CONTROL
    }

    pub(super) fn grpcap(self) -> u64 {
        GROUPS as u64 | READ_BUFFERS << 8 | 1 << 16 | 1 << 17
    }

    /// Bit `n` of the 256: operation `n` is executed.
    pub(super) fn opcap(self) -> [u64; 4] {
        let mut words = [0; 4];
        for op in self.operations() {
            words[usize::from(op >> 6)] |= 1 << (op & 63);
        }
        words
    }
}

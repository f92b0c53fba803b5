//! Completion records: DSA 32 bytes, IAA 64 bytes; status codes.

use super::operation::Tags;

pub const DSA_BYTES: usize = 32;
pub const IAX_BYTES: usize = 64;

/// Low seven bits of byte 0 hold the status; bit 7 says that the fault was a write.
pub const STATUS_MASK: u8 = 0x7f;
pub const STATUS_WRITE_FAULT: u8 = 0x80;

/// A DSA completion record.
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(32))]
pub struct DsaCompletion {
    pub status: u8,
    pub result: u8,
    pub fault_info: u8,
    pub reserved: u8,
    /// Bytes, or a batch's completed descriptors.
    pub bytes_completed: u32,
    pub fault_addr: u64,
    pub operation_specific: [u64; 2],
}

impl DsaCompletion {
    /// With status INVALID_FLAGS.
    #[must_use]
    pub const fn invalid_flags(&self) -> u32 {
        self.operation_specific[0] as u32 & 0xff_ffff
    }
    #[must_use]
    pub const fn delta_record_bytes(&self) -> u32 {
        self.operation_specific[0] as u32
    }
    #[must_use]
    pub const fn crc(&self) -> u32 {
        self.operation_specific[0] as u32
    }
    /// DIF operations that read a DIF: the tags expected next.
    #[must_use]
    pub const fn source_tags(&self) -> Tags {
        Tags::from_word(self.operation_specific[0])
    }
    /// DIF operations that write a DIF: the tags written next.
    #[must_use]
    pub const fn destination_tags(&self) -> Tags {
        Tags::from_word(self.operation_specific[1])
    }
}

const _: () = assert!(size_of::<DsaCompletion>() == DSA_BYTES);

/// An IAA completion record.
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct IaxCompletion {
    pub status: u8,
    pub error_code: u8,
    pub fault_info: u8,
    pub reserved: u8,
    pub bytes_completed: u32,
    pub fault_addr: u64,
    pub invalid_flags: u32,
    pub reserved2: u32,
    pub output_bytes: u32,
    /// Bits used of the last byte, 0 for all eight.
    pub output_bits: u8,
    pub reserved3: u8,
    pub xor_checksum: u16,
    /// After CRC64: the low half, and the high half follows.
    pub crc: u32,
    pub min: u32,
    pub max: u32,
    pub sum: u32,
    pub reserved4: [u64; 2],
}

impl IaxCompletion {
    #[must_use]
    pub const fn crc64(&self) -> u64 {
        self.crc as u64 | (self.min as u64) << 32
    }
}

const _: () = assert!(size_of::<IaxCompletion>() == IAX_BYTES);

/// Status codes of DSA and IAA, and the names the kernel's uapi gives them (prefix DSA_COMP_ or IAX_COMP_).
pub mod status {
    pub const NONE: u8 = 0x00;
    pub const SUCCESS: u8 = 0x01;
    pub const SUCCESS_PRED: u8 = 0x02;
    pub const PAGE_FAULT_NOBOF: u8 = 0x03;
    pub const PAGE_FAULT_IR: u8 = 0x04;
    pub const BATCH_FAIL: u8 = 0x05;
    pub const BATCH_PAGE_FAULT: u8 = 0x06;
    pub const DR_OFFSET_NOINC: u8 = 0x07;
    pub const DR_OFFSET_ERANGE: u8 = 0x08;
    pub const DIF_ERR: u8 = 0x09;
    pub const IAX_ANALYTICS_ERROR: u8 = 0x0a;
    pub const IAX_OUTBUF_OVERFLOW: u8 = 0x0b;
    pub const BAD_OPCODE: u8 = 0x10;
    pub const INVALID_FLAGS: u8 = 0x11;
    pub const NOZERO_RESERVE: u8 = 0x12;
    pub const XFER_ERANGE: u8 = 0x13;
    pub const DESC_CNT_ERANGE: u8 = 0x14;
    pub const DR_ERANGE: u8 = 0x15;
    pub const OVERLAP_BUFFERS: u8 = 0x16;
    pub const DCAST_ERR: u8 = 0x17;
    pub const DESCLIST_ALIGN: u8 = 0x18;
    pub const INT_HANDLE_INVAL: u8 = 0x19;
    pub const CRA_XLAT: u8 = 0x1a;
    pub const CRA_ALIGN: u8 = 0x1b;
    pub const ADDR_ALIGN: u8 = 0x1c;
    pub const PRIV_BAD: u8 = 0x1d;
    pub const TRAFFIC_CLASS_CONF: u8 = 0x1e;
    pub const PFAULT_RDBA: u8 = 0x1f;
    pub const HW_ERR1: u8 = 0x20;
    pub const HW_ERR_DRB: u8 = 0x21;
    pub const TRANSLATION_FAIL: u8 = 0x22;
    pub const IAX_PRS_TIMEOUT: u8 = 0x23;
    pub const IAX_WATCHDOG: u8 = 0x24;
    pub const DRAIN_EVL: u8 = 0x26;
    pub const BATCH_EVL_ERR: u8 = 0x27;
    pub const IAX_INVALID_COMP_FLAG: u8 = 0x30;
    pub const IAX_INVALID_FILTER_FLAG: u8 = 0x31;

    /// Name of a DSA status, without its DSA_COMP_ prefix; the fault's write bit is ignored.
    #[must_use]
    pub const fn dsa_name(code: u8) -> Option<&'static str> {
        Some(match code & super::STATUS_MASK {
            NONE => "NONE",
            SUCCESS => "SUCCESS",
            SUCCESS_PRED => "SUCCESS_PRED",
            PAGE_FAULT_NOBOF => "PAGE_FAULT_NOBOF",
            PAGE_FAULT_IR => "PAGE_FAULT_IR",
            BATCH_FAIL => "BATCH_FAIL",
            BATCH_PAGE_FAULT => "BATCH_PAGE_FAULT",
            DR_OFFSET_NOINC => "DR_OFFSET_NOINC",
            DR_OFFSET_ERANGE => "DR_OFFSET_ERANGE",
            DIF_ERR => "DIF_ERR",
            BAD_OPCODE => "BAD_OPCODE",
            INVALID_FLAGS => "INVALID_FLAGS",
            NOZERO_RESERVE => "NOZERO_RESERVE",
            XFER_ERANGE => "XFER_ERANGE",
            DESC_CNT_ERANGE => "DESC_CNT_ERANGE",
            DR_ERANGE => "DR_ERANGE",
            OVERLAP_BUFFERS => "OVERLAP_BUFFERS",
            DCAST_ERR => "DCAST_ERR",
            DESCLIST_ALIGN => "DESCLIST_ALIGN",
            INT_HANDLE_INVAL => "INT_HANDLE_INVAL",
            CRA_XLAT => "CRA_XLAT",
            CRA_ALIGN => "CRA_ALIGN",
            ADDR_ALIGN => "ADDR_ALIGN",
            PRIV_BAD => "PRIV_BAD",
            TRAFFIC_CLASS_CONF => "TRAFFIC_CLASS_CONF",
            PFAULT_RDBA => "PFAULT_RDBA",
            HW_ERR1 => "HW_ERR1",
            HW_ERR_DRB => "HW_ERR_DRB",
            TRANSLATION_FAIL => "TRANSLATION_FAIL",
            DRAIN_EVL => "DRAIN_EVL",
            BATCH_EVL_ERR => "BATCH_EVL_ERR",
            _ => return None,
        })
    }

    /// Name of an IAA status, without its IAX_COMP_ prefix. 0x03 is not in the uapi enum, but the device reports it.
    #[must_use]
    pub const fn iax_name(code: u8) -> Option<&'static str> {
        Some(match code & super::STATUS_MASK {
            NONE => "NONE",
            SUCCESS => "SUCCESS",
            PAGE_FAULT_NOBOF => "PAGE_FAULT_NOBOF",
            PAGE_FAULT_IR => "PAGE_FAULT_IR",
            IAX_ANALYTICS_ERROR => "ANALYTICS_ERROR",
            IAX_OUTBUF_OVERFLOW => "OUTBUF_OVERFLOW",
            BAD_OPCODE => "BAD_OPCODE",
            INVALID_FLAGS => "INVALID_FLAGS",
            NOZERO_RESERVE => "NOZERO_RESERVE",
            XFER_ERANGE => "INVALID_SIZE",
            OVERLAP_BUFFERS => "OVERLAP_BUFFERS",
            INT_HANDLE_INVAL => "INT_HANDLE_INVAL",
            CRA_XLAT => "CRA_XLAT",
            CRA_ALIGN => "CRA_ALIGN",
            ADDR_ALIGN => "ADDR_ALIGN",
            PRIV_BAD => "PRIV_BAD",
            TRAFFIC_CLASS_CONF => "TRAFFIC_CLASS_CONF",
            PFAULT_RDBA => "PFAULT_RDBA",
            HW_ERR1 => "HW_ERR1",
            HW_ERR_DRB => "HW_ERR_DRB",
            TRANSLATION_FAIL => "TRANSLATION_FAIL",
            IAX_PRS_TIMEOUT => "PRS_TIMEOUT",
            IAX_WATCHDOG => "WATCHDOG",
            DRAIN_EVL => "DRAIN_EVL",
            IAX_INVALID_COMP_FLAG => "INVALID_COMP_FLAG",
            IAX_INVALID_FILTER_FLAG => "INVALID_FILTER_FLAG",
            0x32 => "INVALID_INPUT_SIZE",
            0x33 => "INVALID_NUM_ELEMS",
            0x34 => "INVALID_SRC1_WIDTH",
            0x35 => "INVALID_INVERT_OUT",
            _ => return None,
        })
    }
}

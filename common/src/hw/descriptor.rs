//! Work descriptors: 64 bytes, 64-byte aligned. The first 32 bytes are common to DSA and IAA.

pub const BYTES: usize = 64;

/// Flags: 24 bits beside the opcode.
pub mod flags {
    pub const FENCE: u32 = 1 << 0;
    pub const BLOCK_ON_FAULT: u32 = 1 << 1;
    /// The completion record address is valid.
    pub const CRAV: u32 = 1 << 2;
    /// A completion record is requested whatever the outcome.
    pub const RCR: u32 = 1 << 3;
    /// A completion interrupt is requested.
    pub const RCI: u32 = 1 << 4;
    pub const CRSTS: u32 = 1 << 5;
    pub const CHECK_RESULT: u32 = 1 << 7;
    pub const CACHE_CONTROL: u32 = 1 << 8;
    pub const ADDR1_TC: u32 = 1 << 9;
    pub const ADDR2_TC: u32 = 1 << 10;
    pub const ADDR3_TC: u32 = 1 << 11;
    pub const CR_TC: u32 = 1 << 12;
    pub const STRICT_ORDER: u32 = 1 << 13;
    pub const DESTINATION_READBACK: u32 = 1 << 14;
    pub const DESTINATION_STEERING: u32 = 1 << 15;

    /// Name of each flag bit, lowest first; `None` is reserved.
    pub const NAMES: [Option<&str>; 24] = [
        Some("fence"),
        Some("block-on-fault"),
        Some("CR address valid"),
        Some("request CR"),
        Some("request interrupt"),
        Some("CR steering tag"),
        None,
        Some("check result"),
        Some("cache control"),
        Some("address 1 TC"),
        Some("address 2 TC"),
        Some("address 3 TC"),
        Some("CR TC"),
        Some("strict ordering"),
        Some("destination readback"),
        Some("destination steering tag"),
        Some("IAA read source 2 as AECS"),
        Some("IAA read source 2 as input"),
        Some("IAA write source 2 on completion"),
        Some("IAA write source 2 on overflow"),
        Some("IAA source 2 steering tag"),
        Some("IAA CRC RFC3720"),
        None,
        None,
    ];
}

/// Opcodes with their names, of DSA and of IAA.
pub mod opcode {
    pub const NOOP: u8 = 0x00;
    pub const BATCH: u8 = 0x01;
    pub const DRAIN: u8 = 0x02;
    pub const MEMMOVE: u8 = 0x03;
    pub const MEMFILL: u8 = 0x04;
    pub const COMPARE: u8 = 0x05;
    pub const COMPVAL: u8 = 0x06;
    pub const CR_DELTA: u8 = 0x07;
    pub const AP_DELTA: u8 = 0x08;
    pub const DUALCAST: u8 = 0x09;
    pub const TRANSL_FETCH: u8 = 0x0a;
    pub const CRCGEN: u8 = 0x10;
    pub const COPY_CRC: u8 = 0x11;
    pub const DIF_CHECK: u8 = 0x12;
    pub const DIF_INS: u8 = 0x13;
    pub const DIF_STRP: u8 = 0x14;
    pub const DIF_UPDT: u8 = 0x15;
    pub const DIX_GEN: u8 = 0x17;
    pub const CFLUSH: u8 = 0x20;

    pub const IAX_DECOMPRESS: u8 = 0x42;
    pub const IAX_COMPRESS: u8 = 0x43;
    pub const IAX_CRC64: u8 = 0x44;

    /// Name of a DSA opcode.
    #[must_use]
    pub const fn dsa_name(code: u8) -> Option<&'static str> {
        Some(match code {
            NOOP => "noop",
            BATCH => "batch",
            DRAIN => "drain",
            MEMMOVE => "memmove",
            MEMFILL => "memfill",
            COMPARE => "compare",
            COMPVAL => "compval",
            CR_DELTA => "cr_delta",
            AP_DELTA => "ap_delta",
            DUALCAST => "dualcast",
            TRANSL_FETCH => "transl_fetch",
            CRCGEN => "crcgen",
            COPY_CRC => "copy_crc",
            DIF_CHECK => "dif_check",
            DIF_INS => "dif_ins",
            DIF_STRP => "dif_strp",
            DIF_UPDT => "dif_updt",
            DIX_GEN => "dix_gen",
            CFLUSH => "cflush",
            _ => return None,
        })
    }

    /// Name of an IAA opcode.
    #[must_use]
    pub const fn iax_name(code: u8) -> Option<&'static str> {
        Some(match code {
            NOOP => "noop",
            DRAIN => "drain",
            MEMMOVE => "memmove",
            IAX_DECOMPRESS => "decompress",
            IAX_COMPRESS => "compress",
            IAX_CRC64 => "crc64",
            0x48 => "zero_decompress_32",
            0x49 => "zero_decompress_16",
            0x4c => "zero_compress_32",
            0x4d => "zero_compress_16",
            0x50 => "scan",
            0x51 => "set_membership",
            0x52 => "extract",
            0x53 => "select",
            0x54 => "rle_burst",
            0x55 => "find_unique",
            0x56 => "expand",
            _ => return None,
        })
    }
}

/// A DSA descriptor as it lies in memory.
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Descriptor {
    /// [19:0] PASID, 31 priv.
    pub pasid: u32,
    /// [23:0] flags, [31:24] opcode.
    pub flags_opcode: u32,
    pub completion_addr: u64,
    /// Source, pattern, or a batch's descriptor list.
    pub source: u64,
    pub destination: u64,
    /// Bytes, or a batch's descriptor count.
    pub transfer_size: u32,
    pub interrupt_handle: u16,
    pub reserved: u16,
    pub operation_specific: [u64; 3],
}

impl Descriptor {
    #[must_use]
    pub const fn flags(&self) -> u32 {
        self.flags_opcode & 0xff_ffff
    }
    #[must_use]
    pub const fn opcode(&self) -> u8 {
        (self.flags_opcode >> 24) as u8
    }
    /// The same descriptor with another opcode and flags.
    #[must_use]
    pub const fn with(mut self, opcode: u8, flags: u32) -> Self {
        self.flags_opcode = (opcode as u32) << 24 | (flags & 0xff_ffff);
        self
    }
}

const _: () = assert!(size_of::<Descriptor>() == BYTES);

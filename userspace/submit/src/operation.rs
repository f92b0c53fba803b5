//! The operations that may be asked for, each with operands and what must become of them.
//!
//! Owns: where operands lie and what is in them ([`Case`]), so that every result is known before anything is submitted; DSA's from
//! [`crate::reference`]. Pure. Refuses: addresses; a case begins at address 0 and is moved to where memory is.

use dsascope_common::hw::completion::{IaxCompletion, status};
use dsascope_common::hw::descriptor::{Descriptor, opcode};
use dsascope_common::hw::operation::{Crc, CreateDelta, Dif, Iax, Tags, delta, dif, iax};
use serde::{Deserialize, Serialize};

use crate::reference::{self, Expected};
use crate::{Access, DeviceKind, Operand, PAGE, operands, streams};

/// By the names that dsascope shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    Noop,
    Batch,
    Drain,
    Memmove,
    Memfill,
    Compare,
    Compval,
    CrDelta,
    ApDelta,
    Dualcast,
    TranslFetch,
    Crcgen,
    CopyCrc,
    DifCheck,
    DifIns,
    DifStrp,
    DifUpdt,
    DixGen,
    Cflush,
    Decompress,
    Compress,
    Crc64,
}

/// What a WQ transfers at most by its driver's default; a case's expected result is computed by simple means, in time that grows with it.
pub const MAX_TRANSFER_BYTES: u32 = 2 << 20;

/// Block of data that one DIF protects.
const BLOCK: usize = 512;
/// Every so many words the sources of a delta record differ.
const DIFFERING: usize = 16;
/// A delta record's room beyond what it needs: a resumed one needs 80 bytes at least.
const SPARE_BYTES: usize = 160;
const SEED: u32 = 0x1234_5678;
const PATTERN: u64 = 0x0123_4567_89ab_cdef;
const ECMA_182: u64 = 0x42f0_e1eb_a9ea_3693;

impl Operation {
    pub const ALL: [Self; 22] = [
        Self::Noop,
        Self::Batch,
        Self::Drain,
        Self::Memmove,
        Self::Memfill,
        Self::Compare,
        Self::Compval,
        Self::CrDelta,
        Self::ApDelta,
        Self::Dualcast,
        Self::TranslFetch,
        Self::Crcgen,
        Self::CopyCrc,
        Self::DifCheck,
        Self::DifIns,
        Self::DifStrp,
        Self::DifUpdt,
        Self::DixGen,
        Self::Cflush,
        Self::Decompress,
        Self::Compress,
        Self::Crc64,
    ];

    #[must_use]
    pub const fn opcode(self) -> u8 {
        match self {
            Self::Noop => opcode::NOOP,
            Self::Batch => opcode::BATCH,
            Self::Drain => opcode::DRAIN,
            Self::Memmove => opcode::MEMMOVE,
            Self::Memfill => opcode::MEMFILL,
            Self::Compare => opcode::COMPARE,
            Self::Compval => opcode::COMPVAL,
            Self::CrDelta => opcode::CR_DELTA,
            Self::ApDelta => opcode::AP_DELTA,
            Self::Dualcast => opcode::DUALCAST,
            Self::TranslFetch => opcode::TRANSL_FETCH,
            Self::Crcgen => opcode::CRCGEN,
            Self::CopyCrc => opcode::COPY_CRC,
            Self::DifCheck => opcode::DIF_CHECK,
            Self::DifIns => opcode::DIF_INS,
            Self::DifStrp => opcode::DIF_STRP,
            Self::DifUpdt => opcode::DIF_UPDT,
            Self::DixGen => opcode::DIX_GEN,
            Self::Cflush => opcode::CFLUSH,
            Self::Decompress => opcode::IAX_DECOMPRESS,
            Self::Compress => opcode::IAX_COMPRESS,
            Self::Crc64 => opcode::IAX_CRC64,
        }
    }

    /// Whether devices of that kind execute it.
    #[must_use]
    pub const fn is_of(self, kind: DeviceKind) -> bool {
        match kind {
            DeviceKind::Dsa => !matches!(self, Self::Decompress | Self::Compress | Self::Crc64),
            DeviceKind::Iaa => matches!(
                self,
                Self::Noop | Self::Drain | Self::Memmove | Self::Decompress | Self::Compress | Self::Crc64
            ),
        }
    }

    /// Whether it has operands, and so a transfer size.
    #[must_use]
    pub const fn has_operands(self) -> bool {
        !matches!(self, Self::Noop | Self::Drain | Self::Batch)
    }

    /// What a transfer size must be a multiple of; that of the DIF operations counts data alone.
    #[must_use]
    pub const fn unit_bytes(self) -> u32 {
        match self {
            Self::CrDelta | Self::ApDelta => 8,
            Self::DifCheck | Self::DifIns | Self::DifStrp | Self::DifUpdt | Self::DixGen => BLOCK as u32,
            _ => 1,
        }
    }

    #[must_use]
    pub const fn max_bytes(self) -> u32 {
        match self {
            Self::CrDelta | Self::ApDelta => delta::MAX_TRANSFER_BYTES,
            // With its DIFs it must not exceed the WQ's limit.
            Self::DifCheck | Self::DifIns | Self::DifStrp | Self::DifUpdt | Self::DixGen => 1 << 20,
            _ => MAX_TRANSFER_BYTES,
        }
    }

    #[must_use]
    pub fn accesses(self, access: Access) -> bool {
        let smallest = Case::new(self, self.unit_bytes());
        smallest.operands().iter().any(|operand| operand.access == access)
    }
}

/// One descriptor with its memory, and how it must end.
#[derive(Clone, Debug)]
pub struct Case {
    operation: Operation,
    descriptor: Descriptor,
    /// As the operation finds it, from address 0 on.
    pub memory: Vec<u8>,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
enum Outcome {
    Dsa {
        expected: Expected,
        after: Vec<u8>,
    },
    Crc64 {
        value: u64,
    },
    /// What comes out of the decompressor, or what must when the output is decompressed.
    Stream {
        data: Vec<u8>,
        crc: u32,
        compressed: bool,
    },
}

/// Puts operands side by side, each from a page's start.
#[derive(Default)]
struct Layout(Vec<u8>);

impl Layout {
    fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.0.len();
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(PAGE), 0);
        at as u64
    }
}

impl Case {
    /// `bytes` must be a multiple of the operation's unit. Batches have no case of their own: that of their elements.
    #[must_use]
    pub fn new(operation: Operation, bytes: u32) -> Self {
        match operation {
            Operation::Decompress | Operation::Compress | Operation::Crc64 => Self::iaa(operation, bytes),
            _ => Self::dsa(operation, bytes),
        }
    }

    fn dsa(operation: Operation, bytes: u32) -> Self {
        let size = bytes as usize;
        let mut d = Descriptor { transfer_size: bytes, ..Descriptor::default() };
        let mut memory = Layout::default();
        let data = noise(size, 1);
        let room = noise(size, 2);
        match operation {
            Operation::Noop | Operation::Drain | Operation::Batch => d.transfer_size = 0,
            Operation::Memmove => {
                d.source = memory.put(&data);
                d.destination = memory.put(&room);
            }
            Operation::Memfill => {
                d.source = PATTERN;
                d.destination = memory.put(&room);
            }
            Operation::Compare => {
                d.source = memory.put(&data);
                d.destination = memory.put(&data);
            }
            Operation::Compval => {
                let pattern = PATTERN.to_le_bytes();
                d.source = memory.put(&pattern.iter().copied().cycle().take(size).collect::<Vec<_>>());
                d.destination = PATTERN;
            }
            Operation::CrDelta => {
                let mut other = data.clone();
                let differing = other.chunks_mut(8).step_by(DIFFERING).map(|word| word[0] ^= 1).count();
                let record = differing * delta::ENTRY_BYTES as usize + SPARE_BYTES;
                d.source = memory.put(&data);
                d.destination = memory.put(&other);
                let record_addr = memory.put(&noise(record, 3));
                let max_record_bytes = record as u32;
                d.operation_specific =
                    CreateDelta { record_addr, max_record_bytes, expected_results: 0 }.words();
            }
            Operation::ApDelta => {
                let words = data.chunks(8).enumerate().step_by(DIFFERING);
                let entry = |(index, word): (usize, &[u8])| [&(index as u16).to_le_bytes(), word].concat();
                let record: Vec<u8> = words.flat_map(entry).collect();
                d.source = memory.put(&record);
                d.destination = memory.put(&room);
                d.operation_specific[0] = record.len() as u64;
            }
            Operation::Dualcast => {
                d.source = memory.put(&data);
                d.destination = memory.put(&room);
                d.operation_specific[0] = memory.put(&room);
            }
            Operation::TranslFetch => d.source = memory.put(&data),
            Operation::Cflush => d.destination = memory.put(&data),
            Operation::Crcgen | Operation::CopyCrc => {
                d.source = memory.put(&data);
                if operation == Operation::CopyCrc {
                    d.destination = memory.put(&room);
                }
                d.operation_specific = Crc { seed: SEED, seed_addr: 0 }.words();
            }
            _ => integrity(operation, &data, &mut d, &mut memory),
        }
        let d = d.with(operation.opcode(), 0);
        let Layout(memory) = memory;
        let mut after = memory.clone();
        let expected = reference::execute(&mut after, 0, &d);
        Self { operation, descriptor: d, memory, outcome: Outcome::Dsa { expected, after } }
    }

    fn iaa(operation: Operation, bytes: u32) -> Self {
        // Few values, so that there is something to compress.
        let data: Vec<u8> = noise(bytes as usize, 4).iter().map(|byte| byte & 0x0f | 0x60).collect();
        let mut memory = Layout::default();
        let mut d = Descriptor { transfer_size: bytes, ..Descriptor::default() };
        let reflected = iax::CRC64_REFLECT | iax::CRC64_INVERT;
        let mut read_aecs = 0;
        let outcome = match operation {
            Operation::Crc64 => {
                d.source = memory.put(&data);
                d.reserved = reflected;
                d.operation_specific[2] = ECMA_182;
                Outcome::Crc64 { value: reference::crc64(&data, ECMA_182, reflected) }
            }
            _ => {
                let compress = operation == Operation::Compress;
                // At most nine bits a byte, a header and an end.
                let room = if compress { data.len() * 9 / 8 + 64 } else { data.len() };
                let mut own = Iax { max_destination_bytes: room as u32, ..Iax::default() };
                if compress {
                    read_aecs = iax::FLAG_READ_AECS;
                    d.source = memory.put(&data);
                    let aecs = streams::fixed_codes();
                    own.source2_bytes = aecs.len() as u32;
                    own.source2 = memory.put(&aecs);
                    d.reserved = iax::COMPRESS_FLUSH_OUTPUT | 1 << iax::COMPRESS_END_SHIFT;
                } else {
                    let stream = streams::deflate(&data);
                    d.transfer_size = stream.len() as u32;
                    d.source = memory.put(&stream);
                    d.reserved = iax::DECOMPRESS_ENABLE
                        | iax::DECOMPRESS_FLUSH_OUTPUT
                        | iax::DECOMPRESS_STOP_ON_EOB
                        | iax::DECOMPRESS_CHECK_FOR_EOB
                        | iax::DECOMPRESS_FINAL_EOB;
                }
                d.destination = memory.put(&vec![0; room]);
                d.operation_specific = own.words();
                // The CRC-32 of gzip, as a CRC64 whose polynomial is left-justified.
                let crc = reference::crc64(&data, 0x04c1_1db7 << 32, reflected) as u32;
                Outcome::Stream { data, crc, compressed: compress }
            }
        };
        Self { operation, descriptor: d.with(operation.opcode(), read_aecs), memory: memory.0, outcome }
    }

    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// Its descriptor when memory begins at `base`, with flags of the submitter's.
    #[must_use]
    pub fn descriptor(&self, base: u64, flags: u32) -> Descriptor {
        let mut d = self.descriptor;
        // Patterns and what is not used stay.
        let (source, destination) = match d.opcode() {
            opcode::NOOP | opcode::DRAIN => (false, false),
            opcode::MEMFILL | opcode::CFLUSH => (false, true),
            opcode::COMPVAL
            | opcode::TRANSL_FETCH
            | opcode::CRCGEN
            | opcode::DIF_CHECK
            | opcode::IAX_CRC64 => (true, false),
            _ => (true, true),
        };
        if source {
            d.source += base;
        }
        if destination {
            d.destination += base;
        }
        if matches!(d.opcode(), opcode::CR_DELTA | opcode::DUALCAST | opcode::IAX_COMPRESS) {
            d.operation_specific[0] += base;
        }
        d.with(d.opcode(), d.flags() | flags)
    }

    /// Its operands, from address 0 on.
    #[must_use]
    pub fn operands(&self) -> Vec<Operand> {
        operands(&self.descriptor).unwrap_or_default()
    }

    /// Pages of its operands that it touches; `None` where that depends on the device.
    #[must_use]
    pub fn pages(&self, access: Access) -> Option<u64> {
        let touched = |operand: &Operand| match (self.descriptor.opcode(), &self.outcome) {
            (opcode::CR_DELTA, Outcome::Dsa { expected, .. }) if operand.access == Access::Write => {
                Some(Operand { bytes: expected.words[0], ..*operand }.pages())
            }
            (opcode::IAX_COMPRESS, _) if operand.access == Access::Write => None,
            _ => Some(operand.pages()),
        };
        self.operands().iter().filter(|operand| operand.access == access).map(touched).sum()
    }

    /// Whether a DSA operation left `memory` as it must.
    #[must_use]
    pub fn is_after(&self, memory: &[u8]) -> bool {
        matches!(&self.outcome, Outcome::Dsa { after, .. } if after == memory)
    }

    /// Whether a DSA operation, all its parts together, ended as it must.
    #[must_use]
    pub fn ends(&self, end: &Expected) -> bool {
        matches!(&self.outcome, Outcome::Dsa { expected, .. } if expected == end)
    }

    /// Both for an IAA operation.
    #[must_use]
    pub fn is_right_iaa(&self, c: &IaxCompletion, memory: &[u8]) -> bool {
        let d = &self.descriptor;
        let done = c.status == status::SUCCESS;
        match &self.outcome {
            // Noop and memmove have the same result as on DSA.
            Outcome::Dsa { expected, after } => {
                c.status == expected.status && c.bytes_completed == expected.completed && after == memory
            }
            Outcome::Crc64 { value } => done && c.bytes_completed == d.transfer_size && c.crc64() == *value,
            Outcome::Stream { data, crc, compressed } => {
                let from = d.destination as usize;
                let output = memory.get(from..from + c.output_bytes as usize).unwrap_or_default();
                let out = if *compressed { streams::inflate(output) } else { Some(output.to_vec()) };
                done && c.bytes_completed == d.transfer_size && c.crc == *crc && out.as_deref() == Some(data)
            }
        }
    }
}

fn integrity(operation: Operation, data: &[u8], d: &mut Descriptor, memory: &mut Layout) {
    let tags = Tags { reference: 7, application: 9, application_mask: 0 };
    let reads = !matches!(operation, Operation::DifIns | Operation::DixGen);
    let writes = !matches!(operation, Operation::DifCheck | Operation::DifStrp);
    let mut own = Dif::default();
    if reads {
        own.source = tags;
    }
    if writes {
        own.destination = Tags { reference: 11, ..tags };
    }
    let mut source = Vec::new();
    for (index, block) in data.chunks(BLOCK).enumerate() {
        source.extend_from_slice(block);
        if reads {
            let field = reference::field(&own, block, tags.application, tags.reference + index as u32);
            source.extend(field);
        }
    }
    let blocks = data.len() / BLOCK;
    let written = match operation {
        Operation::DifCheck => 0,
        Operation::DixGen => blocks * dif::BYTES as usize,
        Operation::DifStrp => data.len(),
        _ => data.len() + blocks * dif::BYTES as usize,
    };
    d.transfer_size = source.len() as u32;
    d.source = memory.put(&source);
    if written > 0 {
        d.destination = memory.put(&noise(written, 5));
    }
    d.operation_specific = own.words();
}

/// Bytes that repeat late, the same for the same seed.
fn noise(bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut noise: Vec<u8> = (0..bytes.div_ceil(8)).flat_map(|_| next()).collect();
    noise.truncate(bytes);
    noise
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_and_dsascope_use_the_same_names() {
        for operation in Operation::ALL {
            let name = serde_json::to_value(operation).unwrap();
            let shown = match operation.is_of(DeviceKind::Dsa) {
                true => opcode::dsa_name(operation.opcode()),
                false => opcode::iax_name(operation.opcode()),
            };
            assert_eq!(name.as_str(), shown);
        }
    }

    #[test]
    fn each_operation_succeeds_and_changes_what_it_writes() {
        for operation in Operation::ALL.into_iter().filter(|o| o.is_of(DeviceKind::Dsa)) {
            let case = Case::new(operation, 8192);
            let Outcome::Dsa { expected, after } = &case.outcome else { panic!("{operation:?}") };
            assert_eq!(expected.status, status::SUCCESS, "{operation:?}");
            let writes = case.operands().iter().any(|operand| operand.access == Access::Write);
            assert_eq!(writes, *after != case.memory, "{operation:?}");
            assert_eq!(writes, operation.accesses(Access::Write), "{operation:?}");
        }
    }

    #[test]
    fn a_case_is_moved_with_all_its_addresses() {
        for operation in Operation::ALL {
            let case = Case::new(operation, 1024);
            let moved = operands(&case.descriptor(0x10_0000, 0)).unwrap_or_default();
            let at_base: Vec<_> = case
                .operands()
                .into_iter()
                .filter(|operand| operand.bytes > 0)
                .map(|operand| operand.address + 0x10_0000)
                .collect();
            let moved: Vec<_> = moved.iter().filter(|o| o.bytes > 0).map(|o| o.address).collect();
            assert_eq!(moved, at_base, "{operation:?}");
        }
    }

    #[test]
    fn pages_are_those_that_are_touched() {
        let pages = |operation, bytes, access| Case::new(operation, bytes).pages(access);
        assert_eq!(pages(Operation::Memmove, 4097, Access::Read), Some(2));
        assert_eq!(pages(Operation::Dualcast, 4096, Access::Write), Some(2));
        assert_eq!(pages(Operation::CrDelta, 1 << 16, Access::Write), Some(2), "5120 bytes of record");
        assert_eq!(pages(Operation::DixGen, 8192, Access::Write), Some(1));
        assert_eq!(pages(Operation::Compress, 64, Access::Write), None);
    }

    #[test]
    fn streams_come_back() {
        for bytes in [1, 64, 5000, 1 << 16] {
            let case = Case::new(Operation::Decompress, bytes);
            let Outcome::Stream { data, .. } = &case.outcome else { panic!() };
            let stream = &case.memory[..case.descriptor.transfer_size as usize];
            assert_eq!(streams::inflate(stream).as_ref(), Some(data));
        }
    }
}

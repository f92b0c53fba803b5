//! DSA's operations once more, on the CPU and as simple as can be: whole buffers, CRCs bit by bit. What a device did is held against it, by
//! the testbed's tests and by the processes of its scenarios.
//!
//! Owns: how an operation ends that finds all its pages. Refuses: checking descriptors; it panics where one leaves the memory that it is
//! given. Shares nothing with the device models but formats.

use dsascope_common::hw::completion::{DsaCompletion, status};
use dsascope_common::hw::descriptor::{Descriptor, flags, opcode};
use dsascope_common::hw::operation::{Crc, CreateDelta, Dif, crc, dif, fill, iax};

/// What a completion record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub status: u8,
    pub result: u8,
    pub completed: u32,
    /// The operation's own part.
    pub words: [u64; 2],
}

impl From<&DsaCompletion> for Expected {
    fn from(c: &DsaCompletion) -> Self {
        Self { status: c.status, result: c.result, completed: c.bytes_completed, words: c.operation_specific }
    }
}

/// What the descriptor does to memory, which begins at address `base`, and how it ends.
///
/// # Panics
/// When an operand lies outside.
pub fn execute(memory: &mut [u8], base: u64, d: &Descriptor) -> Expected {
    let size = d.transfer_size as usize;
    let at = |address: u64| (address - base) as usize;
    let whole = Expected { status: 1, result: 0, completed: d.transfer_size, words: [0; 2] };
    let range = |address: u64| at(address)..at(address) + size;
    match d.opcode() {
        opcode::MEMMOVE => {
            memory.copy_within(range(d.source), at(d.destination));
            whole
        }
        opcode::DUALCAST => {
            memory.copy_within(range(d.source), at(d.destination));
            memory.copy_within(range(d.source), at(d.operation_specific[0]));
            whole
        }
        opcode::MEMFILL => {
            let mut pattern = d.source.to_le_bytes().to_vec();
            if d.flags() & fill::FLAG_PATTERN_16 != 0 {
                pattern.extend(d.operation_specific[0].to_le_bytes());
            }
            for (i, byte) in memory[range(d.destination)].iter_mut().enumerate() {
                *byte = pattern[i % pattern.len()];
            }
            whole
        }
        opcode::COMPARE => {
            let same = |i: &usize| memory[at(d.source) + i] == memory[at(d.destination) + i];
            compared(d, (0..size).take_while(same).count())
        }
        opcode::COMPVAL => {
            let pattern = d.destination.to_le_bytes();
            let same = |i: &usize| memory[at(d.source) + i] == pattern[i % 8];
            compared(d, (0..size).take_while(same).count())
        }
        opcode::CRCGEN | opcode::COPY_CRC => {
            if d.opcode() == opcode::COPY_CRC {
                memory.copy_within(range(d.source), at(d.destination));
            }
            let own = Crc::from_words(&d.operation_specific);
            let mut seed = own.seed;
            if d.flags() & crc::FLAG_READ_SEED != 0 {
                let bytes = memory[at(own.seed_addr)..].first_chunk().copied();
                seed = bytes.map_or(0, u32::from_le_bytes);
            }
            Expected { words: [u64::from(crc32c(&memory[range(d.source)], seed, d.flags())), 0], ..whole }
        }
        opcode::CR_DELTA => create_delta(memory, base, d),
        opcode::AP_DELTA => {
            let record = memory[at(d.source)..][..d.operation_specific[0] as usize].to_vec();
            let mut last = None;
            for (i, entry) in record.chunks(10).enumerate() {
                let offset = u16::from_le_bytes([entry[0], entry[1]]);
                let bad = |status| Expected { status, completed: i as u32 * 10, ..whole };
                if last.is_some_and(|last| offset <= last) {
                    return bad(status::DR_OFFSET_NOINC);
                }
                if usize::from(offset) * 8 >= size {
                    return bad(status::DR_OFFSET_ERANGE);
                }
                memory[at(d.destination) + usize::from(offset) * 8..][..8].copy_from_slice(&entry[2..]);
                last = Some(offset);
            }
            Expected { completed: record.len() as u32, ..whole }
        }
        opcode::NOOP | opcode::DRAIN => Expected { completed: 0, ..whole },
        opcode::CFLUSH | opcode::TRANSL_FETCH => whole,
        _ => integrity(memory, base, d),
    }
}

fn compared(d: &Descriptor, same: usize) -> Expected {
    let result = u8::from(same < d.transfer_size as usize);
    let expected = d.flags() & flags::CHECK_RESULT == 0 || u64::from(result) == d.operation_specific[0];
    Expected { status: if expected { 1 } else { 2 }, result, completed: same as u32, words: [0; 2] }
}

fn create_delta(memory: &mut [u8], base: u64, d: &Descriptor) -> Expected {
    let own = CreateDelta::from_words(&d.operation_specific);
    let mut record = Vec::new();
    let mut ended = None;
    for offset in (0..d.transfer_size).step_by(8) {
        let eight = |address: u64| &memory[(address - base) as usize + offset as usize..][..8];
        if eight(d.source) == eight(d.destination) {
            continue;
        }
        if record.len() + 10 > own.max_record_bytes as usize {
            ended = Some(offset);
            break;
        }
        record.extend(((offset / 8) as u16).to_le_bytes());
        record.extend(eight(d.destination));
    }
    memory[(own.record_addr - base) as usize..][..record.len()].copy_from_slice(&record);
    let result = if ended.is_some() { 2 } else { u8::from(!record.is_empty()) };
    let unexpected = d.flags() & flags::CHECK_RESULT != 0 && own.expected_results & 1 << result == 0;
    Expected {
        status: if unexpected { 2 } else { 1 },
        result,
        completed: ended.unwrap_or(d.transfer_size),
        words: [record.len() as u64, 0],
    }
}

/// CRC-32C, bit by bit.
pub fn crc32c(bytes: &[u8], seed: u32, descriptor_flags: u32) -> u32 {
    let plain = descriptor_flags & crc::FLAG_BYPASS_INVERSION_AND_REFLECTION != 0;
    let mut register = if plain { seed } else { (!seed).reverse_bits() };
    for byte in bytes {
        let most_first = descriptor_flags & crc::FLAG_BYPASS_DATA_REFLECTION != 0;
        for bit in 0..8 {
            let data = if most_first { byte >> (7 - bit) } else { byte >> bit } & 1;
            let top = (register >> 31) as u8 ^ data;
            register = register << 1 ^ if top == 1 { 0x1edc_6f41 } else { 0 };
        }
    }
    if plain { register } else { !register.reverse_bits() }
}

/// IAA's CRC64 of any polynomial, bit by bit; `flags` are the descriptor's at byte 38.
pub fn crc64(bytes: &[u8], polynomial: u64, flags: u16) -> u64 {
    let reflected = flags & iax::CRC64_REFLECT != 0;
    // A narrower one is left-justified.
    let width = !0u64 << (polynomial.trailing_zeros() % 64);
    let inverted = if flags & iax::CRC64_INVERT != 0 { width } else { 0 };
    let crc = bytes.iter().fold(inverted, |crc, byte| {
        let byte = if reflected { byte.reverse_bits() } else { *byte };
        (0..8).fold(crc ^ u64::from(byte) << 56, |crc, _| {
            crc << 1 ^ if crc >> 63 == 1 { polynomial } else { 0 }
        })
    }) ^ inverted;
    if reflected { crc.reverse_bits() } else { crc }
}

/// The guard of T10: CRC-16, polynomial 0x8bb7, bit by bit.
pub fn guard(bytes: &[u8], seed: u16) -> u16 {
    bytes.iter().fold(seed, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| crc << 1 ^ if crc >> 15 == 1 { 0x8bb7 } else { 0 })
    })
}

/// Guard, application tag, reference tag.
pub fn field(own: &Dif, block: &[u8], application: u16, reference: u32) -> Vec<u8> {
    let crc = guard(block, if own.flags & dif::INVERT_CRC_SEED != 0 { 0xffff } else { 0 });
    let crc = if own.flags & dif::INVERT_CRC_RESULT != 0 { !crc } else { crc };
    [&crc.to_be_bytes()[..], &application.to_be_bytes(), &reference.to_be_bytes()].concat()
}

fn integrity(memory: &mut [u8], base: u64, d: &Descriptor) -> Expected {
    let own = Dif::from_words(&d.operation_specific);
    let block = own.block_bytes() as usize;
    let op = d.opcode();
    let reads = matches!(op, opcode::DIF_CHECK | opcode::DIF_STRP | opcode::DIF_UPDT);
    let writes = matches!(op, opcode::DIF_INS | opcode::DIX_GEN | opcode::DIF_UPDT);
    let step = block + if reads { 8 } else { 0 };
    let source = memory[(d.source - base) as usize..][..d.transfer_size as usize].to_vec();
    let (mut from, mut to) = (own.source, own.destination);
    let mut written = Vec::new();
    let mut failed = None;
    for (i, unit) in source.chunks(step).enumerate() {
        let (data, old) = unit.split_at(block);
        if reads {
            let fresh = field(&own, data, from.application, from.reference);
            let f = |range: std::ops::Range<usize>| old[range].iter().all(|byte| *byte == 0xff);
            let on = |flag: u8| own.source_flags & flag != 0;
            let ignored = on(dif::SOURCE_ALL_F) && f(0..8)
                || on(dif::SOURCE_APPLICATION_F) && f(2..4)
                || on(dif::SOURCE_APPLICATION_REFERENCE_F) && f(2..8);
            let mut bits = 0;
            if !ignored {
                bits |= u8::from(!on(dif::SOURCE_NO_GUARD_CHECK) && old[..2] != fresh[..2]);
                let masked = |bytes: &[u8]| u16::from_be_bytes([bytes[2], bytes[3]]) & !from.application_mask;
                bits |= u8::from(masked(old) != masked(&fresh)) << 1;
                bits |= u8::from(!on(dif::SOURCE_NO_REFERENCE_CHECK) && old[4..] != fresh[4..]) << 2;
            }
            if on(dif::SOURCE_ALL_F) && on(dif::SOURCE_ALL_F_ERROR) && f(0..8) {
                bits = 8;
            }
            if bits != 0 {
                failed = Some((bits, i * step));
                break;
            }
        }
        let mut new = field(&own, data, to.application & !to.application_mask, to.reference);
        let pass = |flag: u8| own.destination_flags & flag != 0;
        if reads && pass(dif::DESTINATION_PASS_GUARD) {
            new[..2].copy_from_slice(&old[..2]);
        }
        if reads && pass(dif::DESTINATION_PASS_APPLICATION) {
            new[2..4].copy_from_slice(&old[2..4]);
        }
        if reads && pass(dif::DESTINATION_PASS_REFERENCE) {
            new[4..].copy_from_slice(&old[4..]);
        }
        match op {
            opcode::DIF_STRP => written.extend(data),
            opcode::DIX_GEN => written.extend(new),
            opcode::DIF_CHECK => {}
            _ => written.extend([data, &new].concat()),
        }
        for (tags, flags) in [(&mut from, own.source_flags), (&mut to, own.destination_flags)] {
            tags.reference = tags.reference.wrapping_add(u32::from(flags >> 7 == 0));
            tags.application = tags.application.wrapping_add(u16::from(flags >> 4 & 1));
        }
    }
    if op != opcode::DIF_CHECK {
        memory[(d.destination - base) as usize..][..written.len()].copy_from_slice(&written);
    }
    let words = [if reads { from.word() } else { 0 }, if writes { to.word() } else { 0 }];
    match failed {
        Some((result, completed)) => {
            Expected { status: status::DIF_ERR, result, completed: completed as u32, words }
        }
        None => Expected { status: 1, result: 0, completed: d.transfer_size, words },
    }
}

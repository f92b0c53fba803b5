//! Published answers, so that device and reference cannot be wrong together.

use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::operation::{Crc, Dif, Tags, crc, dif, iax as formats};

use dsascope_submit::reference;

use super::*;

fn arena_with(at: u64, bytes: &[u8]) -> Arena {
    let arena = Arena::new(&vec![0; PAGES * PAGE as usize]);
    arena.change(BASE + at, |memory| memory[..bytes.len()].copy_from_slice(bytes));
    arena
}

fn crc32c(bytes: &[u8], seed: u32) -> u32 {
    let d = Descriptor { destination: 0, ..operation(opcode::CRCGEN, 0xff0, 0, bytes.len() as u32) };
    let d = Descriptor { operation_specific: Crc { seed, seed_addr: 0 }.words(), ..d };
    dsa(&arena_with(0xff0, bytes), &d).crc()
}

#[test]
fn crc32c_of_rfc3720() {
    assert_eq!(crc32c(b"123456789", 0), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32], 0), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32], 0), 0x62a8_ab43);
    assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>(), 0), 0x46dd_794e);
    assert_eq!(crc32c(b"6789", crc32c(b"12345", 0)), 0xe306_9283, "a value is the next seed");
}

/// CRC-32C's polynomial without any reflection or inversion, by hand: one bit gives the polynomial itself.
#[test]
fn crc_without_reflection() {
    let op = opcode::CRCGEN;
    let plain = crc::FLAG_BYPASS_INVERSION_AND_REFLECTION | crc::FLAG_BYPASS_DATA_REFLECTION;
    let d = Descriptor { destination: 0, ..operation(op, 0, 0, 1) };
    assert_eq!(dsa(&arena_with(0, &[1]), &d.with(op, CR | plain)).crc(), 0x1edc_6f41);
    let reflected = d.with(op, CR | crc::FLAG_BYPASS_INVERSION_AND_REFLECTION);
    assert_eq!(dsa(&arena_with(0, &[0x80]), &reflected).crc(), 0x1edc_6f41);
}

#[test]
fn guards_of_t10() {
    // CRC-16/T10-DIF: check value 0xd0db; SCSI's example block of zeros has guard 0.
    assert_eq!(reference::guard(b"123456789", 0), 0xd0db);
    let own = Dif {
        destination: Tags { reference: 0x0102_0304, application: 0x0506, application_mask: 0x00ff },
        ..Dif::default()
    };
    let d = operation(opcode::DIX_GEN, 0, 0x8000, 1024);
    let d = Descriptor { operation_specific: own.words(), ..d };
    let arena = arena_with(512, &[0xff; 32]);
    assert_eq!(dsa(&arena, &d).status, 1);
    let fields = &arena.bytes()[0x8000..0x8010];
    assert_eq!(fields[..8], [0, 0, 5, 0, 1, 2, 3, 4]);
    let mut block = [0; 512];
    block[..32].fill(0xff);
    assert_eq!(fields[8..10], reference::guard(&block, 0).to_be_bytes());
    assert_eq!(fields[12..], [1, 2, 3, 5], "the reference tag counts blocks");
    let inverted = Dif { flags: dif::INVERT_CRC_RESULT, ..own };
    let d = Descriptor { operation_specific: inverted.words(), ..d };
    dsa(&arena, &d);
    assert_eq!(arena.bytes()[0x8000..0x8002], [0xff, 0xff]);
}

fn crc64(bytes: &[u8], polynomial: u64, crc_flags: u16) -> u64 {
    let d = Descriptor { destination: 0, ..operation(opcode::IAX_CRC64, 0xffb, 0, bytes.len() as u32) };
    let d = Descriptor { reserved: crc_flags, operation_specific: [0, 0, polynomial], ..d };
    let done = iax(&arena_with(0xffb, bytes), &d);
    assert_eq!((done.status, done.bytes_completed), (1, bytes.len() as u32));
    done.crc64()
}

#[test]
fn crc64_of_the_catalogue() {
    let (ecma, iso) = (0x42f0_e1eb_a9ea_3693, 0x1b);
    let both = formats::CRC64_REFLECT | formats::CRC64_INVERT;
    assert_eq!(crc64(b"123456789", ecma, 0), 0x6c40_df5f_0b49_7347, "ECMA-182");
    assert_eq!(crc64(b"123456789", ecma, formats::CRC64_INVERT), 0x62ec_59e3_f1a4_f00a, "WE");
    assert_eq!(crc64(b"123456789", ecma, both), 0x995d_c9bb_df19_39fa, "XZ");
    assert_eq!(crc64(b"123456789", iso, both), 0xb909_56c7_75a4_1001, "GO-ISO");
    // A narrower one is left-justified: CRC-32C.
    assert_eq!(crc64(b"123456789", 0x1edc_6f41 << 32, both), 0xe306_9283);
}

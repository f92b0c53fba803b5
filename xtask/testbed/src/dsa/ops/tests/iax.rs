//! IAA's streams against zlib-rs (through flate2).

use dsascope_common::hw::descriptor::opcode;
use dsascope_common::hw::operation::Iax;
use dsascope_common::hw::operation::iax::{self as formats, compress_aecs as aecs, error};
use dsascope_submit::{reference, resume_iax};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use proptest::prelude::*;

use super::*;

const DESTINATION: u64 = 0x1_0000;
const AECS: u64 = 0x3_0000;
const EOB: u16 = formats::COMPRESS_FLUSH_OUTPUT | 1 << formats::COMPRESS_END_SHIFT;
const TO_THE_END: u16 = formats::DECOMPRESS_ENABLE
    | formats::DECOMPRESS_FLUSH_OUTPUT
    | formats::DECOMPRESS_STOP_ON_EOB
    | formats::DECOMPRESS_CHECK_FOR_EOB
    | formats::DECOMPRESS_FINAL_EOB;

/// Canonical codes (RFC 1951, 3.2.2) as an AECS has them: code and, from bit 15, its length.
fn canonical(lengths: &[u32]) -> Vec<u32> {
    let mut next = 0;
    let mut codes = vec![0; lengths.len()];
    for length in 1..=15 {
        next <<= 1;
        for (code, _) in codes.iter_mut().zip(lengths).filter(|(_, l)| **l == length) {
            *code = length << 15 | next;
            next += 1;
        }
    }
    codes
}

fn aecs(header: &[(u32, u32)], literals: &[u32], distances: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0; aecs::BYTES];
    let mut at = 0;
    for (value, count) in header {
        for bit in 0..*count {
            bytes[aecs::ACCUMULATOR + at / 8] |= ((value >> bit & 1) as u8) << (at % 8);
            at += 1;
        }
    }
    let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put(aecs::ACCUMULATOR_BITS, at as u32);
    let literals = canonical(literals).into_iter().take(aecs::LITERALS);
    literals.enumerate().for_each(|(i, code)| put(aecs::LITERAL_CODES + i * 4, code));
    canonical(distances)
        .into_iter()
        .enumerate()
        .for_each(|(i, code)| put(aecs::DISTANCE_CODES + i * 4, code));
    bytes
}

/// The fixed codes in a final block, as the kernel's iaa_crypto sets them.
fn fixed() -> Vec<u8> {
    // The last two have codes and no meaning.
    let literals: Vec<u32> = (0..288)
        .map(|i| match i {
            0..144 => 8,
            144..256 => 9,
            256..280 => 7,
            _ => 8,
        })
        .collect();
    aecs(&[(1, 1), (1, 2)], &literals, &[5; 30])
}

/// Other codes, with a header that says so: 226 literals of 8 bits and 60 of 9, 2 distances of 4 bits and 28 of 5.
fn dynamic() -> Vec<u8> {
    let literals: Vec<u32> = (0..286).map(|i| if i < 60 { 9 } else { 8 }).collect();
    let distances: Vec<u32> = (0..30).map(|i| if i < 2 { 4 } else { 5 }).collect();
    // Final, dynamic; all codes; lengths of the code-length codes 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4.
    let mut header = vec![(1, 1), (2, 2), (29, 5), (29, 5), (8, 4)];
    header.extend([0, 0, 0, 0, 2, 0, 2, 0, 0, 2, 0, 2].map(|length| (length, 3)));
    // Two bits each, most significant first: 4 is 00, 5 is 01, 8 is 10, 9 is 11.
    let code = |length: &u32| match length {
        4 => (0b00, 2),
        5 => (0b10, 2),
        8 => (0b01, 2),
        _ => (0b11, 2),
    };
    header.extend(literals.iter().chain(&distances).map(code));
    aecs(&header, &literals, &distances)
}

fn job(op: u8, bytes: usize, room: u32) -> Descriptor {
    let own = Iax { max_destination_bytes: room, ..Iax::default() };
    let d = Descriptor {
        reserved: if op == opcode::IAX_COMPRESS { EOB } else { TO_THE_END },
        operation_specific: own.words(),
        ..operation(op, 0, DESTINATION, bytes as u32)
    };
    if op == opcode::IAX_COMPRESS { with_aecs(d, aecs::BYTES as u32) } else { d }
}

fn with_aecs(d: Descriptor, bytes: u32) -> Descriptor {
    let own = Iax::from_words(&d.operation_specific);
    let own = Iax { source2: BASE + AECS, source2_bytes: bytes, ..own };
    Descriptor { operation_specific: own.words(), ..d }.with(d.opcode(), d.flags() | formats::FLAG_READ_AECS)
}

fn memory(source: &[u8], state: &[u8]) -> Vec<u8> {
    let mut memory = vec![0; PAGES * PAGE as usize];
    memory[..source.len()].copy_from_slice(source);
    memory[AECS as usize..][..state.len()].copy_from_slice(state);
    memory
}

fn run(source: &[u8], state: &[u8], d: &Descriptor) -> (IaxCompletion, Vec<u8>) {
    let arena = Arena::new(&memory(source, state));
    let done = iax(&arena, d);
    let output = arena.bytes()[DESTINATION as usize..][..done.output_bytes as usize].to_vec();
    (done, output)
}

fn inflate(stream: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 18);
    let done = Decompress::new(false).decompress_vec(stream, &mut out, FlushDecompress::Finish);
    assert_eq!(done.unwrap(), flate2::Status::StreamEnd);
    out
}

/// With matches that reach as far as IAA's history and no further.
fn deflate(data: &[u8], level: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() * 2 + 100);
    let mut compress = Compress::new_with_window_bits(Compression::new(level), false, 12);
    let done = compress.compress_vec(data, &mut out, FlushCompress::Finish);
    assert_eq!(done.unwrap(), flate2::Status::StreamEnd);
    out
}

fn gzip_crc(data: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum()
}

fn xor(data: &[u8]) -> u16 {
    let word = |pair: &[u8]| u16::from(pair[0]) | u16::from(*pair.get(1).unwrap_or(&0)) << 8;
    data.chunks(2).fold(0, |sum, pair| sum ^ word(pair))
}

/// Text-like: words from a short list, some noise.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => proptest::sample::select(vec!["descriptor ", "completion record ", "event log, ", "aaaaaaaa", "\n"])
            .prop_map(|word| word.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..300),
        1 => (any::<u8>(), 1..3000usize).prop_map(|(byte, n)| vec![byte; n]),
    ];
    proptest::collection::vec(word, 1..300).prop_map(|words| {
        let mut data = words.concat();
        data.truncate(0xe000);
        data
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_compressed_inflates_to_the_source(data in data(), other_codes: bool, literals_only: bool, end in 1..4u16) {
        let state = if other_codes { dynamic() } else { fixed() };
        let mut d = job(opcode::IAX_COMPRESS, data.len(), 0x2_0000);
        d.reserved = EOB & !formats::COMPRESS_END | end << formats::COMPRESS_END_SHIFT;
        if literals_only {
            d.reserved |= formats::COMPRESS_LITERALS_ONLY;
        }
        let (done, stream) = run(&data, &state, &d);
        prop_assert_eq!((done.status, done.bytes_completed), (1, data.len() as u32));
        prop_assert_eq!((done.crc, done.xor_checksum), (gzip_crc(&data), xor(&data)));
        prop_assert!(inflate(&stream) == data);
        if end > 1 {
            prop_assert!(stream.ends_with(&[0, 0, 0xff, 0xff]));
        }
        // And the device itself takes it back, whose history is shorter than zlib's.
        let back = job(opcode::IAX_DECOMPRESS, stream.len(), 0x2_0000);
        let (undone, again) = run(&stream, &[], &back);
        prop_assert_eq!((undone.status, undone.crc), (1, done.crc));
        prop_assert!(again == data);
    }

    #[test]
    fn what_was_deflated_is_decompressed(data in data(), level in 0..10u32, rfc3720: bool) {
        let stream = deflate(&data, level);
        let mut d = job(opcode::IAX_DECOMPRESS, stream.len() + 9, data.len() as u32);
        if rfc3720 {
            d = d.with(d.opcode(), d.flags() | formats::FLAG_CRC_RFC3720);
        }
        let (done, output) = run(&stream, &[], &d);
        prop_assert_eq!((done.status, done.bytes_completed), (1, stream.len() as u32));
        let crc = if rfc3720 { reference::crc32c(&data, 0, 0) } else { gzip_crc(&data) };
        prop_assert_eq!((done.crc, done.xor_checksum), (crc, xor(&data)));
        prop_assert!(output == data);
    }

    #[test]
    fn a_fault_means_once_more_from_the_start(
        data in data(), compress: bool, holes in proptest::collection::vec((0..PAGES, any::<bool>()), 0..30)
    ) {
        let (source, op) =
            if compress { (data, opcode::IAX_COMPRESS) } else { (deflate(&data, 6), opcode::IAX_DECOMPRESS) };
        let mut d = job(op, source.len(), 0x1_8000);
        let memory = memory(&source, &fixed());
        let whole = Arena::new(&memory);
        let without = iax(&whole, &d);
        let arena = Arena::with_holes(&memory, &holes);
        let mut faults = 0;
        let with = loop {
            let c = iax(&arena, &d);
            if !is_partial(c.status) {
                break c;
            }
            faults += 1;
            prop_assert!(faults <= 2 * PAGES);
            arena.mend(c.fault_addr, c.status & 0x80 != 0);
            d = resume_iax(&d, &c).unwrap();
        };
        prop_assert_eq!(with, without);
        prop_assert!(arena.bytes() == whole.bytes());
    }

    #[test]
    fn bad_streams_are_errors(mut stream in data().prop_map(|data| deflate(&data, 6)), at: prop::sample::Index, bit in 0..8u8) {
        let at = at.index(stream.len());
        stream[at] ^= 1 << bit;
        let (done, _) = run(&stream, &[], &job(opcode::IAX_DECOMPRESS, stream.len(), 0x1_8000));
        let known = [status::SUCCESS, status::IAX_ANALYTICS_ERROR, status::IAX_OUTBUF_OVERFLOW];
        prop_assert!(known.contains(&done.status));
        prop_assert!(done.bytes_completed <= stream.len() as u32 && done.output_bytes <= 0x1_8000);
    }
}

#[test]
fn outputs_that_do_not_fit_overflow() {
    let data: Vec<u8> = noise(3)[..5000].to_vec();
    let (done, output) = run(&data, &fixed(), &job(opcode::IAX_COMPRESS, data.len(), 4500));
    // What iaa_crypto takes for "incompressible".
    let refused = (status::IAX_ANALYTICS_ERROR, error::OUTPUT_OVERFLOW);
    assert_eq!(((done.status, done.error_code), done.output_bytes), (refused, 4500));
    let (_, all) = run(&data, &fixed(), &job(opcode::IAX_COMPRESS, data.len(), 9000));
    assert_eq!(output, all[..4500]);
    let stream = deflate(&data, 6);
    let (done, output) = run(&stream, &[], &job(opcode::IAX_DECOMPRESS, stream.len(), 4999));
    assert_eq!((done.status, done.output_bytes), (status::IAX_OUTBUF_OVERFLOW, 4999));
    assert_eq!(output, data[..4999]);
    let (done, _) = run(&stream, &[], &job(opcode::IAX_DECOMPRESS, stream.len(), 5000));
    assert_eq!((done.status, done.output_bytes), (status::SUCCESS, 5000));
}

#[test]
fn the_last_byte_says_how_much_of_it_counts() {
    // 3 bits of header, "a" with 8, the end of the block with 7: 18.
    let (done, stream) = run(b"a", &fixed(), &job(opcode::IAX_COMPRESS, 1, 100));
    assert_eq!((done.output_bytes, done.output_bits), (3, 2));
    assert_eq!(stream, [0x4b, 0x04, 0x00], "as zlib has it");
    let open = Descriptor { reserved: formats::COMPRESS_FLUSH_OUTPUT, ..job(opcode::IAX_COMPRESS, 1, 100) };
    let (done, _) = run(b"a", &fixed(), &open);
    assert_eq!((done.output_bytes, done.output_bits), (2, 3), "no end was asked for");
}

#[test]
fn errors_have_codes() {
    let analytics = |code| (status::IAX_ANALYTICS_ERROR, code);
    let told = |(done, _): (IaxCompletion, Vec<u8>)| (done.status, done.error_code);
    let compress = job(opcode::IAX_COMPRESS, 3, 100);
    let mut state = fixed();
    state[aecs::LITERAL_CODES + 4 * usize::from(b'b')..][..4].fill(0);
    assert_eq!(told(run(b"abc", &state, &compress)), analytics(error::INVALID_HUFFMAN_CODE));
    let mut state = fixed();
    state[aecs::ACCUMULATOR_BITS..][..4].copy_from_slice(&2049u32.to_le_bytes());
    assert_eq!(told(run(b"abc", &state, &compress)), analytics(error::AECS));

    let stream = deflate(b"abcabcabcabc and more", 6);
    let cut = job(opcode::IAX_DECOMPRESS, stream.len() - 1, 100);
    assert_eq!(told(run(&stream, &[], &cut)), analytics(error::BAD_EOF));
    let unchecked = Descriptor { reserved: TO_THE_END & !formats::DECOMPRESS_CHECK_FOR_EOB, ..cut };
    assert_eq!(told(run(&stream, &[], &unchecked)), (status::SUCCESS, 0));
    let bad = job(opcode::IAX_DECOMPRESS, 1, 100);
    assert_eq!(told(run(&[7], &[], &bad)), analytics(error::BAD_LITERAL_CODE), "block type 3");

    // A match further back than IAA's history.
    let far = [&noise(9)[..8000], &noise(9)[..8000]].concat();
    let mut stream = Vec::with_capacity(20000);
    Compress::new(Compression::best(), false).compress_vec(&far, &mut stream, FlushCompress::Finish).unwrap();
    assert!(stream.len() < 9000, "zlib found the match");
    let d = job(opcode::IAX_DECOMPRESS, stream.len(), 20000);
    assert_eq!(told(run(&stream, &[], &d)).0, status::IAX_ANALYTICS_ERROR);
}

#[test]
fn a_stream_may_end_with_its_first_block() {
    // Two fixed blocks: "a", not final; then the final one, empty.
    let mut state = fixed();
    state[aecs::ACCUMULATOR] = 0b010;
    let mut d = job(opcode::IAX_COMPRESS, 1, 100);
    d.reserved = formats::COMPRESS_FLUSH_OUTPUT | 3 << formats::COMPRESS_END_SHIFT;
    let (_, stream) = run(b"a", &state, &d);
    let whole = job(opcode::IAX_DECOMPRESS, stream.len(), 100);
    let first = Descriptor { reserved: TO_THE_END & !formats::DECOMPRESS_FINAL_EOB, ..whole };
    let (all, _) = run(&stream, &[], &whole);
    let (one, _) = run(&stream, &[], &first);
    assert_eq!((all.status, all.bytes_completed), (1, stream.len() as u32));
    assert_eq!((one.status, one.output_bytes), (1, 1));
    assert!(one.bytes_completed < all.bytes_completed);
}

#[test]
fn iaa_crypto_compresses_verifies_and_decompresses() {
    let data = b"what iaa_crypto asks for, asks for, asks for".repeat(9);
    let compress = Descriptor { reserved: EOB, ..job(opcode::IAX_COMPRESS, data.len(), 4096) };
    let cached = compress.with(opcode::IAX_COMPRESS, compress.flags() | flags::CACHE_CONTROL);
    let (done, stream) = run(&data, &fixed(), &cached);
    assert_eq!(done.status, 1);
    // The driver's header names these two the other way round than QPL, and always sets both.
    let both = formats::DECOMPRESS_STOP_ON_EOB | formats::DECOMPRESS_CHECK_FOR_EOB;
    let plain = formats::DECOMPRESS_ENABLE | formats::DECOMPRESS_FLUSH_OUTPUT | both;
    let d = Descriptor { reserved: plain, ..job(opcode::IAX_DECOMPRESS, stream.len(), 4096) };
    assert_eq!(run(&stream, &[], &d).1, data);
    let verify = Descriptor { reserved: plain | formats::DECOMPRESS_SUPPRESS_OUTPUT, ..d };
    let untouched = Arena::with_holes(&memory(&stream, &[]), &[((DESTINATION / PAGE) as usize, true)]);
    let verified = iax(&untouched, &verify);
    assert_eq!((verified.status, verified.crc, verified.output_bytes), (1, done.crc, 0));
}

#[test]
fn checksums_go_on_from_the_aecs() {
    let (first, second) = (b"what came before".to_vec(), b" and what follows".to_vec());
    let both = [first.clone(), second.clone()].concat();
    let mut state = fixed();
    state[..4].copy_from_slice(&gzip_crc(&first).to_le_bytes());
    state[4..6].copy_from_slice(&xor(&first).to_le_bytes());
    let (done, stream) = run(&second, &state, &job(opcode::IAX_COMPRESS, second.len(), 100));
    assert_eq!((done.crc, done.xor_checksum), (gzip_crc(&both), xor(&both)));

    let d = with_aecs(job(opcode::IAX_DECOMPRESS, stream.len(), 100), 0x1500);
    let mut fresh = vec![0; 0x1500];
    fresh[..6].copy_from_slice(&state[..6]);
    fresh[formats::decompress_aecs::PARSER] = formats::decompress_aecs::AT_HEADER as u8;
    let (undone, _) = run(&stream, &fresh, &d);
    assert_eq!((undone.status, undone.crc, undone.xor_checksum), (1, done.crc, done.xor_checksum));
    fresh[0x1000] = 1;
    let (refused, _) = run(&stream, &fresh, &d);
    assert_eq!((refused.status, refused.error_code), (status::IAX_ANALYTICS_ERROR, error::AECS));
}

//! Captures cut off and with bits changed: no panic, no wrong number, nothing missing in silence.

mod support;

use std::sync::LazyLock;

use dsascope_capture::{ReadError, VERSION};
use dsascope_core::event::{Event, HoleKind};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use support::script;

struct Sample {
    events: Vec<Event>,
    bytes: Vec<u8>,
    /// Where blocks end.
    ends: Vec<usize>,
}

static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let events = script::busy(6);
    let bytes = support::recorded(&events);
    let ends: Vec<usize> = memchr::memmem::find_iter(&bytes, &[b'd', b's', b'b', VERSION]).collect();
    assert!(ends.len() > 6, "several blocks: {ends:?}");
    Sample { events, bytes, ends }
});

/// Events and holes of what there is, and whether anything is missing; `None`: an error that says so.
fn read(bytes: &[u8]) -> Option<(Vec<Event>, bool)> {
    match support::read(bytes) {
        Ok((events, damage)) => Some((events, !damage.is_empty())),
        Err(ReadError::Io { source, .. }) => panic!("a slice can be read: {source}"),
        Err(_) => None,
    }
}

/// What is read is what was written, but for whole runs of events that a hole stands for; and where anything is missing, it is said.
fn check(bytes: &[u8], what: &str) {
    let Some((read, damaged)) = read(bytes) else { return };
    let mut expected = SAMPLE.events.iter();
    let mut cut = false;
    for event in read {
        match event {
            Event::Hole(hole)
                if matches!(hole.what, HoleKind::CaptureDamaged | HoleKind::CaptureUnwritten) =>
            {
                for _ in 0..hole.count {
                    assert!(expected.next().is_some(), "{what}: more are missing than there were");
                }
            }
            Event::Hole(hole) if hole.what == HoleKind::CaptureCut => cut = true,
            event => assert!(expected.next() == Some(&event), "{what}: an event that was not written"),
        }
    }
    let rest = expected.count();
    assert!(rest == 0 || cut, "{what}: {rest} events are missing in silence");
    assert!(damaged || bytes == SAMPLE.bytes || !cut, "{what}: not said");
}

fn random() -> TestRng {
    TestRng::deterministic_rng(RngAlgorithm::ChaCha)
}

#[test]
fn whole() {
    let (events, damaged) = read(&SAMPLE.bytes).expect("a capture");
    assert!(events == SAMPLE.events && !damaged);
}

#[test]
fn cut_at_every_byte_around_the_ends_of_blocks() {
    for &end in &SAMPLE.ends {
        for at in end.saturating_sub(150)..(end + 150).min(SAMPLE.bytes.len()) {
            check(&SAMPLE.bytes[..at], &format!("cut at {at}"));
        }
    }
}

#[test]
fn cut_at_10_000_random_places() {
    let mut random = random();
    for _ in 0..10_000 {
        let at = random.next_u64() as usize % SAMPLE.bytes.len();
        check(&SAMPLE.bytes[..at], &format!("cut at {at}"));
    }
}

#[test]
fn with_10_000_random_bits_flipped_one_by_one() {
    let mut random = random();
    let mut bytes = SAMPLE.bytes.clone();
    for _ in 0..10_000 {
        let bit = random.next_u64() as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes, &format!("bit {bit} flipped"));
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn with_10_000_random_bits_flipped_together() {
    let mut random = random();
    let mut bytes = SAMPLE.bytes.clone();
    for number in 0..10_000 {
        let bit = random.next_u64() as usize % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        if number % 100 == 0 {
            let _ = read(&bytes);
        }
    }
}

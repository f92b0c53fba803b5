//! The reader of captures on any bytes: events or an error, never a panic, and after a rewind the same again.
//!
//! Bytes changed at random do not get past the checksums, so half of the changes are made to what lies behind them (`mutate`).

#![no_main]

mod mutate;

use std::io::Cursor;

use dsascope_capture::Capture;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

/// Events read of one input: a column of zeros costs a file nothing, so a small one can hold very many.
const MOST_EVENTS: usize = 1 << 18;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut again) = Capture::open(Cursor::new(bytes)) else { return };
    let mut once = Capture::open(Cursor::new(bytes)).expect("opened before");
    let events = (0..MOST_EVENTS).take_while(|_| again.next_event().expect("a slice can be read").is_some());
    let events = events.count();
    again.rewind();
    // Looks into a block of its own while others are read.
    again.next_event().expect("read before");
    again.worst().expect("a slice can be read");
    again.rewind();
    for _ in 0..events {
        assert_eq!(again.next_event().expect("read before"), once.next_event().expect("read before"));
    }
    if events < MOST_EVENTS {
        assert_eq!(again.next_event().expect("read before"), None);
        assert_eq!(once.next_event().expect("read before"), None);
    }
    assert_eq!(again.damage(), once.damage());
    for damage in once.damage() {
        let _ = damage.to_string();
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let sealed = (seed & 1 == 1).then(|| mutate::behind_the_checksums(&data[..size], seed >> 1, max_size)).flatten();
    match sealed {
        Some(file) => {
            data[..file.len()].copy_from_slice(&file);
            file.len()
        }
        None => fuzzer_mutate(data, size, max_size),
    }
});

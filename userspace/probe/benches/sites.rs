//! What it takes to search a library of 100 MB: its own code over and over, with a name every 512 bytes.
//!
//! Run with `cargo bench -p dsascope-probe`. Without a submission in it only bytes are compared; with one, its symbols are read and
//! sorted, the function around it is decoded, and all code is searched for jumps into it.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../tests/sites/sample.rs"]
mod sample;

use divan::Bencher;
use divan::counter::BytesCount;
use dsascope_probe::sites::scan;
use object::{Object as _, ObjectSection as _};

use sample::Sample;

const BYTES: usize = 100 << 20;
const FUNCTION: usize = 512;

/// enqcmd (%rsi),%rdi; setz %al; ret
const SUBMITS: [u8; 9] = [0xf2, 0x0f, 0x38, 0xf8, 0x3e, 0x0f, 0x94, 0xc0, 0xc3];

fn library(submits: bool) -> Vec<u8> {
    let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let own = object::File::parse(&*own).unwrap();
    let text = own.section_by_name(".text").unwrap().data().unwrap();
    let mut sample = Sample::new(64);
    sample.text = text.iter().copied().cycle().take(BYTES).collect();
    sample.functions =
        (0..BYTES / FUNCTION).map(|i| ("named", (i * FUNCTION) as u64, FUNCTION as u64)).collect();
    if submits {
        sample = sample.function("submit", &SUBMITS);
    }
    assert_eq!(sample.scan().sites.len(), usize::from(submits));
    sample.build()
}

#[divan::bench(args = [false, true], sample_count = 20, sample_size = 1)]
fn a_library(bencher: Bencher<'_, '_>, submits: bool) {
    let library = library(submits);
    bencher.counter(BytesCount::new(library.len())).bench_local(|| scan("library", &library));
}

fn main() {
    divan::main();
}

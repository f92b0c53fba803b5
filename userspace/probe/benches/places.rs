//! What it takes to say where a record lives and what a stack is of: `cargo bench -p dsascope-probe --bench places`.

use divan::{Bencher, black_box};
use dsascope_probe::places::Places;
use dsascope_probe::stacks::Symbolizer;

fn main() {
    divan::main();
}

const SECOND_NS: u64 = 1_000_000_000;

/// Addresses in this program, the C library and the heap.
fn addresses() -> [u64; 3] {
    let heap: &'static u64 = Box::leak(Box::new(1));
    [main as *const () as u64, libc::qsort as *const () as u64, std::ptr::from_ref(heap) as u64]
}

#[divan::bench]
fn place_remembered(bencher: Bencher<'_, '_>) {
    let (mut places, [.., heap]) = (Places::new(), addresses());
    bencher.bench_local(|| places.of(SECOND_NS, std::process::id(), black_box(heap)).is_some());
}

/// The map is read again each time, but not smaps.
#[divan::bench]
fn place_read_again(bencher: Bencher<'_, '_>) {
    let (mut places, [.., heap], mut now_ns) = (Places::new(), addresses(), 0);
    bencher.bench_local(|| {
        // Walking is due again after 30 s: the clock stays within.
        now_ns = (now_ns + SECOND_NS) % (20 * SECOND_NS);
        if now_ns == 0 {
            places = Places::new();
        }
        places.of(now_ns, std::process::id(), black_box(heap)).is_some()
    });
}

/// With smaps and numa_maps.
#[divan::bench]
fn place_first(bencher: Bencher<'_, '_>) {
    let [.., heap] = addresses();
    bencher
        .with_inputs(Places::new)
        .bench_local_refs(|places| places.of(0, std::process::id(), heap).is_some());
}

#[divan::bench]
fn stack_first(bencher: Bencher<'_, '_>) {
    let [main, qsort, _] = addresses();
    bencher
        .with_inputs(Symbolizer::new)
        .bench_local_refs(|symbolizer| symbolizer.frames(0, std::process::id(), &[main, qsort]));
}

/// Sixteen frames of files that are known.
#[divan::bench]
fn stack_next(bencher: Bencher<'_, '_>) {
    let (mut symbolizer, [main, qsort, _]) = (Symbolizer::new(), addresses());
    let addresses = [[main, qsort]; 8].concat();
    bencher.bench_local(|| symbolizer.frames(0, std::process::id(), black_box(&addresses)));
}

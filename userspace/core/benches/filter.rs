//! What a filter takes to look at a fault: with names that the model has to be asked for, and without.
//!
//! Run with `cargo bench -p dsascope-core --bench filter`.

#[allow(dead_code, reason = "shared with the model's bench, which needs more of it")]
mod storm;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use dsascope_core::event::Event;
use dsascope_core::filter::Filter;
use dsascope_core::model::{Limits, Model};

use storm::{BLOCK, Storm, Stream};

/// Counts allocations: there is none for a fault.
#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const FILTERS: [&str; 5] = [
    "copy > 50us",
    "status == CRA_XLAT and copy > 50us",
    "process == \"storm\" and status == SUCCESS and copy > 1us",
    "wq == wq0.1 or wq == wq0.3",
    "process ~ \"*orm\" and not (outcome == failed or batch is known) and page_address in (0x1000, 0x2000, 0x3000)",
];

#[divan::bench(args = FILTERS)]
fn a_fault(bencher: Bencher<'_, '_>, filter: &str) {
    let filter: Filter = filter.parse().unwrap_or_else(|error| panic!("{error}"));
    let (mut stream, opens) = Stream::new(Storm { processes: 1000, faults_an_interrupt: 16, batches: false });
    let mut model = Model::new(Limits::default());
    opens.iter().for_each(|event| model.update(event));
    let faults: Vec<_> = std::iter::repeat_with(|| stream.block())
        .take(8)
        .flatten()
        .filter_map(|event| match event {
            Event::Fault(fault) => Some(fault),
            _ => None,
        })
        .take(BLOCK as usize)
        .collect();
    bencher
        .counter(ItemsCount::new(faults.len()))
        .bench_local(|| faults.iter().filter(|fault| filter.matches(fault, &model)).count());
}

fn main() {
    divan::main();
}

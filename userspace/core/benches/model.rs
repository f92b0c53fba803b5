//! What the model takes to fold faults in: `Model::update` alone, from events that lie decoded in memory.
//!
//! Run with `cargo bench -p dsascope-core`. The median is what a fault takes; the mean has its share of the refreshes (each
//! half second of the stream) and snapshots (each second) too.

mod storm;

use divan::Bencher;
use divan::counter::ItemsCount;
use dsascope_core::event::{Event, Fault};
use dsascope_core::model::{Limits, Model};

use storm::{BLOCK, Storm, Stream};

fn update(bencher: Bencher<'_, '_>, storm: Storm) {
    let (mut stream, opens) = Stream::new(storm);
    let mut model = Model::new(Limits::default());
    opens.iter().for_each(|event| model.update(event));
    // Until histograms have grown to their size.
    for _ in 0..100 {
        stream.block().iter().for_each(|event| model.update(event));
    }
    bencher
        .counter(ItemsCount::new(BLOCK))
        .with_inputs(|| stream.block())
        .bench_local_refs(|events| events.iter().for_each(|event| model.update(event)));
}

#[divan::bench(args = [5, 1000], sample_count = 2000, sample_size = 1)]
fn an_interrupt_a_fault(bencher: Bencher<'_, '_>, processes: u32) {
    update(bencher, Storm { processes, faults_an_interrupt: 1, batches: false });
}

#[divan::bench(args = [5, 1000], sample_count = 2000, sample_size = 1)]
fn an_interrupt_for_16(bencher: Bencher<'_, '_>, processes: u32) {
    update(bencher, Storm { processes, faults_an_interrupt: 16, batches: false });
}

#[divan::bench(args = [5], sample_count = 2000, sample_size = 1)]
fn batches(bencher: Bencher<'_, '_>, processes: u32) {
    update(bencher, Storm { processes, faults_an_interrupt: 16, batches: true });
}

fn main() {
    println!("an event has {} bytes, a fault {}", size_of::<Event>(), size_of::<Fault>());
    divan::main();
}

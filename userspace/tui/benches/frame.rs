//! What a frame of the live view takes during a storm, at 200x60: `cargo bench -p dsascope-tui --bench frame`.
//!
//! A frame is two things: the tick, which derives what is shown from the model, and the drawing. Each is measured after the faults of a
//! twentieth of a second at 100,000 a second, and in each view.

mod live;

use std::cell::RefCell;

use divan::Bencher;
use dsascope_core::compare::{By, Collector};
use dsascope_core::model::Model;
use dsascope_tui::{Baseline, View};
use live::Live;

#[divan::bench(args = View::ALL, sample_count = 100, sample_size = 1)]
fn tick(bencher: Bencher<'_, '_>, view: View) {
    let live = RefCell::new(Live::new(view));
    bencher.with_inputs(|| live.borrow_mut().storm()).bench_local_values(|()| live.borrow_mut().tick());
}

#[divan::bench(args = View::ALL, sample_count = 100, sample_size = 1)]
fn draw(bencher: Bencher<'_, '_>, view: View) {
    let live = RefCell::new(Live::new(view));
    let next = || {
        live.borrow_mut().storm();
        live.borrow_mut().tick();
    };
    bencher.with_inputs(next).bench_local_values(|()| live.borrow_mut().draw());
}

/// The latency view beside a baseline that has every process's latencies.
#[divan::bench(sample_count = 100, sample_size = 1)]
fn draw_against_a_baseline(bencher: Bencher<'_, '_>) {
    let mut live = Live::new(View::Latency);
    let mut model = Model::default();
    let mut collector = Collector::new(By::Process);
    for event in (0..20).flat_map(|_| live.stream.block()) {
        model.update(&event);
        collector.event(&model, &event);
    }
    live.app = live.app.against(Some(Baseline::new("before.dsc".into(), collector.finish(&model), false)));
    let live = RefCell::new(live);
    let next = || {
        live.borrow_mut().storm();
        live.borrow_mut().tick();
    };
    bencher.with_inputs(next).bench_local_values(|()| live.borrow_mut().draw());
}

fn main() {
    divan::main();
}

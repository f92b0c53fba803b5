//! Percentiles of a frame's two parts in each view, which need more frames than [`frame`](frame.rs) has: `cargo bench -p dsascope-tui --bench
//! percentiles`, or with the names of views behind it.

mod live;

use std::time::{Duration, Instant};

use dsascope_tui::View;
use hdrhistogram::Histogram;
use live::Live;

/// More than any frame takes.
const MOST_NS: u64 = 10_000_000_000;
/// The tenth longest is the 99th percentile.
const FRAMES: usize = 1_000;

fn main() {
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let views = View::ALL
        .into_iter()
        .filter(|view| wanted.is_empty() || wanted.iter().any(|name| name.eq_ignore_ascii_case(view.name())));
    println!("| view | tick, median | p99 | drawing, median | p99 | longest |");
    println!("|---|---:|---:|---:|---:|---:|");
    for view in views {
        let mut live = Live::new(view);
        let [mut ticks, mut drawings] =
            [(); 2].map(|()| Histogram::<u32>::new_with_max(MOST_NS, 3).expect("valid bounds"));
        for _ in 0..FRAMES {
            live.storm();
            ticks.saturating_record(ns(|| {
                live.tick();
            }));
            drawings.saturating_record(ns(|| live.draw()));
        }
        let ms = |ns: u64| format!("{:.1} ms", Duration::from_nanos(ns).as_secs_f64() * 1e3);
        let at = |times: &Histogram<u32>, quantile| ms(times.value_at_quantile(quantile));
        let (tick, tick99) = (at(&ticks, 0.5), at(&ticks, 0.99));
        let (drawing, drawing99, longest) = (at(&drawings, 0.5), at(&drawings, 0.99), ms(drawings.max()));
        println!("| {} | {tick} | {tick99} | {drawing} | {drawing99} | {longest} |", view.name());
    }
}

fn ns(run: impl FnOnce()) -> u64 {
    let began = Instant::now();
    run();
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

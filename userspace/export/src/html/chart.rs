//! Charts as SVG, drawn here. All numbers are ours; no text from outside comes in.

use dsascope_core::event::Fault;
use dsascope_core::hist::{Bar, Summary};
use dsascope_core::quantity;
use dsascope_core::stages::Stage;
use maud::{Markup, html};

use dsascope_core::report::{COLUMNS, Column, Map, ROWS_A_DECADE, row_ns};

/// Bars of a histogram in a decade.
pub(super) const BARS_A_DECADE: u32 = 20;

fn log(ns: u64) -> f64 {
    (ns.max(1) as f64).log10()
}

fn words(ns: u64) -> String {
    quantity::duration(ns, "µs")
}

fn place(value: f64) -> String {
    format!("{value:.1}")
}

/// A stage's span on one axis for all stages.
pub(super) fn range(summary: &Summary, all: &[(Stage, Summary)]) -> Markup {
    let low = all.iter().map(|(_, s)| log(s.min_ns)).fold(f64::INFINITY, f64::min).floor();
    let high = all.iter().map(|(_, s)| log(s.max_ns)).fold(0.0, f64::max).ceil().max(low + 1.0);
    let x = |ns: u64| ((log(ns) - low) / (high - low) * 200.0).clamp(0.0, 200.0);
    let (half, most) = (x(summary.p50_ns), x(summary.p99_ns));
    html! {
        svg viewBox="0 0 200 20" preserveAspectRatio="none" role="img" aria-label={ (words(summary.min_ns)) " to " (words(summary.max_ns)) ", median " (words(summary.p50_ns)) } {
            @for decade in 1..(high - low) as u32 {
                @let x = place(f64::from(decade) * 200.0 / (high - low));
                line.grid x1=(x) x2=(x) y1="0" y2="20" {}
            }
            line.thin x1=(place(x(summary.min_ns))) x2=(place(x(summary.max_ns))) y1="10" y2="10" {}
            rect.thick x=(place(half)) width=(place((most - half).max(1.0))) y="5" height="10" {}
            rect.mark x=(place(half - 1.0)) width="2" y="2" height="16" {}
        }
    }
}

/// A part of the largest.
pub(super) fn share(count: u64, most: u64) -> Markup {
    let width = if most == 0 { 0.0 } else { count as f64 * 200.0 / most as f64 };
    html! {
        svg viewBox="0 0 200 20" preserveAspectRatio="none" aria-hidden="true" {
            rect.thick x="0" y="5" height="10" width=(place(width)) {}
        }
    }
}

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 96.0;

/// A distribution over a logarithmic axis, with the median and 99 % marked.
pub(super) fn histogram(bars: &[Bar], summary: &Summary) -> Markup {
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0).max(1);
    let low = bars.first().map_or(0.0, |bar| log(bar.from_ns));
    let high = bars.last().map_or(1.0, |bar| log(bar.to_ns)).max(low + 0.01);
    let x = |ns: u64| ((log(ns) - low) / (high - low) * WIDTH).clamp(0.0, WIDTH);
    html! {
        svg viewBox=(format!("0 -4 {WIDTH} {}", HEIGHT + 26.0)) role="img" aria-label={ "histogram, " (words(summary.min_ns)) " to " (words(summary.max_ns)) } {
            @for decade in low.ceil() as u32..=high.floor() as u32 {
                @let ns = 10u64.pow(decade.min(19));
                line.grid x1=(place(x(ns))) x2=(place(x(ns))) y1="0" y2=(HEIGHT) {}
                @if x(ns) > 14.0 && x(ns) < WIDTH - 14.0 { text x=(place(x(ns))) y=(HEIGHT + 14.0) text-anchor="middle" { (axis(ns)) } }
            }
            @for bar in bars {
                @if bar.count > 0 {
                    @let height = (bar.count as f64 * HEIGHT / most as f64).max(1.0);
                    @let (from, to) = (x(bar.from_ns), x(bar.to_ns));
                    rect.bar x=(place(from)) width=(place((to - from - 0.5).max(0.8))) y=(place(HEIGHT - height)) height=(place(height)) {
                        title { (words(bar.from_ns)) " to " (words(bar.to_ns)) ": " (bar.count) }
                    }
                }
            }
            @for (ns, name) in [(summary.p50_ns, "50 %"), (summary.p99_ns, "99 %")] {
                line.quantile x1=(place(x(ns))) x2=(place(x(ns))) y1="0" y2=(HEIGHT) { title { (name) " " (words(ns)) } }
            }
            line.thin x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
        }
    }
}

/// A power of ten on an axis.
fn axis(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{} s", ns / 1_000_000_000),
    }
}

/// Space for the latency axis' words, of a cell, and of a line of marks below.
const LEFT: usize = 52;
const CELL_WIDTH: usize = 10;
const STRIP: usize = 13;

/// Time to the right, latency upwards. `None` when it is empty.
pub(super) fn map(map: &Map) -> Option<Markup> {
    let (first, last) = map.used_rows()?;
    // Whole decades above and below.
    let (bottom, top) = (first / ROWS_A_DECADE * ROWS_A_DECADE, (last / ROWS_A_DECADE + 1) * ROWS_A_DECADE);
    let columns = map.columns();
    // Not flat when there are few rows.
    let cell_height = (260 / (top - bottom)).clamp(13, 22);
    // Columns keep their width when there are few, up to a limit.
    let shown = columns.len().max(COLUMNS / 2);
    let (width, height) = (LEFT + shown * CELL_WIDTH, (top - bottom) * cell_height);
    let below = height + 9;
    let x = |column: usize| LEFT + column * CELL_WIDTH;
    let y = |row: usize| (top - 1 - row) * cell_height;
    let marks = |name: &'static str, class: &'static str, line: usize, count: fn(&Column) -> u64| {
        html! {
            text x=(LEFT - 6) y=(below + line * STRIP + 9) text-anchor="end" { (name) }
            @for (place, column) in columns.iter().enumerate() {
                @if count(column) > 0 {
                    rect class=(class) x=(x(place)) y=(below + line * STRIP + 2) width=(CELL_WIDTH - 1) height=(STRIP - 5) { title { (count(column)) " " (name) } }
                }
            }
        }
    };
    let end = below + 2 * STRIP + 16;
    Some(html! {
        svg viewBox=(format!("0 -8 {width} {}", end + 12)) role="img" aria-label="faults by time and latency" {
            @for row in (bottom..=top).step_by(ROWS_A_DECADE) {
                @let y = (top - row) * cell_height;
                line.grid x1=(LEFT) x2=(width) y1=(y) y2=(y) {}
                text x=(LEFT - 6) y=(y + 4) text-anchor="end" { (axis(row_ns(row))) }
            }
            @for (ns, name) in ticks(map.column_ns().saturating_mul(shown as u64)) {
                @let x = LEFT as f64 + ns as f64 / map.column_ns() as f64 * CELL_WIDTH as f64;
                line.grid x1=(place(x)) x2=(place(x)) y1="0" y2=(end - 10) {}
                text x=(place(x)) y=(end + 2) text-anchor="middle" { (name) }
            }
            @for (place, column) in columns.iter().enumerate() {
                @for (row, &count) in column.rows.iter().enumerate().take(top).skip(bottom) {
                    @if count > 0 {
                        rect.cell x=(x(place)) y=(y(row)) width=(CELL_WIDTH - 1) height=(cell_height - 1) rx="1" fill-opacity=(shade(count, map.most())) {
                            title { (count) " of " (words(row_ns(row))) " to " (words(row_ns(row + 1))) }
                        }
                    }
                }
            }
            (marks("failed", "failed", 0, |column| column.failed.into()))
            (marks("lost", "lost", 1, |column| column.holes))
        }
    })
}

/// Moments of a span in steps of 1, 2 or 5, at most eight of them, the end left out.
fn ticks(span_ns: u64) -> Vec<(u64, String)> {
    let decades = (0..19).map(|power| 10u64.pow(power));
    let step_ns = decades
        .flat_map(|ns| [ns, ns.saturating_mul(2), ns.saturating_mul(5)])
        .find(|step_ns| span_ns / step_ns <= 8)
        .unwrap_or(u64::MAX);
    // A name for each needs room on both sides.
    let times = (0..=8).map(|number| step_ns.saturating_mul(number));
    times.take_while(|&ns| ns < span_ns - span_ns / 40).map(|ns| (ns, seconds(ns))).collect()
}

/// A round time since the beginning.
fn seconds(ns: u64) -> String {
    match ns {
        0 => "0".into(),
        1..1_000_000 => format!("{} µs", ns / 1_000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ if ns.is_multiple_of(1_000_000_000) => format!("{} s", ns / 1_000_000_000),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

/// From light to full with the logarithm.
fn shade(count: u32, most: u32) -> String {
    let part = (f64::from(count) + 1.0).ln() / (f64::from(most.max(1)) + 1.0).ln();
    format!("{:.2}", 0.15 + 0.85 * part)
}

/// Stages that follow each other, in the order of their colours.
pub(super) const PARTS: [Stage; 5] =
    [Stage::Interrupt, Stage::Queue, Stage::Prepare, Stage::Copy, Stage::Finish];

/// The colour of one of [`PARTS`].
pub(super) fn swatch(number: usize) -> Markup {
    html! { svg.swatch viewBox="0 0 10 10" aria-hidden="true" { rect class=(format!("s{number}")) width="10" height="10" rx="2" {} } }
}

/// The stages of one fault beside each other.
pub(super) fn timeline(fault: &Fault) -> Markup {
    let durations = fault.durations();
    let whole: u64 = PARTS.iter().filter_map(|&stage| durations.get(stage)).fold(0, u64::saturating_add);
    let mut before = 0u64;
    let spans: Vec<(usize, Stage, u64, u64)> = PARTS
        .iter()
        .enumerate()
        .filter_map(|(number, &stage)| {
            let ns = durations.get(stage)?;
            let from = before;
            before = before.saturating_add(ns);
            Some((number, stage, from, ns))
        })
        .collect();
    let x = |ns: u64| ns as f64 * 1000.0 / whole.max(1) as f64;
    html! {
        svg.timeline viewBox="0 0 1000 16" preserveAspectRatio="none" role="img" aria-label="stages of the fault" {
            @for (number, stage, from, ns) in spans {
                rect class=(format!("s{number}")) x=(place(x(from))) width=(place((x(ns) - 1.0).max(1.0))) y="1" height="14" {
                    title { (stage.name()) " " (words(ns)) }
                }
            }
        }
    }
}

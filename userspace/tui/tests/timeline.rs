//! The faults of a batch on one axis of time.

mod support;

use std::num::NonZeroU64;

use crossterm::event::KeyCode;
use dsascope_common::hw::completion::status;
use dsascope_core::event::{CopyOutcome, Event};
use dsascope_tui::{Theme, View, view};
use support::script;
use support::view::{SIZES, UNICODE, app, open, press, screen};

/// Forty elements of one batch, each queued when the one before it is served, every tenth failed.
fn large_batch() -> Vec<Event> {
    let mut events = script::busy(2);
    let of_batch = |event: &Event| match event {
        Event::Fault(fault) if fault.entry.batch() && fault.entry.first_err_in_batch() => Some(*fault),
        _ => None,
    };
    let template = events.iter().find_map(of_batch).expect("an element");
    let last_ns = events.iter().map(Event::at_ns).max().expect("events");
    for n in 0..=40_u64 {
        let mut fault = template;
        let at = last_ns + n * 60_000;
        let time = |after_ns: u64| NonZeroU64::new(at + after_ns);
        fault.times.queued_ns = time(0);
        fault.times.started_ns = time(20_000 + n * 6_000);
        fault.times.copy_start_ns = time(60_000 + n * 6_000);
        fault.times.copy_end_ns = time(200_000 + n * 10_000);
        fault.at_ns = at + 800_000;
        fault.entry = fault.entry.with_batch_id(99).with_batch_idx(n as u16).with_first_err_in_batch(n == 0);
        if n == 40 {
            fault.entry = fault.entry.with_error(status::BATCH_EVL_ERR).with_batch(false);
        } else if n % 10 == 9 {
            fault.copy = CopyOutcome::Short { asked: 32, done: 0 };
        }
        events.push(Event::Fault(fault));
    }
    events.push(Event::Tick { now_ns: last_ns + 10_000_000 });
    events
}

#[test]
fn a_batch_with_its_time_line() {
    let opened = |theme, size| {
        let mut app = app(theme, size, large_batch());
        open(&mut app, View::Batches);
        let row = app.batches().expect("batches").iter().position(|batch| batch.id == 99).expect("the batch");
        press(&mut app, std::iter::repeat_n(KeyCode::Down, row));
        app
    };
    for size in SIZES {
        let mut app = opened(UNICODE, size);
        press(&mut app, [KeyCode::Enter, KeyCode::End]);
        insta::assert_snapshot!(format!("{}x{}", size.0, size.1), screen(&app, size));
    }
    let mut app = opened(Theme::PLAIN, SIZES[0]);
    press(&mut app, [KeyCode::Enter, KeyCode::End]);
    let plain = screen(&app, SIZES[0]);
    assert!(plain.is_ascii() && plain.lines().all(|line| line.len() <= 80), "{plain}");
    // As text each element has its row, and none is left for words.
    let text = view::text(&app);
    assert!((0..40).all(|n| text.contains(&format!("  element {n} "))), "{text}");
    assert!(!text.contains(" more"), "{text}");
    // Beside the table.
    insta::assert_snapshot!("beside", screen(&opened(UNICODE, SIZES[2]), SIZES[2]));
}

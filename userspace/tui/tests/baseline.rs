//! Latencies beside those of a baseline.

mod support;

use std::num::NonZeroU64;

use crossterm::event::KeyCode;
use dsascope_core::compare::{By, Collector};
use dsascope_core::event::{Event, Filtering};
use dsascope_core::model::Model;
use dsascope_tui::{App, Baseline, Theme, View, view};
use support::script;
use support::view::{SIZES, UNICODE, fed, open, press, screen};

/// A run of a script, as the live view reads one from a file.
fn baseline(events: &[Event], damaged: bool) -> Baseline {
    let mut model = Model::default();
    let mut collector = Collector::new(By::Process);
    for event in events {
        model.update(event);
        collector.event(&model, event);
    }
    Baseline::new("before.dsc".into(), collector.finish(&model), damaged)
}

#[test]
fn latencies_beside_those_of_a_baseline() {
    // Another kernel and smaller queues, one process less, and copies that took half as long.
    let mut events = script::busy(6);
    for event in &mut events {
        match event {
            Event::Session(session) => {
                session.kernel = "6.12.57+deb13-amd64".into();
                session
                    .devices
                    .iter_mut()
                    .flat_map(|device| &mut device.wqs)
                    .for_each(|wq| wq.size = Some(8));
            }
            Event::Fault(fault) => {
                let [Some(from), Some(to), Some(done)] =
                    [fault.times.copy_start_ns, fault.times.copy_end_ns, fault.times.done_ns]
                else {
                    continue;
                };
                let saved = (to.get() - from.get()) / 2;
                fault.times.copy_end_ns = NonZeroU64::new(to.get() - saved);
                fault.times.done_ns = NonZeroU64::new(done.get() - saved);
            }
            _ => {}
        }
    }
    events.retain(|event| !matches!(event, Event::Fault(fault) if fault.tgid == Some(1388)));
    let before = baseline(&events, true);
    let against = |theme, size: (u16, u16)| {
        let app = App::new(theme, size.0, size.1, "").against(Some(before.clone()));
        let mut app = fed(app, script::busy(10));
        open(&mut app, View::Latency);
        app
    };
    for size in SIZES {
        insta::assert_snapshot!(format!("{}x{}", size.0, size.1), screen(&against(UNICODE, size), size));
    }
    let plain = screen(&against(Theme::PLAIN, SIZES[0]), SIZES[0]);
    assert!(
        plain.is_ascii() && plain.contains("o: baseline before.dsc") && plain.contains("o baseline"),
        "{plain}"
    );
    let mut app = against(UNICODE, SIZES[1]);
    insta::assert_snapshot!("as_text", view::text(&app));
    // Of a process: that of its command and work queue, and of one that the baseline does not have, none.
    let pid = |app: &App| app.rows()[app.process_row() - 1].tgid;
    let mut none = Vec::new();
    for _ in 0..4 {
        press(&mut app, [KeyCode::Char('2'), KeyCode::Down]);
        let pid = pid(&app);
        press(&mut app, [KeyCode::Char('5')]);
        if screen(&app, SIZES[1]).contains("baseline before.dsc has none of it") {
            none.push(pid);
        }
    }
    assert_eq!(none, [Some(1388)]);
}

#[test]
fn what_was_observed_otherwise_is_not_compared() {
    let mut events = script::busy(3);
    if let Some(Event::Session(session)) = events.first_mut() {
        session.filter = Some(Filtering { expression: "copy > 50us".into(), left_out: 3 });
    }
    let app = App::new(UNICODE, 120, 40, "").against(Some(baseline(&events, false)));
    let mut app = fed(app, script::busy(10));
    open(&mut app, View::Latency);
    let shown = screen(&app, SIZES[1]);
    assert!(shown.contains("the two runs did not observe the same: filter: copy > 50us / none"), "{shown}");
    let ratio = shown.lines().find(|line| line.contains("ratio")).expect("a line of ratios");
    assert!(!ratio.contains('x'), "{ratio}");
}

//! Marked rows: they show it, are gone to and copied, and stay when the model has forgotten them.

mod support;

use crossterm::event::KeyCode::{self, Char};
use dsascope_core::event::Event;
use dsascope_tui::app::marks::MOST;
use dsascope_tui::{App, Input, Theme, View, view};
use support::script;
use support::view::{SIZES, UNICODE, app, fed, open, press, screen};

fn signs(app: &App, size: (u16, u16)) -> usize {
    // Names of columns and the latency panel have none in front.
    screen(app, size).lines().filter(|line| line.starts_with('*') || line.starts_with("  *")).count()
}

#[test]
fn marks_of_each_table_are_its_own() {
    for (view, size) in
        [View::Processes, View::Batches, View::Faults].into_iter().flat_map(|v| SIZES.map(|s| (v, s)))
    {
        let mut app = app(Theme::PLAIN, size, script::busy(10));
        open(&mut app, view);
        press(&mut app, [KeyCode::Down, Char('m'), KeyCode::Down, KeyCode::Down, Char('m')]);
        assert_eq!(
            (app.marked().len(), signs(&app, size)),
            (2, 2),
            "{view:?} {size:?}\n{}",
            screen(&app, size)
        );
        // Round and round, from wherever one is.
        let row = |app: &App| match view {
            View::Processes => app.process_row() - 1,
            View::Batches => app.batch_row(),
            _ => app.fault_row().expect("a fault"),
        };
        let marked = app.marked();
        press(&mut app, [KeyCode::Home]);
        for turn in 0..4 {
            press(&mut app, [Char('\'')]);
            assert_eq!(row(&app), marked[turn % 2], "{view:?}");
        }
        let text = view::text(&app);
        assert_eq!(text.lines().count(), 3, "{text}");
        press(&mut app, [Char('m'), Char('\''), Char('m')]);
        assert_eq!((app.marked().len(), signs(&app, size)), (0, 0));
        press(&mut app, [Char('\'')]);
        assert_eq!(app.notice(), Some("no row of this table is marked"));
    }
}

#[test]
fn marked_rows_as_they_are_copied() {
    let size = SIZES[1];
    let mut app = app(UNICODE, size, script::busy(10));
    for view in [View::Batches, View::Faults, View::Processes] {
        open(&mut app, view);
        press(&mut app, [KeyCode::Down, Char('m'), KeyCode::Down, Char('m')]);
        insta::assert_snapshot!(format!("marked_{}", view.name().to_lowercase()), view::text(&app));
    }
    for (name, size) in ["80x24", "120x40", "200x60"].into_iter().zip(SIZES) {
        let _ = app.update(Input::Resize { width: size.0, height: size.1 });
        insta::assert_snapshot!(format!("marked_screen_{name}"), screen(&app, size));
    }
}

/// The fault and the batch that were marked are still there when a thousand others have come.
#[test]
fn what_is_marked_outlives_the_list_of_recent_ones() {
    let size = SIZES[1];
    let mut events = script::busy(40);
    let rest = events.split_off(events.len() / 20);
    let mut app = app(UNICODE, size, events);
    let _ = app.event(&Event::Tick { now_ns: script::START_NS + 2_000_000_000 });
    open(&mut app, View::Batches);
    press(&mut app, [Char('m')]);
    let batch = app.batches().expect("batches")[0].clone();
    open(&mut app, View::Faults);
    press(&mut app, [KeyCode::Down, Char('m'), KeyCode::Home]);
    let entry = app.entries()[1].clone();
    let mut app = fed(app, rest);
    assert!(app.model().recent_numbers().start > entry.number, "it has been forgotten");
    assert_eq!(app.entries().last(), Some(&entry));
    press(&mut app, [Char('\'')]);
    assert_eq!(app.fault_row(), Some(app.entries().len() - 1));
    press(&mut app, [KeyCode::Enter]);
    assert!(screen(&app, size).contains(&format!("{:#x}", entry.fault.entry.fault_addr())));
    press(&mut app, [KeyCode::Esc]);
    open(&mut app, View::Batches);
    press(&mut app, [Char('\'')]);
    let found = &app.batches().expect("batches")[app.batch_row()];
    assert_eq!((found.id, found.generation), (batch.id, batch.generation));
    // Marks outlive a capture that is played again; what it has not come to is not shown.
    let _ = app.update(Input::Restart);
    assert_eq!((app.entries().len(), app.batches().expect("batches").len()), (0, 0));
    let mut app = fed(app, script::busy(40));
    open(&mut app, View::Faults);
    assert_eq!(app.entries().last(), Some(&entry));
}

#[test]
fn marks_are_bounded() {
    let size = SIZES[0];
    let mut app = app(UNICODE, size, script::busy(10));
    open(&mut app, View::Faults);
    press(&mut app, std::iter::repeat_n([KeyCode::Down, Char('m')], MOST).flatten());
    assert_eq!((app.marked().len(), app.notice()), (MOST, None));
    press(&mut app, [KeyCode::Down, Char('m')]);
    assert_eq!(app.marked().len(), MOST);
    assert!(app.notice().is_some_and(|notice| notice.contains("unmark another first")));
    press(&mut app, [KeyCode::Up, Char('m'), KeyCode::Down, Char('m')]);
    assert_eq!((app.marked().len(), app.notice()), (MOST, None));
}

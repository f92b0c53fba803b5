//! The mouse: the wheel scrolls what is below it, clicks open and choose what they are on.

mod support;

use crossterm::event::{KeyCode, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use dsascope_core::event::Event;
use dsascope_tui::app::{Focus, Overlay};
use dsascope_tui::rows::Column;
use dsascope_tui::{Actions, App, Input, View};
use support::script;
use support::view::{SIZES, UNICODE, app, fed, key, open, press, screen, type_text};

fn mouse(app: &mut App, kind: MouseEventKind, (column, row): (u16, u16)) -> Actions {
    app.update(Input::Mouse(MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE }))
}

fn click(app: &mut App, at: (u16, u16)) {
    assert!(mouse(app, MouseEventKind::Down(MouseButton::Left), at).redraw, "{at:?}");
}

/// Where a text stands first.
fn place(app: &App, size: (u16, u16), text: &str) -> (u16, u16) {
    let shown = screen(app, size);
    let (row, line) = shown.lines().enumerate().find(|(_, line)| line.contains(text)).expect(text);
    let column = line.chars().count() - line[line.find(text).expect(text)..].chars().count();
    (column as u16, row as u16)
}

#[test]
fn names_of_views_open_them() {
    for size in SIZES {
        let mut app = app(UNICODE, size, script::busy(3));
        let (_, row) = place(&app, size, "1>");
        for view in View::ALL.into_iter().rev() {
            let name = if size.0 < 100 { view.short() } else { view.name() };
            let (column, _) = place(
                &app,
                size,
                &format!("{}{}{name}", view.digit(), if view == app.view() { '>' } else { ' ' }),
            );
            for column in [column, column + 1 + name.len() as u16] {
                click(&mut app, (column, row));
                assert_eq!(app.view(), view, "{size:?}");
            }
        }
        let behind = mouse(&mut app, MouseEventKind::Down(MouseButton::Left), (size.0 - 1, row));
        assert_eq!((behind, app.view()), (Actions::default(), View::Overview));
        // A click on the line of findings goes to them.
        click(&mut app, (3, row + 1));
        assert_eq!(app.view(), View::Findings);
    }
}

#[test]
fn rows_are_chosen_and_opened() {
    let size = SIZES[1];
    let mut app = app(UNICODE, size, script::busy(10));
    let (_, row) = place(&app, size, "qpl-compress");
    click(&mut app, (5, row));
    let chosen = app.process_row();
    assert_eq!(app.rows()[chosen - 1].command, "qpl-compress");
    click(&mut app, (60, row));
    assert_eq!((app.only(), app.focus()), (app.selected(), Focus::Faults));
    assert!(app.entries().iter().all(|entry| entry.fault.context.key() == app.only().expect("a file")));
    // The third fault: the first click chooses it, the second decodes it.
    let (_, top) = place(&app, size, "WHAT HAPPENED");
    let third = app.entries()[2].number;
    click(&mut app, (20, top + 3));
    assert_eq!((app.fault_row(), app.overlay()), (Some(2), None));
    click(&mut app, (20, top + 3));
    let Some(Overlay::Detail { fault, .. }) = app.overlay() else { panic!("{:?}", app.overlay()) };
    assert_eq!(**fault, app.entries()[2].fault);
    assert_eq!(app.entries()[2].number, third);
    // What lies below an open detail is not clicked.
    let below = mouse(&mut app, MouseEventKind::Down(MouseButton::Left), (20, top + 3));
    assert_eq!(below, Actions::default());

    let mut app = crate::app(UNICODE, size, script::busy(10));
    open(&mut app, View::Batches);
    let (_, top) = place(&app, size, "WHAT HAPPENED");
    click(&mut app, (20, top + 2));
    assert_eq!((app.batch_row(), app.overlay()), (1, None));
    click(&mut app, (20, top + 2));
    assert!(matches!(app.overlay(), Some(Overlay::Batch { .. })));
}

/// The newest fault, once it is clicked, is held while others come.
#[test]
fn a_clicked_row_stays_the_one_that_was_clicked() {
    let size = SIZES[1];
    let mut events = script::busy(10);
    let rest = events.split_off(events.len() / 2);
    let mut app = app(UNICODE, size, events);
    open(&mut app, View::Faults);
    let (_, top) = place(&app, size, "WHAT HAPPENED");
    // It is the chosen one already: the click opens it.
    click(&mut app, (20, top + 1));
    press(&mut app, [KeyCode::Esc]);
    let held = app.entries()[app.fault_row().expect("a fault")].number;
    let mut app = fed(app, rest);
    let _ = app.event(&Event::Tick { now_ns: script::START_NS + 20_000_000_000 });
    assert!(app.entries()[0].number > held);
    assert!(!app.follows());
    assert_eq!(app.entries()[app.fault_row().expect("a fault")].number, held);
}

#[test]
fn names_of_columns_order_the_rows() {
    let size = SIZES[1];
    let mut app = app(UNICODE, size, script::busy(10));
    for (name, column) in [("COMMAND", Column::Command), ("FAULTS", Column::Faults), ("P99", Column::P99)] {
        let at = place(&app, size, name);
        click(&mut app, at);
        assert_eq!((app.sort().column, app.sort().descending), (column, column.descends()), "{name}");
        click(&mut app, at);
        assert_eq!((app.sort().column, app.sort().descending), (column, !column.descends()), "{name}");
    }
    let before = app.sort();
    let at = place(&app, size, "TREND");
    click(&mut app, at);
    let at = place(&app, size, "WHAT HAPPENED");
    click(&mut app, at);
    assert_eq!(app.sort(), before, "these order nothing");
}

#[test]
fn the_wheel_scrolls_what_is_below_it() {
    let size = SIZES[0];
    let mut app = app(UNICODE, size, script::busy(10));
    open(&mut app, View::Faults);
    let at = place(&app, size, "OUTCOME");
    assert!(app.follows());
    assert!(mouse(&mut app, MouseEventKind::ScrollDown, at).redraw);
    assert_eq!((app.first_fault(), app.fault_row()), (3, Some(3)));
    for _ in 0..2 {
        let _ = mouse(&mut app, MouseEventKind::ScrollUp, at);
    }
    assert_eq!(app.first_fault(), 0);
    press(&mut app, [KeyCode::Esc]);
    assert!(app.follows());
    // To the end, and no further.
    for _ in 0..1000 {
        let _ = mouse(&mut app, MouseEventKind::ScrollDown, at);
    }
    let rows = app.entries().len() - app.first_fault();
    assert!(screen(&app, size).lines().filter(|line| line.contains("delivered")).count() <= rows);
    assert!(rows < usize::from(size.1) && app.fault_row() >= Some(app.first_fault()));

    press(&mut app, [KeyCode::Char('?')]);
    let _ = mouse(&mut app, MouseEventKind::ScrollDown, at);
    assert_eq!(app.overlay(), Some(&Overlay::Help { scroll: 3 }));
    press(&mut app, [KeyCode::Esc, KeyCode::Char('0')]);
    let _ = mouse(&mut app, MouseEventKind::ScrollDown, (0, 0));
    assert_eq!((app.view(), app.scroll()), (View::Probes, 3));
    // Below the pointer is the header: there is nothing to scroll in the overview.
    press(&mut app, [KeyCode::Char('1')]);
    assert_eq!(mouse(&mut app, MouseEventKind::ScrollDown, (0, 0)), Actions::default());
    for kind in [
        MouseEventKind::Moved,
        MouseEventKind::Down(MouseButton::Right),
        MouseEventKind::Up(MouseButton::Left),
    ] {
        assert_eq!(mouse(&mut app, kind, (3, 8)), Actions::default());
    }
}

#[test]
fn a_click_ends_typing_unless_what_was_typed_is_wrong() {
    let size = SIZES[1];
    let mut app = app(UNICODE, size, script::busy(10));
    let at = place(&app, size, "4 Faults");
    let left = MouseEventKind::Down(MouseButton::Left);
    let _ = key(&mut app, KeyCode::Char('/'));
    type_text(&mut app, "pid == ");
    assert_eq!(mouse(&mut app, left, at), Actions::default());
    assert_eq!(app.view(), View::Overview);
    type_text(&mut app, "1388");
    click(&mut app, at);
    assert_eq!((app.view(), app.filter().text()), (View::Faults, "pid == 1388"));
    assert_eq!(app.mode(), dsascope_tui::keymap::Mode::Normal);
}

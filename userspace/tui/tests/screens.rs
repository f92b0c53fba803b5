//! The whole screen at named sizes, from scripted events with a clock of their own.

mod support;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use dsascope_core::event::Event;
use dsascope_core::filter::Sieve;
use dsascope_tui::theme::Colours;
use dsascope_tui::{Actions, App, Ask, Input, Replay, Theme, View, view};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use support::script;
use support::view::{SIZES, UNICODE, app, fed, key, open, press, screen, type_text};

#[test]
fn busy() {
    for size in SIZES {
        let app = app(UNICODE, size, script::busy(10));
        insta::assert_snapshot!(format!("busy_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn a_capture_says_where_it_stands() {
    let replay = |paused, seeking, speed| {
        let name = "storm.dsc".into();
        Input::Replay(Box::new(Replay {
            name,
            at_ns: 3_000_000_000,
            end_ns: 12_000_000_000,
            speed,
            paused,
            seeking,
        }))
    };
    for size in SIZES {
        let mut app = app(UNICODE, size, script::busy(3));
        let _ = app.update(replay(true, false, Some(2.0)));
        insta::assert_snapshot!(format!("replay_{}x{}", size.0, size.1), screen(&app, size));
        let _ = app.update(replay(false, true, None));
        assert!(screen(&app, size).contains("seeking"));
        let _ = app.update(replay(false, false, None));
        assert!(screen(&app, size).contains("0:12 max"));
    }
}

#[test]
fn keys_of_a_capture_ask_the_runner() {
    let mut app = app(UNICODE, SIZES[0], script::busy(3));
    assert_eq!(key(&mut app, KeyCode::Char('p')), Actions::default(), "nothing is played");
    let replay =
        Replay { name: String::new(), at_ns: 0, end_ns: 1, speed: None, paused: false, seeking: false };
    let _ = app.update(Input::Replay(Box::new(replay)));
    for (code, ask) in [
        (KeyCode::Char('p'), Ask::Pause),
        (KeyCode::Char('['), Ask::Slower),
        (KeyCode::Char(']'), Ask::Faster),
        (KeyCode::Char('n'), Ask::NextFault),
        (KeyCode::Char('N'), Ask::NextBatch),
        (KeyCode::Left, Ask::Seek(-10)),
        (KeyCode::Right, Ask::Seek(10)),
        (KeyCode::Char('w'), Ask::Worst),
        (KeyCode::Char('^'), Ask::Start),
        (KeyCode::Char('$'), Ask::End),
    ] {
        assert_eq!(key(&mut app, code).ask, Some(ask));
    }
    assert_eq!(key(&mut app, KeyCode::Char('e')).ask, None, "no recorder runs");
    let _ = app.update(Input::Recorder);
    assert_eq!(key(&mut app, KeyCode::Char('e')).ask, Some(Ask::Save));
    let _ = app.update(Input::ShowNewest);
    assert!(screen(&app, SIZES[0]).contains("event-log entry"), "{}", screen(&app, SIZES[0]));
    let _ = app.update(Input::Restart);
    assert_eq!(app.model().faults(), 0);
}

#[test]
fn empty() {
    for size in SIZES {
        let app = app(UNICODE, size, script::empty());
        insta::assert_snapshot!(format!("empty_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn lossy() {
    for size in SIZES {
        let app = app(UNICODE, size, script::lossy(10, 1234));
        insta::assert_snapshot!(format!("lossy_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn failing() {
    for size in SIZES {
        let app = app(UNICODE, size, script::failing());
        insta::assert_snapshot!(format!("failing_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn page_requests_stand_below_the_stages_of_their_process() {
    let size = (120, 40);
    let mut app = app(UNICODE, size, script::page_requests());
    press(&mut app, [KeyCode::Down]);
    let shown = screen(&app, size);
    assert!(shown.contains("page req"), "{shown}");
    insta::assert_snapshot!(shown);
    // Beside it, a process that asked for none.
    press(&mut app, [KeyCode::Down]);
    assert!(!screen(&app, size).contains("page req"));
}

#[test]
fn a_fault_with_its_submission() {
    for size in [(120, 50), (80, 24)] {
        let mut app = app(UNICODE, size, script::submitted());
        press(&mut app, [KeyCode::Tab, KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
        insta::assert_snapshot!(format!("submission_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn before_the_session_is_known() {
    insta::assert_snapshot!(screen(&app(UNICODE, (80, 24), vec![]), (80, 24)));
}

#[test]
fn too_small() {
    let size = (50, 12);
    insta::assert_snapshot!(screen(&app(UNICODE, size, script::busy(1)), size));
    for size in [(1, 1), (60, 1), (1, 60), (59, 15), (60, 14)] {
        screen(&app(UNICODE, size, script::busy(1)), size);
    }
}

#[test]
fn every_size_draws() {
    let mut app = app(UNICODE, (80, 24), script::lossy(2, 7));
    for width in (1..220).step_by(13) {
        for height in (1..70).step_by(7) {
            let _ = app.update(Input::Resize { width, height });
            screen(&app, (width, height));
            press(&mut app, [KeyCode::Char('?')]);
            screen(&app, (width, height));
            press(&mut app, [KeyCode::Esc, KeyCode::Char('b')]);
            screen(&app, (width, height));
            press(&mut app, [KeyCode::Char('b')]);
        }
    }
}

#[test]
fn smallest() {
    let size = (60, 15);
    insta::assert_snapshot!(screen(&app(UNICODE, size, script::busy(10)), size));
}

#[test]
fn ascii() {
    let size = (80, 24);
    let text = screen(&app(Theme::PLAIN, size, script::busy(10)), size);
    assert!(text.is_ascii());
    insta::assert_snapshot!(text);
}

#[test]
fn help() {
    for size in SIZES {
        let mut app = app(UNICODE, size, script::busy(2));
        press(&mut app, [KeyCode::Char('?')]);
        insta::assert_snapshot!(format!("help_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn detail() {
    for size in SIZES {
        let mut app = app(UNICODE, size, script::busy(10));
        press(&mut app, [KeyCode::Tab, KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
        insta::assert_snapshot!(format!("detail_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn batches() {
    for size in [(60, 15), (80, 24), (120, 40), (200, 60)] {
        let mut app = app(UNICODE, size, script::moved_failure());
        press(&mut app, [KeyCode::Char('b')]);
        insta::assert_snapshot!(format!("batches_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn batch_detail() {
    for size in [(60, 15), (80, 24), (120, 40)] {
        let mut app = app(UNICODE, size, script::moved_failure());
        press(&mut app, [KeyCode::Char('b'), KeyCode::Tab, KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
        insta::assert_snapshot!(format!("batch_detail_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn findings() {
    for size in SIZES {
        let mut app = app(UNICODE, size, script::trouble());
        press(&mut app, [KeyCode::Char('f')]);
        insta::assert_snapshot!(format!("findings_{}x{}", size.0, size.1), screen(&app, size));
    }
    let mut app = app(UNICODE, (80, 24), script::busy(10));
    press(&mut app, [KeyCode::Char('f')]);
    assert!(screen(&app, (80, 24)).contains("nothing found"));
    press(&mut app, [KeyCode::Char('f')]);
    assert!(app.overlay().is_none());
}

#[test]
fn findings_that_are_over_stand_below_those_that_go_on() {
    let later = |seconds: u64| Event::Tick { now_ns: script::START_NS + seconds * 1_000_000_000 };
    let halted = script::trouble().into_iter().filter(|event| {
        matches!(event, Event::Driver(event) if matches!(event.what, dsascope_core::event::Happening::Halt { .. }))
    });
    let mut events = script::trouble();
    events.push(later(30));
    // Once more what began then, half a minute later.
    events.extend(halted.map(|mut event| {
        if let Event::Driver(event) = &mut event {
            event.at_ns += 40_000_000_000;
        }
        event
    }));
    events.push(later(41));
    for size in SIZES {
        let mut app = app(UNICODE, size, events.clone());
        open(&mut app, View::Findings);
        insta::assert_snapshot!(format!("findings_history_{}x{}", size.0, size.1), screen(&app, size));
    }
    let app = app(UNICODE, SIZES[1], events);
    assert!(screen(&app, SIZES[1]).contains("! device halted"), "what goes on comes first");
}

#[test]
fn batches_scroll_filter_and_go_again() {
    let size = (60, 15);
    let mut app = app(UNICODE, size, script::busy(10));
    press(&mut app, [KeyCode::Char('b'), KeyCode::Tab, KeyCode::End]);
    let shown = app.batches().expect("batches").len();
    assert!(shown > 3 && app.first_batch() > 0 && app.first_batch() < shown);
    assert_eq!(app.batch_row(), shown - 1);
    press(&mut app, [KeyCode::Home, KeyCode::Enter]);
    assert!(app.first_batch() == 0 && app.overlay().is_some());
    press(&mut app, [KeyCode::Esc]);
    press(&mut app, [KeyCode::Char('/')]);
    type_text(&mut app, "redis");
    press(&mut app, [KeyCode::Enter]);
    assert_eq!(app.batches().map(<[_]>::len), Some(0));
    assert!(screen(&app, size).contains("no batch with a fault"));
    press(&mut app, [KeyCode::Char('b')]);
    assert!(app.batches().is_none() && screen(&app, size).contains("recent faults"));
}

#[test]
fn filter() {
    for size in SIZES {
        let mut app = app(UNICODE, size, script::busy(10));
        press(&mut app, [KeyCode::Char('/')]);
        type_text(&mut app, "Session-4");
        insta::assert_snapshot!(format!("filter_{}x{}", size.0, size.1), screen(&app, size));
    }
}

#[test]
fn filter_narrows_and_escape_clears() {
    let size = (80, 24);
    let mut app = app(UNICODE, size, script::busy(10));
    assert_eq!(app.rows().len(), 4);
    press(&mut app, [KeyCode::Char('/')]);
    type_text(&mut app, "1388");
    assert_eq!(app.rows().len(), 1);
    assert!(!app.entries().is_empty() && app.entries().iter().all(|entry| entry.fault.tgid == Some(1388)));
    press(&mut app, [KeyCode::Enter]);
    assert_eq!((app.filter().text(), app.rows().len()), ("1388", 1));
    press(&mut app, [KeyCode::Esc]);
    assert_eq!((app.filter().text(), app.rows().len()), ("", 4));
}

#[test]
fn an_expression_filters_faults_and_the_processes_that_have_them() {
    let size = (120, 30);
    let mut app = app(UNICODE, size, script::busy(10));
    let all = app.entries().len();
    press(&mut app, [KeyCode::Char('/')]);
    type_text(&mut app, "pid == 1388");
    assert_eq!(app.rows().len(), 1);
    assert!(!app.entries().is_empty() && app.entries().iter().all(|entry| entry.fault.tgid == Some(1388)));
    // It does not hold of a fault yet, so the processes of that number stay.
    type_text(&mut app, " and copy >");
    assert_eq!(app.rows().len(), 1);
    assert!(app.filter().error().is_some());
    press(&mut app, [KeyCode::Enter]);
    assert_eq!(app.mode(), dsascope_tui::keymap::Mode::Filter, "what is wrong is not kept");
    type_text(&mut app, " 1h");
    press(&mut app, [KeyCode::Enter]);
    assert_eq!((app.rows().len(), app.entries().len()), (0, 0));
    press(&mut app, [KeyCode::Esc]);
    assert_eq!((app.rows().len(), app.entries().len()), (4, all));
}

#[test]
fn a_filtered_stream_says_so() {
    let size = (120, 30);
    let mut events = script::busy(3);
    let mut sieve = Sieve::new("pid == 1388".parse().expect("a filter"));
    events.retain_mut(|event| sieve.takes(event));
    let app = app(UNICODE, size, events);
    let left_out = app.model().filtering().expect("filtered").left_out;
    assert!(left_out > 0);
    assert!(screen(&app, size).contains(&format!("FILTERED, {left_out} left out")));
}

#[test]
fn the_line_of_a_filter_shows_what_fits_and_what_is_wrong() {
    let size = (120, 30);
    let mut app = app(UNICODE, size, script::busy(10));
    let last = |app: &App| screen(app, size).lines().last().map(str::to_owned).expect("a line");
    press(&mut app, [KeyCode::Char('/')]);
    type_text(&mut app, "copy > 5us and stat");
    assert!(last(&app).contains("status status_code"), "{}", last(&app));
    press(&mut app, [KeyCode::Tab]);
    type_text(&mut app, " == CRA");
    press(&mut app, [KeyCode::Tab, KeyCode::Tab]);
    assert_eq!(app.filter().text(), "copy > 5us and status == CRA_ALIGN");
    type_text(&mut app, "X");
    let line = last(&app);
    assert!(line.contains("at 26: there is no status CRA_ALIGNX: did you mean CRA_ALIGN?"), "{line}");
}

#[test]
fn selection_follows_its_process_through_a_new_order() {
    let size = (80, 24);
    let mut app = app(UNICODE, size, script::busy(10));
    press(&mut app, [KeyCode::Down, KeyCode::Down]);
    let chosen = app.selected().expect("a row");
    let before = app.process_row();
    press(&mut app, [KeyCode::Char('S')]);
    assert_eq!(app.selected(), Some(chosen));
    assert_ne!(app.process_row(), before);
    press(&mut app, [KeyCode::Enter]);
    assert!(app.entries().iter().all(|entry| entry.fault.context.key() == chosen));
    insta::assert_snapshot!(screen(&app, size));
}

#[test]
fn a_held_screen_stands_still_and_goes_on_counting() {
    let size = (120, 40);
    let mut events = script::busy(10);
    let rest = events.split_off(events.len() / 2);
    let mut app = app(UNICODE, size, events);
    let tick = |second: u64| Event::Tick { now_ns: script::START_NS + second * 1_000_000_000 };
    let _ = app.event(&tick(5));
    press(&mut app, [KeyCode::Char(' ')]);
    let (rows, entries) = (app.rows().to_vec(), app.entries().to_vec());
    let counted = app.model().faults();
    let mut app = fed(app, rest);
    assert_eq!((app.rows(), app.entries()), (rows.as_slice(), entries.as_slice()));
    assert!(app.model().faults() > counted);
    assert!(screen(&app, size).contains("FROZEN"));
    press(&mut app, [KeyCode::Char(' ')]);
    assert_ne!(app.rows(), rows.as_slice());
    assert!(!screen(&app, size).contains("FROZEN"));
}

#[test]
fn nothing_new_asks_for_no_drawing() {
    let size = (80, 24);
    let mut app = app(UNICODE, size, script::busy(1));
    let end = script::START_NS + 60_000_000_000;
    let tick = |ms: u64| Event::Tick { now_ns: end + ms * 1_000_000 };
    let _ = app.event(&tick(0));
    for ms in [250, 500, 750] {
        assert_eq!(app.event(&tick(ms)), Actions::default());
    }
    assert!(app.event(&tick(1000)).redraw, "the clock moved");
    assert_eq!(key(&mut app, KeyCode::F(5)), Actions::default());
    let first_fault =
        script::busy(1).into_iter().find(|event| matches!(event, Event::Fault(_))).expect("faults");
    assert_eq!(app.event(&first_fault), Actions::default(), "events wait for the tick");
    assert!(app.event(&tick(1250)).redraw);
}

#[test]
fn quitting() {
    let mut app = app(UNICODE, (80, 24), script::empty());
    assert!(key(&mut app, KeyCode::Char('q')).quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(app.update(Input::Key(control_c)).quit);
}

#[test]
fn drawing_uses_sixteen_colours_at_most_and_none_when_told() {
    use ratatui::style::Color;
    for (theme, coloured) in [(UNICODE, true), (Theme { colours: Colours::None, ..UNICODE }, false)] {
        let mut terminal = Terminal::new(TestBackend::new(120, 40)).expect("a test backend");
        let app = app(theme, (120, 40), script::lossy(10, 5));
        terminal.draw(|frame| view::draw(&app, frame)).expect("a test backend");
        let cells = &terminal.backend().buffer().content;
        assert!(cells.iter().all(|cell| !matches!(cell.fg, Color::Rgb(..) | Color::Indexed(_))));
        let any = cells.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(any, coloured);
    }
}

#[test]
fn each_view() {
    let scripts =
        [("empty", script::empty()), ("lossy", script::lossy(5, 100)), ("failing", script::failing())];
    for view in View::ALL.into_iter().skip(1) {
        let name = format!("view_{}", view.name()).to_lowercase().replace(' ', "_");
        for size in SIZES {
            let mut app = app(UNICODE, size, script::submitted());
            open(&mut app, view);
            insta::assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), screen(&app, size));
        }
        for (what, events) in &scripts {
            let mut app = app(UNICODE, SIZES[1], events.clone());
            open(&mut app, view);
            insta::assert_snapshot!(format!("{name}_{what}"), screen(&app, SIZES[1]));
        }
    }
}

#[test]
fn keys_go_to_what_failed_and_to_what_took_longest() {
    let size = SIZES[1];
    let events = script::busy(10);
    let longest = events.iter().filter_map(|event| match event {
        Event::Fault(fault) => fault.durations().driver.map(|ns| (ns, fault.entry.fault_addr())),
        _ => None,
    });
    let (_, address) = longest.max().expect("a fault");
    let mut app = app(UNICODE, size, events);
    press(&mut app, [KeyCode::Char('w')]);
    assert!(screen(&app, size).contains(&format!("{address:#x}")), "{}", screen(&app, size));
    press(&mut app, [KeyCode::Esc]);

    open(&mut app, View::Faults);
    for _ in 0..3 {
        let before = app.fault_row();
        press(&mut app, [KeyCode::Char('x')]);
        let row = app.fault_row().expect("a fault");
        assert!(Some(row) > before || before == Some(0), "{row}");
        assert!(app.entries()[row].fault.copy.has_failed());
    }
    open(&mut app, View::Batches);
    press(&mut app, [KeyCode::Char('x')]);
    let batches = app.batches().expect("batches");
    assert!(batches[app.batch_row()].elements_failed > 0, "{:?}", batches[app.batch_row()]);
    press(&mut app, [KeyCode::Enter]);
    assert!(view::text(&app).contains("Elements that faulted"), "{}", view::text(&app));
    open(&mut app, View::Processes);
    assert!(view::text(&app).contains("redis-server"), "{}", view::text(&app));
    press(&mut app, [KeyCode::Char('x')]);
    let row = app.process_row().checked_sub(1).expect("a process");
    assert!(app.rows()[row].failures > 0);
}

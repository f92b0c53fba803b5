//! Scripted sessions recorded, and captures read to their end.

#![allow(dead_code, reason = "each test file uses a part")]

#[path = "../../../tui/tests/support/script.rs"]
pub(crate) mod script;

use std::fs;
use std::io::Cursor;
use std::path::Path;

use dsascope_capture::{Capture, Mode, Notice, Plan, ReadError, Recorder};
use dsascope_core::event::Event;

pub(crate) const ALL: Mode = Mode::All { max_bytes: None, keep: None };

/// What `load` ran under, as the captures say.
pub(crate) fn plan(path: &Path, mode: Mode) -> Plan {
    Plan { path: path.into(), replace: false, command: vec!["load".into()], mode }
}

/// Records all of it, and saves the flight recorder's when event `save_at` was told; gives what the writer said.
pub(crate) fn record(path: &Path, mode: Mode, events: &[Event], save_at: Option<usize>) -> Vec<Notice> {
    let mut recorder = Recorder::start(plan(path, mode), || Ok(())).expect("a recorder");
    for (number, event) in events.iter().enumerate() {
        recorder.push(event);
        if save_at == Some(number) {
            recorder.save("a test");
        }
        // The test is faster than any disk; what is left out has a test of its own.
        while recorder.is_behind() {
            std::thread::yield_now();
        }
    }
    assert_eq!(recorder.left_out(), 0, "the test waits for the writer");
    let mut notices: Vec<Notice> = recorder.notices().collect();
    notices.extend(recorder.finish().expect("the writer is there"));
    notices
}

/// A whole capture's bytes.
pub(crate) fn recorded(events: &[Event]) -> Vec<u8> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("whole.dsc");
    record(&path, ALL, events, None);
    fs::read(&path).expect("the file")
}

/// Events of a capture, and what of it could not be read.
///
/// # Errors
/// It is none, or its header is lost.
pub(crate) fn read(bytes: &[u8]) -> Result<(Vec<Event>, Vec<String>), ReadError> {
    let mut capture = Capture::open(Cursor::new(bytes))?;
    let mut events = Vec::new();
    while let Some(event) = capture.next_event()? {
        events.push(event.clone());
    }
    let damage = capture.damage().iter().map(ToString::to_string).collect();
    Ok((events, damage))
}

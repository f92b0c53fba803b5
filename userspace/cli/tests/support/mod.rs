//! The binary, run on scripted events.

#![allow(dead_code, reason = "each test file uses a part")]

#[path = "../../../tui/tests/support/script.rs"]
pub(crate) mod script;

use std::io::Write;
use std::process::{Command, Output};

use dsascope_core::event::Event;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_dsascope");

/// Events as a file that `--events` reads.
pub(crate) fn file(events: &[Event]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    for event in events {
        writeln!(file, "{}", serde_json::to_string(event).expect("events serialise"))
            .expect("a temporary file");
    }
    file
}

pub(crate) fn run(words: &[&str]) -> Output {
    Command::new(BINARY)
        .args(words)
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .output()
        .expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

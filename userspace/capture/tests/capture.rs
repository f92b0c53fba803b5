//! Recorded and read again: whole files, rotated ones, those of the flight recorder, and damaged ones.

mod support;

use std::fs;
use std::path::PathBuf;

use dsascope_capture::{Mode, Notice, Plan, Recorder};
use dsascope_core::event::{Event, HoleKind};
use support::{ALL, plan, record, script};

fn all(bytes: &[u8]) -> (Vec<Event>, Vec<String>) {
    support::read(bytes).expect("a capture")
}

#[test]
fn every_scripted_session_reads_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let scripts = script::all();
    for (number, events) in scripts.iter().enumerate() {
        let path = directory.path().join(format!("{number}.dsc"));
        let notices = record(&path, ALL, events, None);
        assert!(matches!(&notices[..], [Notice::Saved { path: saved, .. }] if *saved == path), "{notices:?}");
        let (read, damage) = all(&fs::read(&path).expect("the file"));
        assert_eq!(damage, Vec::<String>::new());
        assert!(read == *events, "script {number}");
    }
}

#[test]
fn a_file_that_is_there_is_not_written_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.dsc");
    fs::write(&path, "precious").expect("the file");
    let plan = plan(&path, ALL);
    assert!(Recorder::start(plan.clone(), || Ok(())).is_err());
    assert_eq!(fs::read(&path).expect("the file"), b"precious");
    // A recorder that is told of nothing leaves nothing.
    let recorder = Recorder::start(Plan { replace: true, ..plan }, || Ok(())).expect("a recorder");
    recorder.finish().expect("the writer is there");
    assert!(!path.exists());
}

fn faults(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Fault(_))).count()
}

#[test]
fn full_files_are_rotated_and_each_stands_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("r.dsc");
    let events = script::busy(40);
    record(&path, Mode::All { max_bytes: Some(64 << 10), keep: Some(100) }, &events, None);
    let mut files: Vec<PathBuf> = fs::read_dir(directory.path())
        .expect("the directory")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort_by_key(|file| file.extension().and_then(|end| end.to_str()?.parse::<u32>().ok()).unwrap_or(0));
    assert!(files.len() >= 3, "{files:?}");
    let mut together = 0;
    for file in files.iter().rev() {
        let bytes = fs::read(file).expect("the file");
        assert!(bytes.len() <= 64 << 10, "{} bytes", bytes.len());
        let (read, damage) = all(&bytes);
        assert!(damage.is_empty(), "{damage:?}");
        assert!(matches!(read.first(), Some(Event::Session(_))));
        let opened = |event: &&Event| matches!(event, Event::Open(_));
        let first = read.iter().position(|event| matches!(event, Event::Fault(_))).expect("faults");
        assert_eq!(read[..first].iter().filter(opened).count(), 4, "the open files are told again");
        together += faults(&read);
    }
    assert_eq!(together, faults(&events));
}

#[test]
fn without_rotation_a_full_file_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("f.dsc");
    let notices = record(&path, Mode::All { max_bytes: Some(64 << 10), keep: None }, &script::busy(40), None);
    assert!(notices.iter().any(|notice| matches!(notice, Notice::Full { .. })), "{notices:?}");
    assert!(fs::metadata(&path).expect("the file").len() <= 64 << 10);
}

#[test]
fn the_flight_recorder_saves_what_was_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("storm.dsc");
    let events = script::busy(30);
    let at =
        events.iter().rposition(|event| event.at_ns() < script::START_NS + 20_000_000_000).expect("20 s");
    let mode = Mode::Flight {
        ring_bytes: 1 << 20,
        last_ns: Some(5_000_000_000),
        after_ns: 2_000_000_000,
        keep: None,
    };
    let notices = record(&path, mode, &events, Some(at));
    let Some(Notice::Saving { path: saved, why }) = notices.first() else { panic!("{notices:?}") };
    assert_eq!(why, "a test");
    let name = saved.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with("storm-") && name.ends_with("Z.dsc"), "{name}");
    let (read, damage) = all(&fs::read(saved).expect("the file"));
    assert!(damage.is_empty(), "{damage:?}");
    let seconds = |event: &Event| (event.at_ns() - script::START_NS) / 1_000_000_000;
    let told: Vec<u64> = read.iter().filter(|event| matches!(event, Event::Fault(_))).map(seconds).collect();
    let (first, last) = (told[0], told[told.len() - 1]);
    assert!((13..=15).contains(&first) && (21..=23).contains(&last), "from {first} s to {last} s");
    let before = read.iter().find_map(|event| match event {
        Event::Hole(hole) if hole.what == HoleKind::CaptureBegins => Some(hole.count),
        _ => None,
    });
    assert!(before.expect("what came before is told") > 1000);
}

#[test]
fn events_that_were_left_out_are_a_hole_in_their_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("slow.dsc");
    let mut recorder = Recorder::start(plan(&path, ALL), || Ok(())).expect("a recorder");
    let events = script::busy(60);
    for event in &events {
        recorder.push(event);
    }
    let left_out = recorder.left_out();
    recorder.finish().expect("the writer is there");
    let (read, damage) = all(&fs::read(&path).expect("the file"));
    let holes: u64 = read
        .iter()
        .filter_map(|event| match event {
            Event::Hole(hole) if hole.what == HoleKind::CaptureUnwritten => Some(hole.count),
            _ => None,
        })
        .sum();
    // What is missing at the very end is told by nothing that follows, but the recorder knows.
    assert!(holes <= left_out, "{holes} of {left_out}: {damage:?}");
    let kept = read
        .iter()
        .filter(|event| !matches!(event, Event::Hole(hole) if hole.what == HoleKind::CaptureUnwritten));
    assert_eq!(kept.count() as u64 + left_out, events.len() as u64);
}

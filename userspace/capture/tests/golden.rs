//! Captures of every version of the format that there ever was, read as they were on the day they were made.
//!
//! `tests/golden/vN.dsc` is a capture of version N and `vN.jsonl` its events as JSON Lines. They are never made again: when VERSION is raised,
//! `DSASCOPE_GOLDEN=write cargo test -p dsascope-capture --test golden` adds the new version's beside the old ones.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Cursor, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use dsascope_capture::{Capture, ReadError, VERSION};
use dsascope_core::event::{
    Comm, Context, CopyOutcome, DeviceId, DeviceKind, Element, Event, Fault, HoleKind, How, Marks, Origin,
    Place, Release, Seen, Stack, StageTimes,
};
use dsascope_core::submission::{Frame, Memory};
use support::script;

fn golden(version: u8, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}.{extension}"))
}

/// Each kind of event, and faults with and without everything that a fault can lack.
fn stream() -> Vec<Event> {
    let mut faults = 0;
    let mut requests = 0;
    let mut events = script::page_requests();
    events.retain(|event| match event {
        Event::Fault(_) => {
            faults += 1;
            faults <= 40
        }
        Event::PageRequest(_) => {
            requests += 1;
            requests <= 12
        }
        _ => true,
    });
    events.extend(script::trouble());
    events.extend(script::lossy(1, 9).into_iter().filter(|event| matches!(event, Event::Hole(_))));
    let fault = events.iter().find_map(|event| match event {
        Event::Fault(fault) => Some(*fault),
        _ => None,
    });
    let fault = fault.expect("the script has faults");
    let unknown = Context { device: DeviceId::new(DeviceKind::Unknown, 7), wq: 9, pasid: 0, opened_ns: None };
    events.extend([
        Event::Fault(Fault { copy: CopyOutcome::NotCopied, copy_addr: None, delivered: [0; 64], ..fault }),
        Event::Fault(Fault {
            copy: CopyOutcome::Unobserved,
            times: StageTimes { copy_start_ns: None, copy_end_ns: None, ..fault.times },
            marks: Marks { copy_unobserved: true, outcome_inferred: true, ..Marks::default() },
            ..fault
        }),
        Event::Fault(Fault {
            context: unknown,
            tgid: None,
            queue_cpu: None,
            times: StageTimes { interrupt_ns: None, queued_ns: None, done_ns: None, ..fault.times },
            logged: std::array::from_fn(|byte| byte as u8),
            delivered: std::array::from_fn(|byte| !byte as u8),
            counted_faults: 255,
            counted_failures: 3,
            marks: Marks { end_missing: true, queue_missing: true, read_failed: true, ..Marks::default() },
            ..fault
        }),
    ]);
    let origin = Origin {
        submitted_ns: fault.at_ns - 9_000_000,
        seen_ns: NonZeroU64::new(fault.at_ns + 5_000),
        tid: 4243,
        comm: Comm::new("load"),
        how: How::Movdir64b,
        operation: 3,
        bytes: Some(4096),
        instruction: NonZeroU64::new(0x40_1000),
        stack: Some(17),
        element: Some(Element { list: 0x7000_0000, index: 5 }),
    };
    let alone = Origin {
        seen_ns: None,
        how: How::Write,
        bytes: None,
        instruction: None,
        stack: None,
        element: None,
        ..origin
    };
    events.extend([origin, alone].map(|origin| Event::Fault(Fault { origin: Some(origin), ..fault })));
    let seen = Seen {
        at_ns: fault.at_ns + 5_000,
        tgid: 4242,
        tid: 4243,
        record: 0x7100_0000,
        status: 1,
        submitted_ns: NonZeroU64::new(origin.submitted_ns),
        context: Some(fault.context),
        delivered_ns: NonZeroU64::new(fault.at_ns - 1000),
    };
    events.push(Event::Seen(seen));
    events.push(Event::Seen(Seen { submitted_ns: None, context: None, delivered_ns: None, ..seen }));
    let frame = Frame { address: 0x40_1000, symbol: Some("submit".into()), offset: 9, ..Frame::default() };
    events.push(Event::Stack(Box::new(Stack { at_ns: seen.at_ns, tgid: 4242, id: 17, frames: vec![frame] })));
    let (at_ns, page) = (seen.at_ns, 0x7100_0000);
    events.push(Event::Place(Box::new(Place { at_ns, tgid: 4242, page, memory: Memory::Unmapped })));
    let end = fault.at_ns + 5_000_000_000;
    events.push(Event::Release(Release {
        at_ns: end,
        context: fault.context,
        start_ns: NonZeroU64::new(end - 3_000_000),
        drain_ns: NonZeroU64::new(end - 2_000_000),
        end_ns: NonZeroU64::new(end - 1_000),
        counter_faults: 41,
        counter_failures: 2,
        file: 3,
        skipped: 1,
    }));
    events.push(Event::Tick { now_ns: end });
    events
}

fn write(capture: &Path, events: &[Event]) {
    let bytes = support::recorded(events);
    // An old one is what old files are like: it is never written over.
    let new =
        |path: &Path| File::create_new(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    new(capture).write_all(&bytes).expect("written");
    let mut lines = new(&capture.with_extension("jsonl"));
    for event in events {
        writeln!(lines, "{}", serde_json::to_string(event).expect("events can be serialised"))
            .expect("written");
    }
}

fn read(bytes: &[u8]) -> Vec<Event> {
    let mut capture = Capture::open(Cursor::new(bytes)).expect("a capture");
    assert_eq!(capture.meta().command, ["load"]);
    let mut events = Vec::new();
    while let Some(event) = capture.next_event().expect("readable") {
        events.push(event.clone());
    }
    assert!(capture.is_ended() && capture.damage().is_empty(), "{:?}", capture.damage());
    events
}

fn expected(version: u8) -> Vec<Event> {
    let lines = BufReader::new(File::open(golden(version, "jsonl")).expect("its events"));
    lines.lines().map(|line| serde_json::from_str(&line.expect("a line")).expect("an event")).collect()
}

#[test]
fn every_version_reads_as_it_did() {
    if std::env::var_os("DSASCOPE_GOLDEN").is_some_and(|what| what == "write") {
        write(&golden(VERSION, "dsc"), &stream());
    }
    for version in 1..=VERSION {
        let bytes = fs::read(golden(version, "dsc")).expect("a golden file of each version");
        assert_eq!(bytes[8..10], u16::from(version).to_le_bytes(), "it is of that version");
        let (read, expected) = (read(&bytes), expected(version));
        for (number, (read, expected)) in read.iter().zip(&expected).enumerate() {
            assert_eq!(read, expected, "version {version}, event {number}");
        }
        assert_eq!(read.len(), expected.len(), "version {version}");
    }
}

#[test]
fn the_golden_file_has_each_kind_of_event() {
    let name = |event: &Event| match event {
        Event::Session(_) => "session",
        Event::Fault(_) => "fault",
        Event::Interrupt(_) => "interrupt",
        Event::Open(_) => "open",
        Event::Release(_) => "release",
        Event::Driver(_) => "driver",
        Event::PageRequest(_) => "page request",
        Event::Seen(_) => "seen",
        Event::Stack(_) => "stack",
        Event::Place(_) => "place",
        Event::Hole(_) => "hole",
        Event::Snapshot(_) => "snapshot",
        Event::Tick { .. } => "tick",
    };
    let kinds: BTreeSet<&str> = expected(VERSION).iter().map(name).collect();
    assert_eq!(kinds.len(), 13, "{kinds:?}");
}

/// The golden file as if a later dsascope had made it.
fn of_version(version: u16) -> Vec<u8> {
    let mut bytes = fs::read(golden(VERSION, "dsc")).expect("the golden file");
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_newer_version_is_refused_by_name() {
    for newer in [u16::from(VERSION) + 1, 256, u16::MAX] {
        let error = Capture::open(Cursor::new(of_version(newer))).expect_err("it is newer");
        assert!(matches!(error, ReadError::Newer { found } if found == newer));
        let said = error.to_string();
        let wanted = format!("its format {newer} is newer than this dsascope, which reads up to {VERSION}");
        assert!(said.contains(&wanted), "{said}");
    }
    assert!(Capture::open(Cursor::new(of_version(VERSION.into()))).is_ok());
}

#[test]
fn a_block_of_a_newer_version_is_damage_not_a_guess() {
    let mut bytes = fs::read(golden(VERSION, "dsc")).expect("the golden file");
    // Without trailer, as if cut off; the first block of events is the second of the file.
    bytes.truncate(bytes.len() - 16);
    let stored = u32::from_le_bytes(bytes[32..36].try_into().expect("four bytes"));
    let block = 16 + 104 + stored as usize;
    assert_eq!(bytes[block..block + 5], [b'd', b's', b'b', VERSION, 2]);
    bytes[block + 3] = VERSION + 1;
    let crc = crc32c::crc32c(&bytes[block..block + 100]);
    bytes[block + 100..block + 104].copy_from_slice(&crc.to_le_bytes());
    let mut capture = Capture::open(Cursor::new(bytes)).expect("a capture");
    let mut missing = 0;
    while let Some(event) = capture.next_event().expect("readable") {
        if let Event::Hole(hole) = event
            && hole.what == HoleKind::CaptureDamaged
        {
            missing += hole.count;
        }
    }
    assert!(missing > 0, "{:?}", capture.damage());
}

//! Whatever events come and wherever blocks and files end: what was recorded reads back.

#[path = "../../../tui/tests/support/script.rs"]
mod script;

use std::io::Cursor;
use std::sync::LazyLock;

use dsascope_core::event::HoleKind;
use proptest::prelude::*;

use super::*;
use crate::codec::tests::event as any_event;
use crate::reader::Capture;

/// Every kind of event that is JSON in a capture, and others as they are in life.
static SCRIPT: LazyLock<Vec<Event>> =
    LazyLock::new(|| [script::trouble(), script::lossy(1, 3), script::page_requests()].concat());

#[derive(Clone, Debug)]
enum Step {
    Event(Box<Event>),
    /// So many of the script, from there.
    Script(prop::sample::Index, usize),
    /// The block ends here.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any_event().prop_map(|event| Step::Event(Box::new(event))),
        3 => (any::<prop::sample::Index>(), 1usize..60).prop_map(|(from, count)| Step::Script(from, count)),
        2 => Just(Step::Cut),
    ]
}

/// Everything, to `path` and the files that it is rotated to.
fn all(path: &Path, max_bytes: Option<u64>) -> Plan {
    let mode = Mode::All { max_bytes, keep: max_bytes.map(|_| 1000) };
    Plan { path: path.to_owned(), replace: false, command: Vec::new(), mode }
}

/// Records and gives the events that went in, and the files, the oldest first.
fn record(steps: &[Step], max_bytes: Option<u64>) -> (Vec<Event>, Vec<Vec<u8>>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("any.dsc");
    let mut recorder = Recorder::start(all(&path, max_bytes), || Ok(())).expect("a recorder");
    let mut events = Vec::new();
    let mut push = |recorder: &mut Recorder, event: &Event| {
        while recorder.is_behind() {
            std::thread::yield_now();
        }
        recorder.push(event);
        events.push(event.clone());
    };
    push(&mut recorder, &Event::Session(Box::new(script::session())));
    for step in steps {
        match step {
            Step::Event(event) => push(&mut recorder, event),
            Step::Script(from, count) => {
                let from = from.index(SCRIPT.len());
                SCRIPT[from..].iter().take(*count).for_each(|event| push(&mut recorder, event));
            }
            // In this mode nothing is saved for it, but the block ends.
            Step::Cut => {
                while recorder.is_behind() {
                    std::thread::yield_now();
                }
                recorder.save("a cut");
            }
        }
    }
    assert_eq!(recorder.left_out(), 0, "the test waits for the writer");
    for notice in recorder.finish().expect("the writer is there") {
        assert!(matches!(notice, Notice::Saved { .. }), "{notice:?}");
    }
    let mut files = Vec::new();
    for number in (1..1000).rev() {
        files.extend(fs::read(path.with_file_name(format!("any.dsc.{number}"))));
    }
    files.push(fs::read(&path).expect("the file"));
    (events, files)
}

/// The events of a file, without what only repeats or tells what was before it.
fn own(bytes: &[u8], is_first: bool) -> Vec<Event> {
    let mut capture = Capture::open(Cursor::new(bytes)).expect("a capture");
    let carried: u32 = capture.blocks().map(|block| block.carried.get()).sum();
    let mut events = Vec::new();
    while let Some(event) = capture.next_event().expect("readable") {
        events.push(event.clone());
    }
    assert!(capture.is_ended() && capture.damage().is_empty(), "{:?}", capture.damage());
    if !is_first {
        assert!(matches!(&events[0], Event::Session(_)));
        // None, where what is before it has no events but the session.
        let told = matches!(&events[1], Event::Hole(hole) if hole.what == HoleKind::CaptureBegins);
        events.drain(..1 + usize::from(told) + carried as usize);
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_recorded_reads_back(steps in prop::collection::vec(step(), 0..60)) {
        let (events, files) = record(&steps, None);
        prop_assert_eq!(files.len(), 1);
        prop_assert!(own(&files[0], true) == events);
    }

    #[test]
    fn rotated_files_are_the_recording_together(
        steps in prop::collection::vec(step(), 30..90), max_bytes in 8_000u64..40_000,
    ) {
        let (events, files) = record(&steps, Some(max_bytes));
        prop_assume!(files.len() > 1);
        let together: Vec<Event> =
            files.iter().enumerate().flat_map(|(number, bytes)| own(bytes, number == 0)).collect();
        prop_assert!(together == events, "{} files, {} of {} events", files.len(), together.len(), events.len());
    }
}

/// As when the command that was to be recorded cannot be started.
#[test]
fn a_recorder_dropped_before_anything_was_traced_leaves_no_file() {
    let directory = tempfile::tempdir().expect("a directory");
    for round in 0..200 {
        let path = directory.path().join(format!("{round}.dsc"));
        drop(Recorder::start(all(&path, None), || Ok(())).expect("a recorder"));
        assert!(!path.exists(), "round {round}");
    }
}

#[test]
fn a_recorder_dropped_in_the_middle_closes_its_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("any.dsc");
    let mut recorder = Recorder::start(all(&path, None), || Ok(())).expect("a recorder");
    recorder.push(&Event::Session(Box::new(script::session())));
    drop(recorder);
    let bytes = fs::read(&path).expect("the file");
    Capture::open(Cursor::new(&bytes[..])).expect("a capture");
}

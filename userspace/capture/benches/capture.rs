//! What recording and replaying take, each on one core: `cargo bench -p dsascope-capture`.

#[path = "../../core/benches/storm/mod.rs"]
mod storm;

use std::io::Cursor;
use std::sync::LazyLock;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use dsascope_capture::{Blocks, Capture, Mode, Plan, Recorder};
use dsascope_core::event::Event;
use dsascope_core::model::{Limits, Model};

use storm::{BLOCK, Storm, Stream};

/// Blocks of [`BLOCK`] faults in the capture that is replayed.
const BLOCKS: u64 = 512;

static CAPTURE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("storm.dsc");
    let mode = Mode::All { max_bytes: None, keep: None };
    let plan = Plan { path: path.clone(), replace: false, command: Vec::new(), mode };
    let mut recorder = Recorder::start(plan, || Ok(())).expect("a recorder");
    recorder.push(&Event::Session(Box::default()));
    let (mut stream, opens) = Stream::new(Storm { processes: 5, faults_an_interrupt: 4, batches: false });
    opens.iter().for_each(|event| recorder.push(event));
    for _ in 0..BLOCKS {
        for event in stream.block() {
            recorder.push(&event);
            while recorder.is_behind() {
                std::thread::yield_now();
            }
        }
    }
    recorder.finish().expect("the writer is there");
    std::fs::read(path).expect("the capture")
});

/// What the tracer's own thread does for a recording; compression and writing are another's.
#[divan::bench(sample_count = 200, sample_size = 1)]
fn record(bencher: Bencher<'_, '_>) {
    let (mut stream, _) = Stream::new(Storm { processes: 5, faults_an_interrupt: 4, batches: false });
    let mut blocks = Blocks::default();
    bencher
        .counter(ItemsCount::new(BLOCK))
        .with_inputs(|| stream.block())
        .bench_local_refs(|events| events.iter().filter_map(|event| blocks.push(event)).count());
}

fn replay(mut tell: impl FnMut(&Event)) {
    let mut capture = Capture::open(Cursor::new(&CAPTURE[..])).expect("a capture");
    while let Some(event) = capture.next_event().expect("a slice can be read") {
        tell(event);
    }
}

/// From the file's bytes to events.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn read(bencher: Bencher<'_, '_>) {
    let bytes = CAPTURE.len();
    bencher.counter(ItemsCount::new(BLOCK * BLOCKS)).counter(BytesCount::new(bytes)).bench_local(|| {
        let mut events = 0_u64;
        replay(|_| events += 1);
        events
    });
}

/// From the file's bytes to all figures that stat shows.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn read_to_model(bencher: Bencher<'_, '_>) {
    let _ = CAPTURE.len();
    bencher.counter(ItemsCount::new(BLOCK * BLOCKS)).bench_local(|| {
        let mut model = Model::new(Limits::without_faults());
        replay(|event| model.update(event));
        model.faults()
    });
}

fn main() {
    println!("{:.1} bytes a fault in the capture", CAPTURE.len() as f64 / (BLOCK * BLOCKS) as f64);
    divan::main();
}

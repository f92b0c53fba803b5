//! Writes a capture of the storm that the benches replay, of 200,000 faults a second, to measure replay end to end.
//!
//! `cargo run --release -p dsascope-capture --example storm -- big.dsc 20000000`, of 5 processes, or of as many as a third number says.

#[path = "../../core/benches/storm/mod.rs"]
mod storm;

use std::env::args;
use std::error::Error;
use std::thread::yield_now;

use dsascope_capture::{Mode, Plan, Recorder};
use dsascope_core::event::Event;

use storm::{BLOCK, Storm, Stream};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = args().skip(1).collect();
    let (path, faults, processes) = match &arguments[..] {
        [path, faults] => (path, faults, 5),
        [path, faults, processes] => (path, faults, processes.parse()?),
        _ => return Err("usage: storm FILE.dsc FAULTS [PROCESSES]".into()),
    };
    let faults: u64 = faults.parse()?;
    let mode = Mode::All { max_bytes: None, keep: None };
    let plan = Plan { path: path.into(), replace: false, command: Vec::new(), mode };
    let mut recorder = Recorder::start(plan, || Ok(()))?;
    recorder.push(&Event::Session(Box::default()));
    let (mut stream, opens) = Stream::new(Storm { processes, faults_an_interrupt: 4, batches: false });
    opens.iter().for_each(|event| recorder.push(event));
    for _ in 0..faults.div_ceil(BLOCK) {
        for event in stream.block() {
            recorder.push(&event);
            // A recorder that is behind leaves out what it cannot write.
            while recorder.is_behind() {
                yield_now();
            }
        }
    }
    recorder.finish()?;
    Ok(())
}

//! Replays a capture into the model as `dsascope stat` does, without its output, for what counts instructions or time:
//!
//! `cargo build --release -p dsascope-capture --example replay && valgrind --tool=callgrind target/release/examples/replay big.dsc`

use std::env::args;
use std::error::Error;
use std::fs::File;

use dsascope_capture::Capture;
use dsascope_core::event::Event;
use dsascope_core::model::{Limits, Model};

/// Events that lie between the reader and the model, as in the program.
const BATCH: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    let [_, path] = &args().collect::<Vec<_>>()[..] else {
        return Err("usage: replay FILE.dsc".into());
    };
    let mut capture = Capture::open(File::open(path)?)?;
    let mut model = Model::new(Limits::without_faults());
    let mut batch: Vec<Event> = Vec::new();
    loop {
        while batch.len() < BATCH
            && let Some(event) = capture.next_event()?
        {
            batch.push(event.clone());
        }
        if batch.is_empty() {
            break;
        }
        batch.iter().for_each(|event| model.update(event));
        batch.clear();
    }
    model.refresh();
    println!("{} faults", model.faults());
    Ok(())
}

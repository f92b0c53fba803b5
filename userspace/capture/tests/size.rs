//! What real streams take in a capture that is written today: samples recorded in the testbed, read and recorded again.

mod support;

use std::fs;
use std::path::Path;

use dsascope_core::event::Event;

/// Bytes a fault of a sample, header, index, snapshots and all other events included.
fn bytes_a_fault(sample: &str) -> f64 {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples").join(sample);
    let (events, damage) = support::read(&fs::read(path).expect("a sample")).expect("a capture");
    assert!(damage.is_empty(), "{damage:?}");
    let faults = events.iter().filter(|event| matches!(event, Event::Fault(_))).count();
    support::recorded(&events).len() as f64 / faults as f64
}

/// A calm host's capture is a snapshot a second, and next to no faults.
#[test]
fn a_calm_stream_takes_little() {
    let bytes = bytes_a_fault("calm.dsc") * 25.0;
    println!("calm.dsc: {bytes:.0} bytes");
    assert!(bytes <= 10_000.0, "{bytes:.0} bytes");
}

/// The times of a stream are the same each time here, which those of a new recording are not.
#[test]
fn real_streams_take_few_bytes_a_fault() {
    for (sample, most) in [("storm.dsc", 22.0), ("batch.dsc", 26.5)] {
        let bytes = bytes_a_fault(sample);
        println!("{sample}: {bytes:.2} bytes a fault");
        assert!(bytes <= most, "{sample}: {bytes:.2} bytes a fault");
    }
}

//! Frames survive the way through a byte stream; hostile bytes are errors, never panics.

use dsascope_guest::{
    protocol::{Frame, MAX_FRAME, Reply, Request, Winsize, read_frame, write_frame},
    scenario::random,
};
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..2000)
}

fn frame() -> impl Strategy<Value = Frame> {
    let size = || any::<(u16, u16)>().prop_map(|(columns, rows)| Winsize { columns, rows });
    let exec = (any::<Vec<String>>(), any::<Vec<(String, String)>>(), prop::option::of(size()))
        .prop_map(|(argv, env, tty)| Request::Exec { argv, env, tty });
    let scenario = (any::<u64>(), any::<Option<Vec<String>>>())
        .prop_map(|(seed, tracer)| Request::Scenario { scenario: Box::new(random(seed)), tracer });
    let request = prop_oneof![exec, scenario, Just(Request::Shutdown)].prop_map(Frame::Request);
    let reply = prop_oneof![
        any::<(String, u64)>().prop_map(|(kernel, uptime_ms)| Reply::Ready { kernel, uptime_ms }),
        any::<i32>().prop_map(|code| Reply::Done { code }),
        any::<(String, u64)>().prop_map(|(name, bytes)| Reply::File { name, bytes }),
    ]
    .prop_map(Frame::Reply);
    prop_oneof![
        request,
        reply,
        size().prop_map(Frame::Resize),
        bytes().prop_map(Frame::Stdin),
        bytes().prop_map(Frame::Stdout),
        bytes().prop_map(Frame::Stderr),
        bytes().prop_map(Frame::FileData),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn frames_survive_a_stream(frames in prop::collection::vec(frame(), 1..5)) {
        let mut stream = Vec::new();
        for frame in &frames {
            write_frame(&mut stream, frame).unwrap();
        }
        let mut input = stream.as_slice();
        for frame in &frames {
            prop_assert_eq!(format!("{:?}", read_frame(&mut input).unwrap()), format!("{frame:?}"));
        }
        prop_assert!(input.is_empty());
    }

    #[test]
    fn hostile_bytes_are_errors_or_frames(stream in bytes()) {
        let mut input = stream.as_slice();
        while read_frame(&mut input).is_ok() {}
    }

    #[test]
    fn a_frame_cut_short_is_an_error(frame in frame(), cut in any::<prop::sample::Index>()) {
        let mut stream = Vec::new();
        write_frame(&mut stream, &frame).unwrap();
        let cut = cut.index(stream.len());
        prop_assert!(read_frame(&mut &stream[..cut]).is_err());
    }

    /// A well-framed payload that is not what its kind promises.
    #[test]
    fn hostile_payloads_are_errors(kind: u8, payload in bytes()) {
        let mut stream = (payload.len() as u32 + 1).to_le_bytes().to_vec();
        stream.push(kind);
        stream.extend_from_slice(&payload);
        let structured = matches!(kind, 1 | 3 | 65);
        let raw = matches!(kind, 2 | 66..=68);
        let result = read_frame(&mut stream.as_slice());
        prop_assert_eq!(result.is_ok(), raw, "kind {}, structured {}", kind, structured);
    }
}

#[test]
fn lengths_beyond_the_limit_are_refused_on_both_sides() {
    for length in [0, MAX_FRAME as u32 + 1, u32::MAX] {
        let mut stream = length.to_le_bytes().to_vec();
        stream.extend_from_slice(&[66; 16]);
        assert!(read_frame(&mut stream.as_slice()).is_err(), "{length}");
    }
    assert!(write_frame(&mut Vec::new(), &Frame::Stdout(vec![0; MAX_FRAME])).is_err());
    write_frame(&mut Vec::new(), &Frame::Stdout(vec![0; MAX_FRAME - 1])).unwrap();
}

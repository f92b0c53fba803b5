//! `dsascope decode`: files and pipes in, words or JSON Lines out, and what becomes of bad input.

mod support;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use dsascope_core::json::{Body, Line};
use support::{BINARY, text};

const DUMP: &str = "\
Event Log head 1 tail 2 interrupt pending 0

Event Log entry 0 (real index 1) processed: 0
desc valid 1 wq idx valid 1
batch 1 fault rw 1 priv 0 error 0x1a
wq idx 0 op 0x3 pasid 5 batch idx 2
fault addr 0x7f001000
status 0x1 result 0x0 fault_info 0x0 bytes_completed 0
fault addr 0x0 inv flags 0x0

entry[0] = 0x50309001a3c
entry[1] = 0xc000000000002
entry[2] = 0x7f001000
entry[3] = 0
entry[4] = 0x1
entry[5] = 0
entry[6] = 0
entry[7] = 0

";

fn decode(words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(BINARY)
        .arg("decode")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // A child that refuses its options reads nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("it ends")
}

#[test]
fn a_dump_from_a_pipe() {
    let output = decode(&[], DUMP.as_bytes());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    insta::assert_snapshot!(text(&output.stdout));
}

#[test]
fn a_file_as_json() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(file, "\n\n{DUMP}").expect("a temporary file");
    let output = decode(&["--json", file.path().to_str().expect("UTF-8")], b"");
    let lines: Vec<_> =
        text(&output.stdout).lines().map(|line| Line::parse(line).expect("a line").body).collect();
    let [Body::DecodeNote(note), Body::Decoded(decoded)] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((note.line, decoded.line, decoded.device.as_str()), (3, 5, "dsa"));
}

#[test]
fn hexadecimal_text_of_each_kind() {
    for (words, bytes, expected) in [
        (&["--as", "entry"][..], 64, "dsa event-log entry"),
        (&["--as", "entry", "--device", "iax"], 128, "iax event-log entry"),
        (&["--as", "record", "--operation", "batch"], 32, "descriptors completed"),
        (&["--as", "record", "--operation", "0x01"], 32, "descriptors completed"),
        (&["--as", "record", "--device", "iax", "--operation", "compress"], 64, "output size"),
        (&["--as", "descriptor"], 64, "Asks for a noop, without a completion record."),
    ] {
        let output = decode(words, "00 ".repeat(bytes).as_bytes());
        assert_eq!(output.status.code(), Some(0), "{words:?} {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(expected), "{words:?} {}", text(&output.stdout));
        assert_eq!(text(&output.stdout).matches("line 1: ").count(), 1, "{words:?}");
    }
}

#[test]
fn bad_input_is_named_by_line_and_the_rest_is_decoded() {
    let zeros = "00".repeat(32);
    let input = format!("{zeros}\n00zz\n{zeros}\n0011");
    let output = decode(&["--as", "record"], input.as_bytes());
    assert_eq!(output.status.code(), Some(11));
    assert_eq!(text(&output.stdout).matches("0x00 NONE").count(), 6, "{}", text(&output.stdout));
    let expected = "dsascope: stdin:2: `00zz` is not hexadecimal\n\
                    dsascope: stdin:4: the completion record that begins here has 2 of 32 bytes\n";
    assert_eq!(text(&output.stderr), expected);
    let output = decode(&["--as", "record", "--json"], input.as_bytes());
    assert_eq!(output.status.code(), Some(11));
    assert!(output.stderr.is_empty());
    assert_eq!(text(&output.stdout).matches("\"kind\":\"decode_problem\"").count(), 2);
    let mut input = vec![b'a'; 3 << 20];
    input.extend(b"\n\xff\xfe\n");
    input.extend(zeros.bytes());
    let output = decode(&["--as", "record"], &input);
    assert!(text(&output.stderr).contains("stdin:1: longer than 1048576 bytes"));
    assert!(text(&output.stdout).contains("line 3: dsa completion record"), "{}", text(&output.stdout));
    for input in ["", "\n\n", "nothing"] {
        let output = decode(&[], input.as_bytes());
        assert_eq!(output.status.code(), Some(11), "{input:?}");
        assert!(text(&output.stderr).contains("no dump"), "{}", text(&output.stderr));
    }
}

#[test]
fn wrong_use_has_a_next_step() {
    for (words, code, expected) in [
        (&["/nowhere/at/all"][..], 1, "open /nowhere/at/all"),
        (&["--as", "record", "--operation", "magic"], 2, "no operation of dsa"),
    ] {
        let output = decode(words, b"");
        assert_eq!(output.status.code(), Some(code));
        let stderr = text(&output.stderr);
        assert!(stderr.contains(expected) && stderr.contains("next: "), "{stderr}");
    }
}

//! Captures through the binary: made of scripted events, and read by every command as the events themselves are.

mod support;

use std::fs;
use std::path::Path;

use dsascope_core::event::Event;
use support::{file, run, script, text};

fn recorded(events: &[Event], directory: &Path) -> (String, String) {
    let input = file(events);
    let capture = directory.join("capture.dsc").to_string_lossy().into_owned();
    let output = run(&["record", "--from", &input.path().to_string_lossy(), "-o", &capture]);
    // 8: the events tell of a loss, and so does whoever records them.
    assert!(matches!(output.status.code(), Some(0 | 8)), "{}", text(&output.stderr));
    let lines = directory.join("events.jsonl");
    fs::copy(input.path(), &lines).expect("a copy");
    (capture, lines.to_string_lossy().into_owned())
}

#[test]
fn every_command_reads_a_capture_as_it_reads_its_events() {
    let directory = tempfile::tempdir().expect("a directory");
    for (number, events) in script::all().iter().enumerate() {
        let directory = directory.path().join(number.to_string());
        fs::create_dir(&directory).expect("a directory");
        let (capture, lines) = recorded(events, &directory);
        for command in [
            &["stat"][..],
            &["stat", "--json"],
            &["stat", "--interval", "300ms"],
            &["stat", "--json", "--interval", "1s", "--pid", "1388"],
            &["trace"],
            &["trace", "--json"],
            &["trace", "--json", "--wq", "wq0.1"],
        ] {
            let [of_capture, of_lines] =
                [&capture, &lines].map(|from| run(&[command, &["--from", from]].concat()));
            assert_eq!(of_capture.status.code(), of_lines.status.code());
            assert_eq!(text(&of_capture.stderr), "", "{command:?}");
            assert!(of_capture.stdout == of_lines.stdout, "{number}: {command:?}");
        }
    }
}

#[test]
fn intervals_and_the_end_are_the_streams_own() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut events = script::busy(6);
    events.extend((1..24).map(|tick| Event::Tick { now_ns: script::START_NS + tick * 250_000_000 }));
    events.sort_by_key(Event::at_ns);
    let (capture, _) = recorded(&events, directory.path());
    let lines = |words: &[&str]| {
        let output = run(&[&["stat", "--json", "--from", &capture], words].concat());
        text(&output.stdout).lines().filter(|line| line.contains("\"kind\":\"stat\"")).count()
    };
    assert_eq!(lines(&["--interval", "1s"]), 6 + 1);
    assert_eq!(lines(&["--interval", "2s"]), 3 + 1);
    assert_eq!(lines(&["--interval", "1s", "--for", "3s"]), 3 + 1);
}

#[test]
fn what_cannot_be_read_is_named_and_has_an_exit_code() {
    let directory = tempfile::tempdir().expect("a directory");
    let (capture, _) = recorded(&script::busy(6), directory.path());
    let whole = fs::read(&capture).expect("the capture");
    let broken = directory.path().join("broken.dsc").to_string_lossy().into_owned();
    let stat = |bytes: &[u8]| {
        fs::write(&broken, bytes).expect("a file");
        let output = run(&["stat", "--from", &broken]);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = stat(&whole[..whole.len() / 2]);
    assert_eq!(code, Some(11));
    assert!(err.contains("cut off") && err.contains("broken.dsc: byte "), "{err}");
    assert!(out.contains("redis-server") && out.contains("CUT OFF"), "{out}");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    let (code, out, err) = stat(&flipped);
    assert_eq!(code, Some(11));
    assert!(err.contains("checksum is wrong; ") && err.contains(" events are missing, "), "{err}");
    assert!(out.contains(" events are MISSING in the capture"), "{out}");
    let (code, _, err) = stat(b"\x7fELF and so on");
    assert_eq!(code, Some(11));
    assert!(err.contains("no dsascope capture") && err.contains("next: "), "{err}");
    let (code, _, err) = stat(
        &[
            &whole[..8],
            &[9, 0, 0, 0],
            &crc32c::crc32c(&[&whole[..8], &[9, 0, 0, 0]].concat()).to_le_bytes(),
            &whole[16..],
        ]
        .concat(),
    );
    assert_eq!(code, Some(11));
    assert!(err.contains("newer"), "{err}");
}

#[test]
fn wrong_ways_to_record_are_refused_before_anything_happens() {
    let directory = tempfile::tempdir().expect("a directory");
    let there = directory.path().join("there.dsc").to_string_lossy().into_owned();
    fs::write(&there, "precious").expect("a file");
    for (words, code, says) in [
        (&["record", "--keep", "3"][..], 2, "nothing says when one is full"),
        (&["record", "--max-size", "1000"], 2, "too few"),
        (&["record", "-o", &there], 1, "--force"),
        (&["record", "-o", "/nowhere/x.dsc"], 1, "/nowhere/x.dsc"),
        (&["stat", "--from", "/nowhere/x.dsc"], 11, "/nowhere/x.dsc"),
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(says), "{words:?}: {}", text(&output.stderr));
    }
    assert_eq!(fs::read(&there).expect("the file"), b"precious");
}

#[test]
fn the_flight_recorder_saves_when_its_trigger_fires() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("flight.dsc").to_string_lossy().into_owned();
    let why = directory.path().join("why");
    let storm = concat!(env!("CARGO_MANIFEST_DIR"), "/../../samples/storm.dsc");
    let run =
        format!("echo \"$DSASCOPE_TRIGGER of $DSASCOPE_CAPTURE\" > {}.new; mv {0}.new {0}", why.display());
    let output = support::run(&[
        "record",
        "--from",
        storm,
        "-o",
        &path,
        "--last",
        "2s",
        "--after",
        "1s",
        "--on",
        "faults/s > 300",
        "--run",
        &run,
    ]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("faults/s > 300 (") && said.contains(": saving to "), "{said}");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !why.exists() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let saved: Vec<_> = fs::read_dir(directory.path())
        .expect("the directory")
        .map(|file| file.expect("a file").path().to_string_lossy().into_owned())
        .filter(|file| file.ends_with("Z.dsc"))
        .collect();
    let [saved] = &saved[..] else { panic!("{saved:?}") };
    let told = fs::read_to_string(&why).expect("the command ran");
    assert!(told.starts_with("faults/s > 300 (") && told.trim_end().ends_with(saved.as_str()), "{told}");
    let stat = support::run(&["trace", "--from", saved]);
    let lines = text(&stat.stdout);
    assert!(
        lines.contains("the capture begins here; ") && lines.contains("came before this capture"),
        "{lines}"
    );
    // Before the storm there was its slow beginning.
    assert!(lines.contains("packet-switch") && lines.contains("leaky-importer"), "{lines}");
    let wrong = support::run(&["record", "--on", "faults/s >> 3"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("^ expected a number"), "{}", text(&wrong.stderr));
}

/// The binary, where files cannot grow beyond so many bytes.
fn run_limited(bytes: u64, words: &[&str]) -> std::process::Output {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(support::BINARY);
    command.args(words).env("NO_COLOR", "1");
    // SAFETY: signal(2) and setrlimit(2) are async-signal-safe and touch this child alone.
    unsafe {
        command.pre_exec(move || {
            // A full disk is an error of write(2); beyond this limit there is a signal as well, which a disk does not send.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_FSIZE, bytes, bytes)?;
            Ok(())
        });
    }
    command.output().expect("the binary runs")
}

#[test]
fn a_full_disk_is_told_and_what_was_written_stays_whole() {
    let directory = tempfile::tempdir().expect("a directory");
    let input = file(&script::busy(60));
    let (from, capture) = (input.path().to_string_lossy(), directory.path().join("full.dsc"));
    let capture = capture.to_string_lossy();
    let output = run_limited(60 << 10, &["record", "--from", &from, "-o", &capture]);
    let said = text(&output.stderr);
    assert!(said.contains("File too large") && said.contains("left out and counted"), "{said}");
    assert!(said.contains(" events are MISSING in ") || said.contains("opens without its index"), "{said}");
    assert_eq!(output.status.code(), Some(8), "what was to be kept was not: {said}");
    let stat = run(&["stat", "--json", "--from", &capture]);
    assert_eq!(stat.status.code(), Some(11), "{}", text(&stat.stderr));
    let summary = text(&stat.stdout).lines().last().expect("a summary").to_owned();
    assert!(
        summary.contains("\"exact\":false") && summary.contains("events are not in the capture"),
        "{summary}"
    );
    let faults =
        text(&run(&["trace", "--json", "--from", &capture]).stdout).matches("\"kind\":\"fault\"").count();
    assert!(faults > 1000, "{faults} faults were kept");
}

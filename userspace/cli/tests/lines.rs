//! stat and trace on scripted events: what is written, in which order, and how they end.

mod support;

use std::process::{Command, Stdio};
use std::time::Duration;

use dsascope_core::event::Event;
use dsascope_core::json::{Body, Line};
use support::{BINARY, file, run, script, text};

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

fn lines(output: &[u8]) -> Vec<Line> {
    text(output)
        .lines()
        .map(|line| Line::parse(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn trace_text() {
    let events = file(&script::busy(1));
    let output = run(&["trace", "--events", path(&events)]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    assert_eq!(
        stdout.matches(" memfill ").count()
            + stdout.matches(" memmove ").count()
            + stdout.matches(" compress ").count(),
        180
    );
    let shown: Vec<_> = stdout.lines().take(24).chain(["..."]).chain(stdout.lines().rev().take(1)).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_the_driver_does_has_a_line_each() {
    let events = file(&script::trouble());
    let output = run(&["trace", "--events", path(&events)]);
    let stdout = text(&output.stdout);
    let shown: Vec<_> = stdout.lines().filter(|line| line.contains(" -- ")).collect();
    insta::assert_snapshot!(shown.join("\n"));
    assert!(stdout.contains("FOUND service allocation failed: 1 entry was dropped"), "{stdout}");
    assert!(stdout.contains("certain; see docs/findings.md#service-allocation-failed\n"), "{stdout}");
    let of_another_device = run(&["trace", "--wq", "wq1.0", "--events", path(&events)]);
    assert!(!text(&of_another_device.stdout).contains(" -- "));
}

#[test]
fn trace_json_is_whole_and_reads_back() {
    let events = script::busy(1);
    let input = file(&events);
    let output = run(&["trace", "--json", "--events", path(&input)]);
    assert_eq!(output.status.code(), Some(0));
    let written = lines(&output.stdout);
    assert!(matches!(written.first().map(|line| &line.body), Some(Body::Session(_))));
    assert!(matches!(written.last().map(|line| &line.body), Some(Body::Summary(_))));
    let told: Vec<_> = written.into_iter().filter_map(Line::into_event).collect();
    let expected: Vec<_> = events
        .into_iter()
        .filter(|event| !matches!(event, Event::Snapshot(_) | Event::Tick { .. }))
        .collect();
    assert_eq!(told, expected);

    // What trace writes is a stream of events again.
    let again = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(again.path(), &output.stdout).expect("a temporary file");
    let second = run(&["trace", "--json", "--events", path(&again)]);
    let count = |bytes: &[u8]| lines(bytes).iter().filter(|line| matches!(line.body, Body::Fault(_))).count();
    assert_eq!(count(&second.stdout), count(&output.stdout));
}

#[test]
fn selection_keeps_what_is_asked_for() {
    let events = file(&script::busy(1));
    for (words, expected) in [(["--pid", "1388"], 45), (["--wq", "wq0.1"], 48), (["--pid", "1"], 0)] {
        let output = run(&["trace", "--json", "--events", path(&events), words[0], words[1]]);
        let faults = lines(&output.stdout).iter().filter(|line| matches!(line.body, Body::Fault(_))).count();
        assert_eq!(faults, expected, "{words:?}");
    }
}

#[test]
fn totals_are_those_of_the_selection() {
    let events = file(&script::busy(1));
    let output = run(&["trace", "--events", path(&events), "--pid", "1388"]);
    let last = text(&output.stdout).lines().last().expect("the summary").to_owned();
    assert!(last.starts_with("45 faults, 5 failed of --pid 1388 (180 faults in all)"), "{last}");
    for command in ["trace", "stat"] {
        let output = run(&[command, "--json", "--events", path(&events), "--pid", "1388"]);
        let written = lines(&output.stdout);
        let Some(Body::Summary(summary)) = written.last().map(|line| &line.body) else {
            panic!("no summary")
        };
        assert_eq!(summary.selection.as_deref(), Some("--pid 1388"));
        assert_eq!(summary.contexts.iter().map(|c| c.totals.served).collect::<Vec<_>>(), [45]);
    }
}

#[test]
fn batches_have_a_line_each() {
    let events = file(&script::moved_failure());
    let output = run(&["trace", "--events", path(&events)]);
    let stdout = text(&output.stdout);
    let shown: Vec<_> = stdout.lines().filter(|line| line.contains("-- batch")).collect();
    insta::assert_snapshot!(shown.join("\n"));
    let batches = |words: &[&str]| -> Vec<_> {
        let output = run(&[&["trace", "--json", "--events", path(&events)], words].concat());
        lines(&output.stdout)
            .into_iter()
            .filter_map(|line| if let Body::Batch(batch) = line.body { Some(*batch) } else { None })
            .collect()
    };
    assert_eq!(batches(&[]).len(), shown.len());
    let one = batches(&["--pid", "1201"]);
    assert_eq!(one.iter().map(|batch| batch.batch.finding.is_some()).collect::<Vec<_>>(), [true]);
    let stat = run(&["stat", "--events", path(&events)]);
    let stat = text(&stat.stdout);
    assert!(stat.contains("FOUND failure moved to another batch: 1 batch does"), "{stat}");
    assert!(stat.contains("dsa0 event log: size 64, deepest 63 (FULL)"), "{stat}");
}

#[test]
fn page_requests_have_a_line_each_and_their_latency_beside_the_faults() {
    let events = file(&script::page_requests());
    let output = run(&["trace", "--events", path(&events), "--pid", "1201"]);
    let stdout = text(&output.stdout);
    let asked: Vec<_> =
        stdout.lines().filter(|line| line.contains(" PASID 3 ") && line.contains("page")).collect();
    assert_eq!(asked.len(), 40);
    insta::assert_snapshot!([asked[0], asked[7], asked[9]].join("\n"));
    let other = run(&["trace", "--events", path(&events), "--pid", "1388"]);
    assert!(!text(&other.stdout).contains("asked for page"));
    let stat = run(&["stat", "--events", path(&events)]);
    let stat = text(&stat.stdout);
    let line = stat.lines().rfind(|line| line.starts_with("page requests of"));
    insta::assert_snapshot!("page_requests_stat", line.unwrap_or_default());
    let json = run(&["stat", "--json", "--events", path(&events)]);
    let Some(Body::Summary(summary)) = lines(&json.stdout).pop().map(|line| line.body) else {
        panic!("no summary")
    };
    let [totals] = summary.page_requests[..] else { panic!("{:?}", summary.page_requests) };
    assert_eq!((totals.tgid, totals.groups, totals.refused, totals.unmatched), (Some(1201), 40, 1, 1));
}

#[test]
fn stat_text() {
    let events = file(&script::busy(2));
    let output = run(&["stat", "--events", path(&events)]);
    assert_eq!(output.status.code(), Some(0));
    insta::assert_snapshot!(text(&output.stdout));
}

#[test]
fn stat_json_adds_up() {
    let events = file(&script::busy(2));
    let output = run(&["stat", "--json", "--events", path(&events)]);
    let written = lines(&output.stdout);
    assert!(matches!(written[0].body, Body::Session(_)));
    let counted: u64 =
        written.iter().map(|line| if let Body::Stat(stat) = &line.body { stat.faults } else { 0 }).sum();
    let Some(Body::Summary(summary)) = written.last().map(|line| &line.body) else { panic!("no summary") };
    assert_eq!(counted, summary.contexts.iter().map(|context| context.totals.served).sum::<u64>());
}

#[test]
fn loss_shows_in_place_and_in_the_exit_code() {
    let events = file(&script::lossy(1, 1234));
    for words in [&["trace"][..], &["trace", "--json"], &["stat"], &["stat", "--json"]] {
        let output = run(&[words, &["--events", path(&events)]].concat());
        assert_eq!(output.status.code(), Some(8), "{words:?}");
        assert!(text(&output.stdout).contains("1234"), "{words:?}");
    }
    let output = run(&["trace", "--events", path(&events)]);
    assert!(text(&output.stdout).contains("LOST 1234 events of CPU 2"));
}

#[test]
fn a_bad_line_is_named() {
    let input = tempfile::NamedTempFile::new().expect("a temporary file");
    let session = serde_json::to_string(&script::busy(1)[0]).expect("events serialise");
    for bad in ["not json", "{\"kind\":\"fault\"}", "[]", "{\"kind\":\"tick\",\"now_ns\":-1}"] {
        std::fs::write(input.path(), format!("{session}\n{bad}\n")).expect("a temporary file");
        let output = run(&["trace", "--events", path(&input)]);
        assert_eq!(output.status.code(), Some(1), "{bad}");
        assert!(text(&output.stderr).contains(&format!("{}:2", path(&input))), "{}", text(&output.stderr));
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_run_quietly() {
    let events = file(&script::busy(20));
    let mut child = Command::new(BINARY)
        .args(["trace", "--json", "--events", path(&events)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    std::thread::sleep(Duration::from_millis(50));
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty());
}

#[test]
fn a_storm_is_found_and_calm_is_not() {
    let stat = |name: &str| {
        let sample = format!("{}/../../samples/{name}.dsc", env!("CARGO_MANIFEST_DIR"));
        text(&run(&["stat", "--from", &sample]).stdout)
    };
    let storm = stat("storm");
    assert!(storm.contains("FOUND storm: leaky-importer (148) on wq0.2 had up to "), "{storm}");
    let calm = stat("calm");
    assert!(calm.contains("checksummer") && !calm.contains("FOUND"), "{calm}");
}

/// docs/findings.md: nothing on the calm sample, and the same history each time a capture is read.
#[test]
fn findings_of_a_capture_have_the_same_history_each_time() {
    let summary = |name: &str| {
        let path = format!("{}/../../samples/{name}.dsc", env!("CARGO_MANIFEST_DIR"));
        let output = text(&run(&["stat", "--json", "--from", &path]).stdout);
        let last = output.lines().next_back().expect("a summary").to_owned();
        serde_json::from_str::<serde_json::Value>(&last).expect("JSON")["findings"].clone()
    };
    assert_eq!(summary("calm"), serde_json::json!([]));
    let storm = summary("storm");
    assert_eq!(storm, summary("storm"));
    let findings = storm.as_array().expect("findings");
    assert!(findings.iter().any(|finding| finding["finding"] == "storm"), "{storm}");
    for finding in findings {
        let ns = |name: &str| finding[name].as_u64().expect(name);
        assert!(0 < ns("first_ns") && ns("first_ns") <= ns("last_ns") && ns("begun") > 0, "{finding}");
    }
}

//! `--where` through the binary: what fits is there, what does not is counted, and everybody who reads it later is told.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use dsascope_core::json::{Body, Line, SummaryLine};
use support::{file, run, script, text};

fn capture_of(directory: &Path) -> String {
    let input = file(&script::busy(6));
    let capture = directory.join("all.dsc").to_string_lossy().into_owned();
    let output = run(&["record", "--from", &input.path().to_string_lossy(), "-o", &capture]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    capture
}

fn at(directory: &Path, name: &str) -> String {
    let path: PathBuf = directory.join(name);
    path.to_string_lossy().into_owned()
}

fn lines(words: &[&str]) -> Vec<Line> {
    let output = run(words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| Line::parse(line).expect("a line")).collect()
}

fn summary(lines: &[Line]) -> &SummaryLine {
    match lines.last().map(|line| &line.body) {
        Some(Body::Summary(summary)) => summary,
        other => panic!("{other:?}"),
    }
}

fn faults(lines: &[Line]) -> usize {
    lines.iter().filter(|line| matches!(line.body, Body::Fault(_))).count()
}

const SLOW: &str = "pid == 1388 and service > 0ns";

#[test]
fn a_filtered_capture_has_what_fits_and_counts_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let all = capture_of(directory.path());
    let some = at(directory.path(), "some.dsc");
    let recording = run(&["record", "--from", &all, "-o", &some, "--where", SLOW]);
    assert!(recording.status.success());
    let whole = lines(&["trace", "--json", "--from", &all]);
    let kept = lines(&["trace", "--json", "--from", &some]);
    let of_process =
        |line: &&Line| matches!(&line.body, Body::Fault(fault) if fault.fault.tgid == Some(1388));
    assert_eq!(faults(&kept), whole.iter().filter(of_process).count());
    assert!(faults(&kept) > 0 && faults(&kept) < faults(&whole));
    // Nothing but faults, and the batches that are joined from them, is missing; and the totals are those of all.
    let of_faults = |line: &Line| matches!(line.body, Body::Fault(_) | Body::Batch(_));
    let others = |lines: &[Line]| lines.iter().filter(|line| !of_faults(line)).count();
    assert_eq!(others(&kept), others(&whole));
    let (kept_summary, whole_summary) = (summary(&kept), summary(&whole));
    let filter = kept_summary.filter.as_ref().expect("the summary says so");
    assert_eq!(filter.expression, SLOW);
    assert_eq!(filter.left_out as usize, faults(&whole) - faults(&kept));
    assert_eq!(whole_summary.filter, None);
    let totals = |summary: &SummaryLine| -> Vec<_> {
        summary.contexts.iter().map(|context| context.totals.clone()).collect()
    };
    assert_eq!(totals(kept_summary), totals(whole_summary));
    assert_eq!(
        (&kept_summary.reasons, &kept_summary.balance),
        (&whole_summary.reasons, &whole_summary.balance)
    );
    // The line for people, while it was recorded and when it is read.
    let left_out = format!("only faults with {SLOW} are here, {} were left out", filter.left_out);
    assert!(text(&recording.stderr).contains(&left_out), "{}", text(&recording.stderr));
    let shown = run(&["stat", "--from", &some]);
    assert!(text(&shown.stdout).contains(&left_out), "{}", text(&shown.stdout));
}

#[test]
fn a_filter_does_to_a_stream_what_it_does_to_a_capture() {
    let directory = tempfile::tempdir().expect("a directory");
    let all = capture_of(directory.path());
    for (number, filter) in
        [SLOW, "outcome == failed", "process ~ redis or copy is unknown"].iter().enumerate()
    {
        let some = at(directory.path(), &format!("{number}.dsc"));
        assert!(run(&["record", "--from", &all, "-o", &some, "--where", filter]).status.success());
        for command in [
            &["trace"][..],
            &["trace", "--json"],
            &["export", "--format", "csv"],
            &["export", "--format", "perfetto"],
        ] {
            let of_stream = run(&[command, &["--from", &all, "--where", filter]].concat());
            let of_capture = run(&[command, &["--from", &some]].concat());
            assert!(of_stream.status.success(), "{}", text(&of_stream.stderr));
            assert!(of_stream.stdout == of_capture.stdout, "{filter}: {command:?}");
        }
    }
}

#[test]
fn a_filtered_stream_is_filtered_again_also_as_text() {
    let directory = tempfile::tempdir().expect("a directory");
    let all = capture_of(directory.path());
    // Text has no totals; the count goes with the session.
    let once = run(&["trace", "--json", "--from", &all, "--where", "pid != 1388"]);
    let path = at(directory.path(), "once.jsonl");
    fs::write(&path, &once.stdout).expect("a file");
    let twice = at(directory.path(), "twice.dsc");
    assert!(run(&["record", "--from", &path, "-o", &twice, "--where", "wq == wq0.0"]).status.success());
    let read = lines(&["trace", "--json", "--from", &twice]);
    let filter = summary(&read).filter.clone().expect("filtered");
    assert_eq!(filter.expression, "(pid != 1388) and (wq == \"wq0.0\")");
    let kept_once = text(&once.stdout).lines().filter(|line| line.contains("\"kind\":\"fault\"")).count();
    assert_eq!(filter.left_out as usize, kept_once - faults(&read));
}

#[test]
fn exports_say_that_they_are_filtered() {
    let directory = tempfile::tempdir().expect("a directory");
    let all = capture_of(directory.path());
    let export = |format: &str| {
        let output = run(&["export", &all, "--format", format, "--where", SLOW]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let left_out = summary(&lines(&["trace", "--json", "--from", &all, "--where", SLOW]))
        .filter
        .clone()
        .expect("filtered")
        .left_out;
    let rows = export("json");
    let row = rows.lines().find(|line| line.contains("\"left_out\"")).expect("a row of the ledger");
    assert!(row.contains(&format!("\"count\":{left_out}")), "{row}");
    let log = export("hlog");
    assert!(log.contains(&format!("#only faults with {SLOW}\n")), "{log}");
    assert!(log.contains(&format!("#ledger left out by the filter: {left_out}\n")), "{log}");
    let page = export("html");
    assert!(page.contains("filtered</span>") && page.contains("service &gt; 0ns"));
    assert!(!export_of_all(&all).contains("left_out"));
}

fn export_of_all(capture: &str) -> String {
    text(&run(&["export", capture, "--format", "json"]).stdout)
}

#[test]
fn runs_with_other_filters_are_not_compared() {
    let directory = tempfile::tempdir().expect("a directory");
    let all = capture_of(directory.path());
    let some = at(directory.path(), "some.dsc");
    assert!(run(&["record", "--from", &all, "-o", &some, "--where", SLOW]).status.success());
    let diff = run(&["diff", &all, &some]);
    assert!(!diff.status.success());
    let said = text(&diff.stdout) + &text(&diff.stderr);
    assert!(said.contains("filter") && said.contains(SLOW), "{said}");
}

#[test]
fn errors_point_at_the_place_before_anything_begins() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = at(directory.path(), "out.dsc");
    let wrong = "copy > 50us and stats == CRA_XLAT";
    for words in [
        &["trace", "--where", wrong][..],
        &["record", "-o", &out, "--where", wrong],
        &["export", "-o", &out, "--format", "csv", "--where", wrong],
        &["live", "--filter", wrong],
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let place = format!("\n{wrong}\n{}^ there is no field stats: did you mean status?\n", " ".repeat(16));
        assert!(text(&output.stderr).contains(&place), "{}", text(&output.stderr));
    }
    assert!(!Path::new(&out).exists());
}

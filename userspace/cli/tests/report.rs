//! The report of scripted events, as text and as a page, and what it refuses.

mod support;

use support::{file, run, script, text};

#[test]
fn report_text() {
    let events = file(&script::busy(3));
    let output = run(&["report", "--events", events.path().to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    insta::assert_snapshot!(text(&output.stdout));
}

#[test]
fn a_page_has_the_figures_of_the_text() {
    let events = file(&script::busy(3));
    let events = events.path().to_str().expect("UTF-8");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let page = directory.path().join("report.html");
    let page = page.to_str().expect("UTF-8");
    let output = run(&["report", "--events", events, "-o", page]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    let page = std::fs::read_to_string(page).expect("the page");
    let said = text(&run(&["report", "--events", events]).stdout);
    let faults = said.split(" faults, ").next().and_then(|line| line.lines().last()).expect("a count");
    assert!(page.contains(&format!("id=\"faults\"><span data-count=\"{faults}\"")), "{faults} of {said}");
    let stage = said.lines().find(|line| line.starts_with("service ")).expect("a stage");
    let p99 = stage.split_whitespace().rev().nth(2).expect("a figure").replace("us", "µs");
    let row = page.split("data-stage=\"service\"").nth(1).and_then(|row| row.split("</tr>").next());
    let cell = row.and_then(|row| row.split("data-figure=\"p99_ns\"").nth(1)).expect("a cell");
    assert!(cell.split("</td>").next().is_some_and(|cell| cell.contains(&p99)), "{p99}: {cell}");
}

#[test]
fn a_file_that_is_no_page_is_refused() {
    let output = run(&["report", "--events", "/nonexistent", "-o", "report.txt"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains(".html"));
}

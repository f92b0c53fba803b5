//! Every help text, the manual's list of pages, and the documents that repeat the exit codes.

mod support;

use support::{run, text};

fn help(words: &[&str]) -> String {
    let output = run(words);
    assert!(output.status.success());
    text(&output.stdout)
}

#[test]
fn help_texts() {
    insta::assert_snapshot!("help", help(&["--help"]));
    insta::assert_snapshot!("help_short", help(&["-h"]));
    for command in [
        "live",
        "stat",
        "trace",
        "record",
        "export",
        "report",
        "diff",
        "serve",
        "submit",
        "doctor",
        "decode",
        "completions",
        "man",
    ] {
        insta::assert_snapshot!(format!("help_{command}"), help(&[command, "--help"]));
    }
}

#[test]
fn exit_codes_are_documented() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/exit-codes.md");
    let document = std::fs::read_to_string(document).expect("docs/exit-codes.md");
    let help = help(&["--help"]);
    let (_, table) = help.split_once("Exit codes:\n").expect("the table");
    for row in table.lines() {
        let (code, meaning) = row.trim().split_once("  ").expect("a code and its meaning");
        assert!(
            document.contains(&format!("| {code} | {meaning} |")),
            "docs/exit-codes.md lacks: | {code} | {meaning} |"
        );
    }
    assert_eq!(table.lines().count(), document.matches("\n| ").count() - 1, "rows of docs/exit-codes.md");
}

#[test]
fn completions_and_manual() {
    for shell in ["bash", "zsh", "fish"] {
        let script = help(&["completions", shell]);
        assert!(script.contains("doctor") && script.contains("ring-size"), "{shell}");
    }
    assert!(help(&["man"]).contains(".TH dsascope 1"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    help(&["man", "--dir", dir.path().to_str().expect("UTF-8")]);
    let mut pages: Vec<_> = std::fs::read_dir(dir.path())
        .expect("the directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    pages.sort();
    insta::assert_snapshot!(pages.join("\n"));
}

#[test]
fn wrong_use_is_one_line_with_a_next_step() {
    for (words, expected) in [
        (&["--ring-size", "100000"][..], "--ring-size 100000: not a power of two"),
        (&["stat", "--pending", "3"], "--pending 3 is out of range"),
        (&["trace", "--wq", "nonsense"], "--wq nonsense: not a work queue's name"),
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let stderr = text(&output.stderr);
        let lines: Vec<_> = stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{stderr}");
        assert!(lines[0].contains(expected) && lines[1].trim_start().starts_with("next: "), "{stderr}");
    }
}

#[test]
fn live_needs_a_terminal() {
    let output = run(&["live"]);
    assert_eq!(output.status.code(), Some(9));
    assert!(text(&output.stderr).contains("live needs a terminal"));
    assert!(output.stdout.is_empty());
}

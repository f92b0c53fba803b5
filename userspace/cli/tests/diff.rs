//! Two captures beside each other, through the binary.

mod support;

use support::{run, text};

fn sample(name: &str) -> String {
    format!("{}/../../samples/{name}.dsc", env!("CARGO_MANIFEST_DIR"))
}

fn diff(words: &[&str]) -> (Option<i32>, String, String) {
    let output = run(&[&["diff"], words].concat());
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_run_is_like_itself() {
    let storm = sample("storm");
    let (code, out, err) = diff(&[&storm, &storm, "--by", "process"]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    for name in ["all: ", "leaky-importer wq0.2", "key-value-store wq0.1", "packet-switch wq0.0"] {
        assert!(out.contains(name), "{out}");
    }
    let certain = out.lines().any(|line| line.ends_with(" *"));
    assert!(!certain && !out.contains("not the same"), "{out}");
    let (code, out, _) =
        diff(&[&storm, &storm, "--fail-if", "copy.p50 > 1.1x", "--fail-if", "failures > 500"]);
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("ok      copy.p50 > 1.1x: no"), "{out}");
}

#[test]
fn runs_of_different_work_are_told_apart() {
    let (storm, calm) = (sample("storm"), sample("calm"));
    let (code, out, _) = diff(&[&calm, &storm]);
    assert_eq!(code, Some(0));
    assert!(out.contains("not the same: dsa0 "), "{out}");
    assert!(out.contains("faults 25 / 4.12K") || out.contains("faults 25 / 4120"), "{out}");
    let (code, out, _) = diff(&[&calm, &storm, "--fail-if", "failures > 0"]);
    assert_eq!(code, Some(13), "{out}");
    assert!(out.contains("FAILED  failures > 0: 500"), "{out}");
    let (code, out, _) = diff(&[&calm, &storm, "--fail-if", "failures > 2x"]);
    assert!(code == Some(13) && out.contains("FAILED  failures > 2x: 500 after none"), "{out}");
}

#[test]
fn json_and_page_have_the_same_figures() {
    let directory = tempfile::tempdir().expect("a directory");
    let html = directory.path().join("diff.html").to_string_lossy().into_owned();
    let (storm, batch) = (sample("storm"), sample("batch"));
    let conditions = ["--fail-if", "faults < 2x", "--fail-if", "copy.max > 1s"];
    let words =
        [&[storm.as_str(), &batch, "--json", "--html", &html, "--by", "wq"], &conditions[..]].concat();
    let (code, out, _) = diff(&words);
    assert_eq!(code, Some(13));
    let line: serde_json::Value = serde_json::from_str(&out).expect("one object");
    assert_eq!((&line["kind"], &line["v"]), (&"comparison".into(), &1.into()));
    assert_eq!(line["groups"][0]["faults_a"], 4120);
    assert_eq!(line["groups"][0]["faults_b"], 900);
    let verdicts = [&line["conditions"][0]["verdict"], &line["conditions"][1]["verdict"]];
    assert_eq!(verdicts, ["holds", "no"]);
    let page = std::fs::read_to_string(&html).expect("the page");
    assert!(
        page.contains("faults 4120 / 900") && page.contains("wq0.2") && !page.contains("<script"),
        "{page}"
    );
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let (code, _, err) = diff(&[&sample("storm"), "/nowhere.dsc"]);
    assert_eq!(code, Some(11), "{err}");
    let (code, _, err) = diff(&[&sample("storm"), &sample("calm"), "--fail-if", "copy.p98 > 3x"]);
    assert_eq!(code, Some(2));
    assert!(err.contains("^ expected STAGE.FIGURE"), "{err}");
}

//! What the samples are found to have: the calm one nothing, the storm its importer.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use dsascope_capture::Capture;
use dsascope_core::findings::{Confidence, Evidence, Finding, FindingKind};
use dsascope_core::model::Model;

fn findings(name: &str) -> Vec<Finding> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../samples/{name}.dsc"));
    let file = BufReader::new(File::open(path).expect("the sample"));
    let mut model = Model::default();
    let mut capture = Capture::open(file).expect("a capture");
    while let Some(event) = capture.next_event().expect("an event") {
        model.update(event);
    }
    model.findings()
}

fn kinds(findings: &[Finding]) -> Vec<FindingKind> {
    findings.iter().map(|finding| finding.finding).collect()
}

#[test]
fn nothing_is_found_in_the_calm_sample() {
    assert_eq!(findings("calm"), []);
}

#[test]
fn the_storm_is_the_importers() {
    let found = findings("storm");
    let expected = [FindingKind::Storm, FindingKind::FailureRatioHigh, FindingKind::RecordsGivenBack];
    assert_eq!(kinds(&found), expected);
    for finding in &found {
        assert!(finding.sentence.contains("leaky-importer ("), "{}", finding.sentence);
        assert!(finding.sentence.contains(" on wq0.2"), "{}", finding.sentence);
        assert_eq!(finding.count, 1, "{}", finding.sentence);
        let places: Vec<_> = finding.evidence.iter().map(Evidence::place).collect();
        assert_eq!(places, ["wq0.2 PASID 4"]);
    }
    assert_eq!(found[0].confidence, Confidence::Certain);
    let words = &found[0].evidence[0].words;
    assert!(words.contains(", 0 before; the last ") && words.contains(" pages, most ("), "{words}");
    assert!(found[1].sentence.starts_with("500 of 4000 records"), "{}", found[1].sentence);
}

/// Batches whose own rate is steady: no storm, and one process of which each third fault fails.
#[test]
fn the_batches_have_one_process_that_fails() {
    let found = findings("batch");
    assert_eq!(kinds(&found), [FindingKind::FailureRatioHigh]);
    assert!(found[0].sentence.contains("60 of 180 records of snapshotter ("), "{}", found[0].sentence);
}

//! `dsascope submit` on a host without devices: what it says, and how it ends.

mod support;

use support::{run, text};

#[test]
fn without_a_driver_it_says_so() {
    // A host that has one is none for this test to load.
    if std::path::Path::new("/sys/bus/dsa/devices").exists() {
        let output = run(&["submit", "--wq", "wq9999.0", "--count", "1"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("no enabled work queue for user space is wq9999.0"));
        return;
    }
    let output = run(&["submit", "--count", "1"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("the idxd driver is not loaded"));
}

#[test]
fn what_makes_no_sense_is_wrong_use() {
    for words in [
        &["submit", "--op", "mammove"][..],
        &["submit", "--cr", "gone"],
        &["submit", "-e", "0,0,0,7"],
        &["submit", "-e", "1", "--cr", "absent"],
        &["submit", "--gaps", "poisson"],
        &["submit", "--rate", "0"],
        &["submit", "--threads", "0"],
    ] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty());
    }
}

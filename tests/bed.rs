//! The test bed itself: what the other tests rely on.

mod support;

use support::bed::{Bed, run};

#[test]
fn start_registry_answers_over_tls() {
    let bed = Bed::start("registry", &[]);
    assert!(
        bed.field("url").starts_with("https://127.0.0.1:"),
        "{}",
        bed.ready
    );
    assert!(
        std::fs::read_to_string(bed.field("ca"))
            .unwrap()
            .contains("BEGIN CERTIFICATE")
    );
}

#[test]
fn stop_registry_removes_its_folder() {
    let bed = Bed::start("registry", &[]);
    let folder = std::path::PathBuf::from(bed.field("dir"));
    assert!(folder.exists());
    drop(bed);
    assert!(!folder.exists());
}

#[test]
fn run_references_answers_each_line() {
    let output = run("references", &[], "\"alpine\"\n\"\"\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
}

//! The test bed itself: what the other tests rely on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;

use crate::support;
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
        read_to_string(bed.field("ca"))
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

/// The version of Kubernetes that a module of the test bed pins, such as `v1.34.4`.
fn pinned_kubernetes(module: &str) -> String {
    let text = read_to_string(root().join("tests/bed").join(module)).unwrap();
    let mut lines = text.lines();
    let version = lines.find_map(|line| line.strip_prefix("\tk8s.io/kubernetes "));
    version.unwrap().to_owned()
}

/// `v1.34.4` is of 1.34.
fn minor(version: &str) -> &str {
    let (minor, _) = version.trim_start_matches('v').rsplit_once('.').unwrap();
    minor
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `make test-oldest` sets `BED_KUBERNETES`; without it the version is that of the test bed's own module.
#[test]
fn start_api_runs_the_kubernetes_that_is_asked_for() {
    let oldest = pinned_kubernetes("oldest/go.mod");
    let wanted = match std::env::var("BED_KUBERNETES") {
        Err(_) => pinned_kubernetes("go.mod"),
        Ok(asked) if asked == minor(&oldest) => oldest,
        Ok(asked) => panic!("BED_KUBERNETES={asked}: leave it out, or ask for {oldest}"),
    };
    let bed = Bed::start("api", &[]);
    assert_eq!(bed.field("kubernetes"), wanted);
}

/// What the program says of itself.
fn said_by_program() -> serde_json::Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    let output = command.args(["version", "-o", "json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn supported_kubernetes_is_named_alike_by_program_charts_and_documents() {
    let (oldest, newest) = (
        pinned_kubernetes("oldest/go.mod"),
        pinned_kubernetes("go.mod"),
    );
    let (oldest, newest) = (minor(&oldest), minor(&newest));
    let said = said_by_program();
    let wanted = serde_json::json!({"oldest": oldest, "newestTested": newest});
    assert_eq!(said["kubernetes"], wanted, "{said}");
    let tested = format!("Kubernetes {oldest} or newer (tested on {oldest} and {newest})");
    for (file, wanted) in [
        (
            "manifests/chart/Chart.yaml",
            format!("\nkubeVersion: \">={oldest}.0-0\"\n"),
        ),
        (
            "manifests/chart-registries/Chart.yaml",
            format!("\nkubeVersion: \">={oldest}.0-0\"\n"),
        ),
        ("docs/INSTALL.md", tested.clone()),
        ("docs/VERSIONING.md", tested),
    ] {
        let text = read_to_string(root().join(file)).unwrap();
        assert!(text.contains(&wanted), "{file}: no {wanted}");
    }
}

#[test]
fn run_references_answers_each_line() {
    let output = run("references", &[], "\"alpine\"\n\"\"\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
}

/// The programs that a target of make builds, by `tests/bed/build.sh`, and what else it makes in a bed that is not there yet.
fn what_make_builds(target: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut make = Command::new("make");
    make.args(["--dry-run", target]).current_dir(root());
    make.env("BED_DIR", folder.path()).env_remove("MAKEFLAGS");
    let output = make.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn demo_builds_what_it_runs_and_nothing_else() {
    let demo = what_make_builds("demo");
    let cluster = what_make_builds("bed-cluster");
    for needed in [
        "kube-apiserver",
        "kubectl",
        "bed",
        "hello",
        "pause",
        "kube-node",
    ] {
        assert!(
            demo.contains(&format!("/bin/{needed} ")),
            "{needed}: {demo}"
        );
    }
    for needed in ["/bin/containerd ", "/venv/.installed"] {
        assert!(demo.contains(needed), "{needed}: {demo}");
    }
    for other in [
        "helm",
        "kubeconform",
        "kube-score",
        "dockerfile",
        "promql",
        "azure",
        "kinds",
    ] {
        assert!(cluster.contains(other), "{other}: {cluster}");
        assert!(!demo.contains(other), "{other}: {demo}");
    }
    // Minutes of building, which `make test` does without.
    let consumers = what_make_builds("bed-consumers");
    for other in ["/bin/consumers ", "/bin/kaniko "] {
        assert!(consumers.contains(other), "{other}: {consumers}");
        assert!(!cluster.contains(other), "{other}: {cluster}");
    }
}

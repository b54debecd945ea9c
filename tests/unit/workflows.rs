//! The workflows of GitHub: what they may do is stated and little, what they run is pinned, and what they make is a target of make.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Workflows by their names, with their text.
fn load() -> Vec<(String, String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".github/workflows");
    let files = std::fs::read_dir(folder).unwrap();
    let all = files.map(|file| {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let workflow = serde_saphyr::from_str(&text).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, text, workflow)
    });
    all.collect()
}

/// What is wrong with the actions that a workflow uses: each is a commit, and its version is said beside it.
fn find_unpinned(text: &str) -> Vec<&str> {
    let uses = text.lines().filter(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        line.starts_with("uses:")
    });
    let is_pinned = |line: &&str| {
        let (action, version) = line.split_once(" # v").unwrap_or((line, ""));
        let (_, commit) = action.rsplit_once('@').unwrap_or_default();
        let is_hex = commit
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        commit.len() == 40 && is_hex && version.contains('.')
    };
    uses.filter(|line| !is_pinned(line)).collect()
}

/// What is wrong with what a workflow may do and how long it may take.
fn find_problems(workflow: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let mut needs = |holds: bool, what: String| {
        if !holds {
            problems.push(what);
        }
    };
    needs(
        workflow["on"].get("pull_request_target").is_none(),
        "runs with rights for others' changes".to_owned(),
    );
    needs(
        workflow["concurrency"]["group"].is_string(),
        "no concurrency".to_owned(),
    );
    let granted = &workflow["permissions"];
    let reads = granted
        .as_object()
        .is_some_and(|all| all.values().all(|right| right == "read"));
    needs(
        reads,
        "permissions of all jobs that are more than reading".to_owned(),
    );
    for (name, job) in workflow["jobs"].as_object().into_iter().flatten() {
        needs(
            job["permissions"].is_object(),
            format!("{name}: no permissions"),
        );
        needs(
            job["timeout-minutes"].is_u64(),
            format!("{name}: no timeout"),
        );
        let writes = job["permissions"]
            .as_object()
            .into_iter()
            .flatten()
            .any(|(_, right)| right == "write");
        // Who may write does not run what this repository and its dependencies bring.
        let builds = job["steps"].as_array().into_iter().flatten().any(|step| {
            let uses = step["uses"].as_str().unwrap_or_default();
            uses.starts_with("actions/checkout@")
        });
        needs(
            !(writes && builds),
            format!("{name}: builds with rights to write"),
        );
    }
    problems
}

#[test]
fn workflows_are_pinned_and_may_do_little() {
    let all = load();
    assert_eq!(all.len(), 2, "{all:?}");
    for (name, text, workflow) in all {
        assert_eq!(find_unpinned(&text), Vec::<&str>::new(), "{name}");
        assert!(text.contains("uses: "), "{name}");
        assert_eq!(find_problems(&workflow), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn finds_what_is_not_pinned() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    for (line, is_pinned) in [
        (format!("- uses: a/b@{commit} # v1.2.3"), true),
        (format!("  uses: a/b@{commit} # v1.2.3"), true),
        (format!("- uses: a/b@{commit}"), false),
        (format!("- uses: a/b@{} # v1.2.3", &commit[1..]), false),
        ("- uses: a/b@v1 # v1.2.3".to_owned(), false),
        ("- uses: ./local".to_owned(), false),
        ("- run: make".to_owned(), true),
    ] {
        assert_eq!(find_unpinned(&line).is_empty(), is_pinned, "{line}");
    }
}

#[test]
fn finds_rights_that_are_too_many() {
    let (_, text, _) = load()
        .into_iter()
        .find(|(name, ..)| name == "release.yaml")
        .unwrap();
    for (from, to) in [
        ("permissions: {}", "permissions: write-all"),
        ("permissions: {}", "permissions: {contents: write}"),
        ("\npermissions: {}\n", "\n"),
        ("    timeout-minutes: 30\n", ""),
        ("    permissions:\n      contents: read\n", ""),
        ("      contents: read\n", "      contents: write\n"),
        ("\nconcurrency:", "\nconcurrent:"),
        ("  push:\n", "  pull_request_target:\n  push:\n"),
    ] {
        let damaged = text.replacen(from, to, 1);
        assert_ne!(damaged, text, "{from}");
        let workflow = serde_saphyr::from_str(&damaged).unwrap();
        assert_ne!(
            find_problems(&workflow),
            Vec::<String>::new(),
            "{from} → {to}"
        );
    }
}

/// CI makes what people make.
#[test]
fn workflows_call_targets_of_make() {
    let makefile =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Makefile")).unwrap();
    let mut called = BTreeSet::new();
    for (_, text, _) in load() {
        let lines = text
            .lines()
            .filter_map(|line| line.split_once("make ").map(|(_, rest)| rest.to_owned()));
        for rest in lines.filter(|rest| rest.starts_with("release")) {
            let words = rest
                .split_whitespace()
                .take_while(|word| !word.contains('='));
            called.extend(words.map(str::to_owned));
        }
    }
    assert_eq!(called.len(), 2, "{called:?}");
    for target in called {
        assert!(makefile.contains(&format!("\n{target}: ")), "{target}");
    }
}

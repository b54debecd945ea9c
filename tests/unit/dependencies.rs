//! The program's dependencies: one TLS stack, one copy of what must be one, nothing unmaintained;
//! and what `NOTICE` says of them.

mod notice;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Crates that must not be part of the program; `deny.toml` has the reasons.
const FORBIDDEN: [&str; 12] = [
    "openssl",
    "openssl-sys",
    "native-tls",
    "ring",
    "chrono",
    "serde_yaml",
    "serde_yml",
    "rustls-pemfile",
    "backoff",
    "serde_yaml_ng",
    "tokio-native-tls",
    "hyper-tls",
];
/// Crates of which there must be one version alone.
const SINGLE: [&str; 12] = [
    "rustls",
    "tokio-rustls",
    "hyper",
    "hyper-util",
    "h2",
    "http",
    "tokio",
    "reqwest",
    "kube",
    "kube-core",
    "k8s-openapi",
    "jiff",
];

/// What is wrong with a list of `name vVERSION …` lines.
fn problems(tree: &str) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in tree.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    let forbidden = FORBIDDEN
        .iter()
        .filter(|name| versions.contains_key(**name))
        .map(|name| format!("{name} is there"));
    let many = SINGLE.iter().filter_map(|name| {
        let versions = versions.get(name).filter(|versions| versions.len() > 1)?;
        Some(format!("{name} is there in {} versions", versions.len()))
    });
    forbidden.chain(many).collect()
}

/// What cargo prints.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

#[test]
fn has_one_tls_stack_and_nothing_unmaintained() {
    let mut arguments = vec!["tree", "--locked", "--offline", "--prefix", "none"];
    arguments.extend(["--edges", "normal,build", "--format", "{p}"]);
    let tree = cargo(&arguments);
    assert!(
        tree.lines().count() > 100 && tree.contains("rustls v0."),
        "this is no tree: {tree}"
    );
    assert_eq!(problems(&tree), Vec::<String>::new());
}

#[test]
fn finds_planted_crates() {
    let tree = "rustls v0.21.0\nrustls v0.23.46\nring v0.17.14\nhttp v1.0.0\nhttp v1.0.0 (*)\nring-like v1.0.0";
    assert_eq!(
        problems(tree),
        ["ring is there", "rustls is there in 2 versions"]
    );
}

/// The dependencies that a lock file has for pullpass; with the version where there are several.
fn read_locked(lock: &str) -> BTreeSet<&str> {
    let entry = lock
        .split("[[package]]")
        .find(|entry| entry.contains("\nname = \"pullpass\"\n"))
        .expect("it has pullpass");
    let quoted = entry.lines().filter_map(|line| {
        let name = line.strip_prefix(" \"")?.strip_suffix("\",")?;
        name.split(' ').next()
    });
    quoted.collect()
}

/// `make fuzz` builds with `--locked`: its lock file follows this project's dependencies.
#[test]
fn locks_for_fuzzing_what_the_program_depends_on() {
    let manifest = cargo(&["metadata", "--no-deps", "--offline", "--format-version=1"]);
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("it is JSON");
    let dependencies = manifest["packages"][0]["dependencies"]
        .as_array()
        .expect("a list");
    let wanted = dependencies.iter().filter(|each| each["kind"] != "dev");
    let wanted: BTreeSet<_> = wanted.filter_map(|each| each["name"].as_str()).collect();
    assert!(wanted.contains("tokio"), "{wanted:?}");
    let lock = include_str!("../../fuzz/Cargo.lock");
    let fix = "fuzz/Cargo.lock is behind: run `cargo metadata --manifest-path fuzz/Cargo.toml`";
    assert_eq!(read_locked(lock), wanted, "{fix}");
}

/// ADR 16: a process that uses TLS starts 60 ms sooner.
#[test]
fn takes_random_numbers_from_the_kernel_wherever_it_is_built() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = std::fs::read_to_string(root.join(".cargo/config.toml")).unwrap();
    assert!(config.contains("\nAWS_LC_SYS_NO_JITTER_ENTROPY = \"1\"\n"));
    let context = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
    assert!(context.lines().any(|line| line == "!.cargo"));
    // The program of the tests is built by the same file.
    let program = std::fs::read(env!("CARGO_BIN_EXE_pullpass")).unwrap();
    let name = b"jent_entropy_collector_alloc";
    assert!(!program.windows(name.len()).any(|part| part == name));
}

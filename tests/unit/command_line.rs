//! What all commands have in common, as they are run: exit codes, forms of output, completion.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Command, Output};

use serde_json::Value;

const REGISTRIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/registries.yaml");
const COMMANDS: [&str; 13] = [
    "certs",
    "check",
    "completion",
    "crd",
    "credential-provider",
    "explain",
    "man",
    "policy",
    "purge",
    "rbac",
    "serve",
    "status",
    "version",
];

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    command.args(arguments).env_clear().output().unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn exits_with_2_when_arguments_or_files_cannot_be_used() {
    for command in COMMANDS {
        let output = run(&[command, "--no-such-argument"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(output.stdout.is_empty(), "{command}");
    }
    for arguments in [
        &["check", "-f", "/nowhere.yaml"][..],
        &["explain", "-f", "/nowhere.yaml", "ubuntu"],
        &["policy", "-f", "/nowhere.yaml"],
        &["rbac", "-f", "/nowhere.yaml"],
        &["purge", "--kubeconfig", "/nowhere.yaml"],
        &["serve", "--kubeconfig", "/nowhere.yaml"],
    ] {
        let output = run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains("/nowhere.yaml"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn lists_no_command_that_is_not_tried() {
    let help = stdout(&["--help"]);
    let (_, listed) = help.split_once("Commands:\n").unwrap();
    let names = listed
        .lines()
        .map_while(|line| line.split_whitespace().next());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert_eq!(names, COMMANDS);
}

#[test]
fn prints_the_same_as_json_and_as_yaml() {
    for arguments in [
        &["explain", "-f", REGISTRIES, "ubuntu"][..],
        &["policy", "-f", REGISTRIES],
        &["version"],
    ] {
        let print = |form: &str| stdout(&[arguments, &["-o", form]].concat());
        let json: Value = serde_json::from_str(&print("json")).unwrap();
        let yaml: Value = serde_saphyr::from_str(&print("yaml")).unwrap();
        assert_eq!(json, yaml, "{arguments:?}");
    }
}

#[test]
fn completes_every_command_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&["completion", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert!(script.contains("kubeconfig"), "{shell}");
    }
}

#[test]
fn writes_a_page_for_every_command() {
    let folder = tempfile::tempdir().unwrap();
    stdout(&["man", "--folder", folder.path().to_str().unwrap()]);
    for command in COMMANDS {
        let file = folder.path().join(format!("pullpass-{command}.1"));
        let page = std::fs::read_to_string(&file).unwrap();
        assert!(page.contains("\n.SH SYNOPSIS\n"), "{command}: {page}");
        assert_eq!(stdout(&["man", command]), page, "{command}");
    }
    let page = std::fs::read_to_string(folder.path().join("pullpass.1")).unwrap();
    assert_eq!(stdout(&["man"]), page);
}

#[test]
fn refuses_the_page_of_no_command() {
    let output = run(&["man", "checks"]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("pullpass has no command checks"),
        "{stderr}"
    );
}

/// Builds that nobody releases know neither commit nor date, so that a commit builds nothing anew.
#[test]
fn says_how_it_was_built() {
    let said: Value = serde_json::from_str(&stdout(&["version", "-o", "json"])).unwrap();
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    for field in ["commit", "date"] {
        assert_eq!(said[field], "unknown", "{said}");
    }
    let profile = if cfg!(debug_assertions) {
        "debug"
    } else {
        "release"
    };
    assert_eq!(said["build"]["profile"], profile, "{said}");
    let text = stdout(&["version"]);
    assert!(stdout(&["version", "-o", "wide"]).starts_with(&text));
}

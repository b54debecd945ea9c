//! `pullpass check --node`, and `pullpass credential-provider config`, as they are run.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::support;
use serde_json::Value;
use support::generated::{read, section};
use support::node::{BIN_DIR, CONFIG, NodeFolder, NodeTable};
use support::process::make_certificates;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pullpass"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap()
}

/// What is wrong with a node, as name and field, and whether the exit code says that something failed.
fn check(node: &NodeFolder, further: &[&str]) -> (Vec<String>, bool) {
    let (root, registries) = (node.root(), node.registries());
    let arguments = [
        &["check", "-o", "json", "--node", root.to_str().unwrap()][..],
        &["-f", registries.to_str().unwrap()],
        further,
    ];
    let output = run(&arguments.concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let checks = report["checks"].as_array().unwrap().iter();
    let wrong = checks.filter(|check| check["status"] == "failed" || check["status"] == "warning");
    let found = wrong.map(|check| {
        let message = check["message"].as_str().unwrap();
        assert!(
            check["fix"].as_str().is_some_and(|fix| !fix.is_empty()),
            "{check}"
        );
        assert!(message.contains("pullpass.yaml"), "{check}");
        assert_eq!(
            (&check["kind"], check["millis"].is_null()),
            (&"Node".into(), true)
        );
        // `FILE:LINE: FIELD: what is wrong`.
        let field = message.split(": ").nth(1).unwrap();
        let is_field = field.starts_with("providers") || field == "kind";
        let field = if is_field { field } else { "" };
        format!("{} {field}", check["id"].as_str().unwrap())
    });
    (found.collect(), output.status.code() == Some(1))
}

#[test]
fn names_each_mistake_of_a_node_with_its_field() {
    let table = NodeTable::load();
    assert!(table.cases.len() > 30);
    let mut wrong = Vec::new();
    for case in &table.cases {
        let (found, failed) = check(&table.write(case), &[]);
        let is_warning = |one: &String| {
            one.starts_with("NodeNotIsolated")
                || one.ends_with("requireServiceAccount") && one.starts_with("NodeFieldInvalid")
        };
        let fails = !found.iter().all(is_warning);
        if found != case.found || failed != fails {
            wrong.push(format!(
                "{}: {found:?}, {:?} expected",
                case.name, case.found
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn says_where_it_looked_when_a_node_has_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["check", "--node", folder.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("[NodeConfigMissing]"), "{text}");
    assert!(
        text.contains("/etc/kubernetes/credential-providers"),
        "{text}"
    );
}

/// The kubelet's flags may name any place.
#[test]
fn reads_a_node_where_its_flags_say() {
    let table = NodeTable::load();
    let node = table.write(&table.cases[0]);
    let root = node.root();
    for (from, to) in [(CONFIG, "srv/config"), (BIN_DIR, "srv/bin")] {
        std::fs::create_dir_all(root.join("srv")).unwrap();
        std::fs::rename(root.join(from), root.join(to)).unwrap();
    }
    let flags = [
        "--node-config",
        "/srv/config/pullpass.yaml",
        "--node-bin-dir",
        "/srv/bin",
    ];
    assert_eq!(check(&node, &flags), (Vec::new(), false));
}

/// What is printed for Registries is what `check` finds nothing wrong with.
#[test]
fn prints_what_a_node_needs() {
    let table = NodeTable::load();
    let node = table.write(&table.cases[0]);
    let registries = node.registries();
    let config = [
        "credential-provider",
        "config",
        "-f",
        registries.to_str().unwrap(),
    ];
    let address = ["--address", "10.96.0.80:8444"];
    let output = run(&[&config[..], &address].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("cacheType: Token"), "{text}");
    std::fs::write(node.root().join(CONFIG).join("pullpass.yaml"), &text).unwrap();
    assert_eq!(check(&node, &[]), (Vec::new(), false));

    for platform in ["eks", "aks", "kubeadm", "k3s", "kind", "talos", "openshift"] {
        let output = run(&[&config[..], &address, &["--platform", platform]].concat());
        let printed = String::from_utf8(output.stdout).unwrap();
        let mut lines = text.lines().filter(|line| !line.contains("ca.crt"));
        let has_all = lines.all(|line| printed.contains(line));
        assert!(has_all || platform == "openshift", "{platform}: {printed}");
    }
    let refused = run(&config);
    assert_eq!(refused.status.code(), Some(2), "an address is wanted");
}

#[test]
fn refuses_registries_for_which_no_kubelet_would_ask() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/registries.yaml");
    let config = [
        "credential-provider",
        "config",
        "--address",
        "10.96.0.80:8444",
        "-f",
    ];
    let output = run(&[&config[..], &[file.to_str().unwrap()]].concat());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("registries.yaml: spec.delivery: "),
        "{stderr}"
    );
}

#[test]
fn prints_the_right_that_nodes_need() {
    let output = run(&["credential-provider", "config", "--rbac"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let kinds: Vec<&str> = documents
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["ClusterRole", "ClusterRoleBinding"]);
    let rule = &documents[0]["rules"][0];
    assert_eq!(rule["resources"][0], "pullpass.dev");
    assert_eq!(rule["verbs"][0], "request-serviceaccounts-token-audience");
    assert_eq!(documents[1]["subjects"][0]["name"], "system:nodes");
}

/// Stands in for what the page has on a machine with kind: its one node is a folder, and no cluster says what nodes may ask for.
const DOUBLES: &str = r#"
docker() { test "$1" = cp && cp -r "$NODE/${2#pullpass-control-plane:}" "$3"; }
pullpass() { test "$4" = --kubeconfig && "$PULLPASS" "$1" "$2" "$3" -f "$REGISTRIES"; }
"#;

/// The files of a node by what `--platform kind` prints: its table of places and modes, and the configuration.
fn write_node(root: &Path, printed: &str) {
    let certificates = root.join("certificates");
    make_certificates(&certificates, "127.0.0.1");
    let config = printed.split("<<'END'\n").nth(1).unwrap();
    let config = config.split("END\n").next().unwrap();
    let table = printed
        .lines()
        .filter_map(|line| line.strip_prefix("#   /"));
    let mut written = 0;
    for row in table {
        let mut cells = row.split_whitespace();
        let (path, mode) = (root.join(cells.next().unwrap()), cells.next().unwrap());
        let text = match path.extension().and_then(|end| end.to_str()) {
            Some("yaml") => config.to_owned(),
            Some("crt") => fs::read_to_string(certificates.join("ca.crt")).unwrap(),
            _ => "#!/bin/sh\n".to_owned(),
        };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let mode = u32::from_str_radix(mode, 8).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        written += 1;
    }
    assert_eq!(written, 3, "{printed}");
}

/// The block that the page has for a kubelet that does not start, and what it prints of a node that is as it should be. No other test runs a
/// command of this page.
#[test]
fn finds_nothing_wrong_with_a_copied_node_as_the_quick_start_says() {
    let page = read("docs/quick-start/kubelet.md");
    let part = section(&page, "### The kubelet does not start");
    let block = |kind: &str| part.split(kind).nth(1)?.split("```").next();
    let (commands, expected) = (block("```sh\n").unwrap(), block("```text\n").unwrap());
    let table = NodeTable::load();
    let made = table.write(&table.cases[0]);
    let registries = made.registries();
    let arguments = ["--address", "10.96.0.80:8444", "--platform", "kind", "-f"];
    let config = ["credential-provider", "config"];
    let printed = run(&[&config, &arguments[..], &[registries.to_str().unwrap()]].concat());
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("pullpass-control-plane");
    write_node(&node, &String::from_utf8(printed.stdout).unwrap());
    let output = Command::new("bash")
        .args(["-euc", &format!("{DOUBLES}{commands}")])
        .current_dir(folder.path())
        .env("NODE", &node)
        .env("REGISTRIES", &registries)
        .env("PULLPASS", env!("CARGO_BIN_EXE_pullpass"))
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}{stderr}");
    assert!(expected.lines().count() > 3, "{expected}");
    let known = |line: &&str| *line == "…" || stdout.lines().any(|printed| printed == *line);
    let missing: Vec<&str> = expected.lines().filter(|line| !known(line)).collect();
    assert!(missing.is_empty(), "{missing:#?} are not in\n{stdout}");
}

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
        assert!(
            message.starts_with("/etc/") || message.starts_with("/usr/"),
            "{check}"
        );
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
    assert!(table.cases.len() > 100);
    let mut wrong = Vec::new();
    for case in &table.cases {
        let (found, failed) = check(&table.write(case), &[]);
        let fails = !case.found.is_empty() && !case.warns;
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

/// The text of a report, and the exit code.
fn check_text(arguments: &[&str]) -> (String, Option<i32>) {
    let output = run(&[&["check", "--node"], arguments].concat());
    let text = [output.stdout, output.stderr].concat();
    (String::from_utf8(text).unwrap(), output.status.code())
}

#[test]
fn says_that_no_provider_runs_pullpass() {
    let table = NodeTable::load();
    let mut cases = table.cases.iter();
    let node = table.write(
        cases
            .find(|case| case.name == "somebody else alone")
            .unwrap(),
    );
    let root = node.root();
    let root = root.to_str().unwrap();
    let (text, code) = check_text(&[root]);
    assert!(
        text.contains("[NodeProviderMissing]") && code == Some(1),
        "{text}"
    );
    assert!(
        !text.contains("✓ pullpass") && !text.contains("✓ images"),
        "{text}"
    );

    let registries = std::fs::read_to_string(node.registries()).unwrap();
    let by_secret = registries.replace("delivery: Node", "delivery: Secret");
    let by_secret = by_secret.replace("delivery: Both", "delivery: Secret");
    std::fs::write(node.registries(), by_secret).unwrap();
    let (text, code) = check_text(&[root, "-f", node.registries().to_str().unwrap()]);
    assert!(
        text.contains("no provider runs pullpass; no Registry has delivery Node"),
        "{text}"
    );
    assert!(!text.contains("✓ pullpass") && code == Some(0), "{text}");
}

#[test]
fn tries_no_images_where_no_registry_was_given() {
    let table = NodeTable::load();
    let node = table.write(&table.cases[0]);
    let (text, code) = check_text(&[node.root().to_str().unwrap()]);
    assert!(
        text.contains("✓ pullpass") && !text.contains("✓ images"),
        "{text}"
    );
    assert!(
        text.contains("images: no Registry was given") && code == Some(0),
        "{text}"
    );
}

#[test]
fn refuses_a_folder_that_is_none() {
    for (path, problem) in [
        ("/nowhere/at/all", "No such file"),
        ("/dev/null", "no folder"),
    ] {
        let (text, code) = check_text(&[path]);
        assert!(text.contains(&format!("--node {path}: ")), "{text}");
        assert!(text.contains(problem) && code == Some(2), "{text}");
    }
}

/// A copy's absolute links are those of the node.
#[test]
fn follows_links_below_the_root() {
    let table = NodeTable::load();
    let node = table.write(&table.cases[0]);
    let root = node.root();
    for (place, target) in [
        ("etc/pullpass/ca.crt", "/etc/real.crt"),
        (
            "usr/local/lib/kubelet/credentialproviders",
            "/opt/providers",
        ),
        (
            "etc/kubernetes/credential-providers/pullpass.yaml",
            "/etc/real.yaml",
        ),
    ] {
        let real = root.join(&target[1..]);
        std::fs::create_dir_all(real.parent().unwrap()).unwrap();
        std::fs::rename(root.join(place), real).unwrap();
        std::os::unix::fs::symlink(target, root.join(place)).unwrap();
    }
    assert_eq!(check(&node, &[]), (Vec::new(), false));
    // A file of whoever checks is none of the node's.
    let outside = root.parent().unwrap().join("outside");
    std::fs::rename(root.join("etc/real.crt"), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("etc/real.crt")).unwrap();
    let found = vec!["NodeCaMissing providers[0].args".to_owned()];
    assert_eq!(check(&node, &[]), (found, true));
}

#[test]
fn finds_the_places_of_platforms() {
    let table = NodeTable::load();
    for (config, bin_dir) in [
        (
            "etc/eks/image-credential-provider/config.json",
            "etc/eks/image-credential-provider",
        ),
        (
            "etc/pullpass/credential-providers/pullpass.yaml",
            "etc/eks/image-credential-provider",
        ),
        (
            "etc/kubernetes/credential-providers/ecr-credential-provider.yaml",
            "usr/libexec/kubelet-image-credential-provider-plugins",
        ),
        (
            "var/lib/kubelet/credential-provider-config.yaml",
            "var/lib/kubelet/credential-provider",
        ),
        (
            "var/lib/rancher/credentialprovider/config.yaml",
            "var/lib/rancher/credentialprovider/bin",
        ),
    ] {
        let node = table.write(&table.cases[0]);
        let root = node.root();
        let move_to = |from: &str, to: &str| {
            std::fs::create_dir_all(root.join(to).parent().unwrap()).unwrap();
            std::fs::rename(root.join(from), root.join(to)).unwrap();
        };
        move_to(BIN_DIR, bin_dir);
        let text = std::fs::read_to_string(root.join(CONFIG).join("pullpass.yaml")).unwrap();
        let text = if config.contains("/config.json") {
            let value: Value = serde_saphyr::from_str(&text).unwrap();
            value.to_string()
        } else {
            text
        };
        std::fs::write(root.join(CONFIG).join("pullpass.yaml"), text).unwrap();
        move_to(&format!("{CONFIG}/pullpass.yaml"), config);
        let (text, code) = check_text(&[root.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{config}: {text}");
    }
}

/// A folder that cannot be read is not an empty one.
#[test]
fn says_that_a_folder_cannot_be_read() {
    let table = NodeTable::load();
    let node = table.write(&table.cases[0]);
    let flags = ["--node-bin-dir", "/etc/pullpass/ca.crt"];
    let (text, code) = check_text(&[&[node.root().to_str().unwrap()][..], &flags].concat());
    assert!(text.contains("[NodeFileUnreadable]"), "{text}");
    assert!(text.contains("ot a directory") && code == Some(1), "{text}");
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

/// What cannot work on a node, or would be read by a shell there.
#[test]
fn prints_nothing_that_cannot_work() {
    let table = NodeTable::load();
    let node = table.write(&table.cases[0]);
    let registries = node.registries();
    let config = [
        "credential-provider",
        "config",
        "-f",
        registries.to_str().unwrap(),
    ];
    for arguments in [
        &["--address", "a b:1"][..],
        &["--address", "10.96.0.80:8444\n"],
        &["--address", "10.96.0.80:8444", "--server-name", "*"],
        &["--address", "10.96.0.80:8444", "--ca-file", "/etc/$(id)"],
        &[
            "--address",
            "10.96.0.80:8444",
            "--ca-file",
            "/etc/pull pass/ca.crt",
        ],
        &[
            "--address",
            "10.96.0.80:8444",
            "--platform",
            "kubeadm",
            "--ca-file",
            "/etc/kubernetes/credential-providers/ca.yaml",
        ],
    ] {
        let output = run(&[&config[..], arguments].concat());
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
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

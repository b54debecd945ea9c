//! The scripts that `pullpass credential-provider config --platform` prints, as they are run on nodes, each in a folder of its own.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support;
use serde::Deserialize;
use support::node::NodeTable;
use tempfile::TempDir;

/// All of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptTable {
    cases: Vec<ScriptCase>,
}

/// A node before and after a script. In texts, `ROOT` is the folder that stands for its root.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptCase {
    name: String,
    platform: String,
    /// Files by path, before.
    #[serde(default)]
    before: BTreeMap<String, String>,
    /// What the script says when it stops before it changed anything.
    stops: Option<String>,
    /// Files by path, after: all that they hold.
    #[serde(default)]
    after: BTreeMap<String, String>,
    /// Files that are there, after.
    #[serde(default)]
    places: Vec<String>,
}

/// A node in a folder, and the programs that scripts ask.
struct Node {
    folder: TempDir,
}

impl Node {
    fn new(case: &ScriptCase) -> Self {
        let node = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let programs = [
            ("systemctl", "echo \"$@\" >>\"$LOG\""),
            ("chown", ":"),
            ("kind", "echo a-node"),
            (
                "docker",
                "case $1 in\nexec) shift; [ \"$1\" != -i ] || shift; shift; exec \"$@\" ;;\ncp) cp \"$2\" \"${3#*:}\" ;;\nesac",
            ),
        ];
        for (name, text) in programs {
            let program = node.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{text}\n"));
            std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        node.write("work/pullpass", "program");
        node.write("work/ca.crt", "certificate");
        std::fs::create_dir_all(node.root()).unwrap();
        for (path, text) in &case.before {
            node.write(&format!("root{path}"), &node.fill(text));
        }
        node
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn fill(&self, text: &str) -> String {
        text.replace("ROOT", self.root().to_str().unwrap())
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Runs a script whose places are below the root.
    fn run(&self, script: &str) -> Output {
        let places = ["/etc/", "/usr/", "/var/"];
        let script = places.into_iter().fold(script.to_owned(), |script, place| {
            script.replace(place, &format!("ROOT{place}"))
        });
        let script = self.write("script", &self.fill(&script));
        let path = format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display());
        let log = self.folder.path().join("log");
        let mut command = Command::new("sh");
        command
            .arg(script)
            .current_dir(self.folder.path().join("work"));
        command.env_clear().env("PATH", path).env("LOG", log);
        command.output().unwrap()
    }

    /// Every file below the root, with what it holds.
    fn files(&self) -> BTreeMap<String, String> {
        fn add(folder: &Path, root: &Path, files: &mut BTreeMap<String, String>) {
            for entry in folder.read_dir().unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    add(&path, root, files);
                } else {
                    let name = path.strip_prefix(root).unwrap().display();
                    files.insert(format!("/{name}"), std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let mut files = BTreeMap::new();
        add(&self.root(), &self.root(), &mut files);
        files
    }

    fn was_restarted(&self) -> bool {
        let log = std::fs::read_to_string(self.folder.path().join("log"));
        log.is_ok_and(|log| log.contains("restart"))
    }
}

/// What is printed for a platform.
fn print(platform: &str) -> String {
    let table = NodeTable::load();
    let node = table.write(&table.cases[0]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    command.args([
        "credential-provider",
        "config",
        "--address",
        "10.96.0.80:8444",
    ]);
    command
        .args(["--platform", platform, "-f"])
        .arg(node.registries());
    let output = command.env_clear().output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What is wrong with a node after a script ran on it.
fn judge(case: &ScriptCase, script: &str) -> Result<(), String> {
    let node = Node::new(case);
    let before = node.files();
    let output = node.run(script);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if let Some(stops) = &case.stops {
        let is_so = !output.status.success() && said.contains(stops);
        let is_so = is_so && said.lines().count() == 1 && !node.was_restarted();
        let untouched = node
            .files()
            .into_iter()
            .filter(|(path, _)| !path.contains("set-up"));
        return if is_so && before == untouched.collect() {
            Ok(())
        } else {
            Err(format!("it does not stop in time: {said}"))
        };
    }
    // Whoever runs it again finds the same.
    for round in 0..2 {
        let output = if round == 0 {
            output.clone()
        } else {
            node.run(script)
        };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() || !node.was_restarted() {
            return Err(format!("round {round}: {said}"));
        }
        let after = node.files();
        for (path, text) in &case.after {
            if after.get(path) != Some(&node.fill(text)) {
                return Err(format!("round {round}: {path}: {:?}", after.get(path)));
            }
        }
        let missing = case.places.iter().find(|path| !after.contains_key(*path));
        if let Some(path) = missing {
            return Err(format!(
                "round {round}: {path} is not there: {:?}",
                after.keys()
            ));
        }
        let kept = before.keys().find(|path| !after.contains_key(*path));
        if let Some(path) = kept {
            return Err(format!("round {round}: {path} is gone"));
        }
    }
    Ok(())
}

#[test]
fn keeps_what_a_node_has_or_stops_before_it_changes_anything() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/node_scripts.yaml");
    let table: ScriptTable =
        serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert!(table.cases.len() > 25);
    let mut scripts = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &table.cases {
        let script = scripts
            .entry(case.platform.as_str())
            .or_insert_with(|| print(&case.platform));
        if let Err(problem) = judge(case, script) {
            wrong.push(format!("{}: {problem}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn stops_where_the_program_is_not_there() {
    for platform in ["aks", "kubeadm", "k3s"] {
        let case = ScriptCase {
            name: platform.to_owned(),
            platform: platform.to_owned(),
            before: BTreeMap::new(),
            stops: None,
            after: BTreeMap::new(),
            places: Vec::new(),
        };
        let node = Node::new(&case);
        std::fs::remove_file(node.folder.path().join("work/ca.crt")).unwrap();
        let output = node.run(&print(platform));
        assert!(
            !output.status.success() && node.files().is_empty(),
            "{platform}"
        );
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("ca.crt"), "{said}");
    }
}

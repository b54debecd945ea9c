//! What a release consists of, as others read it: lists of parts, archives, charts, the workflows that make it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;
use serde_json::Value;
use support::bed::{program, succeed};
use tempfile::TempDir;

/// What releases are built for.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A verb of the test bed on this repository's sources, as they would be of one commit.
fn make(verb: &str, folder: &Path) -> Command {
    let mut command = Command::new(program("bed"));
    command
        .args([verb, "--version", VERSION, "--commit", "c0ffee"])
        .args(["--time", "1700000000", "--output"])
        .arg(folder)
        .arg("--sources")
        .arg(root());
    command
}

/// A static program with a list of parts in it, linked as a release's is: without what nothing refers to, and stripped.
fn link(parts: &Path, folder: &Path) -> PathBuf {
    let object = folder.join("parts.o");
    let mut section = Command::new(root().join("image/section.sh"));
    succeed(section.arg("cc").arg(parts).arg(&object));
    let source = folder.join("main.c");
    std::fs::write(&source, "int main(void) { return 0; }").unwrap();
    let linked = folder.join("linked");
    let mut link = Command::new("cc");
    link.args(["-static", "-Wl,--gc-sections,--strip-all", "-o"]);
    succeed(link.arg(&linked).arg(&source).arg(&object));
    linked
}

/// The crates that `NOTICE` tells of, as package URLs.
fn noticed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("NOTICE")).unwrap();
    let crates = text.lines().filter_map(|line| {
        let (label, rest) = line.split_once(", ")?;
        let (name, version) = label.split_once(' ')?;
        let is_crate = rest.contains(", https://") && !version.contains(' ');
        is_crate.then(|| format!("pkg:cargo/{name}@{version}"))
    });
    crates.collect()
}

/// The crates of `Cargo.lock`, as package URLs.
fn locked() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let field = |entry: &str, name: &str| {
        let line = entry.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let entries = text.split("[[package]]").skip(1);
    let crates = entries.map(|entry| {
        let (name, version) = (field(entry, "name = "), field(entry, "version = "));
        format!("pkg:cargo/{}@{}", name.unwrap(), version.unwrap())
    });
    crates.collect()
}

#[test]
fn lists_of_parts_name_each_crate_of_the_program() {
    let locked = locked();
    let mut all = BTreeSet::new();
    for target in TARGETS {
        let folder = tempfile::tempdir().unwrap();
        succeed(make("sbom", folder.path()).args(["--target", target]));
        let file = |ending: &str| folder.path().join(format!("pullpass.{ending}"));
        let linked = link(&file("dep-v0"), folder.path());
        let mut read = Command::new(program("sbom"));
        read.arg(file("cdx.json")).arg(file("spdx.json"));
        let said: Value = serde_json::from_str(&succeed(read.arg(linked))).unwrap();
        assert_eq!(said["cyclonedx"], said["spdx"], "{target}");
        assert_eq!(said["cyclonedx"], said["program"], "{target}");
        let parts: Vec<&str> = said["spdx"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap())
            .collect();
        let named: BTreeSet<String> = parts.iter().map(|&part| part.to_owned()).collect();
        assert_eq!(named.len(), parts.len(), "{target}: a part is named twice");
        let unknown: Vec<_> = named.difference(&locked).collect();
        assert!(unknown.is_empty(), "{target}: {unknown:?}");
        // What tests alone need is no part of it.
        assert!(!named.iter().any(|part| part.contains("/criterion@")));
        all.extend(named);
    }
    let noticed = noticed();
    assert!(noticed.len() > 100, "{noticed:?}");
    let missing: Vec<_> = noticed.difference(&all).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A release's files around another static program, with man pages and completions of this one.
fn pack(zone: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let extras = tempfile::tempdir().unwrap();
    for name in ["man", "completions"] {
        std::fs::create_dir(extras.path().join(name)).unwrap();
    }
    let mut man = Command::new(env!("CARGO_BIN_EXE_pullpass"));
    succeed(man.args(["man", "--folder"]).arg(extras.path().join("man")));
    let mut pack = make("pack", folder.path());
    pack.arg("--program").arg(program("hello")).env("TZ", zone);
    succeed(pack.arg("--extras").arg(extras.path()));
    folder
}

#[test]
fn pack_makes_the_same_again() {
    let sums =
        |folder: &TempDir| std::fs::read_to_string(folder.path().join("SHA256SUMS")).unwrap();
    let (first, second) = (pack("UTC"), pack("Asia/Kathmandu"));
    assert_eq!(sums(&first), sums(&second));
    let mut check = Command::new("sha256sum");
    check.args(["--check", "--strict", "SHA256SUMS"]);
    let checked = succeed(check.current_dir(first.path()));
    assert_eq!(checked.lines().count(), 5, "{checked}");
}

#[test]
fn archive_holds_program_licenses_and_pages() {
    let folder = pack("UTC");
    let name = format!(
        "pullpass-{VERSION}-linux-{}",
        if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        }
    );
    let mut list = Command::new("tar");
    list.arg("-tzf")
        .arg(folder.path().join(format!("{name}.tar.gz")));
    let names = succeed(&mut list);
    for file in [
        "pullpass",
        "LICENSE",
        "NOTICE",
        "THIRD-PARTY-LICENSES",
        "man/pullpass.1",
        "man/pullpass-check.1",
    ] {
        assert!(
            names.lines().any(|line| line == format!("{name}/{file}")),
            "{file}: {names}"
        );
    }
}

/// Helm reads the package as it reads the folder.
#[test]
fn packed_charts_are_what_helm_packs() {
    let packed = pack("UTC");
    let home = tempfile::tempdir().unwrap();
    let helm = |arguments: &[&str], chart: &Path| {
        let mut command = Command::new(program("helm"));
        command.args(arguments).arg(chart);
        succeed(command.env_clear().env("HOME", home.path()))
    };
    for (name, folder) in [
        ("pullpass", "chart"),
        ("pullpass-registries", "chart-registries"),
    ] {
        let ours = packed.path().join(format!("{name}-{VERSION}.tgz"));
        let folder = root().join("manifests").join(folder);
        let theirs = tempfile::tempdir().unwrap();
        let into = theirs.path().to_str().unwrap();
        helm(&["package", "--destination", into], &folder);
        let theirs = theirs.path().join(format!("{name}-{VERSION}.tgz"));
        assert_eq!(unpack(&ours), unpack(&theirs), "{name}");
        assert_eq!(
            helm(&["show", "all"], &ours),
            helm(&["show", "all"], &folder),
            "{name}"
        );
    }
}

/// The names and contents of an archive's files.
fn unpack(archive: &Path) -> BTreeSet<(PathBuf, String)> {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    succeed(tar.arg("-xzf").arg(archive).arg("-C").arg(folder.path()));
    let mut files = BTreeSet::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mut content = std::fs::read_to_string(&path).unwrap();
                // Helm writes it in its own order.
                if path.ends_with("Chart.yaml") {
                    let fields: Value = serde_saphyr::from_str(&content).unwrap();
                    content = fields.to_string();
                }
                files.insert((
                    path.strip_prefix(folder.path()).unwrap().to_owned(),
                    content,
                ));
            }
        }
    }
    files
}

/// What Helm looks for in a registry: <https://helm.sh/docs/topics/registries/#helm-chart-manifest>.
#[test]
fn layout_of_charts_refers_to_their_packages() {
    let packed = pack("UTC");
    let layout = tempfile::tempdir().unwrap();
    let archive = packed
        .path()
        .join(format!("pullpass-{VERSION}-charts.oci.tar"));
    let mut tar = Command::new("tar");
    succeed(tar.arg("-xf").arg(archive).arg("-C").arg(layout.path()));
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        std::fs::read(layout.path().join("blobs").join(digest.replace(':', "/"))).unwrap()
    };
    let index: Value =
        serde_json::from_slice(&std::fs::read(layout.path().join("index.json")).unwrap()).unwrap();
    for (at, name) in ["pullpass", "pullpass-registries"].into_iter().enumerate() {
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][at])).unwrap();
        assert_eq!(
            manifest["config"]["mediaType"],
            "application/vnd.cncf.helm.config.v1+json"
        );
        assert_eq!(
            manifest["layers"][0]["mediaType"],
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
        );
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(
            (&config["name"], &config["version"]),
            (&name.into(), &VERSION.into())
        );
        let package = std::fs::read(packed.path().join(format!("{name}-{VERSION}.tgz"))).unwrap();
        assert!(blob(&manifest["layers"][0]) == package, "{name}");
    }
}

fn lint_workflows(folder: &Path) -> String {
    let mut lint = Command::new(program("actionlint"));
    lint.args(["-no-color", "-shellcheck=", "-pyflakes="]);
    let files = std::fs::read_dir(folder).unwrap();
    lint.args(files.map(|file| file.unwrap().path()));
    String::from_utf8(lint.output().unwrap().stdout).unwrap()
}

#[test]
fn workflows_are_linted() {
    let workflows = root().join(".github/workflows");
    assert_eq!(lint_workflows(&workflows), "");
    let damaged = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(workflows.join("release.yaml")).unwrap();
    let text = text.replace("needs: build", "needs: built");
    std::fs::write(damaged.path().join("release.yaml"), text).unwrap();
    let found = lint_workflows(damaged.path());
    assert!(found.contains("\"built\""), "{found}");
}

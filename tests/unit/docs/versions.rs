//! pullpass' own version, which docs/RELEASING.md has written into several files: the same in all of them.

use std::fs;
use std::path::PathBuf;

use super::{documents, find_files, read, root};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Pages whose commands name the image by its tag.
const NAMED: [&str; 4] = [
    "README.md",
    "docs/INSTALL.md",
    "docs/quick-start/kind.md",
    "docs/quick-start/kubelet.md",
];

/// The tags of pullpass' image in a text: what follows `/pullpass:` and begins with a digit.
fn find_tags(text: &str) -> impl Iterator<Item = &str> {
    let rests = text.split("/pullpass:").skip(1);
    let tags = rests.filter_map(|rest| {
        rest.split(|letter: char| !letter.is_ascii_alphanumeric() && !".-_".contains(letter))
            .next()
    });
    tags.filter(|tag| tag.starts_with(|first: char| first.is_ascii_digit()))
}

#[test]
fn finds_tags_of_the_image_and_of_no_other() {
    let text = "a/pullpass:0.1.0 `b/pullpass:2.0.0-rc.1`, a/pullpass:TAG a/hello:1 pullpass:3";
    let found: Vec<&str> = find_tags(text).collect();
    assert_eq!(found, ["0.1.0", "2.0.0-rc.1"]);
}

/// Whoever copies a command gets the image that he has built.
#[test]
fn names_the_image_by_this_version_everywhere() {
    let mut files: Vec<PathBuf> = documents();
    files.extend(find_files(&root().join("manifests"), "yaml"));
    files.extend(find_files(&root().join("tests/data"), "yaml"));
    files.extend(["Dockerfile", "manifests/render.sh"].map(|name| root().join(name)));
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let others = find_tags(&text).filter(|tag| *tag != VERSION);
        wrong.extend(others.map(|tag| format!("{}: {tag}", file.display())));
    }
    assert!(wrong.is_empty(), "not {VERSION}: {wrong:#?}");
    for name in NAMED
        .into_iter()
        .chain(["Dockerfile", "manifests/render.sh"])
    {
        assert!(find_tags(&read(name)).count() > 0, "{name} names no image");
    }
}

#[test]
fn says_this_version_wherever_a_version_is_said() {
    for (file, line) in [
        (
            "manifests/chart/Chart.yaml",
            format!("\nversion: {VERSION}\n"),
        ),
        (
            "manifests/chart/Chart.yaml",
            format!("\nappVersion: {VERSION}\n"),
        ),
        (
            "manifests/chart-registries/Chart.yaml",
            format!("\nversion: {VERSION}\n"),
        ),
        (
            "manifests/chart-registries/Chart.yaml",
            format!("\nappVersion: {VERSION}\n"),
        ),
        (
            "Cargo.lock",
            format!("\nname = \"pullpass\"\nversion = \"{VERSION}\"\n"),
        ),
        (
            "fuzz/Cargo.lock",
            format!("\nname = \"pullpass\"\nversion = \"{VERSION}\"\n"),
        ),
        (
            "Dockerfile",
            format!("org.opencontainers.image.version={VERSION}\n"),
        ),
        ("docs/INSTALL.md", format!("(`appVersion`, {VERSION})")),
    ] {
        assert!(read(file).contains(&line), "{file} lacks {line:?}");
    }
    let text = read("manifests/install.yaml");
    let mut labels = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("app.kubernetes.io/version: "));
    assert!(labels.clone().count() > 10);
    assert!(labels.all(|label| label == VERSION), "make manifests");
}

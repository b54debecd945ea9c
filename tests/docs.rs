//! What documents point to is there: the tests that show a claim, other documents and their headings.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of a folder and of those below it, with this ending.
fn find_files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(find_files(&path, ending));
        } else if path.extension().is_some_and(|known| known == ending) {
            found.push(path);
        }
    }
    found
}

fn documents() -> Vec<PathBuf> {
    let mut found = find_files(&root().join("docs"), "md");
    found.extend(
        ["README.md", "manifests/README.md", "certs/README.md"].map(|name| root().join(name)),
    );
    found
}

/// The text between back-ticks.
fn find_code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Where links of a text lead.
fn find_links(text: &str) -> impl Iterator<Item = &str> {
    let rests = text.split("](").skip(1);
    rests.filter_map(|rest| rest.split(')').next())
}

/// A heading as GitHub makes an anchor of it.
fn anchor(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase();
    title
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

/// All tests, as `file::test`; those in a folder go by the file that it belongs to.
fn known_tests() -> BTreeSet<String> {
    let folder = root().join("tests");
    let mut known = BTreeSet::new();
    for path in find_files(&folder, "rs") {
        let below = path.strip_prefix(&folder).unwrap();
        let first = Path::new(below.components().next().unwrap().as_os_str());
        let file = first.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().map(str::trim_start);
        while lines.any(|line| line == "#[test]" || line.starts_with("#[tokio::test")) {
            let name = lines.find_map(|line| line.split("fn ").nth(1)?.split('(').next());
            known.extend(name.map(|name| format!("{file}::{name}")));
        }
    }
    known
}

#[test]
fn names_tests_that_are_there() {
    let known = known_tests();
    for document in ["docs/SECURITY.md", "docs/FAULTS.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let named: BTreeSet<&str> = find_code(&text)
            .filter(|code| code.contains("::") && *code != "file::test")
            .collect();
        assert!(named.len() > 20, "{document}: {named:?}");
        let missing: Vec<_> = named
            .iter()
            .filter(|name| !known.contains(**name))
            .collect();
        assert!(missing.is_empty(), "{document}: {missing:#?}");
    }
}

#[test]
fn links_to_what_is_there() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in find_links(&text).filter(|link| !link.contains("://")) {
            let (path, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            let has_heading = || {
                let text = fs::read_to_string(&target).unwrap_or_default();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                headings.map(anchor).any(|known| known == heading)
            };
            if !target.exists() || !(heading.is_empty() || has_heading()) {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// What people read first stays short.
#[test]
fn says_it_briefly() {
    for (name, most) in [("README.md", 150), ("docs/ARCHITECTURE.md", 130)] {
        let lines = fs::read_to_string(root().join(name))
            .unwrap()
            .lines()
            .count();
        assert!(lines <= most, "{name}: {lines} lines, {most} at most");
    }
}

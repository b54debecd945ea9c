//! What documents point to is there: the tests that show a claim, targets of make, other documents and their headings. What
//! several files say, license and version of Rust, they say alike.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod manifests;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

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
    let elsewhere = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "manifests/README.md",
        "manifests/chart/README.md",
        "manifests/chart-registries/README.md",
        "certs/README.md",
        "tests/bed/README.md",
    ];
    found.extend(elsewhere.map(|name| root().join(name)));
    found
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
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

/// All tests, as `file::test` where the file is a test program's; those in a folder go by the file that it belongs to.
fn known_tests() -> BTreeSet<String> {
    let folder = root().join("tests");
    let mut known = BTreeSet::new();
    for path in find_files(&folder, "rs") {
        let below = path.strip_prefix(&folder).unwrap();
        let Some(first) = below.components().nth(1) else {
            continue;
        };
        let file = Path::new(first.as_os_str()).file_stem().unwrap();
        let file = file.to_string_lossy().into_owned();
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

/// Files of tests, which move.
#[test]
fn names_files_of_tests_that_are_there() {
    let mut named = BTreeSet::new();
    for document in documents() {
        let text = fs::read_to_string(document).unwrap();
        let files = find_code(&text).filter(|code| code.starts_with("tests/"));
        let whole = files.filter(|code| !code.contains([' ', '*']));
        named.extend(whole.map(str::to_owned));
    }
    assert!(named.len() > 3, "{named:?}");
    let missing = named.iter().filter(|name| !root().join(name).exists());
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Where to look for what, and how far that is.
#[test]
fn names_sources_that_are_there_and_counts_those_of_each_way() {
    let text = read("docs/ARCHITECTURE.md");
    let is_source = |code: &&str| code.strip_suffix(".rs").is_some() && !code.starts_with("tests/");
    let mut missing: Vec<&str> = find_code(&text).filter(is_source).collect();
    assert!(missing.len() > 60, "{missing:?}");
    missing.retain(|name| !root().join("src").join(name).exists());
    assert_eq!(missing, Vec::<&str>::new());
    for (way, most) in [("| a Pod of ECR", 40), ("| a renewal of ECR", 25)] {
        let row = text.lines().find(|line| line.starts_with(way)).unwrap();
        let files: BTreeSet<&str> = find_code(row).collect();
        assert!(row.contains(&format!(": {} files |", files.len())), "{row}");
        assert!(files.len() <= most, "{row}");
    }
}

/// The numbers of vulnerabilities in a text.
fn find_cves(text: &str) -> BTreeSet<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let words = text.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("CVE-")).collect()
}

/// A class that hit others is tried here, by rows that name it.
#[test]
fn tries_each_vulnerability_that_it_names() {
    let document = read("docs/SECURITY.md");
    let named = find_cves(&document);
    assert!(named.len() > 5, "{named:?}");
    let tables: Vec<String> = find_files(&root().join("tests/data"), "yaml")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let tried: BTreeSet<&str> = tables.iter().flat_map(|text| find_cves(text)).collect();
    assert_eq!(named, tried);
}

/// The target that a line of shell has made, as in `KEEP=1 make demo`.
fn find_target(code: &str) -> Option<&str> {
    let mut words = code.split_whitespace().filter(|word| !word.contains('='));
    words.next().filter(|command| *command == "make")?;
    words.next()
}

#[test]
fn names_targets_that_are_there() {
    let makefiles = read("Makefile") + &read("tests/bed/bed.mk");
    let rules = makefiles.lines().filter_map(|line| line.split_once(':'));
    let targets: BTreeSet<&str> = rules
        .filter(|(names, rest)| !names.starts_with(['\t', '#']) && !rest.starts_with('='))
        .flat_map(|(names, _)| names.split_whitespace())
        .collect();
    let mut named = BTreeSet::new();
    for document in documents() {
        let text = fs::read_to_string(document).unwrap();
        let blocks = text.split("```").skip(1).step_by(2).flat_map(str::lines);
        let indented = text.lines().filter(|line| line.starts_with("    "));
        let code = find_code(&text).chain(blocks).chain(indented);
        named.extend(code.filter_map(find_target).map(str::to_owned));
    }
    assert!(named.len() > 10, "{named:?}");
    let missing = named.iter().filter(|name| !targets.contains(name.as_str()));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&String>::new());
}

/// Names of what `check` finds: programs go by them.
#[test]
fn lists_every_name_of_a_finding() {
    let document = read("docs/CHECK.md");
    let listed: BTreeSet<&str> = find_code(&document).collect();
    let mut found = BTreeSet::new();
    for file in [
        "command/check/ids",
        "api_server",
        "credential/answers",
        "credential/error",
        "credential/tenant",
    ] {
        let text = read(&format!("src/{file}.rs"));
        // `const NAME: &str = "Name";`, and the arms of `reason`.
        let named = text.lines().filter(|line| {
            ["=> \"", "= \"", "  \""]
                .iter()
                .any(|before| line.contains(before))
        });
        found.extend(
            named
                .filter_map(|line| line.split('"').nth(1))
                .map(str::to_owned),
        );
    }
    let is_word = |word: &str| {
        word.starts_with(|first: char| first.is_ascii_uppercase())
            && word.chars().all(|letter| letter.is_ascii_alphanumeric())
    };
    found.retain(|word| is_word(word));
    assert!(found.len() > 60, "{found:?}");
    let missing: Vec<&String> = found
        .iter()
        .filter(|word| !listed.contains(word.as_str()))
        .collect();
    assert!(missing.is_empty(), "docs/CHECK.md lacks {missing:?}");
}

/// The constants of a file that are texts: `pub(super) const NAME: &str = "Word";`.
fn find_constants(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| line.starts_with("pub("));
    lines.filter_map(|line| {
        let (_, constant) = line.split_once(" const ")?;
        let (name, value) = constant.split_once(": &str = ")?;
        Some((name, value.trim_matches(['"', ';'])))
    })
}

/// Reasons of what `status` finds: its table has each, and no other.
#[test]
fn lists_every_reason_of_the_status() {
    let document = read("docs/CHECK.md");
    let heading = "## What `pullpass status` finds\n";
    let (_, section) = document.split_once(heading).expect("the page has it");
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = cells.map(|line| line.split(" | ").next().unwrap_or_default());
    let listed: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split(", "))
        .map(|word| word.trim_matches('`'))
        .collect();
    let code = read("src/command/status/reasons.rs");
    let (_, shared) = code
        .split_once("pub(super) use crate::command::check::ids::{")
        .expect("what `check` finds, too, is of there");
    let (shared, own) = shared.split_once("};").expect("the list ends");
    let ids = read("src/command/check/ids.rs");
    let of_check: BTreeMap<&str, &str> = find_constants(&ids).collect();
    let shared = shared.split(',').map(str::trim);
    let shared = shared.filter(|name| !name.is_empty());
    let words = find_constants(own).map(|(_, word)| word);
    let found: BTreeSet<&str> = words.chain(shared.map(|name| of_check[name])).collect();
    assert!(found.len() > 20, "{found:?}");
    assert_eq!(listed, found);
    // No file but that one has such a word: each finding's is of there, or a condition's own.
    for file in ["findings", "of_cluster", "of_namespace"] {
        let text = read(&format!("src/command/status/{file}.rs"));
        let texts = text.split('"').skip(1).step_by(2);
        let is_reason = |word: &&str| {
            let inner = word.get(1..).unwrap_or_default();
            word.starts_with(|first: char| first.is_ascii_uppercase())
                && inner.contains(|letter: char| letter.is_ascii_uppercase())
                && word.chars().all(|letter| letter.is_ascii_alphanumeric())
        };
        let own: Vec<&str> = texts.filter(is_reason).collect();
        assert_eq!(own, Vec::<&str>::new(), "{file}");
    }
}

/// The text of <https://www.apache.org/licenses/LICENSE-2.0.txt>, and its name wherever packages say theirs.
#[test]
fn names_one_license_everywhere() {
    assert_eq!(
        format!("{:x}", Sha256::digest(read("LICENSE"))),
        "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    );
    let name = env!("CARGO_PKG_LICENSE");
    assert_eq!(name, "Apache-2.0");
    for (file, line) in [
        ("manifests/chart/Chart.yaml", "  artifacthub.io/license: "),
        (
            "manifests/chart-registries/Chart.yaml",
            "  artifacthub.io/license: ",
        ),
        ("Dockerfile", "LABEL org.opencontainers.image.licenses="),
    ] {
        let text = read(file);
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        assert_eq!(
            found.and_then(|rest| rest.split(' ').next()),
            Some(name),
            "{file}"
        );
    }
}

#[test]
fn names_one_version_of_rust_everywhere() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    for (file, text) in [
        ("rust-toolchain.toml", format!("channel = \"{version}.")),
        ("Dockerfile", format!("FROM rust:{version}-")),
        ("tests/bed/doctor.sh", format!("\nrust={version}\n")),
        ("README.md", format!("Rust {version},")),
        ("docs/INSTALL.md", format!("Rust {version},")),
        ("docs/quick-start/kind.md", format!("Rust {version},")),
    ] {
        assert!(read(file).contains(&text), "{file}: {text}");
    }
}

#[test]
fn tells_of_this_version_in_the_changelog() {
    let text = read("CHANGELOG.md");
    assert!(text.contains("\n## [Unreleased]\n"), "{text}");
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
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
    for (name, most) in [
        ("README.md", 120),
        ("docs/ARCHITECTURE.md", 130),
        ("docs/GLOSSARY.md", 60),
    ] {
        let lines = fs::read_to_string(root().join(name))
            .unwrap()
            .lines()
            .count();
        assert!(lines <= most, "{name}: {lines} lines, {most} at most");
    }
}

//! `NOTICE` and `THIRD-PARTY-LICENSES` tell of what else is in the program, as `Cargo.lock` has it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::cargo;

/// What the image is built for; a crate that one of them needs is told of.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

const NOTICE_HEAD: &str = "\
pullpass
Copyright The pullpass authors

Licensed under the Apache License, Version 2.0: see LICENSE.

The program holds the crates below, and the standard library of Rust (MIT OR Apache-2.0). Where there is a choice, it is
Apache-2.0; the texts of all other licenses are in THIRD-PARTY-LICENSES. The image holds Mozilla's certificate authorities
(MPL-2.0) besides, and its program is linked statically with the GNU C library (LGPL-2.1-or-later,
https://www.gnu.org/software/libc/) and the runtime library of GCC (GPL-3.0-or-later WITH GCC-exception-3.1): image/build.sh
links it anew with yours.

Written from Cargo.lock by `make notice`.
";

const LICENSES_HEAD: &str = "\
The licenses of crates in pullpass that cannot be had under the Apache License, Version 2.0, as the crates have them.
Written from Cargo.lock by `make notice`.
";

fn upper(name: &OsStr) -> String {
    name.to_string_lossy().to_uppercase()
}

/// A crate that ends in the program.
struct Crate {
    name: String,
    version: String,
    license: String,
    repository: String,
    folder: PathBuf,
}

impl Crate {
    fn label(&self) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// The files directly in its folder that are named so, by name.
    fn read_files(&self, is_named: impl Fn(&OsStr) -> bool) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).expect("cargo has unpacked it");
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.expect("a folder can be read").path())
            .filter(|path| path.is_file() && path.file_name().is_some_and(&is_named))
            .collect();
        files.sort();
        let texts = files.iter().map(|file| {
            let text = fs::read_to_string(file).expect("a license is text");
            let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
            lines.join("\n").trim_matches('\n').to_owned()
        });
        texts.collect()
    }

    fn read_notices(&self) -> Vec<String> {
        self.read_files(|name| upper(name).starts_with("NOTICE"))
    }

    /// The texts of its licenses but for Apache's, which is `LICENSE`.
    fn read_licenses(&self) -> Vec<String> {
        let texts = self.read_files(|name| {
            let name = upper(name);
            name.starts_with("LICEN") && !name.contains("APACHE")
        });
        if texts.is_empty() {
            return self.read_files(|name| upper(name).starts_with("COPYING"));
        }
        texts
    }
}

/// Whether the whole may be had under Apache-2.0, by a [license expression](https://spdx.github.io/spdx-spec/v3.0.1/annexes/spdx-license-expressions/)
/// or by [cargo's earlier form](https://doc.rust-lang.org/cargo/reference/manifest.html#the-license-and-license-file-fields).
fn is_apache(license: &str) -> bool {
    let license = license.replace('/', " OR ");
    license.split(" AND ").all(|part| {
        let mut choices = part.trim_matches(['(', ')']).split(" OR ");
        choices.any(|choice| choice.trim() == "Apache-2.0")
    })
}

/// The crates that are linked in: no build scripts, no macros, no tests.
fn find_linked(targets: &[&str]) -> BTreeSet<(String, String)> {
    let mut arguments = vec!["tree", "--locked", "--prefix", "none", "--format", "{p}"];
    arguments.extend(["--edges", "normal,no-proc-macro"]);
    arguments.extend(targets.iter().flat_map(|target| ["--target", target]));
    let tree = cargo(&arguments);
    let crates = tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        let version = words.next()?.strip_prefix('v')?.to_owned();
        Some((name, version)).filter(|(name, _)| name != env!("CARGO_PKG_NAME"))
    });
    crates.collect()
}

fn find_crates(targets: &[&str]) -> Vec<Crate> {
    let linked = find_linked(targets);
    let mut arguments = vec!["metadata", "--locked", "--format-version", "1"];
    arguments.extend(
        targets
            .iter()
            .flat_map(|target| ["--filter-platform", target]),
    );
    let metadata: Value = serde_json::from_str(&cargo(&arguments)).expect("cargo writes JSON");
    let text = |package: &Value, field: &str| package[field].as_str().unwrap_or("").to_owned();
    let packages = metadata["packages"].as_array().expect("there are packages");
    let all = packages.iter().map(|package| Crate {
        name: text(package, "name"),
        version: text(package, "version"),
        license: text(package, "license"),
        repository: text(package, "repository"),
        folder: Path::new(&text(package, "manifest_path"))
            .parent()
            .expect("a manifest is in a folder")
            .to_owned(),
    });
    let mut crates: Vec<Crate> = all
        .filter(|found| linked.contains(&(found.name.clone(), found.version.clone())))
        .collect();
    crates.sort_by_cached_key(Crate::label);
    assert_eq!(crates.len(), linked.len(), "metadata and tree differ");
    crates
}

fn build_notice(crates: &[Crate]) -> String {
    let mut parts = vec![format!("{NOTICE_HEAD}\n")];
    parts.extend(crates.iter().map(|found| {
        let (license, repository) = (&found.license, &found.repository);
        format!("{}, {license}, {repository}\n", found.label())
    }));
    for found in crates {
        let notices = found.read_notices().into_iter();
        parts.extend(notices.map(|text| format!("\n---- {}\n\n{text}\n", found.label())));
    }
    parts.concat()
}

/// Each text once, under the crates that have it.
fn build_licenses(crates: &[Crate]) -> String {
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut silent = Vec::new();
    for found in crates.iter().filter(|found| !is_apache(&found.license)) {
        let texts = found.read_licenses();
        if texts.is_empty() {
            silent.push(format!("{} ({})", found.label(), found.license));
        }
        for text in texts {
            owners.entry(text).or_default().push(found.label());
        }
    }
    let mut texts: Vec<(String, Vec<String>)> = owners.into_iter().collect();
    texts.sort_by(|left, right| left.1.cmp(&right.1));
    let mut parts = vec![LICENSES_HEAD.to_owned()];
    if !silent.is_empty() {
        parts.push(format!(
            "These have no text with them: {}.\n",
            silent.join(", ")
        ));
    }
    parts.extend(
        texts
            .iter()
            .map(|(text, crates)| format!("\n---- {}\n\n{text}\n", crates.join(", "))),
    );
    parts.concat()
}

/// `PULLPASS_NOTICE=write` writes them instead: `make notice`.
#[test]
fn tells_of_each_crate_in_the_program() {
    let crates = find_crates(&TARGETS);
    assert!(crates.len() > 100, "{} crates", crates.len());
    let nameless: Vec<String> = crates
        .iter()
        .filter(|found| found.license.is_empty() || !found.repository.starts_with("https://"))
        .map(Crate::label)
        .collect();
    assert_eq!(nameless, Vec::<String>::new(), "say no license or no place");
    for (name, text) in [
        ("NOTICE", build_notice(&crates)),
        ("THIRD-PARTY-LICENSES", build_licenses(&crates)),
    ] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var("PULLPASS_NOTICE").is_ok_and(|mode| mode == "write") {
            fs::write(&file, &text).expect("it can be written");
        }
        let committed = fs::read_to_string(&file).unwrap_or_default();
        assert!(committed == text, "{name} is stale: run `make notice`");
    }
}

#[test]
fn looks_for_texts_where_apache_is_no_choice() {
    for (license, expected) in [
        ("Apache-2.0", true),
        ("MIT OR Apache-2.0", true),
        ("Apache-2.0 / MIT", true),
        ("(MIT OR Apache-2.0) AND Apache-2.0", true),
        ("MIT", false),
        ("ISC AND (Apache-2.0 OR ISC)", false),
        ("(Apache-2.0 OR MIT) AND BSD-3-Clause", false),
        ("MIT AND Apache-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", false),
        ("", false),
    ] {
        assert_eq!(is_apache(license), expected, "{license}");
    }
}

//! docs/reference/ and the charts' READMEs: what is made from a source is the same as its source, and what people write has a row for
//! each word of the code, and no other. `make reference` writes what is made.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod alerts;
mod charts;
mod commands;
mod conditions;
mod labels;
mod logs;
mod metrics;
mod registry;

use std::fs;
use std::path::Path;

use crate::support::generated;

/// Whoever looks for a page begins with the index.
#[test]
fn names_every_page_in_the_index() {
    let index = generated::read("docs/reference/README.md");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    let files = fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let missing: Vec<String> = names
        .filter(|name| name != "README.md" && !index.contains(&format!("({name})")))
        .collect();
    assert_eq!(missing, [""; 0], "docs/reference/README.md lacks a row");
}

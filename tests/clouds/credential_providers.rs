//! What `pullpass check --node` says of a node's files, beside the kubelet's own code; and which images the kubelet asks for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support;
use pullpass::image::Reference;
use pullpass::registry::Pattern;
use pullpass::registry::match_images::MatchImage;
use serde_json::{Value, json};
use support::bed;
use support::node::{BIN_DIR, CONFIG, Kubelet, NodeTable};

#[test]
fn refuses_the_files_that_the_kubelet_refuses() {
    let table = NodeTable::load();
    let mut wrong = Vec::new();
    for case in &table.cases {
        let node = table.write(case);
        let (config, programs) = (node.root().join(CONFIG), node.root().join(BIN_DIR));
        let (config, programs) = (config.to_str().unwrap(), programs.to_str().unwrap());
        let output = bed::run("provider", &[config, programs], "");
        let said = String::from_utf8_lossy(&output.stderr);
        let as_said = match case.kubelet {
            Kubelet::Starts => output.status.success(),
            Kubelet::Refuses => !output.status.success() && said.contains(&case.says),
        };
        if !as_said || (case.kubelet == Kubelet::Refuses && case.says.is_empty()) {
            wrong.push(format!("{}: {:?} {said}", case.name, output.status.code()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Entries of `matchImages`.
const ENTRIES: &[&str] = &[
    "a.com",
    "a.com/team",
    "a.com/te",
    "a.com/team/",
    "*.com",
    "a*.com",
    "a?c.com",
    "*.*",
    "b.a.com",
    "a.com:5000",
    "*.com:5000/x",
    "*.dkr.ecr.*.amazonaws.com",
    "docker.io",
    "docker.io/library",
    "localhost/x",
    "a.com/te%61m",
    "a.com:",
    "[fc00::1]",
    "a_b.com",
];

#[test]
fn covers_the_images_that_the_kubelet_asks_for() {
    let images = [
        "a.com/team",
        "a.com/team/api",
        "a.com/teams",
        "a.com/te",
        "a.com:5000/team",
        "b.com:5000/x/y",
        "abc.com/x",
        "b.a.com/x",
        "1.dkr.ecr.eu-west-1.amazonaws.com/x",
        "nginx",
        "team/app",
        "localhost/x",
    ];
    let entries = ENTRIES;
    let asked = |entry: &str| json!({"matchImages": [entry], "images": images}).to_string();
    let questions: Vec<String> = entries.iter().map(|entry| asked(entry)).collect();
    let output = bed::run("match-images", &[], &(questions.join("\n") + "\n"));
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), entries.len());
    for (entry, answer) in entries.iter().zip(&answers) {
        let read = MatchImage::parse(entry).ok();
        for (image, expected) in images.iter().zip(answer["matches"].as_array().unwrap()) {
            let reference = Reference::parse(image).unwrap();
            let repository = format!("{}/{}", reference.domain(), reference.path());
            let pattern = Pattern::parse(&repository).unwrap();
            let covers = read.as_ref().is_some_and(|read| read.covers(&pattern));
            assert_eq!(json!(covers), *expected, "{entry} {image}");
        }
    }
}

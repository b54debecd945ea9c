//! The Dockerfile makes the image that `make image` makes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support;
use serde_json::Value;
use support::bed::{program, succeed};

/// A blob of an OCI layout that a descriptor names.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    layout.join("blobs").join(digest.replace(':', "/"))
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The image's configuration and the paths of its files, as `bed image` makes it around another static program.
fn make_image() -> (Value, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let version = env!("CARGO_PKG_VERSION");
    let mut image = Command::new(program("bed"));
    image.args(["image", "--version", version, "--program"]);
    image.arg(program("hello")).arg("--output").arg(&archive);
    succeed(&mut image);
    let mut unpack = Command::new("tar");
    unpack.arg("-xf").arg(&archive).arg("-C").arg(folder.path());
    succeed(&mut unpack);
    let index = read(&folder.path().join("index.json"));
    let manifest = read(&blob(folder.path(), &index["manifests"][0]));
    let mut files = Vec::new();
    for layer in manifest["layers"].as_array().unwrap() {
        let mut list = Command::new("tar");
        list.arg("-tf").arg(blob(folder.path(), layer));
        let paths = succeed(&mut list);
        let paths = paths.lines().filter(|path| !path.ends_with('/'));
        files.extend(paths.map(|path| path.trim_start_matches("./").to_owned()));
    }
    (read(&blob(folder.path(), &manifest["config"])), files)
}

#[test]
fn dockerfile_makes_what_make_image_makes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile");
    let said = succeed(Command::new(program("dockerfile")).arg(&path));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["warnings"], serde_json::json!([]));
    assert_eq!(said["from"], "scratch");
    let (image, files) = make_image();
    let config = &image["config"];
    for (ours, theirs) in [
        ("entrypoint", "Entrypoint"),
        ("cmd", "Cmd"),
        ("user", "User"),
        ("labels", "Labels"),
    ] {
        assert_eq!(said[ours], config[theirs], "{ours}");
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let (folder, name) = file.rsplit_once('/').unwrap();
        assert!(text.contains(folder) && text.contains(name), "{file}");
    }
}

#[test]
fn a_damaged_dockerfile_is_found() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile"));
    let text = text.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("Dockerfile");
    for (damage, found) in [
        (
            text.replace("ENTRYPOINT", "ENTRYPOIN"),
            "unknown instruction",
        ),
        (text.replace("--from=build", "--fron=build"), "unknown flag"),
        (text.replace("AS build", "as build"), "FromAsCasing"),
    ] {
        std::fs::write(&file, damage).unwrap();
        let output = Command::new(program("dockerfile"))
            .arg(&file)
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(found), "{said}");
    }
}

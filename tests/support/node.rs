//! Nodes' files, right and wrong: `tests/data/nodes.yaml`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tempfile::TempDir;

use super::process::make_certificates;

/// Where a node of kubeadm has its configuration, its providers and the authority's certificate.
pub const CONFIG: &str = "etc/kubernetes/credential-providers";
pub const BIN_DIR: &str = "usr/local/lib/kubelet/credentialproviders";
const AUTHORITY: &str = "etc/pullpass/ca.crt";

/// All of the table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeTable {
    good: String,
    registries: String,
    pub cases: Vec<NodeCase>,
}

/// A node.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeCase {
    pub name: String,
    #[serde(default)]
    replace: BTreeMap<String, String>,
    #[serde(default)]
    append: String,
    text: Option<String>,
    mode: Option<u32>,
    /// Further files by their paths below the root.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// Further links, and where they lead.
    #[serde(default)]
    links: BTreeMap<String, String>,
    /// Permissions by path.
    #[serde(default)]
    modes: BTreeMap<String, u32>,
    /// The file of the authority's certificate, instead of a good one; `LEAF` is the broker's own, `CA-AND-KEY` one too much.
    authority: Option<String>,
    #[serde(default)]
    no_authority: bool,
    /// Whether nothing of what is found fails.
    #[serde(default)]
    pub warns: bool,
    pub found: Vec<String>,
    pub kubelet: Kubelet,
    #[serde(default)]
    pub says: String,
}

/// What the kubelet does with its files.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Kubelet {
    Starts,
    Refuses,
}

/// A node's files in a folder, and the Registries of its cluster.
pub struct NodeFolder {
    folder: TempDir,
}

impl NodeTable {
    pub fn load() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/nodes.yaml");
        serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    }

    /// Writes the files of a case.
    pub fn write(&self, case: &NodeCase) -> NodeFolder {
        let folder = tempfile::tempdir().unwrap();
        let mut text = case.text.clone().unwrap_or_else(|| self.good.clone());
        for (old, new) in &case.replace {
            assert!(text.contains(old), "{}: {old:?} is not there", case.name);
            text = text.replace(old, new);
        }
        let node = folder.path().join("node");
        let write = |path: &str, text: &str| {
            let path = node.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(&format!("{CONFIG}/pullpass.yaml"), &(text + &case.append));
        for program in ["pullpass", "ecr-credential-provider"] {
            let path = format!("{BIN_DIR}/{program}");
            write(&path, "#!/bin/sh\n");
            let mode = case.mode.unwrap_or(0o755);
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(node.join(path), mode).unwrap();
        }
        let certificates = folder.path().join("certificates");
        make_certificates(&certificates, "127.0.0.1");
        let certificate = |name| std::fs::read_to_string(certificates.join(name)).unwrap();
        let authority = match case.authority.as_deref() {
            None => certificate("ca.crt"),
            Some("LEAF") => certificate("tls.crt"),
            Some("CA-AND-KEY") => certificate("ca.crt") + &certificate("tls.key"),
            Some(text) => text.to_owned(),
        };
        if !case.no_authority {
            write(AUTHORITY, &authority);
        }
        for (path, text) in &case.files {
            write(path, text);
        }
        for (path, target) in &case.links {
            std::os::unix::fs::symlink(target, node.join(path)).unwrap();
        }
        for (path, mode) in &case.modes {
            let mode = std::fs::Permissions::from_mode(*mode);
            std::fs::set_permissions(node.join(path), mode).unwrap();
        }
        std::fs::write(folder.path().join("registries.yaml"), &self.registries).unwrap();
        NodeFolder { folder }
    }
}

impl NodeFolder {
    /// The node's root.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("node")
    }

    pub fn registries(&self) -> PathBuf {
        self.folder.path().join("registries.yaml")
    }
}

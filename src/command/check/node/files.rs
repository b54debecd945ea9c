//! The files of a node, or a copy of them, by which its kubelet runs credential providers.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::command::credential_provider::platform::PLACES;
use crate::command::manifest;

/// What a node's files are.
#[derive(Debug)]
pub(super) struct NodeFiles {
    /// The kubelet's flag `--image-credential-provider-config`, on the node.
    pub(super) config: PathBuf,
    /// The kubelet's flag `--image-credential-provider-bin-dir`, on the node.
    pub(super) bin_dir: PathBuf,
    /// The files of the configuration in the kubelet's order, by their paths on the node, or why they cannot be read.
    pub(super) configs: io::Result<Vec<(PathBuf, io::Result<String>)>>,
    root: PathBuf,
    /// Programs by name, and whether each can be run.
    pub(super) programs: BTreeMap<String, bool>,
}

impl NodeFiles {
    /// Reads the files below `root`. Where the kubelet's two flags are not given, it is the first of the usual places that is there, or
    /// kubeadm's.
    pub(super) fn load(root: &Path, config: Option<&Path>, bin_dir: Option<&Path>) -> Self {
        let is_there = |path: &str| below(root, Path::new(path)).exists();
        let mut places = PLACES.iter();
        let usual = places.find(|place| is_there(place.config) && is_there(place.bin_dir));
        let usual = usual.or_else(|| PLACES.iter().find(|place| is_there(place.config)));
        let usual = usual.unwrap_or(&PLACES[2]);
        let config = config.unwrap_or(Path::new(usual.config)).to_owned();
        let bin_dir = bin_dir.unwrap_or(Path::new(usual.bin_dir)).to_owned();
        Self {
            configs: load_configs(root, &config),
            programs: list_programs(&below(root, &bin_dir)),
            root: root.to_owned(),
            config,
            bin_dir,
        }
    }

    /// What a file of the node holds.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub(super) fn load_file(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(below(&self.root, Path::new(path)))
    }
}

/// A path of the node below the folder that holds its files.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The file, or the files of the folder that the kubelet reads, in its order.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/credentialprovider/plugin/config.go> (`readCredentialProviderConfig`)
fn load_configs(root: &Path, config: &Path) -> io::Result<Vec<(PathBuf, io::Result<String>)>> {
    let place = below(root, config);
    if !place.metadata()?.is_dir() {
        return Ok(vec![(config.to_owned(), manifest::read(&place))]);
    }
    let mut names = Vec::new();
    for entry in place.read_dir()? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        let is_read = matches!(ending, Some("json" | "yaml" | "yml")) && !path.is_dir();
        names.extend(path.file_name().filter(|_| is_read).map(PathBuf::from));
    }
    names.sort();
    let files = names.iter();
    Ok(files
        .map(|name| (config.join(name), manifest::read(&place.join(name))))
        .collect())
}

fn list_programs(folder: &Path) -> BTreeMap<String, bool> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let metadata = entry.path().metadata().ok()?;
            let name = entry.file_name().into_string().ok()?;
            Some((name, metadata.is_file() && is_executable(&metadata)))
        })
        .collect()
}

fn is_executable(metadata: &std::fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}

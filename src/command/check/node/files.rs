//! The files of a node, or a copy of them, by which its kubelet runs credential providers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::below::Root;
use super::rights::FileRights;
use crate::command::credential_provider::platform::{KUBEADM, NodePlace, PLACES};

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// What a node's files are.
#[derive(Debug)]
pub(super) struct NodeFiles {
    /// The kubelet's flag `--image-credential-provider-config`, on the node.
    pub(super) config: PathBuf,
    /// The kubelet's flag `--image-credential-provider-bin-dir`, on the node.
    pub(super) bin_dir: PathBuf,
    /// The files of the configuration in the kubelet's order, by their paths on the node, or why they cannot be read.
    pub(super) configs: io::Result<Vec<(PathBuf, io::Result<String>)>>,
    /// Programs by name, or why their folder cannot be read.
    pub(super) programs: io::Result<BTreeMap<String, NodeProgram>>,
    /// Who may write the configuration's files and both folders.
    pub(super) rights: Vec<FileRights>,
    root: Root,
}

/// A program of the folder of providers.
#[derive(Debug)]
pub(super) struct NodeProgram {
    /// Whether it can be run.
    pub(super) is_executable: bool,
    pub(super) rights: FileRights,
}

impl NodeFiles {
    /// Reads the files below `root`. Where the kubelet's two flags are not given, it is the first of the usual places that is there, or
    /// kubeadm's.
    pub(super) fn load(root: &Path, config: Option<&Path>, bin_dir: Option<&Path>) -> Self {
        let root = Root::new(root);
        let (usual_config, usual_bin_dir) = find_usual(&root, config);
        let config = config.unwrap_or(Path::new(usual_config)).to_owned();
        let bin_dir = bin_dir.unwrap_or(Path::new(usual_bin_dir)).to_owned();
        let mut files = Self {
            configs: load_configs(&root, &config),
            programs: list_programs(&root, &bin_dir),
            rights: Vec::new(),
            root,
            config,
            bin_dir,
        };
        let read = files.configs.iter().flatten().map(|(path, _)| path);
        let places = [&files.bin_dir, &files.config].into_iter().chain(read);
        let found = places.filter_map(|path| files.root.stat(path).ok());
        files.rights = found.map(|(_, _, rights)| rights).collect();
        files.rights.dedup();
        files
    }

    /// What a file of the node holds, and who may write it.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub(super) fn load_file(&self, path: &str) -> io::Result<(Vec<u8>, FileRights)> {
        read(&self.root, Path::new(path))
    }
}

/// The two flags as they usually are: of the first platform whose places are there, or of kubeadm.
fn find_usual(root: &Root, config: Option<&Path>) -> (&'static str, &'static str) {
    let is_there = |path: &str| root.resolve(Path::new(path)).is_ok();
    let pairs = || PLACES.iter().flat_map(NodePlace::flags);
    let is_asked =
        |usual: &str| config.map_or_else(|| is_there(usual), |path| path == Path::new(usual));
    let both = pairs().find(|(usual, bin_dir)| is_asked(usual) && is_there(bin_dir));
    let found = both.or_else(|| pairs().find(|(usual, _)| is_asked(usual)));
    // Any configuration may be given: then the programs are where they are.
    let found = found.or_else(|| pairs().find(|(_, bin_dir)| is_there(bin_dir)));
    found.unwrap_or((KUBEADM.config, KUBEADM.bin_dir))
}

/// What a node's file holds, and who may write it.
fn read(root: &Root, path: &Path) -> io::Result<(Vec<u8>, FileRights)> {
    let (place, metadata, rights) = root.stat(path)?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    // Nothing is waited for, as at the end of a pipe.
    if !metadata.is_file() {
        return Err(io::Error::other("is no regular file"));
    }
    let mut text = Vec::new();
    File::open(place)?
        .take(FILE_MAX + 1)
        .read_to_end(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "has more than 4 MiB",
        ));
    }
    Ok((text, rights))
}

/// The file, or the files of the folder that the kubelet reads, in its order.
///
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/credentialprovider/plugin/config.go> (`readCredentialProviderConfig`)
fn load_configs(root: &Root, config: &Path) -> io::Result<Vec<(PathBuf, io::Result<String>)>> {
    let read = |path: PathBuf| {
        let text = read(root, &path);
        let text = text.and_then(|(text, _)| {
            let error = |_| io::Error::new(io::ErrorKind::InvalidData, "is no UTF-8");
            String::from_utf8(text).map_err(error)
        });
        (path, text)
    };
    let place = root.resolve(config)?;
    if !place.metadata()?.is_dir() {
        return Ok(vec![read(config.to_owned())]);
    }
    let mut names = Vec::new();
    for entry in place.read_dir()? {
        let entry = entry?;
        let name = entry.file_name();
        let ending = name.to_str().and_then(|name| name.rsplit_once('.'));
        let is_read = ending.is_some_and(|(_, ending)| matches!(ending, "json" | "yaml" | "yml"));
        // A link to a folder is one that the kubelet tries to read.
        if is_read && !entry.file_type()?.is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names.iter().map(|name| read(config.join(name))).collect())
}

fn list_programs(root: &Root, folder: &Path) -> io::Result<BTreeMap<String, NodeProgram>> {
    let mut programs = BTreeMap::new();
    for entry in root.resolve(folder)?.read_dir()? {
        let Ok(name) = entry?.file_name().into_string() else {
            continue;
        };
        let path = folder.join(&name);
        // A link that leads nowhere is no program.
        let Ok((_, metadata, rights)) = root.stat(&path) else {
            continue;
        };
        let program = NodeProgram {
            is_executable: metadata.is_file() && metadata.permissions().mode() & 0o111 != 0,
            rights,
        };
        programs.insert(name, program);
    }
    Ok(programs)
}

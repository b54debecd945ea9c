//! Paths of a node below the folder that holds its files.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::rights::FileRights;

/// How many links may lead to a file, as on Linux.
const LINKS_MAX: usize = 40;

/// The folder that holds a node's files, below which all paths are.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    /// Whether it is the node itself. In a copy files are owned by whoever copied them.
    is_node: bool,
}

impl Root {
    pub(super) fn new(path: &Path) -> Self {
        let real = path.canonicalize();
        Self {
            path: path.to_owned(),
            is_node: real.is_ok_and(|real| real == Path::new("/")),
        }
    }

    /// The place of a node's path, with links followed as they are on the node: none leads out of it.
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        resolve(&self.path, path)
    }

    /// What is at a node's path, links followed, and who may write it.
    ///
    /// # Errors
    /// As [`Root::resolve`].
    pub(super) fn stat(&self, path: &Path) -> io::Result<(PathBuf, Metadata, FileRights)> {
        let place = self.resolve(path)?;
        let metadata = place.metadata()?;
        let rights = FileRights {
            path: path.to_owned(),
            mode: metadata.permissions().mode() & 0o7777,
            owner: self.is_node.then(|| metadata.uid()),
        };
        Ok((place, metadata, rights))
    }
}

fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let (mut found, mut left) = (Vec::new(), names(path));
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            found.pop();
            continue;
        }
        found.push(name);
        match std::fs::read_link(join(root, &found)) {
            Ok(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(io::Error::other("too many links lead there"));
                }
                found.pop();
                if target.is_absolute() {
                    found.clear();
                }
                left.append(&mut names(&target));
            }
            // It is no link.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
    }
    Ok(join(root, &found))
}

fn join(root: &Path, names: &[OsString]) -> PathBuf {
    root.join(names.iter().collect::<PathBuf>())
}

/// The names of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn follows_links_as_they_are_on_the_node() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("node");
        std::fs::create_dir_all(root.join("etc/real")).unwrap();
        std::fs::write(root.join("etc/real/file"), "").unwrap();
        std::fs::write(folder.path().join("outside"), "").unwrap();
        for (link, target) in [
            ("etc/absolute", "/etc/real"),
            ("etc/relative", "real"),
            ("etc/upwards", "../../../../etc/real"),
            ("etc/twice", "/etc/absolute/file"),
            ("etc/outside", "../../outside"),
            ("etc/host", "/proc/self/exe"),
            ("etc/circle", "circle"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let file = Some(root.join("etc/real/file"));
        for (path, expected) in [
            ("/etc/real/file", &file),
            ("/etc/absolute/file", &file),
            ("etc/relative/file", &file),
            ("/etc/upwards/file", &file),
            ("/etc/twice", &file),
            ("/../etc/./real/../real/file", &file),
            ("/etc/outside", &None),
            ("/etc/host", &None),
            ("/etc/circle", &None),
            ("/etc/none", &None),
        ] {
            assert_eq!(&resolve(&root, Path::new(path)).ok(), expected, "{path}");
        }
    }
}

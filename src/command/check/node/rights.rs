//! Who may write a node's files. Pure.

use std::path::PathBuf;

use super::finding::NodeFinding;
use crate::command::check::ids;
use crate::command::check::report::Fix;

/// Who may write a file of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRights {
    /// The file, on the node.
    pub(super) path: PathBuf,
    /// Its permissions.
    pub(super) mode: u32,
    /// The user who owns it on the node; `None`: it is a copy.
    pub(super) owner: Option<u32>,
}

impl FileRights {
    /// That somebody else than root may write it: the kubelet, which is root, runs or reads what he wrote.
    pub(super) fn judge(&self) -> Option<NodeFinding> {
        let path = self.path.display();
        let (message, fix) = match self.owner {
            _ if self.mode & 0o022 != 0 => (
                format!(
                    "others than its owner may write it (mode {:04o}): what they write there, the kubelet takes as root",
                    self.mode
                ),
                Fix::run("make it so on the node", format!("chmod go-w {path}")),
            ),
            Some(owner) if owner != 0 => (
                format!(
                    "is owned by user {owner}: what that user writes there, the kubelet takes as root"
                ),
                Fix::run("make it root's", format!("chown root:root {path}")),
            ),
            _ => return None,
        };
        let (id, place) = (ids::NODE_FILE_WRITABLE, path.to_string());
        Some(NodeFinding::of_file(id, place, message, fix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_files_that_others_may_write() {
        for (mode, owner, expected) in [
            (0o755, None, None),
            (0o644, Some(0), None),
            (0o777, None, Some("mode 0777")),
            (0o664, Some(0), Some("mode 0664")),
            (0o1777, None, Some("mode 1777")),
            (0o755, Some(1000), Some("user 1000")),
        ] {
            let path = "/usr/local/bin/a".into();
            let found = FileRights { path, mode, owner }.judge();
            let message = found.map(|found| found.message);
            let is_so = match (&message, expected) {
                (Some(message), Some(expected)) => message.contains(expected),
                (message, expected) => message.is_none() && expected.is_none(),
            };
            assert!(is_so, "{mode:o} {owner:?}: {message:?}");
        }
    }
}

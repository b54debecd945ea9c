//! Whether the cluster was restored to an earlier state: then its revisions start over from an older number, and a watch that goes on
//! from a later one shows nothing, without an error, until that number is reached again.

use tokio::sync::watch;

/// The newest revision that was seen; subscribers are notified only when it goes backwards. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Revision(watch::Sender<u64>);

impl Revision {
    /// Notes the resource version of an object that was just read, or written, and that is never seen older than before.
    pub(super) fn observe(&self, resource_version: &str) {
        let Ok(revision) = resource_version.parse() else {
            return;
        };
        self.0.send_if_modified(|newest| {
            let before = std::mem::replace(newest, revision);
            if before > revision {
                tracing::warn!(
                    revision.previous = before,
                    revision.current = revision,
                    "resourceVersion went backwards (etcd was restored): relisting everything"
                );
            }
            before > revision
        });
    }

    /// Rings when the revisions go backwards.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_when_revisions_go_backwards_and_only_then() {
        let revision = Revision::default();
        let mut follower = revision.subscribe();
        for version in ["5", "5", "9", "odd", ""] {
            revision.observe(version);
            assert!(!follower.has_changed().unwrap(), "{version}");
        }
        revision.observe("7");
        assert!(follower.has_changed().unwrap());
        follower.mark_unchanged();
        revision.observe("8");
        assert!(!follower.has_changed().unwrap());
    }
}

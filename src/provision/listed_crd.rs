//! Which CRD the Registries in memory are of, and whether that is in doubt.
//!
//! The uid is read before each list. A watch goes on for a while although its CRD was deleted and made again, and shows the Registries of
//! the new one as if they were of the old one; where the uid is in doubt they have to be listed anew, or no deletion counts as an order.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// The uid that the CRD of the Registries had before their last list began.
#[derive(Default)]
pub struct ListedCrd {
    uid: Mutex<Option<Arc<str>>>,
    /// The last one that could be read before a list that ended.
    known: Mutex<Option<Arc<str>>>,
    in_doubt: watch::Sender<bool>,
}

impl ListedCrd {
    /// A list begins. `None`: the CRD cannot be read, is being deleted or is gone.
    pub fn begin_list(&self, uid: Option<&str>) {
        *self.uid.lock() = uid.map(Arc::from);
        self.in_doubt.send_replace(uid.is_none());
    }

    /// The list has ended. Whether its Registries are of a later CRD than those of earlier lists.
    pub(super) fn end_list(&self) -> bool {
        let Some(uid) = self.uid() else {
            return false;
        };
        let before = self.known.lock().replace(Arc::clone(&uid));
        before.is_some_and(|before| before != uid)
    }

    /// What it was.
    pub(super) fn uid(&self) -> Option<Arc<str>> {
        self.uid.lock().clone()
    }

    /// Registries came, or went, as they do when a CRD is replaced.
    pub(super) fn doubt(&self) {
        self.in_doubt.send_replace(true);
    }

    /// The CRD has this uid now. Whether the Registries have to be listed anew, since theirs was another one.
    pub fn compare(&self, uid: &str) -> bool {
        let listed = self.uid.lock();
        let is_other = listed.as_deref() != Some(uid);
        self.in_doubt.send_replace(is_other);
        is_other
    }

    /// Becomes true once the uid is in doubt.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.in_doubt.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_another_list_only_where_the_crd_is_another_one() {
        let listed = ListedCrd::default();
        let in_doubt = listed.subscribe();
        assert!(!*in_doubt.borrow(), "nothing was listed yet");
        // How a list found the CRD, whether Registries came anew since, how the CRD is now: whether it is in doubt, and to be listed anew.
        let rows = [
            (Some("a"), false, None, false, false),
            (Some("a"), true, None, true, false),
            (Some("a"), true, Some("a"), false, false),
            (Some("a"), true, Some("b"), true, true),
            (None, false, None, true, false),
            (None, false, Some("b"), true, true),
        ];
        for (at_list, is_doubted, now, expected, relists) in rows {
            listed.begin_list(at_list);
            if is_doubted {
                listed.doubt();
            }
            let row = format!("{at_list:?} {is_doubted} {now:?}");
            assert_eq!(now.is_some_and(|now| listed.compare(now)), relists, "{row}");
            assert_eq!(*in_doubt.borrow(), expected, "{row}");
            assert_eq!(listed.uid().as_deref(), at_list);
        }
    }

    #[test]
    fn knows_a_later_crd_though_one_list_could_not_read_it() {
        let listed = ListedCrd::default();
        for (uid, is_later) in [
            (Some("a"), false),
            (Some("a"), false),
            (None, false),
            (Some("a"), false),
            (None, false),
            (Some("b"), true),
            (Some("b"), false),
        ] {
            listed.begin_list(uid);
            assert_eq!(listed.end_list(), is_later, "{uid:?}");
        }
    }
}

//! The digests of all logins of many holders, to be found however many there are: each is worked out once, when its holder changes.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::digest::Digest;
use crate::credential::{SourceSecret, static_login};

/// The digests, and how many holders have each.
#[derive(Debug, Default)]
pub struct LoginDigests(Mutex<HashMap<Digest, usize>>);

impl LoginDigests {
    /// A holder that had these logins has those now.
    pub fn replace(
        &self,
        before: impl IntoIterator<Item = Digest>,
        now: impl IntoIterator<Item = Digest>,
    ) {
        let mut counts = self.0.lock();
        for digest in now {
            *counts.entry(digest).or_default() += 1;
        }
        for digest in before {
            if let Some(count) = counts.get_mut(&digest) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&digest);
                }
            }
        }
    }

    /// Whether any holder has a login of this digest.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.0.lock().contains_key(digest)
    }
}

/// The digests of a source Secret's logins.
pub(super) fn digests_of(source: Option<&SourceSecret>) -> Vec<Digest> {
    let logins = source.map(static_login::all_logins).unwrap_or_default();
    let digest = |login: &static_login::Login| Digest::of_login(&login.username, &login.password);
    logins.iter().map(digest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_digest_for_as_long_as_any_holder_has_it() {
        let all = LoginDigests::default();
        let [one, other] = ["one", "other"].map(Digest::of_auth);
        let there = || [one, other].map(|digest| all.contains(&digest));
        all.replace([], [one]);
        all.replace([], [one, other]);
        assert_eq!(there(), [true, true]);
        all.replace([one], []);
        assert_eq!(there(), [true, true]);
        all.replace([one, other], [other]);
        assert_eq!(there(), [false, true]);
        // As at an update that changes nothing.
        all.replace([other], [other]);
        assert_eq!(there(), [false, true]);
        all.replace([other], []);
        assert_eq!(there(), [false, false]);
        assert!(all.0.lock().is_empty());
    }
}

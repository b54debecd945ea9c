//! What is remembered of a pull secret or an export. Pure.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::ports::{PullSecret, Version};
use super::secret::Auths;
use crate::registry::SecretFormat;

/// So many entries, and so many bytes of their keys, are remembered of a pull secret where none is to be.
const UNWANTED_ENTRIES: usize = 16;
const UNWANTED_KEY_BYTES: usize = 2048;

/// What is remembered of a namespace's pull secret: enough to compare, no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The object's state.
    pub version: Version,
    /// Whether it is ours.
    pub ours: bool,
    /// In which form it holds logins; `None`: in none that one of its name may have.
    pub format: Option<SecretFormat>,
    /// Whether what reads it can decode all of it.
    pub intact: bool,
    /// The digest of each entry, by `auths` key; empty for a Secret that is not ours.
    pub digests: BTreeMap<String, Digest>,
}

impl Observed {
    /// What to remember of a pull secret.
    pub fn of(secret: &PullSecret) -> Self {
        let auths = Some(secret).filter(|secret| secret.ours);
        let auths = auths.map(Auths::of).unwrap_or_default();
        Self {
            version: secret.version.clone(),
            ours: secret.ours,
            format: secret.format,
            intact: auths.is_intact(),
            digests: auths.digests(),
        }
    }

    /// What to remember of one that pullpass wrote just now.
    pub(super) fn of_own_write(
        version: Version,
        format: SecretFormat,
        digests: BTreeMap<String, Digest>,
    ) -> Self {
        Self {
            version,
            ours: true,
            format: Some(format),
            intact: true,
            digests,
        }
    }

    /// Whether what reads this form can decode all of it.
    pub fn is_readable_as(&self, format: SecretFormat) -> bool {
        self.intact && self.format == Some(format)
    }

    /// What to remember of a pull secret in a namespace that did not opt in. Anybody may have made it: of more than a few entries the
    /// first ones are kept, by which it is known whether pullpass wrote it, and it counts as unreadable until the namespace opts in.
    pub fn of_unwanted(secret: &PullSecret) -> Self {
        let mut observed = Self::of(secret);
        let (all, mut key_bytes) = (observed.digests.len(), 0);
        let first = observed.digests.into_iter().take(UNWANTED_ENTRIES);
        let first = first.take_while(|(key, _)| {
            key_bytes += key.len();
            key_bytes <= UNWANTED_KEY_BYTES
        });
        observed.digests = first.collect();
        observed.intact &= observed.digests.len() == all;
        observed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A Secret of ours with so many logins under keys of so many bytes.
    fn secret(count: usize, key_bytes: usize) -> PullSecret {
        let key = |number: usize| format!("{number:0key_bytes$}");
        let logins: Vec<_> = (0..count)
            .map(|number| format!(r#""{}":{{"auth":"YTpi"}}"#, key(number)))
            .collect();
        let config = format!(r#"{{"auths":{{{}}}}}"#, logins.join(","));
        PullSecret {
            version: Version::default(),
            ours: true,
            format: Some(SecretFormat::PullSecret),
            type_: SecretFormat::PullSecret.secret_type().to_owned(),
            data: [(
                crate::provision::secret::format::DOCKERCONFIGJSON,
                Arc::new(config.into_bytes().into()),
            )]
            .into(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn keeps_few_entries_where_none_are_wanted() {
        let rows = [
            (UNWANTED_ENTRIES, 10, true),
            (UNWANTED_ENTRIES + 1, 10, false),
            (2, UNWANTED_KEY_BYTES / 2, true),
            (2, UNWANTED_KEY_BYTES / 2 + 1, false),
        ];
        for (count, key_bytes, is_kept) in rows {
            let secret = secret(count, key_bytes);
            let wanted = Observed::of(&secret);
            assert!(wanted.intact && wanted.digests.len() == count);
            let unwanted = Observed::of_unwanted(&secret);
            assert!(unwanted.ours);
            assert_eq!(unwanted.intact, is_kept, "{count} of {key_bytes}");
            let kept = unwanted.digests.len();
            assert!(kept > 0 && (kept == count) == is_kept);
            assert!(unwanted.digests.keys().map(String::len).sum::<usize>() <= UNWANTED_KEY_BYTES);
        }
    }
}

//! The keys of a pull secret that no grant wants.

use std::sync::Arc;

use super::grant_fetcher;
use super::ports::Credentials;
use super::state::State;
use crate::registry::{CredentialSource, Grant, Pattern};

/// The keys among `there` that no grant wants. A fixed login that cannot be read wants everything within its keys; a login that is there
/// to be written as the only one of its Secret replaces what is there.
pub(super) fn find<'k>(
    there: impl Iterator<Item = &'k String>,
    grants: &[Arc<Grant>],
    credentials: &dyn Credentials,
    state: &State,
) -> Vec<String> {
    let mut unwanted: Vec<String> = there
        .filter(|key| !grants.iter().any(|grant| grant.has_key(key)))
        .cloned()
        .collect();
    if unwanted.is_empty() {
        return unwanted;
    }
    for grant in grants {
        let is_static = matches!(grant.source, CredentialSource::Static(_));
        let replaces_all = grant.format.holds_one_login();
        if !is_static && !replaces_all {
            continue;
        }
        let (_, entries) = grant_fetcher::find(grant, credentials, state);
        if replaces_all && entries.as_ref().is_some_and(|entries| !entries.is_empty()) {
            return Vec::new();
        }
        if is_static {
            unwanted.retain(|key| match &entries {
                Some(entries) => !entries.iter().any(|entry| entry.key == *key),
                None => !is_within(key, &grant.keys),
            });
        }
    }
    unwanted
}

fn is_within(key: &str, wider: &[String]) -> bool {
    let Ok(key) = Pattern::parse(key) else {
        return false;
    };
    let mut wider = wider.iter().filter_map(|key| Pattern::parse(key).ok());
    wider.any(|wider| wider.covers_pattern(&key))
}

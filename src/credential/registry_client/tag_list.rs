//! What a registry answers to who asks for a repository's tags. Pure.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-tags>

use serde::Deserialize;
use serde::de::IgnoredAny;

/// The tags of a repository.
#[derive(Deserialize)]
pub(super) struct TagList {
    /// Registries say null of a repository that is empty, or not there.
    #[serde(deserialize_with = "Option::deserialize")]
    tags: Option<Vec<IgnoredAny>>,
}

impl TagList {
    /// Reads a body; `None`: it is no list of tags. A registry, or what is before it, may answer 200 to anything.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// Whether there is one.
    pub(super) fn has_tags(&self) -> bool {
        self.tags.as_ref().is_some_and(|tags| !tags.is_empty())
    }
}

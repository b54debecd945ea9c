//! Trying whether a login may push: an upload is opened and cancelled. Nothing is ever in it.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs>,
//! <https://distribution.github.io/distribution/spec/api/#canceling-an-upload>

use tokio::time::Instant;

use super::super::cloud::unlogged;
use super::super::http::Reply;
use super::challenge::{Challenge, Scope};
use super::repository::RepositoryEntry;
use super::tag_list::TagList;
use super::upload_location::{self, PushOutcome};
use super::{REQUEST_TIMEOUT, RegistryClient, RegistryClientError};

/// What a push needs.
const PUSH: &str = "pull,push";
/// What some registries ask of who cancels an upload, as of who deletes anything.
const DELETE: &str = "delete";

impl RegistryClient<'_> {
    /// Whether the login may push to the repository `path`, of which `reference` (a tag or digest), if there is one, is an image.
    ///
    /// # Errors
    /// [`RegistryClientError`].
    pub(crate) async fn try_push(
        &self,
        path: &str,
        reference: Option<&str>,
    ) -> Result<PushOutcome, RegistryClientError> {
        let asked = async {
            let deadline = Instant::now() + REQUEST_TIMEOUT;
            let challenge = self.fetch_challenge(deadline).await?;
            let mut entry = self.enter(challenge, Scope::pull(path), deadline).await?;
            if let Some(words) = self.find_doubt(&mut entry, reference, deadline).await? {
                return Ok(PushOutcome::Unknown(words));
            }
            let what = || format!("a push to {path}");
            let scope = Scope {
                path,
                actions: PUSH,
            };
            let mut entry = self.enter(entry.challenge, scope, deadline).await?;
            let uploads = format!("/v2/{path}/blobs/uploads/");
            let opened = self.ask(&mut entry, "POST", &uploads, deadline).await?;
            if opened.status != 202 {
                return Err(self.explain(what(), &opened));
            }
            match upload_location::find(opened.header("location"), self.domain) {
                Ok(place) => Ok(self.cancel(&entry.challenge, path, place).await),
                Err(why) => Ok(PushOutcome::Left(why)),
            }
        };
        unlogged(asked).await
    }

    /// Why the repository may not be there, in the registry's words; `None`: it is, as it shows an image or its tags.
    async fn find_doubt(
        &self,
        entry: &mut RepositoryEntry<'_>,
        reference: Option<&str>,
        deadline: Instant,
    ) -> Result<Option<String>, RegistryClientError> {
        let path = entry.scope.path;
        let manifest = reference.map(|name| ("HEAD", format!("/v2/{path}/manifests/{name}")));
        let tags = ("GET", format!("/v2/{path}/tags/list?n=1"));
        let mut words = None;
        for (method, place) in manifest.into_iter().chain([tags]) {
            let reply = self.ask(entry, method, &place, deadline).await?;
            match reply.status {
                200 if shows(method, &reply) => return Ok(None),
                200 => words = Some(format!("{method} shows no image of it")),
                // Who has no such image, or lists no tags to this login, says nothing of pushing.
                401 | 403 | 404 => words = Some(self.words_of(&reply)),
                _ => return Err(self.explain(format!("repository {path}"), &reply)),
            }
        }
        Ok(words)
    }

    /// Cancels an upload. What keeps it from that is no error: the registry drops it after a while.
    async fn cancel(&self, challenge: &Challenge, path: &str, place: &str) -> PushOutcome {
        // An upload that took long to open is cancelled all the same.
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let mut why = String::new();
        for actions in [PUSH, DELETE] {
            let scope = Scope { path, actions };
            let cancelled = async {
                let authorization = self.authorize(challenge, Some(scope), deadline).await?;
                self.send("DELETE", place, authorization.as_ref(), deadline)
                    .await
            };
            let refused = match cancelled.await {
                Ok(reply) if matches!(reply.status, 200 | 202 | 204) => {
                    return PushOutcome::Cancelled;
                }
                Ok(reply) => self.words_of(&reply),
                Err(error) => error.to_string(),
            };
            if why.is_empty() {
                why = refused;
            }
            // With the login itself in each request, a second one would be the same.
            if !matches!(challenge, Challenge::Token { .. }) {
                break;
            }
        }
        PushOutcome::Left(why)
    }

    fn words_of(&self, reply: &Reply) -> String {
        format!("HTTP {}: {}", reply.status, self.words(&reply.body))
    }
}

/// Media types of manifests, and of lists of them, have one of these in common.
///
/// <https://github.com/opencontainers/image-spec/blob/main/media-types.md>,
/// <https://distribution.github.io/distribution/spec/manifest-v2-2/#media-types>
const MANIFEST_TYPES: [&str; 3] = [
    "application/vnd.oci.image.manifest.",
    "application/vnd.oci.image.index.",
    "application/vnd.docker.distribution.manifest.",
];

/// Whether an answer shows an image, or tags: a registry, or what is before it, may answer 200 to anything.
fn shows(method: &str, reply: &Reply) -> bool {
    if method == "HEAD" {
        let type_ = reply.header("content-type").unwrap_or_default();
        let is_manifest = MANIFEST_TYPES.iter().any(|one| type_.starts_with(one));
        return is_manifest || reply.header("docker-content-digest").is_some();
    }
    TagList::parse(&reply.body).is_some_and(|list| list.has_tags())
}

#[cfg(test)]
mod tests;

//! Lists of objects of which nothing but the metadata is asked for.

use kube::api::ListParams;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::list::ListReader;
use super::{Kube, api_error};
use crate::provision::ports::ClusterError;

/// How many objects one answer of the API server holds.
const PAGE: u32 = 500;

#[derive(Deserialize)]
struct MetadataOnly<M> {
    metadata: M,
}

impl Kube {
    /// Hands on the metadata of each object below `path` that `asked` selects, read one at a time as `M`: what others wrote there may be
    /// large. `what` names the objects in errors. After an error some were handed on already.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses, or what came is no such list.
    pub(super) async fn list_metadata<M: DeserializeOwned>(
        &self,
        (what, path): (&str, &str),
        asked: ListParams,
        mut take: impl FnMut(M),
    ) -> Result<(), ClusterError> {
        let mut asked = asked.limit(PAGE);
        loop {
            let page = async {
                let mut page = ListReader::open_metadata(&self.client, path, &asked).await?;
                while let Some(MetadataOnly { metadata }) = page.next_as().await? {
                    take(metadata);
                }
                Ok(page.finish()?.next().map(str::to_owned))
            };
            match api_error::request(what, page).await? {
                Some(next) => asked = asked.continue_token(&next),
                None => return Ok(()),
            }
        }
    }
}

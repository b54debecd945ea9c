//! What `pullpass purge` takes away: the Secrets that pullpass wrote, found by label and name, and never read.

use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use serde::Deserialize;

use super::api::Objects;
use super::credential_store::NAME_PREFIX as CREDENTIAL_PREFIX;
use super::list::ListReader;
use super::node_lists::NAME_PREFIX as NODES_PREFIX;
use super::{Kube, MANAGED_BY, api_error};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::{ClusterError, Version};
use crate::registry::{is_export_name, is_pull_secret_name};

/// How many objects one answer of the API server holds.
const PAGE: u32 = 500;

/// A Secret that pullpass wrote.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedSecret {
    /// Where it is.
    pub namespace: NamespaceName,
    /// What it is called.
    pub name: ObjectName,
    uid: String,
}

impl OwnedSecret {
    /// What it holds, in a few words.
    pub fn describe(&self) -> &'static str {
        if self.name.starts_with(CREDENTIAL_PREFIX) {
            "minted credential"
        } else if self.name.starts_with(NODES_PREFIX) {
            "list of nodes"
        } else if is_export_name(&self.name) {
            "export"
        } else {
            "pull secret"
        }
    }
}

impl Kube {
    /// The Secrets that pullpass wrote, in all namespaces: the pull secrets and exports, and the minted credentials in its own. Their content is
    /// not asked for.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_owned(&self) -> Result<Vec<OwnedSecret>, ClusterError> {
        let (label, value) = MANAGED_BY;
        let mut asked = ListParams::default()
            .labels(&format!("{label}={value}"))
            .limit(PAGE);
        let mut written = Vec::new();
        loop {
            let page = self.read_owned(&asked, &mut written);
            match api_error::request("secrets", page).await? {
                Some(next) => asked = asked.continue_token(&next),
                None => break,
            }
        }
        written.sort();
        Ok(written)
    }

    /// Adds those of a page, read one at a time: what others wrote into such Secrets' metadata may be large. The next page, if there is
    /// one.
    async fn read_owned(
        &self,
        asked: &ListParams,
        written: &mut Vec<OwnedSecret>,
    ) -> kube::Result<Option<String>> {
        let mut page = ListReader::open_metadata(&self.client, "/api/v1/secrets", asked).await?;
        while let Some(Listed { metadata }) = page.next_as().await? {
            written.extend(read_owned(metadata));
        }
        Ok(page.finish()?.next().map(str::to_owned))
    }

    /// Deletes one of them, unless another object has its name by now; answers whether it was there.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn delete_owned(&self, written: &OwnedSecret) -> Result<bool, ClusterError> {
        let OwnedSecret {
            namespace,
            name,
            uid,
        } = written;
        let same = Version {
            uid: uid.clone(),
            resource_version: String::new(),
        };
        let secrets = Objects::<Secret>::namespaced(self, namespace);
        match secrets.delete(name, &same).await {
            Err(ClusterError::Conflict { .. }) => Ok(false),
            answer => answer,
        }
    }
}

#[derive(Deserialize)]
struct Listed {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
}

fn read_owned(metadata: Metadata) -> Option<OwnedSecret> {
    let name = ObjectName::parse(&metadata.name).ok()?;
    let namespace = NamespaceName::parse(&metadata.namespace).ok()?;
    // A Secret that another user made could carry the label, too, so the name counts as well.
    let is_its_name = is_pull_secret_name(&name) || is_export_name(&name);
    is_its_name.then_some(OwnedSecret {
        namespace,
        name,
        uid: metadata.uid,
    })
}

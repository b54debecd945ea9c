//! What `pullpass purge` takes away: the Secrets that pullpass wrote, found by label and name, and never read.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams};

use super::api::Objects;
use super::{Kube, MANAGED_BY, api_error};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::PULL_SECRET;
use crate::provision::ports::{ClusterError, Version};

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

impl Kube {
    /// The Secrets that pullpass wrote, in all namespaces: the pull secrets, and the minted credentials in its own. Their content is
    /// not asked for.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_owned(&self) -> Result<Vec<OwnedSecret>, ClusterError> {
        let api: Api<Secret> = Api::all(self.client.clone());
        let (label, value) = MANAGED_BY;
        let mut asked = ListParams::default()
            .labels(&format!("{label}={value}"))
            .limit(PAGE);
        let mut written = Vec::new();
        loop {
            let page = api_error::request("secrets", api.list_metadata(&asked)).await?;
            written.extend(page.items.into_iter().filter_map(|object| {
                let metadata = object.metadata;
                let name = ObjectName::parse(&metadata.name?).ok()?;
                let namespace = NamespaceName::parse(&metadata.namespace?).ok()?;
                let uid = metadata.uid.filter(|_| is_ours(&name))?;
                Some(OwnedSecret {
                    namespace,
                    name,
                    uid,
                })
            }));
            match page.metadata.continue_ {
                Some(next) if !next.is_empty() => asked = asked.continue_token(&next),
                _ => break,
            }
        }
        written.sort();
        Ok(written)
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

/// A Secret that another user made could carry the label, too, so the name counts as well.
fn is_ours(name: &str) -> bool {
    name.strip_prefix(PULL_SECRET)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_names() {
        for name in [
            "pullpass",
            "pullpass-payments",
            "pullpass-credential-0123456789abcdef",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["pullpassport", "my-pullpass", "payments", ""] {
            assert!(!is_ours(name), "{name}");
        }
    }
}

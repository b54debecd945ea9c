//! Who this process is for the API server, and what it may do.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::Kube;
use super::api::Objects;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::ClusterError;

/// Whom the API server takes this process for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUser {
    /// The user's name.
    pub name: String,
    /// What tells it from others of this name at other times; empty: nothing does.
    pub uid: String,
}

impl ApiUser {
    /// The ServiceAccount of this namespace that it is; `None`: it is none.
    /// <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>
    fn account(&self, namespace: &NamespaceName) -> Option<OwnerReference> {
        let prefix = format!("system:serviceaccount:{namespace}:");
        let name = self.name.strip_prefix(&prefix)?;
        (!self.uid.is_empty()).then(|| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ServiceAccount".to_owned(),
            name: name.to_owned(),
            uid: self.uid.clone(),
            ..OwnerReference::default()
        })
    }
}

impl Kube {
    /// Has the Lease deleted with the ServiceAccount of our own namespace that `user` is. Whoever uninstalls pullpass takes its right to give
    /// the Lease back before its replicas end; so whoever installs it anew waits for no one who is gone.
    /// <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#owners-dependents>
    pub fn bind_lease_to(&self, user: &ApiUser) {
        if let Some(owner) = user.account(&self.namespace) {
            let _ = self.lease_owner.set(owner);
        }
    }

    /// Asks who makes our requests. By default every authenticated user has the right to (ClusterRole `system:basic-user`).
    /// <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#self-subject-review>
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_user(&self) -> Result<ApiUser, ClusterError> {
        let reviewed = Objects::<SelfSubjectReview>::cluster_scoped(self)
            .review(&SelfSubjectReview::default())
            .await?;
        let user = reviewed.status.and_then(|status| status.user_info);
        let user = user.unwrap_or_default();
        Ok(ApiUser {
            name: user.username.unwrap_or_default(),
            uid: user.uid.unwrap_or_default(),
        })
    }

    /// Asks whether we may write the Secrets of this name in each namespace. By default every authenticated user has the right to ask.
    /// <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub(super) async fn may_write_secrets(&self, name: &ObjectName) -> Result<bool, ClusterError> {
        let about = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    resource: Some("secrets".to_owned()),
                    verb: Some("patch".to_owned()),
                    name: Some(name.to_string()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let reviews = Objects::<SelfSubjectAccessReview>::cluster_scoped(self);
        let reviewed = reviews.review(&about).await?;
        Ok(reviewed.status.is_some_and(|status| status.allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owns_the_lease_as_a_service_account_of_our_own_namespace() {
        let own = NamespaceName::constant("pullpass");
        let account = |name: &str, uid: &str| {
            let (name, uid) = (name.to_owned(), uid.to_owned());
            ApiUser { name, uid }.account(&own)
        };
        let owner = account("system:serviceaccount:pullpass:puller", "1-2").unwrap();
        assert_eq!((owner.name.as_str(), owner.uid.as_str()), ("puller", "1-2"));
        assert_eq!(owner.block_owner_deletion, None, "wants a right of its own");
        for (name, uid) in [
            ("system:serviceaccount:pullpass:puller", ""),
            ("system:serviceaccount:other:pullpass", "1-2"),
            ("system:serviceaccount:pullpass2:x", "1-2"),
            ("pullpass@example.com", "1-2"),
        ] {
            assert_eq!(account(name, uid), None, "{name}");
        }
    }
}

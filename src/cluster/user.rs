//! Who this process is for the API server, and what it may do.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};

use super::Kube;
use super::api::Objects;
use crate::names::ObjectName;
use crate::provision::ports::ClusterError;

impl Kube {
    /// Asks who makes our requests. By default every authenticated user has the right to (ClusterRole `system:basic-user`).
    /// <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#self-subject-review>
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_user(&self) -> Result<String, ClusterError> {
        let reviewed = Objects::<SelfSubjectReview>::cluster_scoped(self)
            .review()
            .await?;
        let user = reviewed.status.and_then(|status| status.user_info);
        Ok(user.and_then(|user| user.username).unwrap_or_default())
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

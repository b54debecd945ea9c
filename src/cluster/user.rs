//! Who this process is for the API server.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;

use super::Kube;
use super::api::Objects;
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
}

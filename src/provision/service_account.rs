//! What matters of a ServiceAccount.

use std::collections::{BTreeMap, BTreeSet};

/// The annotation that names the AWS role of a ServiceAccount.
/// <https://docs.aws.amazon.com/eks/latest/userguide/associate-service-account-role.html>
pub const AWS_ROLE_ANNOTATION: &str = "eks.amazonaws.com/role-arn";

/// The annotation that names a role for Amazon ECR alone, by which kubelets' own credential provider goes: it comes first.
/// <https://github.com/kubernetes/cloud-provider-aws/blob/master/cmd/ecr-credential-provider/main.go>
pub const ECR_ROLE_ANNOTATION: &str = "eks.amazonaws.com/ecr-role-arn";

/// The annotation that says whom a ServiceAccount's tokens for AWS are for.
/// <https://github.com/aws/amazon-eks-pod-identity-webhook#eks-walkthrough>
pub const AWS_AUDIENCE_ANNOTATION: &str = "eks.amazonaws.com/audience";

/// The annotations that name the application of Entra ID that is federated with a ServiceAccount, and its tenant.
/// <https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html>
pub const AZURE_CLIENT_ANNOTATION: &str = "azure.workload.identity/client-id";
/// See [`AZURE_CLIENT_ANNOTATION`].
pub const AZURE_TENANT_ANNOTATION: &str = "azure.workload.identity/tenant-id";

/// The annotations that name it for registries alone, by which AKS' own credential provider of the kubelet goes: they come first.
/// <https://github.com/kubernetes-sigs/cloud-provider-azure/tree/master/cmd/acr-credential-provider>
pub const ACR_CLIENT_ANNOTATION: &str = "kubernetes.azure.com/acr-client-id";
/// See [`ACR_CLIENT_ANNOTATION`].
pub const ACR_TENANT_ANNOTATION: &str = "kubernetes.azure.com/acr-tenant-id";

/// The annotations that are read.
pub const ANNOTATIONS: [&str; 7] = [
    ECR_ROLE_ANNOTATION,
    AWS_ROLE_ANNOTATION,
    AWS_AUDIENCE_ANNOTATION,
    ACR_CLIENT_ANNOTATION,
    ACR_TENANT_ANNOTATION,
    AZURE_CLIENT_ANNOTATION,
    AZURE_TENANT_ANNOTATION,
];

/// What matters of a ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its `metadata.uid`: one that was deleted and recreated is another.
    pub uid: String,
    /// With `kubernetes.io/enforce-mountable-secrets: "true"` the pull secrets that it lists; `None`: it enforces nothing.
    pub pull_secrets: Option<BTreeSet<String>>,
    /// Those of [`ANNOTATIONS`] that it has.
    pub annotations: BTreeMap<String, String>,
}

impl ServiceAccount {
    /// The annotation for registries alone where it has that, else the one for all of the cloud.
    pub fn annotation_of(&self, own: &'static str, every: &'static str) -> &'static str {
        if self.annotations.contains_key(own) {
            own
        } else {
            every
        }
    }

    /// Whether the API server admits a Pod of this ServiceAccount that references this pull secret.
    /// <https://kubernetes.io/docs/concepts/security/service-accounts/#enforce-mountable-secrets>
    pub fn may_reference(&self, secret: &str) -> bool {
        self.pull_secrets
            .as_ref()
            .is_none_or(|listed| listed.contains(secret))
    }
}

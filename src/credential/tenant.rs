//! The identity of a namespace's own ServiceAccount: what it needs of a cluster, and why it may not be there.

use async_trait::async_trait;
use secrecy::SecretString;
use thiserror::Error;

use crate::registry::source::Tenant;

/// Tokens of ServiceAccounts for clouds that trust the cluster's issuer.
#[async_trait]
pub trait ServiceAccountTokens: Send + Sync {
    /// A token of this very ServiceAccount for one audience, which is never empty and never the API server's own, good for an hour.
    ///
    /// <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/>
    ///
    /// # Errors
    /// [`TenantError`]; [`TenantError::Replaced`] when another ServiceAccount has the name by now.
    async fn fetch_token(
        &self,
        tenant: &Tenant,
        audience: &str,
    ) -> Result<SecretString, TenantError>;
}

/// Why the identity of a namespace's own ServiceAccount cannot be used. Every message says what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TenantError {
    /// The namespace has no such ServiceAccount.
    #[error(
        "namespace {namespace} has no ServiceAccount {service_account}, whose identity the Registry asks for: create it, or correct identity.serviceAccount.name of the Registry"
    )]
    MissingServiceAccount {
        /// The namespace.
        namespace: String,
        /// The ServiceAccount's name.
        service_account: String,
    },
    /// The ServiceAccount does not say what the Registry reads from it.
    #[error(
        "ServiceAccount {namespace}/{service_account} has no annotation {annotation}, where the Registry takes the identity from: add it"
    )]
    MissingAnnotation {
        /// The namespace.
        namespace: String,
        /// The ServiceAccount's name.
        service_account: String,
        /// The annotation's key.
        annotation: &'static str,
    },
    /// What the ServiceAccount says is not of the form that alone is taken.
    #[error(
        "annotation {annotation} of ServiceAccount {namespace}/{service_account} {problem}: correct it"
    )]
    MalformedAnnotation {
        /// The namespace.
        namespace: String,
        /// The ServiceAccount's name.
        service_account: String,
        /// The annotation's key.
        annotation: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Another ServiceAccount has the name by now.
    #[error(
        "ServiceAccount {namespace}/{service_account} was deleted and recreated: retrying with the new one"
    )]
    Replaced {
        /// The namespace.
        namespace: String,
        /// The ServiceAccount's name.
        service_account: String,
    },
    /// The API server refuses.
    #[error(
        "forbidden: token of ServiceAccount {namespace}/{service_account}: {message}: allow pullpass to create serviceaccounts/token with resourceNames [{service_account}], as `pullpass rbac` prints it"
    )]
    TokenForbidden {
        /// The namespace.
        namespace: String,
        /// The ServiceAccount's name.
        service_account: String,
        /// The API server's words, one line.
        message: String,
    },
    /// The policy on tokens does not have this audience.
    #[error(
        "forbidden: no token of ServiceAccount {namespace}/{service_account} for the audience {audience}: add it to tokenAudiences of the chart, or correct ecr.audience or acr.audience of the Registry, or the annotation eks.amazonaws.com/audience"
    )]
    AudienceForbidden {
        /// The namespace.
        namespace: String,
        /// The ServiceAccount's name.
        service_account: String,
        /// The audience.
        audience: String,
    },
    /// The API server takes tokens for that audience itself.
    #[error(
        "forbidden: the API server itself takes tokens for the audience {audience} (--api-audiences), so that one of ServiceAccount {namespace}/{service_account} is not asked for: take it out of --api-audiences, or give the Registry another ecr.audience or acr.audience"
    )]
    ApiServerAudience {
        /// The namespace.
        namespace: String,
        /// The ServiceAccount's name.
        service_account: String,
        /// The audience.
        audience: String,
    },
    /// The API server did not answer, or nothing sensible.
    #[error(
        "TokenRequest for ServiceAccount {namespace}/{service_account} failed, retrying: {message}"
    )]
    TokenUnreachable {
        /// The namespace.
        namespace: String,
        /// The ServiceAccount's name.
        service_account: String,
        /// What failed, one line.
        message: String,
    },
    /// Nobody said which namespace's ServiceAccount is meant, or there is no cluster to ask.
    #[error(
        "the identity of ServiceAccount {service_account} is a namespace's own: only with a cluster and a namespace can it be used"
    )]
    Unbound {
        /// The ServiceAccount's name.
        service_account: String,
    },
}

impl TenantError {
    /// The kind of error in CamelCase, from a closed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::MissingServiceAccount { .. } => "MissingServiceAccount",
            Self::MissingAnnotation { .. } => "MissingAnnotation",
            Self::MalformedAnnotation { .. } => "MalformedAnnotation",
            Self::Replaced { .. } => "ServiceAccountReplaced",
            Self::TokenForbidden { .. } => "TokenForbidden",
            Self::AudienceForbidden { .. } => "AudienceForbidden",
            Self::ApiServerAudience { .. } => "ApiServerAudience",
            Self::TokenUnreachable { .. } => "TokenUnreachable",
            Self::Unbound { .. } => "Unbound",
        }
    }
}

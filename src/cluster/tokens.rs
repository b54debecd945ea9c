//! Tokens of namespaces' own ServiceAccounts, by TokenRequest.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::Kube;
use super::api::Objects;
use crate::credential::{ServiceAccountTokens, TenantError};
use crate::provision::ports::ClusterError;
use crate::registry::source::Tenant;

/// How long a token is good, in seconds; the API server gives none that is good for less than 600.
const SECONDS: i64 = 3600;

impl ServiceAccountTokens for Kube {
    fn fetch_token<'a>(
        &'a self,
        tenant: &'a Tenant,
        audience: &'a str,
    ) -> BoxFuture<'a, Result<SecretString, TenantError>> {
        async move {
            let token = self.request_token(tenant, audience).await?;
            // The request names the ServiceAccount, the token says which one of that name it is.
            if owner(token.expose_secret()).as_deref() == Some(&*tenant.service_account_uid) {
                return Ok(token);
            }
            let (namespace, service_account) = names(tenant);
            Err(TenantError::Replaced {
                namespace,
                service_account,
            })
        }
        .boxed()
    }
}

impl Kube {
    async fn request_token(
        &self,
        tenant: &Tenant,
        audience: &str,
    ) -> Result<SecretString, TenantError> {
        let unreachable = |message: &str| {
            let (namespace, service_account) = names(tenant);
            TenantError::TokenUnreachable {
                namespace,
                service_account,
                message: message.to_owned(),
            }
        };
        // Without an audience a token would be for the API server itself.
        if audience.is_empty() {
            return Err(unreachable("no audience was given: this is a bug"));
        }
        let accounts = Objects::<ServiceAccount>::namespaced(self, &tenant.namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(vec![audience.to_owned()]),
                expiration_seconds: Some(SECONDS),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let asked = accounts.create_token(&tenant.service_account, &request);
        let answer = asked.await.map_err(|error| explain(tenant, error))?;
        let token = answer.status.and_then(|status| status.token);
        token
            .filter(|token| !token.is_empty())
            .map(SecretString::from)
            .ok_or_else(|| unreachable("the API server's answer has no token"))
    }
}

fn names(tenant: &Tenant) -> (String, String) {
    (
        tenant.namespace.to_string(),
        tenant.service_account.to_string(),
    )
}

fn explain(tenant: &Tenant, error: ClusterError) -> TenantError {
    let (namespace, service_account) = names(tenant);
    match error {
        ClusterError::Forbidden { message, .. } => TenantError::TokenForbidden {
            namespace,
            service_account,
            message,
        },
        ClusterError::NamespaceGone { .. } | ClusterError::NotFound { .. } => {
            TenantError::MissingServiceAccount {
                namespace,
                service_account,
            }
        }
        ClusterError::Conflict { .. } => TenantError::Replaced {
            namespace,
            service_account,
        },
        ClusterError::Unauthenticated { .. } => TenantError::TokenUnreachable {
            namespace,
            service_account,
            message: error.to_string(),
        },
        ClusterError::Rejected { message, .. }
        | ClusterError::Mismatch { message, .. }
        | ClusterError::Unreachable { message, .. } => TenantError::TokenUnreachable {
            namespace,
            service_account,
            message,
        },
    }
}

/// The unique id of the ServiceAccount that a token is of, as the API server writes it into its tokens.
fn owner(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct KubernetesClaims {
        #[serde(rename = "kubernetes.io")]
        kubernetes: Kubernetes,
    }
    #[derive(Deserialize)]
    struct Kubernetes {
        serviceaccount: NamedClaim,
    }
    #[derive(Deserialize)]
    struct NamedClaim {
        uid: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: KubernetesClaims = serde_json::from_slice(&payload).ok()?;
    Some(claims.kubernetes.serviceaccount.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_owner_of_a_token() {
        let claims = serde_json::json!({
            "aud": ["sts.amazonaws.com"],
            "kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "b", "uid": "u-1"}},
        });
        let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()));
        assert_eq!(owner(&token).as_deref(), Some("u-1"));
        for text in ["", "opaque", "a.b.c", "h.e30.s"] {
            assert_eq!(owner(text), None, "{text}");
        }
    }
}

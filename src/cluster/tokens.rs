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
use crate::credential::{ServiceAccountTokens, TenantError, jwt};
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
        if self.is_api_server_audience(audience).await {
            let (namespace, service_account) = names(tenant);
            return Err(TenantError::ApiServerAudience {
                namespace,
                service_account,
                audience: audience.to_owned(),
            });
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

impl Kube {
    /// Whether a token for this audience would be good for the API server. Our own token, which is for no audience that anybody chose,
    /// has all that the API server takes.
    ///
    /// <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/> (`--api-audiences`)
    async fn is_api_server_audience(&self, audience: &str) -> bool {
        let Some(file) = &self.own_token else {
            return false;
        };
        // Without our own token the request itself fails.
        let token = tokio::fs::read_to_string(file).await.unwrap_or_default();
        jwt::audiences(token.trim())
            .iter()
            .any(|own| own == audience)
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
pub(crate) fn owner(token: &str) -> Option<String> {
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::Client;
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_the_owner_of_a_token() {
        let claims = json!({
            "aud": ["sts.amazonaws.com"],
            "kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "b", "uid": "u-1"}},
        });
        let token = format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()));
        assert_eq!(owner(&token).as_deref(), Some("u-1"));
        for text in ["", "opaque", "a.b.c", "h.e30.s"] {
            assert_eq!(owner(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn asks_for_no_token_that_the_api_server_would_take() {
        let claims = json!({"aud": ["https://kubernetes.default.svc", "sts.amazonaws.com"]});
        let token = format!("h.{}.s\n", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), token).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let service = tower::service_fn(move |_: hyper::Request<kube::client::Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Ok::<_, std::convert::Infallible>(hyper::Response::new(
                kube::client::Body::empty(),
            )))
        });
        let mut kube = Kube::new(
            Client::new(service, "pullpass"),
            "pullpass".parse().unwrap(),
        );
        kube.own_token = Some(file.path().into());
        let tenant = Tenant {
            namespace: "team-a".parse().unwrap(),
            service_account: "puller".parse().unwrap(),
            service_account_uid: "u-1".into(),
            namespace_uid: "n-1".into(),
        };
        let refused = kube.fetch_token(&tenant, "sts.amazonaws.com").await;
        let refused = refused.err().unwrap();
        assert_eq!(refused.reason(), "ApiServerAudience");
        assert!(refused.to_string().contains("--api-audiences"), "{refused}");
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        let other = kube
            .fetch_token(&tenant, "api://AzureADTokenExchange")
            .await;
        assert_ne!(other.err().unwrap().reason(), "ApiServerAudience");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

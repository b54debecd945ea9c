//! Tokens of namespaces' own ServiceAccounts, by TokenRequest.

use async_trait::async_trait;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use secrecy::SecretString;
use serde::Deserialize;

use super::Kube;
use super::api::Objects;
use crate::credential::{ServiceAccountTokens, TenantError, jwt};
use crate::plain_text;
use crate::provision::ports::ClusterError;
use crate::registry::source::Tenant;

/// How long a token is good, in seconds; the API server gives none that is good for less than 600.
const SECONDS: i64 = 3600;

#[async_trait]
impl ServiceAccountTokens for Kube {
    async fn fetch_token(
        &self,
        tenant: &Tenant,
        audience: &str,
    ) -> Result<SecretString, TenantError> {
        let token = self.request_token(tenant, audience).await?;
        if jwt::audiences(&token) != [audience] {
            return Err(unreachable(
                tenant,
                "the API server's answer is no token for the one audience that was asked for",
            ));
        }
        // The request names the ServiceAccount, the token says which one of that name it is.
        if owner(&token).as_deref() == Some(&*tenant.service_account_uid) {
            return Ok(token);
        }
        let (namespace, service_account) = names(tenant);
        Err(TenantError::Replaced {
            namespace,
            service_account,
        })
    }
}

impl Kube {
    async fn request_token(
        &self,
        tenant: &Tenant,
        audience: &str,
    ) -> Result<SecretString, TenantError> {
        // Without an audience a token would be for the API server itself.
        if audience.is_empty() {
            return Err(unreachable(tenant, "no audience was given: this is a bug"));
        }
        let own = self.api_server_audiences().await;
        if own.as_ref().is_some_and(Vec::is_empty) {
            return Err(unreachable(
                tenant,
                "pullpass' own token does not say which audiences are the API server's: mount a projected ServiceAccount token",
            ));
        }
        if own.is_some_and(|own| own.iter().any(|own| own == audience)) {
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
        let answer = asked.await;
        let answer = answer.map_err(|error| explain(tenant, audience, error))?;
        let token = answer.status.and_then(|status| status.token);
        token
            .filter(|token| !token.is_empty())
            .map(SecretString::from)
            .ok_or_else(|| unreachable(tenant, "the API server's answer has no token"))
    }
}

impl Kube {
    /// The audiences that the API server takes tokens for: our own token, which is for no audience that anybody chose, has all of them;
    /// none where it does not say so. `None`: there is no such token, this is a person's kubeconfig.
    ///
    /// <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/> (`--api-audiences`)
    async fn api_server_audiences(&self) -> Option<Vec<String>> {
        let file = self.own_token.as_ref()?;
        let token = plain_text::read_file(file).await.unwrap_or_default();
        Some(jwt::audiences(&token))
    }
}

fn names(tenant: &Tenant) -> (String, String) {
    (
        tenant.namespace.to_string(),
        tenant.service_account.to_string(),
    )
}

fn unreachable(tenant: &Tenant, message: &str) -> TenantError {
    let (namespace, service_account) = names(tenant);
    TenantError::TokenUnreachable {
        namespace,
        service_account,
        message: message.to_owned(),
    }
}

/// What the chart's policy `pullpass-tokens` says of another audience than its own.
const FOREIGN_AUDIENCE: &str = "tokenAudiences";

fn explain(tenant: &Tenant, audience: &str, error: ClusterError) -> TenantError {
    let (namespace, service_account) = names(tenant);
    match error {
        ClusterError::Forbidden { message, .. } | ClusterError::Rejected { message, .. }
            if message.contains(FOREIGN_AUDIENCE) =>
        {
            TenantError::AudienceForbidden {
                namespace,
                service_account,
                audience: audience.to_owned(),
            }
        }
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
        ClusterError::Unauthenticated { .. } => unreachable(tenant, &error.to_string()),
        ClusterError::Rejected { message, .. }
        | ClusterError::Mismatch { message, .. }
        | ClusterError::Unreachable { message, .. } => unreachable(tenant, &message),
    }
}

/// The unique id of the ServiceAccount that a token is of, as the API server writes it into its tokens.
pub(crate) fn owner(token: &SecretString) -> Option<String> {
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
    let claims: KubernetesClaims = jwt::claims(token)?;
    Some(claims.kubernetes.serviceaccount.uid)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use kube::Client;
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_the_owner_of_a_token() {
        let claims = json!({
            "aud": ["sts.amazonaws.com"],
            "kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "b", "uid": "u-1"}},
        });
        assert_eq!(owner(&token(&claims).into()).as_deref(), Some("u-1"));
        for text in ["", "opaque", "a.b.c", "h.e30.s"] {
            assert_eq!(owner(&text.into()), None, "{text}");
        }
    }

    fn token(claims: &serde_json::Value) -> String {
        format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    /// Asks for a token as a process that has `own` itself, of an API server that answers with `answered`; what comes of it, and how
    /// often the API server was asked.
    async fn fetch(own: &str, answered: &str) -> (Result<SecretString, TenantError>, usize) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), own).unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let answer = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "metadata": {"name": "puller", "namespace": "team-a"}, "spec": {"audiences": []},
            "status": {"token": answered, "expirationTimestamp": "2026-01-01T00:00:00Z"},
        });
        let service = tower::service_fn(move |_: hyper::Request<kube::client::Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            let body = kube::client::Body::from(answer.to_string().into_bytes());
            std::future::ready(Ok::<_, std::convert::Infallible>(hyper::Response::new(
                body,
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
        let fetched = kube.fetch_token(&tenant, "sts.amazonaws.com").await;
        (fetched, asked.load(Ordering::SeqCst))
    }

    fn answered(audiences: &serde_json::Value, uid: &serde_json::Value) -> String {
        token(
            &json!({"aud": audiences, "kubernetes.io": {"namespace": "team-a", "serviceaccount": {"name": "puller", "uid": uid}}}),
        )
    }

    const API_SERVER: &str = "https://kubernetes.default.svc";

    #[tokio::test]
    async fn asks_for_no_token_that_the_api_server_would_take() {
        let good = answered(&json!(["sts.amazonaws.com"]), &json!("u-1"));
        let own = token(&json!({"aud": [API_SERVER, "sts.amazonaws.com"]}));
        let (refused, asked) = fetch(&format!("{own}\n"), &good).await;
        let refused = refused.err().unwrap();
        assert_eq!(refused.reason(), "ApiServerAudience");
        assert!(refused.to_string().contains("--api-audiences"), "{refused}");
        assert_eq!(asked, 0);
        let own = token(&json!({"aud": [API_SERVER]}));
        let (fetched, asked) = fetch(&own, &good).await;
        assert_eq!(fetched.unwrap().expose_secret(), good);
        assert_eq!(asked, 1);
    }

    /// A claim that is missing or empty is no claim that holds of everybody (CVE-2026-23990).
    #[tokio::test]
    async fn refuses_tokens_with_missing_or_empty_claims() {
        let (none, empty) = (json!(null), json!(""));
        for claims in [
            json!({}),
            json!({"aud": none}),
            json!({"aud": empty}),
            json!({"aud": []}),
            json!({"aud": [""]}),
        ] {
            let good = answered(&json!(["sts.amazonaws.com"]), &json!("u-1"));
            let (refused, asked) = fetch(&token(&claims), &good).await;
            let refused = refused.err().unwrap().to_string();
            assert!(refused.contains("own token does not say"), "{refused}");
            assert_eq!(asked, 0, "{claims}");
        }
        for own in ["", "opaque", "a.b.c"] {
            let (refused, asked) = fetch(own, "").await;
            assert!(refused.is_err() && asked == 0, "{own:?}");
        }
        let own = token(&json!({"aud": [API_SERVER]}));
        for audiences in [
            none.clone(),
            empty.clone(),
            json!([]),
            json!([""]),
            json!([API_SERVER]),
            json!(["sts.amazonaws.com", API_SERVER]),
        ] {
            let (refused, _) = fetch(&own, &answered(&audiences, &json!("u-1"))).await;
            let refused = refused.err().unwrap().to_string();
            assert!(refused.contains("the one audience"), "{refused}");
        }
        for uid in [none, empty, json!("u-2")] {
            let (refused, _) = fetch(&own, &answered(&json!("sts.amazonaws.com"), &uid)).await;
            assert_eq!(refused.err().unwrap().reason(), "ServiceAccountReplaced");
        }
        let (refused, _) = fetch(&own, "").await;
        assert!(refused.is_err());
    }
}

//! Entra ID's tokens for an application that proves who it is by a federated token or a client secret.

use std::sync::Arc;

use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, RetryOptions};
use azure_identity::{
    ClientAssertionCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions,
};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::time::timeout_at;

use super::client::{AzureCall, Client, host_of};
use super::transport::Transport;
use crate::credential::MintError;
use crate::credential::cloud::unlogged;
use crate::credential::http::{Reply, one_line};
use crate::credential::outgoing::{Assertion, Sent, of_azure, to_azure};

/// A token of Entra ID.
pub(super) struct EntraToken {
    /// The token.
    pub(super) value: SecretString,
    /// The tenant that it is from, when that is given.
    pub(super) tenant_id: Option<String>,
    /// Who asked, for people.
    pub(super) principal: String,
}

/// Who asks, whom and for what.
pub(super) struct EntraApplication<'a> {
    /// `https://` and a host, no `/` at the end.
    pub(super) authority: &'a str,
    /// A GUID.
    pub(super) tenant_id: &'a str,
    /// A GUID.
    pub(super) client_id: &'a str,
    /// Whom the token is for.
    pub(super) resource: &'a str,
    /// Who asks, for people.
    pub(super) principal: String,
}

/// How an application proves who it is.
#[derive(Clone, Copy)]
pub(crate) enum ClientProof<'a> {
    /// A ServiceAccount token that the application trusts.
    Assertion(&'a SecretString),
    /// A client secret.
    Secret(&'a SecretString),
}

impl<'a> ClientProof<'a> {
    fn value(self) -> &'a SecretString {
        match self {
            Self::Assertion(value) | Self::Secret(value) => value,
        }
    }
}

/// Gets a token by Azure's SDK.
///
/// Each mint has a credential of its own, so that the SDK's cache never answers, and a task of its own, so that neither a bug of the
/// SDK nor a caller that hangs up does more than end this one mint.
///
/// <https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow>
pub(super) async fn fetch(
    client: &Client,
    application: EntraApplication<'_>,
    proof: ClientProof<'_>,
) -> Result<EntraToken, MintError> {
    let (authority, tenant_id) = (application.authority, application.tenant_id);
    let url = format!("{authority}/{tenant_id}/oauth2/v2.0/token");
    let call = AzureCall {
        host: host_of(&url),
        principal: &application.principal,
        sent: Sent::Text(proof.value()),
    };
    let transport = Arc::new(Transport::new(client.clone(), url));
    let credential = build_credential(&application, proof, &transport)
        .map_err(|error| call.bad(one_line(&error.to_string())))?;
    let scope = format!("{}/.default", application.resource);
    let deadline = client.deadline;
    let asked = async move { timeout_at(deadline, credential.get_token(&[&scope], None)).await };
    let asked = tokio::spawn(unlogged(asked)).await;
    let token = match asked.map_err(|_| MintError::TaskPanicked)? {
        Ok(Ok(token)) => token,
        Ok(Err(_)) => return Err(explain_lack(&call, transport.take_answer(), proof)),
        Err(_) => return Err(MintError::Timeout { host: call.host }),
    };
    let token = call.check_token(Some(of_azure(&token)))?;
    Ok(EntraToken {
        value: token,
        tenant_id: Some(tenant_id.to_owned()),
        principal: application.principal,
    })
}

fn build_credential(
    application: &EntraApplication<'_>,
    proof: ClientProof<'_>,
    transport: &Arc<Transport>,
) -> azure_core::Result<Arc<dyn TokenCredential>> {
    let mut cloud = CustomConfiguration::default();
    application.authority.clone_into(&mut cloud.authority_host);
    let transport = azure_core::http::Transport::new(Arc::clone(transport) as _);
    let client_options = ClientOptions {
        cloud: Some(Arc::new(cloud.into())),
        retry: RetryOptions::none(),
        transport: Some(transport),
        ..ClientOptions::default()
    };
    let tenant_id = application.tenant_id;
    let client_id = application.client_id.to_owned();
    Ok(match proof {
        ClientProof::Assertion(token) => {
            let options = ClientAssertionCredentialOptions { client_options };
            let assertion = Assertion(token.clone());
            ClientAssertionCredential::new(
                tenant_id.to_owned(),
                client_id,
                assertion,
                Some(options),
            )?
        }
        ClientProof::Secret(secret) => {
            let options = ClientSecretCredentialOptions { client_options };
            let secret = to_azure(secret);
            ClientSecretCredential::new(tenant_id, client_id, secret, Some(options))?
        }
    })
}

/// Why the SDK has no token, by what was answered.
fn explain_lack(
    call: &AzureCall<'_>,
    answer: Option<Result<Reply, MintError>>,
    proof: ClientProof<'_>,
) -> MintError {
    match answer {
        Some(Ok(reply)) if reply.status == 200 => call.bad_json(&reply),
        Some(Ok(reply)) => explain(call, &reply, proof),
        Some(Err(error)) => error,
        None => call.bad("it was not asked: please report this".to_owned()),
    }
}

#[derive(Default, Deserialize)]
struct EntraErrorResponse {
    error: Option<String>,
    error_description: Option<String>,
    #[serde(default)]
    error_codes: Vec<u64>,
}

impl EntraErrorResponse {
    /// The number of the error: the first of `error_codes`, else what the description begins with.
    fn code(&self) -> Option<u64> {
        let description = || {
            let rest = self.error_description.as_deref()?.strip_prefix("AADSTS")?;
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            rest[..digits].parse().ok()
        };
        self.error_codes.first().copied().or_else(description)
    }
}

/// What Entra ID means by a refusal.
///
/// <https://learn.microsoft.com/entra/identity-platform/reference-error-codes>
pub(crate) fn explain(call: &AzureCall<'_>, reply: &Reply, proof: ClientProof<'_>) -> MintError {
    let refusal: EntraErrorResponse = serde_json::from_slice(&reply.body).unwrap_or_default();
    let words = refusal
        .error_description
        .as_deref()
        .or(refusal.error.as_deref());
    let words = words.unwrap_or_default();
    if matches!(reply.status, 429 | 500..=599) {
        return call.explain_status(reply, words);
    }
    let Some(code) = refusal.code() else {
        return call.explain_status(reply, words);
    };
    let host = call.host.clone();
    let principal = call.principal.to_owned();
    match advise(code, proof) {
        Some(advice) => MintError::UnrecognizedClient {
            host,
            principal,
            code: format!("AADSTS{code}"),
            advice,
        },
        None => MintError::Refused {
            host,
            principal,
            code: format!("AADSTS{code}"),
            answer: call.words(words),
            retry_after: reply.retry_after,
        },
    }
}

/// What to do about an error, when it is known.
fn advise(code: u64, proof: ClientProof<'_>) -> Option<&'static str> {
    Some(match (code, proof) {
        (700_016 | 7_000_229, _) => {
            "check the client id, and that the application has a service principal in that tenant"
        }
        (90_002 | 900_023 | 90_133, _) => {
            "check the tenant id, and that it is of the cloud that the authority belongs to"
        }
        (70_021 | 700_211 | 700_212 | 700_213 | 7_002_138, _) => {
            "give the application a federated credential with exactly this issuer, subject and audience; a new one takes some minutes"
        }
        (90_061 | 50_166 | 5_002_711, ClientProof::Assertion(_)) => {
            "let Entra ID read the cluster's issuer: its /.well-known/openid-configuration and keys must be on the internet"
        }
        (700_024 | 50_027 | 5_002_730 | 50_013 | 700_027, ClientProof::Assertion(_)) => {
            "check the clocks, that the ServiceAccount token is fresh, and that the issuer publishes the keys that signed it"
        }
        (7_000_215 | 7_000_216 | 50_012, ClientProof::Secret(_)) => {
            "put the value of a client secret of that application (not its id) into AZURE_CLIENT_SECRET of the source secret"
        }
        (7_000_222, ClientProof::Secret(_)) => {
            "the client secret has expired: make a new one and put it into AZURE_CLIENT_SECRET of the source secret"
        }
        (7_000_112, _) => "the application is disabled: enable it in Entra ID",
        (500_011, _) => {
            "the tenant does not know Azure Container Registry as a resource: register the provider Microsoft.ContainerRegistry in it, or set acr.endpoints.resource"
        }
        (53_003 | 53_000 | 530_032, _) => "let the tenant's conditional access policies admit it",
        _ => return None,
    })
}

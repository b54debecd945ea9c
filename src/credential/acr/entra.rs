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

use super::client::{Client, bad_json, check_token, host_of};
use super::transport::Transport;
use crate::credential::answers::{Service, Signer};
use crate::credential::cloud::unlogged;
use crate::credential::http::Reply;
use crate::credential::one_line::one_line;
use crate::credential::outgoing::{Assertion, Sent, of_azure, to_azure};
use crate::credential::service_call::{AnswerHead, ServiceCall};
use crate::credential::{MintError, answer_words};

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
    /// Who answers there: Entra ID, or the proxy of AKS' identity bindings.
    pub(super) service: Service,
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
    fn signer(self) -> Signer {
        match self {
            Self::Assertion(_) => Signer::Assertion,
            Self::Secret(_) => Signer::Secret,
        }
    }

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
    let call = ServiceCall {
        service: application.service,
        host: host_of(&url),
        principal: &application.principal,
        signer: Some(proof.signer()),
        permission: "",
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
        Ok(Err(_)) => return Err(explain_lack(&call, transport.take_answer())),
        Err(_) => return Err(MintError::Timeout { host: call.host }),
    };
    let token = check_token(&call, Some(of_azure(&token)))?;
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
fn explain_lack(call: &ServiceCall<'_>, answer: Option<Result<Reply, MintError>>) -> MintError {
    match answer {
        Some(Ok(reply)) if reply.status == 200 => bad_json(call, &reply),
        Some(Ok(reply)) => explain(call, &reply),
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
pub(crate) fn explain(call: &ServiceCall<'_>, reply: &Reply) -> MintError {
    let refusal: EntraErrorResponse = serde_json::from_slice(&reply.body).unwrap_or_default();
    let code = refusal.code().map(|code| format!("AADSTS{code}"));
    let words = refusal.error_description.or(refusal.error);
    // What stands between, such as AKS' proxy, has a form of its own.
    let words = words.unwrap_or_else(|| answer_words::read_body(&reply.body).text);
    let Some(code) = code else {
        return call.explain_as(AnswerHead::of(reply), "", &words);
    };
    // Whoever hands it on: only Entra ID numbers its errors so.
    let call = ServiceCall {
        service: Service::Entra,
        ..call.clone()
    };
    call.explain_as(AnswerHead::of(reply), &code, &words)
}

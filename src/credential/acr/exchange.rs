//! The login server's own tokens for a token of Entra ID.

use secrecy::SecretString;
use serde::Deserialize;

use super::client::{AzureCall, Client};
use super::entra::EntraToken;
use crate::credential::MintError;
use crate::credential::http::Reply;
use crate::credential::outgoing::{FormBody, Sent};
use crate::registry::source::AcrSource;

/// Exchanges the token of Entra ID for one of the registry: a refresh token, or an access token of the source's scopes. Its only
/// receiver is the login server; what that says about other places (a challenge's realm, a redirect) is never followed.
///
/// <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>
pub(super) async fn fetch(
    client: &Client,
    source: &AcrSource,
    token: &EntraToken,
) -> Result<SecretString, MintError> {
    let server = source.server.as_str();
    let call = |secret| AzureCall {
        host: server.to_owned(),
        principal: &token.principal,
        sent: Sent::Text(secret),
    };
    let mut form = vec![("grant_type", "access_token"), ("service", server)];
    form.extend(token.tenant_id.as_deref().map(|tenant| ("tenant", tenant)));
    let form = FormBody::new(&form).with_secret("access_token", &token.value);
    let url = format!("https://{server}/oauth2/exchange");
    let reply = client.post(&url, form).await?;
    let refresh_token = read(&call(&token.value), &reply, |answer| answer.refresh_token)?;
    if source.scopes.is_empty() {
        return Ok(refresh_token);
    }
    let mut form = vec![("grant_type", "refresh_token"), ("service", server)];
    form.extend(source.scopes.iter().map(|scope| ("scope", scope.as_str())));
    let form = FormBody::new(&form).with_secret("refresh_token", &refresh_token);
    let url = format!("https://{server}/oauth2/token");
    let reply = client.post(&url, form).await?;
    read(&call(&refresh_token), &reply, |answer| answer.access_token)
}

#[derive(Deserialize)]
pub(crate) struct ExchangeResponse {
    pub(crate) refresh_token: Option<String>,
    access_token: Option<String>,
}

pub(crate) fn read(
    call: &AzureCall<'_>,
    reply: &Reply,
    field: impl FnOnce(ExchangeResponse) -> Option<String>,
) -> Result<SecretString, MintError> {
    if reply.status != 200 {
        return Err(explain(call, reply));
    }
    call.check_token(field(call.parse(reply)?).map(SecretString::from))
}

/// What a login server means by a refusal.
fn explain(call: &AzureCall<'_>, reply: &Reply) -> MintError {
    #[derive(Default, Deserialize)]
    struct AcrErrorResponse {
        #[serde(default)]
        errors: Vec<Detail>,
    }
    #[derive(Default, Deserialize)]
    struct Detail {
        message: Option<String>,
    }
    let refusal: AcrErrorResponse = serde_json::from_slice(&reply.body).unwrap_or_default();
    let words = refusal.errors.into_iter().find_map(|detail| detail.message);
    let words = words.unwrap_or_default();
    let denied = |permission, advice| MintError::AccessDenied {
        host: call.host.clone(),
        permission,
        principal: call.principal.to_owned(),
        advice,
        answer: if words.is_empty() {
            format!("HTTP {}", reply.status)
        } else {
            call.words(&words)
        },
    };
    match reply.status {
        401 => denied(
            "AcrPull",
            "assign it the role AcrPull on the registry (Container Registry Repository Reader where the registry has repository permissions) and check that the registry trusts its tenant; a new assignment takes some minutes",
        ),
        403 => denied(
            "network access",
            "let the registry's network rules admit the address that pullpass calls from, or use its private endpoint",
        ),
        404 => MintError::Refused {
            host: call.host.clone(),
            principal: call.principal.to_owned(),
            code: "HTTP 404".to_owned(),
            answer: "there is no such registry: check the host in the Registry's images".to_owned(),
            retry_after: None,
        },
        _ => call.explain_status(reply, &words),
    }
}

//! The login server's own tokens for a token of Entra ID.

use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::client::{self, Client, check_token};
use super::entra::EntraToken;
use crate::credential::MintError;
use crate::credential::answers::Service;
use crate::credential::http::Reply;
use crate::credential::service_call::ServiceCall;
use crate::registry::source::AcrSource;

/// Exchanges the token of Entra ID for one of the registry: a refresh token, or an access token of the source's scopes. Its only
/// receiver is the login server; what that says about other places (a challenge's realm, a redirect) is never followed.
///
/// <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>
pub(super) async fn fetch(
    client: &Client,
    source: &AcrSource,
    token: &EntraToken,
) -> Result<String, MintError> {
    let server = source.server.as_str();
    let access_token = token.value.expose_secret();
    let mut form = vec![
        ("grant_type", "access_token"),
        ("service", server),
        ("access_token", access_token),
    ];
    if let Some(tenant) = &token.tenant_id {
        form.push(("tenant", tenant));
    }
    let call = |secret| ServiceCall {
        service: Service::Acr,
        host: server.to_owned(),
        principal: &token.principal,
        signer: None,
        permission: "AcrPull",
        secret,
    };
    let reply = client
        .post(&format!("https://{server}/oauth2/exchange"), &form)
        .await?;
    let refresh_token = read(&call(access_token), &reply, |answer| answer.refresh_token)?;
    if source.scopes.is_empty() {
        return Ok(refresh_token);
    }
    let mut form = vec![
        ("grant_type", "refresh_token"),
        ("service", server),
        ("refresh_token", &refresh_token),
    ];
    form.extend(source.scopes.iter().map(|scope| ("scope", scope.as_str())));
    let reply = client
        .post(&format!("https://{server}/oauth2/token"), &form)
        .await?;
    read(&call(&refresh_token), &reply, |answer| answer.access_token)
}

#[derive(Deserialize)]
pub(crate) struct ExchangeResponse {
    pub(crate) refresh_token: Option<String>,
    access_token: Option<String>,
}

pub(crate) fn read(
    call: &ServiceCall<'_>,
    reply: &Reply,
    field: impl FnOnce(ExchangeResponse) -> Option<String>,
) -> Result<String, MintError> {
    if reply.status != 200 {
        return Err(call.explain(reply));
    }
    check_token(call, field(client::parse(call, reply)?))
}

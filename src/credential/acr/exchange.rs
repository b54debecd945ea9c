//! The login server's own tokens for a token of Entra ID.

use secrecy::SecretString;
use serde::Deserialize;

use super::client::{self, Client, check_token};
use super::entra::EntraToken;
use crate::credential::MintError;
use crate::credential::answers::Service;
use crate::credential::http::Reply;
use crate::credential::outgoing::{FormBody, Sent};
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
) -> Result<SecretString, MintError> {
    let server = source.server.as_str();
    let call = |secret| ServiceCall {
        service: Service::Acr,
        host: server.to_owned(),
        principal: &token.principal,
        signer: None,
        permission: "AcrPull",
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
    call: &ServiceCall<'_>,
    reply: &Reply,
    field: impl FnOnce(ExchangeResponse) -> Option<String>,
) -> Result<SecretString, MintError> {
    if reply.status != 200 {
        return Err(call.explain(reply));
    }
    let token = field(client::parse(call, reply)?);
    check_token(call, token.map(SecretString::from))
}

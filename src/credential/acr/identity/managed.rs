//! Managed identity: instance metadata, or AAD Pod Identity's agent (NMI) that answers in its place.

use secrecy::SecretString;
use serde::Deserialize;

use super::super::entra::EntraToken;
use crate::credential::acr::AzureEnvironment;
use crate::credential::acr::client::{AzureCall, Client, EntraTokenResponse, host_of};
use crate::credential::http::{Reply, one_line};
use crate::credential::outgoing::{FormBody, Sent};
use crate::credential::{MintError, jwt};
use crate::registry::guid::is_guid;
use crate::registry::source::ManagedIdentity;

const HOST: &str = "http://169.254.169.254";
const PATH: &str = "/metadata/identity/oauth2/token";
/// What AAD Pod Identity understands, too.
const API_VERSION: &str = "2018-02-01";

/// Asks instance metadata for a token.
///
/// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>
pub(super) async fn fetch(
    client: &Client,
    identity: &ManagedIdentity,
    resource: &str,
    environment: &AzureEnvironment,
) -> Result<EntraToken, MintError> {
    let base = environment.metadata_host.as_deref().unwrap_or(HOST);
    let base = base.trim_end_matches('/');
    let mut query = vec![("api-version", API_VERSION), ("resource", resource)];
    let principal = match identity {
        ManagedIdentity::System => "the system-assigned managed identity".to_owned(),
        ManagedIdentity::Client(id) => {
            query.push(("client_id", id));
            format!("managed identity {id}")
        }
        ManagedIdentity::Resource(id) => {
            query.push(("msi_res_id", id));
            format!("managed identity {id}")
        }
    };
    let url = format!("{base}{PATH}?{}", FormBody::new(&query).encode());
    let call = AzureCall {
        host: host_of(&url),
        principal: &principal,
        sent: Sent::Nothing,
    };
    let reply = match client.get(&url, &[("metadata", "true")]).await {
        Err(MintError::Timeout { host }) => {
            return Err(none(format!(
                "{host} does not answer: on a node of Azure let the Pods reach instance metadata (network policies); with AAD Pod Identity wait until the identity is assigned, or check that pullpass' Pods carry the label aadpodidbinding of an AzureIdentityBinding's selector"
            )));
        }
        answer => answer?,
    };
    if reply.status != 200 {
        return Err(explain(&call, &reply));
    }
    token(&call, &reply)
}

fn token(call: &AzureCall<'_>, reply: &Reply) -> Result<EntraToken, MintError> {
    #[derive(Deserialize)]
    struct ManagedIdentityClaims {
        appid: Option<String>,
        oid: Option<String>,
        tid: Option<String>,
    }
    let answer: EntraTokenResponse = call.parse(reply)?;
    let token = call.check_token(answer.access_token.map(SecretString::from))?;
    let claims: Option<ManagedIdentityClaims> = jwt::claims(&token);
    let known = |id: Option<String>| id.filter(|id| is_guid(id));
    let (client_id, object_id, tenant_id) = claims.map_or((None, None, None), |claims| {
        (known(claims.appid), known(claims.oid), known(claims.tid))
    });
    let principal = match (client_id, object_id) {
        (Some(client), Some(object)) => format!("managed identity {client} (object {object})"),
        _ => call.principal.to_owned(),
    };
    Ok(EntraToken {
        value: token,
        tenant_id,
        principal,
    })
}

/// What instance metadata, or AAD Pod Identity, means by a refusal.
///
/// <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token#error-handling>
/// <https://github.com/Azure/aad-pod-identity/blob/master/pkg/nmi/server/server.go>
pub(crate) fn explain(call: &AzureCall<'_>, reply: &Reply) -> MintError {
    #[derive(Deserialize, Default)]
    struct ImdsResponse {
        error: Option<String>,
        error_description: Option<String>,
    }
    let answer: ImdsResponse = serde_json::from_slice(&reply.body).unwrap_or_default();
    let description = answer.error_description.unwrap_or_default();
    let words = format!("{} {description}", answer.error.unwrap_or_default());
    let words = one_line(words.trim());
    let (host, principal) = (&call.host, call.principal);
    match reply.status {
        400 if description.contains("Identity not found") => none(format!(
            "{host} does not know {principal} (Identity not found): assign it to the node's virtual machine scale set; with AAD Pod Identity it may still be being assigned, it is tried again"
        )),
        400 => none(format!(
            "{host} refuses the request for {principal} ({words}): check acr.identity.managedIdentity"
        )),
        // NMI answers in plain text here.
        404 => none(format!(
            "{host} has no identity for this Pod: with AAD Pod Identity label pullpass' Pods aadpodidbinding as the AzureIdentityBinding's selector says, and check that its AzureIdentity exists; on a node of Azure it is tried again"
        )),
        403 => none(format!(
            "{host} gets no token for {principal}: check the AzureIdentity's client id and that the node may use the identity (Managed Identity Operator)"
        )),
        410 => MintError::Refused {
            host: host.clone(),
            principal: principal.to_owned(),
            code: "HTTP 410".to_owned(),
            answer: "instance metadata is being updated, retrying".to_owned(),
            retry_after: reply.retry_after,
        },
        _ => call.explain_status(reply, &words),
    }
}

fn none(problem: String) -> MintError {
    MintError::NoIdentity {
        identity: "managed",
        problem,
    }
}

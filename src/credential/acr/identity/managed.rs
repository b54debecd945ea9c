//! Managed identity: instance metadata, or the agent (NMI) of AAD Pod Identity, which is retired, in its place.

use secrecy::SecretString;
use serde::Deserialize;

use super::super::entra::EntraToken;
use crate::credential::acr::AzureEnvironment;
use crate::credential::acr::client::{self, Client, EntraTokenResponse, check_token, host_of};
use crate::credential::answers::Service;
use crate::credential::http::Reply;
use crate::credential::outgoing::{FormBody, Sent};
use crate::credential::service_call::ServiceCall;
use crate::credential::{MintError, jwt};
use crate::registry::guid::is_guid;
use crate::registry::source::ManagedIdentity;

const HOST: &str = "http://169.254.169.254";
const PATH: &str = "/metadata/identity/oauth2/token";
/// What AAD Pod Identity understands, too.
const API_VERSION: &str = "2018-02-01";

/// Asks instance metadata for a token, or AAD Pod Identity's agent (NMI) in its place.
///
/// <https://github.com/Azure/aad-pod-identity/blob/master/pkg/nmi/server/server.go>,
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
    let call = ServiceCall {
        service: Service::Imds,
        host: host_of(&url),
        principal: &principal,
        signer: None,
        permission: "",
        sent: Sent::Nothing,
    };
    let reply = match client.get(&url, &[("metadata", "true")]).await {
        Err(MintError::Timeout { host }) => {
            return Err(none(format!(
                "{host} does not answer: on a node of Azure let the Pods reach instance metadata (network policies); with AAD Pod Identity (retired, use acr.identity.workload) wait until the identity is assigned, or check that pullpass' Pods carry the label aadpodidbinding of an AzureIdentityBinding's selector"
            )));
        }
        answer => answer?,
    };
    if reply.status != 200 {
        return Err(call.explain(&reply));
    }
    token(&call, &reply)
}

fn token(call: &ServiceCall<'_>, reply: &Reply) -> Result<EntraToken, MintError> {
    #[derive(Deserialize)]
    struct ManagedIdentityClaims {
        appid: Option<String>,
        oid: Option<String>,
        tid: Option<String>,
    }
    let answer: EntraTokenResponse = client::parse(call, reply)?;
    let token = check_token(call, answer.access_token.map(SecretString::from))?;
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

fn none(problem: String) -> MintError {
    MintError::NoIdentity {
        identity: "managed",
        problem,
    }
}

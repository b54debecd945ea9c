//! Who asks: each identity gets one token of Entra ID for one mint. Nothing falls back from one identity to another.

pub(crate) mod managed;

use std::path::Path;

use secrecy::SecretString;
use serde::Deserialize;

use super::client::Client;
use super::entra::{self, ClientProof, EntraApplication, EntraToken};
use super::token_proxy::{self, TokenProxy};
use super::{AcrMintRequest, AzureEnvironment, ClientSecret, authority_of, resource_of};
use crate::credential::answers::Service;
use crate::credential::identity::{load_token, tenant};
use crate::credential::one_line::one_line;
use crate::credential::{MintError, ServiceAccountTokens, TenantError, jwt};
use crate::names::ObjectName;
use crate::registry::guid::is_guid;
use crate::registry::source::{AcrIdentity, AcrSource, Tenant};

/// Where a ServiceAccount says its tenant.
const AZURE_TENANT_ANNOTATION: &str = "azure.workload.identity/tenant-id";

/// What identities are made of.
#[derive(Clone, Copy)]
pub(super) struct IdentityInputs<'a> {
    pub(super) environment: &'a AzureEnvironment,
    pub(super) tokens: Option<&'a dyn ServiceAccountTokens>,
}

/// Gets the token that one mint begins with.
pub(super) async fn fetch(
    client: &Client,
    order: &AcrMintRequest,
    given: IdentityInputs<'_>,
) -> Result<EntraToken, MintError> {
    let source = &order.source;
    match &source.identity {
        AcrIdentity::Workload {
            client_id,
            tenant_id,
        } => {
            let own = OwnApplication::find(
                client_id.as_deref(),
                tenant_id.as_deref(),
                given.environment,
            )?;
            own.fetch(client, source).await
        }
        AcrIdentity::Managed(identity) => {
            managed::fetch(client, identity, resource_of(source), given.environment).await
        }
        AcrIdentity::Tenant {
            tenant,
            client_id,
            tenant_id,
            audience,
        } => {
            let tenant_id = tenant_of(tenant, tenant_id.as_deref(), given.environment)?;
            let token = tenant::fetch_token(given.tokens, tenant, audience, client.deadline);
            let application = (client_id.as_str(), tenant_id);
            let proxy = match audience.as_str() {
                token_proxy::AUDIENCE => proxy_of(source, given.environment)?,
                _ => None,
            };
            let token = token.await?;
            let authority = given_authority(source);
            federate(client, source, application, &token, authority, proxy).await
        }
        AcrIdentity::ServiceAccount { name, .. } => Err(TenantError::Unbound {
            service_account: name.to_string(),
        }
        .into()),
        AcrIdentity::ServicePrincipal {
            tenant_id,
            client_id,
            secret: name,
        } => {
            let secret = secret_of(order, name)?;
            prove(client, source, (client_id, tenant_id), secret).await
        }
    }
}

fn secret_of<'a>(
    order: &'a AcrMintRequest,
    name: &ObjectName,
) -> Result<&'a ClientSecret, MintError> {
    let missing = || MintError::MissingSource {
        secret: name.to_string(),
    };
    order.secret.as_ref().ok_or_else(missing)
}

/// The tenant of Entra ID of a namespace's ServiceAccount: pullpass' own where nobody says which.
fn tenant_of<'a>(
    tenant: &Tenant,
    tenant_id: Option<&'a str>,
    environment: &'a AzureEnvironment,
) -> Result<&'a str, TenantError> {
    let own = || environment.tenant_id.as_deref().filter(|id| is_guid(id));
    let missing = || TenantError::MissingAnnotation {
        namespace: tenant.namespace.to_string(),
        service_account: tenant.service_account.to_string(),
        annotation: AZURE_TENANT_ANNOTATION,
    };
    tenant_id.or_else(own).ok_or_else(missing)
}

/// Who gives tokens instead of Entra ID's authority, unless the Registry says one of its own.
fn proxy_of<'a>(
    source: &AcrSource,
    environment: &'a AzureEnvironment,
) -> Result<Option<TokenProxy<'a>>, MintError> {
    if source.endpoints.authority.is_some() {
        return Ok(None);
    }
    TokenProxy::find(&environment.token_proxy)
}

/// By a token of a ServiceAccount, as an application (client id and tenant id) that trusts it; asked of this authority, or of the proxy in
/// its place.
async fn federate(
    client: &Client,
    source: &AcrSource,
    (client_id, tenant_id): (&str, &str),
    token: &SecretString,
    authority: &str,
    proxy: Option<TokenProxy<'_>>,
) -> Result<EntraToken, MintError> {
    let application = EntraApplication {
        authority: proxy.as_ref().map_or(authority, TokenProxy::authority),
        service: match proxy {
            Some(_) => Service::Bindings,
            None => Service::Entra,
        },
        tenant_id,
        client_id,
        resource: resource_of(source),
        principal: federated(client_id, tenant_id, token),
    };
    let proof = ClientProof::Assertion(token);
    let Some(proxy) = &proxy else {
        return entra::fetch(client, application, proof).await;
    };
    let client = proxy.connect(client).await?;
    let fetched = entra::fetch(&client, application, proof).await;
    fetched.map_err(|error| proxy.explain(error))
}

/// By a client secret, as an application (client id and tenant id).
async fn prove(
    client: &Client,
    source: &AcrSource,
    (client_id, tenant_id): (&str, &str),
    secret: &ClientSecret,
) -> Result<EntraToken, MintError> {
    let name = &secret.secret;
    let application = EntraApplication {
        authority: given_authority(source),
        service: Service::Entra,
        tenant_id,
        client_id,
        resource: resource_of(source),
        principal: format!(
            "service principal {client_id} of tenant {tenant_id} by source secret {name}"
        ),
    };
    let proof = ClientProof::Secret(&secret.value);
    entra::fetch(client, application, proof).await
}

/// The Registry's own authority, else its cloud's.
fn given_authority(source: &AcrSource) -> &str {
    let given = source.endpoints.authority.as_deref();
    given.unwrap_or_else(|| authority_of(source.cloud))
}

/// pullpass' own workload identity.
struct OwnApplication<'a> {
    client_id: &'a str,
    tenant_id: &'a str,
    file: &'a Path,
    /// The authority of the environment's tenant, unless the Registry names another tenant.
    authority: Option<&'a str>,
    environment: &'a AzureEnvironment,
}

impl<'a> OwnApplication<'a> {
    fn find(
        client_id: Option<&'a str>,
        tenant_id: Option<&'a str>,
        environment: &'a AzureEnvironment,
    ) -> Result<Self, MintError> {
        let file = environment.federated_token_file.as_deref().ok_or_else(|| none(
            "AZURE_FEDERATED_TOKEN_FILE is not set: set identity.azure.clientId and tenantId of the chart, or label pullpass' Pods azure.workload.identity/use=true and restart them, or set another acr.identity in the Registry",
        ))?;
        let is_own_tenant = tenant_id.is_none();
        let client_id = client_id.or(environment.client_id.as_deref()).ok_or_else(|| none(
            "AZURE_CLIENT_ID is not set: set identity.azure.clientId of the chart, or annotate pullpass' ServiceAccount with azure.workload.identity/client-id and restart it, or give acr.identity.workload.clientId",
        ))?;
        let tenant_id = tenant_id.or(environment.tenant_id.as_deref()).ok_or_else(|| none(
            "AZURE_TENANT_ID is not set: set identity.azure.tenantId of the chart, check the webhook of Azure workload identity, or give acr.identity.workload.tenantId",
        ))?;
        for (name, id) in [
            ("AZURE_CLIENT_ID", client_id),
            ("AZURE_TENANT_ID", tenant_id),
        ] {
            if !is_guid(id) {
                return Err(none(&format!(
                    "{name} is no id of the form 00000000-0000-0000-0000-000000000000: correct it"
                )));
            }
        }
        Ok(Self {
            client_id,
            tenant_id,
            file,
            authority: environment
                .authority_host
                .as_deref()
                .filter(|_| is_own_tenant)
                .map(|authority| authority.trim_end_matches('/')),
            environment,
        })
    }

    async fn fetch(&self, client: &Client, source: &AcrSource) -> Result<EntraToken, MintError> {
        let token = load_token(self.file).await?;
        let (authority, proxy) = (self.authority(source)?, proxy_of(source, self.environment)?);
        let application = (self.client_id, self.tenant_id);
        federate(client, source, application, &token, authority, proxy).await
    }

    fn authority<'s>(&self, source: &'s AcrSource) -> Result<&'s str, MintError>
    where
        'a: 's,
    {
        match (&source.endpoints.authority, self.authority) {
            (None, Some(authority)) if authority.starts_with("https://") => Ok(authority),
            (None, Some(_)) => Err(none("AZURE_AUTHORITY_HOST is not https: correct it")),
            _ => Ok(given_authority(source)),
        }
    }
}

fn none(problem: &str) -> MintError {
    MintError::NoIdentity {
        identity: "workload",
        problem: problem.to_owned(),
    }
}

/// Who asks by a ServiceAccount token, for people.
fn federated(client_id: &str, tenant_id: &str, token: &SecretString) -> String {
    let whose = describe(token);
    format!("application {client_id} of tenant {tenant_id} by federation with {whose}")
}

/// Whom a ServiceAccount token is of, by whom and for whom, not verified: what a federated credential must name.
fn describe(token: &SecretString) -> String {
    #[derive(Deserialize)]
    struct AssertionClaims {
        sub: String,
        iss: String,
    }
    let Some(claims) = jwt::claims::<AssertionClaims>(token) else {
        return "a token that cannot be read".to_owned();
    };
    one_line(&format!(
        "{} (issuer {}, audience {})",
        claims.sub,
        claims.iss,
        jwt::audiences(token).join(" ")
    ))
}

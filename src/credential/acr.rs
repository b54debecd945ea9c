//! Tokens of Azure Container Registry: a token of Entra ID for the identity, exchanged at the login server.

mod caller;
pub(crate) mod client;
pub(crate) mod entra;
pub(crate) mod exchange;
pub(crate) mod identity;
mod secret;
pub(crate) mod token_expiry;
mod token_proxy;
mod transport;

use std::path::PathBuf;

use jiff::Timestamp;
use tokio::time::Instant;

use super::cloud::{CloudMint, unlogged};
use super::{Credential, MintError};
use crate::registry::host::{AzureCloud, is_login_server};
use crate::registry::source::AcrSource;
pub use caller::EntraCaller;
use client::Client;
pub use secret::ClientSecret;
pub use token_proxy::TokenProxyEnvironment;

/// The user name that goes with a token of Azure Container Registry.
///
/// <https://learn.microsoft.com/azure/container-registry/container-registry-authentication>
pub const USERNAME: &str = "00000000-0000-0000-0000-000000000000";

/// Whom a token of Entra ID must be for: accepted by registries in every cloud, also where they refuse tokens for the resource
/// manager.
///
/// <https://learn.microsoft.com/azure/container-registry/container-registry-disable-authentication-as-arm>
const RESOURCE: &str = "https://containerregistry.azure.net";

/// What the process's environment says about its own identity, as Azure's webhook for workload identity sets it. Read once, where
/// the program is put together.
///
/// <https://azure.github.io/azure-workload-identity/docs/quick-start.html>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureEnvironment {
    /// `AZURE_CLIENT_ID`, the application or managed identity.
    pub client_id: Option<String>,
    /// `AZURE_TENANT_ID`, its tenant.
    pub tenant_id: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`, the ServiceAccount token.
    pub federated_token_file: Option<PathBuf>,
    /// `AZURE_AUTHORITY_HOST`, who gives tokens to that tenant.
    pub authority_host: Option<String>,
    /// `AZURE_POD_IDENTITY_AUTHORITY_HOST`, where instance metadata answers; `http://169.254.169.254` when it is not set.
    pub metadata_host: Option<String>,
    /// Who gives Entra ID's tokens instead of that authority, with AKS identity bindings.
    pub token_proxy: TokenProxyEnvironment,
}

impl AzureEnvironment {
    /// Finds the settings by asking `lookup` for each variable; an empty one counts as not set.
    pub fn find(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let find = |name| lookup(name).filter(|value| !value.is_empty());
        Self {
            client_id: find("AZURE_CLIENT_ID"),
            tenant_id: find("AZURE_TENANT_ID"),
            federated_token_file: find("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from),
            authority_host: find("AZURE_AUTHORITY_HOST"),
            metadata_host: find("AZURE_POD_IDENTITY_AUTHORITY_HOST"),
            token_proxy: TokenProxyEnvironment::find(find),
        }
    }
}

/// What is to be minted.
#[derive(Clone, Debug)]
pub struct AcrMintRequest {
    /// What decides the credential.
    pub source: AcrSource,
    /// The client secret, when the identity is [`crate::registry::source::AcrIdentity::ServicePrincipal`].
    pub secret: Option<ClientSecret>,
    /// The present.
    pub now: Timestamp,
}

/// Mints tokens of Azure Container Registry.
///
/// <https://github.com/Azure/acr/blob/main/docs/AAD-OAuth.md>
pub type AcrMint = CloudMint<AzureEnvironment>;

impl AcrMint {
    /// Mints one token, within [`super::MintTimeouts::mint`].
    ///
    /// # Errors
    /// [`MintError`] says why not; what was minted before stays good.
    pub async fn mint(&self, order: AcrMintRequest) -> Result<Credential, MintError> {
        unlogged(self.run(&order)).await
    }

    async fn run(&self, order: &AcrMintRequest) -> Result<Credential, MintError> {
        let source = &order.source;
        check_source(source)?;
        let client = self.client();
        let token = identity::fetch(&client, order, self.given()).await?;
        let password = exchange::fetch(&client, source, &token).await?;
        let expires_at = token_expiry::find_expiry(&password, order.now)
            .map_err(|unusable| unusable.of(source.server.clone()))?;
        Ok(Credential {
            username: USERNAME.to_owned(),
            password,
            minted_at: order.now,
            expires_at,
            principal: token.principal,
        })
    }

    fn client(&self) -> Client {
        Client {
            http: self.http.clone(),
            deadline: Instant::now() + self.timeouts.mint,
            timeouts: self.timeouts,
        }
    }

    fn given(&self) -> identity::IdentityInputs<'_> {
        identity::IdentityInputs {
            environment: &self.environment,
            tokens: self.tokens.as_deref(),
        }
    }
}

/// A token goes to nobody but a login server, and comes over https. The Registry's validation says so first; this holds for every
/// caller.
fn check_source(source: &AcrSource) -> Result<(), MintError> {
    let endpoints = &source.endpoints;
    let problem = if !is_login_server(&source.server, endpoints.login_server_suffix.as_deref()) {
        format!("{:?} is no login server", source.server)
    } else if let Some(authority) = endpoints.authority.as_deref()
        && !authority.starts_with("https://")
    {
        format!("the authority {authority:?} is not https")
    } else {
        return Ok(());
    };
    Err(MintError::Configuration { problem })
}

/// Who gives tokens in a cloud.
///
/// <https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud>
fn authority_of(cloud: AzureCloud) -> &'static str {
    match cloud {
        AzureCloud::Public => "https://login.microsoftonline.com",
        AzureCloud::UsGov => "https://login.microsoftonline.us",
        AzureCloud::China => "https://login.chinacloudapi.cn",
        AzureCloud::Germany => "https://login.microsoftonline.de",
    }
}

/// Whom the token of Entra ID is to be for.
fn resource_of(source: &AcrSource) -> &str {
    source.endpoints.resource.as_deref().unwrap_or(RESOURCE)
}

#[cfg(test)]
mod tests;

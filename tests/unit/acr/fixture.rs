//! An Azure that refuses what Azure refuses, and mints over it.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use pullpass::credential::acr::{
    AcrMint, AcrMintRequest, AzureEnvironment, ClientSecret, TokenProxyEnvironment,
};
use pullpass::credential::http::{HttpClient, ProxyConfig};
use pullpass::credential::{
    Credential, MintError, MintTimeouts, ServiceAccountTokens, TenantError,
};
use pullpass::registry::host::AzureCloud;
use pullpass::registry::source::{AcrEndpoints, AcrIdentity, AcrSource, ManagedIdentity, Tenant};
use secrecy::{ExposeSecret as _, SecretString};

use super::support::azure::token::claims;
use super::support::azure::{Application, Azure, Federated, USERNAME};
use super::support::jwt::Issuer;
use super::support::names::name;
use super::support::source::Secrets;

pub(super) const TENANT: &str = "11111111-1111-1111-1111-111111111111";
pub(super) const APP: &str = "22222222-2222-2222-2222-222222222220";
pub(super) const OTHER: &str = "33333333-3333-3333-3333-333333333330";
pub(super) const RESOURCE_ID: &str = "/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/pull";
pub(super) const SERVER: &str = "myreg.azurecr.io";
pub(super) const SUBJECT: &str = "system:serviceaccount:pullpass:pullpass";
pub(super) const AUDIENCE: &str = "api://AzureADTokenExchange";
pub(super) const SECRET: &str = "canary~client+secret/&=%";

/// Azure with one application that may pull from one registry, by federation with pullpass' ServiceAccount or by a client secret.
pub(super) struct Fixture {
    pub(super) azure: Azure,
    pub(super) issuer: Arc<Issuer>,
    folder: tempfile::TempDir,
}

impl Fixture {
    pub(super) async fn new() -> Self {
        let azure = Azure::start().await;
        let issuer = Arc::new(Issuer::new("https://issuer.example"));
        let federated = Federated {
            issuer: issuer.url.clone(),
            subject: SUBJECT.to_owned(),
            audience: AUDIENCE.to_owned(),
        };
        for client_id in [APP, OTHER] {
            let application = Application {
                client_id: client_id.to_owned(),
                secrets: vec![(SECRET.to_owned(), true), ("canary-old".to_owned(), false)],
                federated: vec![federated.clone()],
            };
            azure.add_application(TENANT, application);
        }
        azure.add_server(SERVER, TENANT, &[APP]);
        {
            let mut content = azure.content();
            content.issuers.insert(issuer.url.clone(), issuer.jwks());
            TENANT.clone_into(&mut content.node.tenant_id);
        }
        Self {
            azure,
            issuer,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The environment that Azure's webhook makes, with this token.
    pub(super) fn environment(&self, token: &str) -> AzureEnvironment {
        let path = self.folder.path().join("token");
        let mut file = std::fs::File::create(&path).unwrap();
        // As some writers do.
        writeln!(file, "{token}").unwrap();
        AzureEnvironment {
            client_id: Some(APP.to_owned()),
            tenant_id: Some(TENANT.to_owned()),
            federated_token_file: Some(path),
            authority_host: Some("https://login.microsoftonline.com/".to_owned()),
            metadata_host: Some(self.azure.metadata.url.clone()),
            token_proxy: TokenProxyEnvironment::default(),
        }
    }

    pub(super) fn token(&self) -> String {
        self.issuer.token("pullpass:pullpass", AUDIENCE, 3600)
    }

    pub(super) async fn mint_with(
        &self,
        source: AcrSource,
        secret: Option<&str>,
        environment: AzureEnvironment,
    ) -> Result<Credential, MintError> {
        let proxy = ProxyConfig::https(self.azure.internet.proxy.as_str()).unwrap();
        let http = HttpClient::build(Some(self.azure.internet.ca.as_bytes()), proxy).unwrap();
        let secrets = Secrets::default();
        let secret = secret.map(|value| {
            secrets.set("principal", &[("AZURE_CLIENT_SECRET", value)]);
            ClientSecret::find("principal", &secrets).unwrap()
        });
        let order = AcrMintRequest {
            source,
            secret,
            now: Timestamp::now(),
        };
        let tokens = Arc::new(Accounts(Arc::clone(&self.issuer)));
        // Shorter than a cloud gets, so that no test waits long for one that hangs.
        let short = MintTimeouts {
            mint: Duration::from_secs(5),
            cloud: Duration::from_secs(3),
            machine: Duration::from_secs(3),
        };
        let mint = AcrMint::new(http, environment).with_tokens(tokens);
        let mint = mint.with_timeouts(short);
        mint.mint(order).await
    }

    pub(super) async fn mint(&self, identity: AcrIdentity) -> Result<Credential, MintError> {
        let secret = matches!(identity, AcrIdentity::ServicePrincipal { .. }).then_some(SECRET);
        let environment = self.environment(&self.token());
        self.mint_with(source(identity), secret, environment).await
    }

    /// Why the mint of this identity failed; no secret is in it.
    pub(super) async fn refusal(&self, identity: AcrIdentity) -> MintError {
        checked(self.mint(identity).await.unwrap_err())
    }
}

pub(super) fn checked(error: MintError) -> MintError {
    let text = format!("{error} {error:?}");
    for secret in ["canary", "eyJ"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    error
}

pub(super) fn source(identity: AcrIdentity) -> AcrSource {
    AcrSource {
        server: SERVER.to_owned(),
        cloud: AzureCloud::Public,
        identity,
        scopes: Vec::new(),
        endpoints: AcrEndpoints::default(),
    }
}

pub(super) const WORKLOAD: AcrIdentity = AcrIdentity::Workload {
    client_id: None,
    tenant_id: None,
};

pub(super) fn principal(tenant_id: &str, client_id: &str) -> AcrIdentity {
    AcrIdentity::ServicePrincipal {
        tenant_id: tenant_id.to_owned(),
        client_id: client_id.to_owned(),
        secret: name("principal"),
    }
}

pub(super) fn managed_client(client_id: &str) -> AcrIdentity {
    AcrIdentity::Managed(ManagedIdentity::Client(client_id.to_owned()))
}

#[track_caller]
pub(super) fn assert_minted(credential: &Credential, client_id: &str) {
    assert_eq!(credential.username, USERNAME);
    let claims = claims(credential.password.expose_secret());
    assert_eq!(claims["appid"], client_id);
    assert_eq!(claims["aud"], SERVER);
    assert_eq!(claims["exp"], credential.expires_at.as_second());
}

/// The ServiceAccount `pullpass` of the namespace `pullpass`, as a namespace's own; as another namespace, what keeps its token away.
pub(super) fn tenant(namespace: &str, tenant_id: &str, client_id: &str) -> AcrIdentity {
    let tenant = Tenant {
        namespace: name(namespace),
        namespace_uid: "1".to_owned(),
        service_account: name("pullpass"),
        service_account_uid: "2".to_owned(),
    };
    AcrIdentity::Tenant {
        tenant: Arc::new(tenant),
        client_id: client_id.to_owned(),
        // Nothing: the environment's.
        tenant_id: (!tenant_id.is_empty()).then(|| tenant_id.to_owned()),
        audience: AUDIENCE.to_owned(),
    }
}

/// An API server's tokens; it never answers for the namespace `hanging` and is not there for `unreachable`.
struct Accounts(Arc<Issuer>);

#[async_trait]
impl ServiceAccountTokens for Accounts {
    async fn fetch_token(
        &self,
        tenant: &Tenant,
        audience: &str,
    ) -> Result<SecretString, TenantError> {
        let account = format!("{}:{}", tenant.namespace, tenant.service_account);
        let answer = async move {
            match tenant.namespace.as_str() {
                "hanging" => std::future::pending().await,
                "unreachable" => Err(TenantError::TokenUnreachable {
                    namespace: tenant.namespace.to_string(),
                    service_account: tenant.service_account.to_string(),
                    message: "connection refused".to_owned(),
                }),
                _ => Ok(self.0.token(&account, audience, 3600).into()),
            }
        };
        answer.await
    }
}

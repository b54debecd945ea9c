//! Tokens of Azure Container Registry from an Azure that refuses what Azure refuses: every identity, and the faults of a cloud.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::panic,
    clippy::too_many_lines,
    reason = "helpers of a test may fail it"
)]

mod support;

use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use pullpass::credential::acr::{AcrMint, ClientSecret, Environment, Order};
use pullpass::credential::http::{HttpClient, ProxyConfig};
use pullpass::credential::{Credential, MintError};
use pullpass::registry::host::AzureCloud;
use pullpass::registry::source::{AcrEndpoints, AcrIdentity, AcrSource, ManagedIdentity};
use secrecy::ExposeSecret as _;
use serde_json::json;
use support::azure::metadata::PodIdentity;
use support::azure::token::claims;
use support::azure::{Application, Azure, Federated, RESOURCE, Tenant, USERNAME};
use support::internet::Reply;
use support::jwt::Issuer;
use support::moto::Secrets;

const TENANT: &str = "11111111-1111-1111-1111-111111111111";
const APP: &str = "22222222-2222-2222-2222-222222222220";
const OTHER: &str = "33333333-3333-3333-3333-333333333330";
const RESOURCE_ID: &str = "/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/pull";
const SERVER: &str = "myreg.azurecr.io";
const SUBJECT: &str = "system:serviceaccount:pullpass:pullpass";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const SECRET: &str = "canary~client+secret/&=%";

/// Azure with one application that may pull from one registry, by federation with pullpass' ServiceAccount or by a client secret.
struct Scene {
    azure: Azure,
    issuer: Issuer,
    folder: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Self {
        let azure = Azure::start().await;
        let issuer = Issuer::new("https://issuer.example");
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
    fn environment(&self, token: &str) -> Environment {
        let path = self.folder.path().join("token");
        let mut file = std::fs::File::create(&path).unwrap();
        // As some writers do.
        writeln!(file, "{token}").unwrap();
        Environment {
            client_id: Some(APP.to_owned()),
            tenant_id: Some(TENANT.to_owned()),
            federated_token_file: Some(path),
            authority_host: Some("https://login.microsoftonline.com/".to_owned()),
            metadata_host: Some(self.azure.metadata.url.clone()),
        }
    }

    fn token(&self) -> String {
        self.issuer.token("pullpass:pullpass", AUDIENCE, 3600)
    }

    async fn mint_with(
        &self,
        source: AcrSource,
        secret: Option<&str>,
        environment: Environment,
    ) -> Result<Credential, MintError> {
        let proxy = ProxyConfig::https(self.azure.internet.proxy.as_str()).unwrap();
        let http = HttpClient::build(Some(self.azure.internet.ca.as_bytes()), proxy).unwrap();
        let secrets = Secrets::default();
        let secret = secret.map(|value| {
            secrets.set("principal", &[("AZURE_CLIENT_SECRET", value)]);
            ClientSecret::find("principal", &secrets).unwrap()
        });
        let order = Order {
            source,
            secret,
            now: Timestamp::now(),
        };
        AcrMint::new(http, environment).mint(order).await
    }

    async fn mint(&self, identity: AcrIdentity) -> Result<Credential, MintError> {
        let secret = matches!(identity, AcrIdentity::ServicePrincipal { .. }).then_some(SECRET);
        let environment = self.environment(&self.token());
        self.mint_with(source(identity), secret, environment).await
    }

    /// Why the mint of this identity failed; no secret is in it.
    async fn refusal(&self, identity: AcrIdentity) -> MintError {
        checked(self.mint(identity).await.unwrap_err())
    }
}

fn checked(error: MintError) -> MintError {
    let text = format!("{error} {error:?}");
    for secret in ["canary", "eyJ"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    error
}

fn source(identity: AcrIdentity) -> AcrSource {
    AcrSource {
        server: SERVER.to_owned(),
        cloud: AzureCloud::Public,
        identity,
        scopes: Vec::new(),
        endpoints: AcrEndpoints::default(),
    }
}

const WORKLOAD: AcrIdentity = AcrIdentity::Workload {
    client_id: None,
    tenant_id: None,
};

fn principal(tenant_id: &str, client_id: &str) -> AcrIdentity {
    AcrIdentity::ServicePrincipal {
        tenant_id: tenant_id.to_owned(),
        client_id: client_id.to_owned(),
        secret: "principal".to_owned(),
    }
}

fn managed_client(client_id: &str) -> AcrIdentity {
    AcrIdentity::Managed(ManagedIdentity::Client(client_id.to_owned()))
}

#[track_caller]
fn assert_minted(credential: &Credential, client_id: &str) {
    assert_eq!(credential.username, USERNAME);
    let claims = claims(credential.password.expose_secret());
    assert_eq!(claims["appid"], client_id);
    assert_eq!(claims["aud"], SERVER);
    assert_eq!(claims["exp"], credential.expires_at.as_second());
}

#[tokio::test]
async fn mints_for_each_identity_what_it_may_pull() {
    let scene = Scene::new().await;
    {
        let mut content = scene.azure.content();
        content.node.system = Some(APP.to_owned());
        content.node.user_assigned = vec![
            (APP.to_owned(), RESOURCE_ID.to_owned()),
            (OTHER.to_owned(), "/other".to_owned()),
        ];
    }
    let given = AcrIdentity::Workload {
        client_id: Some(APP.to_owned()),
        tenant_id: Some(TENANT.to_owned()),
    };
    let by_resource = ManagedIdentity::Resource(RESOURCE_ID.to_owned());
    for identity in [
        WORKLOAD,
        given,
        principal(TENANT, APP),
        AcrIdentity::Managed(ManagedIdentity::System),
        managed_client(APP),
        AcrIdentity::Managed(by_resource),
    ] {
        let credential = scene.mint(identity.clone()).await;
        let credential = credential.unwrap_or_else(|error| panic!("{identity:?}: {error}"));
        assert_minted(&credential, APP);
        let life = credential.expires_at.duration_since(credential.minted_at);
        assert!((10_790..=10_800).contains(&life.as_secs()), "{life}");
        assert!(
            credential.principal.contains(APP) || credential.principal.contains("pull"),
            "{}",
            credential.principal
        );
    }
    // Only the one authority and the one login server were ever asked.
    for reached in scene.azure.internet.reached() {
        assert!(
            ["login.microsoftonline.com:443", "myreg.azurecr.io:443"].contains(&reached.as_str()),
            "{reached}"
        );
    }
}

#[tokio::test]
async fn narrows_to_scopes_with_the_life_of_that_token() {
    let scene = Scene::new().await;
    let scopes = ["repository:team/app:pull", "repository:team/base:pull"];
    let source = AcrSource {
        scopes: scopes.map(str::to_owned).to_vec(),
        ..source(WORKLOAD)
    };
    let environment = scene.environment(&scene.token());
    let credential = scene.mint_with(source, None, environment).await.unwrap();
    assert_minted(&credential, APP);
    assert_eq!(
        claims(credential.password.expose_secret())["scopes"],
        json!(scopes)
    );
    let life = credential.expires_at.duration_since(credential.minted_at);
    assert!((4_490..=4_500).contains(&life.as_secs()), "{life}");
}

#[tokio::test]
async fn asks_the_cloud_of_the_login_server() {
    for (server, cloud, authority) in [
        (
            "myreg.azurecr.cn",
            AzureCloud::China,
            "login.chinacloudapi.cn",
        ),
        (
            "myreg.azurecr.us",
            AzureCloud::UsGov,
            "login.microsoftonline.us",
        ),
        (
            "myreg.westeurope.geo.azurecr.io",
            AzureCloud::Public,
            "login.microsoftonline.com",
        ),
        (
            "myreg-a1b2c3.azurecr.io",
            AzureCloud::Public,
            "login.microsoftonline.com",
        ),
    ] {
        let scene = Scene::new().await;
        scene
            .azure
            .content()
            .tenants
            .get_mut(TENANT)
            .unwrap()
            .authority = authority.to_owned();
        scene.azure.add_server(server, TENANT, &[APP]);
        let source = AcrSource {
            server: server.to_owned(),
            cloud,
            ..source(principal(TENANT, APP))
        };
        let credential = scene
            .mint_with(source, Some(SECRET), Environment::default())
            .await
            .unwrap();
        assert_eq!(claims(credential.password.expose_secret())["aud"], server);
        assert_eq!(
            scene.azure.internet.reached(),
            [format!("{authority}:443"), format!("{server}:443")]
        );
    }
}

#[tokio::test]
async fn asks_the_endpoints_that_an_admin_gave() {
    let scene = Scene::new().await;
    let server = "myreg.azurecr.stack.example";
    scene.azure.add_server(server, TENANT, &[APP]);
    {
        let mut content = scene.azure.content();
        content.tenants.get_mut(TENANT).unwrap().authority = "login.stack.example".to_owned();
        content.servers.get_mut(server).unwrap().takes_arm = true;
    }
    let source = AcrSource {
        server: server.to_owned(),
        endpoints: AcrEndpoints {
            authority: Some("https://login.stack.example".to_owned()),
            login_server_suffix: Some("azurecr.stack.example".to_owned()),
            resource: Some("https://management.azure.com".to_owned()),
        },
        ..source(principal(TENANT, APP))
    };
    let credential = scene
        .mint_with(source, Some(SECRET), Environment::default())
        .await
        .unwrap();
    assert_eq!(claims(credential.password.expose_secret())["aud"], server);
}

/// The environment's authority belongs to the environment's tenant alone.
#[tokio::test]
async fn asks_the_environments_authority_for_the_environments_tenant() {
    let scene = Scene::new().await;
    scene
        .azure
        .content()
        .tenants
        .get_mut(TENANT)
        .unwrap()
        .authority = "login.partner.example".to_owned();
    let mut environment = scene.environment(&scene.token());
    environment.authority_host = Some("https://login.partner.example/".to_owned());
    scene
        .mint_with(source(WORKLOAD), None, environment.clone())
        .await
        .unwrap();
    let given = AcrIdentity::Workload {
        client_id: None,
        tenant_id: Some(TENANT.to_owned()),
    };
    let error = scene
        .mint_with(source(given), None, environment)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Network", "{error}");
    assert!(
        error.to_string().contains("login.microsoftonline.com"),
        "{error}"
    );
}

/// What each refusal is called and what it tells.
#[tokio::test]
async fn tells_what_is_wrong_with_an_identity() {
    let scene = Scene::new().await;
    let unknown = "99999999-9999-9999-9999-999999999999";
    let workload = |client_id: &str, tenant_id: &str| AcrIdentity::Workload {
        client_id: Some(client_id.to_owned()),
        tenant_id: Some(tenant_id.to_owned()),
    };
    for (identity, reason, words) in [
        (
            workload(unknown, TENANT),
            "UnrecognizedClient",
            "AADSTS700016",
        ),
        (workload(APP, unknown), "UnrecognizedClient", "tenant id"),
        (workload(OTHER, TENANT), "AccessDenied", "AcrPull"),
        (principal(unknown, APP), "UnrecognizedClient", "AADSTS90002"),
        (
            principal(TENANT, unknown),
            "UnrecognizedClient",
            "client id",
        ),
        (principal(TENANT, OTHER), "AccessDenied", OTHER),
        (
            AcrIdentity::Managed(ManagedIdentity::System),
            "NoIdentity",
            "Identity not found",
        ),
        (managed_client(APP), "NoIdentity", APP),
    ] {
        let error = scene.refusal(identity.clone()).await;
        assert_eq!(error.reason(), reason, "{identity:?}: {error}");
        assert!(error.to_string().contains(words), "{identity:?}: {error}");
    }
}

#[tokio::test]
async fn tells_what_is_wrong_with_a_client_secret() {
    let scene = Scene::new().await;
    for (secret, words) in [
        ("canary-wrong", "not its id"),
        ("canary-old", "has expired"),
    ] {
        let minted = scene.mint_with(
            source(principal(TENANT, APP)),
            Some(secret),
            Environment::default(),
        );
        let error = checked(minted.await.unwrap_err());
        assert_eq!(error.reason(), "UnrecognizedClient", "{error}");
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            error.to_string().contains("source secret principal"),
            "{error}"
        );
    }
    for (value, words) in [
        ("", "missing or empty"),
        (" \n", "missing or empty"),
        ("a\u{e9}", "characters"),
        ("a b", "characters"),
    ] {
        let secrets = Secrets::default();
        secrets.set("principal", &[("AZURE_CLIENT_SECRET", value)]);
        let error = ClientSecret::find("principal", &secrets).unwrap_err();
        assert_eq!(error.reason(), "MalformedSource");
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = ClientSecret::find("other", &Secrets::default()).unwrap_err();
    assert_eq!(error.reason(), "MissingSource");
}

/// What a federated credential must say is in the message: issuer, subject, audience.
#[tokio::test]
async fn tells_what_is_wrong_with_a_federated_token() {
    let scene = Scene::new().await;
    let foreign = Issuer::new("https://other-issuer.example");
    let forged = Issuer::new(&scene.issuer.url);
    let token = |issuer: &Issuer, account: &str, audience: &str, seconds| {
        issuer.token(account, audience, seconds)
    };
    let own = "pullpass:pullpass";
    for (token, code, words) in [
        (
            token(&foreign, own, AUDIENCE, 3600),
            "700211",
            "issuer https://other-issuer.example",
        ),
        (
            token(&scene.issuer, "team:default", AUDIENCE, 3600),
            "700213",
            "system:serviceaccount:team:default",
        ),
        (
            token(&scene.issuer, own, "sts.amazonaws.com", 3600),
            "700212",
            "audience sts.amazonaws.com",
        ),
        (
            token(&forged, own, AUDIENCE, 3600),
            "50013",
            "publishes the keys",
        ),
        (
            token(&scene.issuer, own, AUDIENCE, -600),
            "700024",
            "clocks",
        ),
        ("a-token".to_owned(), "50027", "cannot be read"),
    ] {
        let minted = scene.mint_with(source(WORKLOAD), None, scene.environment(&token));
        let error = checked(minted.await.unwrap_err());
        assert_eq!(error.reason(), "UnrecognizedClient", "{error}");
        for words in [code, words] {
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    }
    scene.azure.content().issuers.clear();
    let error = scene.refusal(WORKLOAD).await;
    assert!(error.to_string().contains(".well-known"), "{error}");
    assert_eq!(scene.azure.count("exchange"), 0);
}

#[tokio::test]
async fn tells_what_the_environment_lacks() {
    let scene = Scene::new().await;
    let full = scene.environment(&scene.token());
    let without = |change: fn(&mut Environment)| {
        let mut environment = full.clone();
        change(&mut environment);
        environment
    };
    for (environment, words) in [
        (
            without(|all| all.federated_token_file = None),
            "azure.workload.identity/use=true",
        ),
        (
            without(|all| all.client_id = None),
            "azure.workload.identity/client-id",
        ),
        (without(|all| all.tenant_id = None), "AZURE_TENANT_ID"),
        (
            without(|all| all.tenant_id = Some("common/../evil.example".to_owned())),
            "AZURE_TENANT_ID is no id",
        ),
        (
            without(|all| all.authority_host = Some("http://login.microsoftonline.com".to_owned())),
            "not https",
        ),
        (
            without(|all| all.federated_token_file = Some("/nowhere/token".into())),
            "/nowhere/token",
        ),
    ] {
        let error = scene
            .mint_with(source(WORKLOAD), None, environment)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "NoIdentity", "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(scene.azure.internet.reached(), [""; 0]);
}

/// The faults of a cloud, wherever they come up on the way.
#[tokio::test]
async fn tells_faults_apart_on_the_whole_way() {
    let scene = Scene::new().await;
    scene.azure.content().node.system = Some(APP.to_owned());
    let html = Reply {
        status: 200,
        body: "<html>canary</html>".to_owned(),
        ..Reply::default()
    };
    let status = |status| Reply {
        status,
        ..html.clone()
    };
    let throttled = Reply {
        headers: vec![("retry-after", "17".to_owned())],
        ..status(429)
    };
    let unavailable = Reply {
        headers: vec![("retry-after", "20".to_owned())],
        ..status(503)
    };
    let moved = Reply {
        headers: vec![(
            "location",
            "https://thief.example/oauth2/exchange".to_owned(),
        )],
        ..status(307)
    };
    let hanging = Reply {
        delay: Duration::from_mins(1),
        ..html.clone()
    };
    let empty = Reply::json(200, &json!({"access_token": "", "refresh_token": ""}));
    let unprintable = Reply::json(
        200,
        &json!({"access_token": "a\nb", "refresh_token": "a\nb"}),
    );
    for (url, identity, place) in [
        ("oauth2/v2.0/token", WORKLOAD, "login.microsoftonline.com"),
        ("oauth2/exchange", principal(TENANT, APP), SERVER),
        (
            "metadata/identity",
            AcrIdentity::Managed(ManagedIdentity::System),
            "127.0.0.1",
        ),
    ] {
        for (reply, reason, words) in [
            (&html, "BadAnswer", "without the JSON"),
            (&throttled, "Throttled", "HTTP 429"),
            (&unavailable, "Refused", "HTTP 503"),
            (&moved, "BadAnswer", "never followed"),
            (&empty, "BadAnswer", "empty or not printable"),
            (&unprintable, "BadAnswer", "empty or not printable"),
        ] {
            scene.azure.fail(url, reply.clone(), 1);
            let error = scene.refusal(identity.clone()).await;
            assert_eq!(error.reason(), reason, "{url}: {error}");
            assert!(error.to_string().contains(words), "{url}: {error}");
            assert!(error.to_string().contains(place), "{url}: {error}");
            let retry_after = match reason {
                "Throttled" => Some(Duration::from_secs(17)),
                "Refused" => Some(Duration::from_secs(20)),
                _ => None,
            };
            assert_eq!(error.retry_after(), retry_after, "{url}");
        }
        scene.azure.fail(url, hanging.clone(), 1);
        let started = std::time::Instant::now();
        let error = scene.refusal(identity.clone()).await;
        assert!(
            matches!(error.reason(), "Timeout" | "NoIdentity"),
            "{error}"
        );
        assert!(started.elapsed() < Duration::from_secs(10), "{url}");
        // None of this is remembered by the mint itself.
        scene.mint(identity).await.unwrap();
    }
    assert!(scene.azure.content().stolen.is_empty());
}

#[tokio::test]
async fn tells_what_a_login_server_refuses() {
    let scene = Scene::new().await;
    scene
        .azure
        .content()
        .servers
        .get_mut(SERVER)
        .unwrap()
        .closed = true;
    let error = scene.refusal(WORKLOAD).await;
    assert_eq!(error.reason(), "AccessDenied", "{error}");
    assert!(error.to_string().contains("network rules"), "{error}");
    assert!(error.to_string().contains("192.0.2.1"), "{error}");

    scene
        .azure
        .content()
        .servers
        .get_mut(SERVER)
        .unwrap()
        .closed = false;
    let not_found = Reply {
        status: 404,
        ..Reply::default()
    };
    scene.azure.fail("oauth2/exchange", not_found, 1);
    let error = scene.refusal(WORKLOAD).await;
    assert!(error.to_string().contains("no such registry"), "{error}");
}

#[tokio::test]
async fn refuses_tokens_with_absurd_ends() {
    let scene = Scene::new().await;
    for (life, words) in [
        (0, "expired already"),
        (-3600, "expired already"),
        (25 * 3600, "longer than any"),
        (i64::MAX, "longer than any"),
    ] {
        scene.azure.content().refresh_life = life;
        let error = scene.refusal(WORKLOAD).await;
        assert_eq!(error.reason(), "BadAnswer", "{error}");
        assert!(error.to_string().contains(words), "{life}: {error}");
    }
    let opaque = Reply::json(200, &json!({"refresh_token": "canary-opaque"}));
    scene.azure.fail("oauth2/exchange", opaque, 1);
    let error = scene.refusal(WORKLOAD).await;
    assert!(error.to_string().contains("no JSON Web Token"), "{error}");
}

/// Instance metadata and the agent of AAD Pod Identity, as they are documented.
#[tokio::test]
async fn tells_what_instance_metadata_means() {
    let scene = Scene::new().await;
    let text = |status, body: &str| Reply {
        status,
        body: body.to_owned(),
        ..Reply::default()
    };
    let error_of = |description: &str| {
        Reply::json(
            400,
            &json!({"error": "invalid_request", "error_description": description}),
        )
    };
    for (reply, reason, words) in [
        (
            error_of("Identity not found"),
            "NoIdentity",
            "still be being assigned",
        ),
        (
            error_of("Multiple user assigned identities exist"),
            "NoIdentity",
            "check acr.identity.managedIdentity",
        ),
        (
            text(404, "no AzureAssignedIdentity found for pod:a/b"),
            "NoIdentity",
            "aadpodidbinding",
        ),
        (
            text(403, "failed to get service principal token"),
            "NoIdentity",
            "Managed Identity Operator",
        ),
        (text(410, ""), "Refused", "being updated"),
        (text(500, ""), "Refused", "HTTP 500"),
    ] {
        scene.azure.fail("metadata/identity", reply, 1);
        let error = scene.refusal(managed_client(APP)).await;
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    // Behind AAD Pod Identity: nobody answers until the identity is assigned.
    scene.azure.content().node.pod_identity = PodIdentity::Waiting;
    let error = scene
        .refusal(AcrIdentity::Managed(ManagedIdentity::System))
        .await;
    assert!(error.to_string().contains("aadpodidbinding"), "{error}");
    scene.azure.content().node.pod_identity = PodIdentity::Assigned(APP.to_owned());
    let credential = scene
        .mint(AcrIdentity::Managed(ManagedIdentity::System))
        .await
        .unwrap();
    assert_minted(&credential, APP);
}

/// Whatever made the source: a token of Entra ID goes to no host but a login server.
#[tokio::test]
async fn sends_no_token_to_anybody_but_a_login_server() {
    let scene = Scene::new().await;
    let suffixed = |server: &str, suffix: &str| (server.to_owned(), Some(suffix.to_owned()));
    for (server, suffix) in [
        ("thief.example".to_owned(), None),
        ("myreg.azurecr.io.thief.example".to_owned(), None),
        ("myreg.azurecr.io@thief.example".to_owned(), None),
        ("myreg.azurecr.io:8443".to_owned(), None),
        ("thief.example/myreg.azurecr.io".to_owned(), None),
        ("myreg.azurecr.io.".to_owned(), None),
        ("xn--myreg-1ua.azurecr.io".to_owned(), None),
        ("myreg.westeurope.data.azurecr.io".to_owned(), None),
        ("myregazurecr.io".to_owned(), None),
        ("azurecr.io".to_owned(), None),
        (".azurecr.io".to_owned(), None),
        ("MYREG.azurecr.io".to_owned(), None),
        suffixed("thiefstack.example", "stack.example"),
        suffixed("stack.example", "stack.example"),
        suffixed("myreg.stack.example.thief.example", "stack.example"),
        suffixed("myreg.westeurope.data.stack.example", "stack.example"),
        suffixed("a.b.stack.example", "stack.example"),
        suffixed("a/b.stack.example", "stack.example"),
        suffixed("user@a.stack.example", "stack.example"),
    ] {
        let source = AcrSource {
            server: server.clone(),
            endpoints: AcrEndpoints {
                login_server_suffix: suffix,
                ..AcrEndpoints::default()
            },
            ..source(principal(TENANT, APP))
        };
        let minted = scene
            .mint_with(source, Some(SECRET), Environment::default())
            .await;
        assert_eq!(minted.unwrap_err().reason(), "Configuration", "{server}");
    }
    let http = AcrSource {
        endpoints: AcrEndpoints {
            authority: Some("http://login.microsoftonline.com".to_owned()),
            ..AcrEndpoints::default()
        },
        ..source(principal(TENANT, APP))
    };
    let minted = scene
        .mint_with(http, Some(SECRET), Environment::default())
        .await;
    assert_eq!(minted.unwrap_err().reason(), "Configuration");
    assert_eq!(scene.azure.internet.reached(), [""; 0]);
}

/// The doubles refuse by themselves what the tests above rely on.
#[tokio::test]
async fn double_refuses_tokens_for_others() {
    let scene = Scene::new().await;
    let elsewhere = "55555555-5555-5555-5555-555555555555";
    let tenant = Tenant {
        authority: "login.microsoftonline.com".to_owned(),
        applications: vec![Application {
            client_id: APP.to_owned(),
            secrets: vec![(SECRET.to_owned(), true)],
            federated: Vec::new(),
        }],
    };
    scene
        .azure
        .content()
        .tenants
        .insert(elsewhere.to_owned(), tenant);
    // The same application's id in another tenant.
    let error = scene.refusal(principal(elsewhere, APP)).await;
    assert_eq!(error.reason(), "AccessDenied", "{error}");
    // A token for the resource manager, where only those for registries are taken.
    let arm = AcrSource {
        endpoints: AcrEndpoints {
            resource: Some("https://management.azure.com".to_owned()),
            ..AcrEndpoints::default()
        },
        ..source(principal(TENANT, APP))
    };
    let minted = scene
        .mint_with(arm, Some(SECRET), Environment::default())
        .await;
    assert_eq!(minted.unwrap_err().reason(), "AccessDenied");
    assert_eq!(RESOURCE, "https://containerregistry.azure.net");
}

//! What each refusal is called, and what it tells people to do.

use pullpass::credential::acr::{AzureEnvironment, ClientSecret};
use pullpass::registry::source::{AcrIdentity, ManagedIdentity};
use serde_json::json;

use super::fixture::{
    APP, AUDIENCE, Fixture, OTHER, SERVER, TENANT, WORKLOAD, assert_minted, checked,
    managed_client, principal, source, tenant,
};
use super::support::azure::metadata::PodIdentity;
use super::support::internet::Reply;
use super::support::jwt::Issuer;
use super::support::source::Secrets;

fn wrong_identities() -> Vec<(AcrIdentity, &'static str, &'static str)> {
    let unknown = "99999999-9999-9999-9999-999999999999";
    let workload = |client_id: &str, tenant_id: &str| AcrIdentity::Workload {
        client_id: Some(client_id.to_owned()),
        tenant_id: Some(tenant_id.to_owned()),
    };
    vec![
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
        (
            tenant("pullpass", TENANT, unknown),
            "UnrecognizedClient",
            "AADSTS700016",
        ),
        (
            tenant("pullpass", unknown, APP),
            "UnrecognizedClient",
            "AADSTS90002",
        ),
        (tenant("pullpass", TENANT, OTHER), "AccessDenied", "AcrPull"),
        (
            tenant("team", TENANT, APP),
            "UnrecognizedClient",
            "system:serviceaccount:team:pullpass",
        ),
        (
            tenant("unreachable", TENANT, APP),
            "TokenUnreachable",
            "connection refused",
        ),
    ]
}

/// What each refusal is called and what it tells.
#[tokio::test]
async fn tells_what_is_wrong_with_an_identity() {
    let fixture = Fixture::new().await;
    for (identity, reason, words) in wrong_identities() {
        let error = fixture.refusal(identity.clone()).await;
        assert_eq!(error.reason(), reason, "{identity:?}: {error}");
        assert!(error.to_string().contains(words), "{identity:?}: {error}");
    }
}

#[tokio::test]
async fn tells_what_is_wrong_with_a_client_secret() {
    let fixture = Fixture::new().await;
    for (secret, words) in [
        ("canary-wrong", "not its id"),
        ("canary-old", "has expired"),
    ] {
        let minted = fixture.mint_with(
            source(principal(TENANT, APP)),
            Some(secret),
            AzureEnvironment::default(),
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
    let fixture = Fixture::new().await;
    let foreign = Issuer::new("https://other-issuer.example");
    let forged = Issuer::new(&fixture.issuer.url);
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
            token(&fixture.issuer, "team:default", AUDIENCE, 3600),
            "700213",
            "system:serviceaccount:team:default",
        ),
        (
            token(&fixture.issuer, own, "sts.amazonaws.com", 3600),
            "700212",
            "audience sts.amazonaws.com",
        ),
        (
            token(&forged, own, AUDIENCE, 3600),
            "50013",
            "publishes the keys",
        ),
        (
            token(&fixture.issuer, own, AUDIENCE, -600),
            "700024",
            "clocks",
        ),
        ("a-token".to_owned(), "50027", "cannot be read"),
    ] {
        let minted = fixture.mint_with(source(WORKLOAD), None, fixture.environment(&token));
        let error = checked(minted.await.unwrap_err());
        let is_known = ["UnrecognizedClient", "ClockSkew"].contains(&error.reason());
        assert!(is_known, "{error}");
        for words in [code, words] {
            assert!(error.to_string().contains(words), "{words}: {error}");
        }
    }
    fixture.azure.content().issuers.clear();
    let error = fixture.refusal(WORKLOAD).await;
    assert!(error.to_string().contains(".well-known"), "{error}");
    assert_eq!(fixture.azure.count("exchange"), 0);
}

#[tokio::test]
async fn tells_what_the_environment_lacks() {
    let fixture = Fixture::new().await;
    let full = fixture.environment(&fixture.token());
    let without = |change: fn(&mut AzureEnvironment)| {
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
        let error = fixture
            .mint_with(source(WORKLOAD), None, environment)
            .await
            .unwrap_err();
        assert_eq!(error.reason(), "NoIdentity", "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(fixture.azure.internet.reached(), [""; 0]);
}

#[tokio::test]
async fn tells_what_a_login_server_refuses() {
    let fixture = Fixture::new().await;
    fixture
        .azure
        .content()
        .servers
        .get_mut(SERVER)
        .unwrap()
        .closed = true;
    let error = fixture.refusal(WORKLOAD).await;
    assert_eq!(error.reason(), "AccessDenied", "{error}");
    assert!(error.to_string().contains("network rules"), "{error}");
    assert!(error.to_string().contains("192.0.2.1"), "{error}");

    fixture
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
    fixture.azure.fail("oauth2/exchange", not_found, 1);
    let error = fixture.refusal(WORKLOAD).await;
    assert!(error.to_string().contains("no such registry"), "{error}");
}

/// F17: a token that has ended already by this node's clock says so, and speaks of no proxy.
#[tokio::test]
async fn asks_for_the_clock_where_a_token_has_ended_already() {
    let fixture = Fixture::new().await;
    for life in [-60, -3600] {
        fixture.azure.content().refresh_life = life;
        let error = fixture.refusal(WORKLOAD).await;
        assert_eq!(error.reason(), "ClockSkew", "{error}");
        let text = error.to_string();
        println!("{text}");
        for words in [SERVER, "its token ended at", "is this node's clock right?"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("proxy"), "{text}");
    }
}

#[tokio::test]
async fn refuses_tokens_with_absurd_ends() {
    let fixture = Fixture::new().await;
    for life in [25 * 3600, i64::MAX] {
        fixture.azure.content().refresh_life = life;
        let error = fixture.refusal(WORKLOAD).await;
        assert_eq!(error.reason(), "InvalidResponse", "{error}");
        assert!(
            error.to_string().contains("longer than any"),
            "{life}: {error}"
        );
    }
    let opaque = Reply::json(200, &json!({"refresh_token": "canary-opaque"}));
    fixture.azure.fail("oauth2/exchange", opaque, 1);
    let error = fixture.refusal(WORKLOAD).await;
    assert!(error.to_string().contains("no JSON Web Token"), "{error}");
}

/// Instance metadata and the agent of AAD Pod Identity, as they are documented.
#[tokio::test]
async fn tells_what_instance_metadata_means() {
    let fixture = Fixture::new().await;
    for (reply, reason, words) in metadata_answers() {
        fixture.azure.fail("metadata/identity", reply, 1);
        let error = fixture.refusal(managed_client(APP)).await;
        assert_eq!(error.reason(), reason, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

fn metadata_answers() -> [(Reply, &'static str, &'static str); 6] {
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
    [
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
        (text(410, ""), "Unavailable", "being updated"),
        (text(500, ""), "Unavailable", "HTTP 500"),
    ]
}

/// Behind AAD Pod Identity nobody answers until the identity is assigned.
#[tokio::test]
async fn mints_behind_aad_pod_identity_once_it_is_assigned() {
    let fixture = Fixture::new().await;
    fixture.azure.content().node.pod_identity = PodIdentity::Waiting;
    let error = fixture
        .refusal(AcrIdentity::Managed(ManagedIdentity::System))
        .await;
    assert!(error.to_string().contains("aadpodidbinding"), "{error}");
    fixture.azure.content().node.pod_identity = PodIdentity::Assigned(APP.to_owned());
    let credential = fixture
        .mint(AcrIdentity::Managed(ManagedIdentity::System))
        .await
        .unwrap();
    assert_minted(&credential, APP);
}

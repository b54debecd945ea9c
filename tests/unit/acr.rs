//! Tokens of Azure Container Registry from an Azure that refuses what Azure refuses: every identity, and the faults of a cloud.

#![allow(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::panic,
    reason = "helpers of a test may fail it"
)]

mod bindings;
mod clouds;
mod faults;
mod fixture;
mod refusals;

use crate::support;
use fixture::{
    APP, Fixture, OTHER, RESOURCE_ID, SECRET, TENANT, WORKLOAD, assert_minted, managed_client,
    principal, source, tenant,
};
use pullpass::credential::acr::AzureEnvironment;
use pullpass::registry::source::{AcrEndpoints, AcrIdentity, AcrSource, ManagedIdentity};
use secrecy::ExposeSecret as _;
use serde_json::json;
use support::azure::token::claims;
use support::azure::{Application, RESOURCE, Tenant};

#[tokio::test]
async fn mints_for_each_identity_what_it_may_pull() {
    let fixture = Fixture::new().await;
    {
        let mut content = fixture.azure.content();
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
        tenant("pullpass", TENANT, APP),
    ] {
        let credential = fixture.mint(identity.clone()).await;
        let credential = credential.unwrap_or_else(|error| panic!("{identity:?}: {error}"));
        assert_minted(&credential, APP);
        let life = credential.expires_at.duration_since(credential.minted_at);
        assert!((10_790..=10_830).contains(&life.as_secs()), "{life}");
        assert!(
            credential.principal.contains(APP) || credential.principal.contains("pull"),
            "{}",
            credential.principal
        );
    }
    // Only the one authority and the one login server were ever asked.
    for reached in fixture.azure.internet.reached() {
        assert!(
            ["login.microsoftonline.com:443", "myreg.azurecr.io:443"].contains(&reached.as_str()),
            "{reached}"
        );
    }
}

#[tokio::test]
async fn narrows_to_scopes_with_the_life_of_that_token() {
    let fixture = Fixture::new().await;
    let scopes = ["repository:team/app:pull", "repository:team/base:pull"];
    let source = AcrSource {
        scopes: scopes.map(str::to_owned).to_vec(),
        ..source(WORKLOAD)
    };
    let environment = fixture.environment(&fixture.token());
    let credential = fixture.mint_with(source, None, environment).await.unwrap();
    assert_minted(&credential, APP);
    assert_eq!(
        claims(credential.password.expose_secret())["scopes"],
        json!(scopes)
    );
    let life = credential.expires_at.duration_since(credential.minted_at);
    assert!((4_490..=4_530).contains(&life.as_secs()), "{life}");
}

/// The environment's authority belongs to the environment's tenant alone.
#[tokio::test]
async fn asks_the_environments_authority_for_the_environments_tenant() {
    let fixture = Fixture::new().await;
    fixture
        .azure
        .content()
        .tenants
        .get_mut(TENANT)
        .unwrap()
        .authority = "login.partner.example".to_owned();
    let mut environment = fixture.environment(&fixture.token());
    environment.authority_host = Some("https://login.partner.example/".to_owned());
    fixture
        .mint_with(source(WORKLOAD), None, environment.clone())
        .await
        .unwrap();
    let given = AcrIdentity::Workload {
        client_id: None,
        tenant_id: Some(TENANT.to_owned()),
    };
    let error = fixture
        .mint_with(source(given), None, environment)
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "Network", "{error}");
    assert!(
        error.to_string().contains("login.microsoftonline.com"),
        "{error}"
    );
}

/// Whatever made the source: a token of Entra ID goes to no host but a login server.
#[tokio::test]
async fn sends_no_token_to_anybody_but_a_login_server() {
    let fixture = Fixture::new().await;
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
        let minted = fixture
            .mint_with(source, Some(SECRET), AzureEnvironment::default())
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
    let minted = fixture
        .mint_with(http, Some(SECRET), AzureEnvironment::default())
        .await;
    assert_eq!(minted.unwrap_err().reason(), "Configuration");
    assert_eq!(fixture.azure.internet.reached(), [""; 0]);
}

/// The doubles refuse by themselves what the tests above rely on.
#[tokio::test]
async fn double_refuses_tokens_for_others() {
    let fixture = Fixture::new().await;
    let elsewhere = "55555555-5555-5555-5555-555555555555";
    let tenant = Tenant {
        authority: "login.microsoftonline.com".to_owned(),
        applications: vec![Application {
            client_id: APP.to_owned(),
            secrets: vec![(SECRET.to_owned(), true)],
            federated: Vec::new(),
        }],
    };
    fixture
        .azure
        .content()
        .tenants
        .insert(elsewhere.to_owned(), tenant);
    // The same application's id in another tenant.
    let error = fixture.refusal(principal(elsewhere, APP)).await;
    assert_eq!(error.reason(), "AccessDenied", "{error}");
    // A token for the resource manager, where only those for registries are taken.
    let arm = AcrSource {
        endpoints: AcrEndpoints {
            resource: Some("https://management.azure.com".to_owned()),
            ..AcrEndpoints::default()
        },
        ..source(principal(TENANT, APP))
    };
    let minted = fixture
        .mint_with(arm, Some(SECRET), AzureEnvironment::default())
        .await;
    assert_eq!(minted.unwrap_err().reason(), "AccessDenied");
    assert_eq!(RESOURCE, "https://containerregistry.azure.net");
}

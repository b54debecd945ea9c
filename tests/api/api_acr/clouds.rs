//! Each cloud at its own places, through the whole program.

use serde_json::{Value, json};

use super::cloud::{APP, AUDIENCE, Cloud, SECRET, TENANT};
use super::support::account::{allow_audience, allow_tokens, put_account};
use super::support::fixture::references;
use super::support::oci::Oci;
use super::support::wait;

/// A server, the tenant that it trusts, who gives that tenant's tokens, what its federated credentials take, and `acr`.
type Place = ([&'static str; 4], Value);

fn places() -> [Place; 5] {
    let principal = |tenant_id: &str| {
        let secret = json!({"name": "acr-clouds-secret"});
        json!({"identity": {"servicePrincipal": {"clientId": APP, "tenantId": tenant_id, "secretRef": secret}}})
    };
    let account = |tenant_id: &str| json!({"identity": {"serviceAccount": {"name": "clouds", "clientId": APP, "tenantId": tenant_id}}});
    let (china, gov, stack) = (
        "77777777-7777-7777-7777-777777777777",
        "88888888-8888-8888-8888-888888888888",
        "99999999-9999-9999-9999-999999999999",
    );
    let mut custom = account(stack);
    custom["audience"] = json!("api://stack");
    custom["endpoints"] = json!({
        "loginServerSuffix": "azurecr.stack.example",
        "authority": "https://login.stack.example",
    });
    let (regional, label) = (
        "regional.westeurope.geo.azurecr.io",
        "label-a1b2c3d4.azurecr.io",
    );
    let public = "login.microsoftonline.com";
    let usgov = "api://AzureADTokenExchangeUSGov";
    let own = "clouds.azurecr.stack.example";
    [
        ([regional, TENANT, public, ""], principal(TENANT)),
        ([label, TENANT, public, AUDIENCE], account(TENANT)),
        (
            ["clouds.azurecr.cn", china, "login.chinacloudapi.cn", ""],
            principal(china),
        ),
        (
            ["clouds.azurecr.us", gov, "login.microsoftonline.us", usgov],
            account(gov),
        ),
        ([own, stack, "login.stack.example", "api://stack"], custom),
    ]
}

/// The places of one cloud, its login server and its audience, are right in no other; data endpoints get nothing anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_cloud_is_asked_at_its_own_places() {
    let cloud = Cloud::new("acr-clouds").await;
    let fixture = &cloud.fixture;
    let namespace = fixture.namespace("pods").await;
    allow_tokens(fixture, "clouds").await;
    put_account(fixture, &namespace, "clouds", json!({})).await;
    cloud.put_secret("acr-clouds-secret", SECRET).await;
    let account = format!("{namespace}:clouds");
    for (number, ([server, tenant_id, authority, audience], acr)) in places().iter().enumerate() {
        cloud.add_application_to(tenant_id, authority, &account, audience);
        cloud.azure.add_server(server, tenant_id, &[APP]);
        let name = format!("acr-clouds-{number}");
        cloud.put_registry(&name, server, acr.clone()).await;
    }
    allow_audience(&cloud.fixture, "api://stack").await;
    let pullpass = cloud.start().await;
    let oci = Oci::start(&["team/hello:1"]);
    let mut hosts = Vec::new();
    for ([server, _, authority, _], _) in places() {
        let image = format!("{server}/team/hello:1");
        // An API server takes its time with a policy that changed.
        wait::until(&format!("a credential for {server}"), async || {
            let created = fixture.create(&namespace, &[&image]).await;
            created.warnings.is_empty().then_some(())
        })
        .await;
        let login = cloud.first(&namespace, &image).await;
        assert_eq!(Some(&login), cloud.azure.newest(server).as_ref());
        oci.allow(&login);
        let held = fixture.pull_secret(&namespace).await;
        oci.pull(&held, &image).unwrap();
        hosts.extend([server, authority]);
    }
    for data in [
        "regional.westeurope.data.azurecr.io",
        "clouds.chinaeast2.data.azurecr.cn",
        "clouds.west.data.azurecr.stack.example",
    ] {
        let image = format!("{data}/team/hello:1");
        let created = fixture.create(&namespace, &[&image]).await;
        assert!(!references(&created.body), "{data}");
        assert!(!fixture.pull_secret(&namespace).await.contains(data));
    }
    cloud.check_reached(&hosts);
    cloud.check_discreet(&pullpass, "").await;
}

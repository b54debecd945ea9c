//! Namespaces' own ServiceAccounts.

use serde_json::{Value, json};

use super::cloud::{APP, Cloud, OTHER, TENANT};
use super::support::account::{allow_tokens, put_account};
use super::support::azure::token::claims;
use super::support::oci::Oci;
use super::support::wait;

/// The ServiceAccount of each namespace by itself: what one may, its neighbour of the same name may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_account_of_a_namespace_pulls_and_no_neighbours() {
    let cloud = Cloud::new("acr-tenant").await;
    let fixture = &cloud.fixture;
    allow_tokens(fixture, "acr-puller").await;
    let [mine, neighbour] = [
        fixture.namespace("mine").await,
        fixture.namespace("neighbour").await,
    ];
    for namespace in [&mine, &neighbour] {
        put_account(fixture, namespace, "acr-puller", json!({})).await;
    }
    cloud.add_application(APP, &format!("{mine}:acr-puller"));
    let server = "tenant.azurecr.io";
    cloud.azure.add_server(server, TENANT, &[APP]);
    let identity =
        json!({"serviceAccount": {"name": "acr-puller", "clientId": APP, "tenantId": TENANT}});
    cloud
        .put_registry("acr-tenant", server, json!({"identity": identity}))
        .await;
    let pullpass = cloud.start().await;
    let image = format!("{server}/team/hello:1");

    let created = fixture.create(&mine, &[&image]).await;
    assert_eq!(created.warnings, [""; 0]);
    let login = cloud.first(&mine, &image).await;
    assert_eq!(Some(&login), cloud.azure.newest(server).as_ref());
    let oci = Oci::start(&["team/hello:1"]);
    oci.allow(&login);
    oci.pull(&fixture.pull_secret(&mine).await, &image).unwrap();

    let told = cloud.refuse(&neighbour, &image).await;
    assert!(told.contains("AADSTS700213"), "{told}");
    assert!(
        told.contains(&format!("system:serviceaccount:{neighbour}:acr-puller")),
        "{told}"
    );
    assert_eq!(cloud.azure.content().minted.len(), 1);
    cloud.check_discreet(&pullpass, &told).await;
    cloud.check_reached(&["login.microsoftonline.com", server]);
}

/// Annotations of a ServiceAccount that are no ids, or those of an application that does not trust it, and what is said of them.
fn wrong_annotations() -> Vec<(Value, &'static str)> {
    let no_id = "is no id of the form";
    vec![
        (
            json!({}),
            "has no annotation azure.workload.identity/client-id",
        ),
        (ids("thief.example", TENANT), no_id),
        (ids(APP, "../../thief.example/"), no_id),
        (ids(APP, &format!("{TENANT}/../x")), no_id),
        (ids(APP, "common"), no_id),
        (ids(APP, &format!("{TENANT}@thief.example")), no_id),
        (ids(OTHER, TENANT), "AADSTS700213"),
    ]
}

fn ids(client_id: &str, tenant_id: &str) -> Value {
    json!({
        "azure.workload.identity/client-id": client_id,
        "azure.workload.identity/tenant-id": tenant_id,
    })
}

/// What tenants write on ServiceAccounts is two ids or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_account_names_its_application_by_ids_alone() {
    let cloud = Cloud::new("acr-named").await;
    let fixture = &cloud.fixture;
    allow_tokens(fixture, "named-puller").await;
    let namespace = fixture.namespace("pods").await;
    cloud.add_application(APP, &format!("{namespace}:named-puller"));
    cloud.add_application(OTHER, "elsewhere:named-puller");
    let server = "named.azurecr.io";
    cloud.azure.add_server(server, TENANT, &[APP]);
    let identity = json!({"serviceAccount": {"name": "named-puller", "fromAnnotations": true}});
    cloud
        .put_registry("acr-named", server, json!({"identity": identity}))
        .await;
    let pullpass = cloud.start().await;
    let image = format!("{server}/team/hello:1");

    let mut told = cloud.refuse(&namespace, &image).await;
    assert!(
        told.contains("has no ServiceAccount named-puller"),
        "{told}"
    );
    for (annotations, words) in wrong_annotations() {
        put_account(fixture, &namespace, "named-puller", annotations).await;
        let refused = cloud.refuse(&namespace, &image).await;
        assert!(refused.contains(words), "{refused}");
        told.push_str(&refused);
    }
    // F19: the tenant of one that names none is pullpass' own.
    let id = json!({"azure.workload.identity/client-id": APP});
    put_account(fixture, &namespace, "named-puller", id).await;
    wait::until("the application of the ServiceAccount", async || {
        let created = fixture.create(&namespace, &[&image]).await;
        created.warnings.is_empty().then_some(())
    })
    .await;
    let login = cloud.first(&namespace, &image).await;
    assert_eq!(claims(&login.password)["appid"], APP);
    cloud.check_discreet(&pullpass, &told).await;
    cloud.check_reached(&["login.microsoftonline.com", server]);
}

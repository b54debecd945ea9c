//! A thief listens everywhere, and receives nothing.

use serde_json::{Value, json};

use super::cloud::{APP, Cloud, ELSEWHERE, OTHER, SECRET, TENANT};
use super::support::fixture::{FIXTURE, Fixture, references};
use super::support::internet::Reply;
use super::support::process::pod;

const REGISTRIES: &str = "/apis/pullpass.dev/v1alpha1/registries";

/// Hosts that are no login servers of anybody's list.
const HOSTS: [&str; 12] = [
    "thief.example",
    "good.azurecr.io.thief.example",
    "good.azurecr.io:8443",
    "goodazurecr.io",
    "xn--good-5qa.azurecr.io",
    "good.westeurope.data.azurecr.io",
    "*.azurecr.io",
    "user@good.azurecr.io",
    "good.azurecr.io@thief.example",
    "good.azurecr.io.",
    "GOOD.azurecr.io",
    "127.0.0.1",
];

/// Whatever is tried, nobody but the authority and the login servers of the admin's list is ever spoken to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thief_receives_nothing() {
    let cloud = Cloud::new("acr-thief").await;
    let fixture = &cloud.fixture;
    cloud.add_application(APP, "pullpass:pullpass");
    cloud.put_secret("acr-thief-secret", SECRET).await;
    let misled = ["moved", "realm", "entra"];
    for name in misled.into_iter().chain(["good"]) {
        let server = format!("{name}.azurecr.io");
        cloud.azure.add_server(&server, TENANT, &[APP]);
        let tenant = if name == "entra" { ELSEWHERE } else { TENANT };
        let acr = json!({"identity": {"workload": {"tenantId": tenant}}});
        let name = format!("thief-{name}");
        cloud.put_registry(&name, &server, acr).await;
    }
    name_the_thief(fixture).await;
    let namespace = fixture.namespace("pods").await;
    let pullpass = cloud.start().await;

    mislead(&cloud);
    let mut told = String::new();
    for name in misled {
        let image = format!("{name}.azurecr.io/team/hello:1");
        told.push_str(&cloud.refuse(&namespace, &image).await);
    }
    create_pods_of_the_thief(fixture, &namespace).await;
    let image = "good.azurecr.io/team/hello:1";
    let created = fixture.create(&namespace, &[image]).await;
    assert_eq!(created.warnings, [""; 0]);
    let login = cloud.first(&namespace, image).await;
    assert_eq!(Some(login), cloud.azure.newest("good.azurecr.io"));

    cloud.check_reached(&[
        "login.microsoftonline.com",
        "moved.azurecr.io",
        "realm.azurecr.io",
        "entra.azurecr.io",
        "good.azurecr.io",
    ]);
    cloud.check_discreet(&pullpass, &told).await;
    // What stands in the namespace is for the one host.
    let held: Value = serde_json::from_str(&fixture.pull_secret(&namespace).await).unwrap();
    let keys: Vec<&String> = held["auths"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["good.azurecr.io/team"]);
}

/// A registry of Azure, but somebody else's, which another Registry names: it is shown the tokens of that Registry's identity alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_registry_is_shown_no_tokens_of_the_first() {
    let cloud = Cloud::new("acr-second").await;
    for (name, client_id) in [("first", APP), ("second", OTHER)] {
        cloud.add_application(client_id, "pullpass:pullpass");
        let server = format!("{name}.azurecr.io");
        cloud.azure.add_server(&server, TENANT, &[APP, OTHER]);
        let identity = json!({"workload": {"clientId": client_id, "tenantId": TENANT}});
        let acr = json!({"identity": identity});
        cloud.put_registry(name, &server, acr).await;
    }
    let namespace = cloud.fixture.namespace("pods").await;
    let _pullpass = cloud.start().await;
    let images = ["first", "second"].map(|name| format!("{name}.azurecr.io/team/hello:1"));
    let images = images.each_ref().map(String::as_str);
    let created = cloud.fixture.create(&namespace, &images).await;
    assert_eq!(created.warnings, [""; 0]);
    let mut received = cloud.azure.content().received.clone();
    received.sort();
    let of = |name: &str, id: &str| (format!("{name}.azurecr.io"), id.to_owned());
    assert_eq!(received, [of("first", APP), of("second", OTHER)]);
    for name in ["first", "second"] {
        let server = format!("{name}.azurecr.io");
        let image = format!("{server}/team/hello:1");
        let login = cloud.first(&namespace, &image).await;
        assert_eq!(Some(login), cloud.azure.newest(&server));
    }
}

/// Registries that name a thief as a login server or as a part of the authority's URL: some the API server refuses, the others serve
/// nothing.
async fn name_the_thief(fixture: &Fixture) {
    let registry = |name: &str, image: &str, tenant_id: &str| {
        let principal = json!({"clientId": APP, "tenantId": tenant_id, "secretRef": {"name": "acr-thief-secret"}});
        json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name},
            "spec": {
                "images": [image], "namespaceSelector": {"matchLabels": {FIXTURE: fixture.name}},
                "acr": {"identity": {"servicePrincipal": principal}},
            },
        })
    };
    for (number, host) in HOSTS.iter().enumerate() {
        let name = format!("thief-host-{number}");
        let object = registry(&name, &format!("{host}/team"), TENANT);
        let _ = fixture
            .cluster
            .send("POST", REGISTRIES, Some(&object))
            .await;
    }
    for tenant in [
        "../thief.example",
        "11111111-1111-1111-1111-111111111111/x",
        "common@thief.example",
    ] {
        let object = registry("thief-tenant", "good.azurecr.io/tenant", tenant);
        let answer = fixture
            .cluster
            .send("POST", REGISTRIES, Some(&object))
            .await;
        assert_eq!(answer.status.as_u16(), 422, "{tenant}");
    }
}

/// Servers of the list answer with somebody else's address.
fn mislead(cloud: &Cloud) {
    let moved = |location: &str| Reply {
        status: 307,
        headers: vec![("location", location.to_owned())],
        ..Reply::default()
    };
    let challenge =
        "Bearer realm=\"https://thief.example/oauth2/token\",service=\"thief.example\"".to_owned();
    let errors =
        json!({"errors": [{"code": "UNAUTHORIZED", "message": "go to https://thief.example"}]});
    let realm = Reply {
        headers: vec![("www-authenticate", challenge)],
        ..Reply::json(401, &errors)
    };
    for (url, reply) in [
        (
            "moved.azurecr.io:443/oauth2/exchange",
            moved("https://thief.example/oauth2/exchange"),
        ),
        ("realm.azurecr.io:443/oauth2/exchange", realm),
        (ELSEWHERE, moved("https://thief.example/token")),
    ] {
        cloud.azure.fail(url, reply, 100);
    }
}

/// Images and annotations that name a thief.
async fn create_pods_of_the_thief(fixture: &Fixture, namespace: &str) {
    for host in HOSTS {
        let mut pod = pod(namespace, &[&format!("{host}/team/hello:1")]);
        pod["metadata"]["annotations"] = json!({
            "azure.workload.identity/client-id": OTHER,
            "azure.workload.identity/tenant-id": "../thief.example",
            "pullpass.dev/endpoint": "https://thief.example",
        });
        let answer = fixture.cluster.create_pod(&pod, "").await;
        // Some of these names are no images at all to the API server.
        if answer.status.is_success() {
            assert!(!references(&answer.body), "{host}");
        }
    }
}

//! The whole program before an Azure that refuses what Azure refuses: who pulls what, and that nobody else is told anything.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed"
)]

mod cloud;
mod clouds;
mod faults;
mod static_login;
mod tenants;
mod thief;

use crate::support;
use cloud::{APP, Cloud, OTHER, RESOURCE_ID, SECRET, TENANT};
use serde_json::{Value, json};
use support::azure::USERNAME;
use support::azure::token::claims;
use support::fixture::references;
use support::keyring::Login;
use support::oci::Oci;

/// A way to log in, and a neighbour's that may not.
struct Row {
    name: &'static str,
    acr: Value,
    neighbour: Option<Value>,
}

fn rows() -> Vec<Row> {
    let own = |identity: &str, fields: Value| json!({"identity": {identity: fields}});
    let workload = |id: &str| own("workload", json!({"clientId": id, "tenantId": TENANT}));
    let principal = |id: &str| {
        let secret = json!({"name": "acr-principal"});
        let fields = json!({"clientId": id, "tenantId": TENANT, "secretRef": secret});
        own("servicePrincipal", fields)
    };
    let narrow = |id: &str| {
        let mut acr = principal(id);
        acr["scopes"] = json!(["team/hello"]);
        acr
    };
    let client = |id: &str| own("managedIdentity", json!({"clientId": id}));
    let resource = |name: &str| {
        let id = RESOURCE_ID.replace("/pull", &format!("/{name}"));
        own("managedIdentity", json!({"resourceId": id}))
    };
    let row = |name, acr, neighbour| Row {
        name,
        acr,
        neighbour,
    };
    vec![
        row("default", own("workload", json!({})), None),
        row("workload", workload(APP), Some(workload(OTHER))),
        row("principal", principal(APP), Some(principal(OTHER))),
        row("scoped", narrow(APP), Some(narrow(OTHER))),
        row("system", own("managedIdentity", json!({})), None),
        row("client", client(APP), Some(client(OTHER))),
        row("resource", resource("pull"), Some(resource("other"))),
    ]
}

/// Each identity pulls what it may, with a registry that takes nothing else; its neighbour, who may not, is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_identity_pulls_and_its_neighbour_is_refused() {
    let cloud = Cloud::new("acr-rows").await;
    let rows = rows();
    let mut hosts = set_up(&cloud, &rows).await;
    let namespace = cloud.fixture.namespace("pods").await;
    let pullpass = cloud.start().await;
    let oci = Oci::start(&["team/hello:1"]);

    let mut told = String::new();
    let mut before: Option<Login> = None;
    for row in &rows {
        let login = pull(&cloud, row, &namespace, &oci, before.as_ref()).await;
        before = Some(login);
        if row.neighbour.is_some() {
            let image = format!("{}other.azurecr.io/team/hello:1", row.name);
            let refused = cloud.refuse(&namespace, &image).await;
            let registry = format!("Registry acr-{}-other", row.name);
            for words in ["(AccessDenied)", &registry] {
                assert!(refused.contains(words), "{refused}");
            }
            pullpass.wait_logged(&[&registry, "AcrPull"]).await;
            told.push_str(&refused);
        }
    }
    cloud.check_discreet(&pullpass, &told).await;
    hosts.push("login.microsoftonline.com".to_owned());
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    cloud.check_reached(&hosts);
    // Warm Pods cost nothing.
    let calls = cloud.azure.count("");
    let image = "default.azurecr.io/team/hello:1";
    cloud.fixture.create(&namespace, &[image]).await;
    assert_eq!(cloud.azure.count(""), calls);
}

/// Two applications, one of which may pull, and the registries of each row and of its neighbour; answers their hosts.
async fn set_up(cloud: &Cloud, rows: &[Row]) -> Vec<String> {
    for client_id in [APP, OTHER] {
        cloud.add_application(client_id, "pullpass:pullpass");
    }
    cloud.put_secret("acr-principal", SECRET).await;
    {
        let mut content = cloud.azure.content();
        content.node.system = Some(APP.to_owned());
        content.node.user_assigned = vec![
            (APP.to_owned(), RESOURCE_ID.to_owned()),
            (OTHER.to_owned(), RESOURCE_ID.replace("/pull", "/other")),
        ];
    }
    let mut hosts = Vec::new();
    for row in rows {
        let own = (String::new(), Some(&row.acr));
        let neighbour = ("other".to_owned(), row.neighbour.as_ref());
        for (suffix, acr) in [own, neighbour] {
            let Some(acr) = acr else { continue };
            let server = format!("{}{suffix}.azurecr.io", row.name);
            cloud.azure.add_server(&server, TENANT, &[APP]);
            let name = format!("acr-{}-{suffix}", row.name);
            let name = name.trim_end_matches('-');
            cloud.put_registry(name, &server, acr.clone()).await;
            hosts.push(server);
        }
    }
    hosts
}

/// A Pod's image is pulled with the row's own token and not with the one `before`; answers its login.
async fn pull(
    cloud: &Cloud,
    row: &Row,
    namespace: &str,
    oci: &Oci,
    before: Option<&Login>,
) -> Login {
    let (name, server) = (row.name, format!("{}.azurecr.io", row.name));
    let image = format!("{server}/team/hello:1");
    let created = cloud.fixture.create(namespace, &[&image]).await;
    assert!(references(&created.body), "{name}");
    assert_eq!(created.warnings, [""; 0], "{name}");
    let login = cloud.first(namespace, &image).await;
    assert_eq!(Some(&login), cloud.azure.newest(&server).as_ref(), "{name}");
    assert_eq!(login.username, USERNAME);
    let minted = claims(&login.password);
    assert_eq!(minted["appid"], APP, "{name}");
    let repositories = row.acr["scopes"].as_array().into_iter().flatten();
    let scope = |name: &Value| format!("repository:{}:pull", name.as_str().unwrap());
    let scopes = json!(repositories.map(scope).collect::<Vec<_>>());
    assert_eq!(minted["scopes"], scopes, "{name}");
    // The registry takes this one alone.
    let held = cloud.fixture.pull_secret(namespace).await;
    if let Some(before) = before {
        oci.allow(before);
        let refused = oci.pull(&held, &image).unwrap_err();
        assert!(refused.contains("UNAUTHORIZED"), "{refused}");
    }
    oci.allow(&login);
    oci.pull(&held, &image).unwrap();
    login
}

//! What goes wrong in Azure while pullpass runs.

use serde_json::{Value, json};

use super::cloud::{APP, Cloud, ELSEWHERE, SECRET, TENANT};
use super::support::azure::metadata::PodIdentity;
use super::support::fixture::references;
use super::support::internet::Reply;
use super::support::keyring;
use super::support::process::pod;
use super::support::wait;

fn principal(secret: &str) -> Value {
    json!({"identity": {"servicePrincipal": {"clientId": APP, "tenantId": TENANT, "secretRef": {"name": secret}}}})
}

/// A registry that fails keeps the credential that it gave, and the others' are renewed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_registry_loses_nothing_and_holds_up_no_other() {
    let cloud = Cloud::alone("acr-faults").await;
    cloud.add_application(APP, "pullpass:pullpass");
    cloud.azure.content().refresh_life = 20;
    let (failing, steady) = ("failing.azurecr.io", "steady.azurecr.io");
    for server in [failing, steady] {
        cloud.azure.add_server(server, TENANT, &[APP]);
        let name = server.split('.').next().unwrap();
        let acr = json!({"identity": {"workload": {}}});
        cloud.put_registry(name, server, acr).await;
    }
    let namespace = cloud.fixture.namespace("pods").await;
    let pullpass = cloud.start_controller().await;
    let kept = cloud.wait_newest(&namespace, failing).await;
    let first = cloud.wait_newest(&namespace, steady).await;

    let html = Reply {
        status: 502,
        body: "<html>canary</html>".to_owned(),
        ..Reply::default()
    };
    cloud
        .azure
        .fail("failing.azurecr.io:443/oauth2/exchange", html, 1000);
    wait::until("the other registry's renewal", async || {
        (cloud.wait_newest(&namespace, steady).await != first).then_some(())
    })
    .await;
    pullpass.wait_logged(&["HTTP 502"]).await;
    let image = format!("{failing}/team/hello:1");
    let held = cloud.fixture.pull_secret(&namespace).await;
    assert_eq!(keyring::lookup(&held, &[image]), [vec![kept]]);
    cloud.check_discreet(&pullpass, "").await;
}

/// Whoever answers, and whatever they quote: no secret of any step shows, and each failure says whose it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_of_azure_makes_a_secret_show() {
    let cloud = Cloud::new("acr-secrets").await;
    cloud.add_application(APP, "pullpass:pullpass");
    cloud.put_secret("acr-secrets-good", SECRET).await;
    cloud.put_secret("acr-secrets-wrong", "canary-wrong").await;
    let garbled = "canary\u{e9}";
    cloud.put_secret("acr-secrets-garbled", garbled).await;
    let rows = quoting_rows();
    for (name, acr, url) in &rows {
        let server = format!("{name}.azurecr.io");
        cloud.azure.add_server(&server, TENANT, &[APP]);
        let name = format!("acr-secrets-{name}");
        cloud.put_registry(&name, &server, acr.clone()).await;
        if let Some((url, quote)) = url {
            cloud.azure.fail(url, quoting(quote), 1000);
        }
    }
    let namespace = cloud.fixture.namespace("pods").await;
    let pullpass = cloud.start().await;
    let mut told = String::new();
    for (name, ..) in &rows {
        let image = format!("{name}.azurecr.io/team/hello:1");
        let refused = cloud.refuse(&namespace, &image).await;
        let registry = format!("Registry acr-secrets-{name}");
        assert!(refused.contains(&registry), "{refused}");
        told.push_str(&refused);
    }
    pullpass.wait_logged(&["repeats a secret"]).await;
    cloud.check_discreet(&pullpass, &told).await;
    // The log is at its most talkative: nothing was left out with everything else.
    assert!(pullpass.log().contains("\"DEBUG\""));
}

type Quoting = (&'static str, Value, Option<(&'static str, &'static str)>);

/// Secrets that are of no use, and steps whose answers quote what they were sent: `acr`, URL and quote.
fn quoting_rows() -> Vec<Quoting> {
    let own = |tenant_id: &str| json!({"identity": {"workload": {"tenantId": tenant_id}}});
    let mut scoped = principal("acr-secrets-good");
    scoped["scopes"] = json!(["team/hello"]);
    let mut foreign = principal("acr-secrets-good");
    foreign["identity"]["servicePrincipal"]["tenantId"] = json!(ELSEWHERE);
    let other = "55555555-5555-5555-5555-555555555555";
    vec![
        ("wrong", principal("acr-secrets-wrong"), None),
        ("garbled", principal("acr-secrets-garbled"), None),
        ("absent", principal("acr-secrets-absent"), None),
        ("secret", foreign, Some((ELSEWHERE, "{fields}"))),
        ("assertion", own(other), Some((other, "{sent}"))),
        (
            "exchange",
            json!({"identity": {"workload": {}}}),
            Some(("exchange.azurecr.io", "{sent}")),
        ),
        (
            "scopes",
            scoped,
            Some(("scopes.azurecr.io:443/oauth2/token", "{fields}")),
        ),
    ]
}

/// An error of the form of each service.
fn quoting(quote: &str) -> Reply {
    let detail = json!({"code": "X", "message": format!("you sent {quote}")});
    let body = json!({
        "error": "invalid_request", "error_description": format!("you sent {quote}"),
        "errors": [detail],
    });
    Reply::json(400, &body)
}

/// A client secret that expired is replaced by writing a new one, without a restart; another one's is never used instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_client_secret_is_used_at_once() {
    let cloud = Cloud::new("acr-rotate").await;
    let fixture = &cloud.fixture;
    cloud.add_application(APP, "nobody:nobody");
    let secrets = vec![("canary-old".to_owned(), false), (SECRET.to_owned(), true)];
    {
        let mut content = cloud.azure.content();
        content.tenants.get_mut(TENANT).unwrap().applications[0].secrets = secrets;
    }
    let server = "rotate.azurecr.io";
    cloud.azure.add_server(server, TENANT, &[APP]);
    cloud.put_secret("acr-rotate-secret", "canary-old").await;
    let acr = principal("acr-rotate-secret");
    cloud.put_registry("acr-rotate", server, acr).await;
    let namespace = fixture.namespace("pods").await;
    let pullpass = cloud.start().await;
    let image = format!("{server}/team/hello:1");

    let told = cloud.refuse(&namespace, &image).await;
    assert!(told.contains("Registry acr-rotate"), "{told}");
    pullpass.wait_logged(&["AADSTS7000222"]).await;
    cloud.put_secret("acr-rotate-secret", SECRET).await;
    wait::until("the new client secret to be used", async || {
        let created = fixture.create(&namespace, &[&image]).await;
        created.warnings.is_empty().then_some(())
    })
    .await;
    assert_eq!(
        Some(cloud.first(&namespace, &image).await),
        cloud.azure.newest(server)
    );
    cloud.check_discreet(&pullpass, &told).await;
}

/// Behind AAD Pod Identity: Pods get the label that it goes by, unless they have one; pullpass itself is a Pod behind it, and goes on
/// asking for as long as its identity is being assigned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn works_behind_aad_pod_identity() {
    let cloud = Cloud::alone("acr-nmi").await;
    let fixture = &cloud.fixture;
    let server = "nmi.azurecr.io";
    cloud.azure.add_server(server, TENANT, &[APP]);
    cloud.azure.content().node.pod_identity = PodIdentity::Waiting;
    let spec = json!({
        "images": [format!("{server}/team")], "acr": {"identity": {"managedIdentity": {}}},
        "podMetadata": {"labels": {"aadpodidbinding": "orders"}},
    });
    fixture.put_registry("acr-nmi", spec).await;
    let namespace = fixture.namespace("pods").await;
    let pullpass = cloud.start_controller().await;
    let image = format!("{server}/team/hello:1");
    let label = |pod: &Value| pod["metadata"]["labels"]["aadpodidbinding"].clone();

    // Nothing is assigned yet: the agent keeps everybody waiting, and the Pod does not wait with it.
    let created = fixture.create(&namespace, &[&image]).await;
    assert!(references(&created.body));
    assert!(!created.warnings.is_empty());
    assert_eq!(label(&created.body), "orders");
    let mut own = pod(&namespace, &[&image]);
    own["metadata"]["labels"] = json!({"aadpodidbinding": "mine"});
    let created = fixture.cluster.create_pod(&own, "").await.ok();
    assert_eq!(label(&created.body), "mine");

    // Then the machine does not have it yet: nobody else asks, and it is asked again all the same.
    let asked = cloud.azure.count("metadata/identity");
    cloud.azure.content().node.pod_identity = PodIdentity::Absent;
    wait::until("more questions", async || {
        (cloud.azure.count("metadata/identity") >= asked + 2).then_some(())
    })
    .await;
    assert!(!fixture.has_pull_secret(&namespace).await);
    pullpass.wait_logged(&["Identity not found"]).await;

    // Once it is assigned, the credential comes, with no Pod in sight.
    cloud.azure.content().node.pod_identity = PodIdentity::Assigned(APP.to_owned());
    cloud.wait_newest(&namespace, server).await;
}

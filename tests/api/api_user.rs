//! Who pullpass is for the API server: as somebody else it is not ready, and says so.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use crate::support;
use serde_json::{Value, json};
use support::chart;
use support::fixture::{ECR, Fixture, OWN};
use support::process::{Launch, Pullpass};
use support::wait;

const OUTSIDE: &str = "pullpass@example.com";

/// What `/readyz` answers: status and text.
async fn readyz(pullpass: &Pullpass) -> (u16, String) {
    let url = format!("http://{}/readyz", pullpass.health());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// How to start it as this user, whom its own account acts as.
async fn launch_as(fixture: &Fixture, user: &str, arguments: Vec<&'static str>) -> Launch {
    let launch = fixture.launch().await;
    let text = std::fs::read_to_string(&launch.kubeconfig).unwrap();
    let mut kubeconfig: Value = serde_saphyr::from_str(&text).unwrap();
    kubeconfig["users"][0]["user"]["as"] = user.into();
    let file = fixture.file("outside.kubeconfig");
    std::fs::write(&file, kubeconfig.to_string()).unwrap();
    Launch {
        kubeconfig: file,
        controller: true,
        arguments,
        ..launch
    }
}

/// Lets pullpass' account act as another user.
async fn allow_acting_as(fixture: &Fixture, user: &str) {
    let group = "rbac.authorization.k8s.io";
    let acting = json!({"apiGroups": [""], "resources": ["users"], "resourceNames": [user], "verbs": ["impersonate"]});
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": "acting"}, "rules": [acting],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "acting"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "acting"},
        "subjects": [{"kind": "ServiceAccount", "name": "pullpass", "namespace": OWN}],
    });
    fixture.cluster.apply(&role).await;
    fixture.cluster.apply(&binding).await;
}

/// How many requests about this resource the API server has seen from it.
fn count_requests(fixture: &Fixture, resource: &str) -> usize {
    let all = fixture.api.all();
    all.iter()
        .filter(|request| request.path.contains(resource))
        .count()
}

/// Has the chart bind the rights and the policies to another user.
async fn install_for(fixture: &Fixture, user: &str) {
    let rights = ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
    for object in chart::render(&[&format!("user={user}")]) {
        let kind = object["kind"].as_str().unwrap();
        if rights.contains(&kind) || kind.starts_with("ValidatingAdmissionPolicy") {
            fixture.cluster.apply(&object).await;
        }
    }
}

/// Waits until it watches all that a leader waits for.
async fn wait_watches(fixture: &Fixture) {
    const WATCHED: [&str; 4] = [
        "/registries",
        "/namespaces?",
        "/api/v1/secrets",
        "/namespaces/pullpass/secrets",
    ];
    wait::until("all watches", async || {
        let all = fixture.api.all();
        let is_watched = |resource: &&str| {
            let mut all = all.iter();
            all.any(|request| request.is_watch() && request.path.contains(*resource))
        };
        WATCHED.iter().all(is_watched).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_not_ready_as_another_user_and_says_who_it_is() {
    let fixture = Fixture::alone("user").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let namespace = fixture.namespace("pods").await;
    install_for(&fixture, OUTSIDE).await;
    allow_acting_as(&fixture, OUTSIDE).await;

    // With the rights, and not who it thinks.
    let launch = launch_as(&fixture, OUTSIDE, Vec::new()).await;
    let pullpass = Pullpass::listen(&launch).await;
    let problem = format!(
        "this process is user {OUTSIDE}, and pullpass is system:serviceaccount:pullpass:pullpass in this cluster"
    );
    wait::until("the reason in /readyz", async || {
        let (status, text) = readyz(&pullpass).await;
        assert_eq!(status, 503, "{text}");
        (text.starts_with("not ready: ") && text.contains(&problem)).then_some(())
    })
    .await;
    pullpass.wait_logged(&["not ready: ", &problem]).await;
    // And it does not lead: it knows all that a leader waits for, asks again who it is, and never for the Lease.
    wait_watches(&fixture).await;
    let asked = count_requests(&fixture, "/selfsubjectreviews");
    wait::until("it to ask twice more who it is", async || {
        (count_requests(&fixture, "/selfsubjectreviews") >= asked + 2).then_some(())
    })
    .await;
    assert_eq!(count_requests(&fixture, "/leases"), 0);
    assert!(!fixture.has_pull_secret(&namespace).await);
    drop(pullpass);

    // Told who it is, as the chart is.
    let launch = launch_as(&fixture, OUTSIDE, vec!["--user", OUTSIDE]).await;
    let pullpass = Pullpass::start(&launch).await;
    assert_eq!(readyz(&pullpass).await, (200, "ok\n".to_owned()));
    wait::until("the pull secret", async || {
        fixture.has_pull_secret(&namespace).await.then_some(())
    })
    .await;
    assert!(count_requests(&fixture, "/leases") > 0);
}

//! What it costs when nothing happens.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::support::figure;
use super::support::fixture::{ECR, Fixture};
use super::support::process::Pullpass;
use super::support::proxy::Seen;
use super::support::wait;
use super::{is_lease, launch, make_namespaces, wait_all, wait_leads, writes};

/// For how long nothing is to happen.
const QUIET: Duration = Duration::from_secs(8);

/// What is watched: the requests without what differs from one to the next.
fn watched(requests: &[Seen]) -> BTreeSet<String> {
    let watches = requests.iter().filter(|request| request.is_watch());
    let what = |request: &Seen| {
        let (path, query) = request.path.split_once('?').unwrap();
        let selector = query.split('&').find(|one| one.contains("Selector="));
        format!("{path} {}", selector.unwrap_or_default())
    };
    watches.map(what).collect()
}

/// A Registry that chooses among Pods, and the rights that it needs.
async fn put_narrow(fixture: &Fixture, name: &str) {
    let spec = json!({
        "images": [format!("{ECR}/{name}")], "ecr": fixture.ecr(fixture.name),
        "namespaceSelector": {"matchLabels": {"scene": fixture.name}}, "serviceAccountNames": ["ci"],
    });
    let secret = format!("pullpass-{name}");
    let rules = json!([{
        "apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    }]);
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": secret}, "rules": rules,
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": secret},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": secret},
        "subjects": [{"kind": "ServiceAccount", "name": "pullpass", "namespace": "pullpass"}],
    });
    fixture.cluster.apply(&role).await;
    fixture.cluster.apply(&binding).await;
    fixture.put_registry(name, spec).await;
}

/// Waits until a Registry's status says that so many namespaces are ready: nothing follows from the last write any more.
async fn wait_said(fixture: &Fixture, registry: &str, ready: usize) {
    let path = format!("/apis/pullpass.dev/v1alpha1/registries/{registry}");
    wait::until(&format!("the status of {registry}"), async || {
        let status = fixture.cluster.get(&path).await?["status"].take();
        (status["namespaces"]["ready"] == ready).then_some(())
    })
    .await;
}

async fn start(fixture: &Fixture) -> [Pullpass; 2] {
    let launch = launch(fixture).await;
    let first = Pullpass::start(&launch).await;
    wait_leads(&first).await;
    [first, Pullpass::start(&launch).await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asks_for_nothing_when_nothing_changes_and_restarts_for_free() {
    const MANY: usize = 20;
    let fixture = Fixture::alone("idle").await;
    let team = format!("{ECR}/team");
    fixture.serve(&[&team]).await;
    put_narrow(&fixture, "own").await;
    make_namespaces(&fixture, MANY).await;
    let replicas = start(&fixture).await;
    wait_all(&fixture, MANY, &team).await;
    let watches = watched(&fixture.api.all());
    // Namespaces, Registries, source Secrets, the store, and one for each name of pull secrets.
    assert_eq!(watches.len(), 6, "{watches:#?}");
    for registry in [fixture.name, "own"] {
        wait_said(&fixture, registry, MANY).await;
    }
    fixture.api.forget();
    fixture.aws.forget();
    let [leader, follower] = &replicas;
    let before = [leader, follower].map(Pullpass::context_switches);
    tokio::time::sleep(QUIET).await;
    let after = [leader, follower].map(Pullpass::context_switches);
    let quiet = fixture.api.all();
    figure::per_second(
        "context switches of a leader at rest",
        after[0] - before[0],
        QUIET,
        10,
    );
    figure::per_second(
        "context switches of a follower at rest",
        after[1] - before[1],
        QUIET,
        3,
    );
    let others: Vec<&Seen> = quiet
        .iter()
        .filter(|request| !is_lease(request) && !request.is_watch())
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let leases = quiet.iter().filter(|request| is_lease(request)).count();
    println!("idle: {leases} requests for the Lease in {QUIET:?} by two replicas, nothing else");
    assert!(leases <= 12, "{leases}");

    // All replicas go and come back: what is there is read, nothing is written, nothing minted.
    for replica in replicas {
        replica.terminate();
    }
    fixture.api.forget();
    let replicas = start(&fixture).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(writes(&fixture.api.all()), [""; 0]);
    assert!(fixture.aws.all().is_empty());
    let lists = fixture.api.all();
    let lists = lists
        .iter()
        .filter(|request| request.path.contains("limit="))
        .count();
    println!("a restart of two replicas: {lists} lists, 0 writes, 0 cloud calls");
    drop(replicas);
}

/// The same where each namespace's own ServiceAccount mints: whose it is has to be read again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_for_free_where_service_accounts_mint() {
    use super::support::account::{allow_tokens, put_account};
    use super::support::roles::add_role;
    let fixture = Fixture::alone("accounts").await;
    allow_tokens(&fixture, "accounts-puller").await;
    let namespace = fixture.namespace("team").await;
    put_account(&fixture, &namespace, "accounts-puller", json!({})).await;
    let role = add_role(&fixture, "accounts", &namespace, "accounts-puller").await;
    let team = format!("{ECR}/team");
    let spec = json!({"images": [team], "ecr": {
        "identity": {"serviceAccount": {"name": "accounts-puller", "roleArn": role}},
        "endpoints": {"ecr": fixture.aws.url, "sts": fixture.aws.url},
    }});
    fixture.put_registry(fixture.name, spec).await;
    let replicas = start(&fixture).await;
    wait_all(&fixture, 1, &team).await;
    wait_said(&fixture, fixture.name, 1).await;
    for replica in replicas {
        replica.terminate();
    }
    fixture.api.forget();
    fixture.aws.forget();
    let replicas = start(&fixture).await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(writes(&fixture.api.all()), [""; 0]);
    assert!(fixture.aws.all().is_empty());
    drop(replicas);
}

//! What becomes of minted credentials after their end, and when their tenant is gone, on a real API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod made;
mod replica;

use crate::support;
use jiff::{SignedDuration, Timestamp};
use made::{Made, claim, end, minutes, tenant};
use pullpass::provision::ports::ClusterError;
use replica::Replica;
use serde_json::{Value, json};
use support::account::{allow_tokens, put_account};
use support::fixture::{ECR, Fixture, OWN};
use support::process::make_namespace;
use support::roles::add_role;
use support::user::User;
use support::wait;

/// The ServiceAccount that mints, in each namespace.
const ACCOUNT: &str = "stored-puller";

/// A namespace whose own ServiceAccount mints its credential.
async fn make_tenant(fixture: &Fixture, name: &str, life: u32) -> String {
    let namespace = fixture.namespace(name).await;
    let role = add_role(fixture, name, &namespace, ACCOUNT).await;
    let annotations = json!({"eks.amazonaws.com/role-arn": role});
    put_account(fixture, &namespace, ACCOUNT, annotations).await;
    let session = format!("arn:aws:sts::123456789012:assumed-role/{name}/pullpass");
    let body = json!({"seconds": life, "principal": session});
    fixture.world.moto.post("life", body).await;
    namespace
}

/// A Registry whose credential each namespace's own ServiceAccount mints.
async fn put_tenants(fixture: &Fixture) {
    allow_tokens(fixture, ACCOUNT).await;
    let spec = json!({"images": [format!("{ECR}/own")], "ecr": {
        "identity": {"serviceAccount": {"name": ACCOUNT, "fromAnnotations": true}},
        "endpoints": {"ecr": fixture.aws.url, "sts": fixture.aws.url},
    }});
    fixture.put_registry("tenants", spec).await;
}

/// The stored credentials that were minted in this namespace; with an empty one those that were minted in none alone.
async fn stored_of(fixture: &Fixture, namespace: &str) -> Vec<String> {
    let of = |secret: &Value| secret["metadata"]["labels"]["pullpass.dev/tenant-namespace"].clone();
    let stored = fixture.stored().await.into_iter();
    let stored = stored.filter(|secret| secret["data"]["password"].is_string());
    stored
        .filter(|secret| of(secret).as_str().unwrap_or_default() == namespace)
        .map(|secret| secret["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn wait_stored(fixture: &Fixture, namespace: &str, count: usize) {
    wait::until(&format!("{count} credentials of {namespace}"), async || {
        (stored_of(fixture, namespace).await.len() == count).then_some(())
    })
    .await;
}

/// A namespace's end: no namespace controller runs here.
async fn finalize(fixture: &Fixture, namespace: &str) {
    let path = format!("/api/v1/namespaces/{namespace}");
    let answer = fixture.cluster.send("DELETE", &path, None).await.ok();
    let mut object = answer.body;
    object["spec"]["finalizers"] = json!([]);
    let path = format!("{path}/finalize");
    let answer = fixture.cluster.send("PUT", &path, Some(&object)).await;
    answer.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_with_its_namespace_or_service_account_at_once() {
    let fixture = Fixture::alone("stored").await;
    put_tenants(&fixture).await;
    let gone = make_tenant(&fixture, "gone", 3600).await;
    let orphan = make_tenant(&fixture, "orphan", 16).await;
    let stays = make_tenant(&fixture, "stays", 3600).await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let pullpass = fixture.start_controller().await;
    for (namespace, count) in [(&gone, 1), (&orphan, 1), (&stays, 1), (&String::new(), 1)] {
        wait_stored(&fixture, namespace, count).await;
    }
    let kept = [
        stored_of(&fixture, &stays).await,
        stored_of(&fixture, "").await,
    ];

    finalize(&fixture, &gone).await;
    wait_stored(&fixture, &gone, 0).await;

    // That a ServiceAccount is gone is seen when its identity is used next.
    let path = format!("/api/v1/namespaces/{orphan}/serviceaccounts/{ACCOUNT}");
    fixture.cluster.send("DELETE", &path, None).await.ok();
    wait_stored(&fixture, &orphan, 0).await;

    // Everything else stays until an hour after its end, also where nobody uses it any more.
    let path = "/apis/pullpass.dev/v1alpha1/registries/stored";
    fixture.cluster.send("DELETE", path, None).await.ok();
    wait::until("the pull secret without the Registry's login", async || {
        let held = fixture.pull_secret(&stays).await;
        (!held.contains("/team")).then_some(())
    })
    .await;
    make_namespace(&fixture.cluster, &stays, &json!({"scene": "stored"})).await;
    wait::until("no pull secret where somebody opted out", async || {
        (!fixture.has_pull_secret(&stays).await).then_some(())
    })
    .await;
    // Three looks later nothing else is gone.
    for number in 1..=3 {
        let last = Made(number);
        last.put(&fixture, &[end(minutes(-61))]).await;
        last.wait_gone(&fixture).await;
    }
    let left = [
        stored_of(&fixture, &stays).await,
        stored_of(&fixture, "").await,
    ];
    assert_eq!(left, kept);
    // The API server shows that one is gone before its deletion is logged.
    wait::until("five deletions in the log", async || {
        let log = pullpass.log();
        (log.matches("deleted a stored credential").count() == 5).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_an_hour_after_its_end_and_not_before() {
    let fixture = Fixture::alone("ended").await;
    let stay = [
        (Made(1), vec![end(minutes(-59))]),
        (Made(2), vec![end(minutes(60))]),
        (Made(3), vec![claim(minutes(-59))]),
        // It was made just now.
        (Made(4), vec![]),
    ];
    let go = [
        (Made(5), vec![end(minutes(-61))]),
        (Made(6), vec![claim(minutes(-61))]),
        (Made(7), vec![end(minutes(-61)), claim(minutes(-60))]),
    ];
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "somebodys", "namespace": OWN, "labels": {"pullpass.dev/store": "true"}},
        "stringData": {"expiresAt": "2020-01-01T00:00:00Z"},
    });
    fixture.cluster.apply(&foreign).await;
    for (made, parts) in stay.iter().chain(&go) {
        made.put(&fixture, parts).await;
    }
    let _pullpass = fixture.start_controller().await;
    for (made, _) in &go {
        made.wait_gone(&fixture).await;
    }
    for (made, _) in &stay {
        assert!(made.is_there(&fixture).await, "{}", made.name());
    }
    assert!(fixture.cluster.secret(OWN, "somebodys").await.is_some());
    stay[1].0.put(&fixture, &[end(minutes(-61))]).await;
    stay[1].0.wait_gone(&fixture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outlives_restarts_other_keys_and_a_registry_that_rests() {
    let fixture = Fixture::alone("kept").await;
    fixture.namespace("team").await;
    fixture.serve(&[&format!("{ECR}/team")]).await;
    let pullpass = fixture.start_controller().await;
    wait_stored(&fixture, "", 1).await;
    let earlier = stored_of(&fixture, "").await.remove(0);
    let user = User::add(&fixture.world.moto, "kept-later").await;
    fixture.put_keys("kept", &user).await;
    wait_stored(&fixture, "", 2).await;
    let both = stored_of(&fixture, "").await;
    pullpass.terminate();
    let spec =
        json!({"images": [format!("{ECR}/team")], "ecr": fixture.ecr("kept"), "suspend": true});
    fixture.put_registry("kept", spec).await;
    let _pullpass = fixture.start_controller().await;
    let last = Made(1);
    last.put(&fixture, &[end(minutes(-61))]).await;
    last.wait_gone(&fixture).await;
    assert_eq!(stored_of(&fixture, "").await, both);

    let path = format!("/api/v1/namespaces/{OWN}/secrets/{earlier}");
    let mut object = fixture.cluster.get(&path).await.unwrap();
    object["stringData"] = end(minutes(-61))["stringData"].clone();
    fixture.cluster.send("PUT", &path, Some(&object)).await.ok();
    wait_stored(&fixture, "", 1).await;
    assert!(!stored_of(&fixture, "").await.contains(&earlier));
}

/// The unique id of what stands there.
async fn uid(fixture: &Fixture, path: &str) -> String {
    let object = fixture.cluster.get(path).await.unwrap();
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_with_this_very_namespace_and_service_account_and_no_namesake() {
    let fixture = Fixture::alone("owners").await;
    let name = fixture.namespace_name("out");
    make_namespace(&fixture.cluster, &name, &json!({})).await;
    let path = format!("/api/v1/namespaces/{name}");
    let namespace = uid(&fixture, &path).await;
    let account = uid(&fixture, &format!("{path}/serviceaccounts/default")).await;
    let row = |number, namespace: &str, account: &str| {
        let owner = tenant((&name, namespace), ("default", account));
        (Made(number), [owner, end(minutes(60))])
    };
    let gone = [row(1, "another", &account), row(2, &namespace, "another")];
    let (stays, parts) = row(3, &namespace, &account);
    stays.put(&fixture, &parts).await;
    for (made, parts) in &gone {
        made.put(&fixture, parts).await;
    }
    let replica = Replica::start(&fixture, Timestamp::now).await;
    replica.lead();
    for (made, _) in &gone {
        made.wait_gone(&fixture).await;
    }
    assert!(stays.is_there(&fixture).await, "it only did not opt in");
}

fn three_hours_ago() -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stays_where_the_clock_was_put_back() {
    let fixture = Fixture::alone("clock").await;
    let ended = Made(1);
    ended.put(&fixture, &[end(minutes(-61))]).await;
    // The clock does not say that one's tenant is gone.
    let orphan = Made(2);
    let owner = tenant(("nowhere", "n-1"), ("default", "s-1"));
    orphan.put(&fixture, &[owner, end(minutes(60))]).await;
    let behind = Replica::start(&fixture, three_hours_ago).await;
    behind.lead();
    orphan.wait_gone(&fixture).await;
    assert!(ended.is_there(&fixture).await);
    let right = Replica::start(&fixture, Timestamp::now).await;
    right.lead();
    ended.wait_gone(&fixture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_leaders_delete_what_has_ended_and_nothing_that_was_renewed() {
    const MANY: u64 = 60;
    let fixture = Fixture::alone("both").await;
    let renewed = Made(0);
    renewed.put(&fixture, &[end(minutes(-61))]).await;
    for number in 1..=MANY {
        Made(number).put(&fixture, &[end(minutes(-61))]).await;
    }
    let one = Replica::start(&fixture, Timestamp::now).await;
    let other = Replica::start(&fixture, Timestamp::now).await;
    // What they know is older than this.
    let seen = one.minted.stored();
    let seen = seen
        .iter()
        .find(|one| *one.name == *renewed.name())
        .unwrap();
    renewed.put(&fixture, &[end(minutes(60))]).await;
    let refused = one.minted.delete(seen).await;
    assert!(
        matches!(refused, Err(ClusterError::Conflict { .. })),
        "{refused:?}"
    );
    one.lead();
    other.lead();
    for number in 1..=MANY {
        Made(number).wait_gone(&fixture).await;
    }
    assert!(renewed.is_there(&fixture).await);
}

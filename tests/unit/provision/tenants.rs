//! Identities of namespaces' own ServiceAccounts: bound to their namespace, looked at again when they are refused or old.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pullpass::credential::{MintError, TenantError};
use pullpass::provision::service_account::ServiceAccount;
use pullpass::provision::{Coverage, EnsureOutcome, Namespace, PULL_SECRET, Provision};
use pullpass::registry::source::{EcrIdentity, MintSource};
use serde_json::json;
use tokio::time::Instant;

use super::double::{World, now};
use super::names::name;
use super::{EU, Replica, alone, read, registry};

const ROLE: &str = "arn:aws:iam::123456789012:role/pull";

fn serve(replica: &Replica, account: &serde_json::Value) {
    let spec = json!({"images": [EU], "namespaceSelector": {}, "ecr": {"identity": {"serviceAccount": account}}});
    replica
        .state
        .set_registries(read(vec![registry("own", spec)]), now());
}

fn namespace(name: &str) -> Arc<Namespace> {
    let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), "enabled".to_owned())]);
    let namespace = Namespace::new(name.parse().unwrap(), labels, false);
    Arc::new(namespace.with_uid(format!("uid-of-{name}")))
}

fn set_account(world: &World, namespace: &str, uid: &str, role: Option<&str>) {
    let role = role.map(|role| ("eks.amazonaws.com/role-arn".to_owned(), role.to_owned()));
    let account = ServiceAccount {
        uid: uid.to_owned(),
        pull_secrets: None,
        annotations: role.into_iter().collect(),
    };
    let key = (namespace.to_owned(), "puller".to_owned());
    world.accounts.lock().unwrap().insert(key, Some(account));
}

fn remove_account(world: &World, namespace: &str) {
    let key = (namespace.to_owned(), "puller".to_owned());
    world.accounts.lock().unwrap().insert(key, None);
}

async fn ensure(replica: &Replica, namespace: &Arc<Namespace>) -> EnsureOutcome {
    let deadline = Instant::now() + Duration::from_mins(1);
    replica
        .ensure
        .ensure(namespace, &name(PULL_SECRET), &[EU], deadline)
        .await
}

fn reason(outcome: &EnsureOutcome) -> &'static str {
    match outcome {
        EnsureOutcome::Pending(pending) => pending[0].reason,
        EnsureOutcome::Covered => "Covered",
        EnsureOutcome::Foreign => "Foreign",
    }
}

/// Whose credentials were minted, as namespace, ServiceAccount's unique id and role; sorted.
fn minted(world: &World) -> Vec<(String, String, String)> {
    let all = world.minted.lock().unwrap();
    let whose = |source: &MintSource| match source {
        MintSource::Ecr(ecr) => match &ecr.identity {
            EcrIdentity::Tenant {
                tenant, role_arn, ..
            } => (
                tenant.namespace.to_string(),
                tenant.service_account_uid.clone(),
                role_arn.clone(),
            ),
            other => panic!("{other:?} minted"),
        },
        MintSource::Acr(_) => panic!("{source:?} minted"),
    };
    let mut minted: Vec<_> = all.keys().map(whose).collect();
    minted.sort();
    minted
}

#[tokio::test]
async fn binds_one_registry_to_each_namespace_by_itself_and_stays_warm() {
    let (world, replica) = alone();
    serve(&replica, &json!({"name": "puller", "roleArn": ROLE}));
    let namespaces = [namespace("team-a"), namespace("team-b")];
    for namespace in &namespaces {
        set_account(
            &world,
            &namespace.name,
            &format!("sa-{}", namespace.name),
            None,
        );
        assert_eq!(ensure(&replica, namespace).await, EnsureOutcome::Covered);
    }
    let of = |name: &str| (name.to_owned(), format!("sa-{name}"), ROLE.to_owned());
    assert_eq!(minted(&world), [of("team-a"), of("team-b")]);

    let reads = world.reads.load(Ordering::SeqCst);
    for namespace in &namespaces {
        for _ in 0..5 {
            let covers = replica
                .ensure
                .covers(namespace, &name(PULL_SECRET), &[EU], now(), false);
            assert_eq!(covers, Coverage::Covered);
        }
        // The same read serves both questions.
        assert!(
            replica
                .ensure
                .may_reference(&namespace.name, &name("puller"), PULL_SECRET)
                .await
        );
    }
    assert_eq!(world.reads.load(Ordering::SeqCst), reads);
}

#[tokio::test]
async fn uses_a_service_account_as_soon_as_it_is_made() {
    let (world, replica) = alone();
    serve(&replica, &json!({"name": "puller", "roleArn": ROLE}));
    let namespace = namespace("team-a");
    remove_account(&world, "team-a");
    for _ in 0..2 {
        assert_eq!(
            reason(&ensure(&replica, &namespace).await),
            "MissingServiceAccount"
        );
    }
    set_account(&world, "team-a", "sa", None);
    assert_eq!(ensure(&replica, &namespace).await, EnsureOutcome::Covered);
}

#[tokio::test]
async fn takes_from_annotations_a_role_of_the_partition_and_nothing_else() {
    let (world, replica) = alone();
    serve(
        &replica,
        &json!({"name": "puller", "fromAnnotations": true}),
    );
    let namespace = namespace("team-a");
    let rows = [
        (None, "MissingAnnotation"),
        (Some(""), "MalformedAnnotation"),
        (Some("pull"), "MalformedAnnotation"),
        (
            Some("arn:aws:iam::123456789012:user/pull"),
            "MalformedAnnotation",
        ),
        (
            Some("arn:aws:iam::123456789012:role/pull "),
            "MalformedAnnotation",
        ),
        (Some("https://evil.example/role"), "MalformedAnnotation"),
        (
            Some("arn:aws-cn:iam::123456789012:role/pull"),
            "MalformedAnnotation",
        ),
        (Some(ROLE), "Covered"),
    ];
    for (role, expected) in rows {
        set_account(&world, "team-a", "sa", role);
        let outcome = ensure(&replica, &namespace).await;
        assert_eq!(reason(&outcome), expected, "{role:?}");
        if let EnsureOutcome::Pending(pending) = outcome {
            let message = &pending[0].message;
            assert!(message.contains("team-a/puller"), "{message}");
            assert!(!message.contains("evil"), "{message}");
        }
    }
    let expected = ("team-a".to_owned(), "sa".to_owned(), ROLE.to_owned());
    assert_eq!(minted(&world), [expected]);
}

#[tokio::test]
async fn looks_at_the_service_account_again_when_it_is_refused() {
    let (world, replica) = alone();
    serve(&replica, &json!({"name": "puller", "roleArn": ROLE}));
    let namespace = namespace("team-a");
    set_account(&world, "team-a", "old", None);
    assert!(
        replica
            .ensure
            .may_reference(&name("team-a"), &name("puller"), PULL_SECRET)
            .await
    );

    // It was made anew before its identity was used: what is remembered of it is refused, what it is now is not.
    set_account(&world, "team-a", "new", None);
    let replaced = TenantError::Replaced {
        namespace: "team-a".to_owned(),
        service_account: "puller".to_owned(),
    };
    replica.mints.refuse("old", MintError::from(replaced));
    assert_eq!(ensure(&replica, &namespace).await, EnsureOutcome::Covered);
    let expected = ("team-a".to_owned(), "new".to_owned(), ROLE.to_owned());
    assert_eq!(minted(&world), [expected]);
}

#[tokio::test(start_paused = true)]
async fn follows_a_changed_service_account_within_minutes() {
    let (world, replica) = alone();
    serve(
        &replica,
        &json!({"name": "puller", "fromAnnotations": true}),
    );
    let namespace = namespace("team-a");
    let other = "arn:aws:iam::123456789012:role/other";
    set_account(&world, "team-a", "sa", Some(ROLE));
    assert_eq!(ensure(&replica, &namespace).await, EnsureOutcome::Covered);
    let covers = || {
        replica
            .ensure
            .covers(&namespace, &name(PULL_SECRET), &[EU], now(), false)
    };

    set_account(&world, "team-a", "sa", Some(other));
    let reads = world.reads.load(Ordering::SeqCst);
    assert_eq!(covers(), Coverage::Covered);
    tokio::time::advance(Duration::from_mins(6)).await;
    // The Pod that finds it old does not wait: it is read beside.
    assert_eq!(covers(), Coverage::Covered);
    replica.ensure.drain().await;
    assert!(world.reads.load(Ordering::SeqCst) > reads);
    let of = |role: &str| ("team-a".to_owned(), "sa".to_owned(), role.to_owned());
    assert_eq!(minted(&world), [of(other), of(ROLE)]);
    assert_eq!(covers(), Coverage::Covered);

    // One that is gone gives nothing any more; what it had minted stays until it expires.
    remove_account(&world, "team-a");
    tokio::time::advance(Duration::from_mins(6)).await;
    assert_eq!(covers(), Coverage::Covered);
    replica.ensure.drain().await;
    assert_eq!(covers(), Coverage::Missing);
    assert_eq!(
        reason(&ensure(&replica, &namespace).await),
        "MissingServiceAccount"
    );
    assert_eq!(world.logins("team-a").len(), 1);
}

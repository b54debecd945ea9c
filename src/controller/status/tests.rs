use serde_json::json;

use super::*;
use crate::controller::at;
use crate::provision::summary::RegistrySummaries;
use crate::registry::Registry;

/// A Registry of all namespaces, for some of their Pods alone if `accounts` are named.
fn registry(name: &str, accounts: &[&str]) -> Registry {
    serde_json::from_value(json!({
        "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name, "uid": name},
        "spec": {
            "images": [format!("{name}.example.com")], "namespaceSelector": {},
            "serviceAccountNames": accounts,
            "static": {"secretRef": {"name": name}},
        },
    }))
    .unwrap()
}

/// A snapshot in which a Secret that is not ours has the name in so many namespaces, for each Registry.
fn snapshot(registries: &[&str], namespaces: usize) -> Snapshot {
    let summary = RegistrySummary {
        total: namespaces,
        foreign: namespaces,
        foreign_in: (0..namespaces).map(|n| format!("team-{n:02}")).collect(),
        ..RegistrySummary::default()
    };
    let summaries = registries
        .iter()
        .map(|&name| (name.parse().unwrap(), summary.clone()));
    let mut snapshot = Snapshot::default();
    snapshot.summaries = summaries.collect::<RegistrySummaries>();
    snapshot
}

fn find_updates_at(
    told: &mut ReportedStatus,
    snapshot: &Snapshot,
    registries: &Registries,
    now: Timestamp,
) -> StatusUpdates {
    let errors = ReconcileErrors {
        failure: &|_| None,
        drifting: HashSet::new(),
        unwritten: HashMap::new(),
        notes: Vec::new(),
    };
    told.find_updates(snapshot, registries, &errors, |_| None, now)
}

/// `namespace/name` of the Secrets that notices are about.
fn secrets(updates: &StatusUpdates) -> BTreeSet<String> {
    let secrets = updates.events.iter().map(|notice| &notice.regarding);
    let secrets = secrets.filter(|object| object.kind.as_deref() == Some("Secret"));
    secrets
        .map(|object| {
            let name = object.name.as_deref().unwrap();
            format!("{}/{name}", object.namespace.as_deref().unwrap())
        })
        .collect()
}

#[test]
fn tells_of_the_very_secret_that_is_not_ours() {
    let registries = Registries::build([registry("all", &[]), registry("some", &["ci"])]);
    let snapshot = snapshot(&["all", "some"], 1);
    let updates = find_updates_at(
        &mut ReportedStatus::default(),
        &snapshot,
        &registries,
        at(0),
    );
    let wanted = ["team-00/pullpass", "team-00/pullpass-some"];
    assert_eq!(secrets(&updates), wanted.map(str::to_owned).into());
    assert_eq!(
        updates.requeue_at,
        Some(at(60)),
        "it is reported again as long as it lasts"
    );
}

#[test]
fn tells_of_everything_in_turn_where_there_is_much() {
    let registries = Registries::build([registry("all", &[])]);
    // With the Event of the Registry itself: three rounds, and all of it again a minute later.
    let snapshot = snapshot(&["all"], MAX_EVENTS * 2);
    let (mut told, mut found) = (ReportedStatus::default(), BTreeSet::new());
    for round in 0..3 {
        let now = at(round * 2);
        let updates = find_updates_at(&mut told, &snapshot, &registries, now);
        assert!(updates.events.len() <= MAX_EVENTS, "{round}");
        assert_eq!(
            updates.requeue_at,
            Some(at(round * 2 + if round < 2 { 2 } else { 60 })),
            "{round}"
        );
        found.extend(secrets(&updates));
    }
    assert_eq!(found.len(), MAX_EVENTS * 2);
    // Then from the first one on again.
    let updates = find_updates_at(&mut told, &snapshot, &registries, at(60));
    assert!(secrets(&updates).contains("team-00/pullpass"));
    assert_eq!(updates.requeue_at, Some(at(62)));
}

#[test]
fn writes_no_status_that_was_refused_a_moment_ago() {
    let registries = Registries::build([registry("all", &[])]);
    let snapshot = Snapshot::default();
    let (mut told, mut now) = (ReportedStatus::default(), at(0));
    let backoff = || ClusterError::Forbidden {
        what: "a status".to_owned(),
        message: "no".to_owned(),
    };
    for wait in [2, 4, 8, 16, 32, 60, 60] {
        let updates = find_updates_at(&mut told, &snapshot, &registries, now);
        assert_eq!(
            (updates.statuses.len(), updates.requeue_at),
            (1, None),
            "{wait}"
        );
        told.record_write(&"all".parse().unwrap(), Err(backoff()), now);
        let early = find_updates_at(&mut told, &snapshot, &registries, now);
        now += SignedDuration::from_secs(wait);
        assert_eq!((early.statuses.len(), early.requeue_at), (0, Some(now)));
    }
    let updates = find_updates_at(&mut told, &snapshot, &registries, now);
    assert_eq!(updates.statuses.len(), 1);
    told.record_write(&"all".parse().unwrap(), Ok(()), now);
    let updates = find_updates_at(&mut told, &snapshot, &registries, now);
    assert_eq!((updates.statuses.len(), updates.requeue_at), (0, None));
    // The clock goes back while one is backed off from.
    told.record_write(&"all".parse().unwrap(), Err(backoff()), now);
    let updates = find_updates_at(&mut told, &snapshot, &registries, at(-3600));
    assert_eq!(updates.statuses.len(), 1);
}

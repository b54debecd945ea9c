//! What people in namespaces are told, and what a label that means nothing changes: nothing.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use pullpass::cluster::EventType;

use super::*;

/// The namespaces in which an Event of this type and reason is.
fn told(replica: &Replica, event_type: EventType, reason: &str) -> BTreeSet<String> {
    let events = replica.statuses.events.lock().unwrap();
    let of = events
        .iter()
        .filter(|one| one.event_type == event_type && one.reason == reason);
    of.filter_map(|one| one.regarding.namespace.clone())
        .collect()
}

fn notes(replica: &Replica, reason: &str) -> BTreeSet<String> {
    let events = replica.statuses.events.lock().unwrap();
    let of = events.iter().filter(|one| one.reason == reason);
    let in_namespaces = of.filter(|one| one.regarding.namespace.is_some());
    in_namespaces.map(|one| one.note.clone()).collect()
}

fn names(count: usize) -> BTreeSet<String> {
    (0..count).map(|number| format!("team-{number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn says_in_each_namespace_that_pods_wait_and_that_they_do_no_more() {
    let replica = Replica::start(Duration::ZERO);
    replica.cloud.fails.store(true, Ordering::SeqCst);
    replica.serve(registries(1));
    replica.opted_in(3);
    replica.lead();
    pass(60_000).await;
    assert_eq!(told(&replica, EventType::Warning, "Timeout"), names(3));
    let said = notes(&replica, "Timeout");
    let expected = "Pods here get no login of Registry registry-1 (Timeout): ask who runs pullpass, the Registry's status says why";
    assert_eq!(Vec::from_iter(said), [expected], "and nothing of the cloud");
    assert!(told(&replica, EventType::Normal, "LoginAvailable").is_empty());
    replica.cloud.fails.store(false, Ordering::SeqCst);
    pass(120_000).await;
    assert_eq!(
        told(&replica, EventType::Normal, "LoginAvailable"),
        names(3)
    );
    replica.statuses.events.lock().unwrap().clear();
    pass(3_600_000).await;
    assert!(replica.statuses.events.lock().unwrap().is_empty(), "once");
}

#[tokio::test(start_paused = true)]
async fn tells_a_bounded_number_of_namespaces() {
    let replica = Replica::start(Duration::ZERO);
    replica.cloud.fails.store(true, Ordering::SeqCst);
    replica.serve(registries(2));
    replica.opted_in(300);
    replica.lead();
    pass(120_000).await;
    let told = told(&replica, EventType::Warning, "Timeout");
    assert_eq!(told.len(), 100, "{told:?}");
}

/// Within so many milliseconds a status says that a source Secret went: namespaces are reconciled, and changes of a status are gathered.
const SOON: u64 = 4_000;

/// The last login works until somebody revokes it: nothing is lost with a source Secret.
#[tokio::test(start_paused = true)]
async fn says_that_the_last_login_is_kept_where_its_source_went() {
    let replica = Replica::start(Duration::ZERO);
    replica.serve(fixed("u-1", &json!({})));
    replica.give_source("first");
    replica.opted_in(4);
    replica.lead();
    pass(20_000).await;
    replica.state.sources.delete("login", "1000000");
    pass(SOON).await;
    let (_, status) = replica
        .statuses
        .written
        .lock()
        .unwrap()
        .last()
        .cloned()
        .unwrap();
    let ready = &status.conditions[0];
    assert_eq!((&*ready.status, &*ready.reason), ("False", "MissingSource"));
    let begin = "4 of 4 namespaces keep the last login: ";
    assert!(ready.message.starts_with(begin), "{}", ready.message);
    assert!(told(&replica, EventType::Warning, "MissingSource").is_empty());
    assert_eq!(replica.world.logins("team-3").len(), 1);
    // Another namespace has nothing to keep.
    replica.add_namespace("late", &[("pullpass.dev/inject", "enabled")]);
    pass(20_000).await;
    let (_, status) = replica
        .statuses
        .written
        .lock()
        .unwrap()
        .last()
        .cloned()
        .unwrap();
    let begin = "1 of 5 namespaces lacks a login, 4 keep the last one: ";
    let message = &status.conditions[0].message;
    assert!(message.starts_with(begin), "{message}");
    let late = BTreeSet::from(["late".to_owned()]);
    assert_eq!(told(&replica, EventType::Warning, "MissingSource"), late);
}

#[tokio::test(start_paused = true)]
async fn changes_nothing_where_the_label_means_nothing() {
    let replica = Replica::start(Duration::ZERO);
    replica.serve(registries(1));
    replica.opted_in(2);
    replica.lead();
    pass(60_000).await;
    let before = replica.world.secret("team-0").unwrap();
    double::show(&replica.state, "team-0", &before);
    replica.add_namespace("team-0", &[("pullpass.dev/inject", "true")]);
    replica.add_namespace("new", &[("pullpass.dev/inject", "yes")]);
    pass(60_000).await;
    assert!(replica.world.secret("new").is_none(), "nothing new");
    let unknown = BTreeSet::from(["team-0".to_owned(), "new".to_owned()]);
    assert_eq!(
        told(&replica, EventType::Warning, "UnknownInjectValue"),
        unknown
    );
    let said = notes(&replica, "UnknownInjectValue");
    assert!(
        said.iter()
            .any(|note| note.contains("pullpass.dev/inject=true means nothing"))
    );
    // What is there is kept, and renewed in time.
    let same = replica.world.secret("team-0").unwrap();
    assert_eq!(same.version, before.version);
    time::skip(SignedDuration::from_hours(7));
    pass(120_000).await;
    let renewed = replica.world.secret("team-0").unwrap();
    assert_eq!(renewed.version.uid, before.version.uid);
    assert_ne!(renewed.version, before.version);
    // `disabled` is an order.
    double::show(&replica.state, "team-0", &renewed);
    replica.add_namespace("team-0", &[("pullpass.dev/inject", "disabled")]);
    pass(60_000).await;
    assert!(replica.world.secret("team-0").is_none());
}

//! What fails, comes back, or goes on for ever, and what everything else does meanwhile.

use pullpass::provision::service_account::ServiceAccount;

use super::*;

const ENABLED: (&str, &str) = ("pullpass.dev/inject", "enabled");

impl Replica {
    /// How often anything was reconciled meanwhile.
    async fn count_reconciles(&self, milliseconds: u64) -> usize {
        let count = || -> usize { self.gauge("pullpass_reconciles_total").parse().unwrap() };
        let before = count();
        pass(milliseconds).await;
        count() - before
    }

    /// Another replica, or another writer, writes this into a pull secret.
    fn put_again(&self, mut stored: double::Stored) {
        stored.version.resource_version = self.world.next_version();
        double::show(&self.state, "team-0", &stored);
        let mut secrets = self.world.secrets.lock().unwrap();
        secrets.insert("team-0".to_owned(), stored);
    }

    fn events(&self, reason: &str) -> Vec<String> {
        let events = self.statuses.events.lock().unwrap();
        let of_reason = events.iter().filter(|event| event.reason == reason);
        of_reason.map(|event| event.note.clone()).collect()
    }
}

/// Nobody can do anything meanwhile, however many namespaces wait for it.
#[tokio::test(start_paused = true)]
async fn asks_for_each_credential_once_a_minute_while_its_cloud_is_away() {
    const SOURCES: usize = 20;
    let replica = Replica::start(Duration::ZERO);
    replica.cloud.fails.store(true, Ordering::SeqCst);
    replica.serve(registries(SOURCES));
    replica.opted_in(100);
    replica.lead();
    pass(120_000).await;
    let asked = replica.cloud.asked.load(Ordering::SeqCst);
    let reconciles = replica.count_reconciles(600_000).await;
    let asked = replica.cloud.asked.load(Ordering::SeqCst) - asked;
    println!("asked {asked} times, {reconciles} reconciles in ten minutes");
    assert!((SOURCES * 9..=SOURCES * 11).contains(&asked), "{asked}");
    // One pull secret asks for all that are due.
    assert!((9..=SOURCES * 22).contains(&reconciles), "{reconciles}");
    replica.cloud.fails.store(false, Ordering::SeqCst);
    pass(70_000).await;
    assert_eq!(replica.gauge("pullpass_namespaces_incomplete"), "0");
}

/// One that is never done with reconciling carries out orders, and says what there is.
#[tokio::test(start_paused = true)]
async fn carries_out_orders_and_reports_while_keys_come_all_the_time() {
    let replica = Replica::start(Duration::ZERO);
    replica.give_source("first");
    let [all, team] = logins_for_all_and_team();
    replica.serve(build([all.clone(), team.clone()]));
    replica.add_namespace("z", &[ENABLED, ("team", "a")]);
    replica.lead();
    pass(60_000).await;
    assert_eq!(replica.world.logins("z").len(), 2);
    let late = login_for(
        "late",
        "late.example",
        &json!({"matchLabels": {"team": "late"}}),
    );
    let now = time::clock();
    let registries = build([all.clone(), team, late.clone()]);
    replica.state.apply_registry("late", registries, now);
    replica.delete_registry("team", build([all, late]));
    let before = replica.statuses.count();
    for turn in 0..200 {
        for number in 0..300 {
            let turn = turn.to_string();
            replica.add_namespace(&format!("n{number}"), &[("turn", &turn)]);
        }
        tokio::time::advance(Duration::from_millis(25)).await;
    }
    assert_eq!(replica.world.logins("z").len(), 1, "it is still there");
    assert!(replica.statuses.count() > before, "nothing was said");
}

/// A failure that another replica settled: nobody wakes up for it, and no Registry is degraded by it.
#[tokio::test(start_paused = true)]
async fn forgets_a_failure_once_nothing_is_to_be_done() {
    let replica = Replica::start(Duration::ZERO);
    replica.give_source("first");
    replica.serve(build([login_for("all", "harbor.example", &json!({}))]));
    replica.opted_in(1);
    let refuse = |refuses: bool| {
        let refusal = refuses.then(|| ClusterError::Rejected {
            what: "secret".to_owned(),
            message: "exceeded quota".to_owned(),
        });
        *replica.world.refusal.lock().unwrap() = refusal;
    };
    refuse(true);
    replica.lead();
    pass(40_000).await;
    let degraded = || {
        let written = replica.statuses.written.lock().unwrap();
        let conditions = written.last().unwrap().1.conditions.clone();
        let degraded = conditions.into_iter().find(|one| one.type_ == "Degraded");
        degraded.unwrap().status
    };
    assert_eq!(degraded(), "True");
    let auths = r#"{"auths":{"harbor.example":{"auth":"cm9ib3Q6Zmlyc3Q="}}}"#;
    let stored = replica.world.put_secret("team-0", true, auths);
    double::show(&replica.state, "team-0", &stored);
    pass(90_000).await;
    assert_eq!(degraded(), "False");
    refuse(false);
    CLOCK_READS.set(0);
    pass(60_000).await;
    let reads = CLOCK_READS.get();
    assert!(reads <= 10, "{reads} times a minute");
    // The next failure is the first of its kind: it is tried again in a second.
    refuse(true);
    replica.give_source("second");
    pass(1_500).await;
    refuse(false);
    pass(4_000).await;
    assert_eq!(replica.world.logins("team-0")["harbor.example"], "second");
}

/// The command that the Event shows confirms what is blocked, though it was found little by little; and it is shown again.
#[tokio::test(start_paused = true)]
async fn reports_blocked_removals_once_they_are_all_known_and_again_while_they_wait() {
    const ALL: usize = 14;
    let replica = Replica::start(Duration::ZERO);
    replica.give_source("first");
    replica.serve(build([login_for("all", "harbor.example", &json!({}))]));
    replica.opted_in(ALL);
    replica.lead();
    pass(20_000).await;
    // All are taken in at once; those after the tenth are found one by one.
    for number in 0..ALL {
        replica.add_namespace(&format!("team-{number}"), &[]);
        if number >= 11 {
            pass(500).await;
        }
    }
    pass(5_000).await;
    let left = || (0..ALL).filter(|n| replica.world.secret(&format!("team-{n}")).is_some());
    let notes = replica.events("RemovalBlocked");
    assert_eq!((notes.len(), left().count()), (1, ALL), "{notes:?}");
    assert!(notes[0].contains("from 14 of 14"), "{notes:?}");
    pass(3_600_000).await;
    let again = replica.events("RemovalBlocked");
    assert!((4..=7).contains(&again.len()), "{}", again.len());
    assert!(again.iter().all(|note| *note == notes[0]), "{again:?}");
    let (_, id) = notes[0].rsplit_once('=').unwrap();
    let id = id.split_whitespace().next().unwrap().to_owned();
    replica
        .leadership
        .send_modify(|told| told.confirmed = Some(id));
    pass(20_000).await;
    assert_eq!(left().count(), 0);
}

/// A ServiceAccount that comes later, or gets its annotation later, is found without any Pod.
#[tokio::test(start_paused = true)]
async fn reads_a_service_account_again_that_was_of_no_use() {
    let account = |role: Option<&str>| ServiceAccount {
        uid: "u".to_owned(),
        pull_secrets: None,
        annotations: role
            .map(|role| ("eks.amazonaws.com/role-arn".to_owned(), role.to_owned()))
            .into_iter()
            .collect(),
    };
    for first in [None, Some(account(None))] {
        let replica = Replica::start(Duration::ZERO);
        let own = json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "own"},
            "spec": {"images": [host(1)], "namespaceSelector": {},
                "ecr": {"identity": {"serviceAccount": {"name": "puller", "fromAnnotations": true}}}},
        });
        replica.serve(build([own]));
        replica.opted_in(1);
        let set = |account| {
            let key = ("team-0".to_owned(), "puller".to_owned());
            let mut accounts = replica.world.accounts.lock().unwrap();
            accounts.insert(key, account);
        };
        set(first);
        replica.lead();
        pass(20_000).await;
        let before = replica.world.reads.load(Ordering::SeqCst);
        pass(3_600_000).await;
        let reads = replica.world.reads.load(Ordering::SeqCst) - before;
        println!("{reads} reads in an hour");
        assert!((10..=60).contains(&reads), "{reads}");
        assert!(replica.world.logins("team-0").is_empty());
        let role = "arn:aws:iam::210987654321:role/pull";
        set(Some(account(Some(role))));
        pass(310_000).await;
        assert_eq!(replica.world.logins("team-0").len(), 1);
        let idle = replica.count_reconciles(600_000).await;
        assert_eq!(idle, 0, "it is known");
    }
}

/// What pullpass took out itself, or another replica wrote, is no other writer's change.
#[tokio::test(start_paused = true)]
async fn takes_no_removal_and_no_other_replica_for_another_writer() {
    let replica = Replica::start(Duration::ZERO);
    replica.give_source("p0");
    let all = login_for("all", "harbor.example", &json!({}));
    let team = login_for("team", "quay.example", &json!({}));
    replica.serve(build([all.clone()]));
    replica.opted_in(1);
    replica.lead();
    pass(10_000).await;
    for _ in 0..8 {
        let both = build([all.clone(), team.clone()]);
        replica.state.apply_registry("team", both, time::clock());
        pass(3_000).await;
        assert_eq!(replica.world.logins("team-0").len(), 2);
        replica.delete_registry("team", build([all.clone()]));
        pass(5_000).await;
        assert_eq!(replica.world.logins("team-0").len(), 1);
    }
    assert_eq!(replica.events("ConflictingWriter"), [""; 0]);
    for number in 1..9 {
        let password = format!("p{number}");
        replica.give_source(&password);
        pass(3_000).await;
        assert_eq!(replica.world.logins("team-0")["harbor.example"], password);
        // Another replica writes the same.
        let stored = replica.world.secret("team-0").unwrap();
        replica.put_again(stored);
        pass(3_000).await;
    }
    assert_eq!(replica.events("ConflictingWriter"), [""; 0]);
}

/// Who puts back what was good once is another writer all the same.
#[tokio::test(start_paused = true)]
async fn takes_an_earlier_login_that_comes_back_for_another_writer() {
    let replica = Replica::start(Duration::ZERO);
    replica.give_source("old");
    replica.serve(build([login_for("all", "harbor.example", &json!({}))]));
    replica.opted_in(1);
    replica.lead();
    pass(10_000).await;
    let old = replica.world.secret("team-0").unwrap();
    replica.give_source("new");
    pass(10_000).await;
    for _ in 0..8 {
        replica.put_again(old.clone());
        pass(10_000).await;
    }
    assert!(!replica.events("ConflictingWriter").is_empty());
}

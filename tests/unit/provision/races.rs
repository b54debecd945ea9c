//! Two replicas that write the Secrets of two namespaces at once, in a thousand orders.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pullpass::provision::{Coverage, EnsureOutcome};
use secrecy::ExposeSecret;

use super::double::{Dice, Stored, World, now, show, version_of};
use super::names::name;
use super::{EU, HARBOR, PUBLIC, Replica, US, source_of};

const NAMESPACES: [&str; 2] = ["team-a", "team-b"];

/// No entry is ever lost, and none is ever replaced by an older one.
fn judge(_: &str, before: Option<&Stored>, after: Option<&Stored>) {
    let logins = |stored: Option<&Stored>| stored.map(Stored::logins).unwrap_or_default();
    let (before, after) = (logins(before), logins(after));
    for (key, old) in before {
        let new = after.get(&key).unwrap_or_else(|| panic!("{key} was lost"));
        assert!(
            version_of(new) >= version_of(&old),
            "{key}: {new} replaced {old}"
        );
    }
}

/// What may happen between the Pods: others mint, an admin rotates, watches show what they have not shown yet.
async fn disturb(world: &Arc<World>, replicas: &[Replica; 2], dice: &Dice) {
    let mut rotations = 1;
    for _ in 0..12 {
        dice.pause().await;
        let replica = &replicas[usize::try_from(dice.below(2)).unwrap()];
        let key = [EU, US, PUBLIC][usize::try_from(dice.below(3)).unwrap()];
        match dice.below(5) {
            0 => {
                world.mint(&source_of(key), now());
            }
            1 => {
                rotations += 1;
                world.set_source("harbor-login", "robot", &format!("harbor-v{rotations}"));
            }
            2 => replica.mints.learn(&source_of(key)),
            3 => show_source(world, replica),
            _ => show_secrets(world, replica),
        }
    }
}

fn show_source(world: &World, replica: &Replica) {
    let secret = world.sources.lock().unwrap()["harbor-login"].clone();
    let version = secret.resource_version.clone();
    replica
        .state
        .sources
        .apply_event(&name("harbor-login"), &version, secret);
}

fn show_secrets(world: &World, replica: &Replica) {
    for namespace in NAMESPACES {
        if let Some(secret) = world.secret(namespace) {
            show(&replica.state, namespace, &secret);
        }
    }
}

async fn pods(replica: &Replica, namespace: &str, dice: &Dice) {
    for _ in 0..4 {
        dice.pause().await;
        let all = [EU, US, HARBOR, PUBLIC];
        let first = usize::try_from(dice.below(4)).unwrap();
        let outcome = replica.ensure_in(namespace, &all[first..]).await;
        assert_eq!(outcome, EnsureOutcome::Covered);
    }
}

async fn race(seed: u64) {
    let dice = Arc::new(Dice::new(seed));
    let world = Arc::new(World::default());
    *world.judge.lock().unwrap() = Some(Box::new(judge));
    world.set_source("harbor-login", "robot", "harbor-v1");
    let replicas = [Replica::new(&world, &dice), Replica::new(&world, &dice)];
    for replica in &replicas {
        show_source(&world, replica);
    }
    tokio::join!(
        pods(&replicas[0], NAMESPACES[0], &dice),
        pods(&replicas[0], NAMESPACES[1], &dice),
        pods(&replicas[1], NAMESPACES[0], &dice),
        pods(&replicas[1], NAMESPACES[1], &dice),
        disturb(&world, &replicas, &dice),
    );
    for replica in &replicas {
        replica.ensure.drain().await;
    }
    settle(&world, &replicas).await;
}

/// Once the watches have shown everything, both replicas agree, and the newest of everything is there.
async fn settle(world: &Arc<World>, replicas: &[Replica; 2]) {
    for _ in 0..2 {
        for replica in replicas {
            show_source(world, replica);
            for key in [EU, US, PUBLIC] {
                replica.mints.learn(&source_of(key));
            }
            show_secrets(world, replica);
            for namespace in NAMESPACES {
                let outcome = replica
                    .ensure_in(namespace, &[EU, US, HARBOR, PUBLIC])
                    .await;
                assert_eq!(outcome, EnsureOutcome::Covered);
            }
            replica.ensure.drain().await;
        }
    }
    let writes = world.writes.load(Ordering::SeqCst);
    for namespace in NAMESPACES {
        let logins = world.logins(namespace);
        for key in [EU, US, PUBLIC] {
            let newest = Arc::clone(&world.minted.lock().unwrap()[&source_of(key)]);
            assert_eq!(logins[key], newest.password.expose_secret());
        }
    }
    for replica in replicas {
        show_secrets(world, replica);
        assert_eq!(replica.covers(&[EU, US, HARBOR, PUBLIC]), Coverage::Covered);
        replica.ensure.drain().await;
    }
    assert_eq!(
        world.writes.load(Ordering::SeqCst),
        writes,
        "nothing is written when nothing changed"
    );
}

#[tokio::test]
async fn loses_no_entry_and_takes_none_back_in_a_thousand_orders() {
    for seed in 0..1_000 {
        race(seed).await;
    }
}

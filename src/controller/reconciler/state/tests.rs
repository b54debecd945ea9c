use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::tasks::TaskKey;
use super::super::workqueue::tests::source;
use super::*;
use crate::cluster::EventNote;
use crate::controller::at;
use crate::provision::Namespace;
use crate::provision::decide::{CredentialState, SecretState};
use crate::provision::ports::Version;
use crate::provision::secret::Digest;
use crate::provision::state::Observed;

/// A pull secret with a login under each key.
fn target(namespace: &str, uid: &str, logins: &[(&str, &str)]) -> PullSecretRef {
    let digests = logins.iter();
    let digests = digests.map(|(key, login)| ((*key).to_owned(), Digest::of_auth(login)));
    let observed = Observed {
        version: Version {
            uid: uid.to_owned(),
            resource_version: "1".to_owned(),
        },
        ours: true,
        intact: true,
        digests: digests.collect(),
    };
    PullSecretRef {
        namespace: Arc::new(Namespace::new(
            namespace.parse().unwrap(),
            BTreeMap::new(),
            false,
        )),
        secret: PULL_SECRET.parse().unwrap(),
        observed: Some(Arc::new(observed)),
    }
}

fn removed(state: &mut ReconcilerState, target: &PullSecretRef, now: Timestamp) {
    let done = TaskResult::Removed(target.name(), true, Ok(Removed::Entries));
    state.take(done, now);
}

fn recent(state: &mut ReconcilerState, now: Timestamp) -> usize {
    let mut snapshot = Snapshot::default();
    state.mark_removals(&mut snapshot, None, now);
    snapshot.view.removals.recent
}

#[test]
fn takes_out_more_and_more_slowly_what_somebody_keeps_putting_in() {
    let (mut state, target) = (ReconcilerState::default(), target("team", "u", &[]));
    for time in 0..5 {
        removed(&mut state, &target, at(time));
        assert!(state.may_write(&target, at(time)), "{time}");
    }
    assert!(state.events.is_empty());
    removed(&mut state, &target, at(5));
    assert!(!state.may_write(&target, at(6)));
    assert!(state.may_write(&target, at(7)));
    removed(&mut state, &target, at(7));
    assert!(!state.may_write(&target, at(10)));
    let reasons: Vec<&str> = state
        .events
        .iter()
        .map(|reported: &EventNote| reported.reason)
        .collect();
    assert_eq!(reasons, ["ConflictingWriter"]);
    assert_eq!(state.drift.persistent(), HashSet::from([target.name()]));
    // It is backed off from also where the Secret was all that was there, and is recreated.
    state.retain_only(&Snapshot::default(), at(8));
    assert!(!state.may_write(&target, at(9)));
}

#[test]
fn counts_each_secret_once_among_the_removals_of_a_minute() {
    let mut state = ReconcilerState::default();
    for time in 0..20 {
        removed(&mut state, &target("fought", "u", &[]), at(time));
    }
    assert_eq!(recent(&mut state, at(20)), 1);
    for other in ["a", "b"] {
        removed(&mut state, &target(other, "u", &[]), at(21));
    }
    assert_eq!(recent(&mut state, at(22)), 3);
    assert_eq!(recent(&mut state, at(80)), 2);
    assert_eq!(recent(&mut state, at(81)), 0);
}

#[test]
fn what_was_confirmed_says_nothing_of_later_removals() {
    let named = |places: &[PullSecretRef], keys: &[&str]| {
        let mut snapshot = Snapshot::default();
        snapshot.secrets.extend(places.iter().cloned());
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        snapshot.stale.extend(places.iter().map(|_| keys.clone()));
        let all: Vec<usize> = (0..places.len()).collect();
        blocked_removals_id(&snapshot, &all)
    };
    let login = [("eu", "first"), ("us", "first")];
    let [a, b] = ["a", "b"].map(|namespace| target(namespace, "u", &login));
    let before = named(&[a.clone(), b.clone()], &["eu"]);
    assert_eq!(before.len(), 8);
    assert_eq!(named(&[b.clone(), a.clone()], &["eu"]), before, "the same");
    // What stays may change as often as it will.
    let renewed = target("a", "u", &[("eu", "first"), ("us", "second")]);
    assert_eq!(named(&[renewed, b.clone()], &["eu"]), before);

    let remade = target("a", "other", &login);
    let later = target("a", "u", &[("eu", "second"), ("us", "first")]);
    for (what, others) in [("made anew", remade), ("another login", later)] {
        assert_ne!(named(&[others, b.clone()], &["eu"]), before, "{what}");
    }
    assert_ne!(named(std::slice::from_ref(&a), &["eu"]), before);
    assert_ne!(named(&[a, b], &["eu", "us"]), before);
}

#[tokio::test]
async fn what_panicked_is_tried_again() {
    let (mut state, source) = (ReconcilerState::default(), source("eu-west-1"));
    let target = target("team", "u", &[]);
    state.minting.insert(source.clone());
    state.writing.insert(target.name());
    for about in [TaskKey::Mint(source.clone()), TaskKey::Write(target.name())] {
        state.tasks.spawn(about, async { panic!("a bug") });
    }
    while let Some(done) = state.tasks.next().await {
        state.take(done, at(0));
    }
    assert!(state.minting.is_empty() && state.writing.is_empty());
    assert!(state.failure(&source).is_some());
    assert!(!state.may_mint(&source, at(4)) && state.may_mint(&source, at(5)));
    assert!(!state.may_write(&target, at(0)) && state.may_write(&target, at(1)));
}

#[test]
fn what_failed_is_tried_again_at_once_when_the_clock_was_put_back() {
    let (mut state, source) = (ReconcilerState::default(), source("eu-west-1"));
    let target = target("team", "u", &[]);
    let finding = Reason::new("Timeout", "no answer");
    state.take(TaskResult::Minted(source.clone(), Some(finding)), at(0));
    for again in [&mut state.write_backoff, &mut state.remove_backoff] {
        again.record_failure(target.name(), None, Vec::new(), at(0));
    }
    let mut snapshot = Snapshot::default();
    snapshot.sources.push(source.clone());
    snapshot.secrets.push(target.clone());
    snapshot.view.secrets.push(SecretState::default());
    snapshot.view.credentials.push(CredentialState {
        minted: None,
        is_minting: false,
        retry_at: None,
        jitter: 0,
    });
    for (now, is_time) in [(0, false), (-600, true)] {
        state.mark(&mut snapshot, at(now));
        let marked = [
            snapshot.view.credentials[0].retry_at,
            snapshot.view.secrets[0].retry_at,
            snapshot.view.secrets[0].remove_at,
        ];
        assert_eq!(marked.map(|retry| retry.unwrap() <= at(now)), [is_time; 3]);
        assert_eq!(state.may_mint(&source, at(now)), is_time);
        assert_eq!(state.may_write(&target, at(now)), is_time);
    }
}

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::super::removal_guard::RemovalCause;
use super::super::Seen;
use super::super::blocked::blocked_removals_id;
use super::super::tasks::TaskKey;
use super::*;
use crate::controller::at;
use crate::provision::PULL_SECRET;
use crate::provision::decide::Stale;
use crate::provision::digest::Digest;
use crate::provision::observe::StaleEntries;
use crate::provision::ports::Version;
use crate::provision::state::Observed;

/// The source of some credential.
pub(crate) fn source(region: &str) -> MintSource {
    source_of(region, &serde_json::json!({"node": {}}))
}

/// The same by this identity.
pub(crate) fn source_of(region: &str, identity: &serde_json::Value) -> MintSource {
    let spec = serde_json::json!({"apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "r"},
        "spec": {"images": [format!("123456789012.dkr.ecr.{region}.amazonaws.com")], "namespaceSelector": {}, "ecr": {"identity": identity}}});
    let registries = Registries::build([serde_json::from_value(spec).unwrap()]);
    match &registries.grants_of(&BTreeMap::new(), "pullpass")[0].source {
        crate::registry::CredentialSource::Minted(source) => source.clone(),
        crate::registry::CredentialSource::Static(_) => panic!("a fixed login"),
    }
}

fn new_state() -> ReconcilerState {
    ReconcilerState::new(RenewalRate::default())
}

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
        format: Some(crate::registry::SecretFormat::PullSecret),
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
    let ended = PullSecretRemoval {
        found: true,
        removed: Ok(Removed::Entries),
        version: None,
    };
    state.take(TaskResult::Removed(target.key(), ended), now);
}

#[test]
fn takes_out_more_and_more_slowly_what_somebody_keeps_putting_in() {
    let (mut state, target) = (new_state(), target("team", "u", &[]));
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
        .map(|reported: &EventNote| &*reported.reason)
        .collect();
    assert_eq!(reasons, ["ConflictingWriter"]);
    assert_eq!(state.drift.persistent(), BTreeSet::from([target.key()]));
    // It is backed off from also where the Secret was all that was there, and is recreated.
    state.sweep(at(8));
    assert!(!state.may_write(&target, at(9)));
}

#[test]
fn what_was_confirmed_says_nothing_of_later_removals() {
    let named = |places: &[PullSecretRef], keys: &[&str]| {
        let mut index = Index::default();
        for target in places {
            let stale = StaleEntries {
                keys: keys.iter().map(|&key| key.to_owned()).collect(),
                why: Stale::Unexplained,
                is_ours: true,
            };
            let seen = Seen::Ours(SecretView::unwanted(target.clone(), stale));
            index.put(&target.key(), Some(seen), at(0));
        }
        let all: Vec<PullSecretKey> = places.iter().map(PullSecretRef::key).collect();
        blocked_removals_id(&index, &all)
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

/// What went with the kind is forgotten once it is gone, and not while a removal that failed is to be tried again.
/// Reports a set that stays the same from then on; what confirms it.
fn report(state: &mut ReconcilerState, blocked: &[PullSecretKey], second: i64) -> String {
    for second in [second, second + 3] {
        state.report_blocked(blocked, "pullpass", at(second));
    }
    let event = state.events.last().expect("it was reported");
    event.series.clone().expect("it has an id")
}

#[test]
fn a_confirmation_covers_what_was_reported_until_all_of_it_has_ended() {
    let mut state = new_state();
    let why = Stale::KindLost;
    let is_ours = true;
    let targets = ["a", "b", "c"].map(|namespace| target(namespace, "u", &[("eu", "first")]));
    let [a, b, c] = targets.each_ref().map(PullSecretRef::key);
    let want = |state: &mut ReconcilerState, target: &PullSecretRef| {
        let keys = vec!["eu".to_owned()];
        let entries = StaleEntries { keys, why, is_ours };
        let seen = Seen::Ours(SecretView::unwanted(target.clone(), entries));
        state.index.put(&target.key(), Some(seen), at(0));
        state
            .guard
            .want(&target.key(), RemovalCause { why, is_ours });
    };
    want(&mut state, &targets[0]);
    want(&mut state, &targets[1]);
    let permits = state.permit_removals(at(0));
    assert_eq!(permits.blocked, [a.clone(), b.clone()]);
    let id = report(&mut state, &permits.blocked, 0);
    state.confirmations.take(Some("another"));
    assert_eq!(state.permit_removals(at(0)), permits);
    state.confirmations.take(Some(&id));
    want(&mut state, &targets[2]);
    let permits = state.permit_removals(at(0));
    assert_eq!(permits.permitted, [a.clone(), b.clone()]);
    assert_eq!(permits.blocked, std::slice::from_ref(&c));
    // A new report is none of the confirmed ones.
    report(&mut state, &permits.blocked, 20);
    assert_eq!(state.permit_removals(at(0)), permits);

    state.guard.forget(&c);
    state.guard.begin(&a);
    state.guard.begin(&b);
    assert!(!state.end_confirmed(), "they have begun");
    state.guard.end(&a, Some(true), at(1));
    state.index.put(&a, None, at(1));
    state.guard.end(&b, None, at(1));
    assert!(!state.end_confirmed(), "one failed");
    want(&mut state, &targets[1]);
    assert_eq!(
        state.permit_removals(at(2)).permitted,
        std::slice::from_ref(&b)
    );
    state.guard.begin(&b);
    state.guard.end(&b, Some(true), at(3));
    state.index.put(&b, None, at(3));
    assert!(state.end_confirmed() && !state.end_confirmed());
}

/// Who changes its own Secret each second keeps nobody from confirming the others.
#[test]
fn an_earlier_report_can_be_confirmed_of_what_is_still_the_same() {
    let mut state = new_state();
    let (why, is_ours) = (Stale::KindLost, true);
    let mut second = 0;
    let mut report = |digest: &str| {
        for (namespace, digest) in [("a", "first"), ("b", digest)] {
            let target = target(namespace, "u", &[("eu", digest)]);
            let keys = vec!["eu".to_owned()];
            let entries = StaleEntries { keys, why, is_ours };
            let seen = Seen::Ours(SecretView::unwanted(target.clone(), entries));
            state.index.put(&target.key(), Some(seen), at(0));
            state
                .guard
                .want(&target.key(), RemovalCause { why, is_ours });
        }
        let permits = state.permit_removals(at(0));
        second += 20;
        self::report(&mut state, &permits.blocked, second)
    };
    let ids = ["first", "second", "third"].map(&mut report);
    state.confirmations.take(Some(&ids[0]));
    let permits = state.permit_removals(at(0));
    assert_eq!((permits.permitted.len(), permits.blocked.len()), (1, 1));
    assert_eq!(permits.permitted[0].0, "a");
}

#[tokio::test]
async fn what_panicked_is_tried_again() {
    let (mut state, source) = (new_state(), source("eu-west-1"));
    let target = target("team", "u", &[]);
    state.minting.insert(source.clone(), at(0));
    state.mints_running = 1;
    state.writing.insert(target.key());
    for about in [TaskKey::Mint(source.clone()), TaskKey::Write(target.key())] {
        state.tasks.spawn(about, async { panic!("a bug") });
    }
    while let Some(done) = state.tasks.next().await {
        state.take(done, at(0));
    }
    assert!(state.minting.is_empty() && state.writing.is_empty());
    assert_eq!(state.mints_running, 0);
    assert!(state.failure(&source).is_some());
    assert!(!state.may_write(&target, at(0)) && state.may_write(&target, at(1)));
}

#[test]
fn what_failed_is_tried_again_at_once_when_the_clock_was_put_back() {
    let mut state = new_state();
    let target = target("team", "u", &[]);
    for again in [&mut state.write_backoff, &mut state.remove_backoff] {
        again.record_failure(target.key(), None, Vec::new(), at(0));
    }
    let leftovers = StaleEntries {
        keys: Vec::new(),
        why: Stale::Unexplained,
        is_ours: true,
    };
    let view = SecretView::unwanted(target.clone(), leftovers);
    for (now, is_time) in [(0, false), (-600, true)] {
        let input = state.input_of(&target.key(), &view, at(now));
        for retry in [input.retry_at, input.remove_at] {
            assert_eq!(retry.unwrap() <= at(now), is_time);
        }
        assert_eq!(state.may_write(&target, at(now)), is_time);
    }
}

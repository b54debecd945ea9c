use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::jobs::About;
use super::super::queue::tests::source;
use super::*;
use crate::cluster::Notice;
use crate::controller::at;
use crate::provision::Namespace;
use crate::provision::access::Version;
use crate::provision::decide::{Holding, Life};
use crate::provision::secret::Digest;
use crate::provision::state::Seen;

/// A pull secret with a login under each key.
fn place(namespace: &str, uid: &str, logins: &[(&str, &str)]) -> Place {
    let digests = logins.iter();
    let digests = digests.map(|(key, login)| ((*key).to_owned(), Digest::of_auth(login)));
    let seen = Seen {
        version: Version {
            uid: uid.to_owned(),
            resource_version: "1".to_owned(),
        },
        ours: true,
        intact: true,
        digests: digests.collect(),
    };
    Place {
        namespace: Arc::new(Namespace::new(
            namespace.parse().unwrap(),
            BTreeMap::new(),
            false,
        )),
        secret: PULL_SECRET.parse().unwrap(),
        seen: Some(Arc::new(seen)),
    }
}

fn removed(work: &mut Work, place: &Place, now: Timestamp) {
    let done = Done::Removed(place.name(), true, Ok(Removed::Entries));
    work.take(done, now);
}

fn lately(work: &mut Work, now: Timestamp) -> usize {
    let mut survey = Survey::default();
    work.mark_removals(&mut survey, None, now);
    survey.view.removals.lately
}

#[test]
fn takes_out_more_and_more_slowly_what_somebody_keeps_putting_in() {
    let (mut work, place) = (Work::default(), place("team", "u", &[]));
    for time in 0..5 {
        removed(&mut work, &place, at(time));
        assert!(work.may_write(&place, at(time)), "{time}");
    }
    assert!(work.notices.is_empty());
    removed(&mut work, &place, at(5));
    assert!(!work.may_write(&place, at(6)));
    assert!(work.may_write(&place, at(7)));
    removed(&mut work, &place, at(7));
    assert!(!work.may_write(&place, at(10)));
    let reasons: Vec<&str> = work
        .notices
        .iter()
        .map(|told: &Notice| told.reason)
        .collect();
    assert_eq!(reasons, ["ChangedByOthers"]);
    assert_eq!(work.fights.lasting(), HashSet::from([place.name()]));
    // It is left alone also where the Secret was all that was there, and is made anew.
    work.forget_others(&Survey::default(), at(8));
    assert!(!work.may_write(&place, at(9)));
}

#[test]
fn counts_each_secret_once_among_the_removals_of_a_minute() {
    let mut work = Work::default();
    for time in 0..20 {
        removed(&mut work, &place("fought", "u", &[]), at(time));
    }
    assert_eq!(lately(&mut work, at(20)), 1);
    for other in ["a", "b"] {
        removed(&mut work, &place(other, "u", &[]), at(21));
    }
    assert_eq!(lately(&mut work, at(22)), 3);
    assert_eq!(lately(&mut work, at(80)), 2);
    assert_eq!(lately(&mut work, at(81)), 0);
}

#[test]
fn what_was_confirmed_says_nothing_of_later_removals() {
    let named = |places: &[Place], keys: &[&str]| {
        let mut survey = Survey::default();
        survey.secrets.extend(places.iter().cloned());
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        survey.surplus.extend(places.iter().map(|_| keys.clone()));
        let all: Vec<usize> = (0..places.len()).collect();
        held_back_name(&survey, &all)
    };
    let login = [("eu", "first"), ("us", "first")];
    let [a, b] = ["a", "b"].map(|namespace| place(namespace, "u", &login));
    let before = named(&[a.clone(), b.clone()], &["eu"]);
    assert_eq!(before.len(), 8);
    assert_eq!(named(&[b.clone(), a.clone()], &["eu"]), before, "the same");
    // What stays may change as often as it will.
    let renewed = place("a", "u", &[("eu", "first"), ("us", "second")]);
    assert_eq!(named(&[renewed, b.clone()], &["eu"]), before);

    let remade = place("a", "other", &login);
    let later = place("a", "u", &[("eu", "second"), ("us", "first")]);
    for (what, others) in [("made anew", remade), ("another login", later)] {
        assert_ne!(named(&[others, b.clone()], &["eu"]), before, "{what}");
    }
    assert_ne!(named(std::slice::from_ref(&a), &["eu"]), before);
    assert_ne!(named(&[a, b], &["eu", "us"]), before);
}

#[tokio::test]
async fn what_panicked_is_tried_again() {
    let (mut work, source) = (Work::default(), source("eu-west-1"));
    let place = place("team", "u", &[]);
    work.minting.insert(source.clone());
    work.writing.insert(place.name());
    for about in [About::Mint(source.clone()), About::Write(place.name())] {
        work.jobs.begin(about, async { panic!("a bug") });
    }
    while let Some(done) = work.jobs.next().await {
        work.take(done, at(0));
    }
    assert!(work.minting.is_empty() && work.writing.is_empty());
    assert!(work.failure(&source).is_some());
    assert!(!work.may_mint(&source, at(4)) && work.may_mint(&source, at(5)));
    assert!(!work.may_write(&place, at(0)) && work.may_write(&place, at(1)));
}

#[test]
fn what_failed_is_tried_again_at_once_when_the_clock_was_put_back() {
    let (mut work, source) = (Work::default(), source("eu-west-1"));
    let place = place("team", "u", &[]);
    let finding = Finding::new("Timeout", "no answer");
    work.take(Done::Minted(source.clone(), Some(finding)), at(0));
    for again in [&mut work.write_again, &mut work.remove_again] {
        again.note_failed(place.name(), Vec::new(), at(0));
    }
    let mut survey = Survey::default();
    survey.sources.push(source.clone());
    survey.secrets.push(place.clone());
    survey.view.secrets.push(Holding::default());
    survey.view.credentials.push(Life {
        minted: None,
        is_minted: false,
        retry_at: None,
        spread: 0,
    });
    for (now, is_time) in [(0, false), (-600, true)] {
        work.mark(&mut survey, at(now));
        let marked = [
            survey.view.credentials[0].retry_at,
            survey.view.secrets[0].retry_at,
            survey.view.secrets[0].remove_at,
        ];
        assert_eq!(marked.map(|retry| retry.unwrap() <= at(now)), [is_time; 3]);
        assert_eq!(work.may_mint(&source, at(now)), is_time);
        assert_eq!(work.may_write(&place, at(now)), is_time);
    }
}

//! The controller and the cold path over a simulated cluster and simulated clouds, in many random histories.
//!
//! `PULLPASS_MODEL_SEED=123` replays one history, `PULLPASS_MODEL_HISTORIES=10000` (`make model`) says how many are tried.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::needless_pass_by_value,
    reason = "a test that cannot be set up has failed"
)]

mod cloud;
mod end;
mod event;
mod gate;
mod history;
mod oracle;
mod replica;
pub(crate) mod time;
mod truth;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::provision::double;
use crate::support::names;
use double::KindState;
use gate::Mutant;
use history::{Failure, History, live};
use jiff::SignedDuration;
use replica::Kind;

/// How many histories are tried when nobody says otherwise.
const HISTORIES: u64 = 100;
/// The seed of the first of them.
const FIRST: u64 = 1;

/// After so many it is said how far it has come.
const TOLD: u64 = 500;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs one history in a runtime of its own, with time standing still where nothing waits for it.
fn run<T>(history: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(history)
}

fn tell(seed: u64, failure: &Failure) -> String {
    let Failure { verdicts, log } = failure;
    format!(
        "PULLPASS_MODEL_SEED={seed} replays this:\n{}\n{}",
        log.join("\n"),
        verdicts.join("\n")
    )
}

/// Tries one seed after the other, and says what the first one found.
fn try_all(first: u64, histories: u64) -> Result<(), String> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let work = || {
        while !failed.load(Ordering::SeqCst) {
            let number = next.fetch_add(1, Ordering::SeqCst);
            if number >= histories {
                break;
            }
            let seed = first + number;
            if let Err(failure) = run(live(seed, None)) {
                failed.store(true, Ordering::SeqCst);
                return Err(tell(seed, &failure));
            }
            if (number + 1).is_multiple_of(TOLD) {
                println!("{} of {histories} histories", number + 1);
            }
        }
        Ok(())
    };
    std::thread::scope(|threads| {
        let other = threads.spawn(work);
        work().and(other.join().unwrap_or_else(|_| Err("panicked".to_owned())))
    })
}

#[test]
fn keeps_every_promise_in_random_histories() {
    if let Some(seed) = number("PULLPASS_MODEL_SEED") {
        if let Err(failure) = run(live(seed, None)) {
            panic!("{}", tell(seed, &failure));
        }
        return;
    }
    // The same ones each time, so that it is a change that makes this fail; others where a number is asked for.
    let asked = number("PULLPASS_MODEL_HISTORIES");
    let histories = asked.unwrap_or(HISTORIES);
    let first = asked.map_or(FIRST, |asked| RandomState::new().hash_one(asked) >> 16);
    println!("{histories} histories from seed {first} on");
    if let Err(found) = try_all(first, histories) {
        panic!("{found}");
    }
}

/// The kind is deleted, with all Registries, and comes back with them while the watches on them hang.
#[test]
fn takes_nothing_away_when_the_kind_comes_back_before_its_watches() {
    run(async {
        let mut history = History::new(1, None);
        history.run(40).await;
        let secrets = |history: &History| -> BTreeMap<String, Vec<u8>> {
            let all = history.world.secrets.lock().unwrap();
            let content = all
                .iter()
                .map(|(at, stored)| (at.clone(), stored.dockerconfigjson.clone()));
            content.collect()
        };
        let before = secrets(&history);
        assert!(!before.is_empty());
        history.set_kind(KindState::Going);
        history.run(4).await;
        for replica in &mut history.replicas {
            replica.stalled.insert(Kind::Registries);
        }
        history.set_kind(KindState::Served);
        for _ in 0..10 {
            time::pass(SignedDuration::from_secs(10)).await;
            history.run(10).await;
        }
        assert_eq!(secrets(&history), before);
    });
}

/// Whether the model finds what a product with a planted fault does, by one of these words.
fn finds(mutant: Mutant, words: &[&str]) {
    let found = |seed| run(live(seed, Some(mutant))).err();
    let mut all = (0..500).filter_map(found);
    let by_word = |failure: &Failure| {
        let mut verdicts = failure.verdicts.iter();
        verdicts.any(|verdict| words.iter().any(|word| verdict.starts_with(word)))
    };
    assert!(
        all.any(|failure| by_word(&failure)),
        "{mutant:?} goes unnoticed"
    );
}

/// A seed stands for one history, down to each write; else a failure could not be replayed.
#[test]
fn lives_the_same_history_twice() {
    let mut failures = 0;
    for seed in 0..24 {
        for mutant in [None, Some(Mutant::NarrowerWrite)] {
            let first = run(live(seed, mutant));
            assert_eq!(first, run(live(seed, mutant)), "{seed} {mutant:?}");
            failures += u64::from(mutant.is_some() && first.is_err());
        }
    }
    assert!(failures > 0, "no mutant failed");
}

#[test]
fn finds_product_that_writes_narrower_secrets() {
    finds(Mutant::NarrowerWrite, &["lost"]);
}

#[test]
fn finds_product_that_repeats_a_lost_write_unmerged() {
    finds(Mutant::LostMerge, &["lost", "staler"]);
}

#[test]
fn finds_product_that_takes_a_lost_kind_for_an_order() {
    finds(Mutant::KindUnasked, &["lost"]);
}

#[test]
fn finds_product_that_takes_over_foreign_secrets() {
    finds(Mutant::ForeignOverwrite, &["foreign"]);
}

#[test]
fn finds_product_that_writes_logins_into_secrets_that_kubelets_ask_for() {
    finds(Mutant::NodeAsBoth, &["unasked", "left", "delivered"]);
}

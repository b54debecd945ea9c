use super::*;

fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_mins(minutes)
}

/// Minted at 0, good for 12 hours.
fn credential(jitter: u8) -> CredentialState {
    CredentialState {
        minted: Some((at(0), at(720))),
        jitter,
        ..CredentialState::default()
    }
}

fn ends(minutes: i64) -> CredentialState {
    CredentialState {
        minted: Some((at(0), at(minutes))),
        ..CredentialState::default()
    }
}

/// A pull secret that holds these.
fn holding(entries: &[(Option<CredentialState>, EntryState)]) -> SecretState {
    let entry = |&(credential, entry_state): &(_, _)| SecretEntry {
        credential,
        entry_state,
    };
    SecretState {
        entries: entries.iter().map(entry).collect(),
        ..SecretState::default()
    }
}

/// One that holds the very credentials.
fn current(credentials: &[CredentialState]) -> SecretState {
    let entries = credentials.iter();
    let entries = entries.map(|one| (Some(*one), EntryState::Current));
    holding(&entries.collect::<Vec<_>>())
}

fn mint(places: &[usize]) -> Decision {
    Decision::Mint(places.to_vec())
}

fn wait(minute: i64) -> Decision {
    Decision::Wait(Some(at(minute)))
}

/// Whoever mounts a Secret finds a quarter left: minted when it is due, written at the latest when it must be, and brought to the file by
/// the kubelet within its time.
#[test]
fn leaves_a_quarter_of_the_life_to_what_is_mounted() {
    for minutes in [15, 60, 180, 720, 10 * 365 * 24 * 60] {
        let (minted_at, expires_at) = (at(0), at(minutes));
        let life = expires_at.duration_since(minted_at);
        let until = mounted_until(minted_at, expires_at);
        let in_file = until + MOUNT_DELAY.min(life / 8);
        assert!(expires_at.duration_since(in_file) >= life / 4, "{minutes}");
        for jitter in 0..=255 {
            let credential = CredentialState {
                minted: Some((minted_at, expires_at)),
                jitter: spread_mounted(jitter, minted_at),
                ..CredentialState::default()
            };
            let due = credential.renewal_due(at(0)).unwrap();
            assert!(due >= minted_at + life / 2, "{minutes}");
            // Time to try again: at least a twentieth of its life.
            assert!(
                until.duration_since(due) >= life / 20,
                "{minutes}: {due} {until}"
            );
        }
    }
    assert_eq!(mounted_until(at(0), at(60)), at(43));
    // What is due goes out before what has more time, and waits for nothing beyond that.
    let renewed = holding(&[(Some(ends(60)), EntryState::Previous(at(43)))]);
    let renew = Decision::Renew {
        until: at(43),
        requeue_at: Some(at(30)),
    };
    assert_eq!(decide(&renewed, at(20)), renew);
}

#[test]
fn mints_what_is_not_there() {
    let none = CredentialState::default();
    let secret = holding(&[(Some(none), EntryState::Unavailable)]);
    assert_eq!(decide(&secret, at(0)), mint(&[0]));
    let fixed = holding(&[(None, EntryState::Unavailable)]);
    assert_eq!(decide(&fixed, at(0)), Decision::Wait(None));
}

#[test]
fn renews_after_half_of_the_life_each_at_its_own_time() {
    for (jitter, minute) in [(0, 360), (128, 432), (255, 504)] {
        let secret = current(&[credential(jitter)]);
        let Decision::Wait(Some(next)) = decide(&secret, at(minute - 1)) else {
            panic!("{jitter}");
        };
        assert!(next > at(minute - 1) && next <= at(minute + 1), "{next}");
        assert_eq!(decide(&secret, at(minute + 1)), mint(&[0]), "{jitter}");
    }
}

#[test]
fn mints_anew_at_once_what_was_minted_in_the_future_and_when_the_clock_jumps_ahead() {
    let secret = current(&[credential(0)]);
    assert_eq!(decide(&secret, at(-9)), wait(360));
    // The clock was put back by 8 hours: once, since what is minted then is not from the future.
    assert_eq!(decide(&secret, at(-480)), mint(&[0]));
    let anew = CredentialState {
        minted: Some((at(-480), at(240))),
        ..credential(0)
    };
    assert_eq!(decide(&current(&[anew]), at(-479)), wait(-120));
    // It jumps ahead by 8 hours.
    assert_eq!(decide(&secret, at(480)), mint(&[0]));
}

#[test]
fn renews_together_what_may_be_renewed_when_something_is_due_or_was_just_renewed() {
    let all = [credential(255), credential(0), credential(100)];
    assert_eq!(decide(&current(&all), at(359)), wait(360));
    assert_eq!(decide(&current(&all), at(361)), mint(&[0, 1, 2]));
    let other = (Some(credential(255)), EntryState::Current);
    let renewed = CredentialState {
        minted: Some((at(365), at(1085))),
        ..credential(0)
    };
    for state in [EntryState::Previous(at(720)), EntryState::Missing] {
        let secret = holding(&[(Some(renewed), state), other]);
        assert_eq!(decide(&secret, at(366)), mint(&[1]));
    }
    let secret = holding(&[(Some(renewed), EntryState::Current), other]);
    assert!(matches!(decide(&secret, at(366)), Decision::Wait(_)));
}

#[test]
fn mints_nothing_twice_and_waits_after_a_failure() {
    let minting = CredentialState {
        minting_since: Some(at(399)),
        ..credential(0)
    };
    let failed = CredentialState {
        retry_at: Some(at(401)),
        ..credential(0)
    };
    let secret = current(&[minting, failed]);
    assert_eq!(decide(&secret, at(400)), Decision::Wait(None));
    assert_eq!(decide(&secret, at(401)), mint(&[1]));
    // It is to be renewed later than it may be tried again.
    let early = CredentialState {
        retry_at: Some(at(370)),
        ..credential(255)
    };
    assert_eq!(decide(&current(&[minting, early]), at(365)), wait(504));
}

#[test]
fn waits_for_no_mint_that_failed_last_time() {
    let retried = CredentialState {
        minting_since: Some(at(300)),
        retry_at: Some(at(300)),
        ..credential(0)
    };
    let retried = (Some(retried), EntryState::Current);
    let missing = (None, EntryState::Missing);
    assert_eq!(
        decide(&holding(&[missing, retried]), at(300)),
        Decision::Write
    );
    let previous = (None, EntryState::Previous(at(720)));
    let renew = Decision::Renew {
        until: at(720),
        requeue_at: None,
    };
    assert_eq!(decide(&holding(&[previous, retried]), at(300)), renew);
}

#[test]
fn writes_what_is_missing_at_once_and_leaves_alone_what_is_not_to_be_had() {
    let credential = Some(credential(255));
    let rows = [
        (vec![(credential, EntryState::Missing)], Decision::Write),
        (vec![(None, EntryState::Missing)], Decision::Write),
        (vec![(None, EntryState::Outdated)], Decision::Write),
        (
            vec![
                (credential, EntryState::Current),
                (None, EntryState::Current),
            ],
            wait(504),
        ),
        (vec![(credential, EntryState::Unavailable)], wait(504)),
        (vec![(None, EntryState::Unavailable)], Decision::Wait(None)),
    ];
    for (entries, expected) in rows {
        assert_eq!(decide(&holding(&entries), at(1)), expected, "{entries:?}");
    }
    let missing = holding(&[(None, EntryState::Missing)]);
    let writing = SecretState {
        is_writing: true,
        ..missing.clone()
    };
    assert_eq!(decide(&writing, at(1)), Decision::Wait(None));
    let failed = SecretState {
        retry_at: Some(at(5)),
        ..missing
    };
    assert_eq!(decide(&failed, at(1)), wait(5));
    assert_eq!(decide(&failed, at(5)), Decision::Write);
}

#[test]
fn gathers_what_is_minted_a_moment_for_one_write() {
    let since = at(10);
    let minting = CredentialState {
        minting_since: Some(since),
        ..CredentialState::default()
    };
    let secret = holding(&[
        (Some(credential(255)), EntryState::Missing),
        (Some(minting), EntryState::Unavailable),
    ]);
    assert_eq!(decide(&secret, since), Decision::Wait(Some(since + GATHER)));
    assert_eq!(decide(&secret, since + GATHER), Decision::Write);
    // Also by a clock that was put back.
    assert_eq!(decide(&secret, since - GATHER), Decision::Write);
}

#[test]
fn waits_for_what_is_minted_to_write_once_unless_time_is_short() {
    let previous = (Some(credential(255)), EntryState::Previous(at(720)));
    let minting = CredentialState {
        minting_since: Some(at(0)),
        ..credential(0)
    };
    let renew = |requeue_at| Decision::Renew {
        until: at(720),
        requeue_at,
    };
    let secret = holding(&[previous, (Some(minting), EntryState::Current)]);
    assert_eq!(decide(&secret, at(300)), wait(504));
    assert!(matches!(decide(&secret, at(719)), Decision::Mint(_)));
    let fresh = CredentialState {
        minted: Some((at(700), at(1420))),
        ..credential(0)
    };
    let previous = (Some(fresh), EntryState::Previous(at(720)));
    let secret = holding(&[previous, (Some(minting), EntryState::Current)]);
    assert_eq!(decide(&secret, at(701)), wait(718));
    assert_eq!(decide(&secret, at(719)), renew(Some(at(1060))));
    let secret = holding(&[previous, (None, EntryState::Current)]);
    assert_eq!(decide(&secret, at(701)), renew(Some(at(1060))));
}

#[test]
fn writes_by_the_first_end() {
    let until = |minutes| (Some(ends(10_000)), EntryState::Previous(at(minutes)));
    let secret = holding(&[until(70), until(30), until(50)]);
    let Decision::Renew { until, .. } = decide(&secret, at(0)) else {
        panic!("it is to be renewed");
    };
    assert_eq!(until, at(30));
}

#[test]
fn takes_out_what_was_ordered_first_and_what_is_found_after_what_is_missing() {
    let stale = |why, entries: &[_]| SecretState {
        stale: Some(why),
        ..holding(entries)
    };
    let missing = (None, EntryState::Missing);
    let renewed = (Some(ends(10_000)), EntryState::Previous(at(50)));
    for why in [Stale::SpecChange, Stale::Unexplained, Stale::KindLost] {
        let remove = Decision::Remove(why);
        assert_eq!(decide(&stale(why, &[]), at(0)), remove);
        assert_eq!(decide(&stale(why, &[renewed]), at(0)), remove);
        let first = match why {
            Stale::SpecChange => remove,
            Stale::Unexplained | Stale::KindLost => Decision::Write,
        };
        assert_eq!(decide(&stale(why, &[missing]), at(0)), first);
        let writing = SecretState {
            is_writing: true,
            ..stale(why, &[])
        };
        assert_eq!(decide(&writing, at(0)), Decision::Wait(None));
    }
}

#[test]
fn neither_a_write_nor_a_removal_waits_for_the_other_that_failed() {
    use Stale::{SpecChange, Unexplained};
    // When each is tried again, and what is done now.
    let table = [
        (SpecChange, None, None, Decision::Remove(SpecChange)),
        (SpecChange, Some(3), None, Decision::Remove(SpecChange)),
        (SpecChange, None, Some(3), Decision::Write),
        (SpecChange, Some(3), Some(5), wait(3)),
        (SpecChange, Some(5), Some(3), wait(3)),
        (SpecChange, Some(0), Some(0), Decision::Remove(SpecChange)),
        (Unexplained, None, None, Decision::Write),
        (Unexplained, Some(3), None, Decision::Remove(Unexplained)),
        (Unexplained, None, Some(3), Decision::Write),
        (Unexplained, Some(0), Some(0), Decision::Write),
    ];
    for (why, retry_at, remove_at, expected) in table {
        let secret = SecretState {
            stale: Some(why),
            retry_at: retry_at.map(at),
            remove_at: remove_at.map(at),
            ..holding(&[(None, EntryState::Missing)])
        };
        assert_eq!(
            decide(&secret, at(1)),
            expected,
            "{why:?} {retry_at:?} {remove_at:?}"
        );
    }
}

#[test]
fn decides_again_when_it_is_asked_to() {
    let secret = SecretState {
        requeue_at: Some(at(7)),
        ..current(&[credential(0)])
    };
    assert_eq!(decide(&secret, at(0)), wait(7));
}

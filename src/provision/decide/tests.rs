use super::*;

fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_mins(minutes)
}

/// Minted at 0, good for 12 hours.
fn credential_state(jitter: u8) -> CredentialState {
    CredentialState {
        minted: Some((at(0), at(720))),
        is_minting: false,
        retry_at: None,
        jitter,
    }
}

fn holding(entries: &[(Option<usize>, EntryState)]) -> SecretState {
    SecretState {
        entries: entries
            .iter()
            .map(|&(credential, entry_state)| SecretEntry {
                credential,
                entry_state,
            })
            .collect(),
        ..SecretState::default()
    }
}

#[test]
fn mints_what_is_not_there() {
    let view = DecisionInput {
        credentials: vec![CredentialState {
            minted: None,
            is_minting: false,
            retry_at: None,
            jitter: 3,
        }],
        ..DecisionInput::default()
    };
    assert_eq!(decide(&view, at(0)).mint, [0]);
}

#[test]
fn renews_after_half_of_the_life_each_at_its_own_time() {
    for (jitter, minute) in [(0, 360), (128, 378), (255, 396)] {
        let view = DecisionInput {
            credentials: vec![credential_state(jitter)],
            ..DecisionInput::default()
        };
        let before = decide(&view, at(minute - 1));
        assert!(before.mint.is_empty(), "{jitter}");
        let next = before.next.unwrap();
        assert!(
            next > at(minute - 1) && next <= at(minute + 1),
            "{jitter}: {next}"
        );
        assert_eq!(decide(&view, at(minute + 1)).mint, [0], "{jitter}");
    }
}

#[test]
fn mints_anew_at_once_what_was_minted_in_the_future_and_when_the_clock_jumps_ahead() {
    let view = DecisionInput {
        credentials: vec![credential_state(0)],
        ..DecisionInput::default()
    };
    assert!(decide(&view, at(-9)).mint.is_empty());
    // The clock was put back by 8 hours: once, since what is minted then is not from the future.
    assert_eq!(decide(&view, at(-480)).mint, [0]);
    let anew = DecisionInput {
        credentials: vec![CredentialState {
            minted: Some((at(-480), at(240))),
            ..credential_state(0)
        }],
        ..DecisionInput::default()
    };
    assert!(decide(&anew, at(-479)).mint.is_empty());
    // It jumps ahead by 8 hours.
    assert!(decide(&view, at(1)).mint.is_empty());
    assert_eq!(decide(&view, at(481)).mint, [0]);
}

#[test]
fn renews_together_what_may_be_renewed_when_something_is_due() {
    let view = DecisionInput {
        credentials: vec![
            credential_state(255),
            credential_state(0),
            credential_state(100),
        ],
        ..DecisionInput::default()
    };
    assert!(decide(&view, at(359)).mint.is_empty());
    assert_eq!(decide(&view, at(361)).mint.len(), 3);
}

#[test]
fn mints_nothing_twice_and_waits_after_a_failure() {
    let minting = CredentialState {
        is_minting: true,
        ..credential_state(0)
    };
    let failed = CredentialState {
        retry_at: Some(at(401)),
        ..credential_state(0)
    };
    let view = DecisionInput {
        credentials: vec![minting, failed],
        ..DecisionInput::default()
    };
    let decision = decide(&view, at(400));
    assert!(decision.mint.is_empty());
    assert_eq!(decision.next, Some(at(401)));
    assert_eq!(decide(&view, at(401)).mint, [1]);
}

#[test]
fn mints_what_ends_first_first() {
    let ends = |minutes| CredentialState {
        minted: Some((at(0), at(minutes))),
        ..credential_state(0)
    };
    let view = DecisionInput {
        credentials: vec![ends(700), ends(500), ends(600)],
        ..DecisionInput::default()
    };
    assert_eq!(decide(&view, at(400)).mint, [1, 2, 0]);
}

#[test]
fn mints_what_failed_in_turns_and_after_all_others() {
    let failed = |minutes| CredentialState {
        retry_at: Some(at(minutes)),
        minted: None,
        ..credential_state(0)
    };
    let view = DecisionInput {
        credentials: vec![failed(399), failed(398), credential_state(0)],
        ..DecisionInput::default()
    };
    assert_eq!(decide(&view, at(400)).mint, [2, 1, 0]);
}

#[test]
fn writes_what_is_missing_at_once_and_leaves_alone_what_is_not_to_be_had() {
    let view = DecisionInput {
        secrets: vec![
            holding(&[(Some(0), EntryState::Missing)]),
            holding(&[(Some(0), EntryState::Current), (None, EntryState::Current)]),
            holding(&[(Some(0), EntryState::Unavailable)]),
            holding(&[(None, EntryState::Missing)]),
            SecretState {
                is_writing: true,
                ..holding(&[(Some(0), EntryState::Missing)])
            },
            SecretState {
                retry_at: Some(at(5)),
                ..holding(&[(Some(0), EntryState::Missing)])
            },
        ],
        credentials: vec![credential_state(255)],
        ..DecisionInput::default()
    };
    let decision = decide(&view, at(1));
    assert_eq!(decision.complete, [0, 3]);
    assert!(decision.renew.is_empty());
    assert_eq!(decision.next, Some(at(5)));
}

#[test]
fn waits_for_what_is_minted_to_write_once_unless_time_is_short() {
    let minting = CredentialState {
        is_minting: true,
        ..credential_state(0)
    };
    let mut view = DecisionInput {
        secrets: vec![holding(&[
            (Some(0), EntryState::Previous(at(720))),
            (Some(1), EntryState::Current),
        ])],
        credentials: vec![credential_state(255), minting],
        ..DecisionInput::default()
    };
    assert!(decide(&view, at(300)).renew.is_empty());
    assert_eq!(decide(&view, at(719)).renew, [0]);
    view.credentials[1].is_minting = false;
    assert_eq!(decide(&view, at(300)).renew, [0]);
}

#[test]
fn writes_what_ends_first_first_at_a_pace_that_will_do() {
    let ends = |minutes| holding(&[(Some(0), EntryState::Previous(at(minutes)))]);
    let view = DecisionInput {
        secrets: vec![ends(70), ends(30), ends(50)],
        credentials: vec![credential_state(255)],
        ..DecisionInput::default()
    };
    let decision = decide(&view, at(0));
    assert_eq!(decision.renew, [1, 2, 0]);
    assert!((decision.rate - view.rate.base).abs() < 0.1);
    let many = DecisionInput {
        secrets: vec![ends(2); 10_000],
        credentials: vec![credential_state(255)],
        ..DecisionInput::default()
    };
    let rate = decide(&many, at(0)).rate;
    assert!(rate > 160.0 && rate < 170.0, "{rate}");
    let timed_out = decide(&many, at(3)).rate;
    assert!((timed_out - view.rate.max).abs() < 0.1, "{timed_out}");
    let rate = RenewalRate {
        base: 200.0,
        max: 300.0,
    };
    let many = DecisionInput { rate, ..many };
    for (minutes, wanted) in [(0, 200.0), (3, 300.0)] {
        let rate = decide(&many, at(minutes)).rate;
        assert!((rate - wanted).abs() < 0.1, "{rate}");
    }
}

/// So many pull secrets, of which the first `stale` hold a stale entry.
fn full_of(secrets: usize, stale: usize, why: Stale) -> DecisionInput {
    let holding = |index: usize| SecretState {
        stale: (index < stale).then_some(why),
        ..holding(&[(None, EntryState::Current)])
    };
    DecisionInput {
        secrets: (0..secrets).map(holding).collect(),
        removals: RemovalBudget {
            secrets,
            ..RemovalBudget::default()
        },
        ..DecisionInput::default()
    }
}

#[test]
fn removes_what_was_ordered_from_any_number_of_secrets() {
    for (secrets, stale) in [(1, 1), (10, 10), (1000, 1000)] {
        let decision = decide(&full_of(secrets, stale, Stale::SpecChange), at(0));
        assert_eq!(decision.remove.len(), stale);
        assert!(decision.blocked.is_empty());
    }
}

#[test]
fn holds_back_what_nobody_ordered_when_it_is_much() {
    let table = [
        // secrets, stale, removed lately, confirmed, removed now
        (3, 3, 0, false, 3),
        (9, 9, 0, false, 9),
        (10, 10, 0, false, 0),
        (10, 9, 1, false, 0),
        (49, 10, 0, false, 0),
        (50, 10, 0, false, 10),
        (50, 1, 10, false, 0),
        (1000, 200, 0, false, 200),
        (1000, 201, 0, false, 0),
        (1000, 150, 60, false, 0),
        (1000, 1000, 0, true, 1000),
    ];
    for (secrets, stale, recent, confirmed, removed) in table {
        let mut view = full_of(secrets, stale, Stale::Unexplained);
        view.removals.recent = recent;
        view.removals.confirmed = confirmed;
        let decision = decide(&view, at(0));
        assert_eq!(decision.remove.len(), removed, "{secrets} {stale} {recent}");
        assert_eq!(
            decision.blocked.len(),
            stale - removed,
            "{secrets} {stale} {recent}"
        );
        assert_eq!(decision.next.is_some(), removed == 0, "it is decided again");
    }
}

#[test]
fn removes_what_was_ordered_while_other_removals_are_held_back() {
    let mut view = full_of(20, 12, Stale::Unexplained);
    view.secrets[15].stale = Some(Stale::SpecChange);
    let decision = decide(&view, at(0));
    assert_eq!(decision.remove, [15]);
    assert_eq!(decision.blocked.len(), 12);
}

#[test]
fn leaves_secret_alone_that_is_being_written_or_failed_a_moment_ago() {
    let mut view = full_of(2, 2, Stale::SpecChange);
    view.secrets[0].is_writing = true;
    view.secrets[1].remove_at = Some(at(3));
    let decision = decide(&view, at(0));
    assert!(decision.remove.is_empty());
    assert_eq!(decision.next, Some(at(3)));
}

#[test]
fn neither_a_write_nor_a_removal_waits_for_the_other_that_failed() {
    // When each is tried again, and what is done now.
    let table = [
        (None, None, true, true),
        (Some(3), None, false, true),
        (None, Some(3), true, false),
        (Some(3), Some(5), false, false),
        (Some(0), Some(0), true, true),
    ];
    for (retry_at, remove_at, writes, removes) in table {
        let mut view = full_of(1, 1, Stale::SpecChange);
        view.secrets[0].entries = holding(&[(None, EntryState::Missing)]).entries;
        view.secrets[0].retry_at = retry_at.map(at);
        view.secrets[0].remove_at = remove_at.map(at);
        let decision = decide(&view, at(1));
        let done = (!decision.complete.is_empty(), !decision.remove.is_empty());
        assert_eq!(done, (writes, removes), "{retry_at:?} {remove_at:?}");
        let next = [retry_at, remove_at].into_iter().flatten();
        let next = next.filter(|minute| *minute > 1).min().map(at);
        assert_eq!(decision.next, next, "{retry_at:?} {remove_at:?}");
    }
}

#[test]
fn tells_of_an_overload_where_renewals_need_more_than_is_done() {
    let ends = |minutes| CredentialState {
        minted: Some((at(0), at(minutes))),
        ..credential_state(0)
    };
    let table = [
        // Pull secrets, the life of their credential in minutes, writes per second
        (10_000, 720, None),
        (10_000, 1, None),
        (15_001, 1, Some(500.0)),
        (30_000, 1, Some(1000.0)),
        (30_000, 60, None),
    ];
    for (secrets, minutes, overload) in table {
        let view = DecisionInput {
            secrets: vec![
                holding(&[
                    (Some(0), EntryState::Current),
                    (Some(1), EntryState::Current),
                    (None, EntryState::Current)
                ]);
                secrets
            ],
            credentials: vec![ends(720), ends(minutes)],
            ..DecisionInput::default()
        };
        let found = decide(&view, at(0)).overload.map(f64::round);
        assert_eq!(found, overload, "{secrets} for {minutes} min");
    }
    let endless = DecisionInput {
        secrets: vec![holding(&[(None, EntryState::Current)]); 100_000],
        ..DecisionInput::default()
    };
    assert_eq!(decide(&endless, at(0)).overload, None);
}

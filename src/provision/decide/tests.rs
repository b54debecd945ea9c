use super::*;

fn at(minutes: i64) -> Timestamp {
    let start: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
    start + SignedDuration::from_mins(minutes)
}

/// Minted at 0, good for 12 hours.
fn life(spread: u8) -> Life {
    Life {
        minted: Some((at(0), at(720))),
        is_minted: false,
        retry_at: None,
        spread,
    }
}

fn holding(pieces: &[(Option<usize>, Stands)]) -> Holding {
    Holding {
        entries: pieces
            .iter()
            .map(|&(credential, stands)| Piece { credential, stands })
            .collect(),
        ..Holding::default()
    }
}

#[test]
fn mints_what_is_not_there() {
    let view = View {
        credentials: vec![Life {
            minted: None,
            is_minted: false,
            retry_at: None,
            spread: 3,
        }],
        ..View::default()
    };
    assert_eq!(decide(&view, at(0)).mint, [0]);
}

#[test]
fn renews_after_half_of_the_life_each_at_its_own_time() {
    for (spread, minute) in [(0, 360), (128, 378), (255, 396)] {
        let view = View {
            credentials: vec![life(spread)],
            ..View::default()
        };
        let before = decide(&view, at(minute - 1));
        assert!(before.mint.is_empty(), "{spread}");
        let next = before.next.unwrap();
        assert!(
            next > at(minute - 1) && next <= at(minute + 1),
            "{spread}: {next}"
        );
        assert_eq!(decide(&view, at(minute + 1)).mint, [0], "{spread}");
    }
}

#[test]
fn renews_together_what_may_be_renewed_when_something_is_due() {
    let view = View {
        credentials: vec![life(255), life(0), life(100)],
        ..View::default()
    };
    assert!(decide(&view, at(359)).mint.is_empty());
    assert_eq!(decide(&view, at(361)).mint.len(), 3);
}

#[test]
fn mints_nothing_twice_and_waits_after_a_failure() {
    let minting = Life {
        is_minted: true,
        ..life(0)
    };
    let failed = Life {
        retry_at: Some(at(401)),
        ..life(0)
    };
    let view = View {
        credentials: vec![minting, failed],
        ..View::default()
    };
    let decision = decide(&view, at(400));
    assert!(decision.mint.is_empty());
    assert_eq!(decision.next, Some(at(401)));
    assert_eq!(decide(&view, at(401)).mint, [1]);
}

#[test]
fn mints_what_ends_first_first() {
    let ends = |minutes| Life {
        minted: Some((at(0), at(minutes))),
        ..life(0)
    };
    let view = View {
        credentials: vec![ends(700), ends(500), ends(600)],
        ..View::default()
    };
    assert_eq!(decide(&view, at(400)).mint, [1, 2, 0]);
}

#[test]
fn mints_what_failed_in_turns_and_after_all_others() {
    let failed = |minutes| Life {
        retry_at: Some(at(minutes)),
        minted: None,
        ..life(0)
    };
    let view = View {
        credentials: vec![failed(399), failed(398), life(0)],
        ..View::default()
    };
    assert_eq!(decide(&view, at(400)).mint, [2, 1, 0]);
}

#[test]
fn writes_what_is_missing_at_once_and_leaves_alone_what_is_not_to_be_had() {
    let view = View {
        secrets: vec![
            holding(&[(Some(0), Stands::Missing)]),
            holding(&[(Some(0), Stands::Current), (None, Stands::Current)]),
            holding(&[(Some(0), Stands::Unavailable)]),
            holding(&[(None, Stands::Missing)]),
            Holding {
                is_written: true,
                ..holding(&[(Some(0), Stands::Missing)])
            },
            Holding {
                retry_at: Some(at(5)),
                ..holding(&[(Some(0), Stands::Missing)])
            },
        ],
        credentials: vec![life(255)],
        ..View::default()
    };
    let decision = decide(&view, at(1));
    assert_eq!(decision.complete, [0, 3]);
    assert!(decision.renew.is_empty());
    assert_eq!(decision.next, Some(at(5)));
}

#[test]
fn waits_for_what_is_minted_to_write_once_unless_time_is_short() {
    let minting = Life {
        is_minted: true,
        ..life(0)
    };
    let mut view = View {
        secrets: vec![holding(&[
            (Some(0), Stands::Earlier(at(720))),
            (Some(1), Stands::Current),
        ])],
        credentials: vec![life(255), minting],
        ..View::default()
    };
    assert!(decide(&view, at(300)).renew.is_empty());
    assert_eq!(decide(&view, at(719)).renew, [0]);
    view.credentials[1].is_minted = false;
    assert_eq!(decide(&view, at(300)).renew, [0]);
}

#[test]
fn writes_what_ends_first_first_at_a_pace_that_will_do() {
    let ends = |minutes| holding(&[(Some(0), Stands::Earlier(at(minutes)))]);
    let view = View {
        secrets: vec![ends(70), ends(30), ends(50)],
        credentials: vec![life(255)],
        ..View::default()
    };
    let decision = decide(&view, at(0));
    assert_eq!(decision.renew, [1, 2, 0]);
    assert!((decision.pace - view.pace.usual).abs() < 0.1);
    let many = View {
        secrets: vec![ends(2); 10_000],
        credentials: vec![life(255)],
        ..View::default()
    };
    let pace = decide(&many, at(0)).pace;
    assert!(pace > 160.0 && pace < 170.0, "{pace}");
    let late = decide(&many, at(3)).pace;
    assert!((late - view.pace.top).abs() < 0.1, "{late}");
    let pace = Pace {
        usual: 200.0,
        top: 300.0,
    };
    let many = View { pace, ..many };
    for (minutes, wanted) in [(0, 200.0), (3, 300.0)] {
        let pace = decide(&many, at(minutes)).pace;
        assert!((pace - wanted).abs() < 0.1, "{pace}");
    }
}

/// So many pull secrets, of which the first `surplus` hold something that belongs there no more.
fn full_of(secrets: usize, surplus: usize, why: Surplus) -> View {
    let holding = |place: usize| Holding {
        surplus: (place < surplus).then_some(why),
        ..holding(&[(None, Stands::Current)])
    };
    View {
        secrets: (0..secrets).map(holding).collect(),
        removals: Removals {
            secrets,
            ..Removals::default()
        },
        ..View::default()
    }
}

#[test]
fn removes_what_was_ordered_from_any_number_of_secrets() {
    for (secrets, surplus) in [(1, 1), (10, 10), (1000, 1000)] {
        let decision = decide(&full_of(secrets, surplus, Surplus::Ordered), at(0));
        assert_eq!(decision.remove.len(), surplus);
        assert!(decision.held_back.is_empty());
    }
}

#[test]
fn holds_back_what_nobody_ordered_when_it_is_much() {
    let table = [
        // secrets, surplus, removed lately, confirmed, removed now
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
    for (secrets, surplus, lately, confirmed, removed) in table {
        let mut view = full_of(secrets, surplus, Surplus::Found);
        view.removals.lately = lately;
        view.removals.confirmed = confirmed;
        let decision = decide(&view, at(0));
        assert_eq!(
            decision.remove.len(),
            removed,
            "{secrets} {surplus} {lately}"
        );
        assert_eq!(
            decision.held_back.len(),
            surplus - removed,
            "{secrets} {surplus} {lately}"
        );
        assert_eq!(decision.next.is_some(), removed == 0, "it is looked again");
    }
}

#[test]
fn removes_what_was_ordered_while_other_removals_are_held_back() {
    let mut view = full_of(20, 12, Surplus::Found);
    view.secrets[15].surplus = Some(Surplus::Ordered);
    let decision = decide(&view, at(0));
    assert_eq!(decision.remove, [15]);
    assert_eq!(decision.held_back.len(), 12);
}

#[test]
fn leaves_secret_alone_that_is_being_written_or_failed_a_moment_ago() {
    let mut view = full_of(2, 2, Surplus::Ordered);
    view.secrets[0].is_written = true;
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
        let mut view = full_of(1, 1, Surplus::Ordered);
        view.secrets[0].entries = holding(&[(None, Stands::Missing)]).entries;
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
    let ends = |minutes| Life {
        minted: Some((at(0), at(minutes))),
        ..life(0)
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
        let view = View {
            secrets: vec![
                holding(&[
                    (Some(0), Stands::Current),
                    (Some(1), Stands::Current),
                    (None, Stands::Current)
                ]);
                secrets
            ],
            credentials: vec![ends(720), ends(minutes)],
            ..View::default()
        };
        let found = decide(&view, at(0)).overload.map(f64::round);
        assert_eq!(found, overload, "{secrets} for {minutes} min");
    }
    let endless = View {
        secrets: vec![holding(&[(None, Stands::Current)]); 100_000],
        ..View::default()
    };
    assert_eq!(decide(&endless, at(0)).overload, None);
}

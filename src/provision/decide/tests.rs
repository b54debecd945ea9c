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
    };
    let decision = decide(&view, at(0));
    assert_eq!(decision.renew, [1, 2, 0]);
    assert!((decision.pace - USUAL_PACE).abs() < 0.1);
    let many = View {
        secrets: vec![ends(2); 10_000],
        credentials: vec![life(255)],
    };
    let pace = decide(&many, at(0)).pace;
    assert!(pace > 160.0 && pace < 170.0, "{pace}");
    let late = decide(&many, at(3)).pace;
    assert!((late - TOP_PACE).abs() < 0.1, "{late}");
}

//! The decision as a table, and over years.

use super::*;

/// So that a day is a second here.
const LIVES: ValidityPeriods = ValidityPeriods {
    serving: SignedDuration::from_secs(90),
    authority: SignedDuration::from_secs(1080),
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn life(made: i64, until: i64) -> Validity {
    Validity {
        made: at(made),
        until: at(until),
    }
}

fn read_life(text: &str) -> Validity {
    let (made, until) = text.split_once('-').unwrap();
    life(made.parse().unwrap(), until.parse().unwrap())
}

fn read_view([authority, serving, words]: [&str; 3]) -> Option<CertificateView> {
    let has = |word: &str| words.split(' ').any(|one| one == word);
    (authority != "-").then(|| CertificateView {
        authority: read_life(authority),
        serving: read_life(serving),
        is_signed_by_authority: has("own"),
        trusts_old_ca: has("older"),
        has_names: !has("unnamed"),
    })
}

fn read_bundle(text: &str) -> Bundle {
    match text.split_once(' ') {
        Some(("holds", since)) => Bundle::Holds(at(since.parse().unwrap())),
        Some(("differs", from)) => Bundle::Differs(at(from.parse().unwrap())),
        _ => Bundle::Unknown,
    }
}

#[test]
fn decides_by_table() {
    let rows = include_str!("table.txt").lines().skip(1);
    let mut count = 0;
    for row in rows {
        let columns: Vec<&str> = row.split('|').map(str::trim).collect();
        let [what, now, authority, serving, words, bundle, expected] = columns[..] else {
            panic!("not seven columns: {row}");
        };
        let held = read_view([authority, serving, words]);
        let now = at(now.parse().unwrap());
        let decided = decide(now, held.as_ref(), read_bundle(bundle), LIVES);
        let decided = match decided {
            RotationStep::Wait(until) => format!("Wait {}", until.as_second() - 1_000_000),
            other => format!("{other:?}"),
        };
        assert_eq!(decided, expected, "{what}");
        count += 1;
    }
    assert_eq!(count, 22, "rows of the table");
}

/// What carrying out each decision leads to, for a thousand serving certificates: what is served is always trusted.
#[test]
fn serves_what_is_trusted_over_many_lives() {
    // Authorities by the second that they were made in: (signs, trusted by the Secret), what signed the pair, what the caBundle trusts.
    let (mut authority, mut older, mut signer) = (0, None, 0);
    let mut serving = life(0, 90);
    let mut told: Vec<i64> = Vec::new();
    let mut since = 0;
    let (mut servings, mut authorities, mut writes, mut now) = (0, 0, 0, 0);
    while now < 90_000 {
        let wanted: Vec<i64> = [Some(authority), older].into_iter().flatten().collect();
        let view = CertificateView {
            authority: life(authority, authority + 1080),
            serving,
            is_signed_by_authority: signer == authority,
            trusts_old_ca: older.is_some(),
            has_names: true,
        };
        let bundle = if told == wanted {
            Bundle::Holds(at(since))
        } else {
            Bundle::Differs(at(now))
        };
        match decide(at(now), Some(&view), bundle, LIVES) {
            RotationStep::CreateAll => panic!("at {now} everything had ended"),
            RotationStep::WriteBundle => {
                (told, since) = (wanted, now);
                writes += 1;
            }
            RotationStep::RenewServing => {
                serving = life(now, (now + 90).min(authority + 1080));
                signer = authority;
                servings += 1;
            }
            RotationStep::RotateCa => {
                older = Some(authority);
                authority = now;
                authorities += 1;
            }
            RotationStep::DropOldCa => older = None,
            RotationStep::Wait(until) => {
                assert!(until > at(now), "a wait for the past at {now}");
                now = until.as_second() - 1_000_000;
            }
        }
        assert!(told.contains(&signer), "at {now}: {signer} of {told:?}");
        assert!(
            serving.until > at(now),
            "at {now} the serving certificate had ended"
        );
    }
    assert!((120..130).contains(&authorities), "{authorities}");
    assert_eq!(writes, 2 * authorities + 1);
    assert!((1400..1700).contains(&servings), "{servings}");
}

#[test]
fn tells_a_renewal_in_time_from_what_somebody_made_necessary() {
    let view = |words| read_view(["0-1080", "0-90", words]).unwrap();
    for (words, now, is_due) in [
        ("own", 10, false),
        ("own unnamed", 10, false),
        ("own", 60, true),
        ("older", 10, true),
    ] {
        assert_eq!(view(words).is_serving_due(at(now)), is_due, "{words} {now}");
    }
}

#[test]
fn replaces_what_was_made_in_the_future_and_never_what_a_clock_nine_minutes_ahead_made() {
    const MINUTE: i64 = 60;
    const DAY: i64 = 24 * 3600;
    let lives = ValidityPeriods {
        serving: SignedDuration::from_hours(90 * 24),
        authority: SignedDuration::from_hours(1080 * 24),
    };
    let view = |authority: i64, serving: i64| CertificateView {
        authority: life(authority, authority + 1080 * DAY),
        serving: life(serving, serving + 90 * DAY),
        is_signed_by_authority: true,
        trusts_old_ca: false,
        has_names: true,
    };
    let minutes = |authority: i64, serving: i64| view(authority * MINUTE, serving * MINUTE);
    let step = |held: CertificateView| decide(at(0), Some(&held), Bundle::Holds(at(0)), lives);
    let waits = |held| matches!(step(held), RotationStep::Wait(_));
    assert!(waits(minutes(0, 0)) && waits(minutes(9, 9)));
    // Callers take it still: another authority is trusted before it signs.
    assert_eq!(step(minutes(11, 11)), RotationStep::RotateCa);
    assert_eq!(step(minutes(0, 11)), RotationStep::RenewServing);
    // Callers take nothing of it: there is nothing to lose.
    for far in [3 * 60, 50 * 60, 75 * 24 * 60] {
        assert_eq!(step(minutes(far, far)), RotationStep::CreateAll, "{far}");
        assert_eq!(step(minutes(0, far)), RotationStep::RenewServing, "{far}");
    }
    let rotated = CertificateView {
        is_signed_by_authority: false,
        trusts_old_ca: true,
        ..minutes(0, 11)
    };
    assert_eq!(step(rotated), RotationStep::Wait(at(5 * MINUTE)));
    let rotated = CertificateView {
        serving: minutes(0, 180).serving,
        ..rotated
    };
    assert_eq!(step(rotated), RotationStep::RenewServing);
}

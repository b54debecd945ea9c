use super::*;

const EARLY: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn at(minutes: i64) -> Timestamp {
    EARLY + SignedDuration::from_mins(minutes)
}

fn source(text: &str, namespace: Option<&str>) -> LoginSource {
    LoginSource {
        source: text.to_owned(),
        namespace: namespace.map(|name| name.parse().unwrap()),
    }
}

fn failure(reason: &'static str, minutes: i64) -> LoginFailure {
    LoginFailure {
        at: at(minutes),
        reason: reason.into(),
        message: "the cloud says no: ask it".to_owned(),
    }
}

#[test]
fn forgets_a_failure_once_a_later_request_of_the_same_source_is_served() {
    let (eu, us) = (source("eu", None), source("us", None));
    let mut outcomes = LoginOutcomes::default();
    assert_eq!(outcomes.lacks_served(Some(&eu), at(0)), Some(Urgency::Now));
    let denied = failure("AccessDenied", 5);
    assert_eq!(outcomes.lacks_failure(&eu, &denied), Some(Urgency::Now));
    outcomes.note_failure(&eu, &denied);
    outcomes.note_failure(&us, &failure("Timeout", 5));
    // Before it, and of another source.
    for (served, minutes) in [(Some(&eu), 4), (None, 6)] {
        outcomes.note_served(served, at(minutes));
        assert_eq!(outcomes.failures().count(), 2);
    }
    assert_eq!(outcomes.lacks_served(Some(&eu), at(4)), None);
    assert_eq!(outcomes.lacks_served(Some(&eu), at(6)), Some(Urgency::Now));
    outcomes.note_served(Some(&eu), at(6));
    let left: Vec<_> = outcomes.failures().map(|(source, _)| source).collect();
    assert_eq!(left, [&us]);
    assert_eq!(outcomes.lacks_served(Some(&eu), at(7)), None);
    let tomorrow = at(24 * 60);
    assert_eq!(
        outcomes.lacks_served(Some(&eu), tomorrow),
        Some(Urgency::Later)
    );
}

#[test]
fn notes_a_failure_that_goes_on_once_an_hour_and_another_reason_at_once() {
    let eu = source("eu", None);
    let mut outcomes = LoginOutcomes::default();
    outcomes.note_failure(&eu, &failure("Timeout", 0));
    for (again, wanted) in [
        (failure("Timeout", 1), None),
        (failure("Timeout", 59), None),
        (failure("Timeout", 60), Some(Urgency::Later)),
        (failure("AccessDenied", 1), Some(Urgency::Now)),
    ] {
        assert_eq!(outcomes.lacks_failure(&eu, &again), wanted, "{again:?}");
    }
}

#[test]
fn reads_back_what_it_writes_however_much_fails() {
    let mut outcomes = LoginOutcomes::default();
    for number in 0..2 * MAX_FAILURES {
        let own = source(&format!("source {number}"), Some("team-a"));
        let pending = Pending {
            registry: None,
            reason: "AccessDenied",
            message: "\u{1}ä\"\\\n".repeat(10_000),
            is_for_admins: true,
        };
        outcomes.note_failure(&own, &LoginFailure::new(&pending, at(0)));
    }
    outcomes.note_served(None, at(1));
    assert_eq!(outcomes.failures().count(), MAX_FAILURES);
    let text = outcomes.format();
    assert!(text.len() < 128 * 1024, "{}", text.len());
    assert_eq!(LoginOutcomes::parse(&text), outcomes);
    assert_eq!(
        LoginOutcomes::parse(&LoginOutcomes::default().format()),
        LoginOutcomes::default()
    );
}

#[test]
fn leaves_out_what_is_none_and_keeps_what_another_version_says() {
    for odd in [
        "",
        "no JSON",
        "[]",
        r#"{"failing":[{"source":1}]}"#,
        r#"{"failing":[{"source":"a","at":"2026-11-01T00:00:00Z","reason":"no word","message":""}]}"#,
        r#"{"failing":[{"source":"a","namespace":"A b","at":"2026-11-01T00:00:00Z","reason":"Timeout","message":""}]}"#,
    ] {
        assert_eq!(LoginOutcomes::parse(odd), LoginOutcomes::default(), "{odd}");
    }
    let later = r#"{"failing":[{"source":"a","at":"2026-11-01T00:00:00Z","reason":"Novel","message":"so\nit is","more":1}]}"#;
    let read = LoginOutcomes::parse(later);
    let (_, failure) = read.failures().next().unwrap();
    assert_eq!((&*failure.reason, &*failure.message), ("Novel", "so it is"));
}

#[test]
fn forgets_what_is_old_or_of_a_wrong_clock() {
    let mut outcomes = LoginOutcomes::default();
    for (name, days) in [("old", -15), ("known", -14), ("next", 1), ("wrong", 3)] {
        outcomes.note_failure(&source(name, None), &failure("Timeout", days * 24 * 60));
    }
    outcomes.note_served(None, at(-15 * 24 * 60));
    for (name, minutes) in [("waits", -239), ("is gone", -240)] {
        let own = source(name, Some("team-a"));
        outcomes.note_failure(&own, &failure("AccessDenied", minutes));
    }
    outcomes.forget_old(EARLY);
    let left: Vec<_> = outcomes.failures().map(|(one, _)| &*one.source).collect();
    assert_eq!(left, ["known", "next", "waits"]);
    assert_eq!(outcomes.served(), None);
}

/// Whatever a version of pullpass says is a condition's reason, and what else there is, is none.
#[test]
fn reads_every_reason_that_a_condition_may_have() {
    let longest = "a".repeat(MAX_REASON);
    for word in ["AccessDenied", "a", "A_1", "A:b,c_", &longest] {
        assert_eq!(parse_reason(word).as_deref(), Some(word));
    }
    let longer = "a".repeat(MAX_REASON + 1);
    for other in [
        "", "1a", "_a", "a:", "a,", "A b", "A-b", "Ä", "a\n", &longer,
    ] {
        assert_eq!(parse_reason(other), None, "{other:?}");
    }
}

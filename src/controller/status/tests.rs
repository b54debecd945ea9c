use super::*;
use crate::controller::at;

fn note(number: usize) -> EventNote {
    EventNote {
        regarding: secret("team", &format!("{number:02}")),
        event_type: EventType::Warning,
        reason: "SecretNotManaged".into(),
        series: None,
        action: "Provision",
        note: String::new(),
    }
}

#[test]
fn tells_of_everything_in_turn_where_there_is_much() {
    let mut rotation = RoundRobin::default();
    let mut found = BTreeSet::new();
    for round in 0..3 {
        let all = (0..=MAX_EVENTS * 2).map(note).collect();
        let taken = rotation.take(all);
        assert!(taken.len() <= MAX_EVENTS, "{round}");
        assert_eq!(rotation.is_partial(), round < 2);
        found.extend(taken.into_iter().filter_map(|note| note.regarding.name));
    }
    assert_eq!(found.len(), MAX_EVENTS * 2 + 1);
    // Then from the first one on again.
    let first = rotation.take((0..3).map(note).collect());
    assert_eq!(first.len(), 3);
}

#[test]
fn waits_longer_and_longer_for_a_status_that_is_refused() {
    let (mut reported, mut now) = (ReportedStatus::default(), at(0));
    let key: StatusKey = ("all".parse().unwrap(), "u".to_owned());
    let refusal = || ClusterError::Forbidden {
        what: "a status".to_owned(),
        message: "no".to_owned(),
    };
    for wait in [2, 4, 8, 16, 32, 60, 60] {
        reported.record_write(key.clone(), Err(refusal()), now);
        let until = now + SignedDuration::from_secs(wait);
        assert_eq!(reported.backoff_until(&key, now), Some(until));
        now = until;
        assert_eq!(reported.backoff_until(&key, now), None, "{wait}");
    }
    reported.record_write(key.clone(), Err(refusal()), now);
    // The clock goes back while it is backed off from.
    assert_eq!(reported.backoff_until(&key, at(-3600)), None);
    reported.record_write(key.clone(), Ok(()), now);
    assert_eq!(reported.backoff_until(&key, now), None);
    assert_eq!(reported.next(now), Some(now), "it is worked out again");
}

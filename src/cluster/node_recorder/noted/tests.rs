use jiff::{SignedDuration, ToSpan as _};

use super::*;
use crate::provision::login_outcomes::MAX_FAILURES;

const FIRST: Date = Date::constant(2026, 11, 1);
const MORNING: Timestamp = Timestamp::constant(1_793_520_000, 0);

fn node(number: usize) -> ObjectName {
    format!("node-{number}").parse().unwrap()
}

fn report(nodes: &[(usize, Date)]) -> NodeReport {
    let mut report = NodeReport::new("u-1");
    for (number, day) in nodes {
        report.nodes.note(&node(*number), *day);
    }
    report
}

fn at(seconds: i64) -> Timestamp {
    MORNING + SignedDuration::from_secs(seconds)
}

fn source(number: usize) -> LoginSource {
    LoginSource {
        source: format!("source {number}"),
        namespace: None,
    }
}

fn failure(reason: &'static str, seconds: i64) -> LoginFailure {
    LoginFailure {
        at: at(seconds),
        reason: reason.into(),
        message: "no: ask".to_owned(),
    }
}

/// What is written when it is due, over what is there.
fn write(noted: &mut Noted, there: &NodeReport, now: Instant) -> Option<NodeReport> {
    let mut report = there.clone();
    noted.merge(&mut report, now).then(|| {
        noted.take_written(&report, now);
        report
    })
}

#[tokio::test(start_paused = true)]
async fn waits_for_others_of_many_nodes_and_longer_for_those_that_are_known() {
    let mut noted = Noted::new("u-1");
    let begun = Instant::now();
    assert!(noted.note_node(&node(1), FIRST, begun));
    assert!(
        !noted.note_node(&node(1), FIRST, begun),
        "it is due already"
    );
    let later = begun + Duration::from_secs(1);
    assert!(
        !noted.note_node(&node(2), FIRST, later),
        "it goes with the first"
    );
    assert_eq!(noted.due_at(), Some(begun + GATHER));
    noted.take_written(&report(&[(1, FIRST), (2, FIRST)]), later);
    assert_eq!((noted.due.len(), noted.due_at()), (0, None));
    assert!(!noted.note_node(&node(1), FIRST, later), "it is written");

    let next = FIRST.checked_add(1.days()).unwrap();
    assert!(noted.note_node(&node(1), next, later));
    assert_eq!(noted.due_at(), Some(later + REFRESH));
    // One that is new does not wait so long.
    assert!(noted.note_node(&node(3), next, later));
    assert_eq!(noted.due_at(), Some(later + GATHER));
}

#[tokio::test(start_paused = true)]
async fn asks_again_soon_for_what_was_noted_while_others_were_written() {
    let mut noted = Noted::new("u-1");
    let begun = Instant::now();
    noted.note_node(&node(1), FIRST, begun);
    noted.note_node(&node(2), FIRST, begun);
    noted.take_over(&report(&[(1, FIRST)]), begun);
    assert_eq!(noted.due_at(), Some(begun + GATHER));
    // After a restart: it was written on an earlier day.
    let earlier = FIRST.checked_sub(1.days()).unwrap();
    noted.take_over(&report(&[(2, earlier)]), begun);
    assert_eq!(noted.due_at(), Some(begun + REFRESH));
    assert_eq!(noted.due.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn gives_up_for_an_hour_what_there_is_no_room_for() {
    let nodes: Vec<_> = (0..MAX_NODES).map(|number| (number, FIRST)).collect();
    let full = report(&nodes);
    let mut noted = Noted::new("u-1");
    let begun = Instant::now();
    assert!(noted.note_node(&node(MAX_NODES), FIRST, begun));
    noted.take_over(&full, begun);
    assert_eq!((noted.due.len(), noted.due_at()), (0, None));
    // The list is not read again for each request of such a node.
    let soon = begun + FULL - Duration::from_secs(1);
    assert!(!noted.note_node(&node(MAX_NODES), FIRST, soon));
    assert_eq!(noted.due_at(), None);
    assert!(noted.note_node(&node(MAX_NODES), FIRST, begun + FULL));
}

#[tokio::test(start_paused = true)]
async fn writes_soon_that_a_login_fails_and_that_it_is_given_again_and_nothing_in_between() {
    let mut noted = Noted::new("u-1");
    let (one, now) = (source(1), Instant::now());
    assert!(noted.note_served(Some(&one), at(0), now));
    let mut there = write(&mut noted, &NodeReport::new("u-1"), now).unwrap();
    assert!(there.outcomes.served().is_some());
    for second in 1..60 {
        assert!(!noted.note_served(Some(&one), at(second), now));
    }
    // A write was a moment ago: this one waits.
    assert!(noted.note_failure(&one, failure("AccessDenied", 60), now));
    assert_eq!(noted.due_at(), Some(now + PACE));
    let later = now + 2 * PACE;
    there = write(&mut noted, &there, later).unwrap();
    assert_eq!(there.outcomes.failures().count(), 1);
    for second in 61..120 {
        let again = failure("AccessDenied", second);
        assert!(!noted.note_failure(&one, again, later));
    }
    assert_eq!(noted.due_at(), None);
    let later = later + 2 * PACE;
    assert!(noted.note_served(Some(&one), at(120), later));
    assert_eq!(noted.due_at(), Some(later + ALERT));
    there = write(&mut noted, &there, later).unwrap();
    assert_eq!(there.outcomes.failures().count(), 0);
    assert_eq!(noted.due_at(), None);
    // It fails and is given before anything is written.
    noted.note_failure(&one, failure("Timeout", 121), later);
    noted.note_served(Some(&one), at(122), later);
    assert_eq!(write(&mut noted, &there, later), None);
    assert_eq!(noted.due_at(), None);
}

#[tokio::test(start_paused = true)]
async fn takes_back_what_another_replica_saw_fail_once_it_gave_the_login_later() {
    let (one, now) = (source(1), Instant::now());
    let mut there = NodeReport::new("u-1");
    let (mut failing, mut serving) = (Noted::new("u-1"), Noted::new("u-1"));
    serving.note_served(Some(&one), at(0), now);
    there = write(&mut serving, &there, now).unwrap();
    failing.note_failure(&one, failure("Timeout", 10), now);
    there = write(&mut failing, &there, now).unwrap();
    assert_eq!(there.outcomes.failures().count(), 1);
    // What it gave was before that.
    serving.learn(&there.outcomes, now);
    assert_eq!(serving.due_at(), None);
    let later = now + 2 * PACE;
    assert!(serving.note_served(Some(&one), at(11), later));
    there = write(&mut serving, &there, later).unwrap();
    assert_eq!(there.outcomes.failures().count(), 0);
    // The other one does not bring it up again, whatever else it writes.
    failing.note_node(&node(1), FIRST, later);
    there = write(&mut failing, &there, later).unwrap();
    assert_eq!(there.outcomes.failures().count(), 0);
    // It gives it before it learns that it failed elsewhere.
    serving.note_served(Some(&one), at(100), later);
    failing.note_failure(&one, failure("Timeout", 90), later);
    there = write(&mut failing, &there, later + PACE).unwrap();
    serving.learn(&there.outcomes, later + 2 * PACE);
    assert!(serving.due_at().is_some());
    there = write(&mut serving, &there, later + 3 * PACE).unwrap();
    assert_eq!(there.outcomes.failures().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn notes_all_anew_once_what_was_written_is_gone() {
    let (one, now) = (source(1), Instant::now());
    let mut noted = Noted::new("u-1");
    noted.note_node(&node(1), FIRST, now);
    noted.note_served(Some(&one), at(0), now);
    write(&mut noted, &NodeReport::new("u-1"), now).unwrap();
    assert!(!noted.note_node(&node(1), FIRST, now));
    noted.forget_written();
    assert!(noted.note_node(&node(1), FIRST, now));
    assert!(noted.note_served(Some(&one), at(1), now));
    let again = write(&mut noted, &NodeReport::new("u-1"), now).unwrap();
    assert_eq!(again.nodes.len(), 1);
    assert!(again.outcomes.served().is_some());
}

#[tokio::test(start_paused = true)]
async fn keeps_quiet_of_failures_for_which_there_is_no_room() {
    let now = Instant::now();
    let (mut noted, there) = (Noted::new("u-1"), NodeReport::new("u-1"));
    for number in 0..2 * MAX_OUTCOMES {
        noted.note_failure(&source(number), failure("Timeout", 0), now);
    }
    let there = write(&mut noted, &there, now).unwrap();
    assert_eq!(there.outcomes.failures().count(), MAX_FAILURES);
    assert_eq!(noted.due_at(), None);
    assert_eq!(write(&mut noted, &there, now), None);
    // Nor is it looked again for each of them.
    let more = failure("Timeout", 1);
    assert!(!noted.note_failure(&source(2 * MAX_OUTCOMES), more, now));
}

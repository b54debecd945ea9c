use super::*;
use crate::controller::at;
use crate::provision::Pending;

fn listed() -> Listed {
    Listed {
        name: "payments".parse().unwrap(),
        uid: "u".to_owned(),
        generation: Some(4),
        identity: "ecr workload".to_owned(),
    }
}

fn tally(ready: usize, total: usize) -> Tally {
    Tally {
        total,
        ready,
        ..Tally::default()
    }
}

/// Status and reason of Ready and Degraded.
fn read(status: &RegistryStatus) -> String {
    let words: Vec<String> = status
        .conditions
        .iter()
        .map(|condition| {
            format!(
                "{}={} {}",
                condition.type_, condition.status, condition.reason
            )
        })
        .collect();
    words.join(", ")
}

fn of(facts: &Facts<'_>) -> RegistryStatus {
    report(&listed(), facts, None, at(0))
}

fn with(tally: &Tally) -> Facts<'_> {
    Facts {
        tally: Some(tally),
        ..Facts::default()
    }
}

fn foreign() -> Tally {
    Tally {
        foreign: 5,
        foreign_in: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
        ..tally(7, 12)
    }
}

fn lack() -> Tally {
    Tally {
        lack: Some(Pending {
            registry: None,
            reason: "MissingSource",
            message: "secret keys is not there".to_owned(),
        }),
        ..tally(0, 2)
    }
}

#[test]
fn says_whether_pods_pull_and_whether_somebody_should_look() {
    let table = [
        (
            tally(12, 12),
            "Ready=True Provisioned, Degraded=False AsExpected",
        ),
        (
            tally(0, 2),
            "Ready=False Provisioning, Degraded=False AsExpected",
        ),
        (
            foreign(),
            "Ready=True Provisioned, Degraded=True ForeignSecret",
        ),
        (
            lack(),
            "Ready=False MissingSource, Degraded=True MissingSource",
        ),
    ];
    for (tally, wanted) in table {
        assert_eq!(read(&of(&with(&tally))), wanted, "{tally:?}");
    }
    let message = &of(&with(&foreign())).conditions[1].message;
    assert!(message.contains("in a, b, c and 2 more"), "{message}");
}

#[test]
fn says_that_minting_fails_while_earlier_logins_are_good_and_after() {
    let failure = Some(Finding::new("AccessDenied", "AWS refuses -> allow it"));
    for (tally, wanted) in [
        (
            tally(0, 2),
            "Ready=False AccessDenied, Degraded=True AccessDenied",
        ),
        (
            tally(2, 2),
            "Ready=True Provisioned, Degraded=True AccessDenied",
        ),
    ] {
        let facts = Facts {
            failure: failure.clone(),
            until: Some(at(60)),
            ..with(&tally)
        };
        assert_eq!(read(&of(&facts)), wanted);
    }
}

#[test]
fn says_why_a_registry_serves_nothing() {
    let all = tally(1, 1);
    let problem = Some("spec.images is empty".to_owned());
    let table = [
        (
            Facts::default(),
            "Ready=True NoNamespaces, Degraded=False AsExpected",
        ),
        (
            Facts {
                problem,
                ..Facts::default()
            },
            "Ready=False Invalid, Degraded=False AsExpected",
        ),
        (
            Facts {
                suspended: true,
                ..with(&all)
            },
            "Ready=False Suspended, Degraded=False AsExpected",
        ),
    ];
    for (facts, wanted) in table {
        assert_eq!(read(&of(&facts)), wanted, "{facts:?}");
    }
}

#[test]
fn keeps_the_time_of_the_last_change() {
    let all = tally(1, 1);
    let facts = Facts {
        tally: Some(&all),
        ..Facts::default()
    };
    let first = report(&listed(), &facts, None, at(0));
    let second = report(&listed(), &facts, Some(&first), at(100));
    assert_eq!(first, second);
    let none = tally(0, 1);
    let facts = Facts {
        tally: Some(&none),
        ..Facts::default()
    };
    let third = report(&listed(), &facts, Some(&second), at(200));
    assert_eq!(third.conditions[0].last_transition_time.0, at(200));
    assert_eq!(third.conditions[1].last_transition_time.0, at(0));
}

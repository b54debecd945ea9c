use super::*;
use crate::controller::at;
use crate::provision::Pending;

fn listed() -> RegistryInfo {
    RegistryInfo {
        name: "payments".parse().unwrap(),
        uid: "u".to_owned(),
        generation: Some(4),
        images: "a.example.com".to_owned(),
        identity: "ecr workload".to_owned(),
    }
}

fn summary(ready: usize, total: usize) -> RegistrySummary {
    RegistrySummary {
        total,
        ready,
        ..RegistrySummary::default()
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

fn of(facts: &RegistryFacts<'_>) -> RegistryStatus {
    build_status(&listed(), facts, None, at(0))
}

fn with(summary: &RegistrySummary) -> RegistryFacts<'_> {
    RegistryFacts {
        summary: Some(summary),
        ..RegistryFacts::default()
    }
}

fn foreign() -> RegistrySummary {
    RegistrySummary {
        foreign: 5,
        foreign_in: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
        ..summary(7, 12)
    }
}

fn lack() -> RegistrySummary {
    RegistrySummary {
        lack: Some(Pending {
            registry: None,
            reason: "MissingSource",
            message: "secret keys is not there".to_owned(),
        }),
        ..summary(0, 2)
    }
}

#[test]
fn says_whether_pods_pull_and_whether_somebody_should_look() {
    let table = [
        (
            summary(12, 12),
            "Ready=True Provisioned, Degraded=False AsExpected",
        ),
        (
            summary(0, 2),
            "Ready=False Provisioning, Degraded=False AsExpected",
        ),
        (
            foreign(),
            "Ready=True Provisioned, Degraded=True SecretNotManaged",
        ),
        (
            lack(),
            "Ready=False MissingSource, Degraded=True MissingSource",
        ),
    ];
    for (summary, wanted) in table {
        assert_eq!(read(&of(&with(&summary))), wanted, "{summary:?}");
    }
    let message = &of(&with(&foreign())).conditions[1].message;
    assert!(message.contains("in a, b, c and 2 more"), "{message}");
}

#[test]
fn says_that_minting_fails_while_earlier_logins_are_good_and_after() {
    let failure = Some(Reason::new("AccessDenied", "AWS refuses -> allow it"));
    for (summary, wanted) in [
        (
            summary(0, 2),
            "Ready=False AccessDenied, Degraded=True AccessDenied",
        ),
        (
            summary(2, 2),
            "Ready=True Provisioned, Degraded=True AccessDenied",
        ),
    ] {
        let facts = RegistryFacts {
            failure: failure.clone(),
            expiration_time: Some(at(60)),
            ..with(&summary)
        };
        assert_eq!(read(&of(&facts)), wanted);
    }
}

#[test]
fn says_why_a_registry_serves_nothing() {
    let all = summary(1, 1);
    let problem = Some("spec.images is empty".to_owned());
    let table = [
        (
            RegistryFacts::default(),
            "Ready=True NoNamespaces, Degraded=False AsExpected",
        ),
        (
            RegistryFacts {
                problem,
                ..RegistryFacts::default()
            },
            "Ready=False Invalid, Degraded=False AsExpected",
        ),
        (
            RegistryFacts {
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
    let all = summary(1, 1);
    let facts = RegistryFacts {
        summary: Some(&all),
        ..RegistryFacts::default()
    };
    let first = build_status(&listed(), &facts, None, at(0));
    let second = build_status(&listed(), &facts, Some(&first), at(100));
    assert_eq!(first, second);
    let none = summary(0, 1);
    let facts = RegistryFacts {
        summary: Some(&none),
        ..RegistryFacts::default()
    };
    let third = build_status(&listed(), &facts, Some(&second), at(200));
    assert_eq!(third.conditions[0].last_transition_time.0, at(200));
    assert_eq!(third.conditions[1].last_transition_time.0, at(0));
}

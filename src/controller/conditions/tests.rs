mod kstatus;

use super::*;
use crate::controller::at;
use crate::controller::login_checks::{CheckedLogin, LoginVersion};
use crate::credential::Refusal;
use crate::credential::answers::{CloudAnswer, Service, Signer};
use crate::provision::Pending;
use crate::provision::ports::LoginOutcome;
use kstatus::{EnsureOutcome, compute};

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

/// Status and reason of each condition.
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

fn of(facts: &RegistryFacts) -> RegistryStatus {
    build_status(&listed(), facts, None, at(0))
}

fn with(summary: &RegistrySummary) -> RegistryFacts {
    RegistryFacts {
        summary: Some(summary.clone()),
        ..RegistryFacts::default()
    }
}

fn foreign() -> RegistrySummary {
    RegistrySummary {
        foreign: 5,
        foreign_in: ["a", "b", "c", "d", "e"]
            .map(|namespace| format!("{namespace}/pullpass"))
            .to_vec(),
        ..summary(7, 12)
    }
}

fn lack() -> RegistrySummary {
    RegistrySummary {
        lack: Some(Pending {
            is_for_admins: false,
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
            "Ready=False Provisioning, Degraded=False AsExpected, Reconciling=True Provisioning",
        ),
        (
            foreign(),
            "Ready=True Provisioned, Degraded=True SecretNotManaged",
        ),
        (
            lack(),
            "Ready=False MissingSource, Degraded=True MissingSource, Stalled=True MissingSource",
        ),
    ];
    for (summary, wanted) in table {
        assert_eq!(read(&of(&with(&summary))), wanted, "{summary:?}");
    }
    let kept = |kept| RegistrySummary { kept, ..lack() };
    for (kept, wanted) in [
        (
            kept(2),
            "2 of 2 namespaces keep the last login: secret keys is not there",
        ),
        (
            kept(1),
            "1 of 2 namespaces lacks a login, 1 keeps the last one: secret keys is not there",
        ),
    ] {
        let status = of(&with(&kept));
        assert_eq!(status.conditions[0].message, wanted);
        assert_eq!(status.conditions[0].reason, "MissingSource");
    }
    let message = &of(&with(&foreign())).conditions[1].message;
    assert!(
        message.contains("Secret a/pullpass, b/pullpass, c/pullpass and 2 more"),
        "{message}"
    );
}

#[test]
fn says_that_minting_fails_while_earlier_logins_are_good_and_after() {
    let failure = Some(Reason::new("AccessDenied", "AWS refuses -> allow it"));
    for (summary, wanted) in [
        (
            summary(0, 2),
            "Ready=False AccessDenied, Degraded=True AccessDenied, Stalled=True AccessDenied",
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
            "Ready=True NoNamespacesYet, Degraded=False AsExpected",
        ),
        (
            RegistryFacts {
                problem,
                ..RegistryFacts::default()
            },
            "Ready=False Invalid, Degraded=Unknown Invalid, Stalled=True Invalid",
        ),
        (
            RegistryFacts {
                reach: unmatched(),
                ..RegistryFacts::default()
            },
            "Ready=False NoMatchingNamespaces, Degraded=False AsExpected, Stalled=True NoMatchingNamespaces",
        ),
        (
            RegistryFacts {
                reach: Reach::Outranked,
                ..RegistryFacts::default()
            },
            "Ready=True Outranked, Degraded=False AsExpected",
        ),
        (
            RegistryFacts {
                suspended: true,
                ..with(&all)
            },
            "Ready=Unknown Suspended, Degraded=Unknown Suspended, Suspended=True Suspended, Stalled=True Suspended",
        ),
    ];
    for (facts, wanted) in table {
        assert_eq!(read(&of(&facts)), wanted, "{facts:?}");
    }
}

fn checked(outcome: LoginOutcome) -> RegistryFacts {
    let version = LoginVersion {
        uid: "u".to_owned(),
        generation: Some(3),
        resource_version: "7".to_owned(),
    };
    RegistryFacts {
        login: LoginState::Checked(CheckedLogin { version, outcome }),
        ..with(&summary(2, 2))
    }
}

fn of_refused() -> RegistryStatus {
    let message = "a.example.com says no".to_owned();
    of(&checked(LoginOutcome::Refused { message }))
}

/// A login that is still to be tried, of this state of its Secret.
fn untried(resource_version: &str) -> RegistryFacts {
    RegistryFacts {
        login: LoginState::Untried(LoginVersion {
            uid: "u".to_owned(),
            generation: Some(3),
            resource_version: resource_version.to_owned(),
        }),
        ..with(&summary(2, 2))
    }
}

#[test]
fn calls_no_fixed_login_good_that_was_not_taken() {
    let message = "a.example.com says no".to_owned();
    let unknown = LoginOutcome::Unknown {
        reason: "ForeignRealm",
        message: message.clone(),
        is_passing: false,
        retry_after: None,
    };
    let was_ready = of(&with(&summary(2, 2)));
    let rows = [
        (
            checked(LoginOutcome::Taken),
            None,
            "Ready=True Provisioned, Degraded=False AsExpected, Verified=True LoginTaken",
        ),
        (
            checked(LoginOutcome::Refused { message }),
            None,
            "Ready=False LoginRefused, Degraded=True LoginRefused, Verified=False LoginRefused, Stalled=True LoginRefused",
        ),
        (
            checked(unknown),
            None,
            "Ready=True Provisioned, Degraded=False AsExpected, Verified=Unknown ForeignRealm",
        ),
        (
            untried("7"),
            None,
            "Ready=False Provisioning, Degraded=False AsExpected, Verified=Unknown NotTried, Reconciling=True Provisioning",
        ),
        // What was ready before logins were tried stays so until this one is.
        (
            untried("7"),
            Some(&was_ready),
            "Ready=True Provisioned, Degraded=False AsExpected, Verified=Unknown NotTried",
        ),
    ];
    for (facts, before, wanted) in rows {
        let status = build_status(&listed(), &facts, before, at(10));
        assert_eq!(read(&status), wanted);
        judge(&facts, before);
    }
}

#[test]
fn keeps_what_an_earlier_leader_found_of_the_same_login_alone() {
    let refused = of_refused();
    let taken = of(&checked(LoginOutcome::Taken));
    let rows = [
        (
            untried("7"),
            Some(&refused),
            "Ready=False LoginRefused, Degraded=True LoginRefused, Verified=False LoginRefused, Stalled=True LoginRefused",
        ),
        (
            untried("7"),
            Some(&taken),
            "Ready=True Provisioned, Degraded=False AsExpected, Verified=True LoginTaken",
        ),
        // Of another login it says nothing.
        (
            untried("8"),
            Some(&taken),
            "Ready=True Provisioned, Degraded=False AsExpected, Verified=Unknown NotTried",
        ),
        (
            untried("8"),
            Some(&refused),
            "Ready=False Provisioning, Degraded=False AsExpected, Verified=Unknown NotTried, Reconciling=True Provisioning",
        ),
    ];
    for (facts, before, wanted) in rows {
        let status = build_status(&listed(), &facts, before, at(10));
        assert_eq!(read(&status), wanted);
        judge(&facts, before);
    }
}

#[test]
fn remembers_which_state_of_a_login_was_tried() {
    let refused = of_refused();
    let verified = &refused.conditions[2];
    assert_eq!(verified.observed_generation, Some(3), "of what was tried");
    assert_eq!(refused.source_resource_version.as_deref(), Some("7"));
}

fn unmatched() -> Reach {
    let message = "namespaceSelector \"team=payment\" selects none".to_owned();
    Reach::NoneMatches { message }
}

#[test]
fn keeps_what_was_seen_last_of_one_that_rests() {
    let all = summary(1, 1);
    let none = summary(0, 1);
    let resting = RegistryFacts {
        suspended: true,
        ..RegistryFacts::default()
    };
    let rows = [
        (
            with(&all),
            "Ready=True Provisioned, Degraded=Unknown Suspended, Suspended=True Suspended",
        ),
        (
            with(&none),
            "Ready=False Provisioning, Degraded=Unknown Suspended, Suspended=True Suspended, Stalled=True Suspended",
        ),
    ];
    for (facts, wanted) in rows {
        let before = of(&facts);
        let mut changed = listed();
        changed.generation = Some(5);
        let status = build_status(&changed, &resting, Some(&before), at(100));
        assert_eq!(read(&status), wanted);
        // Of the spec that it was seen of, not of the one that rests.
        assert_eq!(status.conditions[0], before.conditions[0]);
        assert_eq!(status.observed_generation, Some(5));
        let later = build_status(&changed, &resting, Some(&status), at(200));
        assert_eq!(later, status, "it is reported once");
    }
}

fn asked(nodes: Option<usize>, has_secret: bool) -> RegistryFacts {
    let asked = AskedFacts {
        nodes,
        is_served: nodes > Some(0),
        has_secret,
        ..AskedFacts::default()
    };
    RegistryFacts {
        asked: Some(asked),
        summary: has_secret.then(|| summary(2, 2)),
        reach: Reach::ByNode,
        ..RegistryFacts::default()
    }
}

#[test]
fn says_whether_kubelets_ask() {
    let none = of(&asked(Some(0), false));
    assert_eq!(
        read(&none),
        "Ready=Unknown NotObserved, Degraded=False AsExpected, Reconciling=True NotObserved"
    );
    assert_eq!((none.nodes, none.namespaces), (Some(0), None));
    assert!(none.conditions[0].message.contains("docs/DELIVERY.md"));
    let some = of(&asked(Some(12), false));
    assert_eq!(
        read(&some),
        "Ready=True ServedByNode, Degraded=False AsExpected"
    );
    assert_eq!(some.nodes, Some(12));
    // A new leader has not read it yet.
    let kept = build_status(&listed(), &asked(None, false), Some(&some), at(1));
    assert_eq!((read(&kept), kept.nodes), (read(&some), Some(12)));

    let mut lacks = asked(Some(12), false);
    let problem = "secret login is not there".to_owned();
    lacks.asked.as_mut().unwrap().source_problem = Some(problem.clone());
    let lacks = of(&lacks);
    assert!(read(&lacks).starts_with("Ready=False MissingSource"));
    assert_eq!(lacks.conditions[0].message, problem);
}

fn failing_mint(reason: &'static str) -> Reason {
    Reason::new(reason, "role r lacks ecr:GetAuthorizationToken")
}

/// Kubelets of three nodes asked; in so many namespaces their own identity fails.
fn asked_in_vain(is_served: bool, failure: Option<&'static str>, count: usize) -> RegistryFacts {
    let mut facts = asked(Some(3), false);
    let asked = facts.asked.as_mut().unwrap();
    asked.is_served = is_served;
    asked.failing = (count > 0).then(|| FailingNamespaces {
        count,
        named: "team-a".to_owned(),
        why: failing_mint("TrustRefused"),
    });
    RegistryFacts {
        failure: failure.map(failing_mint),
        ..facts
    }
}

/// As with Secrets: the same reason and the same words of it.
#[test]
fn says_why_the_kubelet_that_asked_last_got_no_login() {
    for (facts, wanted, words) in [
        (
            asked_in_vain(true, Some("AccessDenied"), 0),
            "Ready=False AccessDenied, Degraded=True AccessDenied, Stalled=True AccessDenied",
            "the kubelet that asked last got no login: role r lacks",
        ),
        (
            asked_in_vain(false, Some("Timeout"), 0),
            "Ready=False Timeout, Degraded=True Timeout, Reconciling=True Timeout",
            "the kubelet that asked last got no login: role r lacks",
        ),
        // To ask is not to be served.
        (
            asked_in_vain(false, None, 0),
            "Ready=Unknown NotObserved, Degraded=False AsExpected, Reconciling=True NotObserved",
            "no node's kubelet got its login yet",
        ),
        // One namespace's own identity is not the others'.
        (
            asked_in_vain(true, None, 1),
            "Ready=True ServedByNode, Degraded=True TrustRefused",
            "the kubelets of 3 nodes asked",
        ),
        (
            asked_in_vain(false, None, 2),
            "Ready=False TrustRefused, Degraded=True TrustRefused, Stalled=True TrustRefused",
            "kubelets get no login for Pods of 2 namespaces, for one team-a: role r lacks",
        ),
    ] {
        let status = of(&facts);
        assert_eq!(read(&status), wanted);
        let ready = &status.conditions[0];
        assert!(ready.message.contains(words), "{ready:?}");
        assert_eq!(status.nodes, Some(3));
        // A new leader says the same until it has read what they asked.
        let kept = build_status(&listed(), &asked(None, false), Some(&status), at(1));
        assert_eq!(kept.conditions[0], *ready);
    }
}

#[test]
fn is_ready_again_once_a_kubelet_is_served_and_not_for_what_secrets_held() {
    let failed = of(&asked_in_vain(true, Some("AccessDenied"), 0));
    let again = build_status(&listed(), &asked(Some(3), false), Some(&failed), at(2));
    assert_eq!(
        read(&again),
        "Ready=True ServedByNode, Degraded=False AsExpected"
    );
    // What was said of Secrets, of the spec, or of the source is no answer to a kubelet.
    let mut invalid = asked(Some(3), false);
    invalid.problem = Some("spec.images is empty".to_owned());
    let mut lacks = asked(Some(3), false);
    lacks.asked.as_mut().unwrap().source_problem = Some("it is not there".to_owned());
    for other in [with(&summary(2, 2)), with(&summary(0, 2)), invalid, lacks] {
        let before = RegistryStatus {
            nodes: Some(3),
            ..of(&other)
        };
        let moved = build_status(&listed(), &asked(None, false), Some(&before), at(1));
        assert!(
            read(&moved).starts_with("Ready=Unknown NotObserved"),
            "{}",
            read(&moved)
        );
    }
}

#[test]
fn says_besides_whether_kubelets_ask_where_secrets_hold_the_login() {
    for (nodes, words) in [
        (0, "no node's kubelet asked"),
        (1, "the kubelet of 1 node asked"),
        (3, "the kubelets of 3 nodes asked"),
    ] {
        let facts = RegistryFacts {
            reach: Reach::default(),
            ..asked(Some(nodes), true)
        };
        let status = of(&facts);
        assert_eq!(
            read(&status),
            "Ready=True Provisioned, Degraded=False AsExpected"
        );
        let ready = &status.conditions[0].message;
        assert!(
            ready.starts_with("2 namespaces hold") && ready.contains(words),
            "{ready}"
        );
        assert!(status.namespaces.is_some());
    }
}

#[test]
fn gives_up_waiting_for_what_takes_too_long() {
    let none = summary(0, 1);
    let facts = with(&none);
    let mut status = of(&facts);
    assert_eq!(find_deadline(&status), Some(at(600)));
    for (seconds, wanted) in [
        (2, "Reconciling"),
        (599, "Reconciling"),
        (600, "Stalled"),
        (3000, "Stalled"),
    ] {
        status = build_status(&listed(), &facts, Some(&status), at(seconds));
        assert_eq!(status.conditions[2].type_, wanted, "{seconds}");
    }
    assert_eq!(status.conditions[2].last_transition_time.0, at(600));
    assert_eq!(find_deadline(&status), None);
    // A new generation, or other work, starts the time over.
    let mut changed = listed();
    changed.generation = Some(5);
    let anew = build_status(&changed, &facts, Some(&status), at(3001));
    assert_eq!(anew.conditions[2].type_, "Reconciling");
    assert_eq!(find_deadline(&anew), Some(at(3601)));
}

/// Everything that can be known of a Registry, as far as its conditions depend on it.
fn all_facts(summaries: &[RegistrySummary]) -> Vec<RegistryFacts> {
    let reasons = [
        "Throttled",
        "Timeout",
        "Network",
        "InvalidResponse",
        "InternalError",
        "StoreConflict",
        "StoreUnreachable",
        "StoreForbidden",
        "Conflict",
        "NamespaceTerminating",
        "Unreachable",
        "AccessDenied",
        "MissingSource",
        "SessionNotRenewed",
        "Unavailable",
        "Rejected",
        "SomethingNew",
    ];
    let finding = |reason: &&'static str| Some(Reason::new(*reason, "a cloud says so"));
    let failures: Vec<_> = reasons.iter().map(finding).chain([None]).collect();
    let mut all = Vec::new();
    for problem in [None, Some("spec.images is empty".to_owned())] {
        for suspended in [false, true] {
            for reach in [Reach::NoneOptedIn, unmatched(), Reach::Outranked] {
                for summary in summaries.iter().map(Some).chain([None]) {
                    for failure in &failures {
                        for is_unwritten in [false, true] {
                            let (failure, unwritten) = if is_unwritten {
                                (None, failure)
                            } else {
                                (failure.clone(), &None)
                            };
                            all.push(RegistryFacts {
                                problem: problem.clone(),
                                suspended,
                                reach: reach.clone(),
                                summary: summary.cloned(),
                                failure,
                                unwritten: unwritten.clone(),
                                ..RegistryFacts::default()
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

/// The same of one that kubelets ask for.
fn all_asked() -> Vec<RegistryFacts> {
    let mut all = Vec::new();
    for nodes in [None, Some(0), Some(3)] {
        all.extend([false, true].map(|has_secret| asked(nodes, has_secret)));
    }
    for is_served in [false, true] {
        for failure in [None, Some("AccessDenied"), Some("Timeout")] {
            all.extend([0, 2].map(|count| asked_in_vain(is_served, failure, count)));
        }
    }
    all
}

/// The different sets of conditions of these statuses.
fn distinct(all: impl Iterator<Item = RegistryStatus>) -> Vec<RegistryStatus> {
    let mut found: Vec<RegistryStatus> = Vec::new();
    for status in all {
        if !found.iter().any(|known| read(known) == read(&status)) {
            found.push(status);
        }
    }
    found
}

/// Evaluates the status of the same facts now, soon, after ten minutes and long after; answers how kstatus sees it now.
fn judge(facts: &RegistryFacts, before: Option<&RegistryStatus>) -> EnsureOutcome {
    let start = build_status(&listed(), facts, before, at(10));
    let outcome = compute(4, &start);
    let mut conditions = start.conditions.iter();
    let is_worked_on = conditions.any(|one| one.type_ == "Reconciling");
    let is_in_progress = outcome == EnsureOutcome::InProgress;
    assert_eq!(is_in_progress, is_worked_on, "{}", read(&start));

    let soon = build_status(&listed(), facts, Some(&start), at(12));
    let late = build_status(&listed(), facts, Some(&soon), at(611));
    let end = compute(4, &late);
    assert_ne!(end, EnsureOutcome::InProgress, "{}", read(&late));
    let later = build_status(&listed(), facts, Some(&late), at(100_000));
    assert_eq!(later, late, "nothing changed");
    if !is_in_progress {
        assert_eq!(end, outcome, "{} became {}", read(&start), read(&late));
    }
    // Pods pull as far as is known, or the status says that they do not.
    let is_ready = late.conditions[0].status == "True";
    assert_eq!(end == EnsureOutcome::Current, is_ready, "{}", read(&late));
    let other = compute(5, &late);
    assert_eq!(
        other,
        EnsureOutcome::InProgress,
        "another spec is not seen yet"
    );
    outcome
}

#[test]
fn lets_nobody_wait_for_ever() {
    let in_no_place = RegistrySummary {
        foreign: 2,
        ..summary(0, 2)
    };
    let summaries = [summary(0, 2), summary(2, 2), foreign(), lack(), in_no_place];
    let mut all = all_facts(&summaries);
    all.extend(all_asked());
    // What was said before: nothing, or each set of conditions that there can be.
    let befores = distinct(all.iter().map(of));
    assert!(befores.len() > 20, "{}", befores.len());
    let mut outcomes = std::collections::BTreeSet::new();
    for facts in &all {
        for before in befores.iter().map(Some).chain([None]) {
            outcomes.insert(judge(facts, before));
        }
    }
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
}

/// What passes is worked on; what its word alone does not say, the error does.
#[test]
fn works_on_what_passes_whatever_its_word() {
    let session = |signer| {
        let answer = CloudAnswer {
            from: Service::Ecr,
            status: 400,
            code: "ExpiredTokenException",
            action: "ecr:GetAuthorizationToken",
            signer: Some(signer),
            text: "The security token included in the request is expired",
        };
        let refusal = Refusal::of(&answer, "h".to_owned(), "p".to_owned(), String::new());
        Reason::of_mint(&MintError::Refused(Box::new(refusal)))
    };
    let word = |reason| Reason::new(reason, "it says so");
    for (why, kind) in [
        (session(Signer::Role), "Reconciling"),
        (session(Signer::Keys), "Stalled"),
        (word("Unavailable"), "Reconciling"),
        (word("SessionNotRenewed"), "Reconciling"),
        (word("TokenUnreachable"), "Reconciling"),
        (word("ServiceAccountReplaced"), "Reconciling"),
        (word("TokenForbidden"), "Stalled"),
    ] {
        let facts = RegistryFacts {
            failure: Some(why.clone()),
            ..with(&summary(0, 2))
        };
        let status = of(&facts);
        let last = status.conditions.last().map(|one| one.type_.as_str());
        assert_eq!(last, Some(kind), "{why:?}");
    }
}

#[test]
fn keeps_the_time_of_the_last_change() {
    let all = summary(1, 1);
    let facts = RegistryFacts {
        summary: Some(all.clone()),
        ..RegistryFacts::default()
    };
    let first = build_status(&listed(), &facts, None, at(0));
    let second = build_status(&listed(), &facts, Some(&first), at(100));
    assert_eq!(first, second);
    let none = summary(0, 1);
    let facts = RegistryFacts {
        summary: Some(none.clone()),
        ..RegistryFacts::default()
    };
    let third = build_status(&listed(), &facts, Some(&second), at(200));
    assert_eq!(third.conditions[0].last_transition_time.0, at(200));
    assert_eq!(third.conditions[1].last_transition_time.0, at(0));
}

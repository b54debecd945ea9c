//! Both views, as tables and as text.

mod early;
mod look;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::fetch::{ClusterFacts, NamespaceFacts, Unread};
use super::findings::Commands;
use super::render::{Look, render};
use super::view::{Level, StatusView};
use super::{of_cluster, of_namespace};
use crate::cluster::{EventGlance, LeaderGlance, OwnedSecret, Replicas, WebhookTarget};
use crate::command::Output;
use crate::command::installed::Parts;
use crate::command::missed::MissedPod;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::{ExcludedNamespaces, Namespace};
use crate::registry::Registry;

fn now() -> Timestamp {
    "2026-11-30T04:00:00Z".parse().unwrap()
}

fn after(minutes: i64) -> Timestamp {
    now() + SignedDuration::from_mins(minutes)
}

fn commands() -> Commands {
    Commands {
        program: "pullpass",
        same_cluster: " --context production".to_owned(),
        own_namespace: NamespaceName::constant("pullpass"),
    }
}

/// A Registry for the namespaces with a label `team`, of this name's value.
fn registry(name: &str, conditions: &str, rest: &str) -> Registry {
    let text = format!(
        r"
apiVersion: pullpass.dev/v1alpha1
kind: Registry
metadata: {{name: {name}, generation: 2}}
spec:
  images: [{name}.example.com]
  namespaceSelector: {{matchLabels: {{team: {name}}}}}
  static: {{secretRef: {{name: {name}-login}}}}
{rest}
status:
  namespaces: {{ready: 1, total: 2}}
  conditions: [{conditions}]
"
    );
    serde_saphyr::from_str(&text).unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> String {
    let rest = r#"observedGeneration: 2, lastTransitionTime: "2026-11-30T03:00:00Z""#;
    format!(
        "{{type: {kind}, status: \"{status}\", reason: {reason}, message: {message:?}, {rest}}},"
    )
}

fn namespace(name: &str, inject: &str, team: &str) -> Namespace {
    let labels = [("pullpass.dev/inject", inject), ("team", team)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let excluded = ExcludedNamespaces::new("pullpass".parse().unwrap(), []);
    Namespace::new(name.parse().unwrap(), labels.into(), false).unless_excluded(&excluded)
}

fn secret(namespace: &str, name: &str, expires: Option<i64>) -> OwnedSecret {
    OwnedSecret {
        namespace: namespace.parse().unwrap(),
        name: name.parse().unwrap(),
        holds: "pull secret",
        created: Some(after(-60 * 50)),
        expires: expires.map(after),
        registries: ["payments".to_owned()].into(),
        uid: "u".to_owned(),
    }
}

fn webhook() -> WebhookTarget {
    WebhookTarget {
        configuration: "00-pullpass".to_owned(),
        target: "service pullpass/pullpass".to_owned(),
        has_ca: true,
        namespaces: None,
    }
}

/// All is well.
fn cluster() -> ClusterFacts {
    let ready = condition(
        "Ready",
        "True",
        "Provisioned",
        "2 namespaces hold its login",
    );
    ClusterFacts {
        registries: Ok((vec![registry("payments", &ready, "")], Vec::new())),
        parts: Parts {
            webhooks: Ok(vec![webhook()]),
            has_validating: Ok(true),
            replicas: Ok(Some(Replicas {
                ready: 2,
                wanted: 2,
                certificate: None,
            })),
            leader: Ok(Some(LeaderGlance {
                holder: "pullpass-6d5f4c9b7d-x2k4z_1_1764470000000000".to_owned(),
                renewed: Some(after(0)),
                duration: Duration::from_secs(15),
            })),
        },
        certificate: Ok(Some(after(60 * 24 * 63))),
        namespaces: Ok(vec![namespace("shop", "enabled", "payments")]),
        secrets: Ok(vec![secret("shop", "pullpass", Some(11 * 60))]),
        missed: Ok(Vec::new()),
    }
}

fn missed(namespace: &str, name: &str, is_image_pull_failing: bool) -> MissedPod {
    MissedPod {
        namespace: namespace.parse().unwrap(),
        name: name.parse().unwrap(),
        is_image_pull_failing,
        lacks: vec!["pullpass".to_owned()],
        restart: None,
    }
}

/// One of each trouble.
#[allow(clippy::too_many_lines, reason = "one table")]
fn troubled() -> ClusterFacts {
    let mut facts = cluster();
    let refused = "the registry says 401 to the login of Secret orders-login: put one there that it takes, and see that its robot has not ended";
    let ready = condition("Ready", "True", "Provisioned", "well");
    let degraded = condition(
        "Degraded",
        "True",
        "RenewalRateExceeded",
        "renewals need 900 writes",
    );
    let not_called = condition(
        "Degraded",
        "True",
        "WebhookNotCalled",
        "5 minutes without a review: the API server cannot reach the webhook; usual causes: a firewall",
    );
    let both = format!("{ready}{degraded}");
    let uncalled = format!("{ready}{not_called}");
    let mut suspended = registry("resting", &ready, "  suspend: true");
    suspended.metadata.generation = Some(3);
    let mut changed = registry("changed", &ready, "  access: Push");
    changed.metadata.generation = Some(3);
    facts.registries = Ok((
        vec![
            registry(
                "orders",
                &condition("Ready", "False", "LoginRefused", refused),
                "",
            ),
            registry(
                "a-registry-with-a-name-that-is-too-long-for-one-screen",
                &both,
                "",
            ),
            registry("uncalled", &uncalled, ""),
            registry("new", "", ""),
            suspended,
            changed,
        ],
        vec![("odd".to_owned(), "spec.images: no list".to_owned())],
    ));
    facts.parts.replicas = Ok(Some(Replicas {
        ready: 1,
        wanted: 2,
        certificate: Some(ObjectName::constant("pullpass-tls")),
    }));
    facts.parts.leader = Ok(Some(LeaderGlance {
        holder: "pullpass-6d5f4c9b7d-x2k4z_1_1764470000000000".to_owned(),
        renewed: Some(after(-2)),
        duration: Duration::from_secs(15),
    }));
    facts.certificate = Ok(Some(after(-90)));
    facts.namespaces = Ok(vec![
        namespace("kube-system", "enabled", "orders"),
        namespace("lonely", "enabled", "nobody"),
        namespace("shop", "enabled", "orders"),
        namespace("stale", "all", "orders"),
        namespace("typo", "true", "orders"),
        namespace("leaving", "disabled", "orders"),
    ]);
    facts.secrets = Ok(vec![secret("stale", "pullpass", Some(-5))]);
    facts.missed = Ok(vec![
        missed("stale", "web-2", true),
        missed("shop", "without-a-secret", true),
        missed("stale", "web-1", false),
    ]);
    facts
}

fn build(facts: &ClusterFacts) -> StatusView {
    of_cluster::build(facts, &commands(), now())
}

fn text(view: &StatusView, output: Output) -> String {
    render(view, &Look::find(output, false, |_| None), now())
}

#[test]
fn shows_a_cluster_in_which_all_is_well() {
    let view = build(&cluster());
    assert!(view.ok);
    insta::assert_snapshot!(text(&view, Output::Text));
}

#[test]
fn shows_what_fails_first_and_the_next_command() {
    let view = build(&troubled());
    assert!(!view.ok);
    insta::assert_snapshot!("troubled", text(&view, Output::Text));
    insta::assert_snapshot!("troubled_wide", text(&view, Output::Wide));
    insta::assert_json_snapshot!("troubled_json", view);
    // A line that does not fit goes on in the next one, and is not cut.
    let shown = text(&view, Output::Text);
    let joined = shown.replace("\n  ", " ");
    for finding in view.findings.iter().take(10) {
        let point = finding.message.split(' ').next_back().unwrap();
        assert!(joined.contains(point), "{point} in {shown}");
    }
    let failed = view.findings.iter();
    let failed = failed.take_while(|finding| finding.level == Level::Failed);
    let rest = view.findings.iter().skip(failed.count());
    assert!(rest.clone().count() > 0);
    assert!(rest.clone().all(|one| one.level == Level::Warning));
}

#[test]
fn keeps_lines_of_a_screen_within_its_width_but_for_commands() {
    for view in [build(&troubled()), build(&cluster()), tenant(&shop())] {
        for line in text(&view, Output::Text).lines() {
            let is_command = line.starts_with("    next: ");
            assert!(is_command || line.chars().count() <= 100, "{line}");
        }
    }
    assert!(text(&build(&troubled()), Output::Text).contains('…'));
    assert!(!text(&build(&troubled()), Output::Wide).contains('…'));
}

#[test]
fn says_what_may_not_be_read_and_shows_the_rest() {
    let facts = ClusterFacts {
        parts: Parts {
            webhooks: Err(Unread::Forbidden),
            has_validating: Err(Unread::Forbidden),
            replicas: Ok(None),
            leader: Err(Unread::Forbidden),
        },
        certificate: Err(Unread::Forbidden),
        namespaces: Err(Unread::Forbidden),
        secrets: Err(Unread::Failed("the answer cannot be read".to_owned())),
        ..cluster()
    };
    let view = build(&facts);
    assert!(view.ok, "nothing of what was read fails");
    insta::assert_snapshot!(text(&view, Output::Text));
    let missing = ClusterFacts {
        registries: Err(Unread::KindMissing),
        ..cluster()
    };
    let view = build(&missing);
    assert!(!view.ok && view.unread.is_empty());
    let next = view.findings[0].next.as_deref();
    let expected = "pullpass crd | kubectl apply --server-side -f - --context production";
    assert_eq!(next, Some(expected));
}

#[test]
fn takes_a_cluster_for_failing_by_each_trouble_alone() {
    type Row = (&'static str, fn(&mut ClusterFacts));
    let rows: [Row; 8] = [
        ("PullSecretNotReferenced", |facts| {
            facts.missed = Ok(vec![missed("shop", "web-1", true)]);
        }),
        ("WebhookMissing", |facts| {
            facts.parts.webhooks = Ok(Vec::new());
        }),
        ("ValidatingWebhookMissing", |facts| {
            facts.parts.has_validating = Ok(false);
        }),
        ("CaBundleMissing", |facts| {
            facts.parts.webhooks.as_mut().unwrap()[0].has_ca = false;
        }),
        ("NotReady", |facts| {
            facts.parts.replicas = Ok(Some(Replicas::default()));
        }),
        ("NoLeader", |facts| facts.parts.leader = Ok(None)),
        ("CertificateEnded", |facts| {
            facts.certificate = Ok(Some(after(-1)));
        }),
        ("SecretNotWritten", |facts| facts.secrets = Ok(Vec::new())),
    ];
    for (reason, spoil) in rows {
        let mut facts = cluster();
        spoil(&mut facts);
        let view = build(&facts);
        let reasons: Vec<&str> = view.findings.iter().map(|one| &*one.reason).collect();
        assert_eq!(reasons, [reason]);
        assert!(!view.ok, "{reason}");
    }
    let mut facts = cluster();
    facts.missed = Ok(vec![missed("shop", "web-1", false)]);
    assert!(build(&facts).ok, "it may be scheduled and pull yet");
    let mut facts = cluster();
    facts.certificate = Ok(Some(after(60 * 24 * 13)));
    let view = build(&facts);
    assert!(view.ok && view.findings[0].reason == "CertificateExpiring");
}

/// What somebody with `edit` there sees, who may not list Registries.
fn shop() -> NamespaceFacts {
    let event = |minutes, reason: &str, object: &str| {
        EventGlance {
        at: after(minutes),
        is_warning: reason != "LoginAvailable",
        object: object.to_owned(),
        reason: reason.to_owned(),
        note: "It was created without a reference to a pull secret that its images need: pullpass was not asked".to_owned(),
    }
    };
    let missed = crate::controller::missed_pods::waiting_pod("shop", "web-1");
    assert!(missed.is_image_pull_failing());
    let mut other = crate::controller::missed_pods::waiting_pod("shop", "other-1");
    other.failing_images.clear();
    NamespaceFacts {
        name: NamespaceName::constant("shop"),
        namespace: Ok(Some(namespace("shop", "enabled", "payments"))),
        registries: Err(Unread::Forbidden),
        secrets: Ok(vec![
            secret("shop", "pullpass", Some(-5)),
            secret("shop", "pullpass-payments", None),
        ]),
        events: Ok(vec![
            event(-1, "PullSecretNotReferenced", "Pod web-1"),
            event(-30, "LoginAvailable", "Secret pullpass"),
            event(-90, "LoginRefused", "Secret pullpass"),
        ]),
        pods: Ok(vec![missed, other]),
    }
}

fn tenant(facts: &NamespaceFacts) -> StatusView {
    of_namespace::build(facts, &commands(), now())
}

#[test]
fn shows_a_tenant_what_is_in_its_namespace() {
    let view = tenant(&shop());
    assert!(!view.ok);
    insta::assert_snapshot!("tenant", text(&view, Output::Text));
    let mut facts = shop();
    facts.registries = cluster().registries;
    facts.secrets = Ok(vec![secret("shop", "pullpass", Some(600))]);
    facts.pods = Ok(Vec::new());
    facts.events = Ok(Vec::new());
    let view = tenant(&facts);
    assert!(view.ok, "{:?}", view.findings);
    insta::assert_snapshot!("tenant_well", text(&view, Output::Text));
}

#[test]
fn judges_a_namespace_by_what_is_known_of_it() {
    type Row = (Option<&'static str>, bool, fn(&mut NamespaceFacts));
    let rows: [Row; 6] = [
        (Some("NamespaceMissing"), false, |facts| {
            facts.namespace = Ok(None);
        }),
        (Some("NamespaceNotOptedIn"), false, |facts| {
            facts.namespace = Ok(Some(namespace("shop", "disabled", "payments")));
        }),
        (Some("UnknownInjectValue"), false, |facts| {
            facts.namespace = Ok(Some(namespace("shop", "true", "payments")));
        }),
        (None, true, |facts| facts.namespace = Err(Unread::Forbidden)),
        (Some("SecretNotWritten"), true, |facts| {
            facts.secrets = Ok(Vec::new());
        }),
        (Some("SecretNotWritten"), false, |facts| {
            facts.registries = cluster().registries;
            facts.secrets = Ok(Vec::new());
        }),
    ];
    for (reason, is_ok, spoil) in rows {
        let mut facts = shop();
        facts.secrets = Ok(vec![secret("shop", "pullpass", Some(600))]);
        facts.pods = Ok(Vec::new());
        spoil(&mut facts);
        let view = tenant(&facts);
        let first = view.findings.first().map(|one| &*one.reason);
        assert_eq!((first, view.ok), (reason, is_ok), "{:?}", view.findings);
    }
}

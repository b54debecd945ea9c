use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::names::{NamespaceName, ObjectName};

const IMAGE: &str = "harbor.example/team/app";

/// Registries of these names, each with what its `spec` has besides a fixed login for the image.
fn registries(specs: &[(&str, Value)]) -> Registries {
    let built = Registries::build(specs.iter().map(|(name, more)| {
        let mut spec = json!({
            "images": ["harbor.example/team"], "namespaceSelector": {}, "delivery": "Node",
            "static": {"secretRef": {"name": "login"}},
        });
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        serde_json::from_value(json!({
            "apiVersion": "pullpass.dev/v1alpha1", "kind": "Registry", "metadata": {"name": name}, "spec": spec,
        }))
        .unwrap()
    }));
    assert!(built.problems().is_empty(), "{:?}", built.problems());
    built
}

fn namespace(labels: &[(&str, &str)]) -> Namespace {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Namespace::new(NamespaceName::constant("team-a"), labels.collect(), false)
}

fn pod() -> PodIdentity {
    PodIdentity {
        namespace: NamespaceName::constant("team-a"),
        service_account: ObjectName::constant("builder"),
        service_account_uid: "s-1".to_owned(),
        name: ObjectName::constant("web"),
        uid: "p-1".to_owned(),
        node: ObjectName::constant("node-1"),
        node_uid: None,
    }
}

fn image() -> Reference<'static> {
    Reference::parse(IMAGE).unwrap()
}

/// The name of the Registry that serves the image, or `labels`, or the reason of the refusal with its message.
fn chosen(
    registries: &Registries,
    labels: Option<&[(&str, &str)]>,
) -> Result<String, (Reason, String)> {
    let labels = labels.map(|labels| namespace(labels).labels);
    let (namespace, pod) = (namespace(&[("team", "a")]), pod());
    let image = image();
    let question = Question {
        namespace: &namespace,
        pod: &pod,
        labels: labels.as_ref(),
        image: &image,
    };
    match choose(registries, &question) {
        Ok(Choice::Registry(resolved)) => Ok(resolved.registry.name.to_string()),
        Ok(Choice::ByLabels) => Ok("labels".to_owned()),
        Err(refusal) => Err((refusal.reason, refusal.message)),
    }
}

#[test]
fn serves_namespaces_that_opted_in_and_no_others() {
    let own = NamespaceName::constant("pullpass");
    let excluded =
        crate::provision::ExcludedNamespaces::new(own, [NamespaceName::constant("team-a")]);
    let opted_in = namespace(&[(INJECT_LABEL, "enabled")]);
    check_namespace(&opted_in).unwrap();
    check_namespace(&namespace(&[(INJECT_LABEL, "all")])).unwrap();
    for (namespace, words, is_silent) in [
        (namespace(&[]), "has not opted in", false),
        (
            namespace(&[(INJECT_LABEL, "disabled")]),
            "has not opted in",
            false,
        ),
        (namespace(&[(INJECT_LABEL, "true")]), "means nothing", false),
        (
            opted_in.clone().unless_excluded(&excluded),
            "is excluded",
            true,
        ),
        (
            Namespace {
                terminating: true,
                ..opted_in
            },
            "being deleted",
            false,
        ),
    ] {
        let refusal = check_namespace(&namespace).unwrap_err();
        assert_eq!(refusal.reason, Reason::NotOptedIn);
        assert!(refusal.message.contains(words), "{refusal:?}");
        assert_eq!(refusal.is_silent, is_silent, "{refusal:?}");
    }
}

/// Registries, each with its name and what its `spec` has besides; and who is chosen: one of them, what labels decide, or nobody and why.
const PRECEDENCE: &str = r"
- [{a: {}}, a]
- [{a: {delivery: Both}}, a]
# The one that comes first decides, whatever it does.
- [{a: {}, b: {images: [IMAGE], delivery: Secret}}, NotServed]
- [{a: {delivery: Secret}, b: {images: [IMAGE]}}, b]
- [{a: {}, b: {serviceAccountNames: [builder], delivery: Secret}}, NotServed]
- [{a: {}, b: {serviceAccountNames: [other], delivery: Secret}}, a]
- [{a: {}, b: {images: [IMAGE], suspend: true}}, a]
- [{a: {}, b: {podSelector: {matchLabels: {x: z}}}}, labels]
- [{a: {images: [IMAGE]}, b: {podSelector: {matchLabels: {x: z}}}}, a]
- [{a: {namespaceSelector: {matchLabels: {team: b}}}}, NoRegistry]
- [{a: {images: [harbor.example/other]}}, NoRegistry]
- [{a: {excludedImages: [IMAGE]}}, NoRegistry]
- [{a: {suspend: true}}, NotServed]
- [{a: {suspend: true, namespaceSelector: {matchLabels: {team: b}}}}, NoRegistry]
- [{a: {serviceAccountNames: [other]}}, NotServed]
- [{}, NoRegistry]
";

#[test]
fn chooses_by_the_precedence_among_all_registries() {
    let rows = PRECEDENCE.replace("IMAGE", IMAGE);
    let rows: Vec<(BTreeMap<String, Value>, String)> = serde_saphyr::from_str(&rows).unwrap();
    for (specs, expected) in rows {
        let specs: Vec<_> = specs
            .iter()
            .map(|(name, more)| (&**name, more.clone()))
            .collect();
        let found = chosen(&registries(&specs), None);
        let found = found.unwrap_or_else(|(reason, _)| format!("{reason:?}"));
        assert_eq!(found, expected, "{specs:?}");
    }
}

#[test]
fn decides_by_labels_once_they_are_known() {
    let some = [
        ("any", json!({})),
        ("some", json!({"podSelector": {"matchLabels": {"x": "y"}}})),
    ];
    let only = &some[1..];
    let (matching, other): (&[_], &[_]) = (&[("x", "y")], &[("x", "z")]);
    for (specs, labels, expected) in [
        (&some[..], matching, Ok("some")),
        (&some, other, Ok("any")),
        (only, matching, Ok("some")),
        (only, other, Err(Reason::NotServed)),
        (only, &[], Err(Reason::NotServed)),
    ] {
        let registries = registries(specs);
        assert_eq!(chosen(&registries, None).unwrap(), "labels");
        let found = chosen(&registries, Some(labels));
        assert_eq!(
            found.as_deref().map_err(|(reason, _)| *reason),
            expected,
            "{labels:?}"
        );
    }
}

#[test]
fn says_what_to_do_about_a_registry_that_does_not_serve() {
    for (spec, words) in [
        (json!({"delivery": "Secret"}), "delivery: Secret"),
        (json!({"suspend": true}), "suspended"),
        (
            json!({
                "access": "Push", "delivery": "Secret",
                "namespaceSelector": {"matchLabels": {"team": "a"}},
            }),
            "access: Push",
        ),
        (
            json!({"serviceAccountNames": ["other"]}),
            "serviceAccountNames",
        ),
    ] {
        let (reason, message) = chosen(&registries(&[("a", spec)]), None).unwrap_err();
        assert_eq!(reason, Reason::NotServed);
        assert!(
            message.contains("Registry a ") && message.contains(words),
            "{message}"
        );
    }
}

#[test]
fn believes_labels_of_the_very_pod_alone() {
    let live = |uid: &str, service_account: &str, node: &str| LivePod {
        uid: uid.to_owned(),
        service_account: service_account.to_owned(),
        node: node.to_owned(),
        labels: BTreeMap::new(),
    };
    let good = || live("p-1", "builder", "node-1");
    check_pod(&pod(), Some(&good())).unwrap();
    let opted_out = LivePod {
        labels: BTreeMap::from([(INJECT_LABEL.to_owned(), "disabled".to_owned())]),
        ..good()
    };
    for (found, reason) in [
        (None, Reason::Unauthenticated),
        (
            Some(live("p-2", "builder", "node-1")),
            Reason::Unauthenticated,
        ),
        (Some(live("", "builder", "node-1")), Reason::Unauthenticated),
        (
            Some(live("p-1", "default", "node-1")),
            Reason::Unauthenticated,
        ),
        (
            Some(live("p-1", "builder", "node-2")),
            Reason::Unauthenticated,
        ),
        (Some(live("p-1", "builder", "")), Reason::Unauthenticated),
        (Some(opted_out), Reason::NotOptedIn),
    ] {
        let refused = check_pod(&pod(), found.as_ref()).unwrap_err();
        assert_eq!(refused.reason, reason, "{found:?}");
    }
}

#[test]
fn has_the_kubelet_keep_nothing_past_its_end() {
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let minutes = |minutes: i64| now + SignedDuration::from_mins(minutes);
    for (until, by_labels, kept) in [
        (None, false, Some(60)),
        (None, true, Some(0)),
        (Some(minutes(720)), false, Some(60)),
        (Some(minutes(720)), true, Some(0)),
        (Some(minutes(70)), false, Some(60)),
        (Some(minutes(69)), false, Some(59)),
        (Some(minutes(11)), false, Some(1)),
        (Some(minutes(10)), false, Some(0)),
        (Some(minutes(1)), false, Some(0)),
        (Some(minutes(0)), false, None),
        (Some(minutes(-1)), false, None),
        (Some(minutes(-1)), true, None),
        (Some(Timestamp::MAX), false, Some(60)),
        (Some(Timestamp::MIN), false, None),
    ] {
        let found = cache_duration(until, by_labels, now);
        let kept = kept.map(SignedDuration::from_mins);
        assert_eq!(found, kept, "{until:?}, {by_labels}");
        assert!(found.is_none_or(|kept| until.is_none_or(|until| now + kept <= until)));
    }
}

#[test]
fn keeps_from_tenants_what_is_for_those_who_run_pullpass() {
    let pending = |is_for_admins| Pending {
        registry: Some(ObjectName::constant("a")),
        reason: "Denied",
        message: "canary".to_owned(),
        is_for_admins,
    };
    let refusal = unavailable(pending(true));
    assert!(!refusal.message.contains("canary") && refusal.message.contains("Denied"));
    assert_eq!(refusal.detail.as_deref(), Some("canary"));
    assert!(unavailable(pending(false)).message.contains("canary"));
}

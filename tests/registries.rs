//! Which Registry serves an image, against a model of what the kubelet does with the keys of a pull secret.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use pullpass::image::Reference;
use pullpass::registry::{Pattern, Registries, Registry};
use serde_json::json;

/// Hosts and paths that meet often.
const HOSTS: [&str; 8] = [
    "x.y.com",
    "x.z.com",
    "w.y.com",
    "x.y.com:5000",
    "*.y.com",
    "x.*.com",
    "*.*.com",
    "*.y.com:5000",
];
const PATHS: [&str; 9] = ["", "a", "a/b", "a/b/c", "ab", "a/bc", "v2", "v2/a", "b"];
const TEAMS: [&str; 3] = ["", "red", "blue"];

prop_compose! {
    fn pattern()(host in prop::sample::select(&HOSTS[..]), path in prop::sample::select(&PATHS[..])) -> String {
        if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
    }
}

prop_compose! {
    fn registry()(
        images in prop::collection::btree_set(pattern(), 1..4),
        exclude in prop::collection::btree_set(pattern(), 0..4),
        team in prop::sample::select(&TEAMS[..]),
        secret in prop::sample::select(vec!["one", "two"]),
        age in 0..3_u8,
        suspend in prop::bool::weighted(0.1),
    ) -> serde_json::Value {
        // Excludes that the rules refuse are left out one by one, so that nearly every Registry is valid.
        let mut spec = json!({
            "images": images,
            "exclude": BTreeSet::<String>::new(),
            "serves": {"namespaces": {}},
            "static": {"secretRef": {"name": secret}},
            "suspend": suspend,
        });
        if !team.is_empty() {
            spec["serves"]["namespaces"] = json!({"matchLabels": {"team": team}});
        }
        for pattern in exclude {
            let mut wider = spec.clone();
            wider["exclude"].as_array_mut().expect("a list").push(pattern.into());
            if Registries::build([object("probe", 0, &wider)]).problems().is_empty() {
                spec = wider;
            }
        }
        json!({"age": age, "spec": spec})
    }
}

fn object(name: &str, age: u64, spec: &serde_json::Value) -> Registry {
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "Registry",
        "metadata": {"name": name, "creationTimestamp": format!("2026-01-0{}T00:00:00Z", age + 1)},
        "spec": spec,
    });
    serde_json::from_value(object).expect("the object has the kind's form")
}

fn registries() -> impl Strategy<Value = Vec<Registry>> {
    prop::collection::vec(registry(), 1..7).prop_map(|specs| {
        let named = specs.iter().enumerate();
        named
            .map(|(at, spec)| {
                object(
                    &format!("r{at}"),
                    spec["age"].as_u64().expect("a number"),
                    &spec["spec"],
                )
            })
            .collect()
    })
}

/// Every image of the hosts and paths above, and some below them.
fn images() -> impl Iterator<Item = String> {
    let hosts = [
        "x.y.com",
        "x.z.com",
        "w.y.com",
        "w.z.com",
        "x.y.com:5000",
        "w.y.com:5000",
        "y.com",
        "x.y.com.evil.com",
    ];
    let paths = [
        "a", "a/b", "a/b/c", "a/b/c/d", "ab", "a/bc", "a/bc/d", "v2", "v2/a", "v2/a/b", "b", "c",
    ];
    hosts
        .into_iter()
        .flat_map(move |host| paths.into_iter().map(move |path| format!("{host}/{path}")))
}

/// A key as the kubelet holds it: without the API version that it strips.
fn effective(key: &str) -> String {
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    match path
        .strip_prefix("v1/")
        .or_else(|| path.strip_prefix("v2/"))
    {
        Some(rest) => format!("{host}/{rest}"),
        None => key.to_owned(),
    }
}

/// Whether the kubelet takes a key for an image, and whether it would on whole segments of the path.
fn matches(key: &str, image: &str) -> (bool, bool) {
    let (key_host, key_path) = key.split_once('/').unwrap_or((key, ""));
    let (host, path) = image.split_once('/').expect("images have a path");
    let split = |host: &str| {
        host.split(['.', ':'])
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let (key_labels, labels) = (split(key_host), split(host));
    let same_host = key_labels.len() == labels.len()
        && key_host.contains(':') == host.contains(':')
        && key_labels
            .iter()
            .zip(&labels)
            .all(|(key, label)| key == "*" || key == label);
    let on_segments =
        key_path.is_empty() || path == key_path || path.starts_with(&format!("{key_path}/"));
    (
        same_host && path.starts_with(key_path),
        same_host && on_segments,
    )
}

/// Whether the Registry of this name excludes an image.
fn excludes(registries: &[Registry], name: &str, reference: &Reference<'_>) -> bool {
    let registry = registries
        .iter()
        .find(|registry| registry.metadata.name.as_deref() == Some(name))
        .expect("it is one of them");
    let covers = |text: &String| {
        Pattern::parse(text)
            .expect("it is valid")
            .covers(reference.domain(), reference.path())
    };
    registry.spec.exclude.iter().any(covers)
}

#[test]
fn names_fields_of_the_table() {
    for case in support::registries::cases() {
        let registries = Registries::read([case.object()]);
        let fields: Vec<&str> = registries
            .problems()
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        if case.unreadable {
            assert!(
                serde_json::from_value::<Registry>(case.object()).is_err(),
                "{}",
                case.title
            );
            assert_eq!(fields, ["spec"], "{}", case.title);
        } else {
            assert_eq!(
                fields,
                case.fields,
                "{}: {:?}",
                case.title,
                registries.problems()
            );
        }
        assert_eq!(registries.is_empty(), !fields.is_empty(), "{}", case.title);
    }
}

#[test]
fn keeps_valid_registries_beside_broken_ones() {
    let cases = support::registries::cases();
    let mut objects: Vec<_> = cases
        .iter()
        .filter(|case| !case.is_accepted())
        .map(support::registries::Case::object)
        .collect();
    objects.push(cases[0].object());
    let registries = Registries::read(objects);
    assert_eq!(registries.iter().count(), 1);
    let reference =
        Reference::parse("123456789012.dkr.ecr.eu-west-1.amazonaws.com/x").expect("a reference");
    assert!(registries.resolve(&BTreeMap::new(), &reference).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gives_kubelet_the_credential_of_the_registry_that_serves(registries in registries(), team in prop::sample::select(&TEAMS[..])) {
        let specs = registries.clone();
        let registries = Registries::build(registries);
        let namespace: BTreeMap<String, String> = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        let mut keys = BTreeMap::new();
        for grant in registries.grants(&namespace) {
            for key in grant.keys {
                let earlier = keys.insert(effective(&key), (key, grant.registry.clone(), grant.source.clone()));
                prop_assert!(earlier.is_none(), "{earlier:?} is there twice");
            }
        }
        for image in images() {
            let reference = Reference::parse(&image).expect("a reference");
            let resolved = registries.resolve(&namespace, &reference);
            let first = keys.iter().rev().find(|(key, _)| matches(key, &image).1).map(|(_, grant)| grant);
            match (&resolved, first) {
                (None, None) => {}
                // A dockerconfigjson has no negative entry: where no Registry serves what one excludes, the kubelet
                // still takes that one's credential.
                (None, Some((_, registry, _))) => prop_assert!(excludes(&specs, registry, &reference), "{image}"),
                (Some(resolved), Some((_, registry, source))) => {
                    prop_assert_eq!(&resolved.registry.name, registry, "{}", image);
                    prop_assert_eq!(&resolved.registry.sources[resolved.grant].0, source, "{}", image);
                    let (_, registry, source) = &keys[&effective(&resolved.key)];
                    prop_assert_eq!(&resolved.registry.name, registry, "{} {}", image, resolved.key);
                    prop_assert_eq!(&resolved.registry.sources[resolved.grant].0, source, "{} {}", image, resolved.key);
                }
                _ => prop_assert!(false, "{image}: resolved {resolved:?}, the kubelet takes {first:?}"),
            }
        }
    }

    #[test]
    fn explains_the_registry_that_serves(registries in registries(), team in prop::sample::select(&TEAMS[..])) {
        let registries = Registries::build(registries);
        let namespace: BTreeMap<String, String> = BTreeMap::from([("team".to_owned(), team.to_owned())]);
        for image in images() {
            let reference = Reference::parse(&image).expect("a reference");
            let resolved = registries.resolve(&namespace, &reference).map(|resolved| resolved.registry.name.clone());
            let explanation = registries.explain(Some(&namespace), &reference);
            let serving: Vec<_> = explanation
                .verdicts
                .iter()
                .filter(|verdict| matches!(verdict.why, pullpass::registry::Why::Serves { .. }))
                .map(|verdict| verdict.registry.name.clone())
                .collect();
            prop_assert_eq!(serving, resolved.into_iter().collect::<Vec<_>>(), "{}", image);
            prop_assert_eq!(explanation.verdicts.len(), registries.iter().count());
        }
    }
}

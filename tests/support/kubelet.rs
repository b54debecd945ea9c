//! Registries whose patterns meet often, and a model of what the kubelet does with the keys of a pull secret.

use std::collections::BTreeSet;

use proptest::prelude::*;
use pullpass::image::Reference;
use pullpass::names::ObjectName;
use pullpass::registry::{Labels, PodSubject, Registries, Registry};
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
/// The ServiceAccounts and labels of Pods.
pub const ACCOUNTS: [&str; 2] = ["default", "ci"];
pub const TIERS: [&str; 3] = ["", "release", "canary"];
pub const TEAMS: [&str; 3] = ["", "red", "blue"];

prop_compose! {
    fn pattern()(host in prop::sample::select(&HOSTS[..]), path in prop::sample::select(&PATHS[..])) -> String {
        if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
    }
}

prop_compose! {
    fn registry(may_be_narrow: bool)(
        images in prop::collection::btree_set(pattern(), 1..4),
        exclude in prop::collection::btree_set(pattern(), 0..4),
        team in prop::sample::select(&TEAMS[..]),
        secret in prop::sample::select(vec!["one", "two"]),
        accounts in prop::collection::btree_set(prop::sample::select(&ACCOUNTS[..]), 0..2),
        tier in prop::sample::select(&TIERS[..]),
        narrow in any::<bool>(),
        pushes in prop::bool::weighted(0.2),
        age in 0..3_u8,
        suspend in prop::bool::weighted(0.1),
        by_node in prop::bool::weighted(0.2),
    ) -> serde_json::Value {
        // Excludes that the rules refuse are left out one by one, so that nearly every Registry is valid.
        let mut spec = json!({
            "images": images,
            "excludedImages": BTreeSet::<String>::new(),
            "namespaceSelector": {},
            "static": {"secretRef": {"name": secret}},
            "suspend": suspend,
        });
        if !team.is_empty() {
            spec["namespaceSelector"] = json!({"matchLabels": {"team": team}});
        }
        if narrow && may_be_narrow {
            spec["serviceAccountNames"] = json!(accounts);
            if !tier.is_empty() {
                spec["podSelector"] = json!({"matchLabels": {"tier": tier}});
            }
        }
        // One for builders is there, too: nothing of a Pod's changes.
        if pushes && may_be_narrow {
            let mut pushing = spec.clone();
            pushing["access"] = json!("Push");
            if Registries::build([object("probe", 0, &pushing)]).problems().is_empty() {
                spec = pushing;
            }
        }
        // One whose credential no Secret holds takes part in the precedence.
        if by_node && may_be_narrow && spec["access"] != "Push" {
            spec["delivery"] = json!("Node");
        }
        for pattern in exclude {
            let mut wider = spec.clone();
            wider["excludedImages"].as_array_mut().expect("a list").push(pattern.into());
            if Registries::build([object("probe", 0, &wider)]).problems().is_empty() {
                spec = wider;
            }
        }
        json!({"age": age, "spec": spec})
    }
}

pub fn object(name: &str, age: u64, spec: &serde_json::Value) -> Registry {
    let object = json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "Registry",
        "metadata": {"name": name, "creationTimestamp": format!("2026-01-0{}T00:00:00Z", age + 1)},
        "spec": spec,
    });
    serde_json::from_value(object).expect("the object has the kind's form")
}

/// Registries that serve all Pods of a namespace alike.
pub fn registries() -> impl Strategy<Value = Vec<Registry>> {
    generate(false)
}

/// Registries of which some choose among a namespace's Pods.
pub fn narrow_registries() -> impl Strategy<Value = Vec<Registry>> {
    generate(true)
}

fn generate(may_be_narrow: bool) -> impl Strategy<Value = Vec<Registry>> {
    prop::collection::vec(registry(may_be_narrow), 1..7).prop_map(|specs| {
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
pub fn images() -> impl Iterator<Item = String> {
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

/// A Pod: its ServiceAccount, its labels and its images.
#[derive(Clone, Debug)]
pub struct Pod {
    pub account: &'static str,
    pub labels: Labels,
    pub images: Vec<String>,
    /// Whether its namespace has it reference the secrets of every Registry that serves it.
    pub references_all: bool,
}

prop_compose! {
    pub fn pod()(
        account in prop::sample::select(&ACCOUNTS[..]),
        tier in prop::sample::select(&TIERS[..]),
        images in prop::sample::subsequence(images().collect::<Vec<_>>(), 1..12),
        references_all in any::<bool>(),
    ) -> Pod {
        Pod { account, labels: Labels::from([("tier".to_owned(), tier.to_owned())]), images, references_all }
    }
}

impl Pod {
    pub fn pod_subject<'p>(&'p self, namespace: &'p Labels) -> PodSubject<'p> {
        PodSubject {
            namespace: Some(namespace),
            service_account: Some(self.account),
            labels: Some(&self.labels),
            known: None,
        }
    }

    /// The pull secrets that the Pod is to reference, and whether there is an order of them that is right.
    pub fn secrets<'r>(
        &self,
        registries: &'r Registries,
        namespace: &Labels,
    ) -> (Vec<&'r str>, bool) {
        let pod_subject = self.pod_subject(namespace);
        let references: Vec<Reference<'_>> = self
            .images
            .iter()
            .map(|image| Reference::parse(image).expect("a reference"))
            .collect();
        let mut chosen: Vec<_> = references
            .iter()
            .filter_map(|reference| registries.resolve(pod_subject, reference))
            .map(|resolved| resolved.registry)
            .collect();
        if self.references_all {
            let serving = registries.iter();
            chosen.extend(serving.filter(|registry| registry.serves_pod(&pod_subject)));
        }
        let arrangement = registries.arrange(&pod_subject, &references, &chosen);
        let secrets = arrangement.secrets.into_iter();
        let secrets = secrets.map(ObjectName::as_str).collect();
        (secrets, arrangement.conflict.is_none())
    }
}

/// A key as the kubelet holds it: without the API version that it strips.
pub fn effective(key: &str) -> String {
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
pub fn matches(key: &str, image: &str) -> (bool, bool) {
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

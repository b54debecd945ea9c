//! Generated sets of Registries, and the Secrets that pullpass writes for them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use pullpass::credential::Credential;
use pullpass::image::Reference;
use pullpass::provision::{grant_entries, secret, shared_hosts};
use pullpass::registry::{Grant, Labels, Pattern, Registries, Registry};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::support::kubelet::object;

/// Hosts that some keys are of, and paths. No path is the beginning of another one's first segment, nor of [`NAME`]: the kubelet, and
/// k8schain with it, takes a key's path for a prefix of bytes.
const HOSTS: [&str; 3] = [
    "registry.example.com",
    "registry.example.com:5000",
    "other.example.com",
];
const PATHS: [&str; 6] = ["", "api", "api/v3", "build", "build/cache/go", "payments"];
/// Docker Hub's keys differ between Secrets: Registries for Pods are asked by themselves.
const HUB: &str = "docker.io";
const USERS: [&str; 3] = ["ann", "bob", "eve"];
/// The last segment of each image.
const NAME: &str = "x";

/// A Secret with what is right for its images.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Whether it has the hosts' own keys: it is of a Registry that pushes, or an export.
    pub(super) is_host_keyed: bool,
    pub(super) dockerconfigjson: String,
    /// Each image that it has a login for, and the user of that one.
    pub(super) images: Vec<(String, String)>,
    /// The hosts that status says cannot be used by clients that go by hosts.
    pub(super) unusable: Vec<String>,
}

/// An image's host.
pub(super) fn host(image: &str) -> &str {
    image.split('/').next().unwrap()
}

prop_compose! {
    fn pattern(hosts: &'static [&'static str])(host in prop::sample::select(hosts), path in prop::sample::select(&PATHS[..])) -> String {
        if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
    }
}

prop_compose! {
    fn registry(pushes: bool)(
        images in prop::collection::btree_set(pattern(&HOSTS), 1..4),
        hub in prop::bool::weighted(0.3),
        exclude in prop::option::weighted(0.3, pattern(&HOSTS)),
        exports in prop::bool::weighted(0.3),
        user in prop::sample::select(&USERS[..]),
    ) -> (bool, String, Value) {
        let mut images = images;
        if hub && pushes {
            images.insert(format!("{HUB}/{}", PATHS[1]));
        }
        let mut spec = json!({
            "images": images, "access": if pushes { "Push" } else { "Pull" },
            "namespaceSelector": {"matchLabels": {"team": "red"}},
            "static": {"secretRef": {"name": user}},
        });
        if exports {
            spec["exports"] = json!([{"name": "file", "format": "DockerConfig"}]);
        }
        if let Some(exclude) = exclude {
            let mut wider = spec.clone();
            wider["excludedImages"] = json!([exclude]);
            if Registries::build([object("probe", 0, &wider)]).problems().is_empty() {
                spec = wider;
            }
        }
        (pushes, user.to_owned(), spec)
    }
}

/// So many layouts, the same ones each time. In each some Registries push, and some have an export.
pub(super) fn generate(count: usize) -> Vec<Vec<Held>> {
    let registry = prop::bool::weighted(0.4).prop_flat_map(registry);
    let strategy = prop::collection::vec(registry, 1..7);
    let mut runner = TestRunner::deterministic();
    (0..count)
        .map(|_| hold(&strategy.new_tree(&mut runner).unwrap().current(), &[]))
        .collect()
}

/// The pull secret of Registries for Pods, each with one pattern and a user; it is asked for this image as well.
pub(super) fn hold_for_pods(registries: &[(&str, &str)], asked: &str) -> Held {
    let spec = |(image, user): &(&str, &str)| {
        let spec = json!({
            "images": [image], "namespaceSelector": {"matchLabels": {"team": "red"}},
            "static": {"secretRef": {"name": user}},
        });
        (false, (*user).to_owned(), spec)
    };
    let specs: Vec<_> = registries.iter().map(spec).collect();
    hold(&specs, &[asked]).remove(0)
}

/// The Secrets of a namespace that these Registries serve, asked for an image below each pattern, and for these.
fn hold(specs: &[(bool, String, Value)], asked: &[&str]) -> Vec<Held> {
    let objects: Vec<Registry> = specs
        .iter()
        .zip(0_u64..)
        .map(|((_, _, spec), at)| object(&format!("r{at}"), at, spec))
        .collect();
    let registries = Registries::build(objects);
    assert_eq!(registries.problems(), []);
    let user_of = |name: &str| {
        let at: usize = name.strip_prefix('r').unwrap().parse().unwrap();
        specs[at].1.clone()
    };
    let labels = Labels::from([("team".to_owned(), "red".to_owned())]);
    let mut entries: BTreeMap<String, (Grant, Vec<secret::AuthEntry>)> = BTreeMap::new();
    for grant in registries.grants(&labels) {
        let login = credential(&user_of(&grant.registry));
        let (_, all) = entries
            .entry(grant.secret.to_string())
            .or_insert_with(|| (grant.clone(), Vec::new()));
        all.extend(grant_entries::of_credential(&grant, &login));
    }
    entries
        .into_iter()
        .map(|(name, (grant, entries))| {
            let images = images(&registries, &labels, &name, asked)
                .into_iter()
                .map(|(image, registry)| (image, user_of(&registry)))
                .collect();
            write(&grant, images, &entries)
        })
        .collect()
}

fn write(grant: &Grant, images: Vec<(String, String)>, entries: &[secret::AuthEntry]) -> Held {
    let merged = secret::merge(None, grant.format, entries, Timestamp::UNIX_EPOCH);
    let content = merged.content.unwrap();
    let bytes = content.data[secret::format::DOCKERCONFIGJSON].expose_secret();
    Held {
        is_host_keyed: grant.is_mounted(),
        dockerconfigjson: String::from_utf8(bytes.to_vec()).unwrap(),
        images,
        unusable: shared_hosts::find(&merged.digests),
    }
}

fn credential(user: &str) -> Credential {
    Credential {
        username: user.to_owned(),
        password: format!("password of {user}").into(),
        minted_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
        principal: user.to_owned(),
    }
}

/// Those of the images that a Secret is for, and the Registry whose login is right for them.
fn images(
    registries: &Registries,
    labels: &Labels,
    secret: &str,
    asked: &[&str],
) -> BTreeMap<String, String> {
    let patterns: BTreeSet<&str> = registries
        .iter()
        .flat_map(|one| one.patterns().map(Pattern::key))
        .collect();
    let images = patterns.iter().map(|pattern| format!("{pattern}/{NAME}:1"));
    let images = images.chain(asked.iter().map(|image| (*image).to_owned()));
    let right = |image: &str| {
        let reference = Reference::parse(image).unwrap();
        let own = registries
            .iter()
            .find(|one| secret != "pullpass" && one.has_secret(secret));
        let registry = match own {
            Some(one) => one
                .find_serving(reference.domain(), reference.path())
                .map(|_| one),
            None => registries
                .resolve(labels, &reference)
                .map(|found| found.registry),
        };
        registry.map(|one| one.name.to_string())
    };
    images
        .filter_map(|image| Some((image.clone(), right(&image)?)))
        .collect()
}

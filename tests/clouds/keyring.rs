//! The keys of a pull secret before the kubelet's own keyring: that the model of it which other tests use is right, and that the
//! credential which was meant comes first.

mod static_login;

use std::collections::BTreeMap;

use crate::support;
use base64::prelude::{BASE64_STANDARD, Engine};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use pullpass::image::Reference;
use pullpass::registry::{Grant, Labels, Registries};
use serde_json::{Value, json};
use support::kubelet::{Pod, effective, images, matches, narrow_registries, pod, registries};

const GENERATED: usize = 300;

/// The user whose password stands for a grant.
fn user(registry: &str, source: usize) -> String {
    format!("{registry}.{source}")
}

fn secret<'g>(grants: impl IntoIterator<Item = &'g Grant>) -> String {
    let mut auths = serde_json::Map::new();
    for (source, grant) in grants.into_iter().enumerate() {
        for key in &grant.keys {
            let auth =
                BASE64_STANDARD.encode(format!("{}:password", user(&grant.registry, source)));
            auths.insert(key.clone(), json!({"auth": auth}));
        }
    }
    json!({ "auths": auths }).to_string()
}

/// A Pod's secrets, in its order, and images.
type Asked<'a> = (Vec<String>, &'a [String]);

/// The users that the kubelet offers for each image of each Pod, in its order.
fn ask_keyring(pods: &[Asked<'_>]) -> Vec<Vec<Vec<String>>> {
    let lines: String = pods
        .iter()
        .map(|(secrets, images)| {
            json!({"dockerconfigjson": secrets, "images": images}).to_string() + "\n"
        })
        .collect();
    let output = support::bed::run("keyring", &[], &lines);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answers = String::from_utf8(output.stdout).expect("the oracle writes UTF-8");
    let name = |login: &Value| {
        login["username"]
            .as_str()
            .expect("a login has a user")
            .to_owned()
    };
    let logins = |logins: &Value| logins.as_array().into_iter().flatten().map(name).collect();
    answers
        .lines()
        .map(|line| {
            let answer: Value = serde_json::from_str(line).expect("the oracle writes JSON");
            answer["credentials"]
                .as_array()
                .expect("the oracle reads the secret")
                .iter()
                .map(logins)
                .collect()
        })
        .collect()
}

#[test]
fn offers_first_what_was_meant() {
    let mut runner = TestRunner::default();
    let strategy = registries();
    let namespace = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
    let worlds: Vec<Registries> = (0..GENERATED)
        .map(|_| {
            Registries::build(
                strategy
                    .new_tree(&mut runner)
                    .expect("nothing is filtered")
                    .current(),
            )
        })
        .collect();
    let images: Vec<String> = images().collect();
    let asked: Vec<Asked<'_>> = worlds
        .iter()
        .map(|registries| (vec![secret(&registries.grants(&namespace))], &*images))
        .collect();
    let answers = ask_keyring(&asked);
    assert_eq!(answers.len(), worlds.len());
    let meant: usize = worlds
        .iter()
        .zip(&answers)
        .map(|(registries, answer)| judge(registries, &namespace, &images, answer))
        .sum();
    assert!(
        meant > 1_000,
        "only {meant} images had the credential that was meant in front"
    );
}

/// Checks what the kubelet offers for each image; gives the number of images for which the credential that was meant is the first.
fn judge(
    registries: &Registries,
    namespace: &Labels,
    images: &[String],
    answer: &[Vec<String>],
) -> usize {
    let grants = registries.grants(namespace);
    let mut keys = BTreeMap::new();
    for (source, grant) in grants.iter().enumerate() {
        keys.extend(
            grant
                .keys
                .iter()
                .map(|key| (effective(key), user(&grant.registry, source))),
        );
    }
    let mut meant = 0;
    for (image, offered) in images.iter().zip(answer) {
        let matching = || keys.iter().rev().filter(|(key, _)| matches(key, image).0);
        let modelled: Vec<String> = matching().map(|(_, user)| user.clone()).collect();
        assert_eq!(&modelled, offered, "{image}: {keys:?}");
        let reference = Reference::parse(image).expect("a reference");
        let Some(resolved) = registries.resolve(namespace, &reference) else {
            continue;
        };
        let source = &resolved.registry.sources[resolved.grant].0;
        let is_it =
            |grant: &Grant| grant.registry == resolved.registry.name && grant.source == *source;
        let grant = grants.iter().position(is_it).expect("it is granted");
        // The kubelet takes a key's path for a prefix of bytes: keys that match in no other way are stepped over.
        let first = matching()
            .position(|(key, _)| matches(key, image).1)
            .expect("a key covers it");
        assert_eq!(
            offered[first],
            user(&resolved.registry.name, grant),
            "{image}: {keys:?}"
        );
        meant += usize::from(first == 0);
    }
    meant
}

#[test]
fn offers_first_what_was_meant_of_several_secrets() {
    let mut runner = TestRunner::default();
    let strategy = (narrow_registries(), pod());
    let namespace = BTreeMap::from([("team".to_owned(), "red".to_owned())]);
    // Few Pods have images of several of few Registries.
    let worlds: Vec<(Registries, Pod)> = (0..4 * GENERATED)
        .map(|_| {
            let tree = strategy.new_tree(&mut runner);
            let (registries, pod) = tree.expect("nothing is filtered").current();
            (Registries::build(registries), pod)
        })
        .collect();
    let asked: Vec<Asked<'_>> = worlds
        .iter()
        .map(|(registries, pod)| {
            let secrets = pod.secrets(registries, &namespace).0;
            let held = |name: &&str| {
                let grants = registries.grants_of(&namespace, name);
                secret(grants.iter().map(AsRef::as_ref))
            };
            (secrets.iter().map(held).collect(), &*pod.images)
        })
        .collect();
    let answers = ask_keyring(&asked);
    assert_eq!(answers.len(), worlds.len());
    let meant: usize = worlds
        .iter()
        .zip(&answers)
        .map(|((registries, pod), answer)| judge_several(registries, &namespace, pod, answer))
        .sum();
    assert!(
        meant > 50,
        "only {meant} images had the credential that was meant in front, of several secrets"
    );
}

/// The same for the secrets of a Pod; counts the images of Pods with several.
fn judge_several(
    registries: &Registries,
    namespace: &Labels,
    pod: &Pod,
    answer: &[Vec<String>],
) -> usize {
    let (secrets, is_decided) = pod.secrets(registries, namespace);
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for secret in &secrets {
        for (source, grant) in registries.grants_of(namespace, secret).iter().enumerate() {
            for key in &grant.keys {
                let users = keys.entry(effective(key)).or_default();
                users.push(user(&grant.registry, source));
            }
        }
    }
    let mut meant = 0;
    for (image, offered) in pod.images.iter().zip(answer) {
        let matching = || keys.iter().rev().filter(|(key, _)| matches(key, image).0);
        let modelled: Vec<&String> = matching().flat_map(|(_, users)| users).collect();
        assert_eq!(
            modelled,
            offered.iter().collect::<Vec<_>>(),
            "{image}: {keys:?}"
        );
        let reference = Reference::parse(image).expect("a reference");
        let Some(resolved) = registries.resolve(pod.pod_subject(namespace), &reference) else {
            continue;
        };
        if !resolved.registry.delivers_by_secret() {
            continue;
        }
        let mut covering = keys.iter().rev().filter(|(key, _)| matches(key, image).1);
        let (_, first) = covering.next().expect("a key covers it");
        let wanted = format!("{}.", resolved.registry.name);
        if is_decided {
            assert!(first[0].starts_with(&wanted), "{image}: {keys:?}");
        }
        meant += usize::from(secrets.len() > 1 && offered[0].starts_with(&wanted));
    }
    meant
}

//! Fixed logins, held to the kubelet's own keyring: through our Secret it tries the same login first as through the source Secret.

#![allow(clippy::unwrap_used, reason = "helpers of a test may fail it")]

use std::collections::{BTreeMap, BTreeSet};

use crate::support;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pullpass::credential::SourceSecret;
use pullpass::credential::static_login::{Login, logins};
use pullpass::registry::Registries;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use support::bed::run;
use support::names::name;
use support::store::Seeded;

const HOSTS: [&str; 7] = [
    "r.example",
    "reg.example",
    "s.example",
    "r.example:5000",
    "a.r.example",
    "docker.io",
    "[::1]:80",
];
const PATHS: [&str; 8] = [
    "",
    "/t",
    "/team",
    "/team/a",
    "/team/app",
    "/teamwork",
    "/team/a/b",
    "/other",
];
const ODD_HOSTS: [&str; 5] = [
    "*.example",
    "r*.example",
    "r?g.example",
    "*.r.example",
    "https://index.docker.io/v1/",
];

fn pick<'t>(seeded: &Seeded, from: &[&'t str]) -> &'t str {
    let at = usize::try_from(seeded.below(from.len() as u64)).unwrap();
    from[at]
}

/// A few entries, some with globs, schemes and versions; each password says which entry it is of.
fn generate_auths(seeded: &Seeded) -> BTreeMap<String, Value> {
    let entry = |at: u64| {
        let is_malformed = seeded.below(3) == 0;
        let host = pick(seeded, if is_malformed { &ODD_HOSTS } else { &HOSTS });
        let (scheme, version) = match seeded.below(6) {
            0 => ("https://", "/v2"),
            1 => ("http://", "/v1"),
            2 => ("https://", ""),
            _ => ("", ""),
        };
        let path = pick(seeded, &PATHS);
        let key = match (host.starts_with("https://"), path) {
            (true, _) => host.to_owned(),
            (false, "") => format!("{scheme}{host}"),
            (false, path) => format!("{scheme}{host}{version}{path}"),
        };
        (
            key,
            json!({"auth": STANDARD.encode(format!("user{at}:password{at}"))}),
        )
    };
    // Which of two entries under the same place goes first, the kubelet leaves to chance.
    let mut places = BTreeSet::new();
    let entries = (0..=seeded.below(6)).map(entry);
    entries
        .filter(|(key, _)| places.insert(place(key)))
        .collect()
}

/// The key without scheme, version and query.
fn place(key: &str) -> String {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap();
    rest.replace("/v1/", "/")
        .replace("/v2/", "/")
        .trim_end_matches('/')
        .to_owned()
}

/// The keys of a Registry: hosts, some with a path or one `*` label.
fn generate_keys(seeded: &Seeded) -> Vec<String> {
    let key = |_| {
        let host = if seeded.below(4) == 0 {
            "*.example"
        } else {
            pick(seeded, &HOSTS)
        };
        format!("{host}{}", pick(seeded, &PATHS))
    };
    (0..=seeded.below(2)).map(key).collect()
}

/// Whether the Registry's key covers the image, on whole segments.
fn covers(key: &str, image: &str) -> bool {
    let (host, path) = key
        .split_once('/')
        .map_or((key, ""), |(host, path)| (host, path));
    let (image_host, image_path) = image.split_once('/').unwrap();
    let host_matches = host == image_host
        || host.strip_prefix("*.").is_some_and(|rest| {
            image_host
                .split_once('.')
                .is_some_and(|(_, below)| below == rest)
        });
    host_matches
        && (path.is_empty() || image_path == path || image_path.starts_with(&format!("{path}/")))
}

fn ask_keyring(lines: &[Value]) -> Vec<Value> {
    let input: Vec<String> = lines.iter().map(Value::to_string).collect();
    let output = run("keyring", &[], &format!("{}\n", input.join("\n")));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The dockerconfigjson that the logins make up.
fn build(logins: &[Login]) -> String {
    let auth = |login: &Login| {
        STANDARD.encode(format!(
            "{}:{}",
            login.username,
            login.password.expose_secret()
        ))
    };
    let auths: BTreeMap<_, _> = logins
        .iter()
        .map(|login| (login.key.clone(), json!({"auth": auth(login)})))
        .collect();
    json!({ "auths": auths }).to_string()
}

fn source_secret(json: &str) -> SourceSecret {
    SourceSecret {
        name: name("source"),
        type_: "kubernetes.io/dockerconfigjson".to_owned(),
        data: [(
            ".dockerconfigjson".to_owned(),
            json.as_bytes().to_vec().into(),
        )]
        .into(),
        resource_version: "1".to_owned(),
    }
}

#[test]
fn kubelet_tries_the_same_login_first_through_both_secrets() {
    let seeded = Seeded::new(20);
    let mut cases = Vec::new();
    for _ in 0..3000 {
        let source = json!({"auths": generate_auths(&seeded)}).to_string();
        let keys = generate_keys(&seeded);
        let secret = source_secret(&source);
        let ours = logins(&secret, &keys, &[]).map_or_else(|_| build(&[]), |logins| build(&logins));
        let images: Vec<String> = HOSTS
            .iter()
            .flat_map(|host| PATHS.iter().map(move |path| format!("{host}{path}/x")))
            .filter(|image| keys.iter().any(|key| covers(key, image)))
            .collect();
        cases.push((source, keys, ours, images));
    }
    let ask =
        |text: &String, images: &Vec<String>| json!({"dockerconfigjson": [text], "images": images});
    let through_source = ask_keyring(
        &cases
            .iter()
            .map(|(source, _, _, images)| ask(source, images))
            .collect::<Vec<_>>(),
    );
    let through_ours = ask_keyring(
        &cases
            .iter()
            .map(|(_, _, ours, images)| ask(ours, images))
            .collect::<Vec<_>>(),
    );
    let (mut compared, mut found) = (0, 0);
    for (at, (source, keys, ours, images)) in cases.iter().enumerate() {
        for (image_at, image) in images.iter().enumerate() {
            let meant = &through_source[at]["credentials"][image_at][0];
            let got = &through_ours[at]["credentials"][image_at][0];
            assert_eq!(meant, got, "{image} of {keys:?} by {source} became {ours}");
            compared += 1;
            found += usize::from(!meant.is_null());
        }
    }
    assert!(
        compared > 10_000 && found > compared / 5,
        "{found} logins for {compared} images"
    );
}

fn registry(name: &str, images: &[&str], exclude: &[&str]) -> Value {
    json!({
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "Registry",
        "metadata": {"name": name},
        "spec": {
            "images": images,
            "excludedImages": exclude,
            "namespaceSelector": {},
            "static": {"secretRef": {"name": name}},
        },
    })
}

#[test]
fn kubelet_tries_each_registrys_own_login_where_their_secrets_overlap() {
    let objects = [
        registry(
            "outer",
            &["harbor.example/team"],
            &["harbor.example/team/secret"],
        ),
        registry("inner", &["harbor.example/team/app"], &[]),
    ];
    let registries =
        Registries::build(objects.map(|object| serde_json::from_value(object).unwrap()));
    assert_eq!(registries.problems(), []);
    let entry = |name: &str| json!({"auth": STANDARD.encode(format!("{name}:password"))});
    let outer = json!({"auths": {
        "harbor.example": entry("outer"),
        "harbor.example/team/app": entry("not-inner"),
        "harbor.example/team/app/web": entry("not-inner-either"),
        "harbor.example/team/secret": entry("excluded"),
        "harbor.example/team/own": entry("own"),
    }});
    let inner = json!({"auths": {"harbor.example": entry("inner")}});
    let mut all = Vec::new();
    for grant in registries.grants(&BTreeMap::new()) {
        let source = if &*grant.registry == "outer" {
            &outer
        } else {
            &inner
        };
        all.extend(
            logins(
                &source_secret(&source.to_string()),
                &grant.keys,
                &grant.reserved,
            )
            .unwrap(),
        );
    }
    let images = [
        "team/x",
        "team/own/x",
        "team/app",
        "team/app/web/x",
        "team/secret",
    ];
    let images = images.map(|path| format!("harbor.example/{path}"));
    let answer = ask_keyring(&[json!({"dockerconfigjson": [build(&all)], "images": images})]);
    let first = |at: usize| answer[0]["credentials"][at][0]["username"].clone();
    // An excluded path that nobody serves is still offered the broader login; dockerconfigjson has no negative entry.
    assert_eq!(
        (0..5).map(first).collect::<Vec<_>>(),
        ["outer", "own", "inner", "inner", "outer"]
    );
}

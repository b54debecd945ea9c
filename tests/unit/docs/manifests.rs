//! The manifests that documents show to builders and to other consumers: Secrets that pullpass makes, and files where the clients look.

use std::collections::BTreeSet;

use pullpass::registry::{PULL_SECRET, Registries};
use serde_json::Value;

use crate::support::manifests::of_document;

const DOCUMENTS: [&str; 2] = ["docs/BUILDERS.md", "docs/CONSUMERS.md"];

/// Every Secret that a value names: as a volume, as a reference, in the forms of other projects.
fn find_secrets(value: &Value, found: &mut Vec<String>) {
    let mut add = |name: &Value| found.extend(name.as_str().map(str::to_owned));
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                match field.as_str() {
                    "secretName" => add(value),
                    "secretRef" => add(&value["name"]),
                    "imagePullSecrets" => {
                        let all = value.as_array().into_iter().flatten();
                        all.for_each(|one| add(&one["name"]));
                    }
                    "privateRegistryScanSecretsNames" => {
                        value.as_object().unwrap().values().for_each(&mut add);
                    }
                    _ => {}
                }
            }
            fields.values().for_each(|value| find_secrets(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| find_secrets(value, found)),
        Value::String(text) => {
            let name = text
                .strip_prefix("pullsecret:")
                .and_then(|rest| rest.split('/').nth(1));
            found.extend(name.map(str::to_owned));
        }
        _ => {}
    }
}

#[test]
fn names_secrets_that_its_registries_make() {
    let shown: Vec<Value> = DOCUMENTS.iter().copied().flat_map(of_document).collect();
    let registries = shown.iter().filter(|one| one["kind"] == "Registry");
    let registries =
        Registries::build(registries.map(|one| serde_json::from_value(one.clone()).unwrap()));
    assert_eq!(registries.problems(), []);
    let mut made: BTreeSet<String> = registries
        .iter()
        .flat_map(|one| one.secrets().map(ToString::to_string))
        .collect();
    assert!(!made.is_empty());
    made.insert(PULL_SECRET.to_owned());
    let mut named = Vec::new();
    // What a Registry names is made by whoever makes the Registry.
    for one in shown.iter().filter(|one| one["kind"] != "Registry") {
        find_secrets(one, &mut named);
    }
    assert!(named.len() >= 9, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|name| !made.contains(*name)).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// Where the client of a container looks, as its image or its environment says.
fn file_of(container: &Value) -> String {
    let mut variables = container["env"].as_array().into_iter().flatten();
    let found = variables.find_map(|variable| {
        let value = variable["value"].as_str()?;
        match variable["name"].as_str()? {
            "DOCKER_CONFIG" => Some(format!("{value}/config.json")),
            "REGISTRY_AUTH_FILE" => Some(value.to_owned()),
            _ => None,
        }
    });
    found.unwrap_or_else(|| {
        assert_eq!(container["name"], "kaniko", "{container}");
        "/kaniko/.docker/config.json".to_owned()
    })
}

#[test]
fn mounts_the_login_where_the_builder_looks() {
    let jobs = of_document(DOCUMENTS[0]).into_iter();
    let jobs: Vec<Value> = jobs.filter(|one| one["kind"] == "Job").collect();
    assert!(jobs.len() >= 3, "{jobs:?}");
    for job in jobs {
        let pod = &job["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        let mut files = Vec::new();
        for mount in container["volumeMounts"].as_array().unwrap() {
            let volumes = pod["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|one| one["name"] == mount["name"]);
            let items = volume.unwrap()["secret"]["items"].as_array();
            let names = match items {
                Some(items) => items
                    .iter()
                    .filter(|item| item["key"] == ".dockerconfigjson")
                    .map(|item| item["path"].as_str().unwrap())
                    .collect(),
                None => vec![".dockerconfigjson"],
            };
            // A file that is mounted by subPath stays as it is.
            assert_eq!(mount["subPath"], Value::Null, "{job}");
            let folder = mount["mountPath"].as_str().unwrap();
            files.extend(names.iter().map(|name| format!("{folder}/{name}")));
        }
        assert!(files.contains(&file_of(container)), "{job}");
    }
}

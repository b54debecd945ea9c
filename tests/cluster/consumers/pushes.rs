//! Real pulls and pushes by the clients' own code, against a real registry that knows what each login may do.

use base64::Engine as _;
use serde_json::{Value, json};

use super::program::attempt;
use crate::support::bed::Bed;

const HOST: &str = "registry.example.com";
/// k8schain reads no file: `builds` shows it.
const CLIENTS: [&str; 5] = ["docker", "crane", "oras", "helm", "skopeo"];

/// A Secret's content with one login under these keys.
fn config(user: &str, keys: &[&str]) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:password"));
    let auths: serde_json::Map<String, Value> = keys
        .iter()
        .map(|key| ((*key).to_owned(), json!({"auth": auth})))
        .collect();
    json!({ "auths": auths }).to_string()
}

/// The users whom the registry refused to write, each as often as it did.
fn refused_to_push(registry: &Bed) -> Vec<String> {
    let log = std::fs::read_to_string(registry.field("accessLog")).unwrap();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let refused = lines.filter(|line| {
        let writes = line["method"] == "POST" || line["method"] == "PUT";
        writes && line["username"] != "" && line["allowed"] == false
    });
    refused
        .map(|line| line["username"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn pushes_with_the_secret_of_builders_and_not_with_that_of_pods() {
    let registry = Bed::start("registry", &["--host", HOST]);
    let access = json!({"allow": [
        {"username": "puller", "password": "password", "actions": ["pull"]},
        {"username": "pusher", "password": "password", "repositories": ["team/"], "actions": ["pull", "push"]},
    ]});
    std::fs::write(registry.field("access"), access.to_string()).unwrap();
    // As pullpass writes them: `layouts` shows that.
    let team = format!("{HOST}/team");
    let pods = config("puller", &[&team]);
    let builders = config("pusher", &[&team, HOST]);
    for client in CLIENTS {
        let run = |config: &str, push: bool, name: &str| {
            attempt(&json!({
                "client": client, "push": push, "image": format!("{team}/{client}/{name}:0.1.0"),
                "dockerconfigjson": config, "proxy": registry.field("proxy"), "ca": registry.field("ca"),
            }))
        };
        run(&builders, true, "chart").unwrap_or_else(|error| panic!("{client}: {error}"));
        run(&pods, false, "chart").unwrap_or_else(|error| panic!("{client}: {error}"));
        let before = refused_to_push(&registry).len();
        run(&pods, true, "other").unwrap_err();
        let refused = refused_to_push(&registry);
        assert!(refused.len() > before, "{client} did not try");
        assert!(refused.iter().all(|user| user == "puller"), "{refused:?}");
        // It was not pushed.
        run(&builders, false, "other").unwrap_err();
    }
}

//! Which login each client finds, many times over, in the Secrets that pullpass writes for generated sets of Registries.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::layouts::{self, Held, host};
use super::program::{BY_HOST, BY_PATH, ask};
use crate::support::keyring;

const LAYOUTS: usize = 200;
const TRIES: usize = 50;

/// How often each user was sent for each of a Secret's images; the user "" is none.
type Sent = Vec<BTreeMap<String, usize>>;

/// What was counted of a client and a kind of Secret.
#[derive(Default)]
struct Row {
    tries: usize,
    right: usize,
    /// The layouts in which it was not always right.
    differ: BTreeSet<usize>,
}

#[test]
fn finds_the_right_login_in_all_that_status_does_not_warn_of() {
    let layouts = layouts::generate(LAYOUTS);
    let secrets: Vec<(usize, &Held)> = layouts
        .iter()
        .enumerate()
        .flat_map(|(at, held)| held.iter().map(move |one| (at, one)))
        .collect();
    let held: Vec<&Held> = secrets.iter().map(|(_, held)| *held).collect();
    let mut rows: BTreeMap<(&str, bool), Row> = BTreeMap::new();
    for (client, sent) in ask_all(&held) {
        for ((at, held), sent) in secrets.iter().zip(sent) {
            let row = rows.entry((client, held.is_host_keyed)).or_default();
            judge(row, client, *at, held, &sent);
        }
    }
    let unusable: BTreeSet<usize> = secrets
        .iter()
        .filter(|(_, held)| !held.unusable.is_empty())
        .map(|(at, _)| *at)
        .collect();
    print(&rows, unusable.len());
    let none = BTreeSet::new();
    for ((client, is_host_keyed), row) in &rows {
        assert!(row.tries > 10_000, "{client}: {}", row.tries);
        let may_differ = !is_host_keyed && BY_HOST.contains(client);
        let expected = if may_differ { &unusable } else { &none };
        assert_eq!(
            row.differ, *expected,
            "{client}, host keys: {is_host_keyed}"
        );
    }
    let usable = LAYOUTS - unusable.len();
    assert!(usable.min(unusable.len()) > LAYOUTS / 5, "{usable} usable");
}

/// Adds a Secret of a layout to a row. Clients that go by hosts are wrong for a host exactly where status says so.
fn judge(row: &mut Row, client: &str, at: usize, held: &Held, sent: &Sent) {
    assert_eq!(sent.len(), held.images.len());
    let mut wrong = BTreeSet::new();
    for ((image, right), users) in held.images.iter().zip(sent) {
        let tries: usize = users.values().sum();
        assert_eq!(tries, TRIES, "{client} {image}");
        let times = users.get(right).copied().unwrap_or_default();
        row.tries += tries;
        row.right += times;
        if times < tries {
            wrong.insert(host(image).to_owned());
        }
    }
    if BY_HOST.contains(&client) {
        let warned: BTreeSet<String> = held.unusable.iter().cloned().collect();
        assert_eq!(wrong, warned, "{client} in layout {at}: {held:?}: {sent:?}");
    } else {
        assert!(
            wrong.is_empty(),
            "{client} in layout {at}: {held:?}: {sent:?}"
        );
    }
    if !wrong.is_empty() {
        row.differ.insert(at);
    }
}

fn print(rows: &BTreeMap<(&str, bool), Row>, unusable: usize) {
    println!(
        "{LAYOUTS} layouts, {unusable} of them with a host in `pullpass` that status says has several logins"
    );
    println!("| client | Secret | logins looked up | right | layouts in which it was not always |");
    println!("|---|---|---|---|---|");
    for ((client, is_host_keyed), row) in rows {
        let secret = if *is_host_keyed {
            "with the hosts' own keys"
        } else {
            "`pullpass`"
        };
        println!(
            "| {client} | {secret} | {} | {} | {} |",
            row.tries,
            row.right,
            row.differ.len()
        );
    }
}

/// What each client sent for each image of each Secret.
fn ask_all(held: &[&Held]) -> BTreeMap<&'static str, Vec<Sent>> {
    let question = |held: &&Held| {
        let images: Vec<&String> = held.images.iter().map(|(image, _)| image).collect();
        json!({"dockerconfigjson": held.dockerconfigjson, "images": images, "tries": TRIES})
    };
    let questions: Vec<Value> = held.iter().map(question).collect();
    let answers = ask("lookup", &questions);
    let read = |client: &'static str| {
        let sent = answers.iter().map(|answer| {
            serde_json::from_value::<Sent>(answer[client].clone())
                .unwrap_or_else(|_| panic!("{client}: {answer}"))
        });
        (client, sent.collect::<Vec<Sent>>())
    };
    let clients = BY_PATH.iter().chain(&BY_HOST).copied();
    let mut found: BTreeMap<_, _> = clients
        .filter(|client| *client != "kubelet")
        .map(read)
        .collect();
    found.insert(
        "kubelet",
        held.iter().map(|held| ask_kubelet(held)).collect(),
    );
    found
}

/// Whom the kubelet would try first.
fn ask_kubelet(held: &Held) -> Sent {
    let images = held.images.iter();
    let images: Vec<&str> = images
        .map(|(image, _)| image.rsplit_once(':').unwrap().0)
        .collect();
    let count = images.len();
    let found = keyring::lookup(&held.dockerconfigjson, &images.repeat(TRIES));
    let mut sent = vec![BTreeMap::new(); count];
    for (at, logins) in found.iter().enumerate() {
        let user = logins.first().map(|login| login.username.clone());
        *sent[at % count]
            .entry(user.unwrap_or_default())
            .or_default() += 1;
    }
    sent
}

/// Docker Hub's logins in `pullpass` are under keys that the kubelet and skopeo alone look up.
#[test]
fn finds_docker_hubs_login_of_pods_as_the_kubelet_and_skopeo_alone() {
    let held = layouts::hold_for_pods(&[("docker.io/team", "ann")], "docker.io/team/x:1");
    for (client, sent) in ask_all(&[&held]) {
        let expected = match client {
            "kubelet" | "skopeo" => held.images[0].1.as_str(),
            _ => "",
        };
        let expected = BTreeMap::from([(expected.to_owned(), TRIES)]);
        assert_eq!(sent, [vec![expected]], "{client}");
    }
}

/// A key's path is a prefix of bytes for k8schain, as for the kubelet, which goes on to the next login where the first is refused.
#[test]
fn finds_as_k8schain_the_login_of_a_path_that_the_image_begins_with() {
    let image = "registry.example.com/api-v2/x:1";
    let [host, path, own] =
        ["", "/api", "/api-v2"].map(|path| format!("registry.example.com{path}"));
    let rows = [
        (vec![(&*host, "ann"), (&*path, "bob")], "bob"),
        (
            vec![(&*host, "ann"), (&*path, "bob"), (&*own, "ann")],
            "ann",
        ),
    ];
    for (registries, expected) in rows {
        let held = layouts::hold_for_pods(&registries, image);
        let place = held.images.iter().position(|(one, _)| one == image);
        let place = place.unwrap();
        assert_eq!(held.images[place].1, "ann");
        let sent = ask_all(&[&held]);
        for (client, user) in [
            ("k8schain", expected),
            ("kubelet", expected),
            ("skopeo", "ann"),
        ] {
            let always = BTreeMap::from([(user.to_owned(), TRIES)]);
            assert_eq!(sent[client][0][place], always, "{client}");
        }
    }
}

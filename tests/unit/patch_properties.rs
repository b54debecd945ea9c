//! The patch over generated Pods, judged by an implementation of JSON Patch that is not ours.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use pullpass::admission::patch::{self, Additions};
use pullpass::admission::review::{Field, PodObject, Review};
use pullpass::names::ObjectName;
use serde_json::{Map, Value, json};

/// Where a patch may change something.
const PLACES: [(&str, &str); 3] = [
    ("/spec", "imagePullSecrets"),
    ("/metadata", "labels"),
    ("/metadata", "annotations"),
];

/// Keys, of which some are those that are added.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "a",
            "a/b",
            "a~b",
            "~0",
            "~1",
            "~01",
            "/",
            "",
            "é",
            "\u{0}",
            "\"",
            "\\",
            "-",
            "0",
            "aadpodidbinding"
        ])
        .prop_map(str::to_owned),
        "[a-z0-9./~_-]{0,12}",
        any::<String>(),
    ]
}

/// Any JSON, a few levels deep.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(key(), inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Labels or annotations; the outer `None`: absent.
fn entries() -> impl Strategy<Value = Option<Value>> {
    let map = btree_map(key(), any::<String>(), 0..6).prop_map(|map| json!(map));
    option::of(prop_oneof![Just(Value::Null), map])
}

fn secret_name() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec!["pullpass", "pullpass-a", "regcred", ""]).prop_map(str::to_owned),
        "[a-z0-9-]{1,10}"
    ]
}

fn pull_secrets() -> impl Strategy<Value = Option<Value>> {
    let entry = prop_oneof![
        6 => secret_name().prop_map(|name| json!({"name": name})),
        1 => Just(json!({})),
        1 => Just(json!({"name": null})),
        1 => Just(Value::Null),
    ];
    option::of(prop_oneof![
        Just(Value::Null),
        vec(entry, 0..8).prop_map(Value::from)
    ])
}

fn insert(map: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value);
    }
}

/// Pods as an API server may send them, now or in years, with anything in fields that are not read.
fn pod() -> impl Strategy<Value = Value> {
    let image = prop_oneof![Just(json!(null)), any::<String>().prop_map(Value::from)];
    let containers = option::of(prop_oneof![
        Just(Value::Null),
        vec(image.prop_map(|image| json!({"image": image})), 0..4).prop_map(Value::from)
    ]);
    let unread = btree_map("[A-Z][a-z]{1,8}", anything(), 0..4);
    (entries(), entries(), pull_secrets(), containers, unread).prop_map(
        |(labels, annotations, secrets, containers, unread)| {
            let (mut metadata, mut spec) = (Map::new(), Map::from_iter(unread.clone()));
            metadata.extend(unread);
            insert(&mut metadata, "labels", labels);
            insert(&mut metadata, "annotations", annotations);
            insert(&mut spec, "imagePullSecrets", secrets);
            insert(&mut spec, "containers", containers);
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        },
    )
}

#[derive(Clone, Debug)]
struct Wanted {
    secrets: Vec<ObjectName>,
    labels: Vec<(String, String)>,
    annotations: Vec<(String, String)>,
}

impl Wanted {
    fn additions(&self) -> Additions<'_> {
        Additions {
            pull_secrets: self.secrets.iter().collect(),
            labels: self
                .labels
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
            annotations: self
                .annotations
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
        }
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let entries =
        || btree_map(key(), any::<String>(), 0..4).prop_map(|map| map.into_iter().collect());
    let secrets =
        proptest::sample::subsequence(vec!["pullpass-a", "pullpass", "pullpass-b"], 0..=3);
    let secrets = secrets.prop_map(|names| names.into_iter().map(ObjectName::constant).collect());
    (secrets, entries(), entries()).prop_map(|(secrets, labels, annotations)| Wanted {
        secrets,
        labels,
        annotations,
    })
}

/// The patch for a Pod as the API server would send it.
fn build(pod: &Value, wanted: &Wanted) -> Option<json_patch::Patch> {
    let text = pod.to_string();
    let Field::Value(pod) = serde_json::from_str::<Field<PodObject<'_>>>(&text).unwrap() else {
        return None;
    };
    patch::build(&pod, &wanted.additions())
}

fn without_places(pod: &Value) -> Value {
    let mut pod = pod.clone();
    for (parent, key) in PLACES {
        pod.pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(key);
    }
    pod
}

fn list(pod: &Value) -> Vec<Value> {
    pod["spec"]["imagePullSecrets"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn map(pod: &Value, name: &str) -> Map<String, Value> {
    pod["metadata"][name]
        .as_object()
        .cloned()
        .unwrap_or_default()
}

fn check_entries(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    wanted: &[(String, String)],
) -> Result<(), TestCaseError> {
    let mut expected: Map<String, Value> = wanted
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    expected.extend(before.clone());
    prop_assert_eq!(after, &expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn adds_what_is_wanted_and_changes_nothing_else(before in pod(), wanted in wanted()) {
        let mut after = before.clone();
        if let Some(patch) = build(&before, &wanted) {
            prop_assert!(patch.0.iter().all(|operation| matches!(operation, json_patch::PatchOperation::Add(_))));
            json_patch::patch(&mut after, &patch).unwrap();
            prop_assert_ne!(&after, &before, "a patch that does nothing is not sent");
        }
        prop_assert_eq!(without_places(&after), without_places(&before));
        let (old, new) = (list(&before), list(&after));
        prop_assert_eq!(&new[..old.len()], &old[..], "the order of what was there is kept");
        let added: Vec<_> = new[old.len()..].iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        let missing: Vec<_> = wanted.secrets.iter().map(ObjectName::as_str).filter(|name| !old.iter().any(|entry| entry["name"] == **name)).collect();
        prop_assert_eq!(added, missing);
        check_entries(&map(&before, "labels"), &map(&after, "labels"), &wanted.labels)?;
        check_entries(&map(&before, "annotations"), &map(&after, "annotations"), &wanted.annotations)?;
        prop_assert!(build(&after, &wanted).is_none(), "a second time nothing is added");
    }

    #[test]
    fn applies_whatever_the_object_is(
        parts in (anything(), anything(), anything(), anything(), anything()),
        places in vec(any::<bool>(), 5),
        pod in pod(),
        wanted in wanted(),
    ) {
        let mut pod = pod;
        let (labels, annotations, secrets, metadata, spec) = parts;
        let wild = [("/metadata/labels", labels), ("/metadata/annotations", annotations), ("/spec/imagePullSecrets", secrets), ("/metadata", metadata), ("/spec", spec)];
        for ((pointer, value), put) in wild.into_iter().zip(places) {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            if put && let Some(Value::Object(parent)) = pod.pointer_mut(parent) {
                parent.insert(key.to_owned(), value);
            }
        }
        if let Some(patch) = build(&pod, &wanted) {
            let mut after = pod.clone();
            json_patch::patch(&mut after, &patch).unwrap();
            prop_assert!(build(&after, &wanted).is_none(), "a second time nothing is added");
        }
    }

    #[test]
    fn never_panics_on_damaged_reviews(pod in pod(), exclusions in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let review = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {"uid": "1", "operation": "CREATE", "object": pod}});
        let mut body = review.to_string().into_bytes();
        for (place, byte) in exclusions {
            let place = place.index(body.len());
            body[place] = byte;
        }
        if let Ok(review) = Review::parse(&body) {
            let secret = ObjectName::constant("pullpass");
            let additions = Additions { pull_secrets: vec![&secret], ..Additions::default() };
            let patch = review.request.object().value().and_then(|pod| patch::build(pod, &additions));
            let answer: Value = serde_json::from_slice(&review.answer(patch.as_ref(), &[])).unwrap();
            prop_assert_eq!(&answer["response"]["uid"], &json!(review.uid));
        }
    }
}

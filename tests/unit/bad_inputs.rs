//! Reviews that nobody should send: each is allowed unchanged with an answer that carries its uid, or is a 4xx; never a panic, a
//! 5xx or a wrong patch. The cases are in `data/bad_inputs.json`; those that are too long for a file are made here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::support;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use support::webhook::{Answer, HOST, IMAGE, offline, post, review, send, team, webhook};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    row: u32,
    name: String,
    /// The whole body.
    raw: Option<String>,
    /// JSON Pointers and the values to put there.
    #[serde(default)]
    set: BTreeMap<String, Value>,
    /// JSON Pointers of what to take away.
    #[serde(default)]
    remove: Vec<String>,
    /// A part of the review's text and what to put in its place.
    text: Option<(String, String)>,
    /// A status, `unchanged`, `patched` (the list is made) or `appended` (to the list).
    answer: Value,
}

fn named(text: &str) -> String {
    text.replace("IMAGE", IMAGE).replace("HOST", HOST)
}

fn named_in(value: &mut Value) {
    match value {
        Value::String(text) => *text = named(text),
        Value::Array(values) => values.iter_mut().for_each(named_in),
        Value::Object(values) => values.values_mut().for_each(named_in),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn split(pointer: &str) -> (&str, &str) {
    pointer.rsplit_once('/').unwrap()
}

impl Case {
    fn review(&self) -> Value {
        let mut review = review();
        for pointer in &self.remove {
            let (parent, key) = split(pointer);
            let parent = review.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            parent
                .remove(key)
                .unwrap_or_else(|| panic!("{}: nothing at {pointer}", self.name));
        }
        for (pointer, value) in &self.set {
            let mut value = value.clone();
            named_in(&mut value);
            let (parent, key) = split(pointer);
            match review.pointer_mut(parent).unwrap() {
                Value::Array(values) => values[key.parse::<usize>().unwrap()] = value,
                parent => parent[key] = value,
            }
        }
        review
    }

    fn body(&self) -> String {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let body = self.review().to_string();
        let Some((from, to)) = &self.text else {
            return body;
        };
        let (from, to) = (named(from), named(to));
        assert!(
            body.contains(&from),
            "{}: {from} is not in {body}",
            self.name
        );
        body.replacen(&from, &to, 1)
    }

    fn check(&self, answer: &Answer) {
        let name = format!("row {}: {}", self.row, self.name);
        if let Some(status) = self.answer.as_u64() {
            assert_eq!(
                u64::from(answer.status.as_u16()),
                status,
                "{name}: {}",
                answer.text
            );
            return;
        }
        assert_eq!(answer.status, StatusCode::OK, "{name}: {}", answer.text);
        let sent = self.review();
        let answered: Value = serde_json::from_str(&answer.text).unwrap();
        assert_eq!(answered["apiVersion"], sent["apiVersion"], "{name}");
        assert_eq!(
            answered["response"]["uid"], sent["request"]["uid"],
            "{name}"
        );
        let patch = match self.answer.as_str().unwrap() {
            "unchanged" => None,
            "patched" => Some(
                json!([{"op": "add", "path": "/spec/imagePullSecrets", "value": [{"name": "pullpass"}]}]),
            ),
            "appended" => Some(
                json!([{"op": "add", "path": "/spec/imagePullSecrets/-", "value": {"name": "pullpass"}}]),
            ),
            other => panic!("{name}: no such answer: {other}"),
        };
        assert_eq!(answer.patch(), patch, "{name}");
    }
}

fn router() -> Router {
    webhook(offline(team())).0
}

/// Runs the cases of a row; there must be some.
async fn check_row(row: u32) {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../data/bad_inputs.json")).unwrap();
    let router = router();
    let mut checked = 0;
    for case in cases.iter().filter(|case| case.row == row) {
        case.check(&post(&router, case.body()).await);
        checked += 1;
    }
    assert!(checked > 0, "row {row} has no case");
}

macro_rules! rows {
    ($($row:literal $name:ident,)+) => {
        const ROWS: &[u32] = &[$($row),+];
        $(
            #[tokio::test]
            async fn $name() {
                check_row($row).await;
            }
        )+
    };
}

rows! {
    1 refuses_empty_body,
    2 refuses_truncated_body,
    3 refuses_what_is_not_one_json_object,
    9 refuses_review_without_request,
    10 echoes_uid_or_refuses,
    11 answers_v1beta1_in_v1beta1,
    12 refuses_other_versions_and_kinds,
    13 refuses_response,
    14 patches_dry_run,
    15 reads_dry_run_null_or_missing_as_false,
    16 ignores_user_info,
    17 ignores_options_and_old_object,
    18 leaves_missing_object,
    19 leaves_other_operations,
    20 leaves_subresources,
    21 leaves_other_kinds,
    22 goes_by_namespace_of_request,
    23 patches_pods_without_name,
    24 leaves_pods_without_spec_or_containers,
    25 keeps_pull_secrets_that_are_there,
    27 finds_images_of_all_places,
    28 leaves_pods_without_readable_image,
    29 reads_references_as_the_runtime_does,
    30 never_matches_look_alikes,
    32 survives_keys_with_pointer_characters,
    33 survives_unicode,
    34 refuses_keys_given_twice,
    36 ignores_unknown_fields_and_unrelated_types,
    37 leaves_mirror_pods_and_those_that_opted_out,
    38 leaves_system_and_own_namespaces,
    39 ignores_what_annotations_name,
}

#[test]
fn has_a_test_for_each_row_of_the_data() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../data/bad_inputs.json")).unwrap();
    for case in cases {
        assert!(
            ROWS.contains(&case.row),
            "row {} ({}) is checked by no test",
            case.row,
            case.name
        );
    }
}

#[tokio::test]
async fn refuses_review_cut_off_anywhere() {
    let router = router();
    let body = review().to_string();
    for end in 0..body.len() {
        let answer = post(&router, body[..end].to_owned()).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", &body[..end]);
    }
    for more in ["x", "{}", "\0", "]"] {
        assert_eq!(
            post(&router, format!("{body}{more}")).await.status,
            StatusCode::BAD_REQUEST,
            "{more:?}"
        );
    }
}

#[tokio::test]
async fn answers_large_reviews() {
    let router = router();
    let mut large = review();
    large["request"]["object"]["metadata"]["annotations"] = json!({"a": "x".repeat(200_000)});
    large["request"]["object"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "y".repeat(1_300_000)}]);
    assert!(post(&router, large.to_string()).await.patch().is_some());
    large["request"]["operation"] = json!("UPDATE");
    large["request"]["object"]["spec"]["containers"][0]["env"][0]["value"] =
        json!("y".repeat(3_000_000));
    large["request"]["oldObject"] = large["request"]["object"].clone();
    let body = large.to_string();
    assert!(body.len() > 6_000_000);
    assert_eq!(post(&router, body).await.patch(), None);
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn refuses_wrong_method_path_and_media_type() {
    let router = router();
    let request = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::from(review().to_string())).unwrap()
    };
    let json = ("content-type", "application/json");
    for (method, path, headers, status) in [
        ("GET", "/mutate", &[json][..], 405),
        ("PUT", "/mutate", &[json], 405),
        ("POST", "/", &[json], 404),
        ("POST", "/mutate/", &[json], 404),
        ("POST", "/validate", &[json], 404),
        ("POST", "/mutate", &[], 415),
        ("POST", "/mutate", &[("content-type", "text/plain")], 415),
        (
            "POST",
            "/mutate",
            &[("content-type", "application/yaml")],
            415,
        ),
        (
            "POST",
            "/mutate",
            &[("content-type", "application/jsonx")],
            415,
        ),
        (
            "POST",
            "/mutate",
            &[json, ("content-encoding", "gzip")],
            415,
        ),
        (
            "POST",
            "/mutate",
            &[json, ("content-encoding", "identity")],
            200,
        ),
        (
            "POST",
            "/mutate",
            &[("content-type", "Application/JSON; charset=utf-8")],
            200,
        ),
    ] {
        let answer = send(&router, request(method, path, headers)).await;
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{method} {path} {headers:?}"
        );
    }
}

#[tokio::test]
async fn refuses_or_echoes_huge_uid() {
    let router = router();
    let with_uid = |length: usize| {
        let mut review = review();
        review["request"]["uid"] = json!("u".repeat(length));
        review.to_string()
    };
    assert_eq!(
        post(&router, with_uid(1024)).await.response()["uid"],
        "u".repeat(1024)
    );
    assert_eq!(
        post(&router, with_uid(1025)).await.status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        post(&router, with_uid(1_000_000)).await.status,
        StatusCode::BAD_REQUEST
    );
}

#[tokio::test]
async fn appends_to_two_hundred_pull_secrets() {
    let mut review = review();
    let names = (0..200).map(|number| json!({"name": format!("s{number}")}));
    review["request"]["object"]["spec"]["imagePullSecrets"] = names.collect();
    let patch = post(&router(), review.to_string()).await.patch();
    let expected =
        json!([{"op": "add", "path": "/spec/imagePullSecrets/-", "value": {"name": "pullpass"}}]);
    assert_eq!(patch, Some(expected));
}

#[tokio::test]
async fn leaves_pod_with_image_of_a_megabyte() {
    let mut review = review();
    review["request"]["object"]["spec"]["containers"][0]["image"] =
        json!(format!("{HOST}/team/{}", "a".repeat(1 << 20)));
    assert_eq!(post(&router(), review.to_string()).await.patch(), None);
}

#[tokio::test]
async fn warns_of_capitals_in_a_host_that_is_served() {
    let mut review = review();
    let image = IMAGE.replace("dkr", "DKR");
    review["request"]["object"]["spec"]["containers"][0]["image"] = json!(image);
    let answer = post(&router(), review.to_string()).await;
    assert_eq!(answer.patch(), None);
    assert!(
        answer.warnings()[0].contains("lower case"),
        "{:?}",
        answer.warnings()
    );
    review["request"]["object"]["spec"]["containers"][0]["image"] = json!("REGISTRY.example.com/a");
    assert!(
        post(&router(), review.to_string())
            .await
            .warnings()
            .is_empty()
    );
}

#[tokio::test]
async fn ignores_invalid_utf8_in_fields_that_are_not_read() {
    let body = review()
        .to_string()
        .replace("kubernetes-admin", "REPLACED")
        .into_bytes();
    let at = body
        .windows(8)
        .position(|window| window == b"REPLACED")
        .unwrap();
    for bytes in [
        &[0xff_u8; 8],
        &[0xed, 0xa0, 0x80, b'a', 0xc0, 0xaf, 0xf5, 0x80],
    ] {
        let mut body = body.clone();
        body[at..at + 8].copy_from_slice(bytes);
        assert!(post(&router(), body).await.patch().is_some());
    }
}

/// A review whose text has `unread` in a field that is not read, or in one that is.
fn with_text(read: bool, text: &str) -> String {
    let mut review = review();
    if read {
        review["request"]["object"]["spec"]["imagePullSecrets"] = json!("REPLACED");
    } else {
        review["request"]["object"]["spec"]["affinity"] = json!("REPLACED");
    }
    review.to_string().replacen("\"REPLACED\"", text, 1)
}

#[tokio::test]
async fn bounds_depth_length_and_numbers() {
    let router = router();
    let nested =
        |open: &str, close: &str| format!("{}0{}", open.repeat(10_000), close.repeat(10_000));
    let mut items = "[".to_owned();
    for number in 0..1_000_000 {
        let _ = write!(items, "{number},");
    }
    items.push_str("0]");
    let values = [
        nested("[", "]"),
        nested("{\"a\":", "}"),
        items,
        format!("[{}{{}}]", "{},".repeat(1_000_000)),
        "1".repeat(100_000),
        "1e999999999".to_owned(),
        "-0.0e-99999".to_owned(),
        format!("\"{}\"", "\\u0041".repeat(100_000)),
    ];
    for value in values {
        let start = &value[..value.len().min(20)];
        let answer = post(&router, with_text(false, &value)).await;
        assert!(answer.patch().is_some(), "not read: {start}");
        let answer = post(&router, with_text(true, &value)).await;
        let refused = answer.status == StatusCode::BAD_REQUEST;
        let empty_entries = value.starts_with("[{}");
        assert!(
            refused || empty_entries || answer.patch().is_none(),
            "read: {start}: {}",
            answer.text
        );
    }
}

/// What a review makes of its body is bounded: a Pod with more is left as it is.
#[tokio::test]
async fn leaves_pods_with_more_entries_than_are_kept() {
    let router = router();
    for (entries, patched) in [(4_000, true), (5_000, false)] {
        let map = |prefix: &str| -> Value {
            let entry = |number| (format!("{prefix}{number}"), json!(""));
            Value::Object((0..entries).map(entry).collect())
        };
        for (pointer, value) in [
            ("metadata/labels", map("l")),
            ("metadata/annotations", map("a")),
            ("spec/imagePullSecrets", json!(vec![json!({}); entries])),
            (
                "spec/initContainers",
                json!(vec![json!({"image": IMAGE}); entries]),
            ),
        ] {
            let (object, field) = pointer.split_once('/').unwrap();
            let mut review = review();
            review["request"]["object"][object][field] = value;
            let answer = post(&router, review.to_string()).await;
            assert_eq!(answer.patch().is_some(), patched, "{entries} {pointer}");
        }
    }
}

#[tokio::test]
async fn answers_whatever_timeout_is_said() {
    let router = router();
    for path in [
        "/mutate",
        "/validate-registry",
        "/validate-pod/warn",
        "/validate-pod/deny",
    ] {
        for timeout in [
            "5000000000000000h",
            "99999999999999999999999h",
            "0.000000000000000000001ms",
            "-1h",
            "%",
            "",
        ] {
            let request = Request::post(format!("{path}?timeout={timeout}"))
                .header("content-type", "application/json")
                .body(Body::from(review().to_string()));
            let answer = send(&router, request.unwrap()).await;
            assert_eq!(answer.status, StatusCode::OK, "{path} {timeout}");
        }
    }
}

#[tokio::test]
async fn ignores_annotation_of_a_megabyte() {
    let mut review = review();
    review["request"]["object"]["metadata"]["annotations"] =
        json!({"pullpass.dev/endpoint": "x".repeat(1 << 20)});
    assert!(post(&router(), review.to_string()).await.patch().is_some());
}

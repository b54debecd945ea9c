//! Who reaches the webhook's port, as by default everybody may: what he is answered, and what is done for him, is what the next Pod would be
//! and have. The class of CVE-2025-1974, on a real API server behind a proxy that counts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::TcpListener;

use crate::support;
use serde::Deserialize;
use serde_json::{Value, json};
use support::fixture::{ECR, Fixture};
use support::process::{Pullpass, make_namespace, pod};

const TABLE: &str = include_str!("../data/callers.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    attack: String,
    #[serde(default)]
    method: Option<String>,
    path: String,
    #[serde(default)]
    put: BTreeMap<String, Value>,
    body: Option<String>,
    then: Option<Then>,
    status: Option<u16>,
    #[serde(default)]
    asks: Vec<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Then {
    Unchanged,
    Patched,
    Allowed,
    Denied,
}

/// Two namespaces that opted in, a victim that did not, and a thief that listens.
struct Stage {
    fixture: Fixture,
    shop: String,
    thief: TcpListener,
    rows: Vec<Row>,
    /// What nobody may be told.
    secrets: Vec<String>,
}

impl Stage {
    async fn set() -> Self {
        let fixture = Fixture::alone("callers").await;
        fixture.serve(&[&format!("{ECR}/team")]).await;
        let shop = fixture.namespace("shop").await;
        let fresh = fixture.namespace("fresh").await;
        let victim = fixture.namespace_name("victim");
        make_namespace(&fixture.cluster, &victim, &json!({})).await;
        let canary = "canary-of-the-victim";
        let keys = json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"AWS_SECRET_ACCESS_KEY": canary},
            "metadata": {"name": "keys", "namespace": victim, "labels": {"pullpass.dev/source": "true"}},
        });
        fixture.cluster.apply(&keys).await;
        let thief = TcpListener::bind("127.0.0.1:0").unwrap();
        thief.set_nonblocking(true).unwrap();
        let text = TABLE
            .replace("SHOP", &shop)
            .replace("FRESH", &fresh)
            .replace("VICTIM", &victim)
            .replace("ECR", ECR)
            .replace("THIEF", &thief.local_addr().unwrap().to_string());
        let keys = fixture.user.keys();
        let key = keys["AWS_SECRET_ACCESS_KEY"].as_str().unwrap().to_owned();
        Self {
            secrets: vec![canary.to_owned(), key],
            rows: serde_saphyr::from_str(&text).expect("the table is YAML"),
            fixture,
            shop,
            thief,
        }
    }

    /// The row's request.
    fn body(&self, row: &Row) -> String {
        if let Some(body) = &row.body {
            return body.clone();
        }
        let mut review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "test", "operation": "CREATE", "namespace": self.shop,
                "object": pod(&self.shop, &[&image()]),
                "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "v1", "resource": "pods"},
            },
        });
        for (place, value) in &row.put {
            let (parent, field) = place.rsplit_once('/').unwrap();
            review.pointer_mut(parent).unwrap()[field] = value.clone();
        }
        review.to_string()
    }

    /// Sends the row's request, and compares the answer and what was asked for it.
    async fn attack(&self, pullpass: &Pullpass, row: &Row) {
        let attack = &row.attack;
        let method = row.method.as_deref().unwrap_or("POST").parse().unwrap();
        self.fixture.api.forget();
        let answer = pullpass
            .client()
            .request(method, pullpass.url(&row.path))
            .header("content-type", "application/json")
            .body(self.body(row))
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        assert!(!answer.headers().contains_key("location"), "{attack}");
        let text = answer.text().await.unwrap();
        assert_eq!(status, row.status.unwrap_or(200), "{attack}: {text}");
        for secret in &self.secrets {
            assert!(!text.contains(secret), "{attack}: {text}");
        }
        if let Some(then) = row.then {
            check(attack, then, &serde_json::from_str(&text).unwrap());
        }
        for seen in self.fixture.api.requests() {
            let mut asks = row.asks.iter();
            let is_asked = asks.any(|path| seen.path.starts_with(path));
            assert!(is_asked, "{attack}: {} {}", seen.method, seen.path);
        }
        assert!(
            self.thief.accept().is_err(),
            "{attack}: the thief was called"
        );
    }

    /// All Secrets with what they hold.
    async fn held(&self) -> BTreeMap<String, Value> {
        let all = self.fixture.cluster.get("/api/v1/secrets").await.unwrap();
        let all = all["items"].as_array().unwrap().iter();
        let named = all.map(|secret| {
            let name = |field: &str| secret["metadata"][field].as_str().unwrap();
            (
                format!("{}/{}", name("namespace"), name("name")),
                secret["data"].clone(),
            )
        });
        named.collect()
    }
}

fn image() -> String {
    format!("{ECR}/team/hello:1")
}

fn check(attack: &str, then: Then, answer: &Value) {
    let response = &answer["response"];
    let is_patched = !response["patch"].is_null();
    match then {
        Then::Unchanged => assert_eq!(
            *response,
            json!({"uid": "test", "allowed": true}),
            "{attack}"
        ),
        Then::Patched => assert!(
            response["allowed"] == true && is_patched,
            "{attack}: {answer}"
        ),
        Then::Allowed => assert!(
            response["allowed"] == true && !is_patched,
            "{attack}: {answer}"
        ),
        Then::Denied => assert!(
            response["allowed"] == false && !is_patched,
            "{attack}: {answer}"
        ),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn does_for_a_caller_what_the_next_pod_has_done_and_no_more() {
    let mut stage = Stage::set().await;
    let pullpass = stage.fixture.start().await;
    stage.fixture.wait_served(&stage.shop, &image()).await;
    stage.fixture.create(&stage.shop, &[&image()]).await;
    let login = stage.fixture.user.newest(&stage.fixture.world.moto).await;
    stage.secrets.push(login.unwrap().password);
    let before = stage.held().await;

    for row in &stage.rows {
        stage.attack(&pullpass, row).await;
    }

    let fresh = format!("{}/pullpass", stage.fixture.namespace_name("fresh"));
    let mut after = stage.held().await;
    assert_eq!(
        after.remove(&fresh),
        before.get(&format!("{}/pullpass", stage.shop)).cloned()
    );
    assert_eq!(after, before);
    let log = pullpass.log();
    for secret in &stage.secrets {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(pullpass.is_ready().await);
}

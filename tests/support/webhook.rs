//! The webhook as a function: a review in, an answer out, no network.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use pullpass::admission::{self, Metrics, Webhook};
use pullpass::provision::offline::Offline;
use pullpass::provision::{ExcludedNamespaces, Namespace, Provision};
use pullpass::registry::{Registries, Registry};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::names::name;

/// The host that the Registry `team` serves, below `/team`.
pub const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// An image that the Registry `team` serves.
pub const IMAGE: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/hello:1";

/// The Registries that a YAML text of several documents holds.
pub fn registries(yaml: &str) -> Registries {
    let documents = yaml
        .split("\n---\n")
        .filter(|document| !document.trim().is_empty());
    let registries = Registries::build(
        documents.map(|document| serde_saphyr::from_str::<Registry>(document).unwrap()),
    );
    assert!(
        registries.problems().is_empty(),
        "{:?}",
        registries.problems()
    );
    registries
}

/// One Registry, without injections, for all namespaces.
pub fn team() -> Registries {
    registries(&format!(
        "apiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: team}}\nspec:\n  images: [{HOST}/team]\n  namespaceSelector: {{}}\n  ecr: {{identity: {{workload: {{}}}}}}\n"
    ))
}

/// `shop` (enabled), `everything` (all), `plain` (not opted in), `dying` (enabled, being deleted), and opted-in ones that must be
/// left alone: `kube-system` and pullpass' own.
pub fn namespaces() -> Vec<Namespace> {
    let namespace = |name: &str, inject: &str, terminating| {
        let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), inject.to_owned())]);
        Namespace::new(name.parse().unwrap(), labels, terminating)
    };
    vec![
        namespace("shop", "enabled", false),
        namespace("everything", "all", false),
        Namespace::new(name("plain"), BTreeMap::new(), false),
        namespace("dying", "enabled", true),
        namespace("kube-system", "enabled", false),
        namespace("pullpass", "enabled", false),
    ]
}

/// The namespaces and the Registries, with every pull secret there.
pub fn offline(registries: Registries) -> Arc<Offline> {
    Arc::new(Offline::new(registries, namespaces()))
}

/// The webhook over a provision, and what it counts.
pub fn webhook(provision: Arc<dyn Provision>) -> (Router, Metrics) {
    let metrics = Metrics::default();
    let webhook = Webhook {
        provision,
        excluded: Arc::new(ExcludedNamespaces::new(name("pullpass"), [])),
        metrics: metrics.clone(),
        clock: jiff::Timestamp::now,
    };
    (admission::router(Arc::new(webhook)), metrics)
}

/// A review of a Pod that is patched.
pub fn review() -> Value {
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": "web", "namespace": "shop", "operation": "CREATE",
            "userInfo": {"username": "kubernetes-admin", "groups": ["system:authenticated"]},
            "object": {
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": IMAGE}], "serviceAccountName": "default"},
            },
            "oldObject": null, "dryRun": false, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub text: String,
}

/// Posts a body to the webhook.
pub async fn post(router: &Router, body: impl Into<Body>) -> Answer {
    let request = Request::post("/mutate?timeout=5s").header("content-type", "application/json");
    send(router, request.body(body.into()).unwrap()).await
}

/// Sends a request to the webhook.
pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let answer = router.clone().oneshot(request).await.unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), usize::MAX)
        .await
        .unwrap();
    Answer {
        status,
        text: String::from_utf8(body.to_vec()).unwrap(),
    }
}

impl Answer {
    /// The `response` of the review that came back.
    pub fn response(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let mut review: Value = serde_json::from_str(&self.text).unwrap();
        assert_eq!(review["kind"], "AdmissionReview");
        review["response"].take()
    }

    /// The operations of the patch; `None`: there is none.
    pub fn patch(&self) -> Option<Value> {
        use base64::Engine as _;
        let response = self.response();
        assert_eq!(response["allowed"], true);
        assert_eq!(
            response.get("patch").is_some(),
            response.get("patchType").is_some(),
            "both or none"
        );
        let patch = response.get("patch")?.as_str().unwrap();
        let patch = base64::engine::general_purpose::STANDARD
            .decode(patch)
            .unwrap();
        Some(serde_json::from_slice(&patch).unwrap())
    }

    /// The warnings, without the line that follows them and names the review, where its id is a UUID.
    pub fn warnings(&self) -> Vec<String> {
        let response = self.response();
        let warnings = response.get("warnings").cloned().unwrap_or(json!([]));
        let mut warnings: Vec<String> = serde_json::from_value(warnings).unwrap();
        let uid = response["uid"].as_str().unwrap();
        if uid.len() == 36
            && let Some(last) = warnings.pop()
        {
            let named = format!("pullpass: its log has more under review.uid {uid}");
            assert_eq!(last, named);
        }
        warnings
    }

    /// The warnings in full: a long one comes in several lines.
    pub fn told(&self) -> Vec<String> {
        let lines = self.warnings().join("\n").replace("\n… ", " ");
        lines.lines().map(str::to_owned).collect()
    }
}

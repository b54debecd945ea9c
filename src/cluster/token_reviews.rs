//! What the broker asks of the API server: whose a token is, and what a Pod is like; and what it tells a Pod.

use async_trait::async_trait;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::TokenReviewStatus;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::api::{Mismatch, Objects};
use super::events::{EventNote, EventType, reference_pod};
use super::{Kube, api_error};
use crate::broker::claims::PodIdentity;
use crate::broker::ports::{BrokerCluster, LivePod};
use crate::broker::refusal::Refusal;
use crate::names::{NamespaceName, ObjectName};
use crate::plain_text;
use crate::provision::ports::ClusterError;

/// Where reviews are asked for: they have no name and no namespace.
const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// What messages call one.
const WHAT: &str = "the review of a token";

const API_VERSION: &str = "authentication.k8s.io/v1";
const KIND: &str = "TokenReview";

/// What was done, in Events.
const ACTION: &str = "RefuseLogin";

/// A question whose a token is. The token goes from where it is held into the request.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenReviewRequest<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: ObjectMeta,
    spec: ReviewSpec<'a>,
}

#[derive(Serialize)]
struct ReviewSpec<'a> {
    #[serde(serialize_with = "plain_text::serialize")]
    token: &'a SecretString,
    audiences: [&'a str; 1],
}

/// What is read of the answer, which repeats the token.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reviewed {
    api_version: String,
    kind: String,
    #[serde(default)]
    status: TokenReviewStatus,
}

#[async_trait]
impl BrokerCluster for Kube {
    async fn review_token(
        &self,
        token: &SecretString,
        audience: &str,
    ) -> Result<TokenReviewStatus, ClusterError> {
        let review = TokenReviewRequest {
            api_version: API_VERSION,
            kind: KIND,
            metadata: ObjectMeta::default(),
            spec: ReviewSpec {
                token,
                audiences: [audience],
            },
        };
        let unwritable = |message: String| ClusterError::Unreachable {
            what: WHAT.to_owned(),
            message,
        };
        let body = serde_json::to_vec(&review).map_err(|error| unwritable(error.to_string()))?;
        let request = Request::post(PATH)
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| unwritable(error.to_string()))?;
        let reviewed = api_error::request(WHAT, self.client.request::<Reviewed>(request)).await?;
        if reviewed.api_version != API_VERSION || reviewed.kind != KIND {
            return Err(self.reject(WHAT, &Mismatch::Kind(KIND.to_owned())));
        }
        Ok(reviewed.status)
    }

    async fn fetch_pod(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<LivePod>, ClusterError> {
        let pods = Objects::<Pod>::namespaced(self, namespace);
        let found = pods.get(name).await?;
        Ok(found.map(|pod| {
            let spec = pod.spec.unwrap_or_default();
            LivePod {
                uid: pod.metadata.uid.unwrap_or_default(),
                service_account: spec.service_account_name.unwrap_or_default(),
                node: spec.node_name.unwrap_or_default(),
                labels: pod.metadata.labels.unwrap_or_default(),
            }
        }))
    }

    async fn report(&self, pod: &PodIdentity, refusal: &Refusal, now: Timestamp) {
        let note = describe(pod, refusal);
        self.publish(&note, now).await;
    }
}

/// The Event about a Pod whose kubelet got no login.
fn describe(pod: &PodIdentity, refusal: &Refusal) -> EventNote {
    let event_type = if refusal.reason.is_as_meant() {
        EventType::Normal
    } else {
        EventType::Warning
    };
    EventNote {
        regarding: reference_pod(&pod.namespace, &pod.name, &pod.uid),
        event_type,
        reason: refusal.reason.as_str().into(),
        series: None,
        action: ACTION,
        note: format!(
            "The kubelet asked pullpass for a login and got none: {}",
            refusal.message
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube::Client;
    use serde_json::{Value, json};

    use super::*;

    /// Asks an API server that answers so; gives what it was asked, and what came of it.
    async fn review(answer: Value) -> (String, Result<TokenReviewStatus, ClusterError>) {
        let asked = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (seen, answer) = (Arc::clone(&seen), answer.to_string());
            async move {
                use http_body_util::BodyExt as _;
                let line = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                *seen.lock().unwrap() = format!("{line} {}", String::from_utf8_lossy(&body));
                let body = kube::client::Body::from(answer.into_bytes());
                Ok::<_, std::convert::Infallible>(hyper::Response::new(body))
            }
        });
        let kube = Kube::new(
            Client::new(service, "pullpass"),
            "pullpass".parse().unwrap(),
        );
        let status = kube.review_token(&"a.b.c".into(), "pullpass.dev").await;
        let asked = asked.lock().unwrap().clone();
        (asked, status)
    }

    #[tokio::test]
    async fn asks_whose_a_token_is_for_one_audience() {
        let answer = json!({
            "apiVersion": API_VERSION, "kind": KIND, "metadata": {}, "spec": {"token": "a.b.c"},
            "status": {"authenticated": true, "audiences": ["pullpass.dev"]},
        });
        let (asked, status) = review(answer).await;
        let expected = json!({
            "apiVersion": API_VERSION, "kind": KIND, "metadata": {},
            "spec": {"token": "a.b.c", "audiences": ["pullpass.dev"]},
        });
        let body = asked.strip_prefix(&format!("POST {PATH} ")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
        assert_eq!(status.unwrap().authenticated, Some(true));
    }

    #[tokio::test]
    async fn believes_no_answer_that_is_another_object() {
        for answer in [
            json!({"apiVersion": "v1", "kind": "Pod", "status": {"authenticated": true}}),
            json!({"apiVersion": API_VERSION, "kind": "TokenRequest", "status": {"authenticated": true}}),
            json!({"status": {"authenticated": true}}),
        ] {
            let (_, status) = review(answer.clone()).await;
            let error = status.unwrap_err().to_string();
            assert!(!error.contains("a.b.c"), "{error}");
        }
    }
}

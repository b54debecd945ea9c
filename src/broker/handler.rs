//! `POST /v1/credentials`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use tokio::time::Instant;

use super::claims::PodIdentity;
use super::issuer::{Broker, Issued, Refused};
use super::protocol::PATH;
use super::refusal::{Reason, Refusal};
use crate::server::{PeerAddress, json_body};

/// The broker as an application.
pub fn router(broker: Arc<Broker>) -> Router {
    Router::new().route(PATH, post(answer)).with_state(broker)
}

async fn answer(State(broker): State<Arc<Broker>>, request: Request) -> Response {
    let started = Instant::now();
    let PeerAddress(address) = PeerAddress::of(&request);
    let issued = match json_body::read(request).await {
        Ok(body) => broker.issue(&body, address).await,
        Err((status, text)) => {
            broker
                .metrics
                .count(Some(Reason::Malformed), started.elapsed());
            return (status, text).into_response();
        }
    };
    let refused = issued.as_ref().err().map(|refused| refused.refusal.reason);
    broker.metrics.count(refused, started.elapsed());
    match issued {
        Ok(issued) => {
            log_issued(&issued);
            ([(header::CACHE_CONTROL, "no-store")], Json(issued.response)).into_response()
        }
        Err(refused) => {
            log_refused(&refused);
            broker.report(&refused);
            to_response(&refused.refusal)
        }
    }
}

fn to_response(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.reason.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(refusal.body())).into_response()
}

fn log_issued(issued: &Issued) {
    tracing::debug!(
        pod.namespace = issued.pod.namespace.as_str(),
        pod.name = issued.pod.name.as_str(),
        node.name = issued.pod.node.as_str(),
        registry.name = issued.registry.as_str(),
        "answered a kubelet's request with a login"
    );
}

fn log_refused(Refused { pod, refusal }: &Refused) {
    let name_of = |name: fn(&PodIdentity) -> &str| pod.as_deref().map_or("", name);
    tracing::info!(
        pod.namespace = name_of(|pod| &pod.namespace),
        pod.name = name_of(|pod| &pod.name),
        reason = refusal.reason.as_str(),
        detail = refusal.detail.as_deref().unwrap_or_default(),
        "refused a kubelet's request: {}",
        refusal.message
    );
}

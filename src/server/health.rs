//! Health and metrics, on a plain port of their own.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

use super::shutdown::Drain;

/// `/livez`, `/readyz` and `/metrics`.
///
/// Alive is who answers at all. Ready is who is prepared and not leaving ([`Drain::is_ready`]).
pub fn router(drain: Drain, metrics: Arc<Registry>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(drain))
        .route("/metrics", get(show_metrics).with_state(metrics))
}

async fn readyz(State(drain): State<Drain>) -> (StatusCode, &'static str) {
    if drain.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// <https://prometheus.io/docs/specs/om/open_metrics_spec/>
async fn show_metrics(State(metrics): State<Arc<Registry>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &metrics) {
        Ok(()) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the metrics cannot be written: {error}\n"),
        )
            .into_response(),
    }
}

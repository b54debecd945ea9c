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
/// Alive is who answers at all. Ready is who is prepared and not leaving ([`Drain::is_ready`]); who is not says why.
pub fn router(drain: Drain, metrics: Arc<Registry>) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(drain))
        .route("/metrics", get(show_metrics).with_state(metrics))
}

async fn readyz(State(drain): State<Drain>) -> (StatusCode, String) {
    if drain.is_ready() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let obstacles = match drain.obstacles() {
        obstacles if obstacles.is_empty() => String::new(),
        obstacles => format!(": {obstacles}"),
    };
    (
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready{obstacles}\n"),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_why_it_is_not_ready() {
        let drain = Drain::default();
        let told = async || readyz(State(drain.clone())).await.1;
        assert_eq!(told().await, "not ready\n");
        drain.set_obstacle("user", Some("somebody else".to_owned()));
        drain.set_obstacle("caches", Some("waiting".to_owned()));
        assert_eq!(told().await, "not ready: waiting; somebody else\n");
        drain.set_obstacle("caches", None);
        assert_eq!(told().await, "not ready: somebody else\n");
        drain.set_obstacle("user", None);
        drain.set_prepared();
        assert_eq!(told().await, "ok\n");
    }
}

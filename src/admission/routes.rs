//! Which path of the webhook's server is for what.

use std::sync::Arc;

use axum::Router;
use axum::routing::post;

use super::handler::{Webhook, admit};
use super::validate;

/// The webhook as an application: `POST /mutate`, and what validates.
pub fn router(webhook: Arc<Webhook>) -> Router {
    Router::new()
        .route("/mutate", post(admit))
        .route("/validate-registry", post(validate::registry))
        .route("/validate-pod/warn", post(validate::warn_pod))
        .route("/validate-pod/deny", post(validate::deny_pod))
        .with_state(webhook)
}

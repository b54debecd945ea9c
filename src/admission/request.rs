//! The HTTP side of a review: what is accepted, and how long the caller waits.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use jiff::SignedDuration;
use tokio::time::Instant;

use super::review::Review;
use crate::server::json_body;
pub(super) use crate::server::json_body::HttpRejection;

/// How long kube-apiserver waits when it does not say.
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that kube-apiserver waits for any webhook; what says more is no API server.
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// What is kept of the caller's patience for the way back.
const RESPONSE_MARGIN: Duration = Duration::from_millis(200);

/// The body, and until when the caller waits for an answer.
pub(super) async fn read(request: Request) -> Result<(Bytes, Instant), HttpRejection> {
    let deadline = Instant::now() + budget(request.uri());
    Ok((json_body::read(request).await?, deadline))
}

/// The review in a body.
pub(super) fn parse(body: &[u8]) -> Result<Review<'_>, HttpRejection> {
    match std::panic::catch_unwind(|| Review::parse(body)) {
        Ok(review) => review.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n"))),
        Err(_) => Err(panicked()),
    }
}

/// Reading panicked: nothing is known of the request, so there is no review to answer.
pub(super) fn panicked() -> HttpRejection {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "reading the request panicked: this is a bug\n".to_owned(),
    )
}

/// How much time there is for an answer: what kube-apiserver says in the URL (`?timeout=10s`), less the way back.
fn budget(uri: &Uri) -> Duration {
    let pairs = uri.query().unwrap_or_default().split('&');
    let timeout = pairs
        .filter_map(|pair| pair.strip_prefix("timeout="))
        .find_map(parse_duration);
    let patience = timeout
        .filter(|timeout| !timeout.is_zero())
        .unwrap_or(DEFAULT_TIMEOUT)
        .min(MAX_TIMEOUT);
    patience.saturating_sub(RESPONSE_MARGIN.min(patience / 5))
}

/// Reads a duration as Go writes it, such as `10s`, `1m30s`, `1.5s` or `500ms`; none that is negative.
/// <https://pkg.go.dev/time#ParseDuration>
fn parse_duration(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_time_for_the_way_back() {
        for (uri, milliseconds) in [
            ("/mutate?timeout=10s", 9800),
            ("/mutate?a=b&timeout=1m10ms", 29_800),
            ("/mutate?timeout=30s", 29_800),
            ("/mutate?timeout=31s", 29_800),
            ("/mutate?timeout=2000000000000000h", 29_800),
            ("/mutate?timeout=1.5s", 1300),
            ("/mutate?timeout=500ms", 400),
            ("/mutate", 9800),
            ("/mutate?timeout=", 9800),
            ("/mutate?timeout=0s", 9800),
            ("/mutate?timeout=-5s", 9800),
            ("/mutate?timeout=10", 9800),
            ("/mutate?timeout=1e9s", 9800),
            ("/mutate?timeout=99999999999999999999999h", 9800),
        ] {
            assert_eq!(
                budget(&uri.parse().unwrap()),
                Duration::from_millis(milliseconds),
                "{uri}"
            );
        }
    }
}

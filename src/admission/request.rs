//! The HTTP side of a review: what is accepted, and how long the caller waits.

use std::error::Error;
use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use http_body_util::LengthLimitError;
use jiff::SignedDuration;
use tokio::time::Instant;

use super::review::Review;

/// How long kube-apiserver waits when it does not say.
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that kube-apiserver waits for any webhook; what says more is no API server.
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#timeouts>
const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// What is kept of the caller's patience for the way back.
const RESPONSE_MARGIN: Duration = Duration::from_millis(200);

/// A request that is refused: the status and the text for people.
pub(super) type HttpRejection = (StatusCode, String);

/// Checks that the body is said to be plain JSON.
fn check_headers(headers: &HeaderMap) -> Result<(), HttpRejection> {
    let refuse = |text: &str| Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text.to_owned()));
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return refuse("the body must be application/json: set content-type\n");
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            refuse("the body must not be compressed: leave content-encoding out\n")
        }
        _ => Ok(()),
    }
}

/// The body, and until when the caller waits for an answer.
pub(super) async fn read(request: Request) -> Result<(Bytes, Instant), HttpRejection> {
    let deadline = Instant::now() + budget(request.uri());
    check_headers(request.headers())?;
    Ok((read_body(request.into_body()).await?, deadline))
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

/// Waits for the whole body; the server holds it to its limit and deadline.
async fn read_body(body: Body) -> Result<Bytes, HttpRejection> {
    axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(|error| rejection_of(&error))
}

fn rejection_of(error: &axum::Error) -> HttpRejection {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is too long\n".to_owned(),
            );
        }
        match error.downcast_ref::<io::Error>().map(io::Error::kind) {
            Some(io::ErrorKind::TimedOut) => {
                return (
                    StatusCode::REQUEST_TIMEOUT,
                    "timed out reading the body\n".to_owned(),
                );
            }
            Some(io::ErrorKind::QuotaExceeded) => {
                return (
                    StatusCode::TOO_MANY_REQUESTS,
                    "too many requests in flight: retry\n".to_owned(),
                );
            }
            _ => {}
        }
        cause = error.source();
    }
    (
        StatusCode::BAD_REQUEST,
        "the body could not be read\n".to_owned(),
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

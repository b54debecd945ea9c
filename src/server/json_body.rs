//! A request whose body is JSON: what is accepted, and what is said where it cannot be read.

use std::error::Error;
use std::io;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::LengthLimitError;

/// A request that is refused: the status and the text for people.
pub type HttpRejection = (StatusCode, String);

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

/// The body of a request that says it is plain JSON; the server holds it to its limit and deadline.
///
/// # Errors
/// It is said to be something else, too long, too slow, or there is no place for it now.
pub async fn read(request: Request) -> Result<Bytes, HttpRejection> {
    check_headers(request.headers())?;
    read_body(request.into_body()).await
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

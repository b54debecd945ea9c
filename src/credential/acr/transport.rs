//! The one request of a credential of Azure's SDK, sent by our own HTTP client.

use std::fmt;

use async_trait::async_trait;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, StatusCode};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Map, Value};

use super::client::Client;
use crate::credential::MintError;
use crate::credential::http::Reply;

/// How much of an answer without a token is kept: Entra ID's errors have about a kilobyte.
const MAX_ERROR_BODY: usize = 4 * 1024;
/// The longest life in seconds that the SDK hears of. It adds what an answer says to the present without a bound, and panics.
const MAX_LIFE: u64 = 24 * 60 * 60;

/// Sends one request for a token of Entra ID, to the place that was checked, and keeps how that went: status, Retry-After and a
/// refusal's words are lost in the SDK's errors. It follows no redirect, and a second request is refused: only
/// [`crate::credential::cache`] tries again.
pub(super) struct Transport {
    client: Client,
    /// Where the request goes, whatever the SDK makes of it.
    url: String,
    answer: Mutex<Option<Result<Reply, MintError>>>,
}

impl Transport {
    pub(super) fn new(client: Client, url: String) -> Self {
        let answer = Mutex::new(None);
        Self {
            client,
            url,
            answer,
        }
    }

    /// What was answered; `None` when nothing was asked.
    pub(super) fn take_answer(&self) -> Option<Result<Reply, MintError>> {
        self.answer().take()
    }

    fn answer(&self) -> MutexGuard<'_, Option<Result<Reply, MintError>>> {
        self.answer.lock()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Transport")
    }
}

#[async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let Body::Bytes(form) = request.body() else {
            return Err(refuse("a token is asked for by a form"));
        };
        if self.answer().is_some() {
            return Err(refuse("one request was sent already"));
        }
        let answer = self.client.post_form(&self.url, form.to_vec()).await;
        let (kept, passed) = match answer {
            Ok(reply) if reply.status == 200 => {
                let passed = bound_life(&reply.body).unwrap_or_else(|| reply.body.clone());
                (Ok(reply.cut(0)), Ok(passed))
            }
            Ok(reply) => (Ok(reply.cut(MAX_ERROR_BODY)), Err(refuse("no token"))),
            Err(error) => (Err(error), Err(refuse("no answer"))),
        };
        *self.answer() = Some(kept);
        passed.map(|body| AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), body))
    }
}

/// An error that the SDK neither retries nor explains: what happened is kept here.
fn refuse(what: &'static str) -> azure_core::Error {
    azure_core::Error::with_message(azure_core::error::ErrorKind::Other, what)
}

/// The answer with nothing but its token and a life that can be added to a date; `None` when it is no JSON object.
fn bound_life(body: &[u8]) -> Option<Vec<u8>> {
    let mut answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let life = answer.get("expires_in").and_then(Value::as_u64);
    answer.retain(|key, value| key == "access_token" && !value.is_null());
    let life = life.unwrap_or_default().min(MAX_LIFE);
    answer.insert("expires_in".to_owned(), life.into());
    serde_json::to_vec(&answer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_what_the_sdk_hears_of_a_life() {
        for (said, heard) in [
            (r#","expires_in":3599"#, 3599),
            (r#","expires_in":99999999999999"#, 86_400),
            (r#","expires_in":-1"#, 0),
            (r#","expires_in":1e300"#, 0),
            (r#","expires_in":"3599""#, 0),
            (r#","expires_in":null,"token_type":null"#, 0),
            ("", 0),
        ] {
            let body = format!(r#"{{"access_token":"t"{said}}}"#);
            let bounded = bound_life(body.as_bytes()).unwrap();
            let expected = format!(r#"{{"access_token":"t","expires_in":{heard}}}"#);
            assert_eq!(String::from_utf8(bounded).unwrap(), expected, "{said}");
        }
        assert_eq!(bound_life(b"<html>"), None);
        assert_eq!(bound_life(b"[]"), None);
    }
}

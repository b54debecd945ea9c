//! Requests to Entra ID, login servers and instance metadata, and the errors common to all of them.

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::credential::http::{FetchError, HttpClient, Reply, Route};
use crate::credential::outgoing::{FormBody, build_request};
use crate::credential::service_call::ServiceCall;
use crate::credential::{MintError, MintTimeouts};
use crate::plain_text;

/// Sends the requests of one mint; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) http: HttpClient,
    pub(super) deadline: Instant,
    pub(super) timeouts: MintTimeouts,
}

impl Client {
    /// Posts a form over https and reads the answer, whatever its status is. Redirects are not followed.
    pub(super) async fn post(&self, url: &str, form: FormBody) -> Result<Reply, MintError> {
        self.post_form(url, form.encode().into_bytes()).await
    }

    /// Posts a form that is encoded already.
    pub(super) async fn post_form(&self, url: &str, form: Vec<u8>) -> Result<Reply, MintError> {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
        ];
        self.send(Route::Cloud, "POST", url, &headers, form).await
    }

    /// Asks a service of this machine.
    pub(super) async fn get(
        &self,
        url: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Reply, MintError> {
        self.send(Route::Machine, "GET", url, headers, Vec::new())
            .await
    }

    async fn send(
        &self,
        route: Route,
        method: &'static str,
        url: &str,
        headers: &[(&'static str, &'static str)],
        body: Vec<u8>,
    ) -> Result<Reply, MintError> {
        let request = build_request(method, url, headers, None, body)
            .map_err(|problem| MintError::Configuration { problem })?;
        let attempt = match route {
            Route::Cloud => self.timeouts.cloud,
            Route::Machine => self.timeouts.machine,
        };
        let deadline = self.deadline.min(Instant::now() + attempt);
        self.http
            .exchange(route, request, deadline)
            .await
            .map_err(|error| {
                let host = host_of(url);
                match error {
                    FetchError::Timeout => MintError::Timeout { host },
                    FetchError::Network(detail) => MintError::Network { host, detail },
                }
            })
    }
}

/// The host (and port) of a URL.
pub(super) fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default().to_owned()
}

/// An answer that holds a token of Entra ID.
#[derive(Deserialize)]
pub(super) struct EntraTokenResponse {
    pub(super) access_token: Option<String>,
}

/// Reads the JSON of an answer.
pub(super) fn parse<T: DeserializeOwned>(
    call: &ServiceCall<'_>,
    reply: &Reply,
) -> Result<T, MintError> {
    serde_json::from_slice(&reply.body).map_err(|_| bad_json(call, reply))
}

/// An answer that is not the JSON of a token.
pub(super) fn bad_json(call: &ServiceCall<'_>, reply: &Reply) -> MintError {
    call.bad(format!("HTTP {} without the JSON of a token", reply.status))
}

/// The token of an answer, if it can be one.
pub(super) fn check_token(
    call: &ServiceCall<'_>,
    token: Option<SecretString>,
) -> Result<SecretString, MintError> {
    token
        .filter(plain_text::is_token)
        .ok_or_else(|| call.bad("its token is empty or not printable".to_owned()))
}

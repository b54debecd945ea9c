//! Requests to Entra ID, login servers and instance metadata, and the errors common to all of them.

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::credential::MintError;
use crate::credential::http::{ATTEMPT_TIMEOUT, FetchError, HttpClient, Reply, Route};
use crate::credential::outgoing::{FormBody, Sent, build_request};
use crate::plain_text;

/// Sends the requests of one mint; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) http: HttpClient,
    pub(super) deadline: Instant,
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
        let deadline = self.deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
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

/// One request, for the messages about its failure.
pub(crate) struct AzureCall<'a> {
    /// The host that was asked.
    pub(crate) host: String,
    /// Who asked.
    pub(crate) principal: &'a str,
    /// What was sent.
    pub(crate) sent: Sent<'a>,
}

impl AzureCall<'_> {
    /// Reads the answer's JSON.
    pub(super) fn parse<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, MintError> {
        serde_json::from_slice(&reply.body).map_err(|_| self.bad_json(reply))
    }

    /// An answer that is not the JSON of a token.
    pub(super) fn bad_json(&self, reply: &Reply) -> MintError {
        self.bad(format!("HTTP {} without the JSON of a token", reply.status))
    }

    /// The token of an answer, if it can be one.
    pub(super) fn check_token(
        &self,
        token: Option<SecretString>,
    ) -> Result<SecretString, MintError> {
        token
            .filter(plain_text::is_token)
            .ok_or_else(|| self.bad("its token is empty or not printable".to_owned()))
    }

    pub(super) fn bad(&self, problem: String) -> MintError {
        MintError::BadAnswer {
            host: self.host.clone(),
            problem,
        }
    }

    /// What an HTTP status means that no service of Azure explains further.
    pub(super) fn explain_status(&self, reply: &Reply, words: &str) -> MintError {
        let (host, principal) = (self.host.clone(), self.principal.to_owned());
        let code = format!("HTTP {}", reply.status);
        let retry_after = reply.retry_after;
        match reply.status {
            429 => MintError::Throttled {
                host,
                principal,
                code,
                retry_after,
            },
            300..=399 => self.bad(format!("{code}: redirects are never followed")),
            500..=599 => MintError::Refused {
                host,
                principal,
                code,
                answer: if words.is_empty() {
                    "nothing to do, retrying".to_owned()
                } else {
                    self.words(words)
                },
                retry_after,
            },
            _ if words.is_empty() => self.bad(format!("{code} without an error of Azure's form")),
            _ => MintError::Refused {
                host,
                principal,
                code,
                answer: self.words(words),
                retry_after,
            },
        }
    }

    /// The other side's own words, unless they repeat a secret.
    pub(super) fn words(&self, text: &str) -> String {
        self.sent.show(text)
    }
}

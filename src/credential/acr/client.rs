//! Requests to Entra ID, login servers and instance metadata, and the errors common to all of them.

use std::fmt::Write as _;

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::credential::MintError;
use crate::credential::http::{ATTEMPT_TIMEOUT, FetchError, HttpClient, Reply, Route, one_line};

/// Sends the requests of one mint.
pub(super) struct Client<'a> {
    pub(super) http: &'a HttpClient,
    pub(super) deadline: Instant,
}

impl Client<'_> {
    /// Posts a form over https and reads the answer, whatever its status is. Redirects are not followed.
    pub(super) async fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<Reply, MintError> {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("accept", "application/json"),
        ];
        let request = request("POST", url, &headers, encode(form))?;
        self.send(Route::Cloud, url, request).await
    }

    /// Asks a service of this machine.
    pub(super) async fn get(
        &self,
        url: &str,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Reply, MintError> {
        let request = request("GET", url, headers, String::new())?;
        self.send(Route::Machine, url, request).await
    }

    async fn send(
        &self,
        route: Route,
        url: &str,
        request: HttpRequest,
    ) -> Result<Reply, MintError> {
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

fn request(
    method: &str,
    url: &str,
    headers: &[(&'static str, &'static str)],
    body: String,
) -> Result<HttpRequest, MintError> {
    let bad = |what: &str| MintError::Configuration {
        problem: format!("{what} is not valid in a request"),
    };
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method(method).map_err(|_| bad(method))?;
    request.set_uri(url).map_err(|_| bad(url))?;
    for (name, value) in headers {
        let set = request.headers_mut().try_insert(*name, *value);
        set.map_err(|_| bad(name))?;
    }
    Ok(request)
}

/// The host (and port) of a URL.
pub(super) fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default().to_owned()
}

/// A form's body.
pub(super) fn encode(form: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (at, (name, value)) in form.iter().enumerate() {
        if at > 0 {
            body.push('&');
        }
        encode_into(&mut body, name);
        body.push('=');
        encode_into(&mut body, value);
    }
    body
}

fn encode_into(body: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            body.push(char::from(byte));
        } else {
            write!(body, "%{byte:02X}").expect("a String takes all that is written to it");
        }
    }
}

/// An answer that holds a token of Entra ID.
#[derive(Deserialize)]
pub(super) struct EntraTokenResponse {
    pub(super) access_token: Option<String>,
}

/// One request, for the messages about its failure.
pub(super) struct AzureCall<'a> {
    /// The host that was asked.
    pub(super) host: String,
    /// Who asked.
    pub(super) principal: &'a str,
    /// What was sent that an answer must not repeat into a message.
    pub(super) secret: &'a str,
}

impl AzureCall<'_> {
    /// Reads the answer's JSON.
    pub(super) fn parse<T: DeserializeOwned>(&self, reply: &Reply) -> Result<T, MintError> {
        serde_json::from_slice(&reply.body)
            .map_err(|_| self.bad(format!("HTTP {} without the JSON of a token", reply.status)))
    }

    /// The token of an answer, if it can be one.
    pub(super) fn check_token(&self, token: Option<String>) -> Result<String, MintError> {
        let is_token =
            |token: &String| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        token
            .filter(is_token)
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
        let line = one_line(text);
        if repeats(&line, self.secret) {
            "an answer that is not shown because it repeats a secret".to_owned()
        } else {
            line
        }
    }
}

/// Whether a text contains a part of a secret, as it is or as it was sent: 16 bytes in a row, or all of a shorter one.
fn repeats(text: &str, secret: &str) -> bool {
    const PART: usize = 16;
    let mut sent = String::new();
    encode_into(&mut sent, secret);
    [secret, &sent].into_iter().any(|form| {
        let length = form.len().min(PART);
        length > 0
            && form
                .as_bytes()
                .windows(length)
                .any(|part| text.as_bytes().windows(length).any(|found| found == part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_words_that_repeat_a_part_of_a_secret() {
        let secret = "a+secret/that~is&long=enough";
        for text in [
            "you sent a+secret/that~is&long=enough to me",
            "you sent client_secret=a%2Bsecret%2Fthat~is%26long%3Denough",
            "cut off: a+secret/that~is&lon",
            "its end: that~is&long=enough",
        ] {
            assert!(repeats(text, secret), "{text}");
        }
        assert!(repeats("it is short.", "short"));
        for text in ["", "you sent a secret that is long enough", "a+secret"] {
            assert!(!repeats(text, secret), "{text}");
        }
        assert!(!repeats("anything", ""));
    }
}

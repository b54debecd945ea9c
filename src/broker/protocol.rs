//! What the kubelet, the plug-in and the broker say to each other. Pure.
//!
//! The plug-in hands on what the kubelet asks, and answers what the broker does; the types are the kubelet's own,
//! [`credentialprovider.kubelet.k8s.io/v1`](https://kubernetes.io/docs/reference/config-api/kubelet-credentialprovider.v1/).

use std::collections::BTreeMap;

use jiff::SignedDuration;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::plain_text;

/// Whom the kubelet's tokens are for: `serviceAccountTokenAudience` of its configuration.
pub const AUDIENCE: &str = "pullpass.dev";

/// Where the broker answers, by POST.
pub const PATH: &str = "/v1/credentials";

/// The `apiVersion` of requests and answers.
pub const API_VERSION: &str = "credentialprovider.kubelet.k8s.io/v1";

/// The longest request, in bytes: a token, an image, and the annotations that the kubelet was told to send, which nothing here reads.
pub const REQUEST_MAX: usize = 64 * 1024;

/// The longest answer, in bytes.
pub const ANSWER_MAX: usize = 256 * 1024;

const REQUEST_KIND: &str = "CredentialProviderRequest";
const RESPONSE_KIND: &str = "CredentialProviderResponse";

/// What the kubelet asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialRequest {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    /// The image, without tag and digest.
    #[serde(default)]
    pub image: String,
    /// The token of the Pod that pulls; empty where the kubelet was not told to send one.
    #[serde(default, deserialize_with = "plain_text::deserialize")]
    pub service_account_token: SecretString,
}

/// Why bytes are no request. They may hold a token: nothing of them is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// It cannot be read as JSON of this form.
    #[error("it is no {REQUEST_KIND} in JSON (line {line}, column {column})")]
    Unreadable {
        /// Where it goes wrong.
        line: usize,
        /// Where it goes wrong.
        column: usize,
    },
    /// It is another object.
    #[error(
        "it is no {REQUEST_KIND} of {API_VERSION}: write this apiVersion into the CredentialProviderConfig"
    )]
    WrongKind,
    /// It names no image.
    #[error("the request names no image")]
    NoImage,
    /// It has no token.
    #[error(
        "the request has no ServiceAccount token: write tokenAttributes into the CredentialProviderConfig"
    )]
    NoToken,
}

impl CredentialRequest {
    /// Reads a request that has all that is needed.
    ///
    /// # Errors
    /// [`ProtocolError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let read: Self = serde_json::from_slice(bytes).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            ProtocolError::Unreadable { line, column }
        })?;
        if read.api_version != API_VERSION || read.kind != REQUEST_KIND {
            return Err(ProtocolError::WrongKind);
        }
        if read.image.is_empty() {
            return Err(ProtocolError::NoImage);
        }
        if !plain_text::is_token(&read.service_account_token) {
            return Err(ProtocolError::NoToken);
        }
        Ok(read)
    }
}

/// The answer to a request: one login for the image that was asked about.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialResponse {
    api_version: &'static str,
    kind: &'static str,
    cache_key_type: &'static str,
    cache_duration: String,
    auth: BTreeMap<String, AuthConfig>,
}

/// One login.
#[derive(Debug, Serialize)]
pub struct AuthConfig {
    /// The user name.
    pub username: String,
    /// The password; never shown.
    #[serde(serialize_with = "plain_text::serialize")]
    pub password: SecretString,
}

impl CredentialResponse {
    /// A login for this image alone, which the kubelet may keep for so long.
    pub fn new(image: String, login: AuthConfig, cache_duration: SignedDuration) -> Self {
        Self {
            api_version: API_VERSION,
            kind: RESPONSE_KIND,
            // Another image of the same registry may be another Registry's.
            cache_key_type: "Image",
            cache_duration: format!("{}s", cache_duration.as_secs()),
            auth: BTreeMap::from([(image, login)]),
        }
    }
}

/// Whether bytes are an answer that the kubelet takes.
pub fn is_response(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head<'a> {
        api_version: &'a str,
        kind: &'a str,
    }
    let head = serde_json::from_slice::<Head<'_>>(bytes);
    head.is_ok_and(|head| head.api_version == API_VERSION && head.kind == RESPONSE_KIND)
}

/// Why there is no answer, as the broker says it to the plug-in.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct RefusalBody {
    /// One word.
    pub reason: String,
    /// What to do.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request() -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": REQUEST_KIND, "image": "a.example/b",
            "serviceAccountToken": "a.b.c", "serviceAccountAnnotations": {"x": "y"},
        })
    }

    #[test]
    fn reads_what_the_kubelet_asks_and_nothing_less() {
        let read = CredentialRequest::parse(request().to_string().as_bytes()).unwrap();
        assert_eq!(read.image, "a.example/b");
        for (field, value, expected) in [
            ("apiVersion", json!("v1"), ProtocolError::WrongKind),
            ("kind", json!("Pod"), ProtocolError::WrongKind),
            ("image", json!(""), ProtocolError::NoImage),
            ("serviceAccountToken", json!(""), ProtocolError::NoToken),
            ("serviceAccountToken", json!("a b"), ProtocolError::NoToken),
        ] {
            let mut request = request();
            request[field] = value;
            let refused = CredentialRequest::parse(request.to_string().as_bytes());
            assert_eq!(refused.unwrap_err(), expected, "{request}");
            request.as_object_mut().unwrap().remove(field);
            let refused = CredentialRequest::parse(request.to_string().as_bytes());
            assert_eq!(refused.unwrap_err(), expected, "{request}");
        }
    }

    #[test]
    fn repeats_nothing_of_what_it_cannot_read() {
        for text in [
            r#"{"kind": {"canary": 1}}"#,
            r#"["canary"]"#,
            "canary",
            r#"{"image": "canary""#,
        ] {
            let error = CredentialRequest::parse(text.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        let shown = format!(
            "{:?}",
            CredentialRequest::parse(request().to_string().as_bytes())
        );
        assert!(!shown.contains("a.b.c"), "{shown}");
    }

    #[test]
    fn writes_an_answer_for_one_image() {
        let login = AuthConfig {
            username: "AWS".to_owned(),
            password: "p\"w".into(),
        };
        let response =
            CredentialResponse::new("a/b".to_owned(), login, SignedDuration::from_secs(90));
        assert!(!format!("{response:?}").contains("p\"w"));
        let bytes = serde_json::to_vec(&response).unwrap();
        assert!(is_response(&bytes) && !is_response(b"{}") && !is_response(b"<html>"));
        let expected = json!({
            "apiVersion": API_VERSION, "kind": RESPONSE_KIND, "cacheKeyType": "Image", "cacheDuration": "90s",
            "auth": {"a/b": {"username": "AWS", "password": "p\"w"}},
        });
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    }
}

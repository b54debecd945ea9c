//! The node's role by instance metadata, version 2 only.

use std::time::Duration;

use secrecy::SecretString;
use tokio::time::Instant;

use super::metadata::MetadataCredentials;
use super::{Session, SessionRequest};
use crate::credential::MintError;
use crate::credential::answers::{Service, Signer};
use crate::credential::http::{FetchError, HttpClient, Route};
use crate::credential::one_line::one_line;
use crate::credential::outgoing::{Sent, build_request};
use crate::credential::service_call::ServiceCall;
use crate::plain_text;

const ENDPOINT: &str = "http://169.254.169.254";
/// The same where the node has IPv6 addresses alone.
pub(super) const ENDPOINT_IPV6: &str = "http://[fd00:ec2::254]";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// How long the metadata token holds; it is used for two requests.
const TOKEN_SECONDS: &str = "60";

/// Asks the instance metadata service for the node's session. The session is the same for everybody on the node and is renewed
/// when the service likes, not on demand.
///
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>
pub(super) async fn open(session_request: &SessionRequest<'_>) -> Result<Session, MintError> {
    let endpoint = session_request
        .environment
        .metadata_endpoint
        .as_deref()
        .unwrap_or(ENDPOINT)
        .trim_end_matches('/');
    let service = MetadataService {
        http: session_request.http,
        endpoint,
        deadline: session_request.deadline,
        attempt: session_request.timeouts.machine,
    };
    let token = service.token().await?;
    let role = service.text(ROLES, &token).await?;
    let role = role.lines().next().unwrap_or_default().trim();
    if role.is_empty() || role.contains(['/', '?', '#', ' ']) {
        return Err(service.bad("it names no role".to_owned()));
    }
    let body = service.text(&format!("{ROLES}{role}"), &token).await?;
    let (credentials, expires_at) = MetadataCredentials::parse(body.as_bytes())
        .and_then(|answer| answer.into_credentials("node"))
        .map_err(|problem| service.bad(problem))?;
    Ok(Session {
        credentials,
        expires_at: Some(expires_at),
        principal: format!("node role {}", one_line(role)),
        on_demand: false,
        signer: Signer::Node,
    })
}

/// The instance metadata service.
struct MetadataService<'a> {
    http: &'a HttpClient,
    endpoint: &'a str,
    deadline: Instant,
    attempt: Duration,
}

impl MetadataService<'_> {
    /// What every other request must show.
    async fn token(&self) -> Result<SecretString, MintError> {
        let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)];
        let answer = self.ask("PUT", "/latest/api/token", &ttl, None).await?;
        let is_page = answer.starts_with('<');
        let token = SecretString::from(answer);
        if is_page || !plain_text::is_token(&token) {
            return Err(self.bad("its token is none".to_owned()));
        }
        Ok(token)
    }

    /// What it says at a path.
    async fn text(&self, path: &str, token: &SecretString) -> Result<String, MintError> {
        let token = Some(("x-aws-ec2-metadata-token", token));
        self.ask("GET", path, &[], token).await
    }

    /// One request's answer as text.
    async fn ask(
        &self,
        method: &'static str,
        path: &str,
        headers: &[(&'static str, &str)],
        token: Option<(&'static str, &SecretString)>,
    ) -> Result<String, MintError> {
        let url = format!("{}{path}", self.endpoint);
        let request = build_request(method, &url, headers, token, Vec::new())
            .map_err(|problem| self.bad(problem))?;
        let deadline = self.deadline.min(Instant::now() + self.attempt);
        let call = ServiceCall {
            service: Service::Ec2,
            host: self.endpoint.to_owned(),
            principal: "the node's role",
            signer: None,
            permission: "",
            sent: token.map_or(Sent::Nothing, |(_, token)| Sent::Text(token)),
        };
        match self.http.exchange(Route::Machine, request, deadline).await {
            Ok(reply) if reply.status == 200 => {
                String::from_utf8(reply.body).map_err(|_| self.bad("it is not text".to_owned()))
            }
            Ok(reply) => Err(call.explain(&reply)),
            Err(FetchError::Timeout) => Err(none(format!(
                "{} does not answer: raise the hop limit of the node's instance metadata to 2, or run pullpass on the host network",
                self.endpoint
            ))),
            Err(error) => Err(call.explain_silence(error)),
        }
    }

    fn bad(&self, problem: String) -> MintError {
        MintError::BadAnswer {
            host: self.endpoint.to_owned(),
            problem,
        }
    }
}

fn none(problem: String) -> MintError {
    MintError::NoIdentity {
        identity: "node",
        problem,
    }
}

//! The node's role by instance metadata, version 2 only.

use std::time::Duration;

use tokio::time::Instant;

use super::metadata::MetadataCredentials;
use super::{Session, SessionRequest};
use crate::credential::MintError;
use crate::credential::answers::{Service, Signer};
use crate::credential::http::{FetchError, HttpClient, Route, build_request, one_line};
use crate::credential::service_call::ServiceCall;

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
    let ttl = (
        "x-aws-ec2-metadata-token-ttl-seconds",
        TOKEN_SECONDS.to_owned(),
    );
    let token = service.text("PUT", "/latest/api/token", ttl).await?;
    if token.is_empty()
        || token.starts_with('<')
        || !token.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(service.bad("its token is none".to_owned()));
    }
    let header = || ("x-aws-ec2-metadata-token", token.clone());
    let role = service.text("GET", ROLES, header()).await?;
    let role = role.lines().next().unwrap_or_default().trim();
    if role.is_empty() || role.contains(['/', '?', '#', ' ']) {
        return Err(service.bad("it names no role".to_owned()));
    }
    let body = service
        .text("GET", &format!("{ROLES}{role}"), header())
        .await?;
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
    /// One request's answer as text.
    async fn text(
        &self,
        method: &'static str,
        path: &str,
        header: (&'static str, String),
    ) -> Result<String, MintError> {
        let url = format!("{}{path}", self.endpoint);
        let secret = header.1.clone();
        let request = build_request(method, &url, [header], Vec::new())
            .map_err(|problem| self.bad(problem))?;
        let deadline = self.deadline.min(Instant::now() + self.attempt);
        let call = ServiceCall {
            service: Service::Ec2,
            host: self.endpoint.to_owned(),
            principal: "the node's role",
            signer: None,
            permission: "",
            secret: &secret,
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

//! Container credentials, as the EKS Pod Identity agent hands them out.

use std::net::IpAddr;
use std::path::Path;

use rustls::pki_types::ServerName;
use secrecy::SecretString;
use tokio::time::Instant;

use super::super::metadata::MetadataCredentials;
use super::super::{AwsEnvironment, Session, SessionRequest};
use super::{load_token, none};
use crate::credential::MintError;
use crate::credential::answers::{Service, Signer};
use crate::credential::http::Route;
use crate::credential::one_line::one_line;
use crate::credential::outgoing::{Sent, build_request};
use crate::credential::service_call::ServiceCall;

/// Where the EKS Pod Identity agent of a node answers. Which of them a Pod reaches depends on the cluster's address family, which EKS' own
/// webhook knows and says in `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
///
/// <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-agent-setup.html>
const EKS_AGENT: [&str; 2] = [
    "http://169.254.170.23/v1/credentials",
    "http://[fd00:ec2::23]/v1/credentials",
];

/// Who is asked for container credentials.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Agent<'a> {
    /// Asked in this order until one can be reached.
    uris: Vec<&'a str>,
    /// What is shown to it.
    token_file: Option<&'a Path>,
}

impl<'a> Agent<'a> {
    /// The agent that the environment says: one address if it names it, else both of EKS' agent, if there is a token for it.
    pub(super) fn find(environment: &'a AwsEnvironment) -> Option<Self> {
        let mounted = environment.pod_identity_token_file.as_deref();
        let given = environment.container_authorization_token_file.as_deref();
        let uris = match &environment.container_credentials_full_uri {
            Some(uri) => vec![uri.as_str()],
            None => mounted.map(|_| EKS_AGENT.to_vec())?,
        };
        Some(Self {
            uris,
            token_file: given.or(mounted),
        })
    }
}

/// Asks the agent for pullpass' session. The agent keeps sessions and renews them when it likes, not on demand.
///
/// <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html>
pub(super) async fn open(
    session_request: &SessionRequest<'_>,
    agent: &Agent<'_>,
) -> Result<Session, MintError> {
    if let Some(uri) = agent.uris.iter().find(|uri| !is_allowed(uri)) {
        return Err(none(format!(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is {:?}: it must be https, or http to the machine itself or to an agent of AWS",
            one_line(uri)
        )));
    }
    let token = match agent.token_file {
        Some(file) => Some(load_token(file).await?),
        None => None,
    };
    let mut unreachable = Vec::new();
    for uri in &agent.uris {
        match fetch(session_request, uri, token.as_ref()).await {
            Ok(body) => return read(uri, &body),
            Err(error @ (MintError::Network { .. } | MintError::Timeout { .. })) => {
                unreachable.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(sum_up(unreachable))
}

/// One error for all addresses at which nobody answered.
fn sum_up(mut unreachable: Vec<MintError>) -> MintError {
    if unreachable.len() == 1 {
        return unreachable.remove(0);
    }
    let told: Vec<String> = unreachable.iter().map(ToString::to_string).collect();
    MintError::Network {
        host: "the EKS Pod Identity agent".to_owned(),
        detail: format!(
            "{}; check that its add-on runs on this node",
            told.join("; ")
        ),
    }
}

/// The session in the agent's answer.
fn read(uri: &str, body: &[u8]) -> Result<Session, MintError> {
    let bad = |problem| MintError::BadAnswer {
        host: uri.to_owned(),
        problem,
    };
    let answer = MetadataCredentials::parse(body).map_err(bad)?;
    let principal = match (&answer.role_arn, &answer.account_id) {
        (Some(role), _) => one_line(role),
        (None, Some(account)) => format!(
            "the Pod Identity role of pullpass in account {}",
            one_line(account)
        ),
        (None, None) => "the Pod Identity role of pullpass".to_owned(),
    };
    let (credentials, expires_at) = answer.into_credentials("container").map_err(bad)?;
    Ok(Session {
        credentials,
        expires_at: Some(expires_at),
        principal,
        on_demand: false,
        signer: Signer::Agent,
    })
}

/// The agent's answer.
async fn fetch(
    session_request: &SessionRequest<'_>,
    uri: &str,
    token: Option<&SecretString>,
) -> Result<Vec<u8>, MintError> {
    let call = ServiceCall {
        service: Service::Agent,
        host: uri.to_owned(),
        principal: "pullpass",
        signer: None,
        permission: "",
        sent: token.map_or(Sent::Nothing, Sent::Text),
    };
    let token = token.map(|token| ("authorization", token));
    let request = build_request("GET", uri, &[], token, Vec::new());
    let request = request.map_err(|problem| call.bad(problem))?;
    let attempt = Instant::now() + session_request.timeouts.machine;
    let deadline = session_request.deadline.min(attempt);
    let http = session_request.http;
    match http.exchange(Route::Machine, request, deadline).await {
        Ok(reply) if reply.status == 200 => Ok(reply.body),
        Ok(reply) => Err(call.explain(&reply)),
        Err(error) => Err(call.explain_silence(error)),
    }
}

/// The addresses of AWS's own agents (ECS, EKS Pod Identity).
const AGENTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// Whether credentials may be asked for at `uri`, by the rule of AWS's SDKs: https anywhere, http only to loopback and to the
/// addresses of AWS's own agents.
///
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>
fn is_allowed(uri: &str) -> bool {
    if let Some(rest) = uri.strip_prefix("https://") {
        let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
        return ServerName::try_from(host).is_ok() || rest.starts_with('[');
    }
    let Some(rest) = uri.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost"
        || host.parse().is_ok_and(|address: IpAddr| {
            address.is_loopback() || AGENTS.iter().any(|agent| agent.parse() == Ok(address))
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn find(environment: &AwsEnvironment) -> Option<(Vec<&str>, Option<&str>)> {
        let agent = Agent::find(environment)?;
        let file = agent.token_file.and_then(Path::to_str);
        Some((agent.uris, file))
    }

    /// The URI is used as it is given; EKS' agent is tried at both of its addresses only where none is given.
    #[test]
    fn find_agent_takes_the_given_address_else_both_of_eks() {
        const URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
        const FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
        const OWN: &str = "PULLPASS_POD_IDENTITY_TOKEN_FILE";
        let v6 = EKS_AGENT[1];
        let rows = [
            (vec![], None),
            (vec![(FILE, "/f")], None),
            (
                vec![(OWN, "/own")],
                Some((EKS_AGENT.to_vec(), Some("/own"))),
            ),
            (
                vec![(OWN, "/own"), (FILE, "/f")],
                Some((EKS_AGENT.to_vec(), Some("/f"))),
            ),
            (
                vec![(OWN, "/own"), (URI, v6)],
                Some((vec![v6], Some("/own"))),
            ),
            (
                vec![(OWN, "/own"), (URI, v6), (FILE, "/f")],
                Some((vec![v6], Some("/f"))),
            ),
            (vec![(URI, v6)], Some((vec![v6], None))),
            (vec![(OWN, "")], None),
        ];
        for (variables, expected) in rows {
            let known: BTreeMap<&str, &str> = variables.into_iter().collect();
            let environment =
                AwsEnvironment::find(|name| known.get(name).map(|value| (*value).to_owned()));
            assert_eq!(find(&environment), expected, "{known:?}");
        }
    }

    #[test]
    fn find_agent_names_allowed_addresses_alone() {
        for uri in EKS_AGENT {
            assert!(is_allowed(uri), "{uri}");
        }
    }

    #[test]
    fn sum_up_tells_of_every_address() {
        let timeout = |host: &str| MintError::Timeout {
            host: host.to_owned(),
        };
        assert_eq!(sum_up(vec![timeout("one")]), timeout("one"));
        let refused = MintError::Network {
            host: "two".to_owned(),
            detail: "Network is unreachable".to_owned(),
        };
        let told = sum_up(vec![timeout("one"), refused]).to_string();
        for words in [
            "EKS Pod Identity agent",
            "no answer from one",
            "two: Network is unreachable",
            "add-on",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
    }

    #[test]
    fn allow_uri_follows_the_rule_of_the_sdks() {
        for uri in [
            "https://credentials.example/v1",
            "http://169.254.170.23/v1/credentials",
            "http://169.254.170.2/x",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://127.0.0.1:1234/v1",
            "http://[::1]:80/",
            "http://localhost:80/",
        ] {
            assert!(is_allowed(uri), "{uri}");
        }
        for uri in [
            "http://169.254.169.254/latest",
            "http://10.0.0.1/",
            "http://example.com/",
            "http://127.0.0.1.example.com/",
            "http://user@127.0.0.1/",
            "http://169.254.170.23@evil.example/",
            "ftp://127.0.0.1/",
            "https://",
            "",
        ] {
            assert!(!is_allowed(uri), "{uri}");
        }
    }
}

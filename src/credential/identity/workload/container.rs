//! Container credentials, as the EKS Pod Identity agent hands them out.

use std::net::IpAddr;

use rustls::pki_types::ServerName;
use tokio::time::Instant;

use super::super::metadata::{Answer, request};
use super::super::{Opening, Session};
use super::{load_token, none};
use crate::credential::MintError;
use crate::credential::http::{ATTEMPT_TIMEOUT, FetchError, one_line};

/// Asks the agent for pullpass' session. The agent keeps sessions and renews them when it likes, not on demand.
///
/// <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html>
pub(super) async fn open(opening: &Opening<'_>, uri: &str) -> Result<Session, MintError> {
    if !is_allowed(uri) {
        return Err(none(format!(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI is {:?}: it must be https, or http to the machine itself or to an agent of AWS",
            one_line(uri)
        )));
    }
    let bad = |problem| MintError::BadAnswer {
        host: uri.to_owned(),
        problem,
    };
    let answer = Answer::parse(&fetch(opening, uri).await?).map_err(bad)?;
    let principal = match (&answer.role_arn, &answer.account_id) {
        (Some(role), _) => one_line(role),
        (None, Some(account)) => format!(
            "the Pod Identity role of pullpass in account {}",
            one_line(account)
        ),
        (None, None) => "the Pod Identity role of pullpass".to_owned(),
    };
    let (credentials, expires_at) = answer.into_credentials("container").map_err(bad)?;
    let advice = "check that the role of pullpass' EKS Pod Identity association still exists";
    Ok(Session {
        credentials,
        expires_at: Some(expires_at),
        principal,
        on_demand: false,
        advice,
    })
}

/// The agent's answer.
async fn fetch(opening: &Opening<'_>, uri: &str) -> Result<Vec<u8>, MintError> {
    let host = || uri.to_owned();
    let bad = |problem| MintError::BadAnswer {
        host: host(),
        problem,
    };
    let headers = match &opening.environment.container_authorization_token_file {
        Some(file) => vec![("authorization", load_token(file).await?)],
        None => Vec::new(),
    };
    let request = request("GET", uri, &headers).map_err(bad)?;
    let deadline = opening.deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
    match opening.http.fetch(request, deadline).await {
        Ok((200, body)) => Ok(body),
        Ok((429, _)) => Err(MintError::Throttled {
            host: host(),
            principal: "pullpass".to_owned(),
            code: "HTTP 429".to_owned(),
            retry_after: None,
        }),
        Ok((status @ 400..=499, _)) => Err(none(format!(
            "{uri} refused with HTTP {status}: check that an EKS Pod Identity association names pullpass' ServiceAccount and that its role trusts pods.eks.amazonaws.com"
        ))),
        Ok((status, _)) => Err(bad(format!("its HTTP status is {status}"))),
        Err(FetchError::Timeout) => Err(MintError::Timeout { host: host() }),
        Err(FetchError::Network(detail)) => Err(MintError::Network {
            host: host(),
            detail,
        }),
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
    use super::is_allowed;

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

//! Amazon ECR's authorization tokens, private and public.

pub(crate) mod answer;
mod caller;

use aws_sdk_ecr::config::Region;
use jiff::Timestamp;
use tokio::time::Instant;

use super::answers::Service;
use super::aws::{self, sdk_client};
use super::cloud::{CloudMint, unlogged};
use super::error::UnusableAnswer;
use super::http::LastHost;
use super::identity::keys::AccessKeys;
use super::identity::{self, AwsEnvironment, Session, SessionRequest};
use super::{Credential, MintError};
use crate::registry::source::{EcrSource, TokenLifetime};
use answer::Authorization;
pub use caller::OpenedSession;

/// What is to be minted.
#[derive(Clone, Debug)]
pub struct EcrMintRequest {
    /// What decides the credential.
    pub source: EcrSource,
    /// The static keys, when the identity is [`crate::registry::source::EcrIdentity::Keys`].
    pub keys: Option<AccessKeys>,
    /// When the credential that is there already ends, if there is one.
    pub expires_at: Option<Timestamp>,
    /// The present.
    pub now: Timestamp,
}

/// Mints by `GetAuthorizationToken` of Amazon ECR and of ECR Public.
///
/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
/// <https://docs.aws.amazon.com/AmazonECRPublic/latest/APIReference/API_GetAuthorizationToken.html>
pub type EcrMint = CloudMint<AwsEnvironment>;

impl EcrMint {
    /// Mints one token, within [`super::MintTimeouts::mint`].
    ///
    /// # Errors
    /// [`MintError`] says why not; what was minted before stays good.
    pub async fn mint(&self, order: EcrMintRequest) -> Result<Credential, MintError> {
        unlogged(self.run(&order)).await
    }

    async fn run(&self, order: &EcrMintRequest) -> Result<Credential, MintError> {
        check_endpoints(&order.source)?;
        let deadline = Instant::now() + self.timeouts.mint;
        let session_request = self.session_request(order, deadline);
        let session = identity::open(&session_request).await?;
        check_session(&session, order)?;
        let asked = LastHost::default();
        let authorization = if order.source.public {
            self.fetch_public(&order.source, &session, deadline, &asked)
                .await
        } else {
            self.fetch_private(&order.source, &session, deadline, &asked)
                .await
        }?;
        let checked = authorization.check(order.now);
        let (password, answered_end) = checked.map_err(|unusable| unusable.of(asked.host()))?;
        let expires_at = match (order.source.token_life, session.expires_at) {
            (TokenLifetime::Session, Some(end)) => end.min(answered_end),
            (TokenLifetime::Session, None) | (TokenLifetime::Answer, _) => answered_end,
        };
        Ok(Credential {
            username: answer::USERNAME.to_owned(),
            password,
            minted_at: order.now,
            expires_at,
            principal: session.principal,
        })
    }

    fn session_request<'a>(
        &'a self,
        order: &'a EcrMintRequest,
        deadline: Instant,
    ) -> SessionRequest<'a> {
        SessionRequest {
            source: &order.source,
            keys: order.keys.as_ref(),
            environment: &self.environment,
            http: &self.http,
            tokens: self.tokens.as_deref(),
            deadline,
            timeouts: self.timeouts,
        }
    }

    async fn fetch_private(
        &self,
        source: &EcrSource,
        session: &Session,
        deadline: Instant,
        asked: &LastHost,
    ) -> Result<Authorization, MintError> {
        let client = sdk_client!(
            aws_sdk_ecr,
            self.http.for_sdk(asked),
            aws::timeouts(deadline, self.timeouts.cloud),
            Region::new(source.region.clone()),
            source,
            &source.endpoints.ecr,
            Some(session)
        );
        let answer = client.get_authorization_token().send().await;
        let answer = answer
            .map_err(|error| aws::explain(&session.call(asked, Service::Ecr, PRIVATE), &error))?;
        Authorization::of_private(answer).map_err(|unusable| unusable.of(asked.host()))
    }

    async fn fetch_public(
        &self,
        source: &EcrSource,
        session: &Session,
        deadline: Instant,
        asked: &LastHost,
    ) -> Result<Authorization, MintError> {
        let client = sdk_client!(
            aws_sdk_ecrpublic,
            self.http.for_sdk(asked),
            aws::timeouts(deadline, self.timeouts.cloud),
            Region::new(source.region.clone()),
            source,
            &source.endpoints.ecr_public,
            Some(session)
        );
        let answer = client.get_authorization_token().send().await;
        let answer = answer
            .map_err(|error| aws::explain(&session.call(asked, Service::Ecr, PUBLIC), &error))?;
        Authorization::of_public(answer).map_err(|unusable| unusable.of(asked.host()))
    }
}

const PRIVATE: &str = "ecr:GetAuthorizationToken";
const PUBLIC: &str = "ecr-public:GetAuthorizationToken";

/// Nothing that could be read on its way is ever asked. The Registry's validation says so first; this holds for every caller.
fn check_endpoints(source: &EcrSource) -> Result<(), MintError> {
    let endpoints = &source.endpoints;
    let all = [&endpoints.ecr, &endpoints.ecr_public, &endpoints.sts];
    match all
        .into_iter()
        .flatten()
        .find(|endpoint| !endpoint.starts_with("https://"))
    {
        Some(endpoint) => {
            let problem = format!("the endpoint {endpoint:?} is not https");
            Err(MintError::Configuration { problem })
        }
        None => Ok(()),
    }
}

/// A session that has ended signs nothing; one that cannot be renewed on demand is not worth a mint that would end no later than what
/// is there already.
fn check_session(session: &Session, order: &EcrMintRequest) -> Result<(), MintError> {
    let Some(end) = session.expires_at else {
        return Ok(());
    };
    if end <= order.now && session.on_demand {
        let what = format!("the session of {} that it just opened", session.principal);
        let unusable = UnusableAnswer::expired(&what, end, order.now);
        return Err(unusable.of("AWS STS".to_owned()));
    }
    let is_no_gain = !session.on_demand
        && order.source.token_life == TokenLifetime::Session
        && order.expires_at.is_some_and(|current| current >= end);
    if end <= order.now || is_no_gain {
        return Err(MintError::SessionNotRenewed {
            principal: session.principal.clone(),
            until: end,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;

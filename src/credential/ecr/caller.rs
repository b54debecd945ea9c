//! Who an identity is, in AWS's own words.

use jiff::Timestamp;
use tokio::time::Instant;

use super::{EcrMint, EcrMintRequest, check_endpoints};
use crate::credential::MintError;
use crate::credential::answers::Service;
use crate::credential::aws;
use crate::credential::cloud::unlogged;
use crate::credential::http::LastHost;
use crate::credential::identity::{self, Session};
use crate::credential::one_line::one_line;

const IDENTIFY: &str = "sts:GetCallerIdentity";

/// A session as it would sign a mint.
pub struct OpenedSession(Session);

impl OpenedSession {
    /// Who signs, as far as the identity itself says it.
    pub fn principal(&self) -> &str {
        &self.0.principal
    }

    /// When the session ends; `None` for long-lived keys.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.0.expires_at
    }
}

impl EcrMint {
    /// Opens a session as [`EcrMint::mint`] does, and mints nothing.
    ///
    /// # Errors
    /// [`MintError`] when there is no such identity, or a role cannot be assumed.
    pub async fn open(&self, order: &EcrMintRequest) -> Result<OpenedSession, MintError> {
        check_endpoints(&order.source)?;
        let session_request = self.session_request(order, Instant::now() + self.timeouts.mint);
        unlogged(identity::open(&session_request))
            .await
            .map(OpenedSession)
    }

    /// The ARN of a session's principal: who it is to AWS. Every principal may ask that.
    ///
    /// <https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html>
    ///
    /// # Errors
    /// [`MintError`] when AWS STS does not accept the session, or cannot be asked.
    pub async fn fetch_caller(
        &self,
        order: &EcrMintRequest,
        opened: &OpenedSession,
    ) -> Result<String, MintError> {
        let session_request = self.session_request(order, Instant::now() + self.timeouts.mint);
        let (asked, session) = (LastHost::default(), &opened.0);
        let sts = session_request.sts(&asked, Some(session));
        let answer = unlogged(sts.get_caller_identity().send())
            .await
            .map_err(|error| aws::explain(&session.call(&asked, Service::Sts, IDENTIFY), &error))?;
        answer
            .arn
            .map(|arn| one_line(&arn))
            .ok_or_else(|| asked.bad_answer("it names no principal"))
    }
}

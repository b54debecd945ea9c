//! Roles that are assumed on top of an identity, one after the other.

use super::{Session, SessionRequest};
use crate::credential::MintError;
use crate::credential::answers::Service;
use crate::credential::aws;
use crate::credential::http::LastHost;
use crate::registry::source::RoleHop;

const ASSUME: &str = "sts:AssumeRole";

/// Assumes the roles of the source's chain, the first one signed by `session`. The session of the last one is new for each mint.
///
/// # Errors
/// [`MintError::Hop`] names the role that could not be assumed and its place.
pub(super) async fn assume_chain(
    session_request: &SessionRequest<'_>,
    session: Session,
) -> Result<Session, MintError> {
    let hops = &session_request.source.assume_roles;
    let mut session = session;
    for (index, hop) in hops.iter().enumerate() {
        let assumed = assume(session_request, &session, hop).await;
        session = assumed.map_err(|cause| MintError::Hop {
            hop: index + 1,
            hops: hops.len(),
            role_arn: hop.role_arn.clone(),
            cause: Box::new(cause),
        })?;
    }
    Ok(session)
}

/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
async fn assume(
    session_request: &SessionRequest<'_>,
    signer: &Session,
    hop: &RoleHop,
) -> Result<Session, MintError> {
    let asked = LastHost::default();
    let seconds = hop
        .duration_seconds
        .and_then(|seconds| i32::try_from(seconds).ok());
    let answer = session_request
        .sts(&asked, Some(signer))
        .assume_role()
        .role_arn(&hop.role_arn)
        .role_session_name(hop.session_name.as_deref().unwrap_or("pullpass"))
        .set_external_id(hop.external_id.clone())
        .set_duration_seconds(seconds)
        .send()
        .await
        .map_err(|error| aws::explain(&signer.call(&asked, Service::Sts, ASSUME), &error))?;
    let (keys, user) = (answer.credentials, answer.assumed_role_user);
    Session::of_role(&hop.role_arn, "assumeRole", keys, user)
        .map_err(|problem| asked.bad_answer(problem))
}

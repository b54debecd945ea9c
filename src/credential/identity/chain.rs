//! Roles that are assumed on top of an identity, one after the other.

use aws_sdk_sts::operation::assume_role::AssumeRoleOutput;

use super::{Opening, Session, keys_of};
use crate::credential::MintError;
use crate::credential::aws::{Call, sdk_config};
use crate::credential::http::{Asked, one_line};
use crate::registry::source::RoleHop;

/// Assumes the roles of the source's chain, the first one signed by `session`. The session of the last one is new for each mint.
///
/// # Errors
/// [`MintError::Hop`] names the role that could not be assumed and its place.
pub(super) async fn climb(opening: &Opening<'_>, session: Session) -> Result<Session, MintError> {
    let hops = &opening.source.assume_role;
    let mut session = session;
    for (index, hop) in hops.iter().enumerate() {
        let assumed = assume(opening, &session, hop).await;
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
    opening: &Opening<'_>,
    signer: &Session,
    hop: &RoleHop,
) -> Result<Session, MintError> {
    let asked = Asked::default();
    let source = opening.source;
    let config = sdk_config!(
        aws_sdk_sts,
        opening.http.for_sdk(&asked),
        opening.deadline,
        opening.sts_region(),
        source,
        &source.endpoints.sts
    )
    .credentials_provider(signer.credentials.clone());
    let seconds = hop
        .duration_seconds
        .and_then(|seconds| i32::try_from(seconds).ok());
    let answer = aws_sdk_sts::Client::from_conf(config.build())
        .assume_role()
        .role_arn(&hop.role_arn)
        .role_session_name(hop.session_name.as_deref().unwrap_or("pullpass"))
        .set_external_id(hop.external_id.clone())
        .set_duration_seconds(seconds)
        .send()
        .await
        .map_err(|error| {
            Call {
                host: asked.host(),
                principal: &signer.principal,
                permission: "sts:AssumeRole",
                denied: "check that the role exists, that its trust policy names that principal (and its condition the externalId), and that an identity policy of that principal allows it",
                unknown: signer.advice,
                secrets: [
                    Some(signer.credentials.secret_access_key()),
                    signer.credentials.session_token(),
                ],
            }
            .explain(&error)
        })?;
    session(answer, hop).map_err(|problem| MintError::BadAnswer {
        host: asked.host(),
        problem: problem.to_owned(),
    })
}

fn session(answer: AssumeRoleOutput, hop: &RoleHop) -> Result<Session, &'static str> {
    let (credentials, expires_at) = keys_of(answer.credentials, "assumeRole")?;
    let principal = answer
        .assumed_role_user
        .map_or_else(|| hop.role_arn.clone(), |user| one_line(&user.arn));
    Ok(Session {
        credentials,
        expires_at: Some(expires_at),
        principal,
        on_demand: true,
        advice: "check the clocks of this node",
    })
}

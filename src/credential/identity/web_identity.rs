//! Web identity: a ServiceAccount's token for a session of a role (IAM roles for service accounts).

use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityOutput;

use super::{Opening, Session, keys_of};
use crate::credential::aws::{Call, sdk_config};
use crate::credential::http::{Asked, one_line};
use crate::credential::{MintError, jwt};

/// The audience of the tokens that AWS STS takes.
///
/// <https://docs.aws.amazon.com/eks/latest/userguide/enable-iam-roles-for-service-accounts.html>
pub(super) const AUDIENCE: &str = "sts.amazonaws.com";

/// Opens a new session of the role. Every mint gets its own, so that what it minted lives as long as can be.
///
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
pub(super) async fn open(
    opening: &Opening<'_>,
    role_arn: &str,
    session_name: Option<&str>,
    token: &str,
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
    );
    let principal = match subject(token) {
        Some(subject) => format!("role {role_arn} by web identity of {subject}"),
        None => format!("role {role_arn} by web identity"),
    };
    let answer = aws_sdk_sts::Client::from_conf(config.build())
        .assume_role_with_web_identity()
        .role_arn(role_arn)
        .role_session_name(session_name.unwrap_or("pullpass"))
        .web_identity_token(token)
        .send()
        .await
        .map_err(|error| {
            Call {
                host: asked.host(),
                principal: &principal,
                permission: "sts:AssumeRoleWithWebIdentity",
                denied: "check that the role exists and that its trust policy names the cluster's OIDC provider and this subject",
                unknown: "check that the cluster's OIDC provider is known to IAM with the audience sts.amazonaws.com",
                secrets: [Some(token), None],
            }
            .explain(&error)
        })?;
    session(answer, role_arn).map_err(|problem| MintError::BadAnswer {
        host: asked.host(),
        problem: problem.to_owned(),
    })
}

fn session(
    answer: AssumeRoleWithWebIdentityOutput,
    role_arn: &str,
) -> Result<Session, &'static str> {
    let (credentials, expires_at) = keys_of(answer.credentials, "webIdentity")?;
    let principal = answer
        .assumed_role_user
        .map_or_else(|| role_arn.to_owned(), |user| one_line(&user.arn));
    Ok(Session {
        credentials,
        expires_at: Some(expires_at),
        principal,
        on_demand: true,
        advice: "check the clocks of this node",
    })
}

/// The subject that the token claims, not verified, for messages: `system:serviceaccount:NAMESPACE:NAME`.
fn subject(token: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
    }
    jwt::claims(token).map(|claims: Claims| one_line(&claims.sub))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn find_subject_reads_the_claim() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"system:serviceaccount:a:b","aud":"x"}"#);
        assert_eq!(
            subject(&format!("h.{payload}.s")).as_deref(),
            Some("system:serviceaccount:a:b")
        );
        assert_eq!(subject("opaque"), None);
    }
}

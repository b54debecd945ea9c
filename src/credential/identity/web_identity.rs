//! Web identity: a ServiceAccount's token for a session of a role (IAM roles for service accounts).

use secrecy::SecretString;

use super::{Session, SessionRequest};
use crate::credential::answers::{Service, Signer};
use crate::credential::aws;
use crate::credential::http::LastHost;
use crate::credential::one_line::one_line;
use crate::credential::outgoing::{Sent, show_token};
use crate::credential::service_call::ServiceCall;
use crate::credential::{MintError, jwt};

const ASSUME: &str = "sts:AssumeRoleWithWebIdentity";

/// Opens a new session of the role. Every mint gets its own, so that what it minted lives as long as can be.
///
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
pub(super) async fn open(
    session_request: &SessionRequest<'_>,
    role_arn: &str,
    session_name: Option<&str>,
    token: &SecretString,
) -> Result<Session, MintError> {
    let asked = LastHost::default();
    let principal = match subject(token) {
        Some(subject) => format!("role {role_arn} by web identity of {subject}"),
        None => format!("role {role_arn} by web identity"),
    };
    let seconds = session_request.source.session_seconds;
    let call = session_request
        .sts(&asked, None)
        .assume_role_with_web_identity()
        .role_arn(role_arn)
        .role_session_name(session_name.unwrap_or("pullpass"))
        .set_duration_seconds(seconds.and_then(|seconds| i32::try_from(seconds).ok()));
    let answer = show_token(call, token).send().await.map_err(|error| {
        let call = ServiceCall {
            host: asked.host(),
            principal: &principal,
            permission: ASSUME,
            service: Service::Sts,
            signer: Some(Signer::Assertion),
            sent: Sent::Text(token),
        };
        aws::explain(&call, &error)
    })?;
    let (keys, user) = (answer.credentials, answer.assumed_role_user);
    Session::of_role(role_arn, "webIdentity", keys, user)
        .map_err(|problem| asked.bad_answer(problem))
}

/// The subject that the token claims, not verified, for messages: `system:serviceaccount:NAMESPACE:NAME`.
fn subject(token: &SecretString) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct SubjectClaims {
        sub: String,
    }
    jwt::claims(token).map(|claims: SubjectClaims| one_line(&claims.sub))
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
            subject(&format!("h.{payload}.s").into()).as_deref(),
            Some("system:serviceaccount:a:b")
        );
        assert_eq!(subject(&"opaque".into()), None);
    }
}

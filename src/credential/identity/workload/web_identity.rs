//! Web identity: pullpass' ServiceAccount token for a session of its role (IAM roles for service accounts).

use std::path::Path;

use aws_credential_types::Credentials;
use aws_sdk_sts::config::Region;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityOutput;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::super::{Opening, Session};
use super::load_token;
use crate::credential::MintError;
use crate::credential::aws::{Call, sdk_config};
use crate::credential::http::{Asked, one_line};
use crate::registry::source::EcrSource;

/// Opens a new session of the role. Every mint gets its own, so that what it minted lives as long as can be.
///
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
pub(super) async fn open(
    opening: &Opening<'_>,
    role_arn: &str,
    file: &Path,
) -> Result<Session, MintError> {
    let token = load_token(file).await?;
    let asked = Asked::default();
    let source = opening.source;
    let region = Region::new(region(source, opening.environment.region.as_deref()).to_owned());
    let config = sdk_config!(
        aws_sdk_sts,
        opening.http.for_sdk(&asked),
        opening.deadline,
        region,
        source,
        &source.endpoints.sts
    );
    let principal = match subject(&token) {
        Some(subject) => format!("role {role_arn} by web identity of {subject}"),
        None => format!("role {role_arn} by web identity"),
    };
    let answer = aws_sdk_sts::Client::from_conf(config.build())
        .assume_role_with_web_identity()
        .role_arn(role_arn)
        .role_session_name(opening.environment.role_session_name.as_deref().unwrap_or("pullpass"))
        .web_identity_token(&token)
        .send()
        .await
        .map_err(|error| {
            Call {
                host: asked.host(),
                principal: &principal,
                permission: "sts:AssumeRoleWithWebIdentity",
                denied: "check that the role exists and that its trust policy names the cluster's OIDC provider and this subject",
                unknown: "check that the cluster's OIDC provider is known to IAM with the audience sts.amazonaws.com",
                secrets: [Some(&token), None],
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
    let keys = answer.credentials.ok_or("it has no credentials")?;
    if keys.access_key_id.is_empty()
        || keys.secret_access_key.is_empty()
        || keys.session_token.is_empty()
    {
        return Err("its credentials are not complete");
    }
    let expires_at =
        Timestamp::new(keys.expiration.secs(), 0).map_err(|_| "its session ends at no date")?;
    let end = Some(expires_at.into());
    let principal = answer
        .assumed_role_user
        .map_or_else(|| role_arn.to_owned(), |user| one_line(&user.arn));
    Ok(Session {
        credentials: Credentials::new(
            keys.access_key_id,
            keys.secret_access_key,
            Some(keys.session_token),
            end,
            "webIdentity",
        ),
        expires_at: Some(expires_at),
        principal,
        on_demand: true,
        advice: "check the clocks of this node",
    })
}

/// The region whose STS is asked: the one that pullpass runs in, whose endpoint a private network most likely has, when it is of the
/// registry's partition and no FIPS endpoint is asked for (only some regions have one); else the registry's.
fn region<'a>(source: &'a EcrSource, own: Option<&'a str>) -> &'a str {
    own.filter(|own| !source.fips && partition_prefix(own) == partition_prefix(&source.region))
        .unwrap_or(&source.region)
}

/// What the names of a partition's regions begin with; empty for the commercial ones.
fn partition_prefix(region: &str) -> &str {
    const PREFIXES: [&str; 7] = [
        "cn-", "us-gov-", "us-iso-", "us-isob-", "eu-isoe-", "us-isof-", "eusc-",
    ];
    PREFIXES
        .into_iter()
        .find(|prefix| region.starts_with(prefix))
        .unwrap_or_default()
}

/// The subject that the token claims, not verified, for messages: `system:serviceaccount:NAMESPACE:NAME`.
fn subject(token: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Claims {
        sub: String,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    Some(one_line(&claims.sub))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::source::{EcrEndpoints, EcrIdentity, Partition};

    fn source(region: &str, fips: bool) -> EcrSource {
        EcrSource {
            partition: Partition::Aws,
            region: region.to_owned(),
            public: false,
            fips,
            dual_stack: false,
            identity: EcrIdentity::Workload,
            endpoints: EcrEndpoints::default(),
        }
    }

    #[test]
    fn find_region_prefers_own_within_the_partition() {
        assert_eq!(
            region(&source("eu-west-1", false), Some("us-east-1")),
            "us-east-1"
        );
        assert_eq!(
            region(&source("us-east-2", true), Some("eu-west-1")),
            "us-east-2"
        );
        assert_eq!(
            region(&source("cn-north-1", false), Some("eu-west-1")),
            "cn-north-1"
        );
        assert_eq!(
            region(&source("eu-west-1", false), Some("us-gov-west-1")),
            "eu-west-1"
        );
        assert_eq!(
            region(&source("us-isob-east-1", false), Some("us-iso-east-1")),
            "us-isob-east-1"
        );
        assert_eq!(region(&source("eu-west-1", false), None), "eu-west-1");
    }

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

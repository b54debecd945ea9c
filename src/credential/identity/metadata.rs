//! The JSON credentials that instance metadata and container agents hand out.

use aws_credential_types::Credentials;
use jiff::Timestamp;
use serde::Deserialize;

/// Credentials as instance metadata (`iam/security-credentials/ROLE`) and container agents answer them.
///
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html>
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct MetadataCredentials {
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<Timestamp>,
    pub(super) role_arn: Option<String>,
    pub(super) account_id: Option<String>,
}

impl MetadataCredentials {
    /// Parses the JSON; the error says what is wrong and repeats nothing of it.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| {
            format!(
                "it is not the JSON of credentials (line {}, column {})",
                error.line(),
                error.column()
            )
        })
    }

    /// The keys and the end of the session.
    pub(crate) fn into_credentials(
        self,
        provider: &'static str,
    ) -> Result<(Credentials, Timestamp), String> {
        if let Some(code) = self.code.filter(|code| code != "Success") {
            return Err(format!(
                "its code is {:?}",
                crate::credential::one_line::one_line(&code)
            ));
        }
        let present = |value: Option<String>, name: &str| {
            value
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("it has no {name}"))
        };
        let access_key_id = present(self.access_key_id, "AccessKeyId")?;
        let secret_access_key = present(self.secret_access_key, "SecretAccessKey")?;
        let token = present(self.token, "Token")?;
        let expiration = self.expiration.ok_or("it has no Expiration")?;
        let credentials = Credentials::new(
            access_key_id,
            secret_access_key,
            Some(token),
            Some(expiration.into()),
            provider,
        );
        Ok((credentials, expiration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(body: &str) -> String {
        MetadataCredentials::parse(body.as_bytes())
            .and_then(|answer| answer.into_credentials("test"))
            .unwrap_err()
    }

    #[test]
    fn parse_answer_reads_container_credentials() {
        let body = r#"{"AccessKeyId":"ASIA1","SecretAccessKey":"s","Token":"t","AccountId":"123456789012",
            "Expiration":"2026-11-21T10:00:00Z"}"#;
        let (credentials, end) = MetadataCredentials::parse(body.as_bytes())
            .unwrap()
            .into_credentials("test")
            .unwrap();
        assert_eq!(credentials.access_key_id(), "ASIA1");
        assert_eq!(end, "2026-11-21T10:00:00Z".parse().unwrap());
    }

    #[test]
    fn parse_answer_names_what_is_missing() {
        assert!(error_of("<html>").contains("not the JSON"));
        assert!(
            error_of(r#"{"AccessKeyId":"a","SecretAccessKey":"s","Token":"t"}"#)
                .contains("Expiration")
        );
        assert!(
            error_of(r#"{"AccessKeyId":"a","SecretAccessKey":"","Token":"t"}"#)
                .contains("SecretAccessKey")
        );
        assert!(
            error_of(r#"{"Code":"AssumeRoleUnauthorizedAccess"}"#)
                .contains("AssumeRoleUnauthorizedAccess")
        );
    }
}

//! Who asks: each identity opens a session that signs one mint. Nothing falls back from one identity to another.

mod chain;
pub mod keys;
pub(crate) mod metadata;
mod node;
mod region;
pub(crate) mod tenant;
mod web_identity;
mod workload;

use std::path::PathBuf;

use aws_credential_types::Credentials;
use aws_sdk_sts::config::Region;
use aws_sdk_sts::types::AssumedRoleUser;
use jiff::Timestamp;
use tokio::time::Instant;

use super::answers::{Service, Signer};
use super::aws::{self, sdk_client};
use super::http::{HttpClient, LastHost};
use super::outgoing::Sent;
use super::service_call::ServiceCall;
use super::{MintError, MintTimeouts, ServiceAccountTokens, TenantError};
use crate::credential::one_line::one_line;
use crate::registry::source::{EcrIdentity, EcrSource};
use keys::AccessKeys;
pub(crate) use workload::load_token;

/// What the process's environment says about its own identity. Read once, where the program is put together; access keys and
/// profiles in the environment are never read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AwsEnvironment {
    /// `AWS_ROLE_ARN`, with web identity.
    pub role_arn: Option<String>,
    /// `AWS_WEB_IDENTITY_TOKEN_FILE`, with web identity.
    pub web_identity_token_file: Option<PathBuf>,
    /// `AWS_ROLE_SESSION_NAME`, how the session is called in CloudTrail; `pullpass` when it is not set.
    pub role_session_name: Option<String>,
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`, with container credentials (EKS Pod Identity).
    pub container_credentials_full_uri: Option<String>,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`, with container credentials.
    pub container_authorization_token_file: Option<PathBuf>,
    /// `PULLPASS_POD_IDENTITY_TOKEN_FILE`, the token for the EKS Pod Identity agent, where no webhook of EKS said in the two above where
    /// the agent is.
    pub pod_identity_token_file: Option<PathBuf>,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`, else the address that `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE` says; `http://169.254.169.254`
    /// when neither is set. <https://docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html>
    pub metadata_endpoint: Option<String>,
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`: where the process runs.
    pub region: Option<String>,
}

impl AwsEnvironment {
    /// Finds the settings by asking `lookup` for each variable; an empty one counts as not set.
    pub fn find(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let find = |name| lookup(name).filter(|value| !value.is_empty());
        Self {
            role_arn: find("AWS_ROLE_ARN"),
            web_identity_token_file: find("AWS_WEB_IDENTITY_TOKEN_FILE").map(PathBuf::from),
            role_session_name: find("AWS_ROLE_SESSION_NAME"),
            container_credentials_full_uri: find("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            container_authorization_token_file: find("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
                .map(PathBuf::from),
            pod_identity_token_file: find("PULLPASS_POD_IDENTITY_TOKEN_FILE").map(PathBuf::from),
            metadata_endpoint: find("AWS_EC2_METADATA_SERVICE_ENDPOINT").or_else(|| {
                let mode = find("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")?;
                mode.eq_ignore_ascii_case("IPv6")
                    .then(|| node::ENDPOINT_IPV6.to_owned())
            }),
            region: find("AWS_REGION").or_else(|| find("AWS_DEFAULT_REGION")),
        }
    }
}

/// What signs a mint.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Access keys; their own Debug hides the secrets.
    pub(crate) credentials: Credentials,
    /// When the session ends; `None` for long-lived keys.
    pub(crate) expires_at: Option<Timestamp>,
    /// Who signs, for people.
    pub(crate) principal: String,
    /// Whether a new session can be created at any time.
    pub(crate) on_demand: bool,
    /// Whose session it is.
    pub(crate) signer: Signer,
}

impl Session {
    /// A session that AWS STS opened for a role by its operation `by`; the error says what is wrong with the answer.
    fn of_role(
        role_arn: &str,
        by: &'static str,
        answered: Option<aws_sdk_sts::types::Credentials>,
        user: Option<AssumedRoleUser>,
    ) -> Result<Self, &'static str> {
        let (credentials, expires_at) = keys_of(answered, by)?;
        Ok(Self {
            credentials,
            expires_at: Some(expires_at),
            principal: user.map_or_else(|| role_arn.to_owned(), |user| one_line(&user.arn)),
            on_demand: true,
            signer: Signer::Role,
        })
    }

    /// A call that this session signed, for the messages about its failure.
    pub(crate) fn call(
        &self,
        asked: &LastHost,
        service: Service,
        action: &'static str,
    ) -> ServiceCall<'_> {
        ServiceCall {
            host: asked.host(),
            principal: &self.principal,
            permission: action,
            service,
            signer: Some(self.signer),
            sent: Sent::Keys(&self.credentials),
        }
    }
}

/// What an identity needs to open a session.
pub(crate) struct SessionRequest<'a> {
    pub(crate) source: &'a EcrSource,
    pub(crate) keys: Option<&'a AccessKeys>,
    pub(crate) environment: &'a AwsEnvironment,
    pub(crate) http: &'a HttpClient,
    pub(crate) tokens: Option<&'a dyn ServiceAccountTokens>,
    pub(crate) deadline: Instant,
    pub(crate) timeouts: MintTimeouts,
}

impl SessionRequest<'_> {
    /// A client of AWS STS, whose calls `signer` signs; `None` for calls that nobody signs.
    pub(crate) fn sts(&self, asked: &LastHost, signer: Option<&Session>) -> aws_sdk_sts::Client {
        let (source, own) = (self.source, self.environment.region.as_deref());
        sdk_client!(
            aws_sdk_sts,
            self.http.for_sdk(asked),
            aws::timeouts(self.deadline, self.timeouts.cloud),
            Region::new(region::find(source, own).to_owned()),
            source,
            &source.endpoints.sts,
            signer
        )
    }
}

/// Opens the session that signs one mint: the identity's, or that of the last role which is assumed on top of it.
pub(crate) async fn open(session_request: &SessionRequest<'_>) -> Result<Session, MintError> {
    let session = identify(session_request).await?;
    chain::assume_chain(session_request, session).await
}

async fn identify(session_request: &SessionRequest<'_>) -> Result<Session, MintError> {
    match &session_request.source.identity {
        EcrIdentity::Keys { secret } => {
            session_request
                .keys
                .map(with_keys)
                .ok_or_else(|| MintError::MissingSource {
                    secret: secret.to_string(),
                })
        }
        EcrIdentity::Workload => workload::open(session_request).await,
        EcrIdentity::Node => node::open(session_request).await,
        EcrIdentity::Tenant {
            tenant,
            role_arn,
            audience,
        } => tenant::open(session_request, tenant, role_arn, audience).await,
        EcrIdentity::ServiceAccount { name, .. } => Err(TenantError::Unbound {
            service_account: name.to_string(),
        }
        .into()),
    }
}

/// The keys of a session that AWS STS opened, and when it ends; the error says what is wrong with the answer.
fn keys_of(
    answered: Option<aws_sdk_sts::types::Credentials>,
    provider: &'static str,
) -> Result<(Credentials, Timestamp), &'static str> {
    let keys = answered.ok_or("it has no credentials")?;
    if keys.access_key_id.is_empty()
        || keys.secret_access_key.is_empty()
        || keys.session_token.is_empty()
    {
        return Err("its credentials are not complete");
    }
    let expires_at =
        Timestamp::new(keys.expiration.secs(), 0).map_err(|_| "its session ends at no date")?;
    let credentials = Credentials::new(
        keys.access_key_id,
        keys.secret_access_key,
        Some(keys.session_token),
        Some(expires_at.into()),
        provider,
    );
    Ok((credentials, expires_at))
}

fn with_keys(keys: &AccessKeys) -> Session {
    Session {
        credentials: keys.credentials(),
        expires_at: None,
        principal: keys.principal(),
        on_demand: true,
        signer: Signer::Keys,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_environment_reads_where_instance_metadata_answers() {
        let endpoint = "AWS_EC2_METADATA_SERVICE_ENDPOINT";
        let mode = "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE";
        let table = [
            (vec![], None),
            (vec![(mode, "IPv4")], None),
            (vec![(mode, "")], None),
            (vec![(mode, "IPv6")], Some("http://[fd00:ec2::254]")),
            (vec![(mode, "ipv6")], Some("http://[fd00:ec2::254]")),
            (
                vec![(endpoint, "http://127.0.0.1:1"), (mode, "IPv6")],
                Some("http://127.0.0.1:1"),
            ),
        ];
        for (given, expected) in table {
            let lookup = |name: &str| {
                let mut given = given.iter().filter(|(key, _)| *key == name);
                given.next().map(|(_, value)| (*value).to_owned())
            };
            let found = AwsEnvironment::find(lookup).metadata_endpoint;
            assert_eq!(found.as_deref(), expected, "{given:?}");
        }
    }
}

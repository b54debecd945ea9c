//! How AWS is called, and what its errors mean for the person who set it up.

use std::error::Error;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use tokio::time::Instant;

use super::MintError;
use super::http::{ATTEMPT_TIMEOUT, CONNECT_TIMEOUT, in_seconds, root_cause};
use super::outgoing::Sent;

/// The client of an SDK crate (`aws_sdk_…`), without anything of the environment: region, FIPS and dual stack as the source says, or
/// one endpoint instead of them; the session `signer` signs, if there is one. A macro, because every SDK crate has its own types.
macro_rules! sdk_client {
    ($sdk:ident, $http:expr, $deadline:expr, $region:expr, $source:expr, $endpoint:expr, $signer:expr) => {{
        let mut builder = $sdk::config::Config::builder()
            .behavior_version($sdk::config::BehaviorVersion::latest())
            .http_client($http)
            .retry_config($crate::credential::aws::retries())
            .timeout_config($crate::credential::aws::timeouts($deadline))
            .identity_cache($sdk::config::IdentityCache::no_cache())
            .app_name($sdk::config::AppName::new("pullpass").expect("a valid name"))
            .region($region);
        // An endpoint of the admin's together with FIPS or dual stack is a configuration error to the SDK: the endpoint is the choice.
        match $endpoint {
            Some(endpoint) => builder.set_endpoint_url(Some(endpoint.clone())),
            None => builder.set_use_fips(Some($source.fips)).set_use_dual_stack(Some($source.dual_stack)),
        };
        let signer: Option<&$crate::credential::identity::Session> = $signer;
        let signer = signer.map(|session| $sdk::config::SharedCredentialsProvider::new(session.credentials.clone()));
        builder.set_credentials_provider(signer);
        $sdk::Client::from_conf(builder.build())
    }};
}
pub(crate) use sdk_client;

/// One retry at once, for a connection that broke; everything else waits for the back-off of the cache.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(2)
        .with_initial_backoff(Duration::from_millis(100))
        .with_max_backoff(Duration::from_millis(500))
}

/// What is left until `deadline`, and the bounds of one attempt.
pub(crate) fn timeouts(deadline: Instant) -> TimeoutConfig {
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1));
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(left)
        .build()
}

/// What a call does, to IAM.
#[derive(Clone, Copy)]
pub(crate) struct IamAction {
    /// The IAM action.
    pub(crate) permission: &'static str,
    /// What to do when it is denied.
    pub(crate) denied: &'static str,
}

/// One call, for the messages about its failure.
pub(crate) struct AwsCall<'a> {
    /// The host that was asked, empty when none was.
    pub(crate) host: String,
    /// Who asked.
    pub(crate) principal: &'a str,
    /// What for.
    pub(crate) action: IamAction,
    /// What to do when the keys or the token are not accepted.
    pub(crate) unknown: &'static str,
    /// What was sent.
    pub(crate) sent: Sent<'a>,
}

impl AwsCall<'_> {
    /// What a failure means.
    pub(crate) fn explain<E>(&self, error: &SdkError<E, HttpResponse>) -> MintError
    where
        E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    {
        let host = self.host.clone();
        match error {
            SdkError::TimeoutError(_) => MintError::Timeout { host },
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                MintError::Timeout { host }
            }
            SdkError::ConstructionFailure(_) => MintError::Configuration {
                problem: root_cause(error),
            },
            SdkError::ResponseError(failure) => {
                let status = failure.raw().status().as_u16();
                MintError::BadAnswer {
                    host,
                    problem: format!("HTTP {status} that cannot be read ({})", root_cause(error)),
                }
            }
            SdkError::ServiceError(failure) => self.explain_refusal(failure.err(), failure.raw()),
            _ => MintError::Network {
                host,
                detail: root_cause(error),
            },
        }
    }

    fn explain_refusal(
        &self,
        error: &dyn ProvideErrorMetadata,
        answer: &HttpResponse,
    ) -> MintError {
        let code = error.code().map(|code| self.words(code));
        let Some(code) = code.filter(|code| !code.is_empty()) else {
            return self.explain_status(answer);
        };
        let host = self.host.clone();
        let principal = self.principal.to_owned();
        let words = self.words(error.message().unwrap_or_default());
        match kind(&code, answer.status().as_u16()) {
            ErrorClass::Denied => MintError::AccessDenied {
                host,
                permission: self.action.permission,
                principal,
                advice: self.action.denied,
                answer: words,
            },
            ErrorClass::Unknown => MintError::UnrecognizedClient {
                host,
                principal,
                code,
                advice: self.unknown,
            },
            ErrorClass::Throttled => MintError::Throttled {
                host,
                principal,
                code,
                retry_after: retry_after(answer),
            },
            ErrorClass::Other => MintError::Refused {
                host,
                principal,
                code,
                answer: words,
                retry_after: retry_after(answer),
            },
        }
    }

    /// What an HTTP status without an error of AWS's form means: something between us and AWS answered, or AWS is down.
    fn explain_status(&self, answer: &HttpResponse) -> MintError {
        let (host, principal) = (self.host.clone(), self.principal.to_owned());
        let status = answer.status().as_u16();
        let code = format!("HTTP {status}");
        match status {
            429 => MintError::Throttled {
                host,
                principal,
                code,
                retry_after: retry_after(answer),
            },
            500..=599 => MintError::Refused {
                host,
                principal,
                code,
                answer: "no error of AWS's form".to_owned(),
                retry_after: retry_after(answer),
            },
            _ => MintError::BadAnswer {
                host,
                problem: format!("{code} without an error of AWS's form"),
            },
        }
    }

    /// The cloud's own words, unless they repeat a secret.
    fn words(&self, text: &str) -> String {
        self.sent.show(text)
    }
}

enum ErrorClass {
    Denied,
    Unknown,
    Throttled,
    Other,
}

/// <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html>
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html#API_AssumeRoleWithWebIdentity_Errors>
fn kind(code: &str, status: u16) -> ErrorClass {
    match code.strip_suffix("Exception").unwrap_or(code) {
        "AccessDenied" | "UnauthorizedOperation" | "NotAuthorized" | "OptInRequired" => {
            ErrorClass::Denied
        }
        "UnrecognizedClient"
        | "InvalidClientTokenId"
        | "InvalidAccessKeyId"
        | "InvalidSignature"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "ExpiredToken"
        | "RequestExpired"
        | "InvalidIdentityToken"
        | "IDPRejectedClaim"
        | "AuthFailure" => ErrorClass::Unknown,
        "Throttling"
        | "Throttled"
        | "RequestThrottled"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "LimitExceeded"
        | "BandwidthLimitExceeded"
        | "PriorRequestNotComplete" => ErrorClass::Throttled,
        _ if status == 429 => ErrorClass::Throttled,
        _ => ErrorClass::Other,
    }
}

fn retry_after(answer: &HttpResponse) -> Option<Duration> {
    answer.headers().get("retry-after").and_then(in_seconds)
}

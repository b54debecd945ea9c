//! How AWS is called, and what its errors mean for the person who set it up.

use std::error::Error;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use jiff::Timestamp;
use tokio::time::Instant;

use super::answer_words::{self, BodyWords};
use super::http::{CONNECT_TIMEOUT, root_cause};
use super::service_call::{AnswerHead, ServiceCall};
use super::{MintError, retry_after};

/// The client of an SDK crate (`aws_sdk_…`), without anything of the environment: region, FIPS and dual stack as the source says, or
/// one endpoint instead of them; the session `signer` signs, if there is one. It asks once: only the cache asks again, so that an account
/// that throttles is not asked twice each time. A macro, because every SDK crate has its own types.
macro_rules! sdk_client {
    ($sdk:ident, $http:expr, $timeouts:expr, $region:expr, $source:expr, $endpoint:expr, $signer:expr) => {{
        let mut builder = $sdk::config::Config::builder()
            .behavior_version($sdk::config::BehaviorVersion::latest())
            .http_client($http)
            .retry_config($sdk::config::retry::RetryConfig::disabled())
            .timeout_config($timeouts)
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

/// What is left until `deadline`, and the bounds of one attempt.
pub(crate) fn timeouts(deadline: Instant, attempt: Duration) -> TimeoutConfig {
    let left = deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1));
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(left)
        .build()
}

/// What a failure of a call to AWS means.
pub(crate) fn explain<E>(call: &ServiceCall<'_>, error: &SdkError<E, HttpResponse>) -> MintError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    let host = call.host.clone();
    match error {
        SdkError::TimeoutError(_) => MintError::Timeout { host },
        SdkError::DispatchFailure(failure) if failure.is_timeout() => MintError::Timeout { host },
        SdkError::ConstructionFailure(_) => MintError::Configuration {
            problem: root_cause(error),
        },
        SdkError::ResponseError(failure) => {
            let problem = format!(
                "HTTP {} that cannot be read ({})",
                failure.raw().status(),
                root_cause(error)
            );
            call.bad_with_words(problem, &read_body(failure.raw()).text)
        }
        SdkError::ServiceError(failure) => {
            let (said, reply) = (failure.err(), failure.raw());
            let code = said.code().unwrap_or_default();
            let head = AnswerHead {
                status: reply.status().as_u16(),
                retry_after: retry_after::find(|name| reply.headers().get(name), Timestamp::now()),
            };
            // Without a code, something between us and AWS answered.
            match said.message() {
                Some(text) => call.explain_as(head, code, text),
                None => call.explain_as(head, code, &read_body(reply).text),
            }
        }
        _ => MintError::Network {
            host,
            detail: root_cause(error),
        },
    }
}

fn read_body(reply: &HttpResponse) -> BodyWords {
    answer_words::read_body(reply.body().bytes().unwrap_or_default())
}

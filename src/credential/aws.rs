//! How AWS is called, and what its errors mean for the person who set it up.

use std::error::Error;
use std::time::Duration;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use jiff::Timestamp;
use tokio::time::Instant;

use super::answers::{CloudAnswer, Service, Signer};
use super::http::{CONNECT_TIMEOUT, root_cause};
use super::outgoing::Sent;
use super::refusal::Refusal;
use super::{MintError, answer_words, retry_after};

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

/// One call, for the messages about its failure.
pub(crate) struct AwsCall<'a> {
    /// The host that was asked, empty when none was.
    pub(crate) host: String,
    /// Who asked.
    pub(crate) principal: &'a str,
    /// What for: an IAM action.
    pub(crate) action: &'static str,
    /// Who answers.
    pub(crate) service: Service,
    /// How the caller proves who it is.
    pub(crate) signer: Signer,
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
                self.bad(
                    format!("HTTP {status} that cannot be read ({})", root_cause(error)),
                    failure.raw(),
                )
            }
            SdkError::ServiceError(failure) => self.explain_refusal(failure.err(), failure.raw()),
            _ => MintError::Network {
                host,
                detail: root_cause(error),
            },
        }
    }

    fn explain_refusal(&self, error: &dyn ProvideErrorMetadata, reply: &HttpResponse) -> MintError {
        let status = reply.status().as_u16();
        let body = answer_words::read_body(reply.body().bytes().unwrap_or_default());
        let said = error.message().unwrap_or(&body.text);
        // A code that repeats a secret is no code.
        let code = self.words(error.code().unwrap_or_default());
        let answer = CloudAnswer {
            from: self.service,
            status,
            code: &code,
            action: self.action,
            signer: Some(self.signer),
            text: said,
        };
        let refusal = Refusal {
            permission: self.action,
            retry_after: retry_after(reply),
            ..Refusal::of(
                &answer,
                self.host.clone(),
                self.principal.to_owned(),
                self.words(said),
            )
        };
        // Without a code, something between us and AWS answered.
        if refusal.is_recognized || !code.is_empty() {
            MintError::Refused(Box::new(refusal))
        } else {
            let problem = format!("HTTP {status} without an error of AWS's form");
            self.bad(problem, reply)
        }
    }

    /// An answer that is none of AWS's, and what it says.
    fn bad(&self, problem: String, reply: &HttpResponse) -> MintError {
        let body = answer_words::read_body(reply.body().bytes().unwrap_or_default());
        MintError::BadAnswer {
            host: self.host.clone(),
            problem: with_words(problem, &self.words(&body.text)),
        }
    }

    /// The cloud's own words, unless they repeat a secret.
    fn words(&self, text: &str) -> String {
        self.sent.show(text)
    }
}

/// What is wrong with an answer, with what it says, if it says something.
pub(crate) fn with_words(problem: String, words: &str) -> String {
    if words.is_empty() {
        problem
    } else {
        format!("{problem} (it said: {words})")
    }
}

fn retry_after(reply: &HttpResponse) -> Option<Duration> {
    retry_after::find(|name| reply.headers().get(name), Timestamp::now())
}

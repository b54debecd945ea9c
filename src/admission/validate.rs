//! The validating webhook: what is about to be written, looked at and never changed.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;

use tokio::time::Instant;

use super::handler::Webhook;
use super::judge::{self, Lacks, Verdict};
use super::metrics::{Subject, Validation};
use super::plan::{self, Skip};
use super::review::{self, INJECT_LABEL, PodObject, Refusal, Review};
use super::vet::{self, Judgement, Objects};
use crate::names::NamespaceName;
use crate::registry::ServedRegistry;

/// What becomes of a Pod that lacks what its images need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Enforce {
    Warn,
    Deny,
}

/// `POST /validate-registry`: Registries.
pub(super) async fn registry(State(webhook): State<Arc<Webhook>>, request: Request) -> Response {
    let (body, _) = match webhook.read(request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let judge = async |_: &Review<'_>| {
        let provision = &webhook.provision;
        let problems = |registry: &ServedRegistry| provision.source_problems(registry);
        vet::judge(&Objects::find(&body), &provision.registries(), problems)
    };
    webhook.validate(&body, Subject::Registry, judge).await
}

/// `POST /validate-pod/warn`: Pods in their final state, of namespaces that want to be warned.
pub(super) async fn warn_pod(State(webhook): State<Arc<Webhook>>, request: Request) -> Response {
    webhook.validate_pod(request, Enforce::Warn).await
}

/// `POST /validate-pod/deny`: of those that want Pods refused.
pub(super) async fn deny_pod(State(webhook): State<Arc<Webhook>>, request: Request) -> Response {
    webhook.validate_pod(request, Enforce::Deny).await
}

impl Webhook {
    async fn validate_pod(&self, request: Request, enforce: Enforce) -> Response {
        let (body, deadline) = match self.read(request).await {
            Ok(read) => read,
            Err(refusal) => return refusal,
        };
        let judge =
            async |review: &Review<'_>| self.judge_pod(&review.request, enforce, deadline).await;
        self.validate(&body, Subject::Pod, judge).await
    }

    /// Reads a review, has it judged and answers.
    async fn validate(
        &self,
        body: &[u8],
        subject: Subject,
        judge: impl AsyncFnOnce(&Review<'_>) -> Judgement,
    ) -> Response {
        let review = match Review::parse(body) {
            Ok(review) => review,
            Err(error) => return self.refuse((StatusCode::BAD_REQUEST, format!("{error}\n"))),
        };
        let judged = AssertUnwindSafe(judge(&review)).catch_unwind().await.ok();
        self.answer_judgement(&review, subject, judged)
    }

    /// Judges a Pod as it is to be stored. Opting out does not exempt it from what its namespace asks for.
    async fn judge_pod(
        &self,
        request: &review::Request<'_>,
        enforce: Enforce,
        deadline: Instant,
    ) -> Judgement {
        match plan::screen(request, &self.own_namespace) {
            Ok(_) | Err(Skip::PodOptedOut) => {}
            Err(_) => return Judgement::default(),
        }
        let (Some(pod), Some(name)) = (request.object().value(), request.namespace()) else {
            return Judgement::default();
        };
        let Some((namespace, _)) = self.namespace(name, deadline).await else {
            return enforce.judge_unknown(name);
        };
        let now = (self.clock)();
        match judge::judge_pod(&*self.provision, pod, &namespace, now, deadline).await {
            // The API server asks about opted-in namespaces alone: memory is behind.
            Verdict::Left(Skip::NamespaceNotOptedIn) => enforce.judge_unknown(name),
            Verdict::Complete | Verdict::Left(_) => Judgement::default(),
            Verdict::Missed(lacks) => enforce.judge_missed(pod, name, &lacks),
        }
    }
}

impl Enforce {
    fn judge_unknown(self, namespace: &str) -> Judgement {
        let message = format!(
            "pullpass: namespace {namespace} cannot be read now, so that nobody can tell whether the Pod has what it needs: try again"
        );
        match self {
            Self::Warn => Judgement::default(),
            Self::Deny => Judgement {
                refusal: Some(Refusal::unavailable(message)),
                warnings: Vec::new(),
            },
        }
    }

    fn judge_missed(self, pod: &PodObject<'_>, namespace: &str, lacks: &Lacks) -> Judgement {
        let (secrets, registries) = (lacks.secrets.join(", "), lacks.registries.join(", "));
        let advice = if plan::opts_out(pod) {
            format!("remove its label {INJECT_LABEL}=disabled")
        } else {
            "create it again: pullpass was not asked, or another webhook took the reference away"
                .to_owned()
        };
        let message = format!(
            "pullpass: the Pod does not reference Secret {secrets} of namespace {namespace}, which its images need (Registry {registries}): {advice}"
        );
        match self {
            Self::Warn => Judgement {
                refusal: None,
                warnings: vec![message],
            },
            Self::Deny => Judgement {
                refusal: Some(Refusal::forbidden(message)),
                warnings: Vec::new(),
            },
        }
    }
}

impl Webhook {
    /// Answers, counts and logs; `None`: the handler panicked, and the object is admitted.
    fn answer_judgement(
        &self,
        review: &Review<'_>,
        subject: Subject,
        judgement: Option<Judgement>,
    ) -> Response {
        let outcome = match &judgement {
            None => Validation::Panicked,
            Some(judgement) if judgement.refusal.is_some() => Validation::Denied,
            Some(judgement) if !judgement.warnings.is_empty() => Validation::Warned,
            Some(_) => Validation::Allowed,
        };
        self.metrics.count_validation(subject, outcome);
        let judgement = judgement.unwrap_or_default();
        log(review, subject, outcome, &judgement);
        let answer = match &judgement.refusal {
            Some(refusal) => review.refuse(refusal, &judgement.warnings),
            None => review.answer(None, &judgement.warnings),
        };
        ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
    }
}

fn log(review: &Review<'_>, subject: Subject, outcome: Validation, judgement: &Judgement) {
    let (name, namespace) = (review.request.name(), review.request.namespace());
    let namespace = namespace.map_or("", NamespaceName::as_str);
    match outcome {
        Validation::Panicked => tracing::error!(
            ?subject,
            object.namespace = namespace,
            object.name = name,
            "the webhook panicked and admitted the object"
        ),
        Validation::Denied => tracing::info!(
            ?subject,
            object.namespace = namespace,
            object.name = name,
            "refused: {}",
            judgement
                .refusal
                .as_ref()
                .map_or("", |refusal| &refusal.message)
        ),
        Validation::Warned => tracing::info!(
            ?subject,
            object.namespace = namespace,
            object.name = name,
            "admitted with a warning: {}",
            judgement.warnings.join("; ")
        ),
        Validation::Allowed => tracing::debug!(
            ?subject,
            object.namespace = namespace,
            object.name = name,
            "admitted"
        ),
    }
}

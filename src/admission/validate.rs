//! The validating webhook: checks what is about to be written, and never changes it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::join_all;

use tokio::time::Instant;

use super::handler::Webhook;
use super::metrics::{Subject, Validation};
use super::plan::{self, Skip};
use super::pod_check::{self, MissingReferences, PodCheck};
use super::request;
use super::review::{self, Denial, PodObject, Review};
use super::validate_registry::{self, OldAndNew, ValidationResponse};
use crate::names::NamespaceName;
use crate::provision::Namespace;
use crate::provision::namespace::INJECT_LABEL;

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
    let check = async |_: &Review<'_>| {
        let provision = &webhook.provision;
        let (objects, registries) = (OldAndNew::find(&body), provision.registries());
        let (mut response, in_use) = validate_registry::validate(&objects, &registries);
        if let Some(registry) = in_use {
            // Each has its time to be answered, and all have the same; what is printed has the rights to all.
            let secrets = registry.own_secrets();
            let missing = secrets.map(|secret| provision.find_missing_rights(secret));
            let problems = provision.find_source_problems(&registry);
            let (problems, missing) = tokio::join!(problems, join_all(missing));
            let found = problems
                .into_iter()
                .chain(missing.into_iter().flatten().take(1));
            let warnings = found.map(|problem| format!("pullpass: {problem}"));
            response.warnings.extend(warnings);
        }
        response
    };
    webhook.validate(&body, Subject::Registry, check).await
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
        let check =
            async |review: &Review<'_>| self.check_pod(&review.request, enforce, deadline).await;
        self.validate(&body, Subject::Pod, check).await
    }

    /// Reads a review, evaluates it and answers.
    async fn validate(
        &self,
        body: &[u8],
        subject: Subject,
        check: impl AsyncFnOnce(&Review<'_>) -> ValidationResponse,
    ) -> Response {
        let review = match request::parse(body) {
            Ok(review) => review,
            Err(refusal) => return self.refuse(refusal),
        };
        let judged = AssertUnwindSafe(check(&review)).catch_unwind().await.ok();
        self.respond(&review, subject, judged)
    }

    /// Evaluates a Pod as it is to be stored. Opting out does not exempt it from what its namespace enforces.
    async fn check_pod(
        &self,
        request: &review::Request<'_>,
        enforce: Enforce,
        deadline: Instant,
    ) -> ValidationResponse {
        match plan::screen(request, &self.excluded) {
            Ok(_) | Err(Skip::PodOptedOut) => {}
            Err(_) => return ValidationResponse::default(),
        }
        let (Some(pod), Some(name)) = (request.object().value(), request.namespace()) else {
            return ValidationResponse::default();
        };
        let Some((namespace, _)) = self.namespace(name, deadline).await else {
            return enforce.handle_unknown(name);
        };
        let now = (self.clock)();
        // A label that means nothing takes away nothing, so neither what is enforced: the Pod comes without the reference, too.
        let heeded = Arc::new(namespace.as_if_enabled());
        match pod_check::check_pod(&*self.provision, pod, &heeded, now, deadline).await {
            // The API server asks about opted-in namespaces alone: memory is behind.
            PodCheck::Skipped(Skip::NamespaceNotOptedIn) => enforce.handle_unknown(name),
            PodCheck::Referenced | PodCheck::Skipped(_) => ValidationResponse::default(),
            PodCheck::Missed(lacks) => enforce.handle_missed(pod, &namespace, &lacks),
            PodCheck::Unknown(lacks) => handle_unknown_secrets(&namespace, &lacks),
        }
    }
}

impl Enforce {
    fn handle_unknown(self, namespace: &str) -> ValidationResponse {
        let message = format!(
            "pullpass: cannot read namespace {namespace}, so it is unknown whether the Pod references the pull secrets that its images need: retry"
        );
        match self {
            Self::Warn => ValidationResponse::default(),
            Self::Deny => ValidationResponse::refuse(Denial::unavailable(message)),
        }
    }

    fn handle_missed(
        self,
        pod: &PodObject<'_>,
        namespace: &Namespace,
        lacks: &MissingReferences,
    ) -> ValidationResponse {
        let (secrets, registries) = (lacks.secrets.join(", "), lacks.registries.join(", "));
        let advice = if plan::opts_out(pod) {
            format!("remove the label {INJECT_LABEL}=disabled from the Pod")
        } else if let Some(unknown) = namespace.find_unknown_inject() {
            unknown
        } else {
            "recreate it: pullpass' webhook was not called, or another webhook removed the reference"
                .to_owned()
        };
        let message = format!(
            "pullpass: the Pod does not reference Secret {secrets} of namespace {}, which its images need (Registry {registries}): {advice}",
            namespace.name
        );
        match self {
            Self::Warn => ValidationResponse::warn(vec![message]),
            Self::Deny => ValidationResponse::refuse(Denial::forbidden(message)),
        }
    }
}

/// No Pod is refused for what is not known yet.
fn handle_unknown_secrets(namespace: &Namespace, lacks: &MissingReferences) -> ValidationResponse {
    let message = format!(
        "pullpass: Secret {} of namespace {} could not be read, so the Pod was not refused; if its images cannot be pulled, recreate it once the API server answers",
        lacks.secrets.join(", "),
        namespace.name
    );
    ValidationResponse::warn(vec![message])
}

impl Webhook {
    /// Answers, counts and logs; `None`: the handler panicked, and the object is admitted.
    fn respond(
        &self,
        review: &Review<'_>,
        subject: Subject,
        response: Option<ValidationResponse>,
    ) -> Response {
        let outcome = match &response {
            None => Validation::Panicked,
            Some(response) if response.refusal.is_some() => Validation::Denied,
            Some(response) if !response.warnings.is_empty() => Validation::Warned,
            Some(_) => Validation::Allowed,
        };
        self.metrics.count_validation(subject, outcome);
        let response = response.unwrap_or_default();
        log(review, subject, outcome, &response);
        let answer = match &response.refusal {
            Some(refusal) => review.refuse(refusal, &response.warnings),
            None => review.answer(None, &response.warnings),
        };
        ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
    }
}

fn log(review: &Review<'_>, subject: Subject, outcome: Validation, response: &ValidationResponse) {
    let (name, namespace) = (review.request.name(), review.request.namespace());
    let namespace = namespace.map_or("", NamespaceName::as_str);
    let uid = review.well_formed_uid();
    match outcome {
        Validation::Panicked => tracing::error!(
            ?subject,
            object.namespace = namespace,
            object.name = name,
            review.uid = uid,
            "validation handler panicked: admitted the object"
        ),
        Validation::Denied => tracing::info!(
            ?subject,
            object.namespace = namespace,
            object.name = name,
            review.uid = uid,
            "denied the object: {}",
            response
                .refusal
                .as_ref()
                .map_or("", |refusal| &refusal.message)
        ),
        Validation::Warned => tracing::info!(
            ?subject,
            object.namespace = namespace,
            object.name = name,
            review.uid = uid,
            "admitted the object with a warning: {}",
            response.warnings.join("; ")
        ),
        Validation::Allowed => tracing::debug!(
            ?subject,
            object.namespace = namespace,
            object.name = name,
            review.uid = uid,
            "admitted the object"
        ),
    }
}

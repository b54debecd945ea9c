//! The webhook: a review in, an answer out.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use jiff::Timestamp;
use json_patch::Patch;
use tokio::time::Instant;

use super::metrics::{AdmissionOutcome, CacheResult, Metrics};
use super::plan::{self, Injection, Plan, Skip};
use super::review::{self, PodObject};
use super::secrets::{self, SecretsResult};
use super::{patch, request};
use crate::names::NamespaceName;
use crate::provision::{ExcludedNamespaces, Namespace, Provision};

/// What the webhook answers from.
pub struct Webhook {
    /// The namespaces, Registries and pull secrets.
    pub provision: Arc<dyn Provision>,
    /// The namespaces whose Pods are admitted unchanged.
    pub excluded: Arc<ExcludedNamespaces>,
    /// Counters.
    pub metrics: Metrics,
    /// The clock: [`Timestamp::now`] outside tests.
    pub clock: fn() -> Timestamp,
}

/// What is done about a review, and why.
struct AdmissionDecision {
    outcome: AdmissionOutcome,
    reason: &'static str,
    routine: bool,
    cache: CacheResult,
    patch: Option<Patch>,
    warnings: Vec<String>,
    /// What is said in the log beside them.
    details: Vec<String>,
}

/// `POST /mutate`: Pods that are to be created.
pub(super) async fn admit(State(webhook): State<Arc<Webhook>>, request: Request) -> Response {
    let (body, deadline) = match webhook.read(request).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let started = Instant::now();
    let review = match request::parse(&body) {
        Ok(review) => review,
        Err(refusal) => return webhook.refuse(refusal),
    };
    let decided = AssertUnwindSafe(webhook.decide(&review.request, deadline))
        .catch_unwind()
        .await;
    let decision = decided.unwrap_or_else(|_| AdmissionDecision::panicked());
    let answer = review.answer(decision.patch.as_ref(), &decision.warnings);
    webhook.metrics.count(
        decision.outcome,
        decision.reason,
        decision.cache,
        started.elapsed(),
    );
    if decision.outcome != AdmissionOutcome::Panicked {
        webhook.metrics.record_response((webhook.clock)());
    }
    decision.log(&review);
    ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
}

impl Webhook {
    /// The body of a request, and until when the caller waits for an answer; or the answer that it is none.
    pub(super) async fn read(&self, request: Request) -> Result<(Bytes, Instant), Response> {
        let read = AssertUnwindSafe(request::read(request))
            .catch_unwind()
            .await;
        read.unwrap_or_else(|_| Err(request::panicked()))
            .map_err(|refusal| self.refuse(refusal))
    }

    pub(super) fn refuse(&self, refusal: request::HttpRejection) -> Response {
        let (status, text) = &refusal;
        let outcome = if status.is_server_error() {
            AdmissionOutcome::Panicked
        } else {
            AdmissionOutcome::Refused
        };
        self.metrics.count_unread(outcome);
        tracing::info!(
            http.status_code = status.as_u16(),
            "rejected a webhook request: {}",
            text.trim_end()
        );
        let overloaded = *status == StatusCode::TOO_MANY_REQUESTS;
        let mut answer = refusal.into_response();
        if overloaded {
            // kube-apiserver retries, within its own timeout, only if the answer says after how many seconds.
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }

    async fn decide(&self, request: &review::Request<'_>, deadline: Instant) -> AdmissionDecision {
        let (pod, name) = match plan::screen(request, &self.excluded) {
            Ok(screened) => screened,
            Err(skip) => return AdmissionDecision::skip(skip, CacheResult::Hit, Vec::new()),
        };
        let Some((namespace, cache)) = self.namespace(name, deadline).await else {
            let warnings = vec![plan::namespace_unknown_warning(name)];
            return AdmissionDecision::skip(Skip::NamespaceUnknown, CacheResult::Miss, warnings);
        };
        let registries = self.provision.registries();
        let injection = match plan::decide(pod, &namespace, &registries) {
            Plan::Inject(injection) => injection,
            Plan::Skip(skip, warnings) => return AdmissionDecision::skip(skip, cache, warnings),
        };
        let review = secrets::SecretsReview {
            provision: &*self.provision,
            namespace: &namespace,
            dry_run: request.dry_run().unwrap_or(true),
            now: (self.clock)(),
            deadline,
        };
        inject(pod, &review, injection, cache).await
    }

    /// The namespace from memory, or by one live read.
    pub(super) async fn namespace(
        &self,
        name: &NamespaceName,
        deadline: Instant,
    ) -> Option<(Arc<Namespace>, CacheResult)> {
        if let Some(namespace) = self.provision.namespace(name) {
            return Some((namespace, CacheResult::Hit));
        }
        let fetched = tokio::time::timeout_at(deadline, self.provision.fetch_namespace(name)).await;
        Some((fetched.ok().flatten()?, CacheResult::Miss))
    }
}

/// Gives the Pod what is planned, as far as its pull secrets may be referenced.
async fn inject(
    pod: &PodObject<'_>,
    review: &secrets::SecretsReview<'_>,
    mut injection: Injection<'_>,
    mut cache: CacheResult,
) -> AdmissionDecision {
    let mut result = SecretsResult::default();
    review.screen(pod, &mut injection, &mut result).await;
    review.ensure(&mut injection, &mut result).await;
    if result.cold {
        cache = CacheResult::Miss;
    }
    let left_out = result.left_out.map_or("", Skip::as_str);
    if let Some(skip) = result.left_out
        && injection.additions.pull_secrets.is_empty()
        && !injection.is_asked_for()
    {
        return AdmissionDecision::skip(skip, cache, result.warnings);
    }
    let (outcome, reason) = match result.pending {
        Some(reason) => (AdmissionOutcome::Pending, reason),
        None => (AdmissionOutcome::Injected, left_out),
    };
    let mut warnings = injection.warnings;
    warnings.append(&mut result.warnings);
    AdmissionDecision {
        outcome,
        reason,
        routine: false,
        cache,
        patch: patch::build(pod, &injection.additions),
        warnings,
        details: result.details,
    }
}

impl AdmissionDecision {
    fn skip(skip: Skip, cache: CacheResult, warnings: Vec<String>) -> Self {
        Self {
            outcome: AdmissionOutcome::Unchanged,
            reason: skip.as_str(),
            routine: skip.is_routine() && warnings.is_empty(),
            cache,
            patch: None,
            warnings,
            details: Vec::new(),
        }
    }

    fn panicked() -> Self {
        Self {
            outcome: AdmissionOutcome::Panicked,
            reason: "",
            routine: false,
            cache: CacheResult::Hit,
            patch: None,
            warnings: Vec::new(),
            details: Vec::new(),
        }
    }

    /// One line per decision: info for what is new or needs attention, debug for what is routine.
    fn log(&self, review: &review::Review<'_>) {
        let (request, uid) = (&review.request, review.well_formed_uid());
        let namespace = request.namespace().map_or("", NamespaceName::as_str);
        let pod = request.object().value().map_or("", PodObject::display_name);
        match self.outcome {
            AdmissionOutcome::Panicked => tracing::error!(
                pod.namespace = namespace,
                pod.name = pod,
                review.uid = uid,
                "admission handler panicked: admitted the Pod unchanged"
            ),
            AdmissionOutcome::Pending => {
                tracing::warn!(
                    pod.namespace = namespace,
                    pod.name = pod,
                    review.uid = uid,
                    reason = self.reason,
                    cache = ?self.cache,
                    detail = self.details.join("; "),
                    "admitted the Pod with a pull secret that is not complete yet, minting goes on in the background"
                );
            }
            AdmissionOutcome::Injected => self.log_injected(namespace, pod, uid),
            AdmissionOutcome::Unchanged | AdmissionOutcome::Refused => {
                self.log_unchanged(namespace, pod, uid);
            }
        }
    }

    fn log_injected(&self, namespace: &str, pod: &str, uid: Option<&str>) {
        let cache = self.cache;
        // What its creator is warned of is found here again.
        if cache == CacheResult::Hit && self.warnings.is_empty() {
            tracing::debug!(
                pod.namespace = namespace,
                pod.name = pod,
                review.uid = uid,
                ?cache,
                "admitted the Pod with its pull secret"
            );
        } else {
            tracing::info!(
                pod.namespace = namespace,
                pod.name = pod,
                review.uid = uid,
                ?cache,
                "admitted the Pod with its pull secret"
            );
        }
    }

    fn log_unchanged(&self, namespace: &str, pod: &str, uid: Option<&str>) {
        let reason = self.reason;
        if self.routine {
            tracing::debug!(
                pod.namespace = namespace,
                pod.name = pod,
                review.uid = uid,
                reason,
                "admitted the Pod unchanged"
            );
        } else {
            tracing::info!(
                pod.namespace = namespace,
                pod.name = pod,
                review.uid = uid,
                reason,
                "admitted the Pod unchanged"
            );
        }
    }
}

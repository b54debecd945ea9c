//! From a request to a login, or to why there is none.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempts::{Attempt, Attempts};
use super::claims::PodIdentity;
use super::decide::{self, Choice, Question};
use super::metrics::Metrics;
use super::pod_reader::PodReader;
use super::ports::{BrokerCluster, LivePod, NodeRequests};
use super::protocol::{AuthConfig, CredentialRequest, CredentialResponse};
use super::refusal::{Reason, Refusal};
use super::verifier::Verifier;
use crate::image::Reference;
use crate::names::ObjectName;
use crate::provision::image_login::ImageLogin;
use crate::provision::{Namespace, Pending, Provision as _, Provisioner};
use tokio::sync::Semaphore;

/// How long an answer may take: the plug-in waits for 2 s in all, and what is being minted is minted all the same.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1800);

/// How long the login may: what takes longer is said to before the whole answer does.
const LOGIN_TIMEOUT: Duration = Duration::from_millis(1750);

/// How many Events are being written at a time: what is more is not written.
const EVENTS_MAX: usize = 16;

/// Answers kubelets' requests.
pub struct Broker {
    provisioner: Provisioner,
    cluster: Arc<dyn BrokerCluster>,
    verifier: Verifier,
    attempts: Attempts,
    pods: PodReader,
    events: Arc<Semaphore>,
    pub(super) metrics: Metrics,
    clock: fn() -> Timestamp,
}

/// A login for the image that was asked about.
pub(super) struct Issued {
    pub(super) pod: Arc<PodIdentity>,
    pub(super) registry: ObjectName,
    pub(super) response: CredentialResponse,
}

/// Why there is none, and for whom, if that is known.
pub(super) struct Refused {
    pub(super) pod: Option<Arc<PodIdentity>>,
    pub(super) refusal: Refusal,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { pod: None, refusal }
    }
}

impl Broker {
    /// Puts it together; `clock` is [`Timestamp::now`] outside tests.
    pub fn new(
        provisioner: Provisioner,
        cluster: Arc<dyn BrokerCluster>,
        metrics: Metrics,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self {
            verifier: Verifier::new(Arc::clone(&cluster), metrics.clone(), clock),
            pods: PodReader::new(Arc::clone(&cluster)),
            events: Arc::new(Semaphore::new(EVENTS_MAX)),
            attempts: Attempts::new(provisioner.clone(), clock),
            provisioner,
            cluster,
            metrics,
            clock,
        }
    }

    /// The same, and these are told which nodes' kubelets ask, and what comes of it.
    #[must_use]
    pub fn with_node_requests(self, notes: Arc<dyn NodeRequests>) -> Self {
        Self {
            attempts: self.attempts.with_notes(notes),
            ..self
        }
    }

    /// The login for what a body from this address asks, in time.
    pub(super) async fn issue(&self, body: &[u8], address: IpAddr) -> Result<Issued, Refused> {
        let request = CredentialRequest::parse(body)
            .map_err(|error| Refusal::new(Reason::Malformed, error.to_string()))?;
        let image = Reference::parse(&request.image)
            .map_err(|problem| Refusal::new(Reason::Malformed, problem))?;
        let begun = tokio::time::Instant::now();
        let token = &request.service_account_token;
        let pod = self.verifier.verify(token, address).await?;
        let issued = self.issue_to(&pod, &image, begun + LOGIN_TIMEOUT);
        let issued = tokio::time::timeout_at(begun + ANSWER_TIMEOUT, issued).await;
        let issued = issued.unwrap_or_else(|_| Err(too_late()));
        match issued {
            Ok((registry, response)) => Ok(Issued {
                pod,
                registry,
                response,
            }),
            Err(refusal) => Err(Refused {
                pod: Some(pod),
                refusal,
            }),
        }
    }

    async fn issue_to(
        &self,
        pod: &Arc<PodIdentity>,
        image: &Reference<'_>,
        deadline: tokio::time::Instant,
    ) -> Result<(ObjectName, CredentialResponse), Refusal> {
        let namespace = self.namespace_of(pod).await?;
        decide::check_namespace(&namespace)?;
        let registries = self.provisioner.registries();
        let mut question = Question {
            namespace: &namespace,
            pod,
            labels: None,
            image,
        };
        let live;
        let mut choice = decide::choose(&registries, &question)?;
        if matches!(choice, Choice::ByLabels) {
            live = self.read(pod).await?;
            question.labels = Some(&live.labels);
            choice = decide::choose(&registries, &question)?;
        }
        let Choice::Registry(resolved) = choice else {
            let message = "the Pod's labels are not known: this is a bug";
            return Err(Refusal::new(Reason::Unavailable, message));
        };
        let by_labels = question.labels.is_some();
        let registry = resolved.registry.name.clone();
        let listed = registries.find_listed(&registry);
        let attempt = Attempt {
            registry: registry.clone(),
            registry_uid: listed.map_or_else(String::new, |listed| listed.uid.clone()),
            namespace: Arc::clone(&namespace),
            pod: Arc::clone(pod),
            grant: resolved.grant_of(image),
        };
        let login = self.attempts.fetch(attempt, deadline).await;
        let response = self.answer(login.ok_or_else(too_late)?, &registry, by_labels)?;
        Ok((registry, response))
    }

    /// The namespace from memory, or by one live read.
    async fn namespace_of(&self, pod: &PodIdentity) -> Result<Arc<Namespace>, Refusal> {
        if let Some(namespace) = self.provisioner.namespace(&pod.namespace) {
            return Ok(namespace);
        }
        let read = self.provisioner.fetch_namespace(&pod.namespace).await;
        read.ok_or_else(|| {
            let message = format!(
                "namespace {} could not be read: the kubelet asks again",
                pod.namespace
            );
            Refusal::new(Reason::Unavailable, message)
        })
    }

    /// The Pod as it is now.
    async fn read(&self, pod: &PodIdentity) -> Result<Arc<LivePod>, Refusal> {
        let found = self.pods.find(pod).await.map_err(|error| {
            let message = "the Pod's labels, by which a Registry selects, could not be read: the kubelet asks again";
            Refusal::new(Reason::Unavailable, message).with_detail(error.to_string())
        })?;
        decide::check_pod(pod, found.as_deref())?;
        Ok(found.unwrap_or_default())
    }

    fn answer(
        &self,
        login: Result<ImageLogin, Pending>,
        registry: &ObjectName,
        by_labels: bool,
    ) -> Result<CredentialResponse, Refusal> {
        let login = login.map_err(decide::unavailable)?;
        let kept = decide::cache_duration(login.until, by_labels, (self.clock)());
        let Some(kept) = kept else {
            let message = format!("the login of Registry {registry} has ended");
            return Err(Refusal::new(Reason::Unavailable, message));
        };
        let auth = AuthConfig {
            username: login.username,
            password: login.password,
        };
        Ok(CredentialResponse::new(login.key, auth, kept))
    }

    /// Has an Event written on the Pod, beside the answer.
    pub(super) fn report(&self, refused: &Refused) {
        let Some(pod) = refused.pod.clone().filter(|_| !refused.refusal.is_silent) else {
            return;
        };
        let Ok(turn) = Arc::clone(&self.events).try_acquire_owned() else {
            return;
        };
        let (cluster, refusal, now) = (
            Arc::clone(&self.cluster),
            refused.refusal.clone(),
            (self.clock)(),
        );
        tokio::spawn(async move {
            cluster.report(&pod, &refusal, now).await;
            drop(turn);
        });
    }
}

/// What to say where a login takes longer than anybody waits.
fn too_late() -> Refusal {
    let message = "there is no login yet, it is being minted: the kubelet asks again";
    Refusal::new(Reason::Unavailable, message)
}

//! Whether pullpass is installed at all: where nothing of it is there, that is all there is to say.

use jiff::{SignedDuration, Timestamp};

use crate::cluster::{Kube, LeaderGlance, Replicas, WEBHOOKS, WebhookTarget};
use crate::provision::ports::ClusterError;

/// What brings it.
pub(super) const INSTALL: &str = "helm install pullpass manifests/chart -n pullpass --create-namespace --set image.repository=REPOSITORY";

/// By how much clocks may differ.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(30);

/// What is said where nothing of it is there.
pub(super) fn describe_not_installed(own_namespace: &str) -> String {
    format!(
        "pullpass is not installed here: no webhook configuration calls it, and namespace {own_namespace} has no Deployment of it"
    )
}

/// What pullpass consists of in a cluster, or why that is not known.
#[derive(Debug)]
pub(super) struct Parts<E> {
    /// The configurations by which the API server calls it for Pods.
    pub(super) webhooks: Result<Vec<WebhookTarget>, E>,
    /// Whether there is the one of what validates.
    pub(super) has_validating: Result<bool, E>,
    /// Those of its Deployment; `None`: there is none.
    pub(super) replicas: Result<Option<Replicas>, E>,
    /// Who held its Lease last.
    pub(super) leader: Result<Option<LeaderGlance>, E>,
}

impl<E> Parts<E> {
    /// Whether something of it is there, or runs; what is not known is taken to be.
    pub(super) fn is_installed(&self, now: Timestamp) -> bool {
        let has_none = self.webhooks.as_ref().is_ok_and(Vec::is_empty)
            && matches!(self.has_validating, Ok(false))
            && matches!(self.replicas, Ok(None));
        !has_none || self.find_leader(now).is_some()
    }

    /// Who leads: whoever holds the Lease, as long as that is renewed.
    pub(super) fn find_leader(&self, now: Timestamp) -> Option<&LeaderGlance> {
        let leader = self.leader.as_ref().ok()?.as_ref()?;
        let duration = SignedDuration::try_from(leader.duration).unwrap_or_default();
        let since = now.duration_since(leader.renewed?);
        let is_leading = !leader.holder.is_empty() && since < duration + CLOCK_SKEW;
        is_leading.then_some(leader)
    }

    /// Whether one of the two configurations that are installed together is not there.
    pub(super) fn lacks_validating(&self) -> bool {
        let mut webhooks = self.webhooks.iter().flatten();
        matches!(self.has_validating, Ok(false))
            && webhooks.any(|webhook| webhook.configuration == WEBHOOKS)
    }
}

/// What is said where it lacks one.
pub(super) fn describe_no_validating() -> String {
    format!(
        "validatingwebhookconfiguration {WEBHOOKS} not found: Registries and Pods are not validated"
    )
}

/// Reads what there is of it.
pub(super) async fn fetch_parts(kube: &Kube) -> Parts<ClusterError> {
    let (webhooks, has_validating, replicas, leader) = tokio::join!(
        kube.fetch_webhooks(),
        kube.has_validating(),
        kube.fetch_replicas(),
        kube.fetch_leader(),
    );
    Parts {
        webhooks,
        has_validating,
        replicas,
        leader,
    }
}

//! Reads what is shown, and notes what this account may not read.

use jiff::Timestamp;

use crate::certificates::find_end;
use crate::cluster::{CERTIFICATES, EventGlance, Kube, ListedPod, OwnedSecret};
use crate::command::installed::{Parts, fetch_parts};
use crate::command::missed::{MissedPod, fetch_missed, fetch_waiting, open_checker};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::Namespace;
use crate::provision::ports::{Cluster as _, ClusterError};
use crate::registry::{Registries, Registry};

/// Why something is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// This account has no right to it.
    Forbidden,
    /// The API server knows no such kind.
    KindMissing,
    /// Something else.
    Failed(String),
}

/// What was read, or why it was not.
pub(super) type FetchResult<T> = Result<T, Unread>;

/// The Registries, and those that cannot be read by name, with what is wrong.
pub(super) type ListedRegistries = (Vec<Registry>, Vec<(String, String)>);

/// What is known of a cluster.
#[derive(Debug)]
pub(super) struct ClusterFacts {
    pub(super) registries: FetchResult<ListedRegistries>,
    pub(super) parts: Parts<Unread>,
    /// When the serving certificate ends; `None`: there is none.
    pub(super) certificate: FetchResult<Option<Timestamp>>,
    pub(super) namespaces: FetchResult<Vec<Namespace>>,
    pub(super) secrets: FetchResult<Vec<OwnedSecret>>,
    /// Pods that wait without their reference, as far as Registries and namespaces are known.
    pub(super) missed: FetchResult<Vec<MissedPod>>,
}

/// What is known of a namespace.
#[derive(Debug)]
pub(super) struct NamespaceFacts {
    pub(super) name: NamespaceName,
    /// `None`: there is none.
    pub(super) namespace: FetchResult<Option<Namespace>>,
    pub(super) registries: FetchResult<ListedRegistries>,
    pub(super) secrets: FetchResult<Vec<OwnedSecret>>,
    pub(super) events: FetchResult<Vec<EventGlance>>,
    /// Pods that wait for an image and reference no pull secret of ours.
    pub(super) pods: FetchResult<Vec<ListedPod>>,
}

/// Reads a cluster.
///
/// # Errors
/// The API server cannot be reached, or does not know who asks.
pub(super) async fn fetch_cluster(kube: &Kube) -> anyhow::Result<ClusterFacts> {
    let (registries, parts, namespaces, secrets) = tokio::join!(
        kube.fetch_registries(),
        fetch_parts(kube),
        kube.fetch_labelled_namespaces(),
        kube.fetch_owned(None),
    );
    let parts = Parts {
        webhooks: keep(parts.webhooks)?,
        has_validating: keep(parts.has_validating)?,
        replicas: keep(parts.replicas)?,
        leader: keep(parts.leader)?,
    };
    let mounted = parts.replicas.as_ref().ok().and_then(Option::as_ref);
    let mounted = mounted.and_then(|replicas| replicas.certificate.clone());
    let name = mounted.unwrap_or_else(|| ObjectName::constant(CERTIFICATES));
    let certificate = keep(kube.fetch_certificate(&name).await)?;
    let (registries, namespaces) = (keep(registries)?, keep(namespaces)?);
    let missed = match (&registries, &namespaces) {
        (Ok((registries, _)), Ok(namespaces)) => {
            let known = Registries::build(registries.iter().cloned());
            let checker = open_checker(known, namespaces.iter().cloned());
            keep(fetch_missed(kube, None, &checker).await)?
        }
        _ => Ok(Vec::new()),
    };
    Ok(ClusterFacts {
        registries,
        parts,
        certificate: certificate.map(|pem| pem.and_then(|pem| find_end(&pem))),
        namespaces,
        secrets: keep(secrets)?,
        missed,
    })
}

/// Reads a namespace.
///
/// # Errors
/// As [`fetch_cluster`].
pub(super) async fn fetch_namespace(
    kube: &Kube,
    name: &NamespaceName,
) -> anyhow::Result<NamespaceFacts> {
    let lacks_reference = async |pod: ListedPod| {
        let is_one = !pod.references_pull_secret && !pod.is_deleted;
        is_one.then_some(pod)
    };
    let (namespace, registries, secrets, events, pods) = tokio::join!(
        kube.fetch_namespace(name),
        kube.fetch_registries(),
        kube.fetch_owned(Some(name)),
        kube.fetch_own_events(name),
        fetch_waiting(kube, Some(name), |_| true, lacks_reference),
    );
    let namespace = keep(namespace)?;
    Ok(NamespaceFacts {
        name: name.clone(),
        namespace: namespace.map(|found| found.map(|(_, namespace)| namespace)),
        registries: keep(registries)?,
        secrets: keep(secrets)?,
        events: keep(events)?,
        pods: keep(pods)?,
    })
}

/// What was read; an error where nothing else would be read either.
fn keep<T>(read: Result<T, ClusterError>) -> anyhow::Result<FetchResult<T>> {
    Ok(match read {
        Ok(read) => Ok(read),
        Err(error @ (ClusterError::Unreachable { .. } | ClusterError::Unauthenticated { .. })) => {
            return Err(error.into());
        }
        Err(ClusterError::Forbidden { .. }) => Err(Unread::Forbidden),
        Err(ClusterError::NotFound { .. }) => Err(Unread::KindMissing),
        Err(error) => Err(Unread::Failed(error.to_string())),
    })
}

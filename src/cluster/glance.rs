//! What `pullpass status` reads: little of many objects, and never what a Secret holds, but for the serving certificate.

use std::time::Duration;

use futures::stream::{self, BoxStream, SelectAll, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Namespace as NamespaceObject, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::{Api, ListParams};
use kube::core::PartialObjectMeta as Meta;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use serde::de::DeserializeOwned;

use super::api::{Objects, named};
use super::events::REPORTING_CONTROLLER;
use super::{Kube, WEBHOOKS, api_error, objects, own_selector};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::namespace::INJECT_LABEL;
use crate::provision::ports::ClusterError;
use crate::provision::{Namespace, PULL_SECRET};
use crate::registry::Registry;

/// How many objects one answer of the API server holds.
const PAGE: u32 = 500;

/// How many Events are read: the API server keeps an hour of them.
const EVENTS_MAX: usize = 200;

/// The name of the certificate in a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";

/// pullpass' Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replicas {
    /// How many are ready.
    pub ready: i32,
    /// How many there are to be.
    pub wanted: i32,
    /// The Secret with the serving certificate, where it is mounted; `None`: pullpass makes its own.
    pub certificate: Option<ObjectName>,
}

/// Who leads, as the Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderGlance {
    /// Who holds the Lease; empty where nobody does.
    pub holder: String,
    /// When it was renewed last.
    pub renewed: Option<Timestamp>,
    /// How long after that it holds.
    pub duration: Duration,
}

/// An Event of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventGlance {
    /// When.
    pub at: Timestamp,
    /// Whether something is wrong.
    pub is_warning: bool,
    /// The object that it is about: `Pod web-1`.
    pub object: String,
    /// Why, in one word.
    pub reason: String,
    /// What happened and what to do.
    pub note: String,
}

impl Kube {
    /// pullpass' Deployment in its own namespace; `None`: there is none of its name.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_replicas(&self) -> Result<Option<Replicas>, ClusterError> {
        let deployments = Objects::<Deployment>::namespaced(self, &self.namespace);
        let found = deployments.get(&ObjectName::constant(PULL_SECRET)).await?;
        Ok(found.map(read_replicas))
    }

    /// Who leads; `None`: there is no Lease.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_leader(&self) -> Result<Option<LeaderGlance>, ClusterError> {
        let lease = self
            .leases()
            .get(&ObjectName::constant(PULL_SECRET))
            .await?;
        let spec = lease.map(|lease| lease.spec.unwrap_or_default());
        Ok(spec.map(|spec| {
            let seconds = spec.lease_duration_seconds.unwrap_or_default();
            LeaderGlance {
                holder: spec.holder_identity.unwrap_or_default(),
                renewed: spec.renew_time.map(|time| time.0),
                duration: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
            }
        }))
    }

    /// The certificates of a Secret of pullpass' own namespace, PEM: what everybody who connects is shown. `None`: there are none.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_certificate(
        &self,
        name: &ObjectName,
    ) -> Result<Option<Vec<u8>>, ClusterError> {
        let found = self.own_secrets().get(name).await?;
        let mut data = found.and_then(|secret| secret.data).unwrap_or_default();
        Ok(data.remove(CERTIFICATE).map(|bytes| bytes.0))
    }

    /// The namespaces that have the opt-in label, whatever it says.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_labelled_namespaces(&self) -> Result<Vec<Namespace>, ClusterError> {
        let asked = ListParams::default().labels(INJECT_LABEL);
        let mut found = Vec::new();
        let take = |metadata: ObjectMeta| {
            let name = metadata.name.as_deref().unwrap_or_default();
            let name = NamespaceName::parse(name).ok();
            let read = |name| objects::read_namespace(name, metadata, &self.excluded);
            found.extend(name.map(read));
        };
        self.list_metadata(("namespaces", "/api/v1/namespaces"), asked, take)
            .await?;
        Ok(found)
    }

    /// The Events of ours in a namespace, the newest first.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_own_events(
        &self,
        namespace: &NamespaceName,
    ) -> Result<Vec<EventGlance>, ClusterError> {
        let api: Api<Event> = self.namespaced(namespace);
        let asked = ListParams::default().fields(&own_events()).limit(PAGE);
        let what = format!("events in namespace {namespace}");
        let found = api_error::request(&what, api.list(&asked)).await?;
        let mut events: Vec<EventGlance> = found.items.into_iter().filter_map(read_event).collect();
        events.sort_by_key(|event| std::cmp::Reverse(event.at));
        events.truncate(EVENTS_MAX);
        Ok(events)
    }

    /// Rings whenever something of what `pullpass status` shows changes: of a namespace, or of the cluster. What may not be watched never
    /// does, and is asked for again every now and then.
    pub fn watch_status(&self, namespace: Option<&NamespaceName>) -> BoxStream<'static, ()> {
        let all = watcher::Config::default;
        let client = || self.client.clone();
        let mut changes = SelectAll::new();
        changes.push(changes_of(Api::<Meta<Registry>>::all(client()), all()));
        let secrets = all().labels(&own_selector());
        if let Some(namespace) = namespace {
            let own = all().fields(&named(&namespace.clone().into()));
            changes.push(changes_of(Api::<Meta<NamespaceObject>>::all(client()), own));
            changes.push(changes_of(
                self.namespaced::<Meta<Secret>>(namespace),
                secrets,
            ));
            let events = all().fields(&own_events());
            changes.push(changes_of(
                self.namespaced::<Meta<Event>>(namespace),
                events,
            ));
            changes.push(changes_of(self.namespaced::<Meta<Pod>>(namespace), all()));
        } else {
            let labelled = all().labels(INJECT_LABEL);
            changes.push(changes_of(
                Api::<Meta<NamespaceObject>>::all(client()),
                labelled,
            ));
            changes.push(changes_of(Api::<Meta<Secret>>::all(client()), secrets));
            let name = all().fields(&named(&ObjectName::constant(PULL_SECRET)));
            let deployments = self.namespaced::<Meta<Deployment>>(&self.namespace);
            changes.push(changes_of(deployments, name));
            let name = all().fields(&named(&ObjectName::constant(WEBHOOKS)));
            let webhooks = Api::<Meta<MutatingWebhookConfiguration>>::all(client());
            changes.push(changes_of(webhooks, name));
        }
        // It has no end, whatever becomes of the watches.
        changes.chain(stream::pending()).boxed()
    }
}

/// Each change of one kind, and the end of each list.
fn changes_of<K>(api: Api<K>, config: watcher::Config) -> BoxStream<'static, ()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let events = watcher(api, config).default_backoff();
    let rings = events.filter_map(async |event| match event {
        Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => {
            Some(())
        }
        _ => None,
    });
    rings.boxed()
}

/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/registry/core/event/strategy.go>
fn own_events() -> String {
    format!("reportingComponent={REPORTING_CONTROLLER}")
}

fn read_replicas(deployment: Deployment) -> Replicas {
    let spec = deployment.spec;
    let volumes = spec.template.spec.and_then(|pod| pod.volumes);
    let mut secrets = volumes
        .into_iter()
        .flatten()
        .filter(|volume| volume.name == "tls")
        .filter_map(|volume| volume.secret?.secret_name);
    let ready = deployment.status.and_then(|status| status.ready_replicas);
    Replicas {
        ready: ready.unwrap_or_default(),
        // <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#replicas>
        wanted: spec.replicas.unwrap_or(1),
        certificate: secrets.find_map(|name| ObjectName::parse(&name).ok()),
    }
}

fn read_event(event: Event) -> Option<EventGlance> {
    let at = event.event_time.map(|time| time.0);
    let created = event.metadata.creation_timestamp.map(|time| time.0);
    let object = event.involved_object;
    let name = object.name.unwrap_or_default();
    Some(EventGlance {
        at: at.or(created)?,
        is_warning: event.type_.as_deref() == Some("Warning"),
        object: format!("{} {name}", object.kind.unwrap_or_default()),
        reason: event.reason.unwrap_or_default(),
        note: event.message.unwrap_or_default(),
    })
}

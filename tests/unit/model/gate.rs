//! The way of one replica to the API server: it may be cut, answers may be lost; and what a product with a planted fault would do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::future::BoxFuture;
use pullpass::credential::SourceSecret;
use pullpass::names::{NamespaceName, ObjectName};
use pullpass::provision::Namespace;
use pullpass::provision::ports::{
    Cluster, ClusterError, ListedRegistry, Precondition, PullSecret, PullSecretContent, Version,
};
use pullpass::provision::secret::format::DOCKERCONFIGJSON;
use pullpass::provision::service_account::ServiceAccount;
use pullpass::registry::Registries;
use secrecy::{ExposeSecret as _, SecretSlice};

use super::double::{View, place};
use super::truth::{Rules, build};

/// A fault that is planted into the product's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A write leaves out the last of several logins.
    NarrowerWrite,
    /// A write that lost a race is repeated as it was, over what the other one wrote.
    LostMerge,
    /// A Secret that is somebody else's is taken over.
    ForeignOverwrite,
    /// The kind is taken to be there whenever it is asked for.
    KindUnasked,
    /// Secrets hold logins that kubelets are to ask for.
    NodeAsBoth,
}

/// What is wrong with the API server, for one replica.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) down: AtomicBool,
    /// Of so many requests one fails, and one succeeds without an answer; 0: none.
    pub(crate) one_in: AtomicU64,
}

pub(crate) struct Gate {
    pub(crate) view: View,
    pub(crate) faults: Arc<Faults>,
    pub(crate) mutant: Option<Mutant>,
}

fn unreachable() -> ClusterError {
    ClusterError::Unreachable {
        what: "the API server".to_owned(),
        message: "connection refused".to_owned(),
    }
}

impl Gate {
    fn fails(&self) -> bool {
        let one_in = self.faults.one_in.load(Ordering::SeqCst);
        self.faults.down.load(Ordering::SeqCst) || (one_in > 0 && self.view.dice.below(one_in) == 0)
    }

    fn asks_nobody(&self) -> bool {
        self.mutant == Some(Mutant::KindUnasked)
    }

    /// Sends a request; it or its answer may be lost.
    async fn pass<T>(
        &self,
        request: BoxFuture<'_, Result<T, ClusterError>>,
    ) -> Result<T, ClusterError> {
        if self.fails() {
            return Err(unreachable());
        }
        let answer = request.await;
        if self.fails() {
            return Err(unreachable());
        }
        answer
    }

    /// The write that the planted fault makes of this one, if it does.
    fn disfigure(
        &self,
        at: &str,
        content: &PullSecretContent,
        precondition: &Precondition,
    ) -> Option<(PullSecretContent, Precondition)> {
        let there = self.view.world.secret(at);
        let over = |ours: bool| {
            let there = there.as_ref().filter(|there| there.ours == ours)?;
            Some((
                content.clone(),
                Precondition::Exactly(there.version.clone()),
            ))
        };
        match self.mutant? {
            Mutant::NarrowerWrite => Some((narrower(content)?, precondition.clone())),
            Mutant::LostMerge => over(true),
            Mutant::ForeignOverwrite => over(false),
            Mutant::KindUnasked | Mutant::NodeAsBoth => None,
        }
    }
}

fn narrower(content: &PullSecretContent) -> Option<PullSecretContent> {
    let bytes = content.data[DOCKERCONFIGJSON].expose_secret();
    let mut value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let auths = value.get_mut("auths")?.as_object_mut()?;
    let last = auths.keys().next_back()?.clone();
    if auths.len() < 2 {
        return None;
    }
    auths.remove(&last);
    Some(PullSecretContent {
        data: [(
            DOCKERCONFIGJSON,
            Arc::new(SecretSlice::from(value.to_string().into_bytes())),
        )]
        .into(),
        ..content.clone()
    })
}

/// The Registries as a product with this fault reads them.
pub(crate) fn read_registries(mutant: Option<Mutant>, rules: &Rules) -> Registries {
    let mut rules = rules.clone();
    for ruled in rules.values_mut() {
        if mutant == Some(Mutant::NodeAsBoth) && ruled.spec["delivery"] == "Node" {
            ruled.spec["delivery"] = "Both".into();
        }
    }
    build(&rules)
}

#[async_trait]
impl Cluster for Gate {
    async fn fetch_namespace(
        &self,
        name: &NamespaceName,
    ) -> Result<Option<(String, Namespace)>, ClusterError> {
        self.pass(self.view.fetch_namespace(name)).await
    }

    async fn fetch_service_account(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<ServiceAccount>, ClusterError> {
        self.pass(self.view.fetch_service_account(namespace, name))
            .await
    }

    async fn fetch_source(&self, name: &ObjectName) -> Result<Option<SourceSecret>, ClusterError> {
        self.pass(self.view.fetch_source(name)).await
    }

    async fn fetch_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
    ) -> Result<Option<PullSecret>, ClusterError> {
        self.pass(self.view.fetch_pull_secret(namespace, name))
            .await
    }

    async fn apply_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
        content: &PullSecretContent,
        precondition: &Precondition,
    ) -> Result<Version, ClusterError> {
        let is_there = {
            let all = self.view.world.namespaces.lock().unwrap();
            all.get(namespace.as_str())
                .is_some_and(|one| !one.terminating)
        };
        if !is_there {
            return Err(ClusterError::NamespaceGone {
                what: namespace.to_string(),
            });
        }
        let other = self.disfigure(&place(namespace, name), content, precondition);
        let (content, precondition) = other
            .as_ref()
            .map_or((content, precondition), |(content, at)| (content, at));
        let applied = self
            .view
            .apply_pull_secret(namespace, name, content, precondition);
        self.pass(applied).await
    }

    async fn delete_pull_secret(
        &self,
        namespace: &NamespaceName,
        name: &ObjectName,
        version: &Version,
    ) -> Result<(), ClusterError> {
        self.pass(self.view.delete_pull_secret(namespace, name, version))
            .await
    }

    async fn fetch_registry_verbs(&self) -> Result<Vec<String>, ClusterError> {
        let verbs = self.pass(self.view.fetch_registry_verbs()).await;
        if self.asks_nobody() {
            return Ok(vec!["create".to_owned()]);
        }
        verbs
    }

    async fn fetch_registry_crd(&self) -> Result<Option<String>, ClusterError> {
        let crd = self.pass(self.view.fetch_registry_crd()).await;
        if self.asks_nobody() {
            return Ok(Some(self.view.world.crd()));
        }
        crd
    }

    async fn list_registries(&self) -> Result<Vec<ListedRegistry>, ClusterError> {
        let listed = self.pass(self.view.list_registries()).await;
        match listed {
            Err(ClusterError::NotFound { .. }) if self.asks_nobody() => Ok(Vec::new()),
            listed => listed,
        }
    }
}

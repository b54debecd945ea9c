//! Taking out of a pull secret what belongs there no more: what no Registry gives, or all of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::observe::PullSecretRef;
use super::ports::{ClusterError, ListedRegistry, Precondition, PullSecret};
use super::provisioner::{Provisioner, ProvisionerInner};
use super::secret;
use super::state::Observed;
use super::{InjectMode, Namespace};

/// How often a lost race is run again before it is given up for this time.
const ATTEMPTS: usize = 4;

/// How long after a Registry's deletion the kind must still be served, for this to have been an order. A tool that deletes the Registries
/// and then their kind, as it uninstalls both, is given time to.
const KIND_STAYS: Duration = Duration::from_secs(2);

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Entries were taken out.
    Entries,
    /// The Secret was deleted.
    Secret,
    /// There was nothing to be removed after all.
    Nothing,
}

/// Why nothing can be concluded from Registries that memory does not know.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesUnconfirmed {
    /// The kind is being deleted or gone, and all Registries with it.
    #[error(
        "the kind Registry is being deleted or gone -> install it again, and the Registries: pullpass crd | kubectl apply -f -"
    )]
    KindGone,
    /// The API server cannot be asked, or refuses.
    #[error(transparent)]
    ListFailed(#[from] ClusterError),
    /// There is one, and its watch has not shown it as it is now.
    #[error("the watch has not shown registry {name} as it is now -> waiting for the watch")]
    CacheBehind {
        /// Its name.
        name: String,
    },
}

impl Provisioner {
    /// Asks the API server whether the kind is still served in 2 s, by which CRD, and whether memory knows each Registry that there is
    /// then: what admins changed or deleted of that CRD's Registries until now are orders.
    ///
    /// # Errors
    /// It cannot be decided, the kind is going, or there is a Registry that memory does not know.
    pub async fn confirm_spec_changes(&self) -> Result<(), RegistriesUnconfirmed> {
        let state = &self.0.state;
        let until = state.spec_changes().count();
        match self.find_crd_that_stays().await {
            Ok(crd) => {
                state.confirm_spec_changes(until, crd.as_deref(), (self.0.clock)());
                Ok(())
            }
            Err(error) => {
                if matches!(error, RegistriesUnconfirmed::KindGone) {
                    state.lose_kind();
                }
                Err(error)
            }
        }
    }

    /// What went with the kind was taken out, since an admin confirmed it: what is like it from now on is another matter.
    pub fn forget_lost_kind(&self) {
        self.0.state.forget_lost_kind();
    }

    /// The uid of the CRD that serves the kind for 2 s; `None`: the API server does not let us read it. Its Registries are deleted only
    /// once it is itself marked as being deleted, so one that is not took none with it: what it was asked about came before.
    async fn find_crd_that_stays(&self) -> Result<Option<String>, RegistriesUnconfirmed> {
        self.check_kind().await?;
        tokio::time::sleep(KIND_STAYS).await;
        self.confirm_registries().await?;
        match self.0.cluster.fetch_registry_crd().await {
            Ok(Some(uid)) => Ok(Some(uid)),
            Ok(None) => Err(RegistriesUnconfirmed::KindGone),
            Err(ClusterError::Forbidden { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn check_kind(&self) -> Result<(), RegistriesUnconfirmed> {
        match self.0.cluster.fetch_registry_verbs().await {
            Ok(verbs) if verbs.iter().any(|verb| verb == "create") => Ok(()),
            Ok(_) | Err(ClusterError::NotFound { .. }) => Err(RegistriesUnconfirmed::KindGone),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the API server whether the kind is served, and memory knows each Registry that there is: else nothing can be concluded from
    /// those that memory misses. A watch shows none of them while the kind is gone, and for a while after it came back.
    ///
    /// # Errors
    /// It cannot be decided, the kind is going, or there is a Registry that memory does not know.
    pub async fn confirm_registries(&self) -> Result<(), RegistriesUnconfirmed> {
        self.check_kind().await?;
        let registries = self.0.state.registries();
        let known = registries.listed().iter().map(|one| ListedRegistry {
            name: one.name.to_string(),
            uid: one.uid.clone(),
            generation: one.generation,
        });
        let known: BTreeSet<ListedRegistry> = known.collect();
        let there = self.0.cluster.list_registries().await?;
        let unreadable = self.0.state.unreadable().get();
        let mut unknown = there.into_iter().filter(|one| !known.contains(one));
        match unknown.nth(unreadable) {
            None => Ok(()),
            Some(one) => Err(RegistriesUnconfirmed::CacheBehind { name: one.name }),
        }
    }

    /// Takes `keys` out of a pull secret, or deletes it where nothing else is left in it or the namespace has not opted in. Whether it
    /// has not is read live first: a watch may have missed it.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn remove(
        &self,
        target: &PullSecretRef,
        keys: &[String],
    ) -> Result<Removed, ClusterError> {
        let opted_out = target.namespace.mode == InjectMode::Off;
        if opted_out && !self.0.has_opted_out(&target.namespace).await? {
            return Ok(Removed::Nothing);
        }
        let keys: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
        let stays = |key: &str| !opted_out && !keys.contains(key);
        let mut last = ClusterError::Conflict {
            what: format!("secret {}/{}", target.namespace.name, target.secret),
        };
        for _ in 0..ATTEMPTS {
            match self.0.remove_once(target, opted_out, stays).await {
                Err(error @ ClusterError::Conflict { .. }) => last = error,
                done => return done,
            }
        }
        Err(last)
    }
}

impl ProvisionerInner {
    async fn has_opted_out(&self, namespace: &Arc<Namespace>) -> Result<bool, ClusterError> {
        let name = &namespace.name;
        match self.cluster.fetch_namespace(name).await? {
            None => {
                self.state.forget_pull_secrets_in(name);
                Ok(false)
            }
            Some((version, live)) if live.mode != InjectMode::Off => {
                self.state.namespaces.apply_own_write(name, &version, live);
                Ok(false)
            }
            Some((_, live)) => Ok(!live.terminating),
        }
    }

    async fn remove_once(
        &self,
        target: &PullSecretRef,
        opted_out: bool,
        stays: impl Fn(&str) -> bool,
    ) -> Result<Removed, ClusterError> {
        let (namespace, name) = (&target.namespace.name, &target.secret);
        let store = self.state.pull_secrets_of(name);
        let Some(there) = self.cluster.fetch_pull_secret(namespace, name).await? else {
            store.delete(namespace, "");
            return Ok(Removed::Nothing);
        };
        let PullSecret { version, ours, .. } = &there;
        if !ours {
            store.apply_own_write(namespace, &version.resource_version, Observed::of(&there));
            return Ok(Removed::Nothing);
        }
        let pruned = secret::prune(&there, stays);
        let Some(content) = pruned.content.filter(|_| !opted_out) else {
            self.cluster
                .delete_pull_secret(namespace, name, version)
                .await?;
            store.delete(namespace, "");
            return Ok(Removed::Secret);
        };
        if !pruned.is_changed {
            store.apply_own_write(namespace, &version.resource_version, Observed::of(&there));
            return Ok(Removed::Nothing);
        }
        let precondition = Precondition::Exactly(version.clone());
        let version = self
            .cluster
            .apply_pull_secret(namespace, name, &content, &precondition)
            .await?;
        let resource_version = version.resource_version.clone();
        let observed = Observed::of_own_write(version, content.format, pruned.digests);
        store.apply_own_write(namespace, &resource_version, observed);
        Ok(Removed::Entries)
    }
}

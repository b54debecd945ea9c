//! Taking out of a pull secret what belongs there no more: what no Registry gives, or all of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ports::{ClusterError, Precondition, PullSecret};
use super::provisioner::{Provisioner, ProvisionerInner};
use super::secret;
use super::snapshot::PullSecretRef;
use super::state::Observed;
use super::{InjectMode, Namespace};

/// How often a lost race is run again before it is given up for this time.
const ATTEMPTS: usize = 4;

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
    /// The API server cannot be asked, refuses, or does not know the kind.
    #[error(transparent)]
    ListFailed(#[from] ClusterError),
    /// There is one, and its watch has not shown it.
    #[error("registry {name} exists, but its watch has not seen it yet -> waiting for the watch")]
    CacheBehind {
        /// Its name.
        name: String,
    },
}

impl Provisioner {
    /// Asks the API server whether memory knows each Registry that there is: else nothing can be concluded from those that memory misses.
    /// A watch shows none of them while the kind is gone, and for a while after it came back.
    ///
    /// # Errors
    /// It cannot be decided, or there is one that memory does not know.
    pub async fn confirm_registries(&self) -> Result<(), RegistriesUnconfirmed> {
        let registries = self.0.state.registries();
        let known: BTreeSet<&str> = registries.listed().iter().map(|one| &*one.name).collect();
        let there = self.0.cluster.list_registries().await?;
        let unreadable = self.0.state.unreadable().load(Ordering::Acquire);
        let mut unknown = there.iter().filter(|name| !known.contains(name.as_str()));
        match unknown.nth(unreadable) {
            None => Ok(()),
            Some(name) => Err(RegistriesUnconfirmed::CacheBehind { name: name.clone() }),
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
        if opted_out || pruned.is_empty {
            self.cluster
                .delete_pull_secret(namespace, name, version)
                .await?;
            store.delete(namespace, "");
            return Ok(Removed::Secret);
        }
        if !pruned.is_changed {
            store.apply_own_write(namespace, &version.resource_version, Observed::of(&there));
            return Ok(Removed::Nothing);
        }
        let precondition = Precondition::Exactly(version.clone());
        let version = self
            .cluster
            .apply_pull_secret(namespace, name, &pruned.content, &precondition)
            .await?;
        let resource_version = version.resource_version.clone();
        let observed = Observed {
            version,
            ours: true,
            intact: true,
            digests: pruned.digests,
        };
        store.apply_own_write(namespace, &resource_version, observed);
        Ok(Removed::Entries)
    }
}

//! Taking out of a pull secret what belongs there no more: what no Registry gives, or all of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ports::{ClusterError, Precondition, PullSecret};
use super::provisioner::{Provisioner, ProvisionerInner};
use super::secret;
use super::observe::PullSecretRef;
use super::state::Observed;
use super::{InjectMode, Namespace};

/// How often a lost race is run again before it is given up for this time.
const ATTEMPTS: usize = 4;

/// For how long the kind must be served after a Registry's deletion, for this to have been an order: with the kind all Registries go. It
/// takes the API server about a second to forget a kind, so that also one that was replaced meanwhile has been seen going.
const KIND_STAYS: Duration = Duration::from_secs(2);

/// How often it is asked for meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(250);

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
    /// There is one, and its watch has not shown it.
    #[error("registry {name} exists, but its watch has not seen it yet -> waiting for the watch")]
    CacheBehind {
        /// Its name.
        name: String,
    },
}

impl Provisioner {
    /// Asks the API server whether the kind is served for 2 s, and whether memory knows each Registry that there
    /// is: then what admins changed or deleted until now are orders.
    ///
    /// # Errors
    /// It cannot be decided, the kind is going, or there is a Registry that memory does not know.
    pub async fn confirm_spec_changes(&self) -> Result<(), RegistriesUnconfirmed> {
        let state = &self.0.state;
        let until = state.spec_changes().count();
        let answer = self.check_for_a_while().await;
        match &answer {
            Ok(()) => state.confirm_spec_changes(until, (self.0.clock)()),
            Err(RegistriesUnconfirmed::KindGone) => state.lose_kind(),
            Err(
                RegistriesUnconfirmed::ListFailed(_) | RegistriesUnconfirmed::CacheBehind { .. },
            ) => {}
        }
        answer
    }

    /// What went with the kind was taken out, since an admin confirmed it: what is like it from now on is another matter.
    pub fn forget_lost_kind(&self) {
        self.0.state.forget_lost_kind();
    }

    /// The first and the last answer have to be there; each one may say that the kind is going.
    async fn check_for_a_while(&self) -> Result<(), RegistriesUnconfirmed> {
        let until = Instant::now() + KIND_STAYS;
        self.check_kind().await?;
        while Instant::now() < until {
            tokio::time::sleep(ASK_EVERY).await;
            if let Err(gone @ RegistriesUnconfirmed::KindGone) = self.check_kind().await {
                return Err(gone);
            }
        }
        self.confirm_registries().await
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
        let known: BTreeSet<&str> = registries.listed().iter().map(|one| &*one.name).collect();
        let there = self.0.cluster.list_registries().await?;
        let unreadable = self.0.state.unreadable().get();
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

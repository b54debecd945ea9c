//! The pull secrets of a namespace: what belongs into them, whether it is there, and making it so. Each secret, [`PULL_SECRET`] or a
//! Registry's own one, is handled separately.
//!
//! ```text
//! admission ─▶ Provision ─┬─ warm: state (memory alone: no API call, no cloud call)
//!                         └─ cold: ensure ─▶ credential ─▶ secret (pure: merge) ─▶ Cluster (compare-and-swap)
//! ```

mod account_cache;
mod bounded_map;
pub mod changes;
mod coverage;
pub mod decide;
mod desired;
mod desired_set;
pub mod digest;
mod entry_state;
mod entry_view;
mod flight;
mod grant_coverage;
pub mod grant_entries;
mod grant_fetcher;
mod grant_fetches;
pub mod image_login;
mod kept;
mod listed_crd;
mod live_reads;
pub mod login_digests;
pub mod login_outcomes;
pub mod namespace;
pub mod node_list;
pub mod node_report;
pub mod observe;
mod observed;
pub mod offline;
mod pending;
pub mod ports;
mod provisioner;
pub mod prune;
pub(crate) mod read_cache;
mod reads;
pub mod secret;
pub mod service_account;
pub mod shared_hosts;
mod sources;
mod stale;
pub mod state;
mod static_source;
pub mod store;
pub mod summary;
mod superseded_logins;
pub mod tenant_identity;
mod unwanted_keys;
mod write;
mod write_log;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::names::{NamespaceName, ObjectName};
pub use crate::registry::PULL_SECRET;
use crate::registry::{Registries, ValidRegistry};
pub use namespace::{ExcludedNamespaces, InjectMode, Namespace};
pub use provisioner::Provisioner;
pub(crate) use write::missing_rbac;

/// What admission asks of this room. Everything that is not a future answers from memory.
#[async_trait]
pub trait Provision: Send + Sync {
    /// The Registries as they are now: one snapshot for one review.
    fn registries(&self) -> Arc<Registries>;

    /// What keeps the source Secrets of a Registry from being used: a line for each, with what to do. Those of which memory has something to
    /// say are read live before, within a second, as far as the rate allows: Secret and Registry may come in one `kubectl apply`.
    async fn find_source_problems(&self, _registry: &ValidRegistry) -> Vec<String> {
        Vec::new()
    }

    /// That the rights to the pull secrets of this name are missing, and what to do; `None`: they are there, or that is not known. One live
    /// question, within a second; those beyond a rate are not asked.
    async fn find_missing_rights(&self, _secret: &ObjectName) -> Option<String> {
        None
    }

    /// The namespace as it is known in memory: those with the opt-in label are.
    fn namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>>;

    /// The namespace by one live read, for one that memory does not have (yet): Namespace and Pod may come in one
    /// `kubectl apply`. `None`: there is none of this name, or it could not be read (logged here).
    async fn fetch_namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>>;

    /// Whether a Pod of this ServiceAccount may reference a pull secret.
    ///
    /// `false` only where the ServiceAccount carries `kubernetes.io/enforce-mountable-secrets: "true"` and does not list the
    /// secret: the API server would refuse the Pod. One live read per ServiceAccount, remembered for minutes; a ServiceAccount
    /// that cannot be read counts as an ordinary one.
    /// <https://kubernetes.io/docs/concepts/security/service-accounts/#enforce-mountable-secrets>
    async fn may_reference(
        &self,
        namespace: &NamespaceName,
        service_account: &ObjectName,
        secret: &str,
    ) -> bool;

    /// Whether this pull secret of the namespace holds a good login under each of `keys` (the `auths` keys that the Pod's images
    /// resolved to), decided from memory alone. What is good but past half of its life is renewed in the background, unless
    /// this is a dry run.
    fn covers(
        &self,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        keys: &[&str],
        now: Timestamp,
        dry_run: bool,
    ) -> Coverage;

    /// Reads a pull secret live, once, where memory cannot know yet whether it is there, as the list of those of its name goes on;
    /// else nothing is asked.
    async fn read_if_unlisted(
        &self,
        _namespace: &NamespaceName,
        _secret: &ObjectName,
    ) -> SecretRead {
        SecretRead::NotNeeded
    }

    /// Why what is missing under `keys` is not there to be written, as far as memory knows: for a dry run, which works for nothing.
    fn find_lacks(
        &self,
        _namespace: &Arc<Namespace>,
        _secret: &ObjectName,
        _keys: &[&str],
        _now: Timestamp,
    ) -> Vec<Pending> {
        Vec::new()
    }

    /// Mints what is missing under `keys` and writes this pull secret, waiting for these keys alone and not beyond `deadline`.
    /// The work is a separate task: it goes on when the caller hangs up or the deadline passes. Never for a dry run.
    async fn ensure(
        &self,
        namespace: &Arc<Namespace>,
        secret: &ObjectName,
        keys: &[&str],
        deadline: tokio::time::Instant,
    ) -> EnsureOutcome;
}

/// What memory knows of a namespace's pull secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// There is a good login under each key: nothing to do.
    Covered,
    /// Something is missing, spent or unknown: ask [`Provision::ensure`].
    Missing,
    /// A Secret of this name is there that is not ours. It is never written, and never referenced: a malformed one would make
    /// every pull of the Pod fail.
    Foreign,
}

/// How it is known what a namespace's pull secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretRead {
    /// Memory knows it.
    NotNeeded,
    /// It was read just now, and memory knows what there is.
    Done,
    /// Not at all: it could not be read, or not soon.
    Failed,
}

/// How making sure of a namespace's pull secret ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnsureOutcome {
    /// There is a good login under each key.
    Covered,
    /// Not everything is there. The Pod references the secret all the same: the kubelet takes a missing one as a warning and
    /// reads it again at each pull.
    Pending(Vec<Pending>),
    /// A Secret of this name is there that is not ours: do not reference it.
    Foreign,
}

/// One thing that is not there yet, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// The Registry that it belongs to; `None` when it concerns the whole secret.
    pub registry: Option<ObjectName>,
    /// Why, from a closed set of CamelCase words, for metrics and logs.
    pub reason: &'static str,
    /// What happened and what to do, in words for people; no secret in it.
    pub message: String,
    /// Whether the message may hold what is not the namespace's, as what a cloud answered to another identity, or what a source Secret
    /// holds: that is for those who run pullpass, and for no one else.
    pub is_for_admins: bool,
}

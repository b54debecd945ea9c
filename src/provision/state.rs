//! What the watches know: opted-in namespaces, Registries, pull secrets, source Secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use secrecy::ExposeSecret;

use super::Namespace;
use super::access::{PullSecret, Version};
use super::account::Accounts;
use super::secret::{Auths, Digest};
use super::table::Table;
use crate::credential::{SourceSecret, SourceSecrets};
use crate::registry::Registries;

/// The state in memory. Watches write it, and provisioning after each write of its own; admission only ever reads it.
pub struct State {
    /// Opted-in namespaces by name.
    pub namespaces: Table<Namespace>,
    /// The Secrets `pullpass` by namespace.
    pub pull_secrets: Table<Seen>,
    /// The source Secrets of pullpass' own namespace by name.
    pub sources: Table<SourceSecret>,
    /// The ServiceAccounts whose identities are used.
    pub accounts: Accounts,
    registries: ArcSwap<Registries>,
    generation: Arc<AtomicU64>,
}

impl Default for State {
    fn default() -> Self {
        let generation = Arc::new(AtomicU64::new(1));
        Self {
            namespaces: Table::new(Arc::clone(&generation), PartialEq::eq),
            pull_secrets: Table::new(Arc::clone(&generation), PartialEq::eq),
            sources: Table::new(Arc::clone(&generation), |one, other| {
                one.resource_version == other.resource_version
            }),
            accounts: Accounts::new(Arc::clone(&generation)),
            registries: ArcSwap::from_pointee(Registries::build([])),
            generation,
        }
    }
}

impl State {
    /// The Registries as they are now.
    pub fn registries(&self) -> Arc<Registries> {
        self.registries.load_full()
    }

    /// Replaces the Registries.
    pub fn set_registries(&self, registries: Registries) {
        self.registries.store(Arc::new(registries));
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// A number that grows with every change of anything here: what was worked out at the same number still holds.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl SourceSecrets for State {
    fn source(&self, name: &str) -> Option<Arc<SourceSecret>> {
        self.sources.get(name)
    }
}

/// What is remembered of a namespace's pull secret: enough to compare, no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The object's state.
    pub version: Version,
    /// Whether it is ours.
    pub ours: bool,
    /// Whether the kubelet can decode all of it.
    pub intact: bool,
    /// What stands under each `auths` key; empty for a Secret that is not ours.
    pub digests: BTreeMap<String, Digest>,
}

impl Seen {
    /// What to remember of a pull secret.
    pub fn of(secret: &PullSecret) -> Self {
        let content = secret.dockerconfigjson.as_ref().filter(|_| secret.ours);
        let auths = content
            .map(|bytes| Auths::parse(bytes.expose_secret()))
            .unwrap_or_default();
        Self {
            version: secret.version.clone(),
            ours: secret.ours,
            intact: auths.is_intact(),
            digests: auths.digests(),
        }
    }
}

//! The live reads that a review may need: of a namespace, pull secret or source Secret that no watch knows (yet), of a Pod's ServiceAccount,
//! and of the rights to a Registry's own Secrets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::live_reads::Crowded;
use super::ports::ClusterError;
use super::provisioner::ProvisionerInner;
use super::state::Observed;
use super::{InjectMode, Namespace, SecretRead, sources, write};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::{ValidRegistry, registry_of_secret};

/// How long the API server may take to say what a warning depends on.
const WARNING_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it may take to say what a pull secret is: a Pod is admitted without.
const SECRET_TIMEOUT: Duration = Duration::from_secs(1);

impl ProvisionerInner {
    /// What to say where pull secrets of this name cannot be written, as far as the API server says so in time.
    pub(super) async fn find_missing_rights(&self, secret: &ObjectName) -> Option<String> {
        registry_of_secret(secret)?;
        let asked = async {
            self.warning_reads.turn_soon().await.ok()?;
            self.cluster.may_write_pull_secrets(secret).await.ok()
        };
        let may_write = tokio::time::timeout(WARNING_TIMEOUT, asked).await.ok()??;
        (!may_write).then(|| write::missing_rbac(secret))
    }

    /// What keeps the source Secrets of a Registry from being used, after a live read of them where memory finds anything.
    pub(super) async fn find_source_problems(&self, registry: &ValidRegistry) -> Vec<String> {
        let problems = sources::find_problems(registry, &self.state);
        if problems.is_empty() {
            return problems;
        }
        let sources = registry.sources.iter();
        let secrets: BTreeSet<_> = sources.filter_map(|(source, _)| source.secret()).collect();
        let reads = secrets.into_iter().map(async |secret| {
            self.warning_reads.turn_soon().await.ok()?;
            sources::read(secret, &*self.cluster, &self.state)
                .await
                .ok()
        });
        let reads = join_all(reads);
        if tokio::time::timeout(WARNING_TIMEOUT, reads).await.is_err() {
            return problems;
        }
        sources::find_problems(registry, &self.state)
    }

    /// The namespace by the watch or by a live read, whichever is first: callers who name many that nobody has get in nobody's way.
    pub(super) async fn fetch_namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        tokio::select! {
            biased;
            shown = self.state.wait_for_namespace(name) => Some(shown),
            read = self.read_namespace(name) => read,
        }
    }

    async fn read_namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        // Concurrent callers share one read; a failed one is not remembered.
        let (reads, cluster) = (Arc::clone(&self.namespace_reads), Arc::clone(&self.cluster));
        let (state, key) = (Arc::clone(&self.state), name.clone());
        let fetch = async move {
            let crowded = |crowded: Crowded| ClusterError::Unreachable {
                what: format!("namespace {key}"),
                message: crowded.to_string(),
            };
            reads.turn().await.map_err(crowded)?;
            let found = cluster.fetch_namespace(&key).await?;
            Ok(found.map(|(version, namespace)| {
                if namespace.mode != InjectMode::Off {
                    state
                        .namespaces
                        .apply_own_write(&key, &version, namespace.clone());
                }
                Arc::new(namespace)
            }))
        };
        match self.not_opted_in.find(name.clone(), fetch).await {
            Ok((found, _)) => found,
            Err(error) => {
                if let Some(suppressed) = self.namespace_reads.admit_failure(&error) {
                    tracing::warn!(
                        namespace.name = name.as_str(),
                        suppressed,
                        "a namespace could not be read, its Pod is admitted unchanged (logged once a minute): {error}"
                    );
                }
                None
            }
        }
    }

    /// Whether it is known by now what a namespace's pull secret is: from the watch, or by a live read of this moment.
    pub(super) async fn read_if_unlisted(
        &self,
        namespace: &NamespaceName,
        secret: &ObjectName,
    ) -> SecretRead {
        let store = self.state.pull_secrets_of(secret);
        if store.is_listed() || store.get(namespace).is_some() {
            return SecretRead::NotNeeded;
        }
        let read = self.read_pull_secret(namespace, secret);
        let error = match tokio::time::timeout(SECRET_TIMEOUT, read).await {
            Ok(Ok(())) => return SecretRead::Done,
            Ok(Err(error)) => error,
            Err(_) => Arc::new(ClusterError::Unreachable {
                what: format!("secret {secret}"),
                message: "no answer in time".to_owned(),
            }),
        };
        if let Some(suppressed) = self.secret_reads.admit_failure(&error) {
            tracing::warn!(
                namespace.name = namespace.as_str(),
                secret.name = secret.as_str(),
                suppressed,
                "a pull secret could not be read while they are listed (logged once a minute): {error}"
            );
        }
        SecretRead::Failed
    }

    async fn read_pull_secret(
        &self,
        namespace: &NamespaceName,
        secret: &ObjectName,
    ) -> Result<(), Arc<ClusterError>> {
        let (reads, cluster) = (Arc::clone(&self.secret_reads), Arc::clone(&self.cluster));
        let store = self.state.pull_secrets_of(secret);
        let key = (namespace.clone(), secret.clone());
        let (namespace, secret) = key.clone();
        let fetch = async move {
            let crowded = |crowded: Crowded| ClusterError::Unreachable {
                what: format!("secret {secret}"),
                message: crowded.to_string(),
            };
            reads.turn_soon().await.map_err(crowded)?;
            if let Some(found) = cluster.fetch_pull_secret(&namespace, &secret).await? {
                let version = &found.version.resource_version;
                store.apply_own_write(&namespace, version, Observed::of(&found));
            }
            Ok(())
        };
        self.unlisted.find(key, fetch).await.map(|_| ())
    }

    pub(super) async fn may_reference(
        &self,
        namespace: &NamespaceName,
        service_account: &ObjectName,
        secret: &str,
    ) -> bool {
        let found = self
            .accounts
            .find_named(&self.state.accounts, namespace, service_account)
            .await;
        match found {
            Ok(account) => account.is_none_or(|account| account.may_reference(secret)),
            Err(error) => {
                if let Some(suppressed) = self.accounts.admit_failure(&error) {
                    tracing::warn!(
                        namespace.name = namespace.as_str(),
                        service_account.name = service_account.as_str(),
                        suppressed,
                        "a ServiceAccount could not be read and counts as an ordinary one (logged once a minute): {error}"
                    );
                }
                true
            }
        }
    }
}

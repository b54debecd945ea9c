//! Provisioning without a cluster: for trying out and for load tests.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Coverage, EnsureOutcome, Namespace, Provision};
use crate::names::{NamespaceName, ObjectName};
use crate::registry::Registries;

/// Known namespaces and Registries that never change; every pull secret and source Secret is taken to be there. Nothing is minted or written.
#[derive(Debug)]
pub struct Offline {
    registries: Arc<Registries>,
    namespaces: HashMap<NamespaceName, Arc<Namespace>>,
}

impl Offline {
    /// Puts it together.
    pub fn new(
        registries: impl Into<Arc<Registries>>,
        namespaces: impl IntoIterator<Item = Namespace>,
    ) -> Self {
        let by_name = |namespace: Namespace| (namespace.name.clone(), Arc::new(namespace));
        Self {
            registries: registries.into(),
            namespaces: namespaces.into_iter().map(by_name).collect(),
        }
    }
}

#[async_trait]
impl Provision for Offline {
    fn registries(&self) -> Arc<Registries> {
        Arc::clone(&self.registries)
    }

    fn namespace(&self, name: &NamespaceName) -> Option<Arc<Namespace>> {
        self.namespaces.get(name).cloned()
    }

    async fn fetch_namespace(&self, _: &NamespaceName) -> Option<Arc<Namespace>> {
        None
    }

    async fn may_reference(&self, _: &NamespaceName, _: &ObjectName, _: &str) -> bool {
        true
    }

    fn covers(
        &self,
        _: &Arc<Namespace>,
        _: &ObjectName,
        _: &[&str],
        _: Timestamp,
        _: bool,
    ) -> Coverage {
        Coverage::Covered
    }

    async fn ensure(
        &self,
        _: &Arc<Namespace>,
        _: &ObjectName,
        _: &[&str],
        _: Instant,
    ) -> EnsureOutcome {
        EnsureOutcome::Covered
    }
}

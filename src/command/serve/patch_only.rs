//! `--patch-only`: Registries and namespaces from files, no cluster.

use std::sync::Arc;

use super::Args;
use super::manager::Manager;
use crate::command::manifest::Manifests;
use crate::provision::Namespace;
use crate::provision::offline::Offline;
use crate::registry::Registries;

/// Serves from files until the process is stopped.
pub(super) async fn serve(args: &Args, manager: Manager) -> anyhow::Result<()> {
    let manifests = Manifests::load(&args.registries)?;
    let registries = Registries::build(manifests.registries);
    let namespaces = manifests.namespaces.into_iter().map(|(name, labels)| {
        Namespace::new(name, labels, false).unless_excluded(&manager.excluded)
    });
    let provision = Offline::new(registries, namespaces);
    manager
        .run(Arc::new(provision), std::future::ready(()))
        .await
}

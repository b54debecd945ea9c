//! Whether pullpass is installed at all: where nothing of it is there, that is all there is to say.

use super::ids;
use super::report::StepResult;
use crate::cluster::Kube;
use crate::command::{INSTALL, describe_not_installed};

/// Whether something of pullpass is there: a webhook configuration of either kind, or its Deployment. What is not known is taken to be.
pub(super) async fn is_installed(kube: &Kube) -> bool {
    let webhooks = kube.fetch_webhooks().await;
    let has_none = webhooks.is_ok_and(|webhooks| webhooks.is_empty());
    !has_none
        || !matches!(kube.has_validating().await, Ok(false))
        || !matches!(kube.fetch_replicas().await, Ok(None))
}

/// Nothing of it is there.
pub(super) fn not_installed(kube: &Kube) -> StepResult {
    let fix = format!("install it, as docs/INSTALL.md says: {INSTALL}");
    StepResult::failed(describe_not_installed(kube.namespace()), fix).id(ids::NOT_INSTALLED)
}

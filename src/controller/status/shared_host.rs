//! Secrets that hold several logins for one host: which clients cannot use them, and which Secret those can use.

use std::collections::BTreeSet;

use crate::controller::reconciler::index::{Index, RegistryCounts};
use crate::registry::clients::WantedLogin;
use crate::registry::{Registries, ValidRegistry};

/// What is to be said of a Registry's Secret in the first namespace where that is so, of those that may be mounted as files, or of the
/// others; `None`: it is so in none.
pub(super) fn find(
    index: &Index,
    registries: &Registries,
    (registry, counts): (&ValidRegistry, &RegistryCounts),
    is_mounted: bool,
) -> Option<String> {
    let is_own = |domain: &&String| registry.patterns().any(|one| one.domain() == **domain);
    // Groups have no order of their own.
    let mut found = BTreeSet::new();
    let views = index.examples(counts);
    for view in views.filter(|view| view.is_mounted() == is_mounted) {
        let (namespace, secret) = (&view.target.namespace, &view.target.secret);
        let first = view.shared_hosts().iter().find(is_own);
        found.extend(first.map(|domain| (&namespace.name, secret, domain, &namespace.labels)));
    }
    let (namespace, secret, domain, labels) = found.pop_first()?;
    let wanted = WantedLogin::Secret(secret);
    let said = registries.describe_shared_host(labels, (secret, domain), wanted);
    Some(format!("in namespace {namespace} {said}"))
}

//! Namespaces that opted in and are excluded: an Event on each says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::{EventNote, EventType, reference};
use crate::names::NamespaceName;
use crate::provision::Namespace;

/// What is to be said of them.
pub(super) fn find(
    excluded: &BTreeMap<NamespaceName, Arc<Namespace>>,
) -> impl Iterator<Item = EventNote> {
    excluded.values().map(|namespace| EventNote {
        regarding: reference(
            ["v1", "Namespace", &namespace.name],
            None,
            Some(&namespace.uid),
        ),
        event_type: EventType::Warning,
        reason: "NamespaceExcluded",
        series: None,
        action: "Provision",
        note: "opted in and excluded: pullpass injects and writes nothing here; take the label pullpass.dev/inject off, or take the namespace out of webhook.excludeNamespaces (kube-* and pullpass' own always are)".to_owned(),
    })
}

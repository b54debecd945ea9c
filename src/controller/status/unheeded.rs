//! Namespaces whose label `pullpass.dev/inject` is not followed: an Event on each says why.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cluster::{EventNote, EventType, reference};
use crate::names::NamespaceName;
use crate::provision::Namespace;

/// What is said of one that is excluded.
const EXCLUDED_NOTE: &str = "opted in and excluded: pullpass injects and writes nothing here; take the label pullpass.dev/inject off, or take the namespace out of webhook.excludeNamespaces (kube-* and pullpass' own always are)";

/// What is to be said of them.
pub(super) fn find(
    unheeded: &BTreeMap<NamespaceName, Arc<Namespace>>,
) -> impl Iterator<Item = EventNote> {
    unheeded.values().map(|namespace| {
        let name = namespace.name.as_str();
        let regard = |place| reference(["v1", "Namespace", name], place, Some(&namespace.uid));
        let excluded = EventNote {
            regarding: regard(None),
            event_type: EventType::Warning,
            reason: "NamespaceExcluded".into(),
            series: None,
            action: "Provision",
            note: EXCLUDED_NOTE.to_owned(),
        };
        match namespace.find_unknown_inject() {
            // An Event on a Namespace is in `default`, unless it says where it is: people here may read no other.
            Some(note) => EventNote {
                regarding: regard(Some(name)),
                reason: "UnknownInjectValue".into(),
                note,
                ..excluded
            },
            None => excluded,
        }
    })
}

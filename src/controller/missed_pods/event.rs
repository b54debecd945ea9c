//! The Events about missed Pods. Pure.

use super::calls::UnaskedPod;
use super::owner::advise;
use crate::admission::MissingReferences;
use crate::cluster::{EventNote, EventType, ListedPod, WEBHOOKS, reference, reference_pod};
use crate::names::ObjectName;

/// On a Pod: that it was missed, and what to do. That comes before what it lacks, which may be long: an Event's text is cut off.
pub(super) fn missed_pod(pod: &ListedPod, lacks: &MissingReferences) -> EventNote {
    EventNote {
        regarding: reference_pod(&pod.namespace, &pod.name, &pod.uid),
        event_type: EventType::Warning,
        reason: "PullSecretNotReferenced".into(),
        series: None,
        action: "Scan",
        note: format!(
            "It was created without a reference to a pull secret that its images need: pullpass was not asked, or the namespace or the Registry came later. That cannot be added afterwards. {}. It lacks {}, of Registry {}",
            advise(pod),
            lacks.secrets.join(", "),
            lacks.registries.join(", "),
        ),
    }
}

/// On a Pod: that its node's kubelet does not ask, and what to do.
pub(super) fn node_not_asked(
    pod: &ListedPod,
    node: &ObjectName,
    registry: &ObjectName,
) -> EventNote {
    EventNote {
        regarding: reference_pod(&pod.namespace, &pod.name, &pod.uid),
        event_type: EventType::Warning,
        reason: "NodeNotAsked".into(),
        series: None,
        action: "Scan",
        note: format!(
            "Node {node} never asked pullpass for a login of Registry {registry}, which no pull secret holds (delivery: Node): its kubelet has no credential provider for this image (docs/DELIVERY.md). Set it up there, keep the Pod off such nodes, or have the Registry's admin set spec.delivery to Both and create the Pod again",
        ),
    }
}

/// On the webhook's configuration: that the API server does not follow it.
pub(super) fn webhook_not_called(pod: &UnaskedPod) -> EventNote {
    let kind = "MutatingWebhookConfiguration";
    EventNote {
        regarding: reference(
            ["admissionregistration.k8s.io/v1", kind, WEBHOOKS],
            None,
            None,
        ),
        event_type: EventType::Warning,
        reason: "WebhookNotCalled".into(),
        series: None,
        action: "Scan",
        note: pod.describe(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;
    use crate::controller::missed_pods::waiting_pod;

    #[test]
    fn says_what_to_do_before_an_event_ends_however_much_is_lacking() {
        let long = "a".repeat(63);
        let hash = "5d4f8".to_owned();
        let pod = ListedPod {
            controller: Some(OwnerReference {
                api_version: "apps/v1".to_owned(),
                kind: "ReplicaSet".to_owned(),
                name: format!("{long}-{hash}"),
                ..OwnerReference::default()
            }),
            template_hash: Some(hash),
            ..waiting_pod(&long, &format!("{long}-5d4f8-x2x4z"))
        };
        let lacks = MissingReferences {
            secrets: vec![format!("pullpass-{long}"); 20],
            registries: vec![long.clone(); 20],
        };
        let note = missed_pod(&pod, &lacks).note;
        let command = format!("kubectl rollout restart deployment/{long} -n {long}. It lacks ");
        let end = note.find(&command).map(|at| at + command.len());
        assert!(end.is_some_and(|end| end < 1024), "{note}");
    }
}

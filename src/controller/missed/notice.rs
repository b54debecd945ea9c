//! What people are told about missed Pods. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::admission::Lacks;
use crate::cluster::{Gravity, Notice, WaitingPod, reference};

/// On a Pod: that it was missed, and what to do.
pub(super) fn missed(pod: &WaitingPod, lacks: &Lacks, rescue: bool) -> Notice {
    let again = match &pod.controller {
        Some(owner) if rescue => format!(
            "pullpass evicts it once its image could not be pulled, or delete it: {} {} makes it again",
            owner.kind, owner.name
        ),
        Some(owner) => format!(
            "delete it so that {} {} makes it again",
            owner.kind, owner.name
        ),
        None => "delete it and create it again".to_owned(),
    };
    Notice {
        regarding: reference(
            ["v1", "Pod", &pod.name],
            Some(&pod.namespace),
            Some(&pod.uid),
        ),
        gravity: Gravity::Warning,
        reason: "PullSecretNotReferenced",
        action: "Report",
        note: format!(
            "Registry {} serves its images, but it does not reference pull secret {}: pullpass was not asked when it was created, or the namespace or the Registry came later. A Pod's pull secrets cannot be added afterwards: {again}",
            lacks.registries.join(", "),
            lacks.secrets.join(", "),
        ),
    }
}

/// On a Pod's controller: that the Pod is about to be evicted.
pub(super) fn rescue(pod: &WaitingPod, owner: &OwnerReference) -> Notice {
    Notice {
        regarding: reference(
            [&owner.api_version, &owner.kind, &owner.name],
            Some(&pod.namespace),
            Some(&owner.uid),
        ),
        gravity: Gravity::Normal,
        reason: "RescuePod",
        action: "Evict",
        note: format!(
            "Pod {} cannot pull its image and does not reference its pull secret: pullpass asks for its eviction, so that it is made again with the reference, and for that of no other Pod of this owner within the hour",
            pod.name
        ),
    }
}

//! What pullpass says of a Registry.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// What pullpass says of a Registry; the replica that leads writes it.
///
/// Conditions follow
/// <https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties>.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The `metadata.generation` that all this is said of. Form: a whole number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: every namespace it serves holds a good login; where kubelets ask for it, the one that asked last got it, if any did. `Degraded`: something needs attention. `Verified`: its fixed login was tried
    /// at its registry, which takes it or not; unknown where nobody could. `Suspended`: it is suspended, and `Ready` says what was seen last. `Reconciling`: it is not ready, and that is worked on; `Stalled`: it is not, and a person has to act.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The images of its spec, the first few of them: a printed column cannot join a list. Form: patterns joined by `, `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<String>,
    /// Which identity asks for credentials. Form: a few words, as `ecr workload`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Who that is, in the cloud's own words. Form: sorted, without repeats, the first few where namespaces have their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub principals: Vec<String>,
    /// When the first of its minted credentials ends if nothing renews it. Form: RFC 3339, to the second, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub expiration_time: Option<String>,
    /// Of which state of the source Secret `Verified` says whether the registry takes its login. Form: as `metadata.resourceVersion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_resource_version: Option<String>,
    /// How many nodes' kubelets asked for its login in the last 14 days, whether they got it or not, where `delivery` is `Node` or `Both`. Form: a whole number, at most 5000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i64>,
    /// In how many namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<NamespaceCounts>,
}

/// In how many namespaces a Registry is at work.
#[derive(KubeSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceCounts {
    /// The namespaces that hold its current login. Form: a whole number.
    pub ready: i64,
    /// The opted-in namespaces that it serves. Form: a whole number.
    pub total: i64,
}

impl RegistryStatus {
    /// Whether it is ready, as far as the leader said.
    pub fn is_ready(&self) -> bool {
        self.status_of("Ready") == "True"
    }

    /// Whether nobody can tell whether it is ready: it is suspended, or no kubelet asked for its login yet.
    pub fn is_unknown(&self) -> bool {
        self.status_of("Ready") == "Unknown"
    }

    /// Whether it is suspended.
    pub fn is_suspended(&self) -> bool {
        self.status_of("Suspended") == "True"
    }

    /// That of a condition; empty where it is not there.
    fn status_of(&self, type_: &str) -> &str {
        let mut conditions = self.conditions.iter();
        let found = conditions.find(|one| one.type_ == type_);
        found.map_or("", |one| &one.status)
    }
}

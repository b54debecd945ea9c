//! What platforms do to what is installed on them, where no API server brings it: doubles, each with the source that it follows.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::site::Site;
use super::support::cluster::read_yaml;
use super::support::fixture::OWN;

/// Where it is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Platform {
    /// Kubernetes as it is, with the restricted Pod Security Standard: real.
    Plain,
    /// The Admissions Enforcer: a double.
    Aks,
    /// A quota for critical priorities: the API server's own admission plugin, configured as GKE's.
    Gke,
    /// restricted-v2: a double by a policy.
    OpenShift,
    /// Kyverno's and Gatekeeper's libraries: doubles by policies.
    Baseline,
    /// The API server calls an IPv6 address.
    Ipv6,
}

/// A rule of a baseline, or of a security context constraint.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    platform: String,
    name: String,
    /// Where the rule is from.
    source: String,
    /// What holds for a Pod that is admitted, in CEL. `containers` are all of its containers.
    holds: String,
    message: String,
}

impl Platform {
    /// How the API server is started.
    pub(super) fn api_server(self, folder: &Path) -> Vec<String> {
        if self != Self::Gke {
            return Vec::new();
        }
        let file = folder.join("admission.json");
        std::fs::write(&file, critical_priorities().to_string()).unwrap();
        vec!["--admission-config".to_owned(), file.display().to_string()]
    }

    /// What is there before anything is installed.
    pub(super) async fn take_place(self, site: &Site) {
        match self {
            Self::Plain => {
                let security = json!({"pod-security.kubernetes.io/enforce": "restricted"});
                let labelled = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OWN, "labels": security}});
                site.cluster.apply(&labelled).await;
            }
            Self::OpenShift => apply_rules(site, "openshift").await,
            Self::Baseline => apply_rules(site, "baseline").await,
            Self::Aks | Self::Gke | Self::Ipv6 => {}
        }
    }

    /// What controllers of the platform do after something was applied.
    pub(super) async fn act(self, site: &Site) {
        match self {
            Self::Aks => enforce(site).await,
            Self::Gke => count_quota(site).await,
            _ => {}
        }
    }
}

/// As GKE configures it: facts of <https://github.com/open-policy-agent/gatekeeper/issues/1120>, in the form of
/// <https://kubernetes.io/docs/concepts/policy/resource-quotas/#limit-priority-class-consumption-by-default>.
fn critical_priorities() -> Value {
    let scope = json!({
        "scopeName": "PriorityClass", "operator": "In",
        "values": ["system-node-critical", "system-cluster-critical"],
    });
    let quota = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration",
        "limitedResources": [{"resource": "pods", "matchScopes": [scope]}],
    });
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [{"name": "ResourceQuota", "configuration": quota}],
    })
}

/// What the quota controller of kube-controller-manager does, which is not here: until then nothing is known of a quota.
/// <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/controller/resourcequota/resource_quota_controller.go>
async fn count_quota(site: &Site) {
    let path = format!("/api/v1/namespaces/{OWN}/resourcequotas/pullpass");
    let Some(mut quota) = site.cluster.get(&path).await else {
        return;
    };
    let hard = quota["spec"]["hard"].clone();
    quota["status"] = json!({"hard": hard, "used": {"pods": "0"}});
    let status = format!("{path}/status");
    site.cluster.send("PUT", &status, Some(&quota)).await.ok();
}

/// What the Admissions Enforcer writes into webhooks that do not ask to be left alone, as a field manager of its own.
/// <https://learn.microsoft.com/azure/aks/faq#can-admission-controller-webhooks-impact-kube-system-and-internal-aks-namespaces->,
/// <https://github.com/Azure/AKS/issues/1771>
async fn enforce(site: &Site) {
    for kind in ["mutating", "validating"] {
        let path = format!(
            "/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/00-pullpass"
        );
        let mut found = site.cluster.get(&path).await.unwrap();
        if found["metadata"]["annotations"]["admissions.enforcer/disabled"] == "true" {
            continue;
        }
        for webhook in found["webhooks"].as_array_mut().unwrap() {
            let selector = &mut webhook["namespaceSelector"]["matchExpressions"];
            if selector.is_null() {
                *selector = json!([]);
            }
            let selector = selector.as_array_mut().unwrap();
            for key in ["control-plane", "kubernetes.azure.com/managedby"] {
                selector.push(json!({"key": key, "operator": "DoesNotExist"}));
            }
        }
        let path = format!("{path}?fieldManager=admissionsenforcer");
        site.cluster.send("PUT", &path, Some(&found)).await.ok();
    }
}

/// Has the API server refuse Pods of pullpass' namespace for which a rule does not hold; returns once it does.
#[allow(clippy::too_many_lines, reason = "a table")]
async fn apply_rules(site: &Site, platform: &str) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/platforms.yaml");
    let rules: Vec<Rule> = serde_json::from_value(read_yaml(file).remove(0)).unwrap();
    let rules: Vec<Rule> = rules
        .into_iter()
        .filter(|rule| rule.platform == platform)
        .collect();
    assert!(rules.len() > 5, "{}", rules.len());
    let validations: Vec<Value> = rules
        .iter()
        .map(
            |Rule {
                 name,
                 source,
                 holds,
                 message,
                 ..
             }| {
                assert!(source.starts_with("https://"), "{name}: {source}");
                json!({"expression": holds, "message": format!("{platform} {name}: {message}")})
            },
        )
        .collect();
    let all = "object.spec.containers + object.spec.?initContainers.orValue([])";
    let namespaces = json!({"matchLabels": {"kubernetes.io/metadata.name": OWN}});
    let pods = json!({
        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"],
    });
    let metadata = json!({"name": platform});
    for object in [
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": metadata,
            "spec": {
                "matchConstraints": {"resourceRules": [pods], "namespaceSelector": namespaces},
                "variables": [{"name": "containers", "expression": all}],
                "validations": validations,
            },
        }),
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata,
            "spec": {"policyName": platform, "validationActions": ["Deny"]},
        }),
    ] {
        site.cluster.apply(&object).await;
    }
    site.cluster.wait_for_policies().await;
}

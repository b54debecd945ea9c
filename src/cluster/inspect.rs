//! What `pullpass check` reads: requests, and a dry run, that serving never makes.

use http_body_util::BodyExt as _;
use hyper::Request;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhook, MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use kube::client::Body;
use kube::core::{ApiResource, GroupVersionKind, Status};
use serde_json::Value;

use super::api::{Mismatch, Objects, check_name, list_named, pods_path};
use super::{Kube, WEBHOOKS, api_error};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::ports::ClusterError;
use crate::registry::Registry;
use crate::registry::selector::LabelSelector;

/// The name of the webhook that changes Pods within its configuration.
pub const WEBHOOK: &str = "pods.pullpass.dev";

/// How many ServiceAccounts of a namespace are looked at.
const SERVICE_ACCOUNTS_MAX: u32 = 500;

/// How many Deployments are looked at: there is one admission controller of a kind.
const DEPLOYMENTS_MAX: u32 = 64;

/// The groups of a kubelet.
const NODE_GROUPS: [&str; 2] = ["system:nodes", "system:authenticated"];

/// A webhook configuration that calls pullpass.
#[derive(Clone, Debug)]
pub struct WebhookTarget {
    /// The configuration's name.
    pub configuration: String,
    /// Whom the API server calls: a URL, or `NAMESPACE/SERVICE`.
    pub target: String,
    /// Whether it says which authority signs pullpass' certificate.
    pub has_ca: bool,
    /// Which namespaces it is called for; `None`: it cannot be read.
    pub namespaces: Option<LabelSelector>,
}

/// A ServiceAccount, and the pull secrets that it lists.
#[derive(Clone, Debug)]
pub struct ListedSecrets {
    /// Its name.
    pub name: String,
    /// Its `imagePullSecrets`.
    pub pull_secrets: Vec<String>,
}

/// What a Pod would get.
#[derive(Clone, Debug, Default)]
pub struct DryRunPod {
    /// The pull secrets that it references.
    pub pull_secrets: Vec<String>,
    /// What its creator is warned of.
    pub warnings: Vec<String>,
}

impl Kube {
    /// All Registries; those that cannot be read by name, with what is wrong.
    ///
    /// # Errors
    /// The API server cannot be reached, refuses, or does not know the kind.
    pub async fn fetch_registries(
        &self,
    ) -> Result<(Vec<Registry>, Vec<(String, String)>), ClusterError> {
        let resource = ApiResource::erase::<Registry>(&());
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let found = api_error::request("registries", api.list(&ListParams::default())).await?;
        let (mut registries, mut unreadable) = (Vec::new(), Vec::new());
        for object in found.items {
            let name = object.name_any();
            match object.try_parse::<Registry>() {
                Ok(registry) => registries.push(registry),
                Err(error) => unreadable.push((name, error.to_string())),
            }
        }
        Ok((registries, unreadable))
    }

    /// The webhook configurations that call pullpass; for an account that may not see all, as pullpass' own, the one of its name.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_webhooks(&self) -> Result<Vec<WebhookTarget>, ClusterError> {
        let api: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let what = "mutatingwebhookconfigurations";
        let found = match api_error::request(what, api.list(&ListParams::default())).await {
            Err(error @ ClusterError::Forbidden { .. }) => {
                let named = api_error::request(what, api.list(&named_webhooks())).await?;
                if named.items.is_empty() {
                    // Whether one of another name calls pullpass is not to be seen.
                    return Err(error);
                }
                named
            }
            found => found?,
        };
        let webhooks = found.items.into_iter().flat_map(|configuration| {
            let name = configuration.name_any();
            let webhooks = configuration.webhooks.unwrap_or_default().into_iter();
            webhooks
                .filter(|webhook| webhook.name == WEBHOOK)
                .map(move |webhook| read_webhook(&name, webhook))
        });
        Ok(webhooks.collect())
    }

    /// Whether pullpass' own namespace has a Secret of this name, labelled or not.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn has_own_secret(&self, name: &ObjectName) -> Result<bool, ClusterError> {
        Ok(self.own_secrets().get(name).await?.is_some())
    }

    /// Whether there is the configuration of our webhooks that validate.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn has_validating(&self) -> Result<bool, ClusterError> {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let what = "validatingwebhookconfigurations";
        let found = api_error::request(what, api.list(&named_webhooks())).await?;
        Ok(!found.items.is_empty())
    }

    /// Whether every node may do this to a resource in every namespace, whatever its name: the API server asks the same of a kubelet.
    ///
    /// <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn may_nodes(&self, verb: &str, resource: &str) -> Result<bool, ClusterError> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some("system:node:pullpass-check".to_owned()),
                groups: Some(NODE_GROUPS.map(str::to_owned).to_vec()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    resource: Some(resource.to_owned()),
                    version: Some("v1".to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let reviews = Objects::<SubjectAccessReview>::cluster_scoped(self);
        let answer = reviews.review(&review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// The images of Deployments that say of themselves that they are an admission controller, as Kyverno's does.
    ///
    /// <https://github.com/kyverno/kyverno/blob/main/charts/kyverno/templates/admission-controller/_helpers.tpl>
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_admission_controller_images(&self) -> Result<Vec<String>, ClusterError> {
        let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let labelled = "app.kubernetes.io/component=admission-controller";
        let params = ListParams::default()
            .labels(labelled)
            .limit(DEPLOYMENTS_MAX);
        let found = api_error::request("deployments", api.list(&params)).await?;
        let images = found.items.iter().flat_map(|deployment| {
            let containers = &deployment.data["spec"]["template"]["spec"]["containers"];
            let containers = containers.as_array().into_iter().flatten();
            containers.filter_map(|container| container["image"].as_str())
        });
        Ok(images.map(str::to_owned).collect())
    }

    /// The ServiceAccounts of a namespace, with what they list; and whether there are more than were asked for.
    ///
    /// # Errors
    /// The API server cannot be reached or refuses.
    pub async fn fetch_service_accounts(
        &self,
        namespace: &NamespaceName,
    ) -> Result<(Vec<ListedSecrets>, bool), ClusterError> {
        let api: Api<ServiceAccount> = self.namespaced(namespace);
        let params = ListParams::default().limit(SERVICE_ACCOUNTS_MAX);
        let what = format!("serviceaccounts in namespace {namespace}");
        let found = api_error::request(&what, api.list(&params)).await?;
        let is_more = found
            .metadata
            .continue_
            .is_some_and(|rest| !rest.is_empty());
        let read = |account: ServiceAccount| {
            let listed = account.image_pull_secrets.unwrap_or_default();
            ListedSecrets {
                name: account.metadata.name.unwrap_or_default(),
                pull_secrets: listed.into_iter().map(|one| one.name).collect(),
            }
        };
        Ok((found.items.into_iter().map(read).collect(), is_more))
    }

    /// Creates a Pod as a server-side dry run: admission runs, nothing is stored.
    ///
    /// <https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run>
    ///
    /// # Errors
    /// The API server cannot be reached, refuses, or does not take the Pod.
    pub async fn try_pod(
        &self,
        namespace: &NamespaceName,
        pod: &Value,
    ) -> Result<DryRunPod, ClusterError> {
        let what = format!("a Pod in namespace {namespace} (dry run)");
        let request = Request::post(pods_path(namespace) + "?dryRun=All")
            .header("content-type", "application/json")
            .body(Body::from(pod.to_string().into_bytes()));
        let call = async {
            let request = request.map_err(kube::Error::HttpError)?;
            let answer = self.client.send(request).await?;
            let (parts, body) = answer.into_parts();
            let warnings = parts.headers.get_all("warning").iter();
            let warnings =
                warnings.map(|warning| read_warning(&String::from_utf8_lossy(warning.as_bytes())));
            let warnings: Vec<String> = warnings.collect();
            let body = body.collect().await?.to_bytes();
            if !parts.status.is_success() {
                let status: Status = serde_json::from_slice(&body).unwrap_or_default();
                return Err(kube::Error::Api(Box::new(
                    status.with_code(parts.status.as_u16()),
                )));
            }
            Ok((body, warnings))
        };
        let (body, warnings) = api_error::request(&what, call).await?;
        let pod = parse_pod(&body, namespace).map_err(|mismatch| self.reject(&what, &mismatch))?;
        Ok(DryRunPod {
            pull_secrets: names_of(&pod.data["spec"]["imagePullSecrets"]),
            warnings,
        })
    }
}

/// What a dry run answered, which has to be a Pod of this namespace; its name may be a generated one.
fn parse_pod(answer: &[u8], namespace: &NamespaceName) -> Result<DynamicObject, Mismatch> {
    let not_a_pod = || Mismatch::Kind("Pod".to_owned());
    let pod: DynamicObject = serde_json::from_slice(answer).map_err(|_| not_a_pod())?;
    if pod.types.as_ref().is_none_or(|types| types.kind != "Pod") {
        return Err(not_a_pod());
    }
    check_name(&pod, Some(namespace.as_str()), None)?;
    Ok(pod)
}

/// Those of our name.
fn named_webhooks() -> ListParams {
    list_named(&ObjectName::constant(WEBHOOKS))
}

fn read_webhook(configuration: &str, webhook: MutatingWebhook) -> WebhookTarget {
    let client = webhook.client_config;
    let target = match (client.url, client.service) {
        (Some(url), _) => url,
        (None, Some(service)) => format!("service {}/{}", service.namespace, service.name),
        (None, None) => "nobody".to_owned(),
    };
    let selector = webhook.namespace_selector.unwrap_or_default();
    let namespaces = serde_json::to_value(selector)
        .and_then(serde_json::from_value::<LabelSelector>)
        .ok();
    WebhookTarget {
        configuration: configuration.to_owned(),
        target,
        has_ca: client.ca_bundle.is_some_and(|bundle| !bundle.0.is_empty()),
        namespaces,
    }
}

fn names_of(references: &Value) -> Vec<String> {
    let names = references.as_array().into_iter().flatten();
    names
        .filter_map(|reference| reference["name"].as_str().map(str::to_owned))
        .collect()
}

/// `299 - "text"`: <https://www.rfc-editor.org/rfc/rfc7234#section-5.5>
fn read_warning(header: &str) -> String {
    let text = header.splitn(3, ' ').nth(2).unwrap_or(header);
    text.trim_matches('"').replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refuses_a_dry_run_that_answers_with_another_object() {
        let namespace = NamespaceName::parse("shop").unwrap();
        let object = |kind: &str, metadata: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
        let in_shop = || json!({"namespace": "shop", "name": "generated"});
        let not_a_pod = || Some(Mismatch::Kind("Pod".to_owned()));
        let rows = [
            (object("Pod", in_shop()), None),
            (object("Secret", in_shop()), not_a_pod()),
            (json!({"metadata": in_shop()}), not_a_pod()),
            (json!("Pod"), not_a_pod()),
            (
                object("Pod", json!({"namespace": "payments"})),
                Some(Mismatch::Namespace),
            ),
            (object("Pod", json!({})), Some(Mismatch::Namespace)),
        ];
        for (answer, expected) in rows {
            let refused = parse_pod(answer.to_string().as_bytes(), &namespace).err();
            assert_eq!(refused, expected, "{answer}");
        }
        assert_eq!(parse_pod(b"<html>", &namespace).err(), not_a_pod());
    }
}

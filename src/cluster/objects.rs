//! Kubernetes' objects in our words. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount as AccountObject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use secrecy::SecretSlice;
use serde_json::Value;

use super::{MANAGED_BY, own_labels};
use crate::credential::SourceSecret;
use crate::names::{DnsSubdomain, Form as _, NamespaceName, ObjectName};
use crate::provision::ports::{PullSecret, Version};
use crate::provision::secret::format::keys_of;
use crate::provision::service_account::{self, ServiceAccount};
use crate::provision::{ExcludedNamespaces, Namespace};
use crate::registry::{ExportFormat, SecretFormat, is_export_name, is_pull_secret_name};

/// The label by which Argo CD finds its repositories and its credential templates; it reads clusters by it, too.
/// <https://argo-cd.readthedocs.io/en/stable/operator-manual/declarative-setup/#repositories>
const ARGO_CD_LABEL: &str = "argocd.argoproj.io/secret-type";
const ARGO_CD_REPOSITORY: &str = "repository";
const ARGO_CD_REPOSITORY_CREDS: &str = "repo-creds";

const ENFORCE_MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

pub(super) fn read_version(metadata: &ObjectMeta) -> Version {
    Version {
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
    }
}

pub(super) fn read_namespace(
    name: NamespaceName,
    metadata: ObjectMeta,
    excluded: &ExcludedNamespaces,
) -> Namespace {
    let terminating = metadata.deletion_timestamp.is_some();
    Namespace::new(name, metadata.labels.unwrap_or_default(), terminating)
        .with_uid(metadata.uid.unwrap_or_default())
        .unless_excluded(excluded)
}

/// The labels of a Secret in this form.
pub(super) fn labels_of(format: SecretFormat) -> Value {
    let mut labels = own_labels();
    if let Some(of_argo_cd) = argo_cd_label(format) {
        labels[ARGO_CD_LABEL] = of_argo_cd.into();
    }
    labels
}

fn argo_cd_label(format: SecretFormat) -> Option<&'static str> {
    match format {
        SecretFormat::Export(ExportFormat::ArgoCdRepository) => Some(ARGO_CD_REPOSITORY),
        SecretFormat::Export(ExportFormat::ArgoCdRepositoryCreds) => Some(ARGO_CD_REPOSITORY_CREDS),
        SecretFormat::PullSecret
        | SecretFormat::Export(ExportFormat::DockerConfig | ExportFormat::BasicAuth) => None,
    }
}

/// The forms that a Secret of this name may have.
fn formats_of(name: &str) -> &'static [SecretFormat] {
    const EXPORTS: [SecretFormat; 4] = [
        SecretFormat::Export(ExportFormat::DockerConfig),
        SecretFormat::Export(ExportFormat::BasicAuth),
        SecretFormat::Export(ExportFormat::ArgoCdRepository),
        SecretFormat::Export(ExportFormat::ArgoCdRepositoryCreds),
    ];
    if is_export_name(name) {
        &EXPORTS
    } else {
        &[SecretFormat::PullSecret]
    }
}

pub(super) fn read_pull_secret(secret: Secret) -> PullSecret {
    let labels = secret.metadata.labels.as_ref();
    let label = |key: &str| {
        labels
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let of_type = formats_of(name).iter().copied();
    let of_type = of_type.filter(|format| secret.type_.as_deref() == Some(format.secret_type()));
    let has_label = |format: &SecretFormat| {
        let wanted = argo_cd_label(*format);
        wanted.is_none() || wanted == label(ARGO_CD_LABEL)
    };
    let format = of_type.clone().find(has_label);
    let mut data = secret.data.unwrap_or_default();
    let keys = format.map(keys_of).unwrap_or_default().iter();
    let data =
        keys.filter_map(|key| Some((*key, Arc::new(SecretSlice::from(data.remove(*key)?.0)))));
    PullSecret {
        version: read_version(&secret.metadata),
        ours: label(MANAGED_BY.0) == Some(MANAGED_BY.1) && of_type.clone().next().is_some(),
        format,
        type_: secret.type_.unwrap_or_default(),
        data: data.collect(),
        annotations: secret.metadata.annotations.unwrap_or_default(),
    }
}

/// The label on the source Secrets.
pub(super) const SOURCE_LABEL: &str = "pullpass.dev/source";

/// Whether an admin meant this Secret as a source.
pub(super) fn is_source(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(SOURCE_LABEL))
        .is_some_and(|value| value == "true")
}

pub(super) fn read_source_secret(name: ObjectName, secret: Secret) -> SourceSecret {
    let data = secret.data.unwrap_or_default();
    let data: BTreeMap<_, _> = data
        .into_iter()
        .map(|(key, bytes)| (key, SecretSlice::from(bytes.0)))
        .collect();
    SourceSecret {
        name,
        type_: secret.type_.unwrap_or_else(|| "Opaque".to_owned()),
        data,
        resource_version: secret.metadata.resource_version.unwrap_or_default(),
    }
}

/// How many of our pull secrets that a ServiceAccount lists are kept, and how many bytes of each annotation: no role and no id is as long.
const LISTED_MAX: usize = 1024;
/// See [`LISTED_MAX`].
const ANNOTATION_MAX: usize = 4096;

pub(super) fn read_service_account(account: AccountObject) -> ServiceAccount {
    let mut annotations = account.metadata.annotations.unwrap_or_default();
    let enforced = annotations.get(ENFORCE_MOUNTABLE_SECRETS);
    let listed = account.image_pull_secrets.unwrap_or_default();
    let listed = listed.into_iter().map(|reference| reference.name);
    // Whoever may write a ServiceAccount may list any number of names, of which only ours are ever asked for.
    let may_be_ours = |name: &String| is_pull_secret_name(name) && name.len() <= DnsSubdomain::MAX;
    let listed = listed.filter(may_be_ours).take(LISTED_MAX);
    let pull_secrets = (enforced.map(String::as_str) == Some("true")).then(|| listed.collect());
    annotations.retain(|key, value| {
        value.truncate(value.floor_char_boundary(ANNOTATION_MAX));
        service_account::ANNOTATIONS.contains(&key.as_str())
    });
    ServiceAccount {
        uid: account.metadata.uid.unwrap_or_default(),
        pull_secrets,
        annotations,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provision::PULL_SECRET;

    const DOCKERCONFIGJSON_TYPE: &str = "kubernetes.io/dockerconfigjson";
    const BASIC_AUTH_TYPE: &str = "kubernetes.io/basic-auth";
    const OPAQUE_TYPE: &str = "Opaque";

    fn secret(value: serde_json::Value) -> Secret {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn takes_a_secret_for_ours_by_label_and_type() {
        let label = serde_json::json!({"labels": {MANAGED_BY.0: MANAGED_BY.1}});
        let other = serde_json::json!({"labels": {MANAGED_BY.0: "Helm"}});
        let rows = [
            (label.clone(), DOCKERCONFIGJSON_TYPE, true),
            (label.clone(), "Opaque", false),
            (label, "kubernetes.io/dockercfg", false),
            (other, DOCKERCONFIGJSON_TYPE, false),
            (serde_json::json!({}), DOCKERCONFIGJSON_TYPE, false),
        ];
        for (metadata, type_, ours) in rows {
            let secret = secret(serde_json::json!({"metadata": metadata, "type": type_}));
            assert_eq!(read_pull_secret(secret).ours, ours, "{metadata} {type_}");
        }
    }

    /// The form of an export is that of its type and of Argo CD's label; one of another label is ours still, and in no form.
    #[test]
    #[allow(clippy::too_many_lines, reason = "one table")]
    fn takes_an_export_for_ours_by_name_label_and_type() {
        use ExportFormat::{ArgoCdRepository, ArgoCdRepositoryCreds, BasicAuth, DockerConfig};
        let export = |format| Some(SecretFormat::Export(format));
        let pull_secret = Some(SecretFormat::PullSecret);
        let rows = [
            ("pullpass-a", DOCKERCONFIGJSON_TYPE, None, true, pull_secret),
            ("pullpass-a", BASIC_AUTH_TYPE, None, false, None),
            ("pullpass", OPAQUE_TYPE, Some("repository"), false, None),
            (
                "pullpass-a.x-b",
                DOCKERCONFIGJSON_TYPE,
                None,
                true,
                export(DockerConfig),
            ),
            (
                "pullpass-a.x-b",
                BASIC_AUTH_TYPE,
                None,
                true,
                export(BasicAuth),
            ),
            (
                "pullpass-a.x-b",
                OPAQUE_TYPE,
                Some("repository"),
                true,
                export(ArgoCdRepository),
            ),
            (
                "pullpass-a.x-b",
                OPAQUE_TYPE,
                Some("repo-creds"),
                true,
                export(ArgoCdRepositoryCreds),
            ),
            ("pullpass-a.x-b", OPAQUE_TYPE, Some("cluster"), true, None),
            ("pullpass-a.x-b", OPAQUE_TYPE, None, true, None),
            ("pullpass-a.x-b", "kubernetes.io/tls", None, false, None),
        ];
        for (name, type_, label, ours, format) in rows {
            let mut labels = serde_json::json!({MANAGED_BY.0: MANAGED_BY.1});
            if let Some(label) = label {
                labels[ARGO_CD_LABEL] = label.into();
            }
            let metadata = serde_json::json!({"name": name, "labels": labels});
            let read = read_pull_secret(secret(
                serde_json::json!({"metadata": metadata, "type": type_, "data": {"url": "", "other": ""}}),
            ));
            assert_eq!(
                (read.ours, read.format, &*read.type_),
                (ours, format, type_),
                "{name} {type_} {label:?}"
            );
            assert!(!read.data.contains_key("other"), "{name} {type_} {label:?}");
            if let Some(format) = format {
                assert_eq!(format.secret_type(), type_);
                assert_eq!(labels_of(format), {
                    let mut all = own_labels();
                    if let Some(label) = label {
                        all[ARGO_CD_LABEL] = label.into();
                    }
                    all
                });
            }
        }
    }

    #[test]
    fn forbids_the_reference_only_where_it_is_enforced_and_not_listed() {
        let rows = [
            (serde_json::json!({}), true),
            (
                serde_json::json!({"metadata": {"annotations": {ENFORCE_MOUNTABLE_SECRETS: "false"}}}),
                true,
            ),
            (
                serde_json::json!({"metadata": {"annotations": {ENFORCE_MOUNTABLE_SECRETS: "true"}}}),
                false,
            ),
            (
                serde_json::json!({"metadata": {"annotations": {ENFORCE_MOUNTABLE_SECRETS: "true"}}, "imagePullSecrets": [{"name": "mine"}]}),
                false,
            ),
            (
                serde_json::json!({"metadata": {"annotations": {ENFORCE_MOUNTABLE_SECRETS: "true"}}, "imagePullSecrets": [{"name": PULL_SECRET}]}),
                true,
            ),
        ];
        for (account, allowed) in rows {
            let parsed = read_service_account(serde_json::from_value(account.clone()).unwrap());
            assert_eq!(parsed.may_reference(PULL_SECRET), allowed, "{account}");
        }
    }

    #[test]
    fn keeps_little_of_a_large_service_account() {
        let names = (0..100_000).map(|name| serde_json::json!({"name": format!("other-{name}")}));
        let names = names
            .chain((0..5000).map(|name| serde_json::json!({"name": format!("pullpass-{name}")})));
        let account = serde_json::json!({
            "metadata": {"name": "web", "annotations": {
                ENFORCE_MOUNTABLE_SECRETS: "true", service_account::AWS_ROLE_ANNOTATION: "é".repeat(100_000),
            }},
            "imagePullSecrets": names.collect::<Vec<_>>(),
        });
        let found = read_service_account(serde_json::from_value(account).unwrap());
        assert_eq!(found.pull_secrets.unwrap().len(), LISTED_MAX);
        let role = &found.annotations[service_account::AWS_ROLE_ANNOTATION];
        assert_eq!(role.len(), ANNOTATION_MAX);
    }

    #[test]
    fn keeps_of_a_service_account_what_is_asked_about() {
        let account = serde_json::json!({"metadata": {"uid": "u-1", "annotations": {
            "eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/pull",
            "other.example/secret": "canary",
        }}});
        let found = read_service_account(serde_json::from_value(account).unwrap());
        assert_eq!(found.uid, "u-1");
        let keys: Vec<_> = found.annotations.keys().collect();
        assert_eq!(keys, ["eks.amazonaws.com/role-arn"]);
    }
}

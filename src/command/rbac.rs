//! `pullpass rbac`: the rights that Registries need beyond those that every pullpass has.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::Output;
use super::manifest::Manifests;
use crate::names::ObjectName;
use crate::registry::{CredentialSource, Registries, ValidRegistry};

/// The label by which `manifests/rbac.yaml` gathers the roles that are printed here.
const AGGREGATE_LABEL: &str = "pullpass.dev/aggregate-to-pullpass";

/// By these they are found, listed and deleted, as those of the chart pullpass-registries are.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>
const LABELS: [(&str, &str); 3] = [
    ("app.kubernetes.io/name", "pullpass-registries"),
    ("app.kubernetes.io/component", "registry"),
    ("app.kubernetes.io/part-of", "pullpass"),
];

/// Print the ClusterRoles that Registries need beside manifests/rbac.yaml.
///
/// A Registry with serviceAccountNames, podSelector, access: Push or exports keeps its credentials in Secrets with its own name, one whose
/// identity is a ServiceAccount of the Pod's namespace asks for that one's tokens. There is one ClusterRole for each of them, which allows these
/// names and nothing else; Kubernetes adds them to pullpass' own by their label. It needs no cluster: Registries come from files.
/// The chart pullpass-registries brings the same with Registries that it holds.
///
/// With --prune, kubectl also deletes those whose Registry is gone. Let its Secrets be gone first: pullpass needs the right to remove them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  pullpass rbac -f registries.yaml | kubectl apply -f -
  kubectl get registries -o yaml | pullpass rbac -f - | kubectl apply -f -
  kubectl get clusterroles -l app.kubernetes.io/name=pullpass-registries
  pullpass rbac -f registries.yaml | kubectl apply --prune -l app.kubernetes.io/name=pullpass-registries --prune-allowlist=rbac.authorization.k8s.io/v1/ClusterRole -f -")]
pub(super) struct Args {
    /// Files with Registries; `-` is stdin.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How to print it: as YAML documents (text, yaml), as one List in JSON, or as a table (wide).
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let registries = Registries::build(Manifests::load(&args.files)?.registries);
    let roles: Vec<Value> = registries.iter().filter_map(role).collect();
    super::print(&match args.output {
        Output::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": roles});
            serde_json::to_string_pretty(&list)? + "\n"
        }
        Output::Wide => list(&roles),
        Output::Text | Output::Yaml if roles.is_empty() => {
            "# These Registries need no rights beside manifests/rbac.yaml.\n".to_owned()
        }
        Output::Text | Output::Yaml => {
            let documents: Result<Vec<_>, _> = roles.iter().map(serde_saphyr::to_string).collect();
            documents?.join("---\n")
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A line for each rule of each role.
fn list(roles: &[Value]) -> String {
    let text = |value: &Value| {
        let texts = value.as_array().into_iter().flatten();
        let texts: Vec<&str> = texts.filter_map(Value::as_str).collect();
        texts.join(",")
    };
    let mut lines = vec![["CLUSTERROLE", "RESOURCES", "NAMES", "VERBS"].map(str::to_owned)];
    for role in roles {
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        let granted = role["rules"].as_array().into_iter().flatten();
        lines.extend(granted.map(|rule| {
            let cells = ["resources", "resourceNames", "verbs"].map(|field| text(&rule[field]));
            let [resources, names, verbs] = cells;
            [name.to_owned(), resources, names, verbs]
        }));
    }
    super::table(&lines)
}

/// The ClusterRole that a Registry needs, if it needs one.
fn role(registry: &ValidRegistry) -> Option<Value> {
    let mut rules = Vec::new();
    let secrets: Vec<&ObjectName> = registry.own_secrets().collect();
    if !secrets.is_empty() {
        rules.push(json!({
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": secrets,
            "verbs": ["get", "list", "watch", "create", "patch", "delete"],
        }));
    }
    let accounts: BTreeSet<&str> = registry
        .sources
        .iter()
        .filter_map(|(source, _)| match source {
            CredentialSource::Minted(source) => source.unbound().map(ObjectName::as_str),
            CredentialSource::Static(_) => None,
        })
        .collect();
    if !accounts.is_empty() {
        rules.push(json!({
            "apiGroups": [""],
            "resources": ["serviceaccounts/token"],
            "resourceNames": accounts,
            "verbs": ["create"],
        }));
    }
    let mut labels: Map<String, Value> = LABELS
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    labels.insert(AGGREGATE_LABEL.to_owned(), "true".into());
    (!rules.is_empty()).then(|| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {
                "name": format!("pullpass-registry-{}", registry.name),
                "labels": labels,
            },
            "rules": rules,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(yaml: &str) -> Vec<Value> {
        let registries: Vec<crate::registry::Registry> = serde_saphyr::from_multiple(yaml).unwrap();
        let registries = Registries::build(registries);
        assert_eq!(registries.problems(), []);
        registries.iter().filter_map(role).collect()
    }

    #[test]
    fn allows_the_names_that_a_registry_needs_and_no_others() {
        let printed = roles(
            "{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: wide}, spec: {images: [a.com], namespaceSelector: {}, static: {secretRef: {name: a}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: ci}, spec: {images: [a.com], namespaceSelector: {}, serviceAccountNames: [ci], static: {secretRef: {name: a}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: charts}, spec: {images: [a.com], namespaceSelector: {}, exports: [{name: argo, format: ArgoCDRepository}, {name: user, format: BasicAuth}], static: {secretRef: {name: a}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: builds}, spec: {images: [a.com], namespaceSelector: {matchLabels: {a: b}}, access: Push, exports: [{name: file, format: DockerConfig}], static: {secretRef: {name: a}}}}
---
{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {name: tenants}, spec: {images: [public.ecr.aws], namespaceSelector: {}, ecr: {identity: {serviceAccount: {name: puller, fromAnnotations: true}}}}}
",
        );
        let rules: Vec<&Value> = printed.iter().map(|role| &role["rules"]).collect();
        let secrets = |names: &[&str]| {
            json!([{
                "apiGroups": [""], "resources": ["secrets"], "resourceNames": names,
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
            }])
        };
        let (ci, charts) = (
            secrets(&["pullpass-ci"]),
            secrets(&["pullpass-charts.x-argo", "pullpass-charts.x-user"]),
        );
        let builds = secrets(&["pullpass-builds", "pullpass-builds.x-file"]);
        let tokens = json!([{
            "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["puller"], "verbs": ["create"],
        }]);
        assert_eq!(rules, [&ci, &builds, &charts, &tokens]);
        assert_eq!(printed[0]["metadata"]["name"], "pullpass-registry-ci");
    }

    #[test]
    fn prints_the_label_that_the_manifest_gathers_by() {
        let manifest = include_str!("../../manifests/rbac.yaml");
        let selector = format!("- matchLabels: {{{AGGREGATE_LABEL}: \"true\"}}");
        assert!(manifest.contains(&selector), "{selector}");
    }
}

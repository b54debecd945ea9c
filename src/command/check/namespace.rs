//! The hops of a namespace: it opted in, its pull secret is what it should be, a Pod there gets the reference.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::advice;
use super::cloud::{bind, count, secret_of};
use super::context::CheckContext;
use super::image::CheckedImage;
use super::report::{CheckReport, HopResult, SubjectKind};
use crate::cluster::{DryRunPod, Kube, KubeCredentialStore};
use crate::controller::missed_pods::calls::{CAUSES, NOT_CALLED};
use crate::credential::{CredentialKey, CredentialStore as _, static_login};
use crate::image::Reference;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::digest::Digest;
use crate::provision::ports::Cluster as _;
use crate::provision::secret::{AuthEntry, Auths};
use crate::provision::{InjectMode, Namespace};
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Grant, Labels, ValidRegistry};

/// Checks one namespace.
pub(super) async fn check(
    context: &CheckContext<'_>,
    kube: &Kube,
    name: &NamespaceName,
    images: &[CheckedImage<'_>],
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    const AFTER: [&str; 3] = ["serves", "pullSecret", "dryRun"];
    report.begin(SubjectKind::Namespace, name);
    let namespace = match kube.fetch_namespace(name).await {
        Ok(Some((_, namespace))) => namespace,
        Ok(None) => {
            let result = HopResult::failed(
                format!("there is no namespace {name}"),
                "correct the name, or create it",
            );
            report.add("optIn", result)?;
            return report.skip(&AFTER, "there is no namespace");
        }
        Err(error) => {
            report.add("optIn", advice::of_cluster(&error))?;
            return report.skip(&AFTER, "the namespace is not known");
        }
    };
    if let Some((why, fix)) = find_problem(&namespace) {
        report.add("optIn", HopResult::failed(why, fix))?;
        return report.skip(&AFTER, why);
    }
    let mode = if namespace.mode == InjectMode::All {
        "all"
    } else {
        "enabled"
    };
    let opted_in = HopResult::ok(format!("pullpass.dev/inject={mode}"));
    report.add("optIn", opted_in)?;
    let serving = context.registries.serving(&namespace.labels);
    let serving: Vec<&str> = serving.iter().map(|registry| &*registry.name).collect();
    if serving.is_empty() {
        let fix = "correct the namespace's labels, or namespaceSelector of a Registry";
        report.note("serves", HopResult::failed("no Registry serves it", fix))?;
        return report.skip(&AFTER[1..], "no Registry serves the namespace");
    }
    let serving = HopResult::ok(format!("by {}", serving.join(", ")));
    report.note("serves", serving)?;
    report.start();
    for (secret, grants) in group(context.registries.grants(&namespace.labels)) {
        let result = compare_secret(context, kube, name, &secret, &grants).await;
        report.add("pullSecret", result)?;
    }
    let result = try_pod(context, kube, name, images).await;
    report.add("dryRun", result)
}

/// Why nothing is written into a namespace, whatever Registries say, and what to do.
fn find_problem(namespace: &Namespace) -> Option<(&'static str, String)> {
    if let Some(unknown) = namespace.find_unknown_inject() {
        return Some(("the value of the namespace's label means nothing", unknown));
    }
    if namespace.excluded {
        let why = "the namespace is opted in and excluded";
        return Some((why, super::EXCLUDED_FIX.to_owned()));
    }
    let name = &namespace.name;
    let fix = format!("opt it in: kubectl label namespace {name} pullpass.dev/inject=enabled");
    (namespace.mode == InjectMode::Off).then_some(("the namespace did not opt in", fix))
}

/// The credentials of a namespace by pull secret.
fn group(grants: Vec<Grant>) -> BTreeMap<ObjectName, Vec<Grant>> {
    let mut secrets: BTreeMap<ObjectName, Vec<Grant>> = BTreeMap::new();
    for grant in grants {
        secrets.entry(grant.secret.clone()).or_default().push(grant);
    }
    secrets
}

/// Whether the pull secret holds what pullpass would write, as far as that is known.
async fn compare_secret(
    context: &CheckContext<'_>,
    kube: &Kube,
    namespace: &NamespaceName,
    name: &ObjectName,
    grants: &[Grant],
) -> HopResult {
    let found = match kube.fetch_pull_secret(namespace, name).await {
        Ok(found) => found,
        Err(error) => return advice::of_cluster(&error),
    };
    let Some(secret) = found else {
        return HopResult::skipped(format!(
            "there is no Secret {name} yet: pullpass writes it within moments, at the latest with the first Pod that needs it"
        ));
    };
    if !secret.ours {
        return HopResult::failed(
            format!("Secret {name} is not managed by pullpass"),
            format!("rename it, or delete it: kubectl delete secret {name} -n {namespace}"),
        );
    }
    let there = Auths::of(&secret).digests();
    let compared = compare(context, kube, grants, &there).await;
    let unknown = match compared.unknown {
        0 => String::new(),
        number => format!(", {number} not minted yet"),
    };
    if compared.different.is_empty() {
        let equal = count(compared.equal, "login");
        return HopResult::ok(format!("{name}: {equal} as it should be{unknown}"));
    }
    let different = compared.different.join(", ");
    HopResult::failed(
        format!("{name} is not what pullpass would write: {different}{unknown}"),
        "pullpass rewrites it within moments, at the latest with the next Pod that needs it; if it stays so, read pullpass' log",
    )
}

/// What is there, beside what should be there.
#[derive(Default)]
struct SecretDiff {
    equal: usize,
    /// How many keys hold credentials that are not known.
    unknown: usize,
    different: Vec<String>,
}

async fn compare(
    context: &CheckContext<'_>,
    kube: &Kube,
    grants: &[Grant],
    there: &BTreeMap<String, Digest>,
) -> SecretDiff {
    let store = KubeCredentialStore::new(kube.clone());
    let mut compared = SecretDiff::default();
    for grant in grants {
        let Some(entries) = find_entries(context, &store, grant).await else {
            compared.unknown += grant.keys.len();
            continue;
        };
        for entry in entries {
            let problem = match there.get(&entry.key) {
                Some(digest) if *digest == entry.digest => None,
                Some(_) => Some("is another login"),
                None => Some("is missing"),
            };
            match problem {
                None => compared.equal += 1,
                Some(problem) => compared.different.push(format!("{} {problem}", entry.key)),
            }
        }
    }
    compared
}

/// What a pull secret must hold for a grant, from the credential store or from the source Secret. `None`: nothing is known of it.
async fn find_entries(
    context: &CheckContext<'_>,
    store: &KubeCredentialStore,
    grant: &Grant,
) -> Option<Vec<AuthEntry>> {
    let entry = |key: &str, username: &str, password, until| {
        AuthEntry::new(key, grant.registry.clone(), username, password, until)
    };
    match &grant.source {
        CredentialSource::Minted(source) => {
            let source = bind(context, grant, source).await.ok()?;
            let credential = find_stored(context, store, &source).await?;
            let until = Some(credential.expires_at);
            let entries = grant
                .keys
                .iter()
                .map(|key| entry(key, &credential.username, &credential.password, until));
            Some(entries.collect())
        }
        CredentialSource::Static(source) => {
            let secret = context.fetch_secret(&source.secret).await.ok()?;
            let logins = static_login::logins(&secret, &grant.keys, &grant.reserved).ok()?;
            let entries = logins
                .iter()
                .map(|login| entry(&login.key, &login.username, &login.password, None));
            Some(entries.collect())
        }
    }
}

/// The credential that the store holds, if it is good now.
async fn find_stored(
    context: &CheckContext<'_>,
    store: &KubeCredentialStore,
    source: &MintSource,
) -> Option<std::sync::Arc<crate::credential::Credential>> {
    if let Some(secret) = secret_of(source) {
        context.fetch_secret(secret).await.ok()?;
    }
    let key = CredentialKey::of(source, &context.secrets).ok()?;
    store.refresh(&key).await.ok()?;
    store
        .current(&key)
        .filter(|credential| credential.expires_at > Timestamp::now())
}

/// Whether a Pod gets the reference.
async fn try_pod(
    context: &CheckContext<'_>,
    kube: &Kube,
    name: &NamespaceName,
    images: &[CheckedImage<'_>],
) -> HopResult {
    let given: Vec<String> = images
        .iter()
        .filter(|image| image.is_served())
        .map(|image| image.text.to_owned())
        .collect();
    let images = if given.is_empty() {
        any_image(context)
    } else {
        given
    };
    if images.is_empty() {
        return HopResult::skipped("not tried: name an image that a Registry serves");
    }
    let pod = pod(
        &images,
        &context.args.service_account,
        &context.args.pod_labels,
    );
    match kube.try_pod(name, &pod).await {
        Ok(tried) => check_pod(&tried, &needed(context, &images)),
        Err(error) => advice::of_cluster(&error),
    }
}

/// The pull secrets that a Pod with these images needs.
fn needed(context: &CheckContext<'_>, images: &[String]) -> BTreeSet<ObjectName> {
    let secret = |image: &String| {
        let reference = Reference::parse(image).ok()?;
        let resolved = context
            .registries
            .resolve(context.pod_subject(), &reference)?;
        Some(resolved.registry.secret.clone())
    };
    images.iter().filter_map(secret).collect()
}

fn check_pod(tried: &DryRunPod, needed: &BTreeSet<ObjectName>) -> HopResult {
    let warnings: Vec<&str> = tried
        .warnings
        .iter()
        .map(String::as_str)
        .filter(|warning| warning.contains("pullpass"))
        .collect();
    let said = if warnings.is_empty() {
        String::new()
    } else {
        format!(" (it is warned: {})", warnings.join("; "))
    };
    let references: Vec<&str> = tried.pull_secrets.iter().map(String::as_str).collect();
    let missing: Vec<&str> = needed
        .iter()
        .map(AsRef::as_ref)
        .filter(|name| !references.contains(name))
        .collect();
    if missing.is_empty() {
        return HopResult::ok(format!("a Pod references {}{said}", references.join(", ")));
    }
    let missing = missing.join(", ");
    if warnings.is_empty() {
        // What the API server answers when a webhook of `failurePolicy: Ignore` does not: nothing.
        return HopResult::failed(
            format!(
                "a Pod comes back without the reference {missing}, and without a word of pullpass: {NOT_CALLED}"
            ),
            format!("see that pullpass runs and is ready (kubectl get pods -n pullpass); {CAUSES}"),
        );
    }
    HopResult::failed(
        format!("a Pod comes back without the reference {missing}{said}"),
        "do what the warning says",
    )
}

/// An image of some Registry that serves the Pod: nothing of it is pulled.
fn any_image(context: &CheckContext<'_>) -> Vec<String> {
    let pod_subject = context.pod_subject();
    let serving = context
        .registries
        .iter()
        .filter(|registry| registry.serves_pod(&pod_subject));
    let mut patterns = serving.flat_map(ValidRegistry::patterns);
    let literal = patterns.find(|pattern| !pattern.has_wildcard());
    literal
        .map(|pattern| match pattern.path() {
            "" => format!("{pattern}/pullpass-check"),
            _ => pattern.to_string(),
        })
        .into_iter()
        .collect()
}

/// A Pod that the restricted Pod Security Standard and quotas take.
///
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
fn pod(images: &[String], service_account: &str, labels: &Labels) -> Value {
    let little = json!({"cpu": "1m", "memory": "4Mi"});
    let containers: Vec<Value> = images
        .iter()
        .enumerate()
        .map(|(number, image)| {
            json!({
                "name": format!("c{number}"), "image": image,
                "resources": {"requests": little, "limits": little},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            })
        })
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "pullpass-check-", "labels": labels},
        "spec": {
            "serviceAccountName": service_account,
            "containers": containers,
            // No fixed ids: OpenShift gives each namespace its own.
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    })
}

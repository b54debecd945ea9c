//! The hops of a namespace: it opted in, its pull secret is what it should be, a Pod there gets the reference.

use std::collections::BTreeMap;

use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::advice;
use super::cloud::{count, secret_of};
use super::image::Image;
use super::report::{Kind, Report, Verdict};
use super::scene::Scene;
use crate::cluster::{Kube, Store, TriedPod};
use crate::credential::{CredentialKey, CredentialStore as _, fixed};
use crate::provision::access::Cluster as _;
use crate::provision::secret::{Auths, Digest, Entry};
use crate::provision::{InjectMode, PULL_SECRET};
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Grant, Labels};

/// Looks at one namespace.
pub(super) async fn check(
    scene: &Scene<'_>,
    kube: &Kube,
    name: &str,
    images: &[Image<'_>],
    report: &mut Report,
) -> anyhow::Result<()> {
    const AFTER: [&str; 3] = ["serves", "pullSecret", "dryRun"];
    report.begin(Kind::Namespace, name);
    let namespace = match kube.fetch_namespace(name).await {
        Ok(Some((_, namespace))) => namespace,
        Ok(None) => {
            let verdict = Verdict::failed(
                format!("there is no namespace {name}"),
                "correct the name, or create it",
            );
            report.add("optIn", verdict)?;
            return report.skip(&AFTER, "there is no namespace");
        }
        Err(error) => {
            report.add("optIn", advice::of_cluster(&error))?;
            return report.skip(&AFTER, "the namespace is not known");
        }
    };
    if namespace.mode == InjectMode::Off {
        let fix = format!("opt it in: kubectl label namespace {name} pullpass.dev/inject=enabled");
        report.add(
            "optIn",
            Verdict::failed("the namespace did not opt in", fix),
        )?;
        return report.skip(&AFTER, "the namespace did not opt in");
    }
    let mode = if namespace.mode == InjectMode::All {
        "all"
    } else {
        "enabled"
    };
    report.add("optIn", Verdict::ok(format!("pullpass.dev/inject={mode}")))?;
    let serving: Vec<&str> = scene
        .registries
        .serving(&namespace.labels)
        .iter()
        .map(|registry| &*registry.name)
        .collect();
    if serving.is_empty() {
        let fix = "correct the namespace's labels, or serves.namespaces of a Registry";
        report.note("serves", Verdict::failed("no Registry serves it", fix))?;
        return report.skip(&AFTER[1..], "no Registry serves the namespace");
    }
    report.note("serves", Verdict::ok(format!("by {}", serving.join(", "))))?;
    report.start();
    let verdict = judge_secret(scene, kube, name, &namespace.labels).await;
    report.add("pullSecret", verdict)?;
    let verdict = try_pod(scene, kube, name, &namespace.labels, images).await;
    report.add("dryRun", verdict)
}

/// Whether the pull secret holds what pullpass would write, as far as that is known.
async fn judge_secret(scene: &Scene<'_>, kube: &Kube, name: &str, labels: &Labels) -> Verdict {
    let found = match kube.fetch_pull_secret(name).await {
        Ok(found) => found,
        Err(error) => return advice::of_cluster(&error),
    };
    let Some(secret) = found else {
        return Verdict::skipped(format!(
            "there is no Secret {PULL_SECRET} yet: it comes with the first Pod whose images are served"
        ));
    };
    if !secret.ours {
        return Verdict::failed(
            format!("the Secret {PULL_SECRET} is somebody else's, and pullpass leaves it alone"),
            format!("rename it, or delete it: kubectl delete secret {PULL_SECRET} -n {name}"),
        );
    }
    let bytes = secret
        .dockerconfigjson
        .as_ref()
        .map(ExposeSecret::expose_secret);
    let there = bytes.map(Auths::parse).unwrap_or_default().digests();
    let compared = compare(scene, kube, labels, &there).await;
    let unknown = match compared.unknown {
        0 => String::new(),
        number => format!(", {number} not minted yet"),
    };
    if compared.different.is_empty() {
        let equal = count(compared.equal, "login");
        return Verdict::ok(format!("{equal} as it should be{unknown}"));
    }
    let different = compared.different.join(", ");
    Verdict::failed(
        format!("not what pullpass would write: {different}{unknown}"),
        "the next Pod there has it written anew; if it stays, read pullpass' log",
    )
}

/// What is there, beside what should be there.
#[derive(Default)]
struct Compared {
    equal: usize,
    /// How many keys stand for credentials that are not known.
    unknown: usize,
    different: Vec<String>,
}

async fn compare(
    scene: &Scene<'_>,
    kube: &Kube,
    labels: &Labels,
    there: &BTreeMap<String, Digest>,
) -> Compared {
    let store = Store::new(kube.clone());
    let mut compared = Compared::default();
    for grant in scene.registries.grants(labels) {
        let Some(entries) = find_entries(scene, &store, &grant).await else {
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

/// What stands in a pull secret for a grant: out of the credential store, or out of the source Secret. `None`: nothing is known of it.
async fn find_entries(scene: &Scene<'_>, store: &Store, grant: &Grant) -> Option<Vec<Entry>> {
    let entry = |key: &str, username: &str, password, until| {
        Entry::new(key, grant.registry.clone(), username, password, until)
    };
    match &grant.source {
        CredentialSource::Minted(source) => {
            let credential = find_stored(scene, store, source).await?;
            let until = Some(credential.expires_at);
            let entries = grant
                .keys
                .iter()
                .map(|key| entry(key, &credential.username, &credential.password, until));
            Some(entries.collect())
        }
        CredentialSource::Static(source) => {
            let secret = scene.fetch_secret(&source.secret).await.ok()?;
            let logins = fixed::logins(&secret, &grant.keys, &grant.reserved).ok()?;
            let entries = logins
                .iter()
                .map(|login| entry(&login.key, &login.username, &login.password, None));
            Some(entries.collect())
        }
    }
}

/// The credential that the store holds, if it is good now.
async fn find_stored(
    scene: &Scene<'_>,
    store: &Store,
    source: &MintSource,
) -> Option<std::sync::Arc<crate::credential::Credential>> {
    if let Some(secret) = secret_of(source) {
        scene.fetch_secret(secret).await.ok()?;
    }
    let key = CredentialKey::of(source, &scene.secrets).ok()?;
    store.refresh(&key).await.ok()?;
    store
        .current(&key)
        .filter(|credential| credential.expires_at > Timestamp::now())
}

/// Whether a Pod gets the reference.
async fn try_pod(
    scene: &Scene<'_>,
    kube: &Kube,
    name: &str,
    labels: &Labels,
    images: &[Image<'_>],
) -> Verdict {
    let given: Vec<String> = images
        .iter()
        .filter(|image| image.is_served())
        .map(|image| image.text.to_owned())
        .collect();
    let images = if given.is_empty() {
        any_image(scene, labels)
    } else {
        given
    };
    if images.is_empty() {
        return Verdict::skipped("not tried: name an image that a Registry serves");
    }
    let pod = pod(&images, &scene.args.service_account);
    match kube.try_pod(name, &pod).await {
        Ok(tried) => judge_pod(&tried),
        Err(error) => advice::of_cluster(&error),
    }
}

fn judge_pod(tried: &TriedPod) -> Verdict {
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
    if references.iter().any(|reference| is_ours(reference)) {
        return Verdict::ok(format!("a Pod references {}{said}", references.join(", ")));
    }
    let fix = "see that pullpass runs and is ready, that the API server reaches it, and that the caBundle of the webhook configuration is its CA: with failurePolicy Ignore the API server goes on without a word";
    Verdict::failed(format!("a Pod comes back without the reference{said}"), fix)
}

fn is_ours(reference: &str) -> bool {
    reference == PULL_SECRET
}

/// An image of some Registry that serves the namespace: nothing of it is pulled.
fn any_image(scene: &Scene<'_>, labels: &Labels) -> Vec<String> {
    let serving = scene.registries.serving(labels);
    let mut patterns = serving.iter().flat_map(|registry| registry.patterns());
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
fn pod(images: &[String], service_account: &str) -> Value {
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
        "metadata": {"generateName": "pullpass-check-"},
        "spec": {
            "serviceAccountName": service_account,
            "containers": containers,
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
            },
        },
    })
}

//! What the webhook would do about a Pod that is there already.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::plan::{self, Injection, Plan, Skip};
use super::review::{Field, PodObject};
use super::secrets::{self, SecretsResult};
use crate::image::Reference;
use crate::names::{NamespaceName, ObjectName};
use crate::provision::{Namespace, Provision};

/// How long a ServiceAccount may take to be read.
const ACCOUNT_TIMEOUT: Duration = Duration::from_secs(5);

/// Says of a Pod whether it was missed, by the same plan as a review. Only what memory knows counts, but for the one live read of a
/// ServiceAccount, and one of a pull secret while those of its name are being listed.
#[derive(Clone)]
pub struct PodChecker {
    provision: Arc<dyn Provision>,
}

/// What is to be said of a Pod.
#[derive(Debug, PartialEq, Eq)]
pub enum PodCheck {
    /// It references what its images need.
    Referenced,
    /// It would be admitted unchanged if it were created now.
    Skipped(Skip),
    /// It lacks what it would be given, were it created now.
    Missed(MissingReferences),
    /// It lacks this alone, and nobody knows yet whether it would be given any of it: Secrets of these names may be somebody else's.
    Unknown(MissingReferences),
}

/// What a missed Pod lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingReferences {
    /// The pull secrets that its images need and that it does not reference.
    pub secrets: Vec<String>,
    /// The Registries that serve these images.
    pub registries: Vec<String>,
}

impl PodChecker {
    /// Puts it together.
    pub fn new(provision: Arc<dyn Provision>) -> Self {
        Self { provision }
    }

    /// Whether a namespace opted in, as far as memory knows: a Pod of any other one is [`Skip::NamespaceNotOptedIn`].
    pub fn is_opted_in(&self, namespace: &NamespaceName) -> bool {
        let namespace = self.provision.namespace(namespace);
        namespace.is_some_and(|namespace| namespace.mode.is_opted_in())
    }

    /// The Registries that serve these images of the Pod in `json` and whose logins no Secret holds: its node's kubelet has to ask for them.
    pub fn find_asked_for(
        &self,
        namespace: &NamespaceName,
        json: &str,
        images: &[String],
    ) -> Vec<ObjectName> {
        let Some(namespace) = self.provision.namespace(namespace) else {
            return Vec::new();
        };
        let Ok(Field::Value(pod)) = serde_json::from_str::<Field<PodObject<'_>>>(json) else {
            return Vec::new();
        };
        if plan::screen_pod(&pod).is_err() || !namespace.wants_pull_secrets() {
            return Vec::new();
        }
        let registries = self.provision.registries();
        let pod_subject = plan::pod_subject(&pod, &namespace);
        let references = images.iter().flat_map(|image| Reference::parse(image));
        let resolved = references.filter_map(|image| registries.resolve(pod_subject, &image));
        let asked_for = resolved.filter(|resolved| !resolved.registry.delivers_by_secret());
        asked_for
            .map(|resolved| resolved.registry.name.clone())
            .collect()
    }

    /// Evaluates the Pod in `json`. A namespace that memory does not know has not opted in.
    pub async fn check(&self, namespace: &NamespaceName, json: &str, now: Timestamp) -> PodCheck {
        let Some(namespace) = self.provision.namespace(namespace) else {
            return PodCheck::Skipped(Skip::NamespaceNotOptedIn);
        };
        let Ok(Field::Value(pod)) = serde_json::from_str::<Field<PodObject<'_>>>(json) else {
            return PodCheck::Skipped(Skip::MalformedObject);
        };
        if let Err(skip) = plan::screen_pod(&pod) {
            return PodCheck::Skipped(skip);
        }
        let deadline = Instant::now() + ACCOUNT_TIMEOUT;
        check_pod(&*self.provision, &pod, &namespace, now, deadline).await
    }
}

/// Evaluates a Pod, whether or not it opted out.
pub(super) async fn check_pod(
    provision: &dyn Provision,
    pod: &PodObject<'_>,
    namespace: &Arc<Namespace>,
    now: Timestamp,
    deadline: Instant,
) -> PodCheck {
    let registries = provision.registries();
    let mut injection = match plan::decide(pod, namespace, &registries) {
        Plan::Inject(injection) => injection,
        Plan::Skip(skip, _) => return PodCheck::Skipped(skip),
    };
    // With `all` a Pod may be given more than its images need: that it lacks this keeps no image from being pulled.
    let lacks = MissingReferences::find(pod, &injection, |_| true);
    if lacks.secrets.is_empty() {
        return PodCheck::Referenced;
    }
    let is_lacking = |name: &ObjectName| lacks.secrets.iter().any(|one| **one == **name);
    injection
        .additions
        .pull_secrets
        .retain(|name| is_lacking(name));
    let review = secrets::SecretsReview {
        provision,
        namespace,
        dry_run: true,
        now,
        deadline,
    };
    let mut result = SecretsResult::default();
    review.screen(pod, &mut injection, &mut result).await;
    review.ensure(&mut injection, &mut result).await;
    let is_read = |name: &str| !result.unread.iter().any(|unread| unread == name);
    let certain = MissingReferences::find(pod, &injection, is_read);
    if !certain.secrets.is_empty() {
        return PodCheck::Missed(certain);
    }
    let lacks = MissingReferences::find(pod, &injection, |_| true);
    match result.left_out {
        Some(skip) if lacks.secrets.is_empty() => PodCheck::Skipped(skip),
        _ => PodCheck::Unknown(lacks),
    }
}

impl MissingReferences {
    /// Among the secrets that count.
    fn find(pod: &PodObject<'_>, injection: &Injection<'_>, counts: impl Fn(&str) -> bool) -> Self {
        let spec = pod.spec.value();
        let carries = |name: &str| {
            let carried = spec.map_or(&[][..], |spec| spec.pull_secrets());
            carried.iter().any(|present| present == name)
        };
        let mut lacks = Self {
            secrets: Vec::new(),
            registries: Vec::new(),
        };
        for &name in &injection.additions.pull_secrets {
            let needing = injection.resolved.iter();
            let mut needing = needing
                .filter(|resolved| resolved.registry.secret.as_ref() == Some(name))
                .map(|resolved| resolved.registry.name.to_string())
                .peekable();
            if counts(name) && !carries(name) && needing.peek().is_some() {
                lacks.secrets.push(name.to_string());
                lacks.registries.extend(needing);
            }
        }
        lacks.registries.sort_unstable();
        lacks.registries.dedup();
        lacks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::provision::ExcludedNamespaces;
    use crate::provision::Namespace;
    use crate::provision::offline::Offline;
    use crate::registry::Registries;

    const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

    fn check() -> PodChecker {
        let registry = format!(
            "apiVersion: pullpass.dev/v1alpha1\nkind: Registry\nmetadata: {{name: team}}\nspec:\n  images: [{HOST}/team]\n  namespaceSelector: {{}}\n  ecr: {{identity: {{workload: {{}}}}}}\n"
        );
        let registries = Registries::build([serde_saphyr::from_str(&registry).unwrap()]);
        assert!(registries.problems().is_empty());
        let namespace = |name: &str, inject: &str| {
            let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), inject.to_owned())]);
            let namespace = Namespace::new(name.parse().unwrap(), labels, false);
            namespace.unless_excluded(&ExcludedNamespaces::new("pullpass".parse().unwrap(), []))
        };
        let namespaces = [
            ("shop", "enabled"),
            ("everything", "all"),
            ("kube-system", "enabled"),
            ("typo", "true"),
        ]
        .map(|(name, inject)| namespace(name, inject));
        PodChecker::new(Arc::new(Offline::new(registries, namespaces.to_vec())))
    }

    #[tokio::test]
    async fn says_missed_of_those_that_would_get_what_they_lack() {
        let missed = PodCheck::Missed(MissingReferences {
            secrets: vec!["pullpass".to_owned()],
            registries: vec!["team".to_owned()],
        });
        let ours =
            &format!(r#""containers":[{{"image":"{HOST}/team/a"}},{{"image":"{HOST}/team/b"}}]"#);
        let complete =
            &format!(r#"{ours},"imagePullSecrets":[{{"name":"x"}},{{"name":"pullpass"}}]"#);
        let other = r#""containers":[{"image":"alpine"}]"#;
        let disabled = r#"{"labels":{"pullpass.dev/inject":"disabled"}}"#;
        let mirror = r#"{"annotations":{"kubernetes.io/config.mirror":"x"}}"#;
        let skipped = |skip| Some(PodCheck::Skipped(skip));
        let rows = [
            ("shop", "{}", ours.as_str(), None),
            ("everything", "{}", ours, None),
            ("shop", "{}", complete, Some(PodCheck::Referenced)),
            ("everything", "{}", other, Some(PodCheck::Referenced)),
            ("shop", "{}", other, skipped(Skip::NoRegistry)),
            ("shop", disabled, ours, skipped(Skip::PodOptedOut)),
            ("shop", mirror, ours, skipped(Skip::MirrorPod)),
            ("elsewhere", "{}", ours, skipped(Skip::NamespaceNotOptedIn)),
            ("kube-system", "{}", ours, skipped(Skip::NamespaceExcluded)),
            ("typo", "{}", ours, skipped(Skip::UnknownInjectValue)),
        ];
        let check = check();
        for (namespace, metadata, spec, verdict) in rows {
            let pod = format!(r#"{{"metadata":{metadata},"spec":{{{spec}}}}}"#);
            let name = namespace.parse().unwrap();
            let said = check.check(&name, &pod, Timestamp::UNIX_EPOCH).await;
            assert_eq!(
                &said,
                verdict.as_ref().unwrap_or(&missed),
                "{namespace}: {pod}"
            );
        }
    }

    #[tokio::test]
    async fn finds_what_kubelets_have_to_ask_for() {
        let registry = |name: &str, host: &str, delivery: &str| {
            let yaml = format!(
                "{{apiVersion: pullpass.dev/v1alpha1, kind: Registry, metadata: {{name: {name}}}, spec: {{images: [{host}], delivery: {delivery}, namespaceSelector: {{}}, static: {{secretRef: {{name: a}}}}}}}}"
            );
            serde_saphyr::from_str(&yaml).unwrap()
        };
        let registries = Registries::build([
            registry("node", "a.com", "Node"),
            registry("both", "b.com", "Both"),
        ]);
        let labels = BTreeMap::from([("pullpass.dev/inject".to_owned(), "enabled".to_owned())]);
        let namespace = Namespace::new("shop".parse().unwrap(), labels, false);
        let check = PodChecker::new(Arc::new(Offline::new(registries, vec![namespace])));
        let pod = r#"{"metadata":{},"spec":{"containers":[{"image":"a.com/x"}]}}"#;
        let opted_out = r#"{"metadata":{"labels":{"pullpass.dev/inject":"disabled"}},"spec":{"containers":[{"image":"a.com/x"}]}}"#;
        let asked_for = |namespace: &str, pod: &str, images: &[&str]| {
            let images: Vec<String> = images.iter().map(|&image| image.to_owned()).collect();
            let found = check.find_asked_for(&namespace.parse().unwrap(), pod, &images);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let images = ["c.com/x", "b.com/x:1", "a.com/x@sha256:no", "a.com/x:2"];
        assert_eq!(asked_for("shop", pod, &images), ["node"]);
        assert!(asked_for("shop", pod, &images[..2]).is_empty());
        assert!(asked_for("shop", opted_out, &images).is_empty());
        assert!(asked_for("elsewhere", pod, &images).is_empty());
        let shop = "shop".parse().unwrap();
        let checked = check.check(&shop, pod, Timestamp::UNIX_EPOCH).await;
        let skipped = PodCheck::Skipped(Skip::DeliveredByNode);
        assert_eq!(checked, skipped, "nothing is enforced");
    }
}

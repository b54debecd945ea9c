//! The steps of a namespace: it opted in, its pull secret is what it should be, a Pod there gets the reference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::cloud::{bind, secret_of};
use super::context::CheckContext;
use super::image::CheckedImage;
use super::report::{CheckReport, Fix, StepResult, SubjectKind};
use super::source::SecretError;
use super::{advice, clients, ids, injection, missed_pods, opt_in, selection, service_accounts};
use crate::cluster::{Kube, KubeCredentialStore};
use crate::credential::{
    Credential, CredentialKey, CredentialStore as _, SourceSecret, static_login,
};
use crate::names::{NamespaceName, ObjectName};
use crate::provision::digest::Digest;
use crate::provision::ports::{Cluster as _, ClusterError};
use crate::provision::secret::{AuthEntry, Auths};
use crate::provision::{InjectMode, Namespace, grant_entries};
use crate::quantity::count;
use crate::registry::source::MintSource;
use crate::registry::{CredentialSource, Delivery, Grant, ValidRegistry};

/// Checks one namespace.
pub(super) async fn check(
    context: &CheckContext<'_>,
    kube: &Kube,
    name: &NamespaceName,
    images: &[CheckedImage<'_>],
    report: &mut CheckReport,
) -> anyhow::Result<()> {
    const AFTER: [&str; 5] = ["serves", "pullSecret", "dryRun", "pods", "accounts"];
    report.begin(SubjectKind::Namespace, name);
    let namespace = match kube.fetch_namespace(name).await {
        Ok(Some((_, namespace))) => namespace,
        Ok(None) => {
            let result = selection::missing_namespace(context);
            report.add("optIn", result)?;
            return report.skip(&AFTER, "there is no namespace");
        }
        Err(error) => {
            report.add("optIn", advice::of_cluster(&error))?;
            return report.skip(&AFTER, "the namespace is not known");
        }
    };
    if let Some(problem) = opt_in::find_problem(context, &namespace) {
        report.add("optIn", problem)?;
        return report.skip(&AFTER, "nothing is written there");
    }
    let is_all = namespace.mode == InjectMode::All;
    let mode = if is_all { "all" } else { "enabled" };
    let opted_in = StepResult::ok(format!("pullpass.dev/inject={mode}"));
    report.add("optIn", opted_in)?;
    if let Some(unknown) = opt_in::find_unknown_enforce(context, &namespace) {
        report.note("enforce", unknown)?;
    }
    let serving = context.registries.serving(&namespace.labels);
    let serving: Vec<String> = serving.iter().map(|one| describe_serving(one)).collect();
    if serving.is_empty() {
        let result = selection::of_namespace(context, &namespace.labels);
        report.note("serves", result)?;
        return report.skip(&AFTER[1..], "no Registry serves the namespace");
    }
    let serving = StepResult::ok(format!("by {}", serving.join(", ")));
    report.note("serves", serving)?;
    report.start();
    let foreign = check_secrets(context, kube, &namespace, report).await?;
    let result = injection::check(context, kube, name, images, &foreign).await;
    report.add("dryRun", result)?;
    let result = missed_pods::check(context, kube, &namespace, &foreign).await;
    report.add("pods", result)?;
    service_accounts::check(context, kube, &namespace, report).await
}

/// Checks each pull secret that is to be there; answers which of them are not pullpass' own.
async fn check_secrets(
    context: &CheckContext<'_>,
    kube: &Kube,
    namespace: &Namespace,
    report: &mut CheckReport,
) -> anyhow::Result<BTreeSet<ObjectName>> {
    let (name, labels) = (&namespace.name, &namespace.labels);
    let mut foreign = BTreeSet::new();
    for (secret, grants) in group(context.registries.grants(labels)) {
        let (result, there) = compare_secret(context, kube, name, &secret, &grants).await;
        let of_clients = clients::of_secret(context, labels, (&secret, &grants), &there);
        if result.is(ids::SECRET_NOT_MANAGED) {
            foreign.insert(secret);
        }
        report.add("pullSecret", result)?;
        for result in of_clients {
            report.note("clients", result)?;
        }
    }
    Ok(foreign)
}

/// A Registry that serves the namespace, and how, unless it is by Secrets for Pods.
fn describe_serving(registry: &ValidRegistry) -> String {
    let how = match registry.delivery {
        Delivery::Secret if registry.access.is_pull() => "",
        Delivery::Secret => " (access Push)",
        Delivery::Node => " (delivery Node: kubelets ask, no Secret holds it)",
        Delivery::Both => " (delivery Both: by Secret, and kubelets may ask)",
    };
    format!("{}{how}", registry.name)
}

/// The credentials of a namespace by pull secret.
fn group(grants: Vec<Grant>) -> BTreeMap<ObjectName, Vec<Grant>> {
    let mut secrets: BTreeMap<ObjectName, Vec<Grant>> = BTreeMap::new();
    for grant in grants {
        secrets.entry(grant.secret.clone()).or_default().push(grant);
    }
    secrets
}

/// Whether the pull secret holds what pullpass would write, as far as that is known; and what it holds.
async fn compare_secret(
    context: &CheckContext<'_>,
    kube: &Kube,
    namespace: &NamespaceName,
    name: &ObjectName,
    grants: &[Grant],
) -> (StepResult, BTreeMap<String, Digest>) {
    let secret = match kube.fetch_pull_secret(namespace, name).await {
        Ok(Some(secret)) => secret,
        Ok(None) => return (explain_missing(context, name, grants), BTreeMap::new()),
        Err(error) => return (advice::of_cluster(&error), BTreeMap::new()),
    };
    if !secret.ours {
        let delete = context.kubectl(&format!("delete secret {name} -n {namespace}"));
        let result = StepResult::failed(
            format!("Secret {name} is not managed by pullpass"),
            Fix::run("rename it, or delete it", delete),
        );
        return (result.id(ids::SECRET_NOT_MANAGED), BTreeMap::new());
    }
    let format = grants.first().map(|grant| grant.format);
    let there = Auths::of_format(&secret, format).digests();
    (
        compare_logins(context, kube, (name, grants), &there).await,
        there,
    )
}

/// What besides the controller writes a Secret: no Pod asks for one that builders mount, or for an export.
fn at_the_latest(grants: &[Grant], which: &str) -> String {
    if grants.iter().any(Grant::is_mounted) {
        String::new()
    } else {
        format!(", at the latest with the {which} Pod that needs it")
    }
}

/// Whether these logins are what pullpass would write.
async fn compare_logins(
    context: &CheckContext<'_>,
    kube: &Kube,
    (name, grants): (&ObjectName, &[Grant]),
    there: &BTreeMap<String, Digest>,
) -> StepResult {
    let compared = compare(context, kube, grants, there).await;
    let mut unknown = match compared.unknown {
        0 => String::new(),
        number => format!(", {number} not minted yet"),
    };
    if let Some(why) = &compared.hidden {
        unknown = format!("{unknown}, the others cannot be compared: {why}");
    }
    if let Some(why) = compared.hidden
        && compared.different.is_empty()
        && compared.equal == 0
    {
        let held = count(there.len(), "login");
        let message = format!("{name} holds {held}: cannot compare, {why}");
        return StepResult::hidden(message).id(ids::CANNOT_COMPARE);
    }
    if let Some(why) = compared.kept
        && compared.different.is_empty()
    {
        let message = format!("not compared: {name} keeps the last login ({why}){unknown}");
        return StepResult::skipped(message).id(ids::CANNOT_COMPARE);
    }
    if compared.different.is_empty() {
        let equal = count(compared.equal, "login");
        return StepResult::ok(format!("{name}: {equal} as it should be{unknown}"));
    }
    let different = compared.different.join(", ");
    StepResult::failed(
        format!("{name} is not what pullpass would write: {different}{unknown}"),
        format!(
            "pullpass rewrites it within moments{}; if it stays so, read pullpass' log",
            at_the_latest(grants, "next")
        ),
    )
    .id(ids::SECRET_DIFFERS)
}

/// Why a pull secret is not there, as far as Registries' status says.
fn explain_missing(context: &CheckContext<'_>, name: &ObjectName, grants: &[Grant]) -> StepResult {
    let not_ready = |grant: &Grant| {
        let why = context.not_ready.get(grant.registry.as_str())?;
        Some((grant.registry.clone(), why.clone()))
    };
    let result = match grants.iter().find_map(not_ready) {
        Some((registry, why)) => StepResult::failed(
            format!("there is no Secret {name}: Registry {registry} is not ready"),
            why,
        ),
        None => StepResult::info(format!(
            "there is no Secret {name} yet: pullpass writes it within moments{}",
            at_the_latest(grants, "first")
        )),
    };
    result.id(ids::SECRET_NOT_WRITTEN)
}

/// What is there, beside what should be there.
#[derive(Default)]
struct SecretDiff {
    equal: usize,
    /// How many keys hold credentials that are not known.
    unknown: usize,
    /// Why this account cannot see some of those that are to be there.
    hidden: Option<String>,
    different: Vec<String>,
    /// Why what is there stays as it is, though nothing says any more that it is to be there.
    kept: Option<&'static str>,
}

/// What keeps this account from what a pull secret must hold.
enum Unseen {
    /// It is not there yet, or cannot be.
    NotThere,
    /// It came of a source Secret that says nothing any more, and why.
    Gone(&'static str),
    /// This account may not read it.
    Hidden(String),
}

impl From<ClusterError> for Unseen {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Forbidden { what, .. } => {
                Self::Hidden(format!("this account may not see {what}"))
            }
            _ => Self::NotThere,
        }
    }
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
        let entries = match find_entries(context, &store, grant).await {
            Ok(entries) => entries,
            Err(Unseen::NotThere) => {
                compared.unknown += grant.all_keys().count();
                continue;
            }
            Err(Unseen::Gone(why)) => {
                if grant.all_keys().any(|key| there.contains_key(key)) {
                    compared.kept = Some(why);
                } else {
                    compared.unknown += grant.all_keys().count();
                }
                continue;
            }
            Err(Unseen::Hidden(why)) => {
                compared.hidden = Some(why);
                continue;
            }
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

/// What a pull secret must hold for a grant, from the credential store or from the source Secret.
async fn find_entries(
    context: &CheckContext<'_>,
    store: &KubeCredentialStore,
    grant: &Grant,
) -> Result<Vec<AuthEntry>, Unseen> {
    match &grant.source {
        CredentialSource::Minted(source) => {
            let bound = bind(context, grant, source).await;
            let source = bound.map_err(|_| Unseen::NotThere)?;
            let credential = find_stored(context, store, &source).await?;
            Ok(grant_entries::of_credential(grant, &credential))
        }
        CredentialSource::Static(source) => {
            let secret = fetch_secret(context, &source.secret).await?;
            let logins = static_login::logins(&secret, &grant.keys, &grant.reserved);
            let logins = logins
                .map_err(|_| Unseen::Gone("its source Secret holds none that can be used"))?;
            Ok(grant_entries::of_logins(grant, logins))
        }
    }
}

async fn fetch_secret(
    context: &CheckContext<'_>,
    name: &ObjectName,
) -> Result<Arc<SourceSecret>, Unseen> {
    let read = context.fetch_secret(name).await;
    read.map_err(|error| match error {
        SecretError::Cluster(error) => error.into(),
        SecretError::NoCluster(_) => Unseen::NotThere,
        SecretError::Missing(_) => Unseen::Gone("its source Secret is missing"),
        SecretError::Unlabelled(_) => Unseen::Gone("its source Secret lacks its label"),
    })
}

/// The credential that the store holds, if it is good now.
async fn find_stored(
    context: &CheckContext<'_>,
    store: &KubeCredentialStore,
    source: &MintSource,
) -> Result<Arc<Credential>, Unseen> {
    if let Some(secret) = secret_of(source) {
        fetch_secret(context, secret).await?;
    }
    let key = CredentialKey::of(source, &context.secrets).map_err(|_| Unseen::NotThere)?;
    store.refresh(&key).await?;
    store
        .current(&key)
        .filter(|credential| credential.expires_at > Timestamp::now())
        .ok_or(Unseen::NotThere)
}
